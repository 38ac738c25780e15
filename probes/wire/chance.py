"""How likely a count is by chance. Arithmetic only."""

from __future__ import annotations

import math


def at_least(count: int, of: int, share: float) -> float:
    """The chance of that many or more among ``of`` that have ``share`` each, independently."""
    if count <= 0:
        return 1.0
    if count <= of * share:
        return max(0.0, 1 - at_most(count - 1, of, share))
    total = 0.0
    for n in range(count, of + 1):  # they only become fewer
        total += (chance := binomial(n, of, share))
        if chance < 1e-12 * total:
            break
    return total


def at_most(count: int, of: int, share: float) -> float:
    return math.fsum(binomial(n, of, share) for n in range(min(count, of) + 1))


def binomial(n: int, of: int, share: float) -> float:
    """The chance of just ``n``."""
    if not 0 < share < 1:
        return float(n == (of if share >= 1 else 0))
    chosen = math.lgamma(of + 1) - math.lgamma(n + 1) - math.lgamma(of - n + 1)
    return math.exp(chosen + n * math.log(share) + (of - n) * math.log1p(-share))
