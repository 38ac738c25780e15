"""What tests of measure ask, where, and under which manners."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from probes.measure import Check
from probes.model import Family
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from probes.trail import Probe
from tests.probes.servers import TARGET, Answer, TcpServer, say_nothing, tcp_server, udp_server

HERE = "127.0.0.1"
PINNED = (HERE, "127.0.0.2")
V4 = frozenset({Family.IPV4})


@dataclass(slots=True)
class Courtesy:
    """Notes what is asked; refuses the addresses it is told to."""

    refuse: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, int, str, int]] = field(default_factory=list)

    async def check(self, target: object, address: str, port: int, kind: str, packets: int) -> None:
        self.asked.append((address, port, kind, packets))
        if address in self.refuse:
            raise NotMeasured(self.refuse[address])

    async def handshake(self, address: str, name: str) -> None:
        return None


@asynccontextmanager
async def everywhere(port: int = 0) -> AsyncIterator[TcpServer]:
    """A listener on every address of this host, as a trap for who connects where none should."""
    async with tcp_server(say_nothing, host="0.0.0.0", port=port) as server:
        yield server


@asynccontextmanager
async def names(env: Environment, answer: Answer) -> AsyncIterator[list[bytes]]:
    async with udp_server(answer) as server:
        env.system = f"{HERE}:{server.port}"
        yield server.received


def check(probe: Probe, port: int, host: str = "", **options: object) -> Check:
    return Check(TARGET, probe, host, port, **options)
