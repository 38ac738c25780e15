"""Streams played by a path of our own making, at once: no clock, no socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.twin import Twin
from probes.net.address import Source
from probes.net.streams import Played, Received, Stream, Watch
from probes.wire.twin import is_binding_request, mapped_answer

KEY = bytes(range(32))

Way = Callable[[Stream, int, float], float | None]
"""A stream, the number of its packet and the seconds at which it leaves to the seconds until its
answer is back, None when it is lost."""


def clean(stream: Stream, number: int, at: float) -> float | None:
    return 0.05


@dataclass(slots=True)
class PlayedStreams:
    """``lost_back``: of which the answer is lost, and not the question; ``twin``: whose address."""

    way: Way = clean
    twin_address: str = ""
    lost_back: Callable[[Stream, int], bool] = lambda stream, number: False
    late: float = 0.0
    overflowed: int = 0
    calls: list[list[Stream]] = field(default_factory=list)

    async def play(
        self, streams: Sequence[Stream], source: Source, watch: Watch | None = None
    ) -> list[Played]:
        self.calls.append(list(streams))
        start = time.time_ns()
        played = [self._one(stream, start) for stream in streams]
        if watch is not None:
            watch(played)
        return played

    def _one(self, stream: Stream, start: int) -> Played:
        twin = Twin(KEY) if stream.address == self.twin_address else None
        sent, received = [], []
        for number, send in enumerate(stream.sends):
            leaves = send.at + self.late
            sent.append(start + int(leaves * 1e9))
            took = self.way(stream, number, send.at)
            if took is None:
                continue
            answer = self._answer(twin, stream, send.data, start / 1e9 + leaves)
            if answer is not None and not self.lost_back(stream, number):
                received.append(Received(sent[-1] + int(took * 1e9), answer))
        received.sort(key=lambda it: it.at)
        late = (self.late,) * len(sent)
        return Played(tuple(sent), late, tuple(received), overflowed=self.overflowed)

    def _answer(self, twin: Twin | None, stream: Stream, data: bytes, now: float) -> bytes | None:
        if twin is not None:
            return twin.answer(data, "198.51.100.7", 4000, now)
        return mapped_answer(data, "198.51.100.7", 4000) if is_binding_request(data) else None
