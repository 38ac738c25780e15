"""The agent between its parts: rounds in, states and figures out. No probe touches the network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent import core as core_module
from agent import learned, manners, network, rounds
from agent.check import one_round
from agent.core import QUIET_ROUNDS, Core
from agent.knobs import knobs_of
from agent.plan import Cadence
from agent.rounds import Beat
from agent.state import ChannelState
from agent.store import Store
from config.loader import load
from config.model import MessengerConfig, TargetConfig
from exporters.feed import AgentFigures, Update
from exporters.mirror import Mirror
from exporters.prometheus import render
from probes.model import CONTROL, Proof, Role, Status, VantageStatus
from tests.agent.building import (
    Clock,
    FakeStun,
    FakeTls,
    World,
    configuration,
    control,
    messenger,
    target,
    until,
)

RELAYS = [f"198.51.100.{n}" for n in range(1, 6)]
CHAT = "198.51.100.50"
WEB = [f"203.0.113.{n}" for n in range(1, 5)]
STUN = [f"203.0.113.{n}" for n in range(11, 14)]
OURS = "192.0.2.77"


class Line:
    """A small world, a clock, and an agent that is driven round by round."""

    def __init__(self, clock: Clock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.world = World(mapped=dict.fromkeys(STUN, OURS))
        self.attachment = "wlan"
        self.updates: list[Update] = []
        self.figures = AgentFigures()
        self.store = Store(folder)
        self.core = self.make()

    def controls(self) -> tuple[TargetConfig, ...]:
        return (
            *(
                control(f"web{n}", host=address, kind="", probe=FakeTls(self.world), port=443)
                for n, address in enumerate(WEB)
            ),
            *(
                control(f"stun{n}", Role.STUN, host=address, probe=FakeStun(self.world))
                for n, address in enumerate(STUN)
            ),
        )

    def messenger(self, name: str = "m", **given: Any) -> MessengerConfig:
        relays = (
            target(f"relay{n}", messenger=name, host=a, probe=FakeStun(self.world), **given)
            for n, a in enumerate(RELAYS)
        )
        chat = target("chat", messenger=name, channel="chat", host=CHAT, probe=FakeTls(self.world))
        return messenger(*relays, chat, name=name)

    def make(self, *messengers: MessengerConfig, store: Store | None = None, **sections: Any):
        messengers = messengers or (self.messenger(),)
        config = configuration(messengers, self.controls(), **sections)
        return Core(config, store or self.store, self.figures, self.updates.append)

    async def round(self, count: int = 1, *, seconds: float = 66.0, name: str = "m", **given: Any):
        """So many rounds; what the last one showed, by channel."""
        shown = ()
        for _ in range(count):
            shown = await self.core.run_messenger(name, Beat(self.clock.wall, **given))
            self.clock.forward(seconds)
        return {d.channel: d for d in shown}

    async def statuses(self, count: int = 1) -> dict[str, str]:
        shown = await self.round(count)
        return {channel: str(d.status) for channel, d in shown.items()}

    def cut(self) -> None:
        self.world.silent |= {*RELAYS, CHAT, *WEB, *STUN}

    def restart(self, seconds: float = 1.0) -> None:
        self.store.close()
        self.clock.forward(seconds)
        self.store = Store(self.folder)
        self.core = self.make()


@pytest.fixture
async def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    for module in (core_module, learned, manners):
        monkeypatch.setattr(module, "time", clock.module)
    monkeypatch.setattr("probes.measure.time", clock.wall_only)
    monkeypatch.setattr(rounds, "time", clock.wall_only)
    monkeypatch.setattr(rounds, "SPREAD", 0.0)
    monkeypatch.setattr(rounds, "PER_CHECK", 0.0)
    monkeypatch.setattr(core_module, "default_route", lambda: ("eth0", ""))
    monkeypatch.setattr(core_module, "is_tunnel", lambda interface: False)
    made = Line(clock, tmp_path / "state")
    monkeypatch.setattr(network, "attachment", lambda key: made.attachment)
    yield made
    await made.core.stop()
    made.store.close()


# --- from observation to status --------------------------------------------------------------


async def test_from_controls_and_messenger_to_what_is_published(line):
    assert await line.statuses() == {"call": "ok", "chat": "ok"}
    update = line.updates[-1]
    assert update.ready
    assert update.report.vantage.status is VantageStatus.ONLINE
    assert {d.channel: d.status for d in update.report.diagnoses} == {
        "call": Status.OK,
        "chat": Status.OK,
    }
    relay = update.targets[("m", "relay0")]
    assert (relay.runs, relay.success, relay.proven, relay.rtt) == (1, True, True, 0.03)
    assert relay.expires > line.clock.wall
    assert update.channels[("m", "call")].success_ratio == 1.0
    assert update.agent.rounds == {"m": 1, CONTROL: 1}
    assert update.agent.sent_bytes > 0
    assert OURS not in repr(line.updates)


async def test_only_what_changed_is_published(line):
    line.core = line.make(line.messenger(), line.messenger("n"))
    await line.round(name="m")
    assert {d.messenger for d in line.updates[-1].report.diagnoses} == {"m"}
    assert set(line.updates[-1].channels) == {("m", "call"), ("m", "chat")}
    assert {m for m, _ in line.updates[-1].targets} == {"m"}
    await line.round(name="n")
    assert {d.messenger for d in line.updates[-1].report.diagnoses} == {"n"}


async def test_a_line_that_goes_dark_changes_the_channels_of_every_messenger(line):
    line.core = line.make(line.messenger(), line.messenger("n"))
    await line.round(name="m")
    await line.round(name="n")
    line.world.silent.update((*WEB, *STUN, *RELAYS, CHAT))
    seen = len(line.updates)
    await line.round(4, name="m")  # n has no round in which it could say so itself
    said = [d for u in line.updates[seen:] for d in u.report.diagnoses if d.messenger == "n"]
    assert {(d.channel, d.status, d.reason) for d in said} == {
        ("call", Status.UNKNOWN, "offline"),
        ("chat", Status.UNKNOWN, "offline"),
    }
    assert len(said) == 2, "once, and not with every update"


async def test_every_round_knows_how_many_checks_start_beside_its_own(line):
    line.core = line.make(line.messenger(), line.messenger("n"))
    everything = len(line.controls()) + 2 * (len(RELAYS) + 1)
    for runner in (line.core.controls, *line.core.runners.values()):
        assert runner.others + len(runner.targets) == everything


async def test_a_call_block_shows_after_three_rounds_and_lifts_after_seven(line):
    await line.round()
    line.world.silent.update(RELAYS)
    assert await line.statuses(2) == {"call": "ok", "chat": "ok"}
    shown = await line.round()
    assert shown["call"].status is Status.UNREACHABLE
    assert shown["call"].reason == "exchange:timeout"
    assert shown["chat"].status is Status.OK
    line.world.silent.clear()
    assert await line.statuses(6) == {"call": "unreachable", "chat": "ok"}
    assert await line.statuses() == {"call": "ok", "chat": "ok"}


async def test_what_only_a_handshake_shows_is_asked_every_round_once_it_fails(line):
    await line.round(2)
    line.world.resetting.add(CHAT)
    found = []
    for _ in range(8):
        found.append((await line.statuses())["chat"])
    assert found[:5] == ["ok"] * 5
    assert found[-1] == "unreachable"
    line.world.resetting.clear()
    # Decided, it is asked every five minutes again, and every round from the first good one on.
    assert (await line.statuses(6))["chat"] == "unreachable"
    assert (await line.statuses(5))["chat"] == "ok"


async def test_one_observation_has_one_vote_however_long_it_is_evidence(line):
    rare = target("rare", channel="web", host=CHAT, probe=FakeTls(line.world), interval=1800.0)
    line.core = line.make(messenger(rare))
    await line.round()
    line.world.silent.add(CHAT)
    await line.round(28)
    before = line.world.times(CHAT)
    for _ in range(20):
        shown = await line.round()
        assert shown["web"].status is Status.OK
    assert line.world.times(CHAT) == before == 2


async def test_a_rare_targets_failure_has_one_vote_while_others_are_asked_every_round(line):
    rare = target("rare", channel="web", host=CHAT, probe=FakeTls(line.world), interval=1800.0)
    fast = target("fast", channel="web", host=RELAYS[0], probe=FakeStun(line.world))
    line.core = line.make(messenger(rare, fast))
    await line.round()
    line.world.silent.add(CHAT)
    for _ in range(50):
        shown = await line.round()
        assert shown["web"].status is Status.OK
    assert line.world.times(CHAT) == 2
    assert shown["web"].reason == "confirmed_ok", "and what it saw is not hidden"


async def test_a_failure_before_the_budget_ended_accuses_nobody_after_it(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round()
    line.core.manners.limits.bytes_per_day = 1
    for _ in range(6):
        assert (await line.statuses())["call"] in ("ok", "unknown")


async def test_seventy_percent_of_the_relays_is_degraded(line):
    await line.round()
    line.world.silent.update(RELAYS[:2])
    shown = await line.round(3)
    assert (shown["call"].status, shown["call"].reason) == (Status.DEGRADED, "quorum")


async def test_a_bad_start_is_not_believed_at_once(line):
    line.world.silent.update(RELAYS)
    shown = await line.round()
    assert (shown["call"].status, shown["call"].reason) == (Status.UNKNOWN, "settling")
    shown = await line.round(2)
    assert shown["call"].status is Status.UNREACHABLE


async def test_an_agent_that_starts_inside_a_block_says_that_it_is_blind(line):
    line.core = line.make(line.messenger(proof=Proof.UNPROVEN))
    line.world.silent.update(RELAYS)
    shown = await line.round(12)
    assert (shown["call"].status, shown["call"].reason) == (Status.UNKNOWN, "uncalibrated")
    line.world.silent.clear()
    assert (await line.statuses(20))["call"] == "ok"
    line.world.silent.update(RELAYS)
    assert (await line.statuses(3))["call"] == "unreachable"


# --- the vantage -----------------------------------------------------------------------------


async def test_an_offline_line_hides_everything_and_accuses_nobody(line):
    await line.round()
    line.cut()
    assert await line.statuses() == {"call": "ok", "chat": "ok"}  # half a minute is no state
    shown = await line.round()
    assert {d.status for d in shown.values()} == {Status.UNKNOWN}
    assert {d.reason for d in shown.values()} == {"offline"}
    assert line.core.vantage().status is VantageStatus.OFFLINE
    assert await line.statuses(30) == {"call": "unknown", "chat": "unknown"}
    line.world.silent.clear()
    assert await line.statuses() == {"call": "ok", "chat": "ok"}


async def test_bad_rounds_before_an_outage_do_not_count_after_it(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(2)
    line.cut()
    await line.round()
    line.world.silent = set(RELAYS)
    assert (await line.statuses(2))["call"] == "ok"
    assert (await line.statuses(1))["call"] == "unreachable"


async def test_a_beat_that_the_host_slept_through_counts_for_nothing(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(5, spoiled=True)
    line.world.silent.clear()
    assert (await line.statuses())["call"] == "ok"
    record = line.core.learned.trust[("m", "relay0", "bare")]
    assert record.runs == 2


async def test_an_outage_undoes_no_trust(line):
    line.core = line.make(line.messenger(proof=Proof.UNPROVEN))
    await line.round(10)
    line.cut()
    await line.round(50)
    assert all(line.core.learned.proven(t) for t in line.core.messengers["m"].targets)


async def test_failing_controls_are_asked_in_full_at_once(line):
    await line.round()
    line.world.resetting.update(WEB)
    await line.round(4)  # the handshake is not due: only its connect step is asked
    line.world.asked.clear()
    await line.round(2)
    assert (WEB[0], False) in line.world.asked
    line.world.asked.clear()
    await line.round()
    assert (WEB[0], False) in line.world.asked


async def test_without_a_measured_control_nothing_counts(line):
    """As when the controls' checks all hang, or manners forbid them."""
    await line.round()
    line.world.silent.update(RELAYS)
    line.clock.forward(3600)
    line.world.buggy.update({*WEB, *STUN})
    shown = await line.round()
    assert shown["call"].status is not Status.UNREACHABLE
    shown = await line.round(5)
    assert (shown["call"].status, shown["call"].reason) == (Status.UNKNOWN, "not_measured")
    assert line.core.vantage().status is VantageStatus.ONLINE
    assert "no control was measured" in line.core.vantage().reason


async def test_a_line_that_was_offline_is_not_online_for_want_of_measuring(line):
    await line.round()
    line.cut()
    await line.round(2)
    line.clock.forward(3600)
    line.world.buggy.update({*WEB, *STUN})
    shown = await line.round(3)
    assert line.core.vantage().status is VantageStatus.OFFLINE
    assert {d.reason for d in shown.values()} == {"offline"}


async def test_a_bug_in_the_controls_costs_the_round_and_not_the_agent(line, monkeypatch, caplog):
    await line.round()
    judge = core_module.judge

    def broken(*arguments: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(core_module, "judge", broken)
    assert await line.round() == {}
    assert "bug in the controls' round" in caplog.text
    monkeypatch.setattr(core_module, "judge", judge)
    assert await line.statuses() == {"call": "ok", "chat": "ok"}


async def test_the_controls_of_a_beat_run_once_for_all_messengers(line):
    line.core = line.make(line.messenger("m"), line.messenger("n"))
    beat = Beat(line.clock.wall)
    await asyncio.gather(*(line.core.run_messenger(name, beat) for name in "mn"))
    assert line.world.times(STUN[0]) == 1
    assert line.world.times(RELAYS[0]) == 1  # and so does any other question that is the same
    assert line.figures.rounds == {"m": 1, "n": 1, CONTROL: 1}


# --- nothing may be asked --------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["paused", "byte_budget"])
async def test_when_nothing_may_be_asked_nothing_is_known_soon(line, reason):
    await line.round()
    if reason == "paused":
        line.core.manners.paused = True
    else:
        line.core.manners.limits.bytes_per_day = 1
    line.world.asked.clear()
    await line.round()
    shown = await line.round()
    assert {(d.status, d.reason) for d in shown.values()} == {(Status.UNKNOWN, "not_measured")}
    assert line.world.asked == []
    assert line.core.vantage().status is VantageStatus.ONLINE, "not measured is not offline"
    assert line.figures.checks_skipped[reason] == 2 * 6
    line.core.manners.paused = False
    line.core.manners.limits.bytes_per_day = 10**9
    assert await line.statuses() == {"call": "ok", "chat": "ok"}


async def test_bytes_of_today_survive_a_restart(line):
    await line.round(3)
    spent = line.core.manners.spent_today()
    assert spent > 0
    line.restart()
    assert line.core.manners.spent_today() == spent
    assert line.core.env.traffic.sent == 0


async def test_a_slow_disk_delays_no_measurement(line, monkeypatch):
    """Between rounds nothing is written, and in rounds never in the loop's own thread."""
    await line.round()
    import threading

    wrote: list[bool] = []
    write = Store._write

    def noting(self: Store, *arguments: Any) -> None:
        wrote.append(threading.current_thread() is threading.main_thread())
        write(self, *arguments)

    monkeypatch.setattr(Store, "_write", noting)
    line.core.everything()
    assert wrote == []
    await line.round()
    assert wrote
    assert not any(wrote)


# --- networks --------------------------------------------------------------------------------


def move(line: Line, address: str, attachment: str) -> None:
    line.world.mapped = dict.fromkeys(STUN, address)
    line.attachment = attachment


async def test_another_network_begins_anew_after_two_quiet_rounds(line):
    await line.round()
    line.world.silent.update(RELAYS)
    assert (await line.statuses(3))["call"] == "unreachable"
    move(line, "100.64.7.7", "lte")
    for _ in range(QUIET_ROUNDS):
        shown = await line.round()
        assert {d.reason for d in shown.values()} == {"network_changed"}
        assert {d.status for d in shown.values()} == {Status.UNKNOWN}
    shown = await line.round()
    assert shown["call"].reason == "settling"
    assert shown["chat"].status is Status.OK
    assert line.figures.network_changes == 1
    assert (await line.statuses(2))["call"] == "unreachable"


async def test_a_network_that_changes_while_a_round_is_under_way_breaks_nothing(line, caplog):
    """The controls are heard before the messenger's own checks have ended."""
    await line.round()
    move(line, "100.64.7.7", "lte")
    line.world.hanging.add(RELAYS[0])
    task = asyncio.create_task(line.round())
    await until(lambda: line.figures.network_changes)
    line.world.hanging.clear()
    shown = await task
    assert {d.reason for d in shown.values()} == {"network_changed"}
    await line.round()
    assert await line.statuses() == {"call": "ok", "chat": "ok"}
    assert "bug" not in caplog.text


async def test_what_worked_at_home_is_no_evidence_elsewhere(line):
    assert (await line.statuses())["chat"] == "ok"
    move(line, "100.64.7.7", "lte")
    line.world.resetting.add(CHAT)
    await line.round(QUIET_ROUNDS)
    shown = await line.round()
    assert shown["chat"].reason == "settling"


async def test_back_home_trust_is_still_there(line):
    line.core = line.make(line.messenger(proof=Proof.UNPROVEN))
    await line.round(10)
    assert line.core.learned.proven(line.core.messengers["m"].targets[0])
    move(line, "100.64.7.7", "lte")
    await line.round()
    assert not line.core.learned.proven(line.core.messengers["m"].targets[0])
    move(line, OURS, "wlan")
    await line.round()
    assert line.core.learned.proven(line.core.messengers["m"].targets[0])


# --- restart and reload ----------------------------------------------------------------------


async def test_the_next_start_goes_on_with_what_was_confirmed(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(3)
    line.restart()
    before = {d.channel: d.status for d in line.core.report().diagnoses}
    assert before == {"call": Status.UNREACHABLE, "chat": Status.OK}
    assert not line.core.ready
    assert (await line.statuses())["call"] == "unreachable"


async def test_a_restart_in_the_middle_of_counting_goes_on_counting(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(2)
    line.restart()
    assert (await line.statuses())["call"] == "unreachable"


async def test_after_days_off_two_old_rounds_are_not_in_a_row_with_a_new_one(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(2)
    line.restart(3 * 86400)
    assert (await line.statuses())["call"] == "ok"


async def test_before_the_first_round_every_channel_is_there(line):
    report = line.core.report()
    assert {(d.channel, d.status, d.reason) for d in report.diagnoses} == {
        ("call", Status.UNKNOWN, "starting"),
        ("chat", Status.UNKNOWN, "starting"),
    }
    assert {d.deciding for d in report.diagnoses} == {5, 1}


async def test_a_reload_keeps_what_was_measured_and_what_manners_know(line):
    await line.round(2)
    old = line.core
    sent = old.env.traffic.sent
    line.core = line.make(line.messenger())
    line.core.take_over(old)
    assert line.core.env.traffic.sent == sent
    assert line.core.ready
    assert {d.status for d in line.core.report().diagnoses} == {Status.OK}
    assert OURS in line.core.env.own.mapped, "our address stays known, or it would leak"
    assert line.core.ledger.targets[("m", "relay0")].runs == 2
    line.world.asked.clear()
    shown = await line.core.run_messenger("m", Beat(line.clock.wall - 60))
    assert {d.status for d in shown} == {Status.OK}


async def test_a_reload_right_after_another_network_stays_quiet(line):
    await line.round()
    move(line, "100.64.7.7", "lte")
    await line.round()
    old = line.core
    line.core = line.make(line.messenger())
    line.core.take_over(old)
    shown = await line.round()
    assert {d.reason for d in shown.values()} == {"network_changed"}


async def test_series_of_removed_targets_disappear_at_a_reload(line):
    await line.round()
    old, mirror = line.core, Mirror()
    mirror.apply(old.everything(), 0.0)
    assert b'target="relay4"' in render(mirror, "", line.clock.wall)[0]
    fewer = messenger(*line.messenger().targets[:2])
    line.core = line.make(fewer)
    line.core.take_over(old)
    await line.round()
    mirror.apply(line.core.everything(), 1.0)
    for update in line.updates[-2:]:
        mirror.apply(update, 2.0)
    page = render(mirror, "", line.clock.wall)[0]
    assert b'target="relay1"' in page
    assert b'target="relay4"' not in page


async def test_what_was_stopped_publishes_nothing_more(line):
    await line.round()
    line.world.hanging.update(STUN)
    beat = Beat(line.clock.wall)
    task = asyncio.create_task(line.core.run_messenger("m", beat))
    await until(lambda: line.world.sending[STUN[0]])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    published = len(line.updates)
    await line.core.stop()
    line.world.hanging.clear()
    await asyncio.sleep(0.1)
    assert len(line.updates) == published
    assert beat.controls is not None
    assert beat.controls.done()


# --- one round by hand -----------------------------------------------------------------------


async def test_check_says_what_its_one_round_saw(line):
    line.world.silent.update(RELAYS)
    report = await one_round(line.core, ("m",))
    assert {d.channel: d.status for d in report.diagnoses} == {
        "call": Status.UNREACHABLE,
        "chat": Status.OK,
    }
    assert report.vantage.status is VantageStatus.ONLINE
    seen = {(o.target.messenger, o.target.name) for o in report.observations}
    assert seen == {
        *(("m", f"relay{n}") for n in range(5)),
        ("m", "chat"),
        *((CONTROL, f"web{n}") for n in range(4)),
        *((CONTROL, f"stun{n}") for n in range(3)),
    }


async def test_check_learns_and_never_writes_channel_state(line):
    line.core = line.make(line.messenger(proof=Proof.CAPTURED))
    report = await one_round(line.core, ("m",))
    assert {d.status for d in report.diagnoses} == {Status.OK}, "proven by this very round"
    assert line.store.states(line.core.learned.network) == {}
    assert line.store.trust(line.core.learned.network)
    assert line.store.get("bytes_today")


async def test_check_on_another_network_leaves_the_agents_states_alone(line):
    await line.round()
    home = line.core.learned.network
    assert line.store.states(home)
    move(line, "100.64.7.7", "lte")
    line.core = line.make()
    await one_round(line.core, ("m",))
    assert line.store.states(home)
    # And the agent, started here, takes nothing from there for its own.
    line.restart()
    assert line.core.learned.network != home
    assert line.core.states == {}


async def test_check_offline(line):
    line.cut()
    report = await one_round(line.core, ("m",))
    assert report.vantage.status is VantageStatus.OFFLINE
    assert {d.status for d in report.diagnoses} == {Status.UNKNOWN}


async def test_check_when_nothing_may_be_asked_does_not_say_offline(line):
    line.core.manners.paused = True
    report = await one_round(line.core, ("m",))
    assert report.vantage.status is not VantageStatus.OFFLINE
    assert {(d.status, d.reason) for d in report.diagnoses} == {(Status.UNKNOWN, "not_measured")}


# --- figures ---------------------------------------------------------------------------------


async def test_gauges_of_a_target_outlive_its_turn_and_not_three(line):
    await line.round()
    relay = line.core.ledger.targets[("m", "relay0")]
    asked = line.clock.wall - 66
    assert relay.expires - asked == pytest.approx(180)
    chat = line.core.ledger.targets[("m", "chat")]
    assert chat.expires - asked == pytest.approx(900)


async def test_a_family_in_which_no_control_works_is_in_no_figure(line, monkeypatch):
    monkeypatch.setattr("probes.measure.is_askable", lambda address: True)
    six = "2001:db8::5"
    line.world.silent.add(six)
    both = target("relay", host=RELAYS[0], addresses=(six,), probe=FakeStun(line.world))
    line.core = line.make(messenger(both))
    shown = await line.round()
    assert shown["call"].status is Status.OK
    assert line.world.times(six) == 1
    figures = line.core.ledger.targets[("m", "relay")]
    assert (figures.runs, dict(figures.failures), figures.family) == (1, {}, "ipv4")
    await line.round()
    assert line.world.times(six) == 1, "and is not asked while it does not work here"


async def test_states_are_values_of_their_own(line):
    await line.round()
    assert isinstance(line.core.states[("m", "call")], ChannelState)


def test_the_shipped_plan_fits_its_byte_budget():
    """Otherwise handshakes would be asked more rarely by default, and shown later."""
    made = knobs_of(load(None)).cadence
    assert made == Cadence(60, 300, 6 * 3600, made.phase)
