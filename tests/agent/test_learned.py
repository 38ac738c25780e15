"""The smallest round-trip times: when nothing can come from there any sooner, and when it can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.learned import Learned
from agent.plan import Ask
from agent.rounds import Finished, Ran
from agent.store import Store
from probes.measure import Measured
from tests.agent.building import judgement, seen, target

ADDRESSES = [f"203.0.113.{n}" for n in range(10)]
TARGETS = [target(f"t{n}", channel="chat", host=a) for n, a in enumerate(ADDRESSES)]


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    store = Store(tmp_path)
    yield Learned(store, ())
    store.close()


def round_of(learned: Learned, at: float, rtts: list[float | None]) -> None:
    """One round in which every address answers in its time; None: it was not asked."""
    made = tuple(
        Finished(
            Ask(t, partial=False),
            Measured((seen(t, address=a, at=at, rtt_seconds=rtt),), (), frozenset()),
            0.1,
        )
        for t, a, rtt in zip(TARGETS, ADDRESSES, rtts, strict=True)
        if rtt is not None
    )
    learned.note_round(Ran(made, frozenset(), ()), judgement())


def test_the_smallest_of_all_rounds_counts(learned: Learned) -> None:
    round_of(learned, 0.0, [0.1] * 10)
    round_of(learned, 60.0, [0.12] * 10)
    assert learned.least() == dict.fromkeys(ADDRESSES, 0.1)


def test_what_was_not_timed_since_the_ways_became_shorter_says_nothing(learned: Learned) -> None:
    """Else a server that restarts behind a shorter way would refuse sooner than it can."""
    round_of(learned, 0.0, [0.1] * 10)
    round_of(learned, 60.0, [None, None, *[0.03] * 8])
    assert learned.least() == dict.fromkeys(ADDRESSES[2:], 0.03)
    assert learned.nearest[ADDRESSES[0]] == 0.1  # it has answered before all the same


def test_one_address_that_comes_nearer_says_nothing_of_the_others(learned: Learned) -> None:
    round_of(learned, 0.0, [0.1] * 10)
    round_of(learned, 60.0, [0.02, None, *[0.1] * 8])
    assert learned.least()[ADDRESSES[1]] == 0.1


def test_a_few_timings_on_a_line_with_jitter_are_no_bound(learned: Learned) -> None:
    round_of(learned, 0.0, [0.1 + 0.01 * n for n in range(10)])
    round_of(learned, 60.0, [None, *[0.19 - 0.01 * n for n in range(9)]])
    assert ADDRESSES[0] not in learned.least()


def test_a_way_that_only_becomes_longer_changes_nothing(learned: Learned) -> None:
    round_of(learned, 0.0, [0.1] * 10)
    round_of(learned, 60.0, [None, *[0.3] * 9])
    assert learned.least() == dict.fromkeys(ADDRESSES, 0.1)
