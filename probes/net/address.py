"""Addresses: which answers are believable, which are this host's own, and where to send from."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from probes.model import Family

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Special-purpose ranges (RFC 6890) that a public name has no business pointing at. The ipaddress
# module's is_private also covers documentation and benchmarking ranges, which laboratories use as
# public space; no resolver answers with those to deceive, so they are left alone.
BOGONS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)
"""Never connected to on a name's word."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1

REMEMBERED = 32768
"""Addresses whose parsed form is kept: a schedule asks the same ones all day."""

_VEIL = "[vantage]"
_IPV4 = re.compile(r"(?<![0-9])(?<![0-9]\.)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9])")
_IPV6 = re.compile(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}")


@lru_cache(maxsize=REMEMBERED)
def parse(text: str) -> IPAddress | None:
    """The address written in ``text``, else None. An IPv6 address that only stands for an IPv4 one,
    mapped or made by DNS64, as that."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address
    return address


@lru_cache(maxsize=REMEMBERED)
def is_bogon(text: str) -> bool:
    """Loopback, link-local, private or multicast: never connected to on a name's word."""
    address = parse(text)
    return address is None or any(
        address.version == net.version and address in net for net in BOGONS
    )


def family_of(address: str) -> Family:
    return Family.IPV6 if ":" in address else Family.IPV4


@lru_cache(maxsize=REMEMBERED)
def prefix_of(address: str) -> str:
    """The /24 or /48 that stands for a network (design 6)."""
    length = 48 if ":" in address else 24
    return str(ipaddress.ip_network(f"{address}/{length}", strict=False))


def local_addresses() -> frozenset[str]:
    """This host's own addresses, loopback left out; empty where /proc is not readable."""
    found: set[str] = set()
    try:
        trie = Path("/proc/net/fib_trie").read_text()
        # "|-- 192.0.2.7" followed by "/32 host LOCAL"
        found.update(re.findall(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL", trie))
    except OSError:
        pass
    try:
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(str(ipaddress.IPv6Address(int(line.split()[0], 16))))
    except (OSError, ValueError, IndexError):
        pass
    return frozenset(a for a in found if not ipaddress.ip_address(a).is_loopback)


@dataclass(frozen=True, slots=True)
class Source:
    """Where to send from: an address, an interface name, or neither."""

    address: str = ""
    interface: str = ""

    def bind(self, sock: socket.socket, *, stream: bool) -> None:
        """Bind ``sock``; the port stays the kernel's choice until connect."""
        if self.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
        if not self.address:
            return
        if (sock.family is socket.AF_INET6) == (":" in self.address):
            if stream:
                IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: no port is used up before connect
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self.address, 0))


def source_problem(source: Source) -> str:
    """Why nothing can be sent from there; "" when it can."""
    if source.interface and source.interface not in {name for _, name in socket.if_nameindex()}:
        return f"there is no interface {source.interface} here"
    if source.address:
        kind = socket.AF_INET6 if ":" in source.address else socket.AF_INET
        try:
            with socket.socket(kind, socket.SOCK_DGRAM) as sock:
                sock.bind((source.address, 0))
        except OSError:
            return f"{source.address} is not an address of this host"
    return ""


def is_askable(address: str) -> bool:
    """IPv4 always is. IPv6 is where this host has a route: its absence is no failure of anyone.

    Connecting a UDP socket sends nothing.
    """
    if family_of(address) is Family.IPV4:
        return True
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
    except OSError:
        return False
    return True


@dataclass(slots=True)
class OwnAddresses:
    """The vantage's addresses: those of its interfaces and those that STUN servers saw.

    They never leave the process: ``scrub`` takes them out of any text that the network sent.
    """

    local: frozenset[str] = field(default_factory=local_addresses)
    mapped: set[str] = field(default_factory=set)

    def refresh(self) -> None:
        self.local = local_addresses()

    def holds(self, address: str) -> bool:
        """Is this address, however it is written, one of ours?"""
        canonical = str(parse(address))
        return canonical in self.local or canonical in self.mapped

    def scrub(self, text: str) -> str:
        """``text`` without any of these addresses, in whatever form and company they are in it.

        Too much rather than too little: where "2001:db8::1" is ours, so is "2001:db8::1:443".
        """
        if "." in text:
            text = _IPV4.sub(self._veil, text)
        if ":" not in text:
            return text
        text = _IPV6.sub(self._veil, text)
        for address in (*self.local, *self.mapped):
            if ":" in address:
                within = rf"(?<![0-9a-f]){re.escape(address)}(?![0-9a-f])"
                text = re.sub(within, _VEIL, text, flags=re.IGNORECASE)
        return text

    def _veil(self, found: re.Match[str]) -> str:
        return _VEIL if self.holds(found[0]) else found[0]
