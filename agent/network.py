"""Which network is this? A keyed hash of the prefix that STUN operators see, never exported.

Trust, statistics and state belong to a network; a new one starts a new epoch.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from probes.net.address import prefix_of

KEPT = 50
"""Known networks remembered, and prefixes per network (carrier NAT shows one line as several)."""
ARPHRD_NONE = 65534  # linux/if_arp.h: a device without link-layer header: TUN, WireGuard
_SIOCGIFHWADDR = 0x8927


@dataclass(frozen=True, slots=True)
class Network:
    """``prefixes``: hashes of the mapped prefixes; ``attachment``: hash of interface, local prefix
    and default route."""

    id: str
    prefixes: frozenset[str]
    attachment: str


def keyed(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]


def recognise(
    current: Network | None, known: Iterable[Network], mapped: frozenset[str], attachment: str
) -> Network:
    """The network of this round, from the hashed mapped prefixes and the attachment. Pure.

    Without a mapped address the last network stands while the attachment does, or while there is
    none: a cable that was pulled leads to no other network.
    """
    if current is not None and not mapped and attachment in ("", current.attachment):
        return current
    if current is not None and mapped & current.prefixes:
        return _grown(current, mapped, attachment)
    for network in known:
        if mapped & network.prefixes:
            return _grown(network, mapped, attachment)
    if current is not None and not current.prefixes and current.attachment == attachment:
        return _grown(current, mapped, attachment)  # the same line, now seen from outside
    return Network(min(mapped) if mapped else attachment or "nowhere", mapped, attachment)


def _grown(network: Network, mapped: frozenset[str], attachment: str) -> Network:
    room = max(0, KEPT - len(mapped))
    older = sorted(network.prefixes - mapped)[:room]
    return Network(network.id, mapped.union(older), attachment)


def mapped_hashes(key: bytes, addresses: Iterable[str]) -> frozenset[str]:
    return frozenset(keyed(key, prefix_of(address)) for address in addresses)


def dump(networks: Iterable[Network]) -> bytes:
    rows = [[n.id, sorted(n.prefixes), n.attachment] for n in networks]
    return json.dumps(rows[:KEPT]).encode()


def load(data: bytes | None) -> list[Network]:
    """What ``dump`` wrote, the current network first; nothing for anything else."""
    try:
        rows = json.loads(data or b"[]")
        return [Network(str(i), frozenset(map(str, p)), str(a)) for i, p, a in rows]
    except (ValueError, TypeError):
        return []


def attachment(key: bytes) -> str:
    """Hash of the default route and the networks on its interface, as far as /proc tells; ""
    without a default route."""
    interface, gateway = default_route()
    if not interface:
        return ""
    try:
        rows = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    except OSError:
        rows = []
    local = sorted(f"{r[1]}/{r[7]}" for r in rows if r[0] == interface and r[1] != "00000000")
    return keyed(key, f"{interface} {gateway} {local}")


def default_route() -> tuple[str, str]:
    """Interface and gateway (hex, as the kernel prints it) of the IPv4 default route."""
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return "", ""
    routes = [line.split() for line in lines]
    defaults = [r for r in routes if len(r) > 7 and r[1] == "00000000" and r[7] == "00000000"]
    if not defaults:
        return "", ""
    best = min(defaults, key=lambda r: int(r[6]))
    return best[0], best[2]


def is_tunnel(interface: str) -> bool:
    """Is it a device without a link layer? Asked by ioctl: /sys may show another namespace's."""
    if not interface:
        return False
    request = struct.pack("256s", interface.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)
    except OSError:
        return False
    (kind,) = struct.unpack_from("=H", answer, 16)
    return bool(kind == ARPHRD_NONE)
