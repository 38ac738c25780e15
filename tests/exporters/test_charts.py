"""Where bars and lines come to stand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from exporters.charts import BARS, DAY, HOUR, Frame, bars, ceiling, ticks
from exporters.history import Point, Segment
from probes.model import Certainty, Mechanism, Status

NONE = Mechanism.NONE
WHOLE = Segment(
    "m", "call", 0.0, 1000.0, Status.OK, NONE, Certainty.NONE, 0.0, "", False, "It is so.", 0
)
POINT = Point(0.0, 10, 9, 0.01, 0.02, 0.03, 50, 45, None, None, None, None, None, None)


def part(since: float, until: float, status: Status) -> Segment:
    return replace(WHOLE, since=since, until=until, status=status)


def test_bars_stand_where_their_time_is():
    made = bars([part(0, 250, Status.OK), part(250, 1000, Status.BLOCKED)], 0.0, 1000.0)
    assert [(b.x, b.width, b.told.status) for b in made] == [
        (0.0, 25.0, Status.OK),
        (25.0, 75.0, Status.BLOCKED),
    ]


def test_of_too_much_the_worst_is_shown_and_nothing_is_lost():
    length = DAY / 4000
    states = [Status.OK, Status.DEGRADED, Status.UNKNOWN]
    segments = [part(n * length, (n + 1) * length, states[n % 3]) for n in range(4000)]
    segments[2001] = replace(segments[2001], status=Status.BLOCKED)
    made = bars(segments, 0.0, DAY)
    assert len(made) <= BARS
    assert sum(b.width for b in made) == pytest.approx(100, abs=0.01)
    assert [b.told.status for b in made] == [Status.DEGRADED, Status.BLOCKED, Status.DEGRADED]
    assert made[1].x == pytest.approx(50, abs=0.5)


@pytest.mark.parametrize(
    ("length", "first", "count"),
    [(DAY, "18:00", 4), (7 * DAY, "17 Jan", 7), (30 * DAY, "22 Jan", 6)],
)
def test_ticks_are_round_times_with_room_for_their_labels(length, first, count):
    since = 1_800_000_000.0 + 5 * HOUR  # 2027-01-15 13:00
    made = ticks(since, since + length)
    labels = [t.label for t in made if t.label]
    assert labels[0] == first
    assert len(labels) <= count <= 8
    assert all(0 <= t.x <= 100 for t in made)
    assert all(7 <= t.x <= 93 for t in made if t.label)


def frame(*points: Point, until: float = 6000.0) -> Frame:
    return Frame(points, 0.0, until, 600.0)


def at(slot: int, **given: Any) -> Point:
    return replace(POINT, at=600.0 * slot, **given)


def test_a_line_breaks_where_nothing_was_measured():
    of = frame(at(0), at(1), at(2, rtt_median=None), at(3), at(5), at(6))
    [line] = of.curves((0.0, 0.04), ("median", "main", lambda p: p.rtt_median))
    assert line.path == "M50.0 50.0h0L150.0 50.0M350.0 50.0h0M550.0 50.0h0L650.0 50.0"


def test_a_line_stays_within_its_frame():
    of = frame(at(-1), at(0, rtt_median=9.0), at(10))
    [line] = of.curves((0.0, 0.04), ("median", "main", lambda p: p.rtt_median))
    for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", line.path):
        assert 0 <= float(x) <= 1000
        assert 0 <= float(y) <= 100


def test_columns_of_what_worked_and_what_did_not():
    share = frame(at(0, working=10), at(1, working=5), at(2, working=0)).columns(
        lambda p: p.working / p.runs
    )
    assert share == (
        "M0.0 0.0h100.0V100h-100.0zM100.0 50.0h100.0V100h-100.0z",
        "M100.0 0h100.0V50.0h-100.0zM200.0 0h100.0V100.0h-100.0z",
    )


@pytest.mark.parametrize(
    ("values", "top"),
    [([], 10), ([3.0], 10), ([11.0], 20), ([50.0], 50), ([51], 100), ([101], 200)],
)
def test_the_top_of_a_scale_is_round(values, top):
    assert ceiling(values, 10) == top
