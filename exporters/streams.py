"""The figures of media streams: of the target, and of what ran beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporters.histogram import Histogram
from probes.model import Fact, Observation
from probes.wire.quality import RTT_BOUNDS

STREAMS = {"target": ("",), "control": ("twin_", "stun_")}
"""The values of the label ``stream``, and what may stand before their facts' names."""
MODELS = ("g711", "opus")


@dataclass(slots=True)
class StreamFigures:
    """One stream's series. ``last`` has the facts of its last run, without a prefix."""

    sent: int = 0
    received: int = 0
    rtts: Histogram = field(default_factory=lambda: Histogram(RTT_BOUNDS))
    last: dict[str, float] = field(default_factory=dict)


GAUGES = (
    ("loss_ratio", "Share of the last stream's packets that were not answered."),
    ("late_ratio", "Share of them that came too late for a jitter buffer of 60 ms."),
    ("jitter_seconds", "Interarrival jitter of the last stream (RFC 3550), of the round trip."),
    ("reordered_ratio", "Share of the last stream's answers that came out of order (RFC 4737)."),
    ("duplicate_ratio", "Share of the last stream's packets that were answered more than once."),
    ("longest_gap_seconds", "Longest time without an answer in the last stream."),
    ("send_lateness_seconds", "Median time by which this host sent its packets late."),
)
_FACTS = {"late_ratio": "late_60ms_ratio"}
"""Where a fact has another name than its series."""


def record(figures: dict[str, StreamFigures], o: Observation) -> None:
    """Add one run of a stream, and of its control, to a target's figures."""
    for stream, prefixes in STREAMS.items():
        prefix = next((p for p in prefixes if f"{p}requests" in o.facts), None)
        requests = None if prefix is None else _number(o.facts, f"{prefix}requests")
        if prefix is None or requests is None:
            if stream in figures:
                figures[stream].last = {}
            continue
        its = figures.setdefault(stream, StreamFigures())
        its.sent += int(requests)
        its.received += int(_number(o.facts, prefix + "answered") or 0)
        counted = o.facts.get(prefix + "rtt_buckets")
        if isinstance(counted, tuple):
            for index, count in enumerate(counted[: len(its.rtts.counts)]):
                its.rtts.counts[index] += int(count)
            its.rtts.total += _number(o.facts, prefix + "rtt_sum_seconds") or 0.0
        its.last = {}
        for name in (*(name for name, _ in GAUGES), *(f"mos_{m}" for m in MODELS)):
            value = _number(o.facts, prefix + _FACTS.get(name, name))
            if value is not None:
                its.last[name] = value


def _number(facts: Mapping[str, Fact], key: str) -> float | None:
    value = facts.get(key)
    return float(value) if isinstance(value, (int, float)) else None
