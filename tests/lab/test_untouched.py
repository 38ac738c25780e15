"""Where nobody filters a trace accuses nobody, over a hundred drawn paths and servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from probes.trace.common import Word
from tests.lab.lab import PROGRAMS, Lab
from tests.lab.skipping import require_lab
from tests.lab.untouched import ALIVE, DEAD, HOPS, Told, line, table, topology, traced

SEEDS = range(1, 16)
"""Times the kinds of each sort: a hundred and five traces to servers that answer, as many to dead
ones."""


@pytest.fixture(scope="module")
def long_path() -> Iterator[Lab]:
    require_lab(*PROGRAMS)
    with Lab(hops=HOPS) as lab:
        yield lab


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_accused(long_path: Lab, seed: int) -> None:
    told = traced(long_path, seed)
    assert [t for t in told if t.accuses] == []
    assert [t for t in told if t.word not in (t.wanted, Word.UNCLEAR)] == []
    assert sum(t.word is Word.NOTHING for t in told) >= len(ALIVE) - 1, "loss may contradict itself"
    assert sum(t.word is Word.SERVER for t in told) >= len(DEAD) // 2, "the rest cannot be told"


def test_there_are_a_hundred_of_each() -> None:
    assert min(len(ALIVE), len(DEAD)) * len(SEEDS) >= 100


def test_what_is_drawn_fits_the_path_and_differs() -> None:
    drawn = [(line(seed), topology(seed)) for seed in range(200)]
    for _, one in drawn:
        one.check(HOPS)
    assert len({repr(pair) for pair in drawn}) > 190
    assert drawn[:3] == [(line(seed), topology(seed)) for seed in range(3)]


def test_the_table_counts_what_was_said() -> None:
    told = [
        Told(1, "stun", Word.NOTHING, Word.NOTHING, None, 10, 1.0),
        Told(2, "stun", Word.NOTHING, Word.FOUND, 3, 10, 1.0),
        Told(1, "tcp", Word.SERVER, Word.SERVER, 9, 10, 1.0),
    ]
    rows = [" ".join(row.split()) for row in table(told).splitlines()]
    assert rows[1:] == ["a server stun 1 of 2 1 found", "a dead one tcp 1 of 1"]
    assert told[1].accuses
