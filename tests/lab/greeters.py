"""Who answers a messenger's own first words in the lab, and where; and the program that does.

Data centres answer MTProto, and bare HTTP on the same ports with 501; chat hosts answer Noise.
What is neither is read in silence, as a raw chat host does (``sink``). WebSockets come from nginx,
which ends their TLS, through a socket in the file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.catalogue import Target
from tests.lab.mtproto import DataCentre
from tests.lab.noise import ChatHost, Vault
from tests.lab.websocket import Talk, Upgraded

PROBES = frozenset({"mtproto", "noise"})
PATHS = {"mtproto": "/apiws", "noise": "/ws/chat"}  # where a target's file says nothing
SUBPROTOCOLS = {"mtproto": "binary", "noise": ""}
PATIENCE = 30.0

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Door:
    """A WebSocket: who stands behind it, at which path."""

    kind: str
    path: str

    @property
    def file(self) -> str:
        """The name of its socket in the servers' directory."""
        return f"{self.kind}{self.path.replace('/', '-')}.sock"


def door_of(target: Target) -> Door | None:
    if target.probe not in PROBES or target.fields.get("transport") != "websocket":
        return None
    return Door(target.probe, target.fields.get("path", PATHS[target.probe]))


def places(targets: Iterable[Target]) -> dict[Place, str]:
    """What is spoken where, over TCP itself."""
    return {
        (address, target.port): target.probe
        for target in targets
        if target.probe in PROBES and door_of(target) is None
        for address in target.addresses
    }


def talk(kind: str, vault: Vault, chain: bytes) -> Talk:
    return DataCentre() if kind == "mtproto" else ChatHost(vault.static, chain)


def behind(door: Door, vault: Vault, chain: bytes) -> Upgraded:
    inner = talk(door.kind, vault, chain)
    return Upgraded(inner, door.path, SUBPROTOCOLS[door.kind])


# --- the program -------------------------------------------------------------------------------


def order(directory: Path, spoken: dict[Place, str], doors: Iterable[Door], vault: Vault) -> str:
    """What the program is told on its standard input."""
    told = {
        "places": [[*place, kind] for place, kind in spoken.items()],
        "doors": [[door.kind, door.path, str(directory / door.file)] for door in doors],
        "static": vault.static.hex(),
        "chain": vault.chain().hex(),
    }
    return json.dumps(told)


async def serve(told: dict[str, Any]) -> None:
    vault, chain = Vault(static=bytes.fromhex(told["static"])), bytes.fromhex(told["chain"])
    servers = []
    for kind, path, file in told["doors"]:
        door = Door(kind, path)
        made = _talking(lambda door=door: behind(door, vault, chain))
        servers.append(await asyncio.start_unix_server(made, file))
    for address, port, kind in told["places"]:
        made = _talking(lambda kind=kind: talk(kind, vault, chain))
        servers.append(await asyncio.start_server(made, address, port))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _talking(make: Callable[[], Talk]) -> Any:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = make()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while data := await reader.read(65536):
                    writer.write(talk.said(data))
                    await writer.drain()
                    if getattr(talk, "hangs_up", False):
                        break
        writer.close()

    return behave


if __name__ == "__main__":
    asyncio.run(serve(json.load(sys.stdin)))
