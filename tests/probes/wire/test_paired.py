"""The paired test: exact where all signs can be counted, calm where nothing differs."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.wire import paired
from probes.wire.paired import compare, direction, sign_flip, turns
from probes.wire.quality import Packet

SECONDS = 30


def lossy(rng: random.Random, share: float, *, pace: int = 50, rtt: float = 0.05) -> list[Packet]:
    sent = (n / pace for n in range(SECONDS * pace))
    return [
        Packet(at, None, 0, None) if rng.random() < share else Packet(at, rtt, 1, n)
        for n, at in enumerate(sent)
    ]


def by_hand(differences: list[int]) -> float:
    seen = sum(differences)
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [sum(s * abs(d) for s, d in zip(signs_, differences, strict=True)) for signs_ in signs]
    return sum(total >= seen for total in sums) / len(signs)


@given(st.lists(st.integers(-12, 12), max_size=9))
def test_it_counts_all_signs(differences):
    assert sign_flip(differences) == pytest.approx(by_hand(differences))


@given(st.lists(st.integers(-2500, 2500), max_size=60))
def test_it_is_a_probability(differences):
    assert 0 < sign_flip(differences) <= 1


@pytest.mark.parametrize("blocks", [1, 7, 30, 120])
def test_complete_separation(blocks):
    assert sign_flip([3] * blocks) == 0.5**blocks
    assert sign_flip([-3] * blocks) == 1.0


def test_nothing_to_compare():
    assert sign_flip([]) == sign_flip([0, 0]) == 1.0
    seen = compare([], [], 0.02)
    assert (seen.blocks, seen.p, seen.z, seen.loss_difference, seen.worse) == (0, 1, 0, None, False)


def test_a_target_that_loses_more_is_worse():
    rng = random.Random(3)
    seen = compare(lossy(rng, 0.07), lossy(rng, 0.02), 0.02)
    assert seen.blocks == SECONDS
    assert seen.worse
    assert seen.p < 0.01
    assert seen.z > 2.5
    assert seen.loss_difference == pytest.approx(0.05, abs=0.02)
    assert not compare(lossy(rng, 0.02), lossy(rng, 0.07), 0.02).worse


def test_a_small_difference_is_no_matter_however_sure():
    rng = random.Random(4)
    seen = compare(lossy(rng, 0.02), lossy(rng, 0.0), 0.02)
    assert seen.p < 0.001
    assert not seen.worse


def test_equal_streams_hardly_ever_differ():
    rng = random.Random(5)
    runs = [compare(lossy(rng, 0.07), lossy(rng, 0.07), 0.02) for _ in range(60)]
    assert sum(run.p < 0.01 for run in runs) <= 3
    assert sum(run.worse for run in runs) == 0
    assert abs(sum(run.z for run in runs)) < 3 * 60**0.5


def test_paces_may_differ():
    rng = random.Random(6)
    slow = lossy(rng, 0.02, pace=6)
    assert compare(lossy(rng, 0.15), slow, 0.02).worse
    assert not compare(lossy(rng, 0.02), slow, 0.02).worse
    alike = compare(lossy(rng, 0.1), lossy(rng, 0.1, pace=6), 0.02)
    assert abs(alike.z) < 2


def test_seconds_that_one_of_them_missed_do_not_count():
    rng = random.Random(6)
    half = [p for p in lossy(rng, 0.5) if p.sent < 10]
    assert compare(half, lossy(rng, 0), 0.02).blocks == 10


def test_distance_is_no_damage():
    """The same loss, and a relay on the other side of the world."""
    rng = random.Random(7)
    far, near = lossy(rng, 0.03, rtt=0.4), lossy(rng, 0.03, rtt=0.01)
    seen = compare(far, near, 0.02)
    assert abs(seen.mos_difference) < 0.2
    assert seen.delay_difference == 0
    assert (seen.worse, seen.slower) == (False, False)


def test_a_queue_is_slower_and_not_worse():
    near = lossy(random.Random(8), 0)
    queued = [Packet(p.sent, 0.05 + 0.055 * (p.sent > 5), 1, p.rank) for p in near]
    seen = compare(queued, near, 0.02)
    assert seen.slower
    assert not seen.worse
    assert seen.delay_difference == pytest.approx(0.055)


@pytest.mark.parametrize("n", [0, 1, 7, 1500])
def test_turns_are_fair(n):
    order = turns(n, random.Random(9).randbytes(200))
    assert len(order) == n
    assert abs(sum(order) - n / 2) <= 0.5
    if n > 100:
        assert order != turns(n, random.Random(10).randbytes(200))


@pytest.mark.parametrize(
    ("sent", "arrived", "answered", "only"),
    [
        (1500, 1275, 1275, "up"),
        (1500, 1500, 1275, "down"),
        (1500, 1400, 1300, ""),  # both
        (1500, 1500, 1470, ""),  # too little
        (30, 25, 25, ""),  # too few to tell
        (120, 96, 95, "up"),
        (120, 0, 0, ""),  # nothing to tell the way back by
        (0, 0, 0, ""),
        (10, 20, 15, ""),  # a peer that counts more than was sent
    ],
)
def test_direction(sent, arrived, answered, only):
    assert direction(sent, arrived, answered).only == only


def test_direction_of_nothing_arrived():
    assert direction(120, 0, 0) == paired.Direction(1.0, None, "")


packets = st.lists(
    st.builds(
        Packet,
        sent=st.floats(-5, 200),
        rtt=st.none() | st.floats(0, 1e5),
        copies=st.integers(0, 3),
        rank=st.none() | st.integers(0, 30),
    ),
    max_size=30,
)


@given(packets, packets)
def test_any_two_streams_can_be_compared(target, control):
    seen = compare(target, control, 0.02)
    assert 0 < seen.p <= 1
    assert 0 < seen.p_delay <= 1
    assert abs(seen.z) <= seen.blocks**0.5 + 1e-9
    named = paired.facts(seen, "twin_")
    assert named["twin_worse"] == seen.worse
    assert all(name.startswith("twin_") for name in named)


def test_wilson_is_the_table_of_sampling_errors():
    for count, of, low, high in [(0, 50, 0, 7.1), (25, 500, 3.4, 7.3), (75, 1500, 4.0, 6.2)]:
        bounds = paired.wilson(count, of, 1.96)
        assert [100 * bound for bound in bounds] == pytest.approx([low, high], abs=0.06)
