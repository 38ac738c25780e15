"""Which targets answer a stranger: rounds of the real core, no packet."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import calibrate, calibratedoor
from agent import core as core_module
from agent.calibrate import RUNS, Blind, Calibration, blindness, dresses, extent, open_questions
from agent.calibrated import Key, Tally
from agent.checks import dress_of
from agent.rounds import Beat
from agent.store import Store
from config.calibration import read
from config.model import Config
from probes.dtls import DtlsProbe
from probes.model import Proof, Role, Target, VantageStatus
from probes.stun import StunProbe
from probes.turn import TurnProbe
from probes.wire import dtls, stun
from tests.agent.building import (
    FakeStun,
    FakeTls,
    configuration,
    control,
    judgement,
    messenger,
    target,
    until,
)
from tests.agent.line import CHAT, RELAYS, STUN, WEB, Line

EXTRA = "203.0.113.14"
FAST = {
    "schedule": {"interval": "200ms", "handshake_interval": "1s"},
    "limits": {"min_interval": "150ms", "fast_prefixes": ["0.0.0.0/0"]},
}


def asked_of(line: Line, **sections: Any) -> Config:
    """Unproven relays, a captured page and a documented one; a control that is unproven too."""
    relays = [
        target(f"relay{n}", host=a, probe=FakeStun(line.world), proof=Proof.UNPROVEN)
        for n, a in enumerate(RELAYS)
    ]
    page = FakeTls(line.world)
    web = target("web", channel="web", host=CHAT, probe=page, proof=Proof.CAPTURED)
    known = target("known", channel="web", host="198.51.100.60", probe=page)
    extra = control(
        "extra", Role.STUN, host=EXTRA, probe=FakeStun(line.world), proof=Proof.UNPROVEN
    )
    config = configuration((messenger(*relays, web, known),), (*line.controls(), extra), **sections)
    return open_questions(config, ["m"])


async def rounds(of: Calibration, line: Line, count: int) -> None:
    for _ in range(count):
        await of.round("m", Beat(line.clock.wall))
        line.clock.forward(66)


@pytest.fixture
async def begun(line: Line):
    made = Calibration(asked_of(line), line.store, 7200)
    yield made
    await made.close()


# --- what is asked -----------------------------------------------------------------------------


def test_what_is_documented_is_not_asked(line):
    (asked,) = asked_of(line).messengers
    assert [t.target.name for t in asked.targets] == [*(f"relay{n}" for n in range(5)), "web"]


def test_streams_are_not_asked_and_messengers_without_questions_are_left_out(line):
    class Paced(FakeStun):
        stream_packets = (30, 1.0)

    config = configuration(
        (
            messenger(target(probe=Paced(line.world), proof=Proof.CAPTURED)),
            messenger(target(proof=Proof.CAPTURED), name="other"),
        ),
        (),
    )
    assert [m.name for m in open_questions(config, ["m", "other"]).messengers] == ["other"]
    assert open_questions(config, ["m"]).messengers == ()


@pytest.mark.parametrize(
    ("probe", "found"),
    [
        (StunProbe(dress=stun.Dress.APP), {"app", "bare", "ice", "rfc3489"}),
        (StunProbe(transport="tcp"), {"bare"}),
        (DtlsProbe(dtls.Dress.BROWSER), {"browser", "openssl", "pion"}),
        (TurnProbe(), {""}),
    ],
)
def test_every_dress_its_own_first(probe, found):
    made = dresses(target(probe=probe), research=False)
    assert made[0].probe == probe
    assert {str(getattr(t.probe, "dress", "")) for t in made} == found
    assert len({t.target for t in made}) == 1, "to manners they are one target"


def test_a_dress_that_the_profile_forbids_is_not_asked():
    whole = target(probe=DtlsProbe(whole=True))
    assert len(dresses(whole, research=False)) == 1
    assert len(dresses(whole, research=True)) == 3


async def test_dresses_take_turns(line):
    line.world.silent.clear()
    made = Calibration(asked_of(line), line.store, 7200)
    relay = made._dressed["m"][0][0]
    worn = [replace(relay, probe=replace(relay.probe, dress=d)) for d in ("bare", "ice", "app")]
    made._dressed["m"] = [worn]
    await made.begin()
    line.clock.forward(66)
    await rounds(made, line, 3 * RUNS + 4)
    counts = {k.dress: t.asked for k, t in made.tallies.items() if k.messenger == "m"}
    assert counts == {"bare": RUNS, "ice": RUNS, "app": RUNS}
    assert made.turn("m") == ()
    assert line.world.times(RELAYS[0]) == 3 * RUNS, "no more than once a round"
    await made.close()


# --- what is counted ---------------------------------------------------------------------------


async def test_silent_ones_stay_unproven_and_answering_ones_are_counted(line, begun):
    line.world.silent = {*RELAYS[:2]}
    await begun.begin()
    line.clock.forward(66)
    await rounds(begun, line, RUNS + 2)
    found = {k.target: (t.answered, t.asked) for k, t in begun.tallies.items() if k[0] == "m"}
    assert [found[f"relay{n}"] for n in range(5)] == [(0, RUNS)] * 2 + [(RUNS, RUNS)] * 3
    assert found["web"][0] == found["web"][1] >= 2, "connects between handshakes are no answers"
    assert found["web"][1] < RUNS
    assert begun.tallies[Key("control", "extra", "stun", "bare")].answered >= RUNS
    assert not any(k.target == "known" for k in begun.tallies)
    assert (CHAT, True) in line.world.asked


async def test_a_round_in_which_the_line_is_in_doubt_does_not_count(line, begun):
    await begun.begin()
    line.clock.forward(66)
    await rounds(begun, line, 1)
    before = {k: t.asked for k, t in begun.tallies.items()}
    line.world.silent = {*STUN, EXTRA}  # no UDP abroad: restricted, and nothing for an open network
    await rounds(begun, line, 3)
    assert {k: t.asked for k, t in begun.tallies.items()} == before
    assert len(begun.uncounted) == 3
    assert "restricted" in begun.words()


async def test_what_answered_is_known_here_from_then_on(line, begun):
    await begun.begin()
    line.clock.forward(66)
    await rounds(begun, line, RUNS)
    (asked,) = begun.core.config.messengers
    assert begun.core.learned.proven(asked.targets[0])
    assert line.store.trust(begun.core.learned.network)


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (judgement(), ""),
        (judgement(VantageStatus.OFFLINE, reason="no control answers"), "offline"),
        (judgement(VantageStatus.RESTRICTED), "restricted"),
        (judgement(VantageStatus.PORTAL), "portal"),
        (judgement(controls=False), "no control"),
    ],
)
def test_which_lines_tell_something(seen, word):
    assert word in blindness(seen)
    assert bool(blindness(seen)) is bool(word)


async def test_a_dead_line_is_refused(line, begun):
    line.world.silent |= {*WEB, *STUN, EXTRA}
    with pytest.raises(Blind, match="offline"):
        await begun.begin()
    assert begun.tallies == {}


async def test_families_that_do_not_work_here_are_left_out(line):
    config = asked_of(line)
    (asked,) = config.messengers
    six = replace(asked.targets[0], target=Target("m", "call", "six", "stun"), host="2001:db8::1")
    config = replace(config, messengers=(replace(asked, targets=(*asked.targets, six)),))
    made = Calibration(config, line.store, 7200)
    await made.begin()
    assert made.left_out == ("m/six",)
    assert "six" not in {t.target.name for t in made.turn("m")}
    await made.close()


async def test_why_it_ends(line, begun):
    now = time.monotonic()
    assert begun.over(now) == ""
    assert begun.over(now - 7200) == "the time is up"
    begun._counted_at = now - 3 * 300 - 1  # the slowest of them is asked every five minutes
    assert begun.over(now) == "nothing more can be counted here"
    begun.core.manners.limits.bytes_per_day = 0
    assert begun.over(now) == "the bytes of today are spent"
    for dressed in begun._dressed["m"]:
        of = dressed[0].target
        begun.tallies[Key("m", of.name, of.probe, dress_of(dressed[0]))] = Tally(RUNS, 0)
    assert begun.over(now) == f"everything was asked {RUNS} times"


async def test_how_far_it_is(line, begun):
    line.world.silent = {*RELAYS}
    await begun.begin()
    line.clock.forward(66)
    await rounds(begun, line, 1)
    assert begun.words() == f"6 of {6 * RUNS} runs, 2 of 7 asked so far have answered"


# --- how much ----------------------------------------------------------------------------------


async def test_no_more_is_sent_than_was_announced(line, begun):
    config = asked_of(line)
    told = extent(config, 20 * 66.0)
    assert (told.targets, told.dressed) == (6, 6)
    line.world.asked.clear()
    await begun.begin()
    line.clock.forward(66)
    await rounds(begun, line, 20)
    packets = {CHAT: 3, **dict.fromkeys(WEB, 3)}
    sent = sum(1 if part else packets.get(a, 5) for a, part in line.world.asked)
    assert 0.5 * told.requests < sent <= told.requests


def test_a_shorter_time_is_less(line):
    config = asked_of(line)
    short, whole = extent(config, 600), extent(config, 7200)
    assert short.seconds == 600
    assert whole.seconds < 7200, "it ends when all is asked"
    assert 0 < short.requests < whole.requests
    assert 0 < short.size < whole.size


# --- from the start to the file ----------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """The real clock, at a laboratory's pace."""
    monkeypatch.setattr(core_module, "default_route", lambda: ("eth0", ""))
    monkeypatch.setattr(core_module, "is_tunnel", lambda interface: False)
    monkeypatch.setattr(calibratedoor, "is_healthy", lambda listen, **_how: "nobody there")
    monkeypatch.setattr("agent.network.attachment", lambda key: "wlan")
    monkeypatch.setattr(calibrate.pausing, "POLL", 0.02)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "run"))
    from tests.agent.building import Clock

    made = Line(Clock(), tmp_path / "line")
    made.store.close()
    return made


def run(line: Line, seconds: float, file: Path, told: list[str] | None = None, **sections: Any):
    given = calibratedoor.Given(("m",), seconds, "fixed", file)
    config = asked_of(line, **{**FAST, **sections})
    return calibratedoor.run(config, given, (told if told is not None else []).append)


def test_a_whole_calibration(here, tmp_path):
    here.world.silent = {RELAYS[0]}
    told: list[str] = []
    file = tmp_path / "made.json"
    done = run(here, 1.5, file, told)
    made = read(file)
    found = {e.target: e for e in made.targets}
    assert found["relay0"].answered == 0 < found["relay0"].asked
    assert found["relay1"].answered == found["relay1"].asked >= 3
    assert (made.network, made.catalogue) == ("fixed", "2026.11.20")
    assert "at most" in told[0], "before anything is sent"
    assert "the time is up" in told[-1]
    assert done.document["calibration"]["targets"]
    assert json.loads(json.dumps(done.document)) == done.document
    assert any("relay0" in line for line in done.lines)
    assert [f.name for f in tmp_path.glob("*made*")] == ["made.json"]
    assert "203.0.113" not in file.read_text()
    assert "192.0.2.77" not in file.read_text()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_what_it_has(here, tmp_path, signum):
    file, told = tmp_path / "made.json", []
    before = signal.getsignal(signum)

    def tell(text: str) -> None:
        told.append(text)
        if "asking" in text:
            asyncio.get_running_loop().call_later(0.8, os.kill, os.getpid(), signum)

    given = calibratedoor.Given(("m",), 60.0, "", file)
    done = calibratedoor.run(asked_of(here, **FAST), given, tell)
    assert done.document["ended"] == "it was stopped"
    assert read(file).targets
    assert signal.getsignal(signum) == before


def test_a_dead_line_writes_nothing(here, tmp_path):
    here.cut()
    here.world.silent.add(EXTRA)
    with pytest.raises(Blind, match="offline"):
        run(here, 5.0, tmp_path / "made.json")
    assert not (tmp_path / "made.json").exists()


def test_a_messenger_of_which_nothing_answers_is_doubted(here, tmp_path):
    here.world.silent = {*RELAYS, CHAT}
    done = run(here, 0.5, tmp_path / "made.json")
    assert "Nothing answered of: m" in done.lines[-1]


async def test_paused_stops_all_sending(here, tmp_path):
    made = Calibration(asked_of(here, **FAST), Store(tmp_path / "run"), 60)
    await made.begin()
    marker = made.core.store.folder / "paused"
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop, lambda text: None))
    await until(lambda: here.world.times(RELAYS[1]) > 1)
    marker.touch()
    await until(lambda: made.core.manners.paused)
    await asyncio.sleep(0.05)
    sent = len(here.world.asked)
    await asyncio.sleep(0.6)
    assert len(here.world.asked) == sent
    marker.unlink()
    await until(lambda: len(here.world.asked) > sent)
    stop.set()
    assert await running == "it was stopped"
    await made.close()
    made.core.store.close()


# --- files -------------------------------------------------------------------------------------


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "made.json"
    file.write_text("old")

    def fails(*_: Any) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no space"):
        calibrate.write(file, "new")
    assert [f.name for f in tmp_path.iterdir()] == ["made.json"]
    assert file.read_text() == "old"


def test_where_nothing_can_be_written_is_known_before(tmp_path):
    assert "directory" in calibrate.cannot_write(tmp_path)
    assert "cannot write" in calibrate.cannot_write(tmp_path / "nosuch" / "made.json")
    assert calibrate.cannot_write(tmp_path / "made.json") == ""
