"""When a call would have been bad. Arithmetic only."""

from __future__ import annotations

import math

from probes.wire import emodel
from probes.wire.chance import at_least, wilson

BAD = 0.05
BASE = 0.02
"""Lost or late packets that any line may have."""
POOR = 3.6
"""MOS (G.711 with concealment) below which a call is bad."""
PLAIN = 3 * BAD
"""So much is bad however it is spread over the run."""
SURE = 0.01
ONE_SIDED = 2.326
"""Standard deviations for that."""


def sounds_bad(
    share: float, requests: int, burst_ratio: float = 1.0, mouth_to_ear: float | None = None
) -> bool:
    """Lost or late at least 5 %, or a score below 3.6, and more than a line with 2 % shows in one
    of a hundred runs: of thirty packets four are needed, of 1,500 seventy-five."""
    lossy = is_lossy(share, requests, burst_ratio)
    return lossy or _is_poor(share, requests, burst_ratio, mouth_to_ear)


def is_lossy(share: float, requests: int, burst_ratio: float = 1.0) -> bool:
    """Runs of lost packets count for fewer."""
    if share < BAD:
        return False
    if share >= PLAIN and at_least(round(share * requests), requests, BASE) < SURE:
        return True
    count, of = _effective(share, requests, burst_ratio)
    return at_least(count, of, BASE) < SURE


def _is_poor(share: float, requests: int, burst_ratio: float, mouth_to_ear: float | None) -> bool:
    """Even with the least loss that the sample allows?"""
    if mouth_to_ear is None:
        return False
    count, of = _effective(share, requests, burst_ratio)
    percent = 100 * emodel.one_way(wilson(count, of, ONE_SIDED)[0])
    return emodel.mos(emodel.G711_PLC, mouth_to_ear, percent, burst_ratio) < POOR


def _effective(share: float, requests: int, burst_ratio: float) -> tuple[int, int]:
    """Of how many independent packets the count tells as much: with two states of which one loses
    everything, counts vary 2 BurstR - 1 times as much as of independent loss."""
    of = math.floor(requests / (2 * max(1.0, burst_ratio) - 1))
    return round(share * of), of
