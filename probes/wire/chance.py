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


def wilson(count: float, of: float, z: float = 2.576) -> tuple[float, float]:
    """Wilson's interval for a share; (0, 1) when there is nothing to tell from."""
    if of <= 0:
        return 0.0, 1.0
    share, spread = count / of, z * z / of
    middle = share + spread / 2
    half = math.sqrt(max(0.0, share * (1 - share) * spread + spread * spread / 4))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
