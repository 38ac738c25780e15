"""Calibration files: made, merged, compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calibrated import (
    CannotMerge,
    Key,
    Tally,
    Word,
    calibration,
    changes,
    merged,
    sentences,
)
from config.calibration import CalibrationFile

AT = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
RELAY = Key("m", "relay", "stun", "bare")


def file(
    tallies: dict[Key, Tally], *, network: str = "fixed", at: float = AT, catalogue: str = "1"
) -> CalibrationFile:
    return calibration(tallies, catalogue, network, at)


def tally(asked: int, answered: int, at: float = AT) -> Tally:
    return Tally(asked, answered, at if answered else None)


def test_what_was_counted_becomes_a_file_that_the_loader_reads():
    made = file(
        {
            RELAY: tally(10, 9),
            RELAY._replace(dress="app"): tally(8, 0),
            RELAY._replace(target="b"): Tally(),
        }
    )
    assert [(e.target, e.dress, e.asked, e.answered, e.last_answered) for e in made.targets] == [
        ("relay", "app", 8, 0, None),
        ("relay", "bare", 10, 9, date(2026, 11, 28)),
    ], "what was never asked is not in it"
    assert CalibrationFile.model_validate_json(made.model_dump_json()) == made
    assert {e.at for e in made.entries()} == {AT}


def test_a_tally_keeps_its_newest_answer():
    counted = Tally()
    for answered, at in ((True, 5.0), (True, 3.0), (False, 9.0)):
        counted.add(answered, at)
    assert counted == Tally(3, 2, 5.0)


def test_merging_adds_counts_and_keeps_the_newest_dates():
    early = file({RELAY: tally(10, 10, AT - 86400)}, at=AT - 86400)
    late = file({RELAY: tally(8, 0), RELAY._replace(target="b"): tally(5, 5)})
    made = merged([late, early])
    assert made.at == late.at
    assert [(e.target, e.asked, e.answered, e.last_answered) for e in made.targets] == [
        ("b", 5, 5, date(2026, 11, 28)),
        ("relay", 18, 10, date(2026, 11, 27)),
    ]


@pytest.mark.parametrize(("networks", "network"), [("ff", "fixed"), ("fh", ""), ("f-", "")])
def test_files_of_different_networks_name_none(networks, network):
    kinds = {"f": "fixed", "h": "hosting", "-": ""}
    made = merged([file({RELAY: tally(1, 1)}, network=kinds[n]) for n in networks])
    assert made.network == network


def test_files_of_different_catalogues_are_not_merged():
    with pytest.raises(CannotMerge, match=r"different catalogues \(1, 2\)"):
        merged([file({RELAY: tally(1, 1)}), file({RELAY: tally(1, 1)}, catalogue="2")])


def test_counts_that_no_file_can_hold_are_not_merged():
    with pytest.raises(CannotMerge, match="too often"):
        merged([file({RELAY: tally(10**9, 1)})] * 2)


KEYS = st.builds(
    Key, st.just("m"), st.sampled_from("ab"), st.just("stun"), st.sampled_from(["", "x"])
)
TALLIES = st.tuples(st.integers(1, 50), st.integers(0, 50), st.floats(AT - 10**7, AT)).map(
    lambda given: tally(given[0], min(given[0], given[1]), given[2])
)


@given(st.lists(st.dictionaries(KEYS, TALLIES), min_size=2, max_size=3))
def test_the_order_of_files_does_not_matter_and_nothing_is_lost(counted):
    files = [file(tallies) for tallies in counted]
    first, *others = [merged(order) for order in permutations(files)]
    assert all(other == first for other in others)
    assert merged([merged(files[:-1]), files[-1]]) == first
    assert sum(e.asked for e in first.targets) == sum(t.asked for c in counted for t in c.values())


def compared(before: tuple[int, int] | None, now: tuple[int, int] | None):
    def entries(counts):
        tallies = {} if counts is None else {RELAY: tally(counts[1], counts[0])}
        return file(tallies).entries()

    return changes(entries(before), entries(now))


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (None, (10, 10), (Word.NOT_ASKED, Word.ANSWERS)),
        (None, (2, 2), (Word.NOT_ASKED, Word.LITTLE)),
        ((10, 10), (8, 10), (Word.ANSWERS, Word.LITTLE)),
        ((10, 10), (0, 10), (Word.ANSWERS, Word.SILENT)),
        ((0, 10), (9, 10), (Word.SILENT, Word.ANSWERS)),
        ((10, 10), None, (Word.ANSWERS, Word.NOT_ASKED)),
        ((9, 10), (20, 20), (Word.ANSWERS, Word.ANSWERS)),
        ((19, 20), (20, 20), None),
        ((10, 10), (12, 12), None),
        ((0, 4), (0, 9), None),
    ],
)
def test_what_is_a_change(before, now, words):
    found = compared(before, now)
    assert [(c.before, c.now) for c in found] == ([words] if words else [])


def test_of_several_files_the_newest_counts():
    old = file({RELAY: tally(10, 0)}, at=AT - 5).entries()
    new = file({RELAY: tally(10, 10)}).entries()
    for both in ((*old, *new), (*new, *old)):
        assert changes(both, new) == ()


def test_sentences_put_alike_targets_together():
    now = {RELAY._replace(target=f"r{n:02}"): tally(10, 10) for n in range(14)}
    now[Key("m", "t", "turn", "")] = tally(10, 0)
    before = {Key("m", "t", "turn", ""): tally(12, 12)}
    first, second = sentences(changes(file(before).entries(), file(now).entries()))
    assert first.startswith("m, stun as bare: 14 targets answer and may decide, not asked before:")
    assert first.endswith("r11 (10 of 10), and 2 more")
    assert second == ("m, turn: 1 target is silent, answered before: t (0 of 10, before 12 of 12)")


def test_nothing_of_the_place_is_in_a_file():
    made = file({RELAY: tally(1, 1)})
    assert set(made.model_dump()) == {"version", "catalogue", "network", "at", "targets"}
    entry = replace(made.entries()[0])
    assert not any("." in str(value) for value in (entry.messenger, entry.target, entry.probe))
