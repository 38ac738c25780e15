"""Which checks a round asks."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import plan
from agent.case import WINDOWS
from agent.plan import Asked, Cadence
from tests.agent.building import FakeStun, FakeTcp, FakeTls, World, control, target

CADENCE = Cadence(60, 300)
WORLD = World()
STUN, TLS, TCP = FakeStun(WORLD), FakeTls(WORLD), FakeTcp(WORLD)
CALM: frozenset[str] = frozenset()


def asks(targets, asked, now, undecided=CALM):
    made = plan.plan(targets, asked, undecided, CADENCE, now)
    return [(ask.target.target.name, ask.partial) for ask in made]


def test_what_was_never_asked_is_asked_in_full():
    targets = [target("s", probe=STUN), target("t", probe=TLS), target("c", probe=TCP)]
    assert asks(targets, {}, 1000.0) == [("s", False), ("t", False), ("c", False)]


@pytest.mark.parametrize(
    ("probe", "since_full", "expected"),
    [
        (STUN, 30, []),
        (STUN, 58, []),
        (STUN, 59, [("x", False)]),  # a beat may come a little early, no round is left out
        (TLS, 60, [("x", True)]),
        (TLS, 293, [("x", True)]),
        (TLS, 295, [("x", False)]),
    ],
)
def test_intervals(probe, since_full, expected):
    now = 10_000.0
    asked = {"x": Asked(run=now - min(since_full, 60), full=now - since_full)}
    assert asks([target("x", probe=probe)], asked, now) == expected


@pytest.mark.parametrize("phase", [0.0, 0.7])
def test_a_channels_handshakes_are_spread_over_their_interval(phase):
    """So that what only a handshake shows is met within a round or two, and pressed from there."""
    cadence = dataclasses.replace(CADENCE, phase=phase)
    names = ("a", "b", "c", "d", "e")
    targets = [target(n, probe=TLS) for n in names]
    asked: dict[str, Asked] = {}
    rounds: list[list[str]] = []
    since: dict[str, list[float]] = {}
    for number in range(60):
        now = 10_000.0 + number * 66
        made = plan.plan(targets, asked, CALM, cadence, now)
        assert {ask.target.target.name for ask in made} == set(names)  # connects in between
        rounds.append([ask.target.target.name for ask in made if not ask.partial])
        for ask in made:
            before = asked.get(ask.target.target.name, Asked())
            asked[ask.target.target.name] = Asked(now, before.full if ask.partial else now)
        for name in rounds[-1]:
            since.setdefault(name, []).append(now)
    assert set(rounds[0]) == set(names)
    assert all(len(full) == 1 for full in rounds[8:])
    for times in since.values():
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert 150 <= gaps[0] <= 330 * 1.5 + 66
        assert all(264 <= gap <= 396 for gap in gaps[1:])


def test_not_all_agents_ask_for_a_name_at_the_same_time():
    targets = [target(n, probe=TLS) for n in ("a", "b")]
    asked = {n: Asked(10_000, 10_000) for n in ("a", "b")}

    def first_asked(phase: float) -> int:
        cadence = dataclasses.replace(CADENCE, phase=phase)
        return next(
            now
            for now in range(10_060, 11_000)
            if any(not ask.partial for ask in plan.plan(targets, asked, CALM, cadence, now))
        )

    assert len({first_asked(phase) for phase in (0.0, 0.1, 0.2, 0.3)}) == 4


def test_controls_shake_hands_together():
    targets = [control(n, probe=TLS) for n in ("a", "b", "c")]
    asked = {n: Asked(10_000, 10_000) for n in ("a", "b", "c")}
    assert {n for n, partial in asks(targets, asked, 10_300) if not partial} == {"a", "b", "c"}
    assert not {n for n, partial in asks(targets, asked, 10_200) if not partial}


def test_a_handshake_is_asked_every_round_while_its_channel_is_undecided():
    asked = {n: Asked(10_000, 10_000) for n in ("x", "other")}
    targets = [target("x", probe=TLS), target("other", probe=TLS, channel="web")]
    found = asks(targets, asked, 10_060, frozenset({"call"}))
    assert found == [("x", False), ("other", True)]


@pytest.mark.parametrize(
    ("until", "now", "partial", "deferred"),
    [
        (0, 10_060, False, False),
        (10_090, 10_060, True, True),
        (10_090, 10_089, False, False),  # a beat may come a little early
        (10_090, 10_120, False, False),
        (20_000, 10_060, False, False),  # a clock that was set back
    ],
)
def test_a_name_that_a_filter_may_remember_waits_and_the_connection_does_not(
    until, now, partial, deferred
):
    asked = {"x": Asked(10_000, 10_000, until)}
    targets = [target("x", probe=TLS)]
    (ask,) = plan.plan(targets, asked, frozenset({"call"}), CADENCE, now)
    assert (ask.partial, ask.deferred) == (partial, deferred)


def test_the_longest_wait_is_the_longest_window():
    assert max(WINDOWS.values()) == plan._LONGEST_WAIT


def test_an_interval_of_its_own_holds_whatever_the_channel_does():
    rare = target("x", probe=TLS, interval=600.0)
    asked = {"x": Asked(10_000, 10_000)}
    assert asks([rare], asked, 10_300, frozenset({"call"})) == []
    assert asks([rare], asked, 10_600) == [("x", False)]


def test_a_clock_that_was_set_back_does_not_stop_the_asking():
    asked = {"x": Asked(10_000, 10_000)}
    assert asks([target("x", probe=STUN)], asked, 6_400) == [("x", False)]


def rounds_of(count: int, unasked: frozenset[str] = CALM, rounds: int = 20) -> Counter[str]:
    """How often each target of a group that rotates gets its turn; ``unasked`` have no address."""
    targets = [target(f"t{i:02}", probe=TCP, host=f"192.0.2.{i}") for i in range(count)]
    asked: dict[str, Asked] = {}
    turns: Counter[str] = Counter()
    for number in range(rounds):
        now = 10_000 + number * 66.0
        made = asks(targets, asked, now)
        assert len(made) <= plan.PER_ROUND
        for name, _ in made:
            turns[name] += 1
            asked[name] = Asked(now, 0.0 if name in unasked else now)
    return turns


def test_large_groups_rotate_and_everybody_has_a_turn():
    turns = rounds_of(39)
    assert len(turns) == 39
    assert max(turns.values()) - min(turns.values()) <= 1


def test_targets_without_an_address_keep_no_other_from_its_turn():
    turns = rounds_of(20, unasked=frozenset(f"t{i:02}" for i in range(10)))
    assert all(turns[f"t{i:02}"] >= 6 for i in range(20))


def test_an_undecided_channel_asks_all_of_a_large_group():
    targets = [target(f"t{i}", probe=TCP) for i in range(20)]
    assert len(asks(targets, {}, 1000.0)) == plan.PER_ROUND
    assert len(asks(targets, {}, 1000.0, frozenset({"call"}))) == 20


def test_stun_never_rotates():
    targets = [target(f"t{i}", probe=STUN) for i in range(20)]
    assert len(asks(targets, {}, 1000.0)) == 20


@pytest.mark.parametrize(
    ("probe", "size", "expected"),
    [(STUN, 39, 60), (TCP, 8, 60), (TCP, 9, 120), (TCP, 39, 300), (TLS, 3, 300), (TLS, 80, 600)],
)
def test_a_turn_comes_as_rarely_as_the_group_is_large(probe, size, expected):
    assert plan.turn_of(target(probe=probe), CADENCE, size) == expected


# --- the byte budget -------------------------------------------------------------------------

kinds = st.sampled_from([STUN, TLS, TCP])
fleets = st.lists(st.tuples(kinds, st.booleans(), st.integers(0, 4)), min_size=1, max_size=40)


@given(fleets, st.integers(10_000, 50_000_000))
def test_a_stretched_plan_fits_the_budget_or_is_stretched_as_far_as_it_goes(fleet, budget):
    targets = [
        target(
            f"t{i}",
            probe=probe,
            channel="web" if other else "call",
            addresses=tuple(f"192.0.2.{k}" for k in range(pins)),
        )
        for i, (probe, other, pins) in enumerate(fleet)
    ]
    made = plan.stretched(targets, CADENCE, budget)
    assert made.interval == CADENCE.interval
    assert 300 <= made.handshake_interval <= 24 * 300
    total = sum(plan.bytes_a_day(targets, made))
    assert total <= budget or made.handshake_interval == 24 * 300
    if sum(plan.bytes_a_day(targets, CADENCE)) <= budget:
        assert made == CADENCE


def test_a_budget_is_not_stretched_more_than_needed():
    targets = [target("x", probe=TLS)]
    full = sum(plan.bytes_a_day(targets, CADENCE))
    made = plan.stretched(targets, CADENCE, full * 0.8)
    assert full * 0.75 < sum(plan.bytes_a_day(targets, made)) <= full * 0.8


def test_planned_bytes_of_a_group_that_rotates_are_those_of_its_turns():
    one = plan.planned_bytes(target(probe=TCP), CADENCE, 8)
    assert one == pytest.approx(86400 / 66 * 420)  # a round comes every 66 s on average
    assert plan.planned_bytes(target(probe=TCP), CADENCE, 16) == one / 2
    pinned = target(probe=TCP, addresses=("192.0.2.1", "192.0.2.2"))
    assert plan.planned_bytes(pinned, CADENCE, 8) == 2 * one


def test_who_went_without_comes_first():
    """Two dresses at one relay share its one check a minute: the loser must not lose for ever."""
    targets = [target("bare", probe=STUN), target("ice", probe=STUN), target("tls", probe=TLS)]
    asked = {
        "bare": Asked(1000, 1000),
        "ice": Asked(1000, 940),  # had its turn, was refused, stays as due as it was
        "tls": Asked(1000, 990),
    }
    assert asks(targets, asked, 1066.0) == [("ice", False), ("bare", False), ("tls", True)]


def test_controls_do_not_rotate():
    """A dead line must show in one round, not once the last control has had its turn."""
    many = [control(f"c{n}", probe=TCP) for n in range(30)]
    assert len(asks(many, {}, 1000.0)) == 30
    assert plan.turn_of(many[0], CADENCE, 30) == 60


# --- transfers -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class FakeTransfer:
    kind: ClassVar[str] = "transfer"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 600_000


TRANSFER = FakeTransfer()
HOURS = 3600.0


def test_transfers_come_every_six_hours_and_no_connect_between():
    one = target("x", probe=TRANSFER)
    assert asks([one], {}, 1000.0) == [("x", False)]
    asked = {"x": Asked(30 * HOURS, 30 * HOURS)}
    assert asks([one], asked, 30 * HOURS + 60) == []
    assert asks([one], asked, 36 * HOURS - 1) == []
    assert asks([one], asked, 36 * HOURS) == [("x", False)]


def test_agents_do_not_all_ask_at_the_same_hour():
    one = target("x", probe=TRANSFER)
    for phase, first in ((0.0, 36), (0.5, 33), (0.9, 35.4)):
        cadence = Cadence(60, 300, phase=phase)
        asked = {"x": Asked((first - 5) * HOURS, (first - 5) * HOURS)}
        for hours, due in ((first - 0.1, False), (first + 0.1, True)):
            assert bool(plan.plan([one], asked, CALM, cadence, hours * HOURS)) is due


def test_a_change_under_way_makes_no_transfer_come_sooner():
    asked = {"x": Asked(30 * HOURS, 30 * HOURS)}
    one = [target("x", probe=TRANSFER)]
    assert asks(one, asked, 31 * HOURS, frozenset({"call"})) == []


def test_transfers_of_messengers_and_controls_come_in_the_same_round():
    """Whatever kept one of them from its turn: the next interval has them together again."""
    late = {"m": Asked(30 * HOURS, 30 * HOURS), "c": Asked(30 * HOURS + 1900, 30 * HOURS + 1900)}
    both = [target("m", probe=TRANSFER), control("c", probe=TRANSFER, kind="transfer")]
    times = [30 * HOURS + n * 66 for n in range(40, 700)]
    first = next(now for now in times if asks(both, late, now))
    assert asks(both, late, first) == [("m", False), ("c", False)]


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1), st.integers(0, 5000))
def test_a_day_has_four_transfers_whenever_it_begins(phase, start):
    """A first one at once, then one in each interval."""
    cadence = Cadence(60, 300, phase=phase)
    asked: dict[str, Asked] = {}
    runs = []
    for n in range(4 * 24 * 60):
        now = 1_795_000_000.0 + start * 60 + n * 60
        if plan.plan([target("x", probe=TRANSFER)], asked, CALM, cadence, now):
            runs.append(now)
            asked["x"] = Asked(now, now)
    gaps = [b - a for a, b in itertools.pairwise(runs)]
    assert 15 <= len(runs) <= 17
    assert 3 * HOURS - 60 <= gaps[0] <= 9 * HOURS + 60
    assert all(abs(gap - 6 * HOURS) <= 60 for gap in gaps[1:])


def test_the_byte_plan_counts_transfers_and_stretches_them_first():
    targets = [
        target("x", probe=TRANSFER),
        control("c", probe=TRANSFER, kind="transfer"),
        target("t", probe=TLS),
    ]
    fixed, stretchable = plan.bytes_a_day(targets, CADENCE)
    handshakes = plan.bytes_a_day([targets[2]], CADENCE)[1]
    assert fixed == 0
    assert stretchable - handshakes == pytest.approx(2 * 4 * 600_000)
    half = plan.stretched(targets, CADENCE, handshakes + 2 * 2.2 * 600_000)
    assert half.handshake_interval == CADENCE.handshake_interval
    assert 10 * HOURS < half.transfer_interval < 12 * HOURS
    less = plan.stretched(targets, CADENCE, handshakes * 0.9)
    assert less.transfer_interval == 24 * 6 * HOURS
    assert less.handshake_interval > CADENCE.handshake_interval
    assert less.interval == CADENCE.interval
