"""coturn as every STUN, TURN and DTLS server of the catalogue: one process per operator.

coturn 4.6 takes STUN, TURN, TLS and DTLS on any of its ports alike, so a process has one ordinary
listener and an auxiliary one for each further place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.catalogue import Target
from tests.lab.certificates import Pair
from tests.lab.web import Place, slug

PROBES = frozenset({"stun", "turn", "dtls"})
RELAYS = PROBES | {"reflector", "echo"}
"""What is asked of a call's relays; coturn knows nothing of the last two."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One realm and everywhere it answers. ``names`` are for its certificate."""

    name: str
    realm: str
    places: tuple[Place, ...]
    names: tuple[str, ...]

    @property
    def slug(self) -> str:
        return slug(f"relay {self.name}")

    def command(self, program: str, pair: Pair, directory: Path) -> list[str]:
        (address, port), *others = self.places
        command = [
            program,
            "-n",  # no configuration file
            "--no-cli",
            "--lt-cred-mech",
            f"--realm={self.realm}",
            "--user=lab:lab",
            "--fingerprint",
            "--no-rfc5780",
            "--relay-threads=0",
            "--simple-log",
            "--log-file=stdout",
            f"--userdb={directory / self.slug}.db",
            f"--pidfile={directory / self.slug}.pid",
            f"--cert={pair.chain}",
            f"--pkey={pair.key}",
            f"--listening-ip={address}",
            f"--listening-port={port}",
        ]
        for address, port in others:
            literal = f"[{address}]" if ":" in address else address
            command.append(f"--aux-server={literal}:{port}")
        return command


def operators(targets: Iterable[Target], *, ipv6: bool) -> list[Operator]:
    """Targets of one owner share a realm, the one that a turn target expects if any does."""
    places: dict[str, set[Place]] = {}
    names: dict[str, set[str]] = {}
    realms: dict[str, str] = {}
    for target in targets:
        if target.probe not in PROBES:
            continue
        owner = target.owner
        found = places.setdefault(owner, set())
        found |= {(a, target.port) for a in target.addresses if ipv6 or ":" not in a}
        names.setdefault(owner, set()).update({target.host, target.fields.get("server_name", "")})
        if realm := target.fields.get("realm"):
            realms[owner] = realm
    return [
        Operator(
            owner,
            realms.get(owner, f"{slug(owner).lower()}.lab"),
            tuple(sorted(places[owner], key=lambda place: (":" in place[0], place))),
            tuple(sorted(names[owner] - {""})),
        )
        for owner in sorted(places)
        if places[owner]
    ]
