"""The agent between its parts: rounds in, states and figures out. No probe touches the network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent import core as core_module
from agent.check import one_round
from agent.knobs import knobs_of
from agent.plan import PER_ROUND, Cadence
from agent.rounds import Beat
from agent.state import ChannelState
from agent.store import Store
from config.loader import load
from probes.model import CONTROL, Proof, Status, VantageStatus
from tests.agent.building import FakeStun, FakeTcp, FakeTls, messenger, target
from tests.agent.line import CHAT, OURS, RELAYS, STUN, WEB

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


HOSTS = [f"198.51.100.{n}" for n in range(60, 90)]


async def test_when_some_of_a_large_group_fall_the_rest_is_asked_in_the_same_round(line):
    """Or those whose turn it was not, and that worked some minutes ago, outvote what was seen."""
    group = [
        target(f"host{n}", channel="chat", host=a, probe=FakeTcp(line.world))
        for n, a in enumerate(HOSTS)
    ]
    healthy = [
        target(f"page{n}", channel="web", host=f"198.51.100.{n}", probe=FakeTcp(line.world))
        for n in range(100, 130)
    ]
    line.core = line.make(messenger(*group, *healthy))
    for _ in range(5):
        line.world.asked.clear()
        await line.round()
        assert sum(bool(line.world.times(a)) for a in HOSTS) == PER_ROUND
    line.world.asked.clear()
    line.world.silent.update(HOSTS)
    await line.round()
    assert [line.world.times(a) for a in HOSTS] == [1] * len(HOSTS)
    assert sum(line.world.times(t.host) for t in healthy) == PER_ROUND, "which have not fallen"
    third = await line.statuses(2)
    assert third == {"chat": "unreachable", "web": "ok"}, "after three rounds, like any other"
    assert {line.world.times(a) for a in HOSTS} == {3}


async def test_nothing_is_asked_twice_in_a_round_because_something_fell(line):
    """A name that was only connected to has had its turn: its handshake is for the next round."""
    names = [
        target(f"name{n}", channel="chat", host=a, probe=FakeTls(line.world))
        for n, a in enumerate(HOSTS[:12])
    ]
    line.core = line.make(messenger(*names))
    await line.round(8)
    for _ in range(4):
        line.world.asked.clear()
        line.world.silent = {HOSTS[0]} - line.world.silent  # falls, and is back
        await line.round()
        assert max(line.world.times(a) for a in HOSTS[:12]) == 1


@pytest.mark.parametrize(("late", "votes"), [(0.0, 2), (25.0, 2)])
async def test_it_is_the_beginnings_of_rounds_that_are_an_interval_apart(line, late, votes):
    """However long the first of two took."""
    await line.round()
    line.world.silent.update(RELAYS)
    before = len(line.core.states["m", "call"].votes)
    ask = line.core._ask

    async def slowly(*given: Any) -> Any:
        ran = await ask(*given)
        line.clock.forward(late)
        return ran

    line.core._ask = slowly
    await line.round(seconds=60.0 - late)
    line.core._ask = ask
    await line.round()
    assert len(line.core.states["m", "call"].votes) == before + votes


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

    def noting(self: Store, *work: Any, **given: Any) -> bool:
        wrote.append(threading.current_thread() is threading.main_thread())
        return write(self, *work, **given)

    monkeypatch.setattr(Store, "_write", noting)
    line.core.everything()
    assert wrote == []
    await line.round()
    assert wrote
    assert not any(wrote)


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
    line.move("100.64.7.7", "lte")
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
    """Otherwise handshakes would be asked more rarely by default, and shown later. Streams come
    every ten minutes to fifteen."""
    made = knobs_of(load(None)).cadence
    assert made == Cadence(60, 300, 6 * 3600, made.media_interval, made.phase)
    assert 600 <= made.media_interval <= 900


async def test_what_becomes_of_the_line_is_in_the_log(line, caplog):
    caplog.set_level("INFO", "agent.logs")
    await line.round(2)
    assert "this line" not in caplog.text, "online from the start is no news"
    before = set(line.world.silent)
    line.cut()
    await line.round(4)
    [said] = [r for r in caplog.records if "this line" in r.getMessage()]
    assert said.levelname == "WARNING"
    assert said.getMessage().startswith("this line: online -> offline: ")
    line.world.silent = before
    await line.round(3)
    assert caplog.text.count("this line: offline -> online") == 1
