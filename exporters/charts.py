"""Where the page's pictures have their lines and bars: figures in, positions out.

Horizontally everything is a share of the width in percent, or in thousandths where a path needs
plain numbers: the template draws it in as much width as there is. Times are Unix seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from exporters.history import WORST, Point, Segment

HOUR, DAY = 3600.0, 86400.0
WIDTH, HEIGHT = 1000, 100
"""Of a path's coordinates."""
BARS = 240
"""Of one timeline at most; where there is more, the worst of each piece is shown."""
_EDGE = 7.0
"""Percent of the width within which a label would be cut."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a timeline: ``x`` and ``width`` in percent, and what it stands for."""

    x: float
    width: float
    told: Segment


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the time axis: percent of the width, and its label, "" where there is no room."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: ``kind`` is its style, ``path`` its SVG path, "" without a value."""

    name: str
    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one time. ``labels``: of the axis from top to bottom; ``limit``: the height, from
    the top, of the line beyond which it is bad; ``said``: the picture in words."""

    title: str
    said: str
    labels: tuple[str, str, str]
    curves: tuple[Curve, ...]
    limit: float | None = None


def bars(segments: Sequence[Segment], since: float, until: float) -> list[Bar]:
    """A timeline's, oldest first: a bar for each segment, where they are not too many."""
    if len(segments) > BARS:
        segments = _coarse(segments, since, until)
    share = 100 / (until - since)
    return [
        Bar(_at(share * (s.since - since)), _at(share * (s.until - s.since)), s) for s in segments
    ]


def _coarse(segments: Sequence[Segment], since: float, until: float) -> list[Segment]:
    """Of each piece of the time the worst that was said in it, stretched over all of it."""
    piece = (until - since) / BARS
    worst: dict[int, Segment] = {}
    for s in segments:
        last = math.ceil((s.until - since) / piece)
        for number in range(int((s.since - since) / piece), min(last, BARS)):
            known = worst.get(number)
            if known is None or WORST.index(s.status) > WORST.index(known.status):
                worst[number] = s
    made: list[Segment] = []
    for number, s in sorted(worst.items()):
        a, b = since + number * piece, since + (number + 1) * piece
        if made and (made[-1].status, made[-1].mechanism) == (s.status, s.mechanism):
            made[-1] = replace(made[-1], until=b)
        else:
            made.append(replace(s, since=a, until=b))
    return made


def ticks(since: float, until: float) -> list[Tick]:
    """Round times (UTC) between the two, so many that their labels do not meet on a phone."""
    span = until - since
    step = next((s for s in (HOUR, 6 * HOUR, DAY, 5 * DAY) if span / s <= 7.5), 30 * DAY)
    form = "%H:%M" if step < DAY else "%-d %b"
    made = []
    at = math.ceil(since / step) * step
    while at <= until:
        x = 100 * (at - since) / span
        room = _EDGE <= x <= 100 - _EDGE
        made.append(Tick(_at(x), f"{datetime.fromtimestamp(at, UTC):{form}}" if room else ""))
        at += step
    return made


Value = Callable[[Point], float | None]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a target's charts are drawn of. ``width``: seconds of one point, whose value is drawn at
    its middle."""

    points: Sequence[Point]
    since: float
    until: float
    width: float

    def curves(
        self, scale: tuple[float, float], *wanted: tuple[str, str, Value]
    ) -> tuple[Curve, ...]:
        """Name, kind and value of each; ``scale``: the values at the bottom and at the top."""
        return tuple(Curve(name, kind, self._path(of, *scale)) for name, kind, of in wanted)

    def _path(self, value: Value, low: float, high: float) -> str:
        """A line that breaks where nothing was measured."""
        parts: list[str] = []
        before: float | None = None
        for p in self.points:
            found = value(p)
            if found is None:
                continue
            x = self._x(p.at + self.width / 2)
            y = HEIGHT * (1 - (min(max(found, low), high) - low) / (high - low))
            # A line of no length, with round ends, is a dot.
            joined = before is not None and p.at - before <= 1.5 * self.width
            parts.append(f"L{x:.1f} {y:.1f}" if joined else f"M{x:.1f} {y:.1f}h0")
            before = p.at
        return "".join(parts)

    def _x(self, at: float) -> float:
        at = min(max(at, self.since), self.until)
        return WIDTH * (at - self.since) / (self.until - self.since)

    def _rounded(self, at: float) -> float:
        return round(self._x(at), 1)

    def columns(self, share: Value) -> tuple[str, str]:
        """Paths of what worked and, above it, of what did not, as columns of the whole height."""
        good: list[str] = []
        bad: list[str] = []
        for p in self.points:
            found = share(p)
            # Both edges rounded, so that there is no gap between two of them.
            x, w = self._rounded(p.at), self._rounded(p.at + self.width) - self._rounded(p.at)
            if found is None or w <= 0:
                continue
            y = HEIGHT * (1 - found)
            if found > 0:
                good.append(f"M{x:.1f} {y:.1f}h{w:.1f}V{HEIGHT}h-{w:.1f}z")
            if found < 1:
                bad.append(f"M{x:.1f} 0h{w:.1f}V{y:.1f}h-{w:.1f}z")
        return "".join(good), "".join(bad)


def ceiling(values: Iterable[float | None], least: float) -> float:
    """The next round number (1, 2, 5, 10 ...) that none of the values is above."""
    most = max((v for v in values if v is not None), default=0.0)
    most = max(most, least)
    power = 10.0 ** math.floor(math.log10(most))
    return next(f * power for f in (1, 2, 5, 10) if most <= f * power * (1 + 1e-9))


def _at(percent: float) -> float:
    return round(percent, 3)
