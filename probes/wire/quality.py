"""What a stream of packets would have sounded like: from send times and answers to figures.

Times are seconds, shares 0 to 1. A packet that was answered later than the smallest RTT and a
jitter buffer is *late*, and as good as lost; lost or late at 60 ms is *bad*. An answer proves both
directions, so all of this is of the round trip unless the caller counted one direction.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean, median

from probes.wire import emodel

RTT_BOUNDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0)
"""Seconds: upper bounds of the classes into which round trips are counted."""
BUFFERS = (0.040, 0.060, 0.200)
"""Seconds after the smallest RTT for which packets are waited."""
GMIN = 16
"""RFC 3611 section 4.7.2: so many good packets in a row end a burst."""
WINDOW = 0.200
"""Seconds of the worst stretch that is looked for; and packets in it, at least."""
WINDOW_PACKETS = 3
SECONDS, SECOND_PACKETS = 10, 10
"""Seconds, and packets in each, from which it is seen how much they differ."""
SILENT_PACKETS, SILENT_SECONDS = 8, 3.0
"""The shortest end of a stream that may be called silent."""
BY_CHANCE = 1e-3
"""A silent end that the loss before it makes by chance more often than this is no news."""


@dataclass(frozen=True, slots=True)
class Packet:
    """``sent``: seconds since the stream's start at which it truly left; ``rtt``: of its first
    answer, None when lost; ``copies``: how many answers came; ``rank``: the arrival order of its
    first answer among all first answers. What this host refused to send is no packet."""

    sent: float
    rtt: float | None
    copies: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class Bursts:
    """RFC 3611 section 4.7.2. Seconds are means; a gap that never was is None."""

    burst_density: float
    gap_density: float | None
    burst_seconds: float
    gap_seconds: float | None


@dataclass(frozen=True, slots=True)
class Quality:
    """None is what cannot be known of so few packets, or of none that was answered."""

    requests: int
    answered: int
    bad_packets: int
    lost: float | None
    bad: float | None
    late: tuple[float, ...] | None
    """Of all requests, at each of ``BUFFERS``."""
    duplicated: float | None
    """The share of the answered that were answered more than once."""
    reordered: float | None
    """RFC 4737 section 3: of the answers, those that came after one to a later request."""
    reorder_extent: int
    """RFC 4737 section 4.2: how many answers later than its place the worst of them came."""
    rtt_min: float | None
    rtt_median: float | None
    rtt_p95: float | None
    rtt_p99: float | None
    rtt_mean: float | None
    jitter: float | None
    """RFC 3550 section 6.4.1, of round trips."""
    pdv: float | None
    """RFC 5481: RTT at p95 above the smallest."""
    longest_gap: float | None
    """Seconds without an answer, counted from the first request to the last."""
    first_loss: float | None
    last_answered: float | None
    """When these requests were sent."""
    silent_after: float | None
    """When the last answered request was sent, if more were sent after it than chance explains."""
    silent_after_packets: int | None
    """How many requests had been sent by then."""
    bursts: Bursts | None
    burst_ratio: float | None
    """G.107's BurstR: the mean run of bad packets over that of independent loss; 1 without any."""
    worst: float | None
    """The largest bad share within 200 ms, where at least three packets are sent in that."""
    dispersion: float | None
    """How much the loss varies from second to second, as a part of what independent loss would: 1
    is chance, more are runs, less is a limit. Over the second half, when a limit's allowance for
    beginners is used up: at least ten seconds of ten packets."""
    mouth_to_ear: float | None
    """Ta of a codec without look-ahead."""
    loss_one_way: float | None
    """Ppl as a share: bad packets in each direction."""
    mos_g711: float | None
    mos_opus: float | None


def quality(packets: Sequence[Packet], ptime: float, *, round_trip: bool = True) -> Quality:
    """``ptime``: seconds of sound in a packet of the call that is estimated. With ``round_trip``
    the loss is taken to be the same in both directions; without, it is already that of one."""
    sent = sorted(packets, key=lambda p: p.sent)
    answered = [p for p in sent if p.rtt is not None]
    rtts = sorted(p.rtt for p in answered if p.rtt is not None)
    marks = bad_marks(sent)
    bad = sum(marks)
    lost = [p.sent for p in sent if p.rtt is None]
    reordered, extent = _reordering(sent)
    silent = _silent_after(sent)
    n = len(sent)
    share = bad / n if n else None
    ratio = _burst_ratio(marks)
    one_way = None if share is None else emodel.one_way(share) if round_trip else share
    middle = median(rtts) if rtts else None
    scores = [
        emodel.mos(codec, emodel.mouth_to_ear(middle, ptime, codec), 100 * one_way, ratio or 1.0)
        if middle is not None and one_way is not None
        else None
        for codec in (emodel.G711_PLC, emodel.OPUS_FEC)
    ]
    return Quality(
        requests=n,
        answered=len(answered),
        bad_packets=bad,
        lost=len(lost) / n if n else None,
        bad=share,
        late=tuple((n - bisect_right(rtts, rtts[0] + b) - len(lost)) / n for b in BUFFERS)
        if rtts
        else None,
        duplicated=sum(p.copies > 1 for p in answered) / len(answered) if answered else None,
        reordered=reordered / len(answered) if answered else None,
        reorder_extent=extent,
        rtt_min=rtts[0] if rtts else None,
        rtt_median=middle,
        rtt_p95=_percentile(rtts, 0.95),
        rtt_p99=_percentile(rtts, 0.99),
        rtt_mean=fmean(rtts) if rtts else None,
        jitter=_jitter(_arrivals(sent)),
        pdv=_percentile(rtts, 0.95, above=rtts[0]) if rtts else None,
        longest_gap=_longest_gap(sent),
        first_loss=min(lost, default=None),
        last_answered=answered[-1].sent if answered else None,
        silent_after=sent[silent - 1].sent if silent else None,
        silent_after_packets=silent,
        bursts=_bursts(marks, _spacing(sent)),
        burst_ratio=ratio,
        worst=_worst(marks, _spacing(sent)),
        dispersion=_dispersion(sent),
        mouth_to_ear=emodel.mouth_to_ear(middle, ptime) if middle is not None else None,
        loss_one_way=one_way if rtts else None,
        mos_g711=scores[0],
        mos_opus=scores[1],
    )


def facts(quality: Quality, prefix: str = "") -> dict[str, int | float]:
    """Plain values by their names in an observation; what is unknown is absent."""
    q, bursts, late = quality, quality.bursts, quality.late or (None,) * len(BUFFERS)
    named: dict[str, int | float | None] = {
        "requests": q.requests,
        "answered": q.answered,
        "loss_ratio": q.lost,
        "bad_ratio": q.bad,
        "late_40ms_ratio": late[0],
        "late_60ms_ratio": late[1],
        "late_200ms_ratio": late[2],
        "duplicate_ratio": q.duplicated,
        "reordered_ratio": q.reordered,
        "rtt_seconds": q.rtt_median,
        "rtt_min_seconds": q.rtt_min,
        "rtt_p95_seconds": q.rtt_p95,
        "rtt_p99_seconds": q.rtt_p99,
        "jitter_seconds": q.jitter,
        "pdv_seconds": q.pdv,
        "longest_gap_seconds": q.longest_gap,
        "first_loss_seconds": q.first_loss,
        "last_answered_seconds": q.last_answered,
        "silent_after_seconds": q.silent_after,
        "silent_after_packets": q.silent_after_packets,
        "burst_density": bursts.burst_density if bursts else None,
        "gap_density": bursts.gap_density if bursts else None,
        "burst_seconds": bursts.burst_seconds if bursts else None,
        "gap_seconds": bursts.gap_seconds if bursts else None,
        "burst_ratio": q.burst_ratio,
        "worst_200ms_ratio": q.worst,
        "loss_dispersion": q.dispersion,
        "mos_g711": q.mos_g711,
        "mos_opus": q.mos_opus,
        "mouth_to_ear_seconds": q.mouth_to_ear,
        "loss_percent_one_way": None if q.loss_one_way is None else 100 * q.loss_one_way,
    }
    return {
        prefix + name: value if isinstance(value, int) else round(value, 6)
        for name, value in named.items()
        if value is not None
    }


def bad_marks(sent: Sequence[Packet], buffer: float = emodel.BUFFER) -> list[bool]:
    """Of each packet: was it lost, or later than the smallest RTT and ``buffer``?"""
    smallest = min((p.rtt for p in sent if p.rtt is not None), default=0.0)
    return [p.rtt is None or p.rtt > smallest + buffer for p in sent]


def _percentile(ordered: Sequence[float], q: float, above: float = 0.0) -> float | None:
    """The smallest value that so large a share does not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] - above


def _arrivals(sent: Sequence[Packet]) -> list[tuple[int, Packet]]:
    """Number of the request and the packet itself, as the answers came."""
    numbered = [(n, p) for n, p in enumerate(sent) if p.rtt is not None]
    return sorted(numbered, key=lambda one: (one[1].rank or 0, one[0]))


def _reordering(sent: Sequence[Packet]) -> tuple[int, int]:
    """How many answers came after one to a later request, and the largest extent of that."""
    numbers = [n for n, _ in _arrivals(sent)]
    highest = list(accumulate(numbers, max))
    late = [i for i, number in enumerate(numbers) if number < highest[i]]
    extents = [i - bisect_right(highest, numbers[i], hi=i) for i in late]
    return len(late), max(extents, default=0)


def _jitter(arrivals: Sequence[tuple[int, Packet]]) -> float | None:
    """Send times are exact, so Rj - Ri - (Sj - Si) is the difference of the round trips."""
    if len(arrivals) < 2:
        return None
    smoothed = 0.0
    for (_, before), (_, after) in pairwise(arrivals):
        difference = abs((after.rtt or 0.0) - (before.rtt or 0.0))
        smoothed += (difference - smoothed) / 16
    return smoothed


def _longest_gap(sent: Sequence[Packet]) -> float | None:
    if len(sent) < 2:
        return None
    answered = [p for p in sent if p.rtt is not None]
    if not answered:
        return sent[-1].sent - sent[0].sent
    came = sorted(p.sent + (p.rtt or 0.0) for p in answered)
    within = max((b - a for a, b in pairwise(came)), default=0.0)
    return max(within, answered[0].sent - sent[0].sent, sent[-1].sent - came[-1])


def _spacing(sent: Sequence[Packet]) -> float:
    """Seconds between two requests, as a rule; 0 for a single one."""
    return median(b.sent - a.sent for a, b in pairwise(sent)) if len(sent) > 1 else 0.0


def _silent_after(sent: Sequence[Packet]) -> int | None:
    """How many requests had been sent with the last answered one, if silence followed.

    The end must be longer than the loss before it explains: that is taken as Gilbert's two states,
    with their rates from the packets up to the last answered one and a prior of one half for
    staying in the bad one. So a stream that loses single packets falls silent within a few, one
    that loses long runs only after many.
    """
    answered = [n for n, p in enumerate(sent) if p.rtt is not None]
    if not answered:
        return None
    head = answered[-1] + 1
    silent = len(sent) - head
    if silent < SILENT_PACKETS or sent[-1].sent - sent[head - 1].sent < SILENT_SECONDS:
        return None
    lost = head - len(answered)
    runs = sum(b - a > 1 for a, b in pairwise((-1, *answered)))
    enters = (runs + 0.5) / (len(answered) + 1)
    stays = (lost - runs + 1) / (lost + 2)
    by_chance = min(1.0, enters) * stays ** (silent - 1)
    return head if by_chance <= BY_CHANCE else None


def _runs(marks: Sequence[bool]) -> list[int]:
    """Lengths of the runs of bad packets."""
    found, length = [], 0
    for mark in (*marks, False):
        if mark:
            length += 1
        elif length:
            found.append(length)
            length = 0
    return found


def _burst_ratio(marks: Sequence[bool]) -> float | None:
    if not marks:
        return None
    runs = _runs(marks)
    good = 1 - sum(runs) / len(marks)
    return fmean(runs) * good if runs and good else 1.0


def _bursts(marks: Sequence[bool], spacing: float) -> Bursts | None:
    """The stream is taken to stand between good packets, as section 4.7.2 has it."""
    if not marks:
        return None
    at = [n for n, mark in enumerate(marks) if mark]
    groups: list[list[int]] = []
    for n in at:
        if groups and n - groups[-1][-1] <= GMIN:
            groups[-1].append(n)
        else:
            groups.append([n])
    bursts = [(g[0], g[-1] + 1, len(g)) for g in groups if len(g) > 1]
    inside = sum(end - start for start, end, _ in bursts)
    bad_inside = sum(count for *_, count in bursts)
    edges = [0, *(edge for start, end, _ in bursts for edge in (start, end)), len(marks)]
    gaps = [b - a for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
    outside = len(marks) - inside
    return Bursts(
        burst_density=bad_inside / inside if inside else 0.0,
        gap_density=(len(at) - bad_inside) / outside if outside else None,
        burst_seconds=inside / len(bursts) * spacing if bursts else 0.0,
        gap_seconds=fmean(gaps) * spacing if gaps else None,
    )


def _dispersion(sent: Sequence[Packet]) -> float | None:
    lost: Counter[int] = Counter()
    asked: Counter[int] = Counter()
    for packet in sent:
        second = math.floor(packet.sent)
        asked[second] += 1
        lost[second] += packet.rtt is None
    full = sorted(second for second, n in asked.items() if n >= SECOND_PACKETS)
    full = full[len(full) // 2 :]
    everything = sum(asked[second] for second in full)
    share = sum(lost[second] for second in full) / everything if full else 0.0
    if len(full) < SECONDS or not 0 < share < 1:
        return None
    squares = sum((lost[s] - asked[s] * share) ** 2 / asked[s] for s in full)
    return squares / (share * (1 - share) * (len(full) - 1))


_TINY = 1e-6  # seconds: no two packets leave closer together


def _worst(marks: Sequence[bool], spacing: float) -> float | None:
    size = round(WINDOW / spacing) if spacing > _TINY else 0
    if size < WINDOW_PACKETS or size > len(marks):
        return None
    sums = [0, *accumulate(marks)]
    return max(b - a for a, b in zip(sums, sums[size:], strict=False)) / size
