"""What the page shows, made of the mirror and the history: values for the templates, no I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from exporters import words
from exporters.charts import DAY, Bar, Chart, Frame, Tick, Value, bars, ceiling, ticks
from exporters.document import in_order
from exporters.feed import TargetFigures
from exporters.history import Outage, Point, Segment, coarser
from exporters.mirror import Mirror
from probes.model import CONTROL, Diagnosis, Observation, Status, TargetState

SPANS = {"24h": ("24 hours", DAY), "7d": ("7 days", 7 * DAY), "30d": ("30 days", 30 * DAY)}
"""Of the timelines: by their name in the address, how they are called, and seconds."""
POINTS = 144
"""Of a chart at most."""
ROWS = 24
"""Of the table with a chart's figures, at most."""
OUTAGES = 12
"""Of one channel that are listed, at most, the newest ones."""
ANSWERS = {
    Status.OK: "Yes",
    Status.DEGRADED: "Badly",
    Status.BLOCKED: "No",
    Status.UNREACHABLE: "No",
    Status.UNKNOWN: "Not known",
}
"""To "can I call?"."""
CHANNELS = {"call": "Calls", "chat": "Chat", "media": "Media", "web": "Web"}
BAD_LOSS, GOOD_MOS = 0.05, 3.6
"""From where on a stream is bad (docs/call-quality.md)."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the history said. ``missing``: why it said nothing, "" where it did."""

    timeline: Mapping[tuple[str, str], Sequence[Segment]]
    outages: Sequence[Outage] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A channel and its timeline; ``said``: the timeline in words."""

    diagnosis: Diagnosis
    anchor: str
    name: str
    bars: Sequence[Bar]
    said: str
    outages: Sequence[Outage]
    more: int


@dataclass(frozen=True, slots=True)
class Card:
    """A messenger: its call, None where it has none, before all its channels."""

    messenger: str
    title: str
    call: Line | None
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Overview:
    span: str
    cards: Sequence[Card]
    ticks: Sequence[Tick]
    controls: Sequence[TargetFigures]
    unknown: Sequence[str]
    missing: str


def overview(mirror: Mirror, past: Remembered, span: str, now: float) -> Overview:
    since = now - SPANS[span][1]
    cards: dict[str, list[Line]] = {}
    for d in in_order(mirror.diagnoses):
        cards.setdefault(d.messenger, []).append(_line(d, past, since, now))
    return Overview(
        span=span,
        cards=[
            Card(
                messenger,
                mirror.titles.get(messenger, messenger),
                next((each for each in lines if each.diagnosis.channel == "call"), None),
                lines,
            )
            for messenger, lines in cards.items()
        ],
        ticks=ticks(since, now),
        controls=[f for f in mirror.targets.values() if f.target.messenger == CONTROL],
        unknown=list(_unknown(mirror)),
        missing=past.missing,
    )


def _line(d: Diagnosis, past: Remembered, since: float, now: float) -> Line:
    key = (d.messenger, d.channel)
    segments = past.timeline.get(key, ())
    its = [o for o in past.outages if (o.messenger, o.channel) == key]
    return Line(
        diagnosis=d,
        anchor=f"{d.messenger}-{d.channel}",
        name=CHANNELS.get(d.channel, d.channel),
        bars=bars(segments, since, now),
        said=shares(segments),
        outages=its[:OUTAGES],
        more=max(0, len(its) - OUTAGES),
    )


def shares(segments: Iterable[Segment]) -> str:
    """How much of its time a channel was what, the longest first; "" of nothing."""
    spent: defaultdict[str, float] = defaultdict(float)
    for s in segments:
        unknown = s.status is Status.UNKNOWN
        spent["not known" if unknown else str(s.status)] += s.until - s.since
    total = sum(spent.values())
    return ", ".join(
        f"{status} {percent(seconds / total)} ({words.lasted(seconds)})"
        for status, seconds in sorted(spent.items(), key=lambda it: -it[1])
        if seconds > 0
    )


def _unknown(mirror: Mirror) -> Iterable[str]:
    """What this page does not know, and why: one sentence each."""
    for d in in_order(mirror.diagnoses):
        if d.status is Status.UNKNOWN:
            yield d.summary
    for d in in_order(mirror.diagnoses):
        waiting = [t for t in d.targets if not t.proven and not t.informative]
        silent = [t for t in d.targets if t.proven and t.works is None]
        title = f"{mirror.titles.get(d.messenger, d.messenger)} {d.channel}"
        if waiting:
            yield (
                f"{title}: {_some(len(waiting), d.total)} not been seen to answer a stranger here"
                " yet, so their silence proves nothing and they do not decide."
            )
        if silent and d.status is not Status.UNKNOWN:
            yield f"{title}: {_some(len(silent), d.total)} not been measured lately."
    a = mirror.agent
    for what, skipped in (
        ("rounds", a.rounds_skipped),
        ("checks", a.checks_skipped),
        ("contrasts", a.contrasts_skipped),
    ):
        if why := ", ".join(f"{r.replace('_', ' ')} ({n})" for r, n in skipped.most_common() if n):
            yield f"{sum(skipped.values())} {what} were left out since the start: {why}."
    if not a.storage_healthy:
        yield "The disk does not take what is to be kept: history waits in memory for now."
    if not a.reload_ok:
        yield "The configuration file has errors; the one before it is in force."


def _some(count: int, total: int) -> str:
    return f"{count} of {total} targets {'has' if count == 1 else 'have'}"


# --- a target ---


@dataclass(frozen=True, slots=True)
class Failed:
    """A failure, and what was asked to explain it."""

    seen: Observation
    contrasts: Sequence[Observation]


@dataclass(frozen=True, slots=True)
class TargetPage:
    """``charts`` with their columns of what worked and what did not before them."""

    messenger: str
    name: str
    title: str
    span: str
    channel: Diagnosis | None
    state: TargetState | None
    figures: TargetFigures | None
    ticks: Sequence[Tick]
    columns: tuple[str, str]
    success: str
    charts: Sequence[Chart]
    rows: Sequence[Point]
    failures: Sequence[Failed]
    missing: str


@dataclass(frozen=True, slots=True)
class RememberedTarget:
    """What the history said of it. ``missing`` as of Remembered."""

    points: Sequence[Point]
    failures: Sequence[Observation]
    missing: str = ""


def target(
    mirror: Mirror, past: RememberedTarget, messenger: str, name: str, span: str, now: float
) -> TargetPage:
    channel, state = _state(mirror, messenger, name)
    length = SPANS[span][1]
    since, width = now - length, length / POINTS
    points = [replace(p, at=p.at // width * width) for p in past.points]
    frame = Frame(points, since, now, width)
    runs, working = (sum(getattr(p, n) for p in past.points) for n in ("runs", "working"))
    return TargetPage(
        messenger=messenger,
        name=name,
        title=mirror.titles.get(messenger, messenger),
        span=span,
        channel=channel,
        state=state,
        figures=mirror.targets.get((messenger, name)),
        ticks=ticks(since, now),
        columns=frame.columns(_share),
        success=f"{working} of {runs} runs worked ({percent(working / runs)})" if runs else "",
        charts=list(_charts(frame)),
        rows=coarser(points, length / ROWS),
        failures=list(_failed(past.failures)),
        missing=past.missing,
    )


def _state(
    mirror: Mirror, messenger: str, name: str
) -> tuple[Diagnosis | None, TargetState | None]:
    for d in mirror.diagnoses:
        if d.messenger == messenger:
            for t in d.targets:
                if t.target.name == name:
                    return d, t
    return None, None


def _share(p: Point) -> float | None:
    return p.working / p.runs if p.runs else None


def _charts(of: Frame) -> Iterable[Chart]:
    if any(p.rtt_median is not None for p in of.points):
        yield _rtt(of)
    if any(p.mos is not None for p in of.points):
        yield _mos(of)
    if any(p.loss is not None for p in of.points):
        yield _loss(of)
    if any(p.jitter is not None for p in of.points):
        yield _jitter(of)


def _rtt(of: Frame) -> Chart:
    medians = [1000 * p.rtt_median for p in of.points if p.rtt_median is not None]
    top = ceiling((1000 * p.rtt_p95 for p in of.points if p.rtt_p95 is not None), 10)
    return Chart(
        "Round trip",
        f"median {_range(medians, 'ms')}",
        (f"{top:g} ms", f"{top / 2:g}", "0"),
        of.curves(
            (0, top),
            ("95th percentile", "faint", _times(1000, lambda p: p.rtt_p95)),
            ("least", "faint", _times(1000, lambda p: p.rtt_min)),
            ("median", "main", _times(1000, lambda p: p.rtt_median)),
        ),
    )


def _mos(of: Frame) -> Chart:
    found = [p.mos for p in of.points if p.mos is not None]
    return Chart(
        "How a call would sound (estimated score of G.711, 1 to 5)",
        f"{_range(found)}; below {GOOD_MOS} is bad",
        ("5", "3", "1"),
        of.curves(
            (1, 5),
            ("the control's", "control", lambda p: p.control_mos),
            ("this target's", "main", lambda p: p.mos),
        ),
        limit=100 * (5 - GOOD_MOS) / 4,
    )


def _loss(of: Frame) -> Chart:
    found = [100 * p.loss for p in of.points if p.loss is not None]
    beside = [p.late for p in of.points] + [p.control_loss for p in of.points]
    top = min(100.0, ceiling([*found, *(100 * v for v in beside if v is not None)], 10))
    return Chart(
        "Packets of a stream that were lost, or came too late",
        f"lost {_range(found, '%')}; {100 * BAD_LOSS:g} % is bad",
        (f"{top:g} %", f"{top / 2:g}", "0"),
        of.curves(
            (0, top),
            ("the control's loss", "control", _times(100, lambda p: p.control_loss)),
            ("too late", "faint", _times(100, lambda p: p.late)),
            ("lost", "main", _times(100, lambda p: p.loss)),
        ),
        limit=100 * (1 - 100 * BAD_LOSS / top),
    )


def _jitter(of: Frame) -> Chart:
    found = [1000 * p.jitter for p in of.points if p.jitter is not None]
    top = ceiling(found, 5)
    return Chart(
        "Jitter of a stream",
        _range(found, "ms"),
        (f"{top:g} ms", f"{top / 2:g}", "0"),
        of.curves((0, top), ("jitter", "main", _times(1000, lambda p: p.jitter))),
    )


def _range(found: Sequence[float], unit: str = "") -> str:
    unit = f" {unit}" if unit else ""
    return f"{min(found):.1f} to {max(found):.1f}{unit}, last {found[-1]:.1f}{unit}"


def _times(factor: float, of: Value) -> Value:
    def scaled(p: Point) -> float | None:
        found = of(p)
        return None if found is None else factor * found

    return scaled


def _failed(found: Sequence[Observation]) -> Iterable[Failed]:
    for o in found:
        if o.contrast is None:
            yield Failed(o, [c for c in found if c.contrast and c.contrast.of == o.id])


# --- words ---


def minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def percent(share: float) -> str:
    """Never 100 % of what is not all of it, nor 0 % of something."""
    shown = f"{100 * share:.1f}"
    if (shown == "100.0" and share < 1) or (shown == "0.0" and share > 0):
        return "over 99.9 %" if share > 0.5 else "under 0.1 %"
    return f"{shown.removesuffix('.0')} %"


def headline(mirror: Mirror) -> str:
    """For the title of a window: how calls work, in as few words as can be."""
    calls = [d for d in in_order(mirror.diagnoses) if d.channel == "call"]
    return ", ".join(
        f"{mirror.titles.get(d.messenger, d.messenger)} calls: {ANSWERS[d.status].lower()}"
        for d in calls
    )


def told(o: Observation) -> str:
    """What failed of an observation, and how much came back."""
    return f"{words.failure(o)}, {words.packets(o)}" if not o.ok else "answered"


def facts(o: Observation) -> list[tuple[str, str]]:
    """Everything that was noted, but for the address that stands above."""
    return [
        (key.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, tuple) else str(v))
        for key, v in sorted(o.facts.items())
        if key not in ("address", "family")
    ]
