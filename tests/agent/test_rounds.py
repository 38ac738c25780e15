"""A round of one messenger, with probes that touch no network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from agent import rounds
from agent.diagnosis import Evidence
from agent.manners import Limits, Manners
from agent.plan import PER_ROUND, Cadence
from agent.rounds import (
    Beat,
    Runner,
    control_results,
    lateness,
    mapped_by_owner,
    spacing,
)
from probes.measure import BOTH
from probes.model import Family
from probes.net.environment import Traffic
from tests.agent.building import (
    Clock,
    FakeStun,
    FakeTcp,
    FakeTls,
    World,
    environment,
    seen,
    target,
    until,
)

CADENCE = Cadence(60, 300)
QUICK = Cadence(0.5, 2.5)
CALM: frozenset[str] = frozenset()
A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The wall clock moves only when told; checks start at once."""
    clock = Clock()
    monkeypatch.setattr(rounds, "time", clock.wall_only)
    monkeypatch.setattr("probes.measure.time", clock.wall_only)
    monkeypatch.setattr(rounds, "SPREAD", 0.0)
    monkeypatch.setattr(rounds, "PER_CHECK", 0.0)
    return clock


def runner(*targets, courtesy=None) -> Runner:
    env = environment(**({"courtesy": courtesy} if courtesy else {}))
    return Runner("m", targets, env, asyncio.Semaphore(64))


def names(ran: rounds.Ran) -> list[str]:
    return sorted(f.ask.target.target.name for f in ran.finished)


async def ask(of: Runner, cadence=CADENCE, undecided=CALM, **given):
    return await of.run(Beat(0.0), cadence, undecided, BOTH, **given)


def fresh(of: Runner, ran: rounds.Ran, clock: Clock, cadence=CADENCE) -> dict[str, bool]:
    found = of.evidence(ran, cadence, lambda t: True, clock.wall)
    return {e.config.target.name: e.fresh for e in found}


async def test_what_is_due_is_asked_and_remembered(clock):
    world = World(silent={B})
    of = runner(target("a", probe=FakeStun(world)), target("b", probe=FakeStun(world), host=B))
    ran = await ask(of)
    assert names(ran) == ["a", "b"]
    assert (ran.unfinished, ran.skipped) == (frozenset(), ())
    works = {f.ask.target.target.name: f.measured.observations[0].works for f in ran.finished}
    assert works == {"a": True, "b": False}
    assert names(await ask(of)) == []
    clock.forward(60)
    assert names(await ask(of)) == ["a", "b"]


async def test_between_handshakes_only_the_connect_step_is_asked(clock):
    world = World()
    of = runner(target("a", probe=FakeTls(world)))
    await ask(of)
    for _ in range(4):
        clock.forward(60)
        await ask(of)
    clock.forward(60)
    await ask(of)
    assert world.asked == [(A, False), *[(A, True)] * 4, (A, False)]


async def test_that_it_connects_does_not_undo_what_the_handshake_said(clock):
    world = World(resetting={A})
    of = runner(target("a", probe=FakeTls(world)))
    await ask(of)
    world.resetting.clear()
    clock.forward(60)
    ran = await ask(of)
    assert rounds.concluded(ran) == frozenset()
    (evidence,) = of.evidence(ran, CADENCE, lambda t: True, clock.wall)
    assert [o.works for o in evidence.observations] == [False]
    assert evidence.last_run == clock.wall
    # That it does not connect says all.
    world.silent.add(A)
    clock.forward(60)
    ran = await ask(of)
    assert rounds.concluded(ran) == {"a"}


async def test_what_our_own_question_left_behind_is_no_evidence(clock):
    """A filter that remembers the name refuses whoever comes back: the connection that is asked
    while the name waits says nothing new."""
    world = World(resetting={A})
    of = runner(target("page", probe=FakeTls(world), host=A))
    await ask(of)
    cut = of.seen["page"].conclusive
    world.silent.add(A)
    clock.forward(60)
    ran = await ask(of, undecided=frozenset({"call"}))
    assert world.asked[-1] == (A, True)
    assert not ran.finished
    assert "residual" in ran.skipped
    assert of.seen["page"].conclusive is cut
    clock.forward(60)  # 90 s after a reset the filter has forgotten
    ran = await ask(of, undecided=frozenset({"call"}))
    assert names(ran) == ["page"]
    assert of.seen["page"].conclusive is not cut


async def test_informative_targets_conclude_nothing(clock):
    of = runner(target("a", informative=True), target("b"))
    assert rounds.concluded(await ask(of)) == {"b"}


# --- checks that do not end ------------------------------------------------------------------


async def test_a_round_is_judged_without_the_checks_still_under_way(clock):
    world = World(hanging={B})
    of = runner(target("a", probe=FakeStun(world)), target("b", probe=FakeStun(world), host=B))
    ran = await ask(of, QUICK)
    assert (names(ran), ran.unfinished) == (["a"], {"b"})
    # It is not started again before it ends, and counts for the round in which it ends.
    clock.forward(60)
    ran = await ask(of, QUICK)
    assert (names(ran), ran.unfinished) == (["a"], {"b"})
    assert world.times(B) == 1
    world.hanging.clear()
    clock.forward(60)
    ran = await ask(of, QUICK)
    assert (names(ran), ran.unfinished) == (["a", "b"], frozenset())
    assert world.times(B) == 1
    await of.stop()


async def test_a_check_that_ends_between_two_rounds_counts_for_the_second_and_is_asked_again(clock):
    """Else a check that takes a little longer than a round is asked every other round only."""
    world = World(hanging={A})
    of = runner(target("a", probe=FakeStun(world)))
    ran = await ask(of, QUICK)
    assert ran.unfinished == {"a"}
    world.silent.add(A)
    world.hanging.clear()
    await until(lambda: of.going() == 0)
    world.silent.clear()
    clock.forward(60)
    ran = await ask(of, QUICK)
    assert [f.measured.observations[0].works for f in ran.finished] == [False, True]
    assert world.times(A) == 2
    (evidence,) = of.evidence(ran, QUICK, lambda t: True, clock.wall)
    assert [o.works for o in evidence.observations] == [True]


async def test_a_check_that_hangs_does_not_count_as_working_on_the_strength_of_the_past(clock):
    world = World()
    of = runner(target("a", probe=FakeStun(world)), target("b", probe=FakeStun(world), host=B))
    await ask(of, QUICK)
    world.hanging.add(B)
    clock.forward(0.5)
    ran = await ask(of, QUICK)
    assert fresh(of, ran, clock, QUICK) == {"a": True, "b": False}
    await of.stop()


async def test_by_hand_everything_is_asked_in_full_and_waited_for(clock):
    world = World()
    of = runner(target("a", probe=FakeTls(world)))
    await ask(of)
    await ask(of, in_full=True)
    assert world.asked == [(A, False), (A, False)]


async def test_by_hand_what_was_seen_counts_however_long_the_round_took(clock):
    of = runner(target("a"))
    ran = await ask(of, in_full=True)
    clock.forward(600)
    assert fresh(of, ran, clock) == {"a": True}
    assert fresh(of, replace(ran, in_full=False), clock) == {"a": False}


async def test_stop_reports_nothing_sends_nothing_more_and_leaves_it_due(clock):
    world = World(hanging={A})
    of = runner(target("a", probe=FakeTls(world)))
    first = asyncio.create_task(ask(of, QUICK))
    await until(lambda: world.sending[A])
    await of.stop()
    sent = world.sending[A]
    ran = await first
    assert names(ran) == []
    await asyncio.sleep(0.1)
    assert world.sending[A] == sent, "the run itself must have been stopped, not only the waiting"
    assert of.going() == 0
    world.hanging.clear()
    clock.forward(0.5)
    assert names(await ask(of, QUICK)) == ["a"]
    assert world.asked[-1] == (A, False), "cut off is not asked: it is due in full"


# --- bugs, manners ---------------------------------------------------------------------------


async def test_a_bug_costs_only_its_own_check_and_is_never_the_networks_doing(clock, caplog):
    world = World(buggy={B})
    of = runner(target("a", probe=FakeStun(world)), target("b", probe=FakeStun(world), host=B))
    ran = await ask(of)
    assert names(ran) == ["a"]
    assert "bug in the check m/b" in caplog.text
    assert fresh(of, ran, clock) == {"a": True, "b": False}


def courteous(**given) -> Manners:
    limits = {"min_interval": 60, "packets_per_target_per_minute": 60, "bytes_per_day": 10**9}
    return Manners(Limits(**{**limits, **given}), Traffic())


async def test_what_manners_forbid_is_counted_and_not_measured(clock):
    world = World()
    manners = courteous(packets_per_target_per_minute=4)
    of = runner(target("a", probe=FakeStun(world)), courtesy=manners)
    ran = await ask(of)
    assert (names(ran), ran.skipped) == ([], ("packet_budget",))
    assert world.asked == []
    assert fresh(of, ran, clock) == {"a": False}
    manners.limits.packets_per_target_per_minute = 5
    manners._last.clear()
    clock.forward(1)
    assert names(await ask(of)) == ["a"]  # not asked is still due


async def test_a_refused_connect_does_not_bring_the_next_handshake_forward(clock):
    """Two names at one address and port take turns: neither is asked more often for it."""
    world = World()
    other = World()
    manners = courteous()
    of = runner(
        target("a", probe=FakeTls(world)),
        target("b", probe=FakeTls(other)),
        courtesy=manners,
    )
    handshakes = 0
    for _ in range(20):
        manners._last.clear()  # a minute later
        await ask(of)
        clock.forward(60)
    handshakes = sum(not partial for _, partial in world.asked)
    others = sum(not partial for _, partial in other.asked)
    assert (handshakes, others) == (4, 4)


async def test_a_target_without_an_address_here_keeps_no_other_from_its_turn(clock):
    world = World()
    six = [target(f"six{n}", probe=FakeTcp(world), host=f"2001:db8::{n}") for n in range(12)]
    four = [target(f"four{n:02}", probe=FakeTcp(world), host=f"192.0.2.{n}") for n in range(6)]
    of = runner(*six, *four)
    asked: set[str] = set()
    for _ in range(6):
        ran = await of.run(Beat(0.0), CADENCE, CALM, frozenset({Family.IPV4}))
        asked.update(names(ran))
        clock.forward(66)
    assert asked == {t.target.name for t in four}


# --- sharing ---------------------------------------------------------------------------------


async def test_the_same_question_at_the_same_address_is_asked_once_per_beat(clock):
    world = World()
    probe = FakeStun(world)
    of = runner(*(target(f"t{n}", probe=probe) for n in range(5)))
    ran = await ask(of)
    assert len(ran.finished) == 5
    assert world.times(A) == 1
    shared = [bool(f.measured.observations[0].facts.get("shared")) for f in ran.finished]
    assert sorted(shared) == [False, True, True, True, True]


# --- evidence --------------------------------------------------------------------------------


async def test_evidence_grows_old(clock):
    of = runner(target("fast"), target("slow", probe=FakeTls(World()), host=B))
    ran = await ask(of)
    nothing = rounds.Ran((), frozenset(), ())
    assert fresh(of, ran, clock) == {"fast": True, "slow": True}
    clock.forward(240)
    assert fresh(of, nothing, clock) == {"fast": True, "slow": True}
    clock.forward(1)
    assert fresh(of, nothing, clock) == {"fast": False, "slow": True}
    clock.forward(719)
    assert fresh(of, nothing, clock)["slow"]
    clock.forward(1)
    assert not fresh(of, nothing, clock)["slow"]


async def test_what_waits_for_its_turn_is_still_evidence(clock):
    """Thirty-nine take five rounds, some of them a fifth late."""
    world = World()
    targets = [target(f"t{n}", probe=FakeTcp(world), host=f"192.0.2.{n}") for n in range(39)]
    of = runner(*targets)
    for number in range(15):
        ran = await ask(of)
        if number >= 5:
            assert all(fresh(of, ran, clock).values())
        clock.forward(72)


async def test_another_network_makes_no_evidence_of_what_is_under_way(clock):
    world = World(hanging={B})
    of = runner(target("a", probe=FakeStun(world)), target("b", probe=FakeStun(world), host=B))
    task = asyncio.create_task(ask(of, QUICK))
    await until(lambda: world.sending[B] and of._running["a"].task.done())
    of.forget()
    world.hanging.clear()
    ran = await task
    assert names(ran) == []
    assert fresh(of, ran, clock) == {"a": False, "b": False}
    assert names(await ask(of)) == ["a", "b"]


@dataclass(frozen=True, slots=True)
class FakeStream(FakeStun):
    """Told by what it says of its packets."""

    kind: ClassVar[str] = "media"
    fast: ClassVar[bool] = False

    @property
    def stream_packets(self) -> tuple[int, float]:
        return 120, 1.0


async def test_a_stream_that_plays_while_the_line_is_down_says_nothing_and_is_played_again(clock):
    world = World(hanging={A})
    of = runner(target("a", probe=FakeStream(world)), target("b", host=B, probe=FakeStun(world)))
    ran = await ask(of, QUICK)
    assert names(ran) == ["b"], "nobody waits for a stream"
    of.void_streams()
    world.hanging.clear()
    await until(lambda: of._running["a"].task.done())
    clock.forward(60)
    over = clock.wall
    await ask(of, QUICK)
    await until(lambda: [address for address, _ in world.asked].count(A) == 2)
    assert all(o.at >= over for o in of.seen["a"].conclusive)
    await of.stop()


# --- small things ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 10, 100, 1000, 20_000])
def test_checks_start_spread_over_the_round(monkeypatch, count):
    monkeypatch.undo()
    gap = spacing(count, 60)
    assert 0 <= gap * max(count - 1, 0) <= 0.8 * 60
    if 2 <= count <= 1000:
        assert gap * count >= 0.1 * 60 - 1e-9


def test_many_rounds_that_start_together_leave_each_other_room(monkeypatch):
    monkeypatch.undo()
    alone, beside = spacing(64, 60) * 64, spacing(64, 60, others=5_000) * 64
    assert alone == pytest.approx(6)
    assert beside == pytest.approx(5_064 * 0.005)
    assert spacing(64, 60, others=1_000_000) * 64 == pytest.approx(48)


async def test_what_stun_operators_see_is_kept_by_operator_and_never_a_fact(clock):
    world = World(mapped={A: "198.51.100.7", B: "198.51.100.9", C: "203.0.113.1"})
    probe = FakeStun(world)
    of = runner(
        target("a", probe=probe, owner="one"),
        target("b", probe=probe, host=B, owner="one"),
        target("c", probe=probe, host=C),
    )
    ran = await ask(of)
    assert mapped_by_owner(ran) == {
        "one": frozenset({"198.51.100.7", "198.51.100.9"}),
        "c": frozenset({"203.0.113.1"}),
    }
    text = repr([o for f in ran.finished for o in f.measured.observations])
    assert "198.51.100" not in text
    assert "203.0.113" not in text


async def test_lateness_is_a_median(clock):
    of = runner(target("a"))
    ran = await ask(of)
    assert lateness(ran) == 0.0
    facts = ran.finished[0].measured.observations[0].facts
    facts["send_lateness_seconds"] = 0.7
    assert lateness(ran) == 0.7


async def test_only_fresh_evidence_reaches_the_judge_of_the_line(clock):
    of = runner(target("a"))
    ran = await ask(of)
    assert len(control_results(of.evidence(ran, CADENCE, lambda t: True, clock.wall), set())) == 1
    clock.forward(3600)
    assert control_results(of.evidence(ran, CADENCE, lambda t: True, clock.wall), set()) == []


def test_an_informative_control_judges_nothing():
    of = runner(target("a"), target("b", informative=True))
    evidence = [Evidence(t, (seen(t),), last_run=0.0, fresh=True, proven=True) for t in of.targets]
    assert [r.config.target.name for r in control_results(evidence, set())] == ["a"]


@pytest.mark.parametrize(("rest", "asked"), [(0.0, 12), (2.0, PER_ROUND)])
async def test_the_rest_is_asked_while_there_is_time(monkeypatch, rest, asked):
    """So much of the round must be left: contrasts want their share."""
    monkeypatch.setattr(rounds, "REST", rest)
    world = World()
    hosts = [f"198.51.100.{n}" for n in range(12)]
    of = runner(*(target(h, probe=FakeTcp(world), host=h, channel="chat") for h in hosts))
    ran = await ask(of)
    assert len(ran.finished) == PER_ROUND
    ran = await of.go_on(ran, Beat(0.0), CADENCE, frozenset({"chat"}), BOTH)
    assert len(ran.finished) == len(world.asked) == asked
