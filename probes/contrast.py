"""Probes that only contrasts ask: they look at what the network does, not at who the server is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import ClassVar

from probes.model import Step
from probes.net import http, stream, tls
from probes.net.environment import NoCourtesy
from probes.net.stream import TcpStream
from probes.net.udp import Datagram, News, open_flow
from probes.trail import Peer, StepFailed, Trail
from probes.transaction import DEADLINE, ask_udp, schedule
from probes.wire import dns as wire

SLACK = 1.0
_FIN = 1  # the kernel counts it among the bytes received
GAP = 0.4
"""Seconds between the handshakes of a burst (2.5 in the project's notes)."""
DRIP = 0.05
"""Seconds between the segments of a request that goes out in pieces (2.4)."""
SURVIVES = 3.0
"""Seconds for which a connection must stand after bytes that no filter can know."""


@dataclass(frozen=True, slots=True)
class HelloProbe:
    """A TLS hello for ``server_name`` and whatever comes back, verified against nothing.

    ``pad_to``: the least size of the hello in bytes. ``url``: also a HEAD request under that name,
    for a failure that came after the handshake. ``short``: a hello without the key shares that
    make it long; ``other``: as another program greets. Facts as for tls, and ``server_spoke``.
    """

    kind: ClassVar[str] = "tls"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 6500

    server_name: str
    pad_to: int = 0
    url: str = ""
    short: bool = False
    other: bool = False

    def subject(self, host: str) -> str:
        return self.server_name.lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        alpn = tls.padding(self.server_name, self.pad_to, other=self.other) if self.pad_to else ()
        context = tls.believing(alpn, short=self.short, other=self.other)
        async with stream.connect(trail, peer) as tcp:
            try:
                secured = await tls.secure(
                    trail, tcp, peer.address, self.server_name, alpn, instead=context
                )
            finally:
                trail.facts["server_spoke"] = tcp.info().bytes_received > _FIN
            if self.url:
                async with trail.step(Step.EXCHANGE, trail.limit(tls.HANDSHAKE_LIMIT)):
                    answer = await http.exchange(secured, "HEAD", self.url)
                    trail.facts["http_status"] = answer.status


@dataclass(frozen=True, slots=True)
class BytesProbe:
    """``size`` random bytes over TCP: are they acknowledged, and does the connection stand?

    A server may close, or answer with an alert: it is the path that is asked. Facts:
    bytes_acked, server_spoke.
    """

    kind: ClassVar[str] = "tcp"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = False
    bytes_per_run: ClassVar[int] = 900

    size: int

    def subject(self, host: str) -> str:
        return "random bytes"

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with stream.connect(trail, peer) as tcp:
            limit = trail.limit(SURVIVES)
            async with trail.step(Step.EXCHANGE, limit + SLACK):
                # A first byte of a TLS record, or of HTTP, would make it something else again.
                await tcp.write(b"\xff" + os.urandom(max(self.size - 1, 0)))
                try:
                    async with asyncio.timeout(limit):
                        data = await tcp.read(4096)
                except TimeoutError:
                    data = None
                info = tcp.info()
                trail.facts["bytes_acked"] = info.bytes_acked
                trail.facts["server_spoke"] = bool(data)
                if data is None and info.bytes_acked < self.size:
                    raise TimeoutError("never acknowledged")


@dataclass(slots=True)
class Dripping(TcpStream):
    """A TcpStream that writes what it is given in so many pieces, each a segment of its own."""

    pieces: int = 1

    async def write(self, data: bytes) -> None:
        size = -(-len(data) // self.pieces)
        for start in range(0, len(data), max(size, 1)):
            if start:
                await asyncio.sleep(DRIP)
            await TcpStream.write(self, data[start : start + size])


@dataclass(frozen=True, slots=True)
class SegmentsProbe:
    """A HEAD request that goes out in ``pieces`` segments: the bytes are the same and few, so that
    only a filter that counts packets can tell two of these apart.

    Facts as for https, and ``pieces``.
    """

    kind: ClassVar[str] = "https"
    takes: ClassVar[str] = "url"
    packets_per_run: ClassVar[int] = 1
    bytes_per_run: ClassVar[int] = 9000

    url: str
    pieces: int = 1

    @property
    def handshake(self) -> bool:
        return self.url.startswith("https:")

    def subject(self, host: str) -> str:
        return f"{host.lower()} in {self.pieces}"

    async def run(self, trail: Trail, peer: Peer) -> None:
        trail.facts["pieces"] = self.pieces
        async with stream.connect(trail, peer) as tcp:
            drip = Dripping(tcp.sock)
            over: http.ByteStream = drip
            if self.handshake:
                name = peer.host or peer.address
                over = await tls.secure(trail, drip, peer.address, name, ("http/1.1",))
            drip.pieces = self.pieces
            dripping = self.pieces * DRIP
            async with trail.step(Step.EXCHANGE, trail.limit(tls.HANDSHAKE_LIMIT) + dripping):
                answer = await http.exchange(over, "HEAD", self.url)
                trail.facts["http_status"] = answer.status


@dataclass(frozen=True, slots=True)
class BurstProbe:
    """``count`` handshakes for one name, started ``GAP`` seconds apart: what may trip a rule on
    bursts, so that nothing but a contrast of the research profile asks it.

    Succeeds when at least one is answered. Facts: handshakes, answered, frozen (connected, and
    the hello never acknowledged).
    """

    kind: ClassVar[str] = "tls"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 6
    handshake: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 40_000

    server_name: str
    count: int = 6

    def subject(self, host: str) -> str:
        return f"{self.server_name.lower()} at once"

    async def run(self, trail: Trail, peer: Peer) -> None:
        # One leave for all: that they come too soon after each other is the point.
        await trail.env.courtesy.handshake(peer.address, f"{self.server_name}:{peer.port}")
        env = replace(trail.env, courtesy=NoCourtesy())
        trails = [Trail(env, trail.timeout) for _ in range(self.count)]
        async with trail.step(Step.TLS, trail.limit(tls.HANDSHAKE_LIMIT) * 2 + self.count * GAP):
            await asyncio.gather(*(self._one(t, peer, i * GAP) for i, t in enumerate(trails)))
            answered = sum(t.facts.get("server_spoke") is True for t in trails)
            trail.facts["handshakes"], trail.facts["answered"] = self.count, answered
            trail.facts["frozen"] = sum(t.facts.get("clienthello_acked") is False for t in trails)
            for t in trails:
                trail.count(
                    int(str(t.facts.get("sent", 0))), int(str(t.facts.get("received", 0))), 0, 0
                )
            if not answered:
                raise TimeoutError("not one was answered")

    async def _one(self, trail: Trail, peer: Peer, after: float) -> None:
        await asyncio.sleep(after)
        with contextlib.suppress(StepFailed):
            await HelloProbe(self.server_name).run(trail, peer)


@dataclass(frozen=True, slots=True)
class PacedQuery:
    """Five queries for one name, each once, each from a port of its own, so that two of these
    together are an interleaved comparison. Any answer counts, a refusal too.

    Facts: requests, answered, resolver.
    """

    kind: ClassVar[str] = "dns"
    takes: ClassVar[str] = "resolver"
    packets_per_run: ClassVar[int] = 5
    handshake: ClassVar[bool] = False
    bytes_per_run: ClassVar[int] = 900

    query: str
    resolver: str = "system"

    def subject(self, host: str) -> str:
        return f"{self.query} paced"

    async def run(self, trail: Trail, peer: Peer) -> None:
        ids = [int.from_bytes(os.urandom(2)) for _ in schedule(trail)[0]]
        queries = [wire.encode_query(self.query, "A", number) for number in ids]
        trail.facts["resolver"] = self.resolver

        def match(index: int, datagram: Datagram) -> int:
            wire.read_answer(datagram.data, query_id=ids[index], name=self.query, type="A")
            return index

        async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE) + SLACK):
            with ExitStack() as stack:
                news = News()
                flows = [
                    stack.enter_context(open_flow(peer.address, peer.port, trail.env.source, news))
                    for _ in ids
                ]
                tally = await ask_udp(trail, flows, queries, match)
                tally.judge([word for flow in flows for word in flow.errors])
