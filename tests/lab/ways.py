"""Many packets at once through a path model, without a clock: for statistics of whole streams.

A way is a row of segments between the client and the servers. A packet is (time, stream, number);
each segment takes all packets of one direction in the order in which they reach it and gives those
that leave it. Loss is that of ``chance.py`` and the line that of ``path.py``, as in both labs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from probes.wire.quality import Packet
from tests.lab.actions import IN, OUT
from tests.lab.chance import Loss, draw
from tests.lab.path import Line, Path

SLOT = 0.020
"""Seconds for which a stream's own run of luck stays as it is."""
FORGOTTEN = 500
"""Of such times, after which nobody remembers."""


class Event(NamedTuple):
    when: float
    stream: str
    number: int


Chosen = Callable[[Event], bool]


def later(event: Event, when: float) -> Event:
    """Several times as fast as the constructor, for millions of packets."""
    return tuple.__new__(Event, (when, event[1], event[2]))


class Segment(Protocol):
    def carry(self, events: Iterable[Event], direction: str) -> Iterable[Event]: ...


def among(*streams: str) -> Chosen:
    return lambda event: event.stream in streams


@dataclass(slots=True)
class Shared:
    """A line that all packets pass, with one state for each direction."""

    path: Path

    @classmethod
    def line(cls, line: Line) -> Shared:
        return cls(Path((), line))

    def carry(self, events: Iterable[Event], direction: str) -> Iterable[Event]:
        through = self.path.through
        for event in events:
            if (due := through(direction, event.when)) is not None:
                yield later(event, due)


@dataclass(slots=True)
class Lossy:
    """Loses some of the chosen packets, on the way there only if ``back`` is not given. ``apart``:
    every stream has its own run of luck, as if its packets met nobody else's."""

    there: Loss
    back: Loss | None = None
    chosen: Chosen | None = None
    apart: bool = False
    _states: dict[int, tuple[int, bool]] = field(default_factory=dict)

    def carry(self, events: Iterable[Event], direction: str) -> Iterable[Event]:
        loss = self.there if direction == OUT else self.back
        loss = self.there if direction == OUT else self.back
        for event in events:
            if loss is None or not loss.share or (self.chosen and not self.chosen(event)):
                lost = False
            else:
                lost = self._own(loss, event) if self.apart else self._any(loss)
            if not lost:
                yield event

    def _any(self, loss: Loss) -> bool:
        count, lost = self._states.get(loss.seed, (0, False))
        lost = loss.takes(count, lost)
        self._states[loss.seed] = count + 1, lost
        return lost

    def _own(self, loss: Loss, event: Event) -> bool:
        """Its state changes at most once in 20 ms, however slow the stream is."""
        key = loss.seed + (sum(event.stream.encode()) << 32)
        slot = int(event.when / SLOT)
        before, lost = self._states.get(key, (slot - 1, False))
        for number in range(max(before + 1, slot - FORGOTTEN), slot + 1):
            lost = loss.takes((key >> 32 << 32) + number, lost)
        self._states[key] = slot, lost
        return lost


@dataclass(slots=True)
class Drifting:
    """Congestion that comes and goes within tens of seconds: loss up to ``worst`` and a queue up to
    ``delay`` seconds, both at their height together; what it does to neighbours is alike."""

    seed: int
    worst: float
    delay: float
    slow: float = 12.0
    chosen: Chosen | None = None
    _count: int = 0

    def weight(self, when: float) -> float:
        """0 to 1, going evenly from one draw to the next."""
        whole, part = divmod(when / self.slow, 1.0)
        before, after = draw(self.seed, int(whole)), draw(self.seed, int(whole) + 1)
        return (before + (after - before) * part) ** 2

    def carry(self, events: Iterable[Event], direction: str) -> Iterable[Event]:
        for event in events:
            if direction == OUT or (self.chosen and not self.chosen(event)):
                yield event
                continue
            weight = self.weight(event.when)
            self._count += 1
            if draw(self.seed + 1, self._count) >= self.worst * weight:
                wait = self.delay * weight * (0.7 + 0.6 * draw(self.seed + 2, self._count))
                yield later(event, event.when + wait)


@dataclass(slots=True)
class Queue:
    """A slow link: ``rate`` bytes a second, a buffer of ``room`` bytes that drops what finds it
    full. ``allowance``: bytes that pass at once after a pause, as a shaper's bucket. ``others``:
    bytes a second of somebody else's packets, in bursts."""

    rate: float
    room: float
    allowance: float = 0.0
    others: float = 0.0
    seed: int = 1
    size: int = 148
    chosen: Chosen | None = None
    """Whose packets pass it; None for all."""
    _free: dict[str, float] = field(default_factory=dict)
    _filled: dict[str, int] = field(default_factory=dict)

    def carry(self, events: Iterable[Event], direction: str) -> Iterable[Event]:
        for event in events:
            if self.chosen is not None and not self.chosen(event):
                yield event
                continue
            self._others(direction, event.when)
            # The moment from which the link has nothing to do, not further back than its bucket.
            idle = event.when - self.allowance / self.rate
            free = max(self._free.get(direction, idle), idle)
            waiting = max(0.0, free - event.when) * self.rate
            if waiting + self.size > self.room:
                self._free[direction] = free
                continue
            self._free[direction] = free + self.size / self.rate
            due = max(event.when, self._free[direction])
            yield later(event, due)

    def _others(self, direction: str, when: float) -> None:
        """One burst in each fifth of a second."""
        if not self.others:
            return
        slot = int(when * 5)
        last = self._filled.get(direction, slot - 1)
        for number in range(last + 1, slot + 1):
            burst = self.others / 5 * 2 * draw(self.seed + (direction == IN), number)
            free = max(self._free.get(direction, 0.0), number / 5 - self.allowance / self.rate)
            burst = min(burst, max(0.0, self.room - max(0.0, free - when) * self.rate))
            self._free[direction] = free + burst / self.rate
        self._filled[direction] = slot


@dataclass(slots=True)
class Limit:
    """A server, or somebody before it, that takes ``rate`` packets a second of each flow, or of all
    the chosen ones ``together``."""

    rate: float
    depth: float
    chosen: Chosen
    together: bool = False
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def carry(self, events: Iterable[Event], direction: str) -> Iterable[Event]:
        for event in events:
            if direction == IN or not self.chosen(event):
                yield event
                continue
            key = "" if self.together else event.stream
            tokens, at = self._buckets.get(key, (self.depth, event.when))
            tokens = min(self.depth, tokens + (event.when - at) * self.rate)
            if tokens >= 1:
                yield event
                tokens -= 1
            self._buckets[key] = tokens, event.when


def played(
    sends: Sequence[Event], segments: Sequence[Segment], start: float
) -> dict[str, list[Packet]]:
    """What came of each stream. ``sends`` are in order, their times since ``start``; segments stand
    from the client to the servers, which answer at once."""
    events: Iterable[Event] = [later(event, start + event.when) for event in sends]
    for direction in (OUT, IN):
        for segment in segments if direction == OUT else reversed(segments):
            events = sorted(segment.carry(events, direction))
    came: dict[tuple[str, int], float] = {}
    ranks: dict[tuple[str, int], int] = {}
    counts: dict[str, int] = {}
    for when, stream, n in events:
        came[stream, n] = when - start
        ranks[stream, n] = counts[stream] = counts.get(stream, -1) + 1
    packets: dict[str, list[Packet]] = {}
    for at, stream, n in sends:
        arrived = came.get((stream, n))
        packet = (
            Packet(at, None, 0, None)
            if arrived is None
            else Packet(at, arrived - at, 1, ranks[stream, n])
        )
        packets.setdefault(stream, []).append(packet)
    return packets
