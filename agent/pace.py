"""What one transfer says of its path: where it stopped, at what pace it went, what slowed it. Pure.

Figures are those of the project's notes on interference methods, 2.3, 2.4 and 4.3.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from agent.facts import count, number
from probes.model import Failure, Observation, Step

SETTLED = 3
"""Seconds of a transfer that say nothing of its pace: the bucket is full, or TCP is starting."""
LEAST = 8
"""Seconds that a transfer must go on for its pace to be told."""
BEGUN = 2_000
"""Bytes after the handshake that are more than its last words."""
SLOW = 600_000
"""Bits per second below which a transfer is looked into: pictures and voice messages crawl."""
STEADY = 0.15
"""Coefficient of variation of a plateau that somebody has set."""
LOSSY = 0.02
"""Share of the segments behind a gap from which on it was loss that slowed a transfer."""
INFLATED = 1.5
"""How many times longer a round trip is at least when packets wait in a queue of somebody's."""
ALIKE = 0.2
"""Relative difference within which two transfers stopped at the same place."""


def is_transfer(o: Observation) -> bool:
    return o.target.probe == "transfer"


def froze(o: Observation) -> bool:
    """Did it begin, and then nothing more come, and nobody say why? Of a long TLS record nothing
    can be read before its end has come."""
    failed = o.failed
    if failed is None or failed.failure is not Failure.TIMEOUT:
        return False
    begun = BEGUN if failed.step is Step.EXCHANGE else 1
    return failed.step in (Step.EXCHANGE, Step.STREAM) and carried(o) >= begun


def carried(o: Observation) -> int:
    """Bytes that passed, both directions together."""
    return count(o, "received_bytes") + count(o, "upload_bytes")


def segments(o: Observation) -> int:
    return count(o, "segments_in") + count(o, "segments_out")


def blocks(o: Observation) -> list[float]:
    """Bits in each second of a download, the first ones left out; none of a short one."""
    series, slot = o.facts.get("series"), number(o, "series_slot_seconds")
    if not isinstance(series, tuple) or not slot:
        return []
    totals = [0, *map(int, series[:-1])]  # the last one is the total, at no slot's end
    per = round(1 / slot)
    at = totals[::per]
    if len(at) - 1 < LEAST:
        return []
    return [8.0 * (b - a) for a, b in zip(at[SETTLED:-1], at[SETTLED + 1 :], strict=True)]


def pace(o: Observation) -> float | None:
    """Bits per second: the plateau's of a long transfer, else the whole's."""
    plateau = blocks(o)
    if plateau:
        return statistics.median(plateau)
    return number(o, "throughput_bits_per_second")


def is_slow(o: Observation) -> bool:
    """Long enough to be sure, and too slow for what it is for."""
    plateau = blocks(o)
    return bool(plateau) and statistics.median(plateau) < SLOW


def is_bad(o: Observation) -> bool:
    return is_transfer(o) and (froze(o) or (o.ok and is_slow(o)))


def is_steady(o: Observation) -> bool:
    """Is the plateau's pace constant?"""
    plateau = blocks(o)
    if not plateau or not sum(plateau):
        return False
    return statistics.pstdev(plateau) / statistics.mean(plateau) < STEADY


def lost(o: Observation) -> bool:
    """Was it loss that slowed it?"""
    arrived = count(o, "segments_in")
    return arrived > 0 and count(o, "out_of_order") >= LOSSY * arrived


def queued(o: Observation) -> bool:
    """Was it a queue that slowed it?"""
    least, receiving = number(o, "min_rtt_seconds"), number(o, "receive_rtt_seconds")
    if not least or not receiving:
        return False
    return not lost(o) and receiving >= INFLATED * least


def alike(values: Sequence[float]) -> bool:
    """Are they all within a fifth of their median?"""
    middle = statistics.median(values)
    return all(abs(value - middle) <= ALIKE * middle for value in values)
