"""Contrasts at the operator's own server, on loopback: asked only where there is one, by the real
probes, of a real twin, and read by the rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent import check
from agent import core as core_module
from agent.core import Core
from agent.store import Store
from agent.twin import Twin
from agent.twindoor import TwinDoor
from config.model import Config
from exporters.feed import AgentFigures
from probes.model import Certainty, Diagnosis, Mechanism, Observation, Report, Role, Status
from probes.net.selfsigned import Identity, identity
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.wire.twin import is_binding_request, mapped_answer
from tests.agent.building import configuration, control, messenger, target

RELAYS = ("127.0.1.1", "127.0.1.2", "127.0.2.1")
OPERATORS = ("127.0.3.1", "127.0.4.1")
SITES = ("127.0.5.1", "127.0.5.2", "127.0.5.3")
OWN, OUR_TWIN = "127.0.1.9", "127.0.6.1"
KEY, WRONG = bytes(range(32)), bytes(32)
SHORT = 0.4
RESEARCH = {"profile": "research", "risks": "accepted"}

Blocked = Callable[[str, bytes], bool]


@dataclass(eq=False)
class Line(asyncio.DatagramProtocol):
    """STUN servers at relays and operators, and a censor before all of them: ``blocked`` says what
    does not come through to whom."""

    blocked: Blocked = lambda address, data: False
    port: int = 0
    servers: list[Any] = field(default_factory=list)

    async def serve(self, address: str) -> None:
        def made() -> asyncio.DatagramProtocol:
            return _Stun(self, address)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(made, (address, self.port))
        self.port = transport.get_extra_info("sockname")[1]
        self.servers.append(transport)

    async def listen(self, address: str) -> None:
        self.servers.append(await asyncio.start_server(_hang_up, address, self.port))


class _Stun(asyncio.DatagramProtocol):
    def __init__(self, line: Line, address: str) -> None:
        self.line, self.address = line, address

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, of: Any) -> None:
        if is_binding_request(data) and not self.line.blocked(self.address, data):
            self.transport.sendto(mapped_answer(data, of[0], of[1]), of)


def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class CensoredTwin(Twin):
    """Datagrams that the censor takes never come to the twin."""

    line: Line

    def answer(self, data: bytes, address: str, port: int, now: float) -> bytes | None:
        if self.line.blocked(OUR_TWIN, data):
            return None
        return super().answer(data, address, port, now)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("twin") / "k.tls.pem")


@pytest.fixture(autouse=True)
def no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "default_route", lambda: ("eth0", ""))


def config(line: Line, state: Path, **sections: Any) -> Config:
    given: dict[str, Any] = {"timeout": SHORT, "port": line.port}
    relays = [
        target(f"relay-{n}", probe=StunProbe(), host=address, **given)
        for n, address in enumerate(RELAYS)
    ]
    chat = target("chat", channel="chat", probe=TcpProbe(), host=OWN, **given)
    operators = [
        control(f"s{n}", Role.STUN, probe=StunProbe(), host=address, **given)
        for n, address in enumerate(OPERATORS)
    ]
    sites = [
        control(f"f{n}", probe=TcpProbe(), kind="tcp", host=address, **given)
        for n, address in enumerate(SITES)
    ]
    return configuration(
        (messenger(*relays, chat),),
        (*operators, *sites),
        limits={"min_interval": "100ms", "fast_prefixes": ["127.0.0.0/8"]},
        schedule={"interval": "4s", "handshake_interval": "20s"},
        resolvers={"system": "127.0.0.1:9", "trusted": []},
        state={"spacing": "100ms"},
        state_dir=str(state),
        **sections,
    )


@asynccontextmanager
async def core(
    tmp_path: Path, own: Identity, *, with_twin: bool = True, key: bytes = KEY, **sections: Any
) -> AsyncIterator[tuple[Core, Line, TwinDoor]]:
    """After one healthy round. ``key`` is the agent's own idea of it."""
    line = Line()
    for address in (*RELAYS, *OPERATORS):
        await line.serve(address)
    for address in (OWN, *SITES):
        await line.listen(address)
    server = CensoredTwin(KEY)
    server.line = line
    door = TwinDoor(server, own.context)
    door.open((OUR_TWIN,), (0,), 0)
    file = tmp_path / "twin.key"
    file.write_text(key.hex())
    if with_twin:
        sections["twin"] = {
            "address": OUR_TWIN,
            "udp_ports": door.udp_ports,
            "tls_port": door.tls_port,
            "key_file": str(file),
            "tls_sha256": own.sha256,
        }
    store = Store(tmp_path)
    async with AsyncExitStack() as cleanup:
        cleanup.callback(store.close)
        cleanup.callback(lambda: [one.close() for one in line.servers])
        cleanup.push_async_callback(door.close)
        settings = config(line, tmp_path, **sections)
        made = Core(settings, store, AgentFigures(), lambda _: None)
        cleanup.push_async_callback(made.stop)
        healthy = call(await check.one_round(made, ("m",)))
        assert healthy.status is Status.OK, healthy
        yield made, line, door


def call(report: Report) -> Diagnosis:
    return next(d for d in report.diagnoses if d.channel == "call")


def at_twin(report: Report) -> dict[str, Observation]:
    return {
        str(o.facts["payload"]): o
        for o in report.observations
        if o.contrast is not None and o.contrast.differs == "twin"
    }


def to_relays(address: str, data: bytes) -> bool:
    return address in RELAYS


def stun(address: str, data: bytes) -> bool:
    """Whoever is asked. The twin's requests in STUN's dress look like any other."""
    return is_binding_request(data) and address not in OPERATORS


def everything(address: str, data: bytes) -> bool:
    return True


async def found(made: Core, line: Line, blocked: Blocked) -> tuple[Report, Diagnosis]:
    line.blocked = blocked
    await asyncio.sleep(0.15)  # limits.min_interval
    report = await check.one_round(made, ("m",))
    return report, call(report)


async def test_relays_that_are_silent_while_the_same_bytes_pass_to_the_twin(tmp_path, own):
    async with core(tmp_path, own) as (made, line, _):
        report, d = await found(made, line, to_relays)
        (asked,) = at_twin(report).values()
        assert (asked.ok, asked.facts["answered"], asked.facts["received_by_peer"]) == (True, 5, 5)
        assert (d.status, d.mechanism, d.first.rule) == (
            Status.BLOCKED,
            Mechanism.UDP_RELAY_BLOCK,
            "R38",
        )
        assert (d.certainty, d.first.confidence) == (Certainty.LIKELY, 0.85)
        assert asked.id in d.first.evidence
        # Random bytes are not for this profile, and that is said.
        assert "m relay-0, at the twin: profile: client does not ask it" in report.left_out
        assert made.figures.contrasts_skipped["profile"] == 1


async def test_without_a_twin_nothing_is_asked_there(tmp_path, own):
    async with core(tmp_path, own, with_twin=False) as (made, line, door):
        report, d = await found(made, line, to_relays)
        assert at_twin(report) == {}
        assert door.twin.counts == {}
        assert d.first is None or d.first.rule != "R38"
        assert made.figures.contrasts_skipped.total() == 0


async def test_stun_that_is_swallowed_on_the_way_to_the_twin_while_noise_passes(tmp_path, own):
    async with core(tmp_path, own, **RESEARCH) as (made, line, _):
        report, d = await found(made, line, stun)
        seen = at_twin(report)
        assert (seen["random"].facts["answered"], seen["stun"].facts["answered"]) == (5, 0)
        assert (d.status, d.mechanism, d.first.rule) == (
            Status.BLOCKED,
            Mechanism.UDP_STUN_SIGNATURE,
            "R37",
        )
        assert d.first.confidence == 0.95


async def test_nothing_passes_and_the_twin_says_over_tls_that_nothing_came(tmp_path, own):
    async with core(tmp_path, own, **RESEARCH) as (made, line, _):
        await found(made, line, everything)
        # Again: a control that has just changed weakens everything.
        report, d = await found(made, line, everything)
        seen = at_twin(report)
        assert {o.facts["received_by_peer"] for o in seen.values()} == {0}
        assert (d.status, d.mechanism, d.first.rule) == (
            Status.BLOCKED,
            Mechanism.UDP_BLOCK_ALL,
            "R36",
        )


@pytest.mark.parametrize("trouble", ["stopped", "another key"])
async def test_a_twin_that_cannot_believe_us_proves_nothing(tmp_path, own, trouble):
    key = WRONG if trouble == "another key" else KEY
    async with core(tmp_path, own, key=key, **RESEARCH) as (made, line, door):
        if trouble == "stopped":
            await door.close()
        await found(made, line, everything)
        report, d = await found(made, line, everything)
        assert at_twin(report), "it was asked"
        rules = {f.rule for f in d.findings}
        assert not rules & {"R36", "R37", "R38", "R39"}


async def test_what_was_asked_of_the_twin_is_little(tmp_path, own):
    """Once per payload and round, whatever many relays fail."""
    async with core(tmp_path, own, **RESEARCH) as (made, line, door):
        await found(made, line, to_relays)
        assert door.twin.counts == {"echo": 10}
        assert len(door.twin.flows) == 2
