"""A histogram that is cheap to fill and to send to the web process."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field


@dataclass(slots=True)
class Histogram:
    """Counts per bucket (upper bounds, the last one for everything above) and the sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value


def buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """As prometheus_client wants them: (upper bound, all up to it), and the sum."""
    cumulative, rows = 0, []
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        cumulative += count
        rows.append(("+Inf" if bound is None else str(bound), float(cumulative)))
    return rows, histogram.total
