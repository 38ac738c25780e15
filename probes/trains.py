"""Paced trains of packets whose answers are matched to them one by one."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from probes.model import Fact
from probes.net.streams import Played, Stream
from probes.wire import quality
from probes.wire.error import WireError
from probes.wire.quality import Packet

LATE_SHARE, LATE = 0.05, 0.5
"""A run of which so many packets left later than this share of their interval was disturbed by this
host itself; of a slow train nothing below ``LATE_LEAST`` seconds."""
LATE_LEAST = 0.02
_CHUNK = 200
"""Answers read before others get their turn."""


@dataclass(slots=True)
class Lane:
    """One stream with what reads its answers: the number of the packet answered. ``note`` gets
    each answer that is ours."""

    name: str
    stream: Stream
    read: Callable[[bytes], int]
    strays: int = 0
    packets: list[Packet] = field(default_factory=list)

    def settle(self, played: Played, start: int) -> Iterator[None]:
        """Match what came to what was sent, a part at a time. ``start``: Unix nanoseconds."""
        first: dict[int, int] = {}
        copies: dict[int, int] = {}
        for count, received in enumerate(played.received, 1):
            try:
                number = self.read(received.data)
            except WireError:
                self.strays += 1
                continue
            copies[number] = copies.get(number, 0) + 1
            first.setdefault(number, received.at)
            if not count % _CHUNK:
                yield
        order = {number: rank for rank, number in enumerate(first)}
        self.packets = [
            Packet(
                (sent - start) / 1e9,
                max(0.0, (first[number] - sent) / 1e9) if number in first else None,
                copies.get(number, 0),
                order.get(number),
            )
            for number, sent in enumerate(played.sent)
            if sent
        ]


def every(interval: float, length: float, after: float = 0.0) -> list[float]:
    """Times from ``after`` on, for ``length`` seconds."""
    return [after + number * interval for number in range(max(1, int(length / interval + 1e-6)))]


def start_of(streams: Sequence[Stream], played: Sequence[Played]) -> int:
    """When all of them began, by what left first: Unix nanoseconds, 0 when nothing did."""
    for stream, its in zip(streams, played, strict=True):
        for send, at, late in zip(stream.sends, its.sent, its.late, strict=False):
            if at:
                return at - int((send.at + late) * 1e9)
    return 0


def disturbed(played: Sequence[Played], interval: float) -> bool:
    """Did this host itself spoil the run?"""
    if any(it.stepped or it.overflowed for it in played):
        return True
    late = played[0].late
    most = max(LATE_LEAST, LATE * interval)
    return sum(it > most for it in late) > LATE_SHARE * len(late)


def distribution(packets: Sequence[Packet], prefix: str) -> dict[str, Fact]:
    """How many round trips fell into each of ``quality.RTT_BOUNDS``, and their sum."""
    rtts = [p.rtt for p in packets if p.rtt is not None]
    counts = [0] * (len(quality.RTT_BOUNDS) + 1)
    for rtt in rtts:
        counts[bisect.bisect_left(quality.RTT_BOUNDS, rtt)] += 1
    return {
        f"{prefix}rtt_buckets": tuple(map(str, counts)),
        f"{prefix}rtt_sum_seconds": round(sum(rtts), 6),
    }
