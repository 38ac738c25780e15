"""The JSON and CSV forms of what the history says (docs/history.md)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from exporters.document import observation, timestamp
from exporters.history import Outage, Point, Segment
from probes.model import Observation

VERSION = 1
COLUMNS = (
    "messenger",
    "channel",
    "from",
    "to",
    "seconds",
    "status",
    "mechanism",
    "certainty",
    "confidence",
    "rule",
    "evidence",
    "summary",
)


def outage(o: Outage) -> dict[str, Any]:
    """``to`` is None while it lasts; ``evidence`` counts observations."""
    return {
        "messenger": o.messenger,
        "channel": o.channel,
        "from": timestamp(o.since),
        "to": None if o.until is None else timestamp(o.until),
        "seconds": round(o.seconds, 3),
        "status": str(o.status),
        "mechanism": str(o.mechanism),
        "certainty": str(o.certainty),
        "confidence": o.confidence,
        "rule": o.rule,
        "evidence": o.evidence,
        "summary": o.summary,
    }


def segment(s: Segment) -> dict[str, Any]:
    return {
        "from": timestamp(s.since),
        "to": timestamp(s.until),
        "status": str(s.status),
        "mechanism": str(s.mechanism),
        "certainty": str(s.certainty),
        "intermittent": s.intermittent,
        "summary": s.summary,
        "reason": s.why,
    }


def timeline(of: Mapping[tuple[str, str], Sequence[Segment]]) -> list[dict[str, Any]]:
    return [
        {"messenger": m, "channel": c, "segments": [segment(s) for s in segments]}
        for (m, c), segments in of.items()
    ]


def point(p: Point) -> dict[str, Any]:
    """Seconds and shares; what was not measured is left out."""
    values = {name: value for name, value in asdict(p).items() if value is not None}
    return {**values, "at": timestamp(p.at)}


def failures(observations: Iterable[Observation]) -> list[dict[str, Any]]:
    return [observation(o) for o in observations]


def as_csv(outages: Iterable[Outage]) -> str:
    """With a line of names; what a spreadsheet would take for a formula begins with a quote."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for o in outages:
        told = outage(o)
        writer.writerow(["" if told[name] is None else _plain(told[name]) for name in COLUMNS])
    return out.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return f"'{value}"
    return value
