"""When the agent traces by itself, what it remembers, and what it says. The tracer is a fake."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import localise, tracedoor
from agent.diagnosis import Evidence
from agent.localise import MOST_BYTES, Localiser, sentence
from agent.manners import DAY, Limits, Manners
from agent.store import Store
from agent.tracedoor import Order, traced
from config.schema import LocaliseSettings
from probes.model import (
    Certainty,
    Diagnosis,
    Failure,
    Located,
    Mechanism,
    Status,
    Step,
)
from probes.net.environment import Traffic
from probes.tls import TlsProbe
from probes.trace.common import Word
from probes.trace.place import Placement
from tests.agent.building import Clock, environment, seen, target, until
from tests.agent.suspects import found, relay

FOUND = {
    "result": "found",
    "low": 2,
    "high": 3,
    "agree": 5,
    "runs": 5,
    "placement": "in_path",
    "method": "A",
    "networks": ["AS64496 \x1b[31mCarrier", ""],
    "packets": 100,
    "sent": 9000,
    "received": 4000,
}
PLACE = Located("relay", 2, 3, 5, 5, "A", "in_path", 0.0, ("AS64496 Carrier", ""))


class Desk:
    """A localiser with its store, and a tracer that does as its script says."""

    def __init__(self, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.clock = folder, clock
        self.store = Store(folder)
        self.traffic = Traffic()
        self.manners = Manners(Limits(0.1, 60, 200_000_000), self.traffic)
        self.orders = folder / "orders"
        self._patch = monkeypatch
        self.tracer(FOUND)
        self.localiser = self.made()

    def made(self, **given: Any) -> Localiser:
        settings = LocaliseSettings(**{"enabled": True, **given})
        env = environment(courtesy=self.manners)
        return Localiser(settings, self.store, env, self.manners, 0.0)

    def tracer(self, *told: Any, then: str = "") -> None:
        """It writes its order down, says ``told``, and does what comes ``then``."""
        lines = [one if isinstance(one, str) else json.dumps(one) for one in told]
        script = (
            "import os, sys, time\n"
            f"open({str(self.orders)!r}, 'a').write(sys.stdin.read() + '\\n')\n"
            f"open({str(self.orders)!r} + '.pid', 'w').write(str(os.getpid()))\n"
            f"for line in {lines!r}: print(line, flush=True)\n{then}\n"
        )
        command = (sys.executable, "-S", "-c", script)
        self._patch.setattr(tracedoor, "command", lambda: command)

    def asked(self) -> list[dict[str, Any]]:
        lines = self.orders.read_text().splitlines() if self.orders.exists() else []
        return [json.loads(line) for line in lines]

    async def round(self, *shown: Diagnosis, evidence: tuple[Evidence, ...] = ()) -> None:
        """One round, and what it began."""
        await self.localiser.after(shown, evidence or (relay(),), ())
        if self.localiser.busy:
            await until(lambda: not self.localiser.busy)

    async def running(self) -> int:
        """The pid of the tracer, once it has its order."""
        await until(self.pid)
        return self.pid()

    def forget_pid(self) -> None:
        Path(f"{self.orders}.pid").unlink()

    def pid(self) -> int:
        """0 while it has none."""
        file = Path(f"{self.orders}.pid")
        return int((file.read_text() if file.exists() else "") or 0)


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(localise, "time", clock.wall_only)
    made = Desk(tmp_path, clock, monkeypatch)
    yield made
    await made.localiser.stop()
    made.store.close()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


# --- from a finding to a place ---


async def test_a_likely_finding_is_placed_and_told(desk):
    await desk.round(found())
    told = desk.localiser.told(found())
    assert told.place == replace(PLACE, at=desk.clock.wall)
    assert told.summary == (
        "M calls: blocked. On the way to relay it is done between hop 2 (AS64496 Carrier) and"
        " hop 3; 5 of 5 runs agree."
    )
    (order,) = desk.asked()
    assert (order["kind"], order["address"], order["port"]) == ("stun", "198.51.100.1", 3478)
    assert (desk.traffic.sent, desk.traffic.received) == (9000, 4000)


@pytest.mark.parametrize(
    "one",
    [
        found(certainty=Certainty.SUSPECTED),
        found(mechanism=Mechanism.SERVER_OUTAGE),
        found(mechanism=Mechanism.THROTTLE_POLICED),
        found(findings=()),
        found(status=Status.OK),
        found(status=Status.UNKNOWN),
    ],
    ids=str,
)
async def test_nothing_else_is_traced(desk, one):
    await desk.round(one)
    assert desk.asked() == []
    assert desk.localiser.told(one) == one


async def test_what_is_not_enabled_never_starts(desk):
    desk.localiser = desk.made(enabled=False)
    await desk.round(found())
    assert desk.asked() == []


async def test_a_place_holds_for_its_mechanism_its_channel_and_a_day(desk):
    await desk.round(found())
    assert desk.localiser.told(found()).place
    for other in (
        found(mechanism=Mechanism.UDP_RELAY_BLOCK),
        found(channel="web"),
        found(certainty=Certainty.SUSPECTED),
        found(status=Status.UNKNOWN),
    ):
        assert desk.localiser.told(other) == other
    desk.clock.forward(DAY - 1)
    assert desk.localiser.told(found()).place
    desk.clock.forward(2)
    assert desk.localiser.told(found()) == found()


async def test_a_channel_that_is_ok_again_has_no_place(desk):
    await desk.round(found())
    await desk.round(found(status=Status.OK, channel="web"))
    assert desk.localiser.told(found()).place
    await desk.round(found(status=Status.OK))
    assert desk.localiser.told(found()) == found()
    assert desk.made().told(found()) == found(), "nor after a restart"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (PLACE, "between hop 2 (AS64496 Carrier) and hop 3; 5 of 5"),
        (replace(PLACE, high=None), "behind hop 2 (AS64496 Carrier); 5 of 5"),
        (replace(PLACE, low=0, high=1), "before the first router; 5 of 5"),
        (replace(PLACE, low=0, high=4), "within the first 4 hops; 5 of 5"),
    ],
)
def test_the_sentence(place, words):
    assert words in sentence(place)


# --- how often ---


async def test_a_fresh_outcome_is_not_asked_for_again(desk):
    await desk.round(found())
    desk.clock.forward(DAY / 3 - 1)
    await desk.round(found())
    assert len(desk.asked()) == 1
    desk.clock.forward(2)
    await desk.round(found())
    assert len(desk.asked()) == 2


@pytest.mark.parametrize("word", [str(w) for w in Word if w is not Word.FOUND])
async def test_nor_is_one_that_found_nothing(desk, word):
    desk.tracer({**FOUND, "result": word, "low": None, "high": None})
    await desk.round(found())
    await desk.round(found())
    assert len(desk.asked()) == 1
    assert desk.localiser.told(found()) == found()


async def test_another_mechanism_is_asked_for_but_a_target_so_often_a_day(desk):
    several = (Mechanism.IP_DROP, Mechanism.IP_REJECT, Mechanism.PORT_BLOCK, Mechanism.ALLOWLIST)
    for mechanism in several:
        await desk.round(found(mechanism=mechanism))
    assert len(desk.asked()) == 3
    other = replace(relay("other", address="198.51.100.2"))
    await desk.round(found(mechanism=Mechanism.ALLOWLIST), evidence=(relay(), other))
    assert desk.asked()[-1]["address"] == "198.51.100.2", "another target has its own"
    desk.clock.forward(DAY + 1)
    await desk.round(found(mechanism=Mechanism.ALLOWLIST))
    assert len(desk.asked()) == 5


async def test_it_is_one_at_a_time(desk):
    desk.tracer(then="time.sleep(60)")
    await desk.localiser.after([found(), found(channel="web")], (relay(),), ())
    pid = await desk.running()
    other = (relay("other", address="198.51.100.2"),)
    await desk.localiser.after([found(mechanism=Mechanism.IP_DROP)], other, ())
    await asyncio.sleep(0.2)
    assert len(desk.asked()) == 1
    assert not gone(pid)


async def test_a_restart_remembers_places_and_attempts(desk):
    await desk.round(found())
    desk.store.close()
    desk.store = Store(desk.folder)
    desk.localiser = desk.made()
    assert desk.localiser.told(found()).place == replace(PLACE, at=desk.clock.wall)
    await desk.round(found())
    assert len(desk.asked()) == 1
    for mechanism in (Mechanism.IP_DROP, Mechanism.IP_REJECT, Mechanism.PORT_BLOCK):
        await desk.round(found(mechanism=mechanism))
    assert len(desk.asked()) == 3


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"outcomes": [[1]]}', b'{"begun": 5}'])
async def test_a_damaged_memory_is_none(desk, kept):
    desk.store.put("localise", kept)
    desk.localiser = desk.made()
    assert desk.localiser.told(found()) == found()
    await desk.round(found())
    assert len(desk.asked()) == 1


async def test_an_attempt_that_was_cut_off_counts(desk):
    desk.tracer(then="time.sleep(60)")
    for _ in range(4):
        await desk.localiser.after([found()], (relay(),), ())
        if desk.localiser.busy:
            pid = await desk.running()
            async with asyncio.timeout(20):
                await desk.localiser.stop()
            assert gone(pid)
            desk.forget_pid()
            desk.localiser = desk.made()  # as after a reload
    assert len(desk.asked()) == 3


# --- when not ---


async def test_paused_or_spent_it_does_not_start(desk):
    desk.manners.paused = True
    await desk.round(found())
    desk.manners.paused = False
    desk.traffic.add(200_000_000 - MOST_BYTES + 1, 0)
    await desk.round(found())
    assert desk.asked() == []


async def test_stopped_it_kills_the_tracer_and_says_nothing(desk):
    desk.tracer({"packets": 7, "sent": 700, "received": 70}, then="time.sleep(60)")
    await desk.localiser.after([found()], (relay(),), ())
    pid = await desk.running()
    await until(lambda: desk.traffic.sent)
    assert desk.manners.is_spared("198.51.100.1"), "nobody else asks there meanwhile"
    await desk.localiser.stop()
    assert gone(pid)
    assert not desk.manners.is_spared("198.51.100.1")
    assert (desk.traffic.sent, desk.traffic.received) == (700, 70), "what was sent counts"
    assert desk.localiser.told(found()) == found()


async def test_it_waits_until_a_filter_has_forgotten(desk):
    desk.localiser._scale = 1.0
    desk.clock.wall = 1000.0
    one = target("page", host="198.51.100.1", probe=TlsProbe(), port=443)
    failed = seen(one, Failure.RESET, Step.TLS, at=990.0, before=(Step.CONNECT,))
    await desk.localiser.after([found()], (Evidence(one, (failed,), 0.0, True, True),), ())
    await asyncio.sleep(0.05)
    assert desk.localiser.busy
    assert desk.manners.is_spared("192.0.2.1")
    assert desk.asked() == []
    await desk.localiser.stop()
    assert desk.localiser._begun == {}, "nothing was sent"


async def test_another_network_ends_a_trace(desk):
    desk.tracer(then="time.sleep(60)")
    await desk.localiser.after([found()], (relay(),), ())
    pid = await desk.running()
    async with asyncio.timeout(20):
        await desk.localiser.forget()
    assert gone(pid)


async def test_another_network_has_another_path(desk):
    await desk.round(found())
    await desk.localiser.forget()
    assert desk.localiser.told(found()) == found()
    assert desk.made().told(found()) == found()


# --- a tracer that misbehaves ---


@pytest.mark.parametrize(
    "told",
    [
        "nonsense",
        "[]",
        "{}",
        "x" * 100_000,
        {**FOUND, "result": "guessed"},
        {**FOUND, "placement": "everywhere"},
        {**FOUND, "low": 3},
        {**FOUND, "low": -1},
        {**FOUND, "low": None},
        {**FOUND, "low": True},
        {**FOUND, "high": 300},
        {**FOUND, "high": "3"},
        {**FOUND, "agree": 1.5},
        {**FOUND, "networks": ["one"]},
        {**FOUND, "sent": -5},
        {"packets": 5, "sent": 1, "received": 1},
    ],
    ids=lambda told: str(told)[:40],
)
async def test_wrong_output_is_no_place(desk, told, caplog):
    desk.tracer(told)
    await desk.round(found())
    assert len(desk.asked()) == 1
    assert desk.localiser.told(found()) == found()
    assert "tracer" in caplog.text
    assert "bug" not in caplog.text
    await desk.round(found())
    assert len(desk.asked()) == 1, "it is not tried again at once"


async def test_one_that_does_not_end_is_killed(desk, monkeypatch, caplog):
    monkeypatch.setattr(tracedoor, "LIMIT", 0.0)
    monkeypatch.setattr(tracedoor, "OVERDUE", 0.5)
    desk.tracer(then="time.sleep(60)")
    told = await tracedoor.trace(replace(Order("tcp", "127.0.0.1", 9), limit=0.0), lambda *_: None)
    assert told is None
    assert gone(await desk.running())
    assert "does not come to an end" in caplog.text


async def test_one_that_cannot_start_is_said(desk, monkeypatch, caplog):
    monkeypatch.setattr(tracedoor, "command", lambda: ("/nowhere/at-all",))
    await desk.round(found())
    assert "cannot start" in caplog.text


def test_what_a_result_says():
    one = traced(FOUND)
    assert (one.low, one.high, one.networks[1]) == (2, 3, "")
    assert traced({**FOUND, "high": None}).high is None
    nothing = traced({**FOUND, "result": "no_interference"})
    assert (nothing.low, nothing.high) == (None, None)


def test_the_words_are_the_tracers():
    assert set(tracedoor._WORDS) == {str(word) for word in Word}
    assert set(tracedoor.PLACEMENTS) == {str(one) for one in Placement}


# --- in the agent ---


async def test_the_agent_stops_it_forgets_it_and_shows_it(line):
    line.core = line.make(profile="research", risks="accepted", localise={"enabled": True})
    stopped, forgotten = [], []

    class Told:
        async def after(self, shown: Any, evidence: Any, controls: Any) -> None:
            assert {e.config.target.messenger for e in evidence} == {"m"}
            assert {e.config.target.messenger for e in controls} == {"control"}

        def told(self, d: Diagnosis) -> Diagnosis:
            return replace(d, place=PLACE)

        async def stop(self) -> None:
            stopped.append(1)

        async def forget(self) -> None:
            forgotten.append(1)

    line.core.localiser = Told()
    shown = await line.round()
    assert shown["call"].place == PLACE
    assert line.updates[-1].report.diagnoses[0].place == PLACE
    line.move("203.0.113.200", "lan")
    await line.round(2)
    assert forgotten
    await line.core.stop()
    assert stopped


async def test_the_agent_dies_and_so_does_its_tracer(tmp_path):
    """Killed at once, it cannot tell anybody."""
    script = f"""
import asyncio, os, sys
from agent import tracedoor
async def main():
    order = tracedoor.Order("udp", "127.0.0.1", 9)
    await tracedoor.trace(order, lambda *_: None)
tracedoor.command = lambda: (sys.executable, "-c", '''
import os, sys, time
from agent.tracer import die_with
die_with(int(sys.argv[1]))
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
time.sleep(60)
''', str(os.getpid()))
asyncio.run(main())
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    pid = tmp_path / "pid"
    await until(lambda: pid.exists() and pid.read_text())
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    await until(lambda: ended(int(pid.read_text())))


def ended(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


_WEIGHED = """
import sys
from agent.core import Core
from agent.store import Store
from config.loader import load
from exporters.feed import AgentFigures
from pathlib import Path
core = Core(load(Path(sys.argv[1])), Store(Path(sys.argv[2])), AgentFigures(), lambda u: None)
rss = Path("/proc/self/smaps_rollup").read_text().split("Pss:")[1].split()[0]
print(rss, *sorted(sys.modules))
"""


def test_idle_it_costs_nothing(tmp_path):
    """The agent has nothing of the tracer in memory, whether it may start one or not."""

    def weighed(enabled: bool) -> tuple[int, set[str]]:
        file = tmp_path / f"{enabled}.yaml"
        file.write_text(
            "profile: research\nrisks: accepted\nvantage: {country: RU}\n"
            f"localise: {{enabled: {str(enabled).lower()}}}\n"
        )
        command = [sys.executable, "-c", _WEIGHED, str(file), str(tmp_path / str(enabled))]
        rss, *modules = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
        ).stdout.split()
        return int(rss), set(modules)

    (least, without), (most, with_it) = weighed(False), weighed(True)
    assert without == with_it
    assert not {m for m in with_it if m.startswith(("probes.trace", "probes.net.hops", "scapy"))}
    assert not with_it & {"agent.tracer", "agent.tracing"}
    assert most < 1.05 * least
