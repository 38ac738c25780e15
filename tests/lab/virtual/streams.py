"""Paced streams in the virtual world: through the same path and rules as every other packet.

``env.streams`` of an agent there: ``Environment(streams=VirtualStreams(world.kernel))``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from probes.model import Failure
from probes.net.address import Source
from probes.net.streams import Played, Received, Stream, Watch
from probes.net.udp import arrival, icmp_failures
from tests.lab.virtual.kernel import Kernel, VirtualSocket

WATCHED = 0.25
"""Seconds between two looks of who watches."""
STEP = 1e-3
"""Seconds by which a clock that nobody sets does not leave the other."""


class VirtualStreams:
    """Never late, and loses nothing itself. ``flows`` are the sockets that stay open."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flows: dict[tuple[str, str, int], VirtualSocket] = {}

    async def play(
        self, streams: Sequence[Stream], source: Source, watch: Watch | None = None
    ) -> list[Played]:
        loop, clock = self.kernel.loop, self.kernel.loop.clock
        start, apart = loop.time(), clock.wall() - clock.now
        players = [_Player(self, stream) for stream in streams]
        timers = [timer for player in players for timer in player.begin(start)]
        end = start + max((stream.lasts for stream in streams), default=0.0)
        try:
            while (left := end - loop.time()) > 0:
                await asyncio.sleep(min(left, WATCHED) if watch else left)
                if watch:
                    watch([player.so_far() for player in players])
        finally:
            for timer in timers:
                timer.cancel()
            for player in players:
                player.end()
        stepped = abs(clock.wall() - clock.now - apart) > STEP
        return [player.so_far(stepped=stepped) for player in players]

    def close(self) -> None:
        for sock in self.flows.values():
            sock.close()
        self.flows.clear()


@dataclass(slots=True)
class _Player:
    """One stream while it plays."""

    owner: VirtualStreams
    stream: Stream
    sent: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sock: VirtualSocket | None = None

    def begin(self, start: float) -> list[Any]:
        """The timers of its sends and of its end."""
        self.sent = [0] * len(self.stream.sends)
        self.sock = self._socket()
        if self.sock is None:
            return []
        loop = self.owner.kernel.loop
        loop.add_reader(self.sock.fileno(), self._readable)
        sends = enumerate(self.stream.sends)
        timers = [loop.call_at(start + send.at, self._send, n) for n, send in sends]
        return [*timers, loop.call_at(start + self.stream.lasts, self.end)]

    def _socket(self) -> VirtualSocket | None:
        """None where this host has no way to send."""
        stream = self.stream
        key = stream.flow, stream.address, stream.port
        if stream.flow and key in self.owner.flows:
            return self.owner.flows[key]
        family = socket.AF_INET6 if ":" in stream.address else socket.AF_INET
        sock = VirtualSocket(self.owner.kernel, family, socket.SOCK_DGRAM)
        try:
            sock.connect((stream.address, stream.port))
        except OSError:
            sock.close()
            return None
        if stream.flow:
            self.owner.flows[key] = sock
        return sock

    def _send(self, number: int) -> None:
        if self.sock is not None:
            self.sent[number] = round(self.owner.kernel.loop.clock.wall() * 1e9)
            self.sock.send(self.stream.sends[number].data)

    def _readable(self) -> None:
        assert self.sock is not None
        while self.sock.errors:
            _, told, _, _ = self.sock.errors.popleft()
            self.failures.extend(icmp_failures(told))
        while self.sock.queue:
            data, told, _, _ = self.sock.queue.popleft()
            self.received.append(Received(arrival(told)[0], data))

    def end(self) -> None:
        """What comes later is nobody's; a flow keeps its socket."""
        if self.sock is None:
            return
        self.owner.kernel.loop.remove_reader(self.sock.fileno())
        if self.stream.flow:
            self.sock.queue.clear()
        else:
            self.sock.close()
        self.sock = None

    def so_far(self, *, stepped: bool = False) -> Played:
        late = (0.0,) * len(self.sent)
        received, failures = tuple(self.received), tuple(self.failures)
        return Played(tuple(self.sent), late, received, failures, stepped=stepped)
