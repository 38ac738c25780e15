"""Is one stream worse than another that played at the same time? Block differences, exactly.

Packets are not independent: loss comes in runs, and congestion drifts. So not packets are compared
but seconds, and not with a formula that needs them to be alike: if nothing tells the two streams
apart, each second's difference could as well have had the other sign. The share of all such signs
that makes the target look as bad as it did, or worse, is the p-value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from probes.wire import emodel
from probes.wire.chance import wilson
from probes.wire.quality import Packet, Quality, bad_marks, quality

BLOCK = 1.0
"""Seconds. At 50 packets a second, runs of ten lost ones hardly reach from one into the next."""
ALPHA = 0.01
LOSS, MOS = 0.03, 0.3
"""What is worth a word: bad packets by so much more, or the score by so much less."""
DELAY, JITTER = 0.050, 0.020
"""Seconds, likewise."""
_STEP, _LONGEST = 1e-3, 2.0  # seconds of delay: one unit of the exact test, and its largest


@dataclass(frozen=True, slots=True)
class Paired:
    """``p`` and ``z``: of the bad shares, one-sided, target worse; ``z`` is the same difference in
    standard deviations under equality, for sums over runs. Differences are target minus control
    (``mos_difference`` control minus target), so that more is worse; None where a stream gave
    nothing to compare. The score is compared at the target's own delay: distance is no damage, and
    delay is compared beyond each stream's own smallest RTT."""

    blocks: int
    p: float
    z: float
    loss_difference: float | None
    mos_difference: float | None
    jitter_difference: float | None
    delay_difference: float | None
    p_delay: float
    worse: bool
    """Significantly more bad packets, and enough to be heard."""
    slower: bool
    """Significantly later packets, and enough to be heard."""


def compare(
    target: Sequence[Packet],
    control: Sequence[Packet],
    ptime: float,
    *,
    block: float = BLOCK,
    alpha: float = ALPHA,
    round_trip: bool = True,
    figures: tuple[Quality, Quality] | None = None,
) -> Paired:
    """Both streams on one clock: ``sent`` counts from their common start. They may differ in pace;
    but the test is exact for equal ones only, and too sure of a target that is much the faster.
    Blocks in which either sent nothing are left out. ``figures`` are those of both, where they are
    known. To be asked once per run, when it is over."""
    losses = _loss_blocks(target, control, block)
    delays = _delay_blocks(target, control, block)
    p, p_delay = sign_flip(losses), sign_flip(delays)
    ours, theirs = figures or (
        quality(target, ptime, round_trip=round_trip),
        quality(control, ptime, round_trip=round_trip),
    )
    loss = _minus(ours.bad, theirs.bad)
    mos = _mos_difference(ours, theirs)
    jitter = _minus(ours.jitter, theirs.jitter)
    delay = _minus(_queue(ours), _queue(theirs))
    heard = (loss or 0.0) >= LOSS or ((loss or 0.0) > 0 and (mos or 0.0) >= MOS)
    felt = (jitter or 0.0) >= JITTER or (delay or 0.0) >= DELAY
    return Paired(
        blocks=len(losses),
        p=p,
        z=_standardised(losses),
        loss_difference=loss,
        mos_difference=mos,
        jitter_difference=jitter,
        delay_difference=delay,
        p_delay=p_delay,
        worse=p < alpha and heard,
        slower=p_delay < alpha and felt,
    )


def facts(paired: Paired, prefix: str) -> dict[str, int | float | bool]:
    """``prefix`` says of which control: ``twin_``, ``dress_``, ``tcp_``, ``stun_``."""
    named: dict[str, int | float | bool | None] = {
        "worse": paired.worse,
        "slower": paired.slower,
        "blocks": paired.blocks,
        "p": float(f"{paired.p:.3g}"),
        "z": round(paired.z, 3),
        "loss_difference": paired.loss_difference,
        "mos_difference": paired.mos_difference,
        "jitter_difference_seconds": paired.jitter_difference,
        "delay_difference_seconds": paired.delay_difference,
    }
    return {
        prefix + name: round(value, 6) if isinstance(value, float) and name != "p" else value
        for name, value in named.items()
        if value is not None
    }


def sign_flip(differences: Sequence[int]) -> float:
    """The share of all choices of signs whose sum is at least that of ``differences``: exact.

    The number of choices for each sum is a coefficient of the product of (1 + x**|d|). They are
    kept side by side in one integer, each in as many bits as it can need, so that a factor costs a
    shift and an addition.
    """
    sizes = [abs(d) for d in differences if d]
    if not sizes:
        return 1.0
    unit = math.gcd(*sizes)
    sizes = [size // unit for size in sizes]
    # Twice the sum of those with a plus is the sum of all sizes and the sum with signs.
    least = (sum(sizes) + sum(differences) // unit) // 2
    bits = len(sizes) + 1
    counts = 1
    for size in sizes:
        counts += counts << bits * size
    # Digits of a number in base b add up to it modulo b - 1; together they are below that here.
    above = (counts >> bits * least) % ((1 << bits) - 1)
    return above / (1 << len(sizes))


def turns(count: int, seed: bytes) -> tuple[bool, ...]:
    """For ``count`` slots, whether the target sends first: at random and equally often, from the
    random bytes ``seed``, of which more than an eighth of ``count`` are needed.

    Two streams that always take the same turns meet a short queue in the same way each time: the
    one that finds it full loses all, the other nothing.
    """
    firsts: list[bool] = []
    for n in range((count + 1) // 2):
        first = bool(seed[n // 8] >> n % 8 & 1)
        firsts += [first, not first]
    return tuple(firsts[:count])


@dataclass(frozen=True, slots=True)
class Direction:
    """Shares lost on the way there and on the way back; ``only`` is "up" or "down" when that one
    is bad and the other is not, else ""."""

    up: float | None
    down: float | None
    only: str


def direction(sent: int, arrived: int, answered: int) -> Direction:
    """From what was sent, what the peer counted, and what came back of its answers.

    One direction only: at least 5 % are lost there, and the intervals in which both shares lie with
    99 % (Wilson's) do not meet. Not for streams that lost long runs: ask for it in several.
    """
    arrived = min(max(arrived, answered), sent)
    up = (sent - arrived) / sent if sent else None
    down = (arrived - answered) / arrived if arrived else None
    ups, downs = wilson(sent - arrived, sent), wilson(arrived - answered, arrived)
    only = ""
    if (up or 0.0) >= _ONE_WAY and ups[0] > downs[1]:
        only = "up"
    elif (down or 0.0) >= _ONE_WAY and downs[0] > ups[1]:
        only = "down"
    return Direction(up, down, only)


_ONE_WAY = 0.05


def _loss_blocks(target: Sequence[Packet], control: Sequence[Packet], block: float) -> list[int]:
    """Differences of the bad shares, each times both numbers of packets: integers."""
    ours, theirs = _counted(target, block), _counted(control, block)
    differences = []
    for number in sorted(ours.keys() & theirs.keys()):
        (bad, n), (bad_there, n_there) = ours[number], theirs[number]
        differences.append(bad * n_there - bad_there * n)
    return differences


def _counted(packets: Sequence[Packet], block: float) -> dict[int, tuple[int, int]]:
    """Bad packets and all packets of each block."""
    counts: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for packet, bad in zip(packets, bad_marks(packets), strict=True):
        number = math.floor(packet.sent / block)
        before, n = counts[number]
        counts[number] = (before + bad, n + 1)
    return counts


def _delay_blocks(target: Sequence[Packet], control: Sequence[Packet], block: float) -> list[int]:
    """Differences of the mean delay beyond the smallest RTT, in milliseconds."""
    ours, theirs = _delays(target, block), _delays(control, block)
    both = sorted(ours.keys() & theirs.keys())
    return [round((ours[number] - theirs[number]) / _STEP) for number in both]


def _delays(packets: Sequence[Packet], block: float) -> dict[int, float]:
    rtts: defaultdict[int, list[float]] = defaultdict(list)
    for packet in packets:
        if packet.rtt is not None:
            rtts[math.floor(packet.sent / block)].append(packet.rtt)
    smallest = min((min(its) for its in rtts.values()), default=0.0)
    return {number: min(_LONGEST, fmean(its) - smallest) for number, its in rtts.items()}


def _standardised(differences: Sequence[int]) -> float:
    spread = sum(d * d for d in differences)
    return sum(differences) / math.sqrt(spread) if spread else 0.0


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _queue(of: Quality) -> float | None:
    return _minus(of.rtt_median, of.rtt_min)


def _mos_difference(ours: Quality, theirs: Quality) -> float | None:
    delay = ours.mouth_to_ear
    if delay is None or ours.loss_one_way is None or theirs.loss_one_way is None:
        return None
    scores = [
        emodel.mos(emodel.G711_PLC, delay, 100 * (each.loss_one_way or 0.0), each.burst_ratio or 1)
        for each in (ours, theirs)
    ]
    return scores[1] - scores[0]
