"""What a listener would say of a call with so much delay and loss: ITU-T G.107, simplified.

Ratings are on the narrow-band scale, 0 to 93.2; the wide-band scales of G.107.1 and G.107.2 must
not be mixed with it. It is an estimate: nobody listened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BEST = 93.2
"""R without delay and loss: G.107 with all its default values."""
BUFFER = 0.060
"""Seconds of the jitter buffer; what comes later than that is as good as lost."""
DEVICES = 0.010
"""Seconds that both ends take to record and to play."""
BURST_RATIOS = (1.0, 8.0)
"""For which G.107 holds."""


@dataclass(frozen=True, slots=True)
class Codec:
    """``impairment`` (Ie) and ``robustness`` (Bpl) of G.113; ``look_ahead`` in seconds."""

    impairment: float
    robustness: float
    look_ahead: float = 0.0


G711_PLC = Codec(0.0, 25.1)
"""G.711 with packet loss concealment: ITU-T G.113."""
OPUS_FEC = Codec(7.3, 20.0, 0.0065)
"""Like Opus at 32 kbit/s with forward error correction: engineering values, not the ITU's."""


def mouth_to_ear(rtt: float, ptime: float, codec: Codec = G711_PLC) -> float:
    """Seconds (Ta) from round-trip and packetisation time, both in seconds."""
    return rtt / 2 + ptime + codec.look_ahead + BUFFER + DEVICES


def delay_impairment(delay: float) -> float:
    """Idd of a delay from mouth to ear in seconds."""
    if delay <= 0.1:
        return 0.0
    x = math.log2(delay / 0.1)
    return 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


def loss_impairment(codec: Codec, percent: float, burst_ratio: float = 1.0) -> float:
    """Ie,eff of lost and late packets, one way, in percent."""
    if percent <= 0:
        return codec.impairment
    low, high = BURST_RATIOS
    runs = min(max(burst_ratio, low), high)
    return codec.impairment + (95 - codec.impairment) * percent / (
        percent / runs + codec.robustness
    )


def rating(codec: Codec, delay: float, percent: float, burst_ratio: float = 1.0) -> float:
    """R; below 0 for what nobody would call a call."""
    return BEST - delay_impairment(delay) - loss_impairment(codec, percent, burst_ratio)


def score(r: float) -> float:
    """MOS, 1 to 4.5, of a rating. The cubic dips below 1 near R = 3; nobody can score that."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def mos(codec: Codec, delay: float, percent: float, burst_ratio: float = 1.0) -> float:
    return score(rating(codec, delay, percent, burst_ratio))


def one_way(share: float) -> float:
    """The share lost in each direction when that share of round trips is: both lose alike."""
    return 1 - math.sqrt(1 - min(max(share, 0.0), 1.0))
