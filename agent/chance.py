"""How likely a difference is by chance. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb


def fisher(passed: int, failed: int, control_passed: int, control_failed: int) -> float:
    """One-sided: the probability of so few passes, or fewer, if both were alike."""
    own, passes = passed + failed, passed + control_passed
    everything = own + control_passed + control_failed
    fewest = max(0, passes - control_passed - control_failed)
    ways = sum(
        comb(passes, k) * comb(everything - passes, own - k) for k in range(fewest, passed + 1)
    )
    return ways / comb(everything, own)


def rank_sum(low: Sequence[float], high: Sequence[float]) -> float:
    """One-sided, exact (Mann and Whitney): the probability that the values of ``low`` rank so low,
    or lower, among all if both were alike. Ties count against it."""
    n, m = len(low), len(high)
    if not n or not m:
        return 1.0
    beaten = sum(b <= a for a in low for b in high)
    # ways[j][u]: orders of j low values among those of high seen so far with u pairs beaten
    ways = [[0] * (n * m + 1) for _ in range(n + 1)]
    ways[0][0] = 1
    for position in range(1, n + m + 1):
        for j in range(min(position, n), 0, -1):
            others = position - j
            if others > m:
                continue
            for u in range(n * m, others - 1, -1):
                ways[j][u] += ways[j - 1][u - others]
    return sum(ways[n][: beaten + 1]) / comb(n + m, n)
