"""Where the world of the shipped catalogue lies: which name has which address, who listens there.

Read from the same YAML files that the agent reads, so that the catalogue runs in the lab unchanged
and a new target gets its server without a line of code. Names get stable addresses: derived from
the name, inside the owner's own prefixes where the file states them, never one that a file pins for
something else. Addresses that a file pins, and literal hosts, are placed as they are.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.lab.world import ROOT

SHIPPED = ROOT / "config"
CONTROL = "control"

# WhatsApp's chat hosts sit behind two accelerators of two addresses each and have no IPv6
# (shared/reference/messenger-infrastructure.md 1.1, read 2026-11).
ACCELERATORS = (("3.33.221.48", "15.197.206.217"), ("3.33.252.61", "15.197.210.208"))
ACCELERATED = {f"e{n}.whatsapp.net": ACCELERATORS[n % 2] for n in range(1, 17)}

# Where names of owners without stated prefixes live: ordinary, globally routed space. Every owner
# gets networks of its own, since rules compare prefixes of /24 and /48.
WIDE_V4 = ipaddress.ip_network("185.64.0.0/11", strict=False)
WIDE_V6 = ipaddress.ip_network("2a04:4e40::/28", strict=False)

ROOMY = 256  # smaller prefixes are single machines, and a file pins them where it means them

_AUTHORITY = re.compile(
    r"(authority: (?:&\w+ )?)>-\n\s*-----BEGIN (?:.*\n)*?\s*-----END CERTIFICATE-----\n"
)
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """One target as a server sees it: who is asked what, where. ``fields`` is the YAML entry."""

    messenger: str
    name: str
    probe: str
    channel: str
    owner: str
    host: str  # a name, an address, or "" where one of the agent's own resolvers is asked
    port: int
    addresses: tuple[str, ...]  # those that the file pins, then those that the name resolves to
    fields: dict[str, Any] = field(hash=False)

    @property
    def transport(self) -> str:
        """The kind of socket at the server: udp or tcp."""
        if self.probe in ("stun", "turn"):
            return "udp" if self.fields.get("transport", "udp") == "udp" else "tcp"
        return "udp" if self.probe in ("dtls", "dns", "reflector", "quic", "echo") else "tcp"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All targets of some files, and the lab's whole DNS."""

    targets: tuple[Target, ...]
    names: dict[str, tuple[str, ...]]
    texts: tuple[str, ...]  # names that also have a TXT record

    def select(self, **wanted: str) -> tuple[Target, ...]:
        """``select(messenger="telegram", channel="call")``: the targets with these attributes."""
        return tuple(
            target
            for target in self.targets
            if all(getattr(target, key) == value for key, value in wanted.items())
        )

    def prefixes(self, **wanted: str) -> tuple[str, ...]:
        """The addresses of some targets, in the form that a router's rule takes."""
        addresses = {address for target in self.select(**wanted) for address in target.addresses}
        return tuple(str(ipaddress.ip_network(address)) for address in sorted(addresses))

    def addresses(self) -> set[str]:
        placed = {address for target in self.targets for address in target.addresses}
        return placed.union(*self.names.values()) if self.names else placed


def shipped(country: str = "", messengers: Sequence[str] = ("whatsapp", "telegram")) -> list[Path]:
    """The files that an agent with this ``vantage.country`` runs."""
    files = [SHIPPED / "messengers" / f"{name}.yaml" for name in messengers]
    files.append(SHIPPED / "controls" / "general.yaml")
    pack = SHIPPED / "controls" / f"{country.lower()}.yaml"
    return [*files, pack] if pack.is_file() else files


def with_root(directory: Path, root: str, authority: str = "") -> Path:
    """A folder with the shipped messenger files in which something is different: the key from which
    a chat host's chain must come, ``root`` in hexadecimal instead of the operator's, which is
    secret, and so the certificates, ``authority`` in PEM, that a service trusts alone. For
    ``messenger_dirs``."""
    folder = directory / "messengers"
    folder.mkdir(exist_ok=True)
    folded = " ".join(authority.split("\n")).strip()
    for file in (SHIPPED / "messengers").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        changed = re.sub(r'(root: (?:&\w+ )?)"[0-9a-f]{64}"', rf'\g<1>"{root}"', text)
        if folded:
            changed = _AUTHORITY.sub(rf'\g<1>"{folded}"\n', changed)
        if changed != text:
            (folder / file.name).write_text(changed, encoding="utf-8")
    return folder


def load(files: Iterable[Path]) -> Catalogue:
    documents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    entries = [(document, entry) for document in documents for entry in document["targets"]]
    pinned = {address for _, entry in entries for address in _pinned(entry)}
    names = _resolve_all(entries, pinned)
    texts = {entry["query"] for _, entry in entries if entry.get("type") == "TXT"}
    targets = tuple(_target(document, entry, names) for document, entry in entries)
    return Catalogue(targets, names, tuple(sorted(texts)))


def _target(document: dict[str, Any], entry: dict[str, Any], names: Names) -> Target:
    host, port = _place(entry)
    known = (host,) if is_literal(host) else names.get(host, ())
    return Target(
        messenger=document["messenger"],
        name=entry["name"],
        probe=entry["probe"],
        channel=entry.get("channel", ""),
        owner=_owner(document, entry),
        host=host,
        port=port,
        addresses=tuple(dict.fromkeys((*entry.get("address", ()), *known))),
        fields=entry,
    )


def _place(entry: dict[str, Any]) -> tuple[str, int]:
    if entry["probe"] == "dns":
        return _resolver(entry.get("resolver", "system"))
    if "url" not in entry:
        return entry["host"], entry["port"]
    url = urlsplit(entry["url"])
    return url.hostname or "", url.port or DEFAULT_PORTS[url.scheme]


def _resolver(resolver: str) -> tuple[str, int]:
    """A resolver given by address; one given by name is the agent's own configuration."""
    if is_literal(resolver):
        return resolver, 53
    host, _, port = resolver.rpartition(":")
    host = host.strip("[]")
    return (host, int(port)) if is_literal(host) else ("", 0)


def _pinned(entry: dict[str, Any]) -> Iterator[str]:
    yield from entry.get("address", ())
    host, _ = _place(entry)
    if is_literal(host):
        yield host


def _owner(document: dict[str, Any], entry: dict[str, Any]) -> str:
    return str(entry.get("owner") or document["messenger"])


def is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# Names


Names = dict[str, tuple[str, ...]]


def _resolve_all(
    entries: Sequence[tuple[dict[str, Any], dict[str, Any]]], pinned: set[str]
) -> Names:
    """In alphabetical order, so that the answer does not depend on the order of files."""
    owners: dict[str, tuple[str, list[str]]] = {}
    for document, entry in entries:
        prefixes = document.get("owner", {}).get("prefixes", [])
        for name in (_place(entry)[0], entry.get("query", "")):
            if name and not is_literal(name):
                owners.setdefault(name, (_owner(document, entry), prefixes))
    taken = set(pinned)
    names: Names = {}
    for name, (owner, prefixes) in sorted(owners.items()):
        names[name] = ACCELERATED.get(name) or _choose(name, owner, prefixes, taken)
        taken.update(names[name])
    return names


def _choose(name: str, owner: str, prefixes: Sequence[str], taken: set[str]) -> tuple[str, ...]:
    chosen = []
    for version, fallback in ((4, _home(WIDE_V4, owner, 24)), (6, _home(WIDE_V6, owner, 48))):
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        own = [n for n in networks if n.version == version and n.num_addresses >= ROOMY]
        network = own[_number(name, "network") % len(own)] if own else fallback
        chosen.append(_address(name, network, taken))
    return tuple(chosen)


def _home(wide: Any, owner: str, length: int) -> Any:
    """The network of an owner whose prefixes no file states."""
    count = 1 << (length - wide.prefixlen)
    offset = (_number(owner, "home") % count) << (wide.max_prefixlen - length)
    return ipaddress.ip_network((int(wide.network_address) + offset, length))


def _address(name: str, network: Any, taken: set[str]) -> str:
    size = min(network.num_addresses, 1 << 32)
    number = _number(name, "address")
    for offset in ((number + step) % size for step in range(size)):
        address = str(network.network_address + offset)
        if address not in taken and offset % 256 not in (0, 255):
            return address
    raise ValueError(f"{network} has no address left for {name}")


def _number(text: str, use: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{use}:{text}".encode()).digest()[:8], "big")
