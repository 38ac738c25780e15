"""Contrasts asked within their round, on loopback, by the real probes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent import asks, check
from agent import core as core_module
from agent.case import differs_in
from agent.core import Core
from agent.manners import Manners
from agent.rounds import Beat
from agent.store import Store
from config.model import Config, TargetConfig
from exporters.document import document
from exporters.feed import AgentFigures
from probes.contrast import HelloProbe
from probes.https import HttpsProbe
from probes.media import MediaProbe
from probes.model import (
    Certainty,
    Diagnosis,
    Mechanism,
    Proof,
    Report,
    Status,
    Target,
    TargetState,
    Vantage,
    VantageStatus,
)
from probes.net.errors import NotMeasured
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from tests.agent.building import FakeStun, World, configuration, control, messenger, target
from tests.probes.playing import PlayedStreams

BLOCKED = b"blocked.test"
TLS_1_3 = b"\x03\x04"
ALERT = b"\x15\x03\x03\0\x02\x02\x28"
SERVER, SIBLING, FIRST, OTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
INTERVAL = 2.0


@dataclass(eq=False)
class Wire:
    """Servers that answer every hello with an alert; a censor may cut those with one name.
    ``heard``: address and whether the name was in it, in order."""

    censor: bool = False
    modern: bool = False
    """It cuts only hellos that offer TLS 1.3, as those of one program."""
    everything: bool = False
    port: int = 0
    heard: list[tuple[str, bool]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            data = await reader.read(4096)
            named = BLOCKED in data
            address = writer.get_extra_info("sockname")[0]
            if data:
                self.heard.append((address, named))
            if self.modern and TLS_1_3 not in data:
                named = False
            if data and self.censor and (named or (self.everything and address == SERVER)):
                linger = struct.pack("ii", 1, 0)
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return
            writer.write(ALERT)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def wires(gone: str = "") -> AsyncIterator[Wire]:
    wire = Wire()
    servers = []
    for address in {SERVER, SIBLING, FIRST, OTHER} - {gone}:
        server = await asyncio.start_server(wire.serve, address, wire.port)
        wire.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield wire
    finally:
        for server in servers:
            server.close()


def config(wire: Wire, state: Path, more: tuple[TargetConfig, ...] = (), **sections: Any) -> Config:
    web = target(
        "web",
        channel="web",
        probe=TlsProbe("blocked.test"),
        host=SERVER,
        port=wire.port,
    )
    chat = target("chat", channel="chat", probe=TcpProbe(), host=SIBLING, port=wire.port)
    foreign = [
        control(
            f"f{n}",
            probe=HttpsProbe(f"https://neutral{n}.test/"),
            kind="https",
            host=f"neutral{n}.test",
            addresses=(address,),
            port=wire.port,
        )
        for n, address in enumerate((FIRST, OTHER))
    ]
    third = control("f2", probe=TcpProbe(), kind="tcp", host=OTHER, port=wire.port)
    limits = {"min_interval": "100ms", "fast_prefixes": ["127.0.0.0/8"]}
    return configuration(
        (messenger(web, chat, *more),),
        (*foreign, third),
        limits=limits,
        schedule={"interval": f"{INTERVAL}s", "handshake_interval": "3s"},
        resolvers={"system": "127.0.0.1:9", "trusted": []},
        state={"spacing": "100ms"},
        state_dir=str(state),
        **sections,
    )


@asynccontextmanager
async def core(
    tmp_path: Path, *, gone: str = "", more: tuple[TargetConfig, ...] = (), **sections: Any
) -> AsyncIterator[tuple[Core, Wire]]:
    """``gone``: the address where nobody serves; ``more``: targets of the messenger."""
    async with wires(gone) as wire:
        store = Store(tmp_path)
        made = Core(config(wire, tmp_path, more, **sections), store, AgentFigures(), lambda _: None)
        try:
            yield made, wire
        finally:
            await made.stop()
            store.close()


@pytest.fixture(autouse=True)
def no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "default_route", lambda: ("eth0", ""))


def web(diagnoses: Any) -> Diagnosis:
    return next(d for d in diagnoses if d.channel == "web")


async def by_hand(made: Core) -> Report:
    await asyncio.sleep(0.15)  # limits.min_interval
    return await check.one_round(made, ("m",))


async def test_a_healthy_round_asks_nothing_more(tmp_path):
    async with core(tmp_path) as (made, wire):
        report = await by_hand(made)
        assert web(report.diagnoses).status is Status.OK
        assert all(o.contrast is None for o in report.observations)
        # The target itself and two controls.
        assert len(wire.heard) == 3
        assert made.figures.contrasts_skipped.total() == 0


async def test_a_name_that_is_cut_is_found_out_in_one_round(tmp_path):
    async with core(tmp_path) as (made, wire):
        await by_hand(made)
        wire.censor = True
        report = await by_hand(made)
        d = web(report.diagnoses)
        assert (d.status, d.mechanism, d.certainty) == (
            Status.BLOCKED,
            Mechanism.TLS_SNI_RESET,
            Certainty.LIKELY,
        )
        failed = next(o for o in report.observations if not o.works and o.target.name == "web")
        made_of = {o.contrast.differs: o for o in report.observations if o.contrast}
        assert set(made_of) == {"name", "sibling", "again"}
        asked = made_of["name"]
        assert asked.contrast.of == failed.id
        assert asked.facts["clienthello_bytes"] >= failed.facts["clienthello_bytes"]
        assert asked.id in d.first.evidence
        # What the profile forbids is counted and named.
        assert made.figures.contrasts_skipped == {"profile": 2}
        forbidden = "profile: client does not ask it"
        assert report.left_out == tuple(
            f"m web, another {what}: {forbidden}" for what in ("hello", "address")
        )


async def test_contrasts_write_no_check_metrics(tmp_path):
    async with core(tmp_path) as (made, wire):
        await by_hand(made)
        wire.censor = True
        await by_hand(made)
        # By hand nothing is noted of targets at all; of controls their own two rounds.
        assert {f.runs for f in made.ledger.targets.values()} == {0, 2}


async def test_a_server_that_cuts_every_name_is_not_accused(tmp_path):
    async with core(tmp_path) as (made, wire):
        await by_hand(made)
        wire.censor = wire.everything = True
        report = await by_hand(made)
        assert web(report.diagnoses).status is Status.UNREACHABLE
        assert web(report.diagnoses).findings == ()


async def test_research_asks_a_control_last_and_then_leaves_it_alone(tmp_path):
    research = {"profile": "research", "risks": "accepted"}
    async with core(tmp_path, **research) as (made, wire):
        await by_hand(made)
        wire.censor = True
        wire.heard.clear()
        report = await by_hand(made)
        assert web(report.diagnoses).first.rule == "R15"
        assert wire.heard[-1] == (OTHER, True), "the last control, after everything else"
        assert made.manners.is_spared(OTHER)
        assert not made.manners.is_spared(FIRST)
        wire.heard.clear()
        report = await by_hand(made)
        assert OTHER not in {address for address, _ in wire.heard}
        assert made.figures.checks_skipped["residual"] > 0


@dataclass(slots=True)
class SlowStreams(PlayedStreams):
    """Streams that go on until somebody says so."""

    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self, *given: Any) -> Any:
        await self.over.wait()
        return await PlayedStreams.play(self, *given)


async def test_by_hand_nothing_waits_for_a_stream_but_its_own_verdict(tmp_path):
    relay = target("relay", host="127.0.0.9", probe=FakeStun(World()))
    voice = target(
        "voice", host=relay.host, probe=MediaProbe(), informative=True, relay=relay.target
    )
    async with core(tmp_path, more=(relay, voice)) as (made, wire):
        lossy = SlowStreams(lambda stream, number, at: None if number % 5 == 1 else 0.05)
        made.env.streams = lossy  # type: ignore[assignment] # a path of our own
        lossy.over.set()
        await by_hand(made)
        lossy.over.clear()
        wire.censor = True
        asked = asyncio.create_task(by_hand(made))
        async with asyncio.timeout(20):
            while not any(differs_in(c, "again") for c in made.follower.kept.get("m", ())):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not asked.done(), "the contrasts are asked while the stream goes on"
        heard = len(wire.heard)
        lossy.over.set()
        report = await asked
        assert len(wire.heard) == heard, "and are not asked once more when it is over"
        assert web(report.diagnoses).mechanism is Mechanism.TLS_SNI_RESET
        call = next(d for d in report.diagnoses if d.channel == "call")
        assert (call.status, call.reason) == (Status.DEGRADED, "heard_badly")


async def test_from_the_second_round_on_the_neutral_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(asks, "WINDOWS", dict.fromkeys(asks.WINDOWS, 3.0))
    async with core(tmp_path) as (made, wire):
        shown = await made.run_messenger("m", Beat(0))
        assert web(shown).status is Status.OK
        wire.censor = True
        for _ in range(10):
            await asyncio.sleep(INTERVAL)  # the sibling is asked again only then
            wire.heard.clear()
            shown = await made.run_messenger("m", Beat(0))
            if web(shown).status is Status.BLOCKED:
                break
        d = web(shown)
        assert (d.status, d.mechanism) == (Status.BLOCKED, Mechanism.TLS_SNI_RESET)
        at_server = [named for address, named in wire.heard if address == SERVER]
        assert at_server[:2] == [False, True]
        assert at_server.count(False) == 1, "once a round"


async def test_after_a_reset_the_name_waits_and_the_connection_is_still_asked(tmp_path):
    async with core(tmp_path) as (made, wire):
        await made.run_messenger("m", Beat(0))
        wire.censor = True
        while not any(named for _, named in wire.heard[3:]):
            await asyncio.sleep(0.2)
            await made.run_messenger("m", Beat(0))
        seen = made.runners["m"].seen["web"]
        once_more = max(c.at for c in made.follower.kept["m"] if c.contrast.differs == "again")
        assert once_more > seen.at
        until = once_more + 90 * INTERVAL / 60
        assert seen.asked.until == pytest.approx(until, abs=0.01), "it was said then as well"
        before = len([1 for _, named in wire.heard if named])
        await made.run_messenger("m", Beat(0))
        assert len([1 for _, named in wire.heard if named]) == before


async def test_when_the_time_is_up_a_round_goes_on_without(tmp_path, monkeypatch):
    async with core(tmp_path) as (made, wire):
        await by_hand(made)
        wire.censor = True

        async def hang(*_: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(HelloProbe, "run", hang)
        monkeypatch.setattr("agent.check.OVER", 0.5)
        report = await by_hand(made)
        assert web(report.diagnoses).status is Status.UNREACHABLE
        assert made.figures.contrasts_skipped == {"time": 2}


async def test_a_bug_in_a_contrast_costs_only_itself(tmp_path, monkeypatch, caplog):
    async with core(tmp_path) as (made, wire):
        await by_hand(made)
        wire.censor = True

        async def broken(*_: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(HelloProbe, "run", broken)
        report = await by_hand(made)
        assert web(report.diagnoses).findings == ()
        assert "bug in the contrast name of web" in caplog.text


def told(folder: Path, works: bool, *, minutes: float = 1.0) -> dict[str, Any]:
    """An outside view that was made so many minutes ago."""
    at = time.time() - 60 * minutes
    state = TargetState(Target("m", "web", "web", "tls"), SERVER, works, Proof.CAPTURED, True, at)
    diagnosis = Diagnosis("m", "web", Status.OK, "ok", "", 1, 1, 1, 1, targets=(state,))
    vantage = Vantage("abroad", VantageStatus.ONLINE, "fine")
    versions = {"version": "1", "rules": "1", "catalogue": "2026.11.24"}
    made = document(Report(at, vantage, (diagnosis,)), versions, observations=False)
    file = folder / "outside.json"
    file.write_text(json.dumps(made))
    return {"file": str(file), "max_age": "15m"}


@pytest.mark.parametrize(
    ("works", "minutes", "expected"),
    [
        (None, 0, (Status.UNREACHABLE, Mechanism.INCONCLUSIVE, 0)),
        (True, 1, (Status.BLOCKED, Mechanism.TLS_SNI_RESET, 0.85)),
        (False, 1, (Status.UNREACHABLE, Mechanism.SERVER_OUTAGE, 0.80)),
        (True, 20, (Status.UNREACHABLE, Mechanism.INCONCLUSIVE, 0)),
        (False, 20, (Status.UNREACHABLE, Mechanism.INCONCLUSIVE, 0)),
    ],
    ids=["none", "works abroad", "fails abroad", "worked too long ago", "failed too long ago"],
)
async def test_an_outside_view_decides_where_nothing_else_of_the_owner_answers(
    tmp_path, works, minutes, expected
):
    outside = {} if works is None else {"outside": told(tmp_path, works, minutes=minutes)}
    async with core(tmp_path, gone=SIBLING, **outside) as (made, wire):
        wire.censor = True
        d = web((await by_hand(made)).diagnoses)
        confidence = d.first.confidence if d.first else 0
        assert (d.status, d.mechanism, confidence) == expected


RESEARCH = {"profile": "research", "risks": "accepted"}


@pytest.mark.slow
@pytest.mark.long  # and needs a machine that is not busy: in so short a minute
async def test_patience_tells_what_one_round_can_only_suspect(tmp_path):
    """A filter that cuts one program's hellos: three of each in turn, where a minute is 2 s."""
    for patient, certainty in ((False, Certainty.SUSPECTED), (True, Certainty.LIKELY)):
        async with core(tmp_path / str(patient), **RESEARCH) as (made, wire):
            await by_hand(made)
            wire.censor = wire.modern = True
            made.follower.patient = patient
            told = asyncio.create_task(by_hand(made))
            words = set()
            while not told.done():
                words.add(check.words(made))
                await asyncio.sleep(0.05)
            report = await told
        found = {f.rule: f for f in web(report.diagnoses).findings}
        assert found["R23"].certainty is certainty
        asked = [o.contrast.differs for o in report.observations if o.contrast]
        assert (asked.count("hello"), asked.count("time")) == ((3, 2) if patient else (1, 0))
        waited = any(word.startswith("waiting for") for word in words)
        assert waited is patient
        if not patient:
            assert made.follower.patient is False


async def test_what_manners_forbid_now_is_asked_later_with_patience(tmp_path, monkeypatch):
    async with core(tmp_path) as (made, wire):
        await by_hand(made)
        wire.censor = True
        made.follower.patient = True
        refused = []
        ask = Manners.check

        async def busy(self, target, address, port, kind, packets):
            if kind.startswith("name") and not refused:
                refused.append(kind)
                raise NotMeasured("min_interval")
            await ask(self, target, address, port, kind, packets)

        monkeypatch.setattr(Manners, "check", busy)
        report = await by_hand(made)
    assert refused
    assert web(report.diagnoses).mechanism is Mechanism.TLS_SNI_RESET
    assert not any("min interval" in said for said in report.left_out)


async def test_what_earlier_rounds_saw_is_remembered_while_a_channel_ails(tmp_path):
    async with core(tmp_path) as (made, wire):

        async def one():
            await asyncio.sleep(INTERVAL + 0.1)
            await made.run_messenger("m", Beat(time.time()))
            return made.follower.past.get("m", ())

        assert await one() == ()
        wire.censor = True
        past = ()
        while not any(o.contrast for o in past):  # a handshake is not due in every round
            past = await one()
        assert {o.target.name for o in past} == {"web"}
        assert any(o.contrast is None for o in past)
        assert any(o.contrast and o.contrast.differs == "name" for o in past)
        assert len({o.id for o in past}) == len(past)
        made.follower.drop(lambda o: o.contrast is not None)
        assert made.follower.past["m"]
        assert not any(o.contrast for o in (*made.follower.past["m"], *made.follower.kept["m"]))
        made.follower.forget()
        assert made.follower.past == {}
