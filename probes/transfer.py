"""Does a larger transfer get through, and at what pace? For freezes, policing and shaping.

A bounded download of a public object; where the server keeps the connection, a bounded upload of
random bytes after it. Research profile only. What it is compared with is the transfer of a control,
which the schedule asks in the same round.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar

from probes.model import Failure, Step
from probes.net import http, stream, tls
from probes.net.errors import Refusal
from probes.net.stream import TcpInfo, TcpStream
from probes.trail import NETWORK_ERRORS, Peer, Trail, classify

MOST = 1_000_000  # bytes: the volume that interference-methods 6 allows a bulk test
UPLOAD = 65_536  # bytes: what freeze checkers send (interference-methods 2.4)
EXCHANGE_LIMIT = 10.0
STREAM_LIMIT = 30.0
"""Seconds after which a transfer that goes on has told enough; a rate needs eight of them."""
STALL_LIMIT = 10.0
"""Seconds without a byte that are a freeze. Policers pause for about one."""
STALL = 1.0
"""Seconds without a byte that are counted."""
SLOT = 0.25
"""Seconds per entry of the series."""
_POLL = 0.02
_CLOSED, _CLOSE_WAIT = 7, 8  # net/tcp_states.h


@dataclass(frozen=True, slots=True)
class TransferProbe:
    """Facts, beside those of https: ``stopped`` (``end`` of the object, the ``limit`` of bytes or
    ``time``, or the failure), ``body_bytes``, ``received_bytes`` (TCP payload since the request),
    ``series`` (of that, the total at the end of each slot of ``series_slot_seconds``),
    ``throughput_bits_per_second``, ``longest_gap_seconds``, ``longest_gap_after_bytes``,
    ``stalls``, ``min_rtt_seconds``, ``receive_rtt_seconds``, ``out_of_order``, ``segments_in``,
    ``segments_out``; of an upload ``upload_bytes`` (acknowledged), ``upload_seconds``,
    ``upload_retransmissions``, ``upload_stopped``.
    """

    kind: ClassVar[str] = "transfer"
    takes: ClassVar[str] = "url"
    packets_per_run: ClassVar[int] = 1
    research: ClassVar[bool] = True

    url: str
    max_bytes: int = 500_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_bytes <= MOST:
            raise ValueError(f"max_bytes must be from 1 to {MOST}")

    @property
    def handshake(self) -> bool:
        return self.url.startswith("https:")

    @property
    def bytes_per_run(self) -> int:
        payload = self.max_bytes + min(self.max_bytes, UPLOAD)
        return int(payload * 1.08) + (7000 if self.handshake else 1100)

    def subject(self, host: str) -> str:
        return host.lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with stream.connect(trail, peer) as tcp:
            if trail.partial:
                return
            metered = Metered(tcp.sock)
            over: http.ByteStream = metered
            if self.handshake:
                name = peer.host or peer.address
                over = await tls.secure(trail, metered, peer.address, name, ("http/1.1",))
            limit = trail.limit(STREAM_LIMIT)
            metered.begin(min(STALL_LIMIT, limit))
            try:
                async with trail.step(Step.EXCHANGE, trail.limit(EXCHANGE_LIMIT)):
                    found = await http.download(over, self.url, self.max_bytes)
                    trail.facts["http_status"] = found.status
                    if found.status not in (200, 206):
                        raise Refusal(Failure.HTTP_STATUS, f"status {found.status}")
                # The stall limit is the one that ends it: this one only catches what it does not.
                async with trail.step(Step.STREAM, 2 * (limit + metered.patience) + 5.0):
                    await self._download(trail, found, metered, limit)
                    if trail.facts["stopped"] == "end" and found.stays:
                        await self._upload(trail, over, metered)
            finally:
                metered.note(trail, tcp.info())

    async def _download(
        self, trail: Trail, found: http.Download, metered: Metered, limit: float
    ) -> None:
        started, got, stopped = time.monotonic(), 0, "end"
        try:
            async with aclosing(found.body()) as body:  # type: ignore[type-var] # an async generator
                async for chunk in body:
                    got += len(chunk)
                    if got >= self.max_bytes + (found.status == 206):  # that one ends by itself
                        stopped = "limit"
                        break
                    if time.monotonic() - started >= limit:
                        stopped = "time"
                        break
        except NETWORK_ERRORS as error:
            stopped = str(classify(error))
            raise
        finally:
            trail.facts["stopped"] = stopped
            trail.facts["body_bytes"] = got
            await found.close()

    async def _upload(self, trail: Trail, over: http.ByteStream, tcp: Metered) -> None:
        """Random bytes until all are acknowledged, the server has had enough, or nothing moves.

        Only the last is a failure: a server may refuse what it did not ask for.
        """
        size = min(self.max_bytes, UPLOAD)
        before, started = tcp.info(), time.monotonic()
        data = http.upload_head(self.url, size) + os.urandom(size)
        writing = asyncio.create_task(over.write(data))
        try:
            stopped = await _acknowledged(tcp, before, writing)
        except NETWORK_ERRORS as error:
            stopped = str(classify(error))
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        info = tcp.info()
        trail.facts["upload_bytes"] = info.bytes_acked - before.bytes_acked
        trail.facts["upload_seconds"] = round(time.monotonic() - started, 4)
        trail.facts["upload_retransmissions"] = info.retransmissions - before.retransmissions
        trail.facts["upload_stopped"] = stopped
        if stopped == Failure.TIMEOUT:
            raise TimeoutError("the upload does not move")


async def _acknowledged(tcp: Metered, before: TcpInfo, writing: asyncio.Task[None]) -> str:
    """Why the upload is over: ``end``, ``answered``, ``unread`` (its window stays shut),
    ``closed``, ``reset`` or ``timeout``. Raises what ``writing`` failed with."""
    acked, moved = before.bytes_acked, time.monotonic()
    while True:
        info = tcp.info()
        fin = info.state == _CLOSE_WAIT  # which the kernel counts as a byte
        if info.bytes_received - before.bytes_received > fin:
            return "answered"
        if info.state in (_CLOSED, _CLOSE_WAIT):
            return str(Failure.RESET if info.state == _CLOSED else Failure.CLOSED)
        if writing.done():
            writing.result()
            if not info.unacked and not info.not_sent:
                return "end"
        if info.bytes_acked > acked:
            acked, moved = info.bytes_acked, time.monotonic()
        if time.monotonic() - moved >= tcp.patience:
            return str(Failure.TIMEOUT) if info.unacked else "unread"
        await asyncio.sleep(_POLL)


@dataclass(slots=True)
class Metered(TcpStream):
    """A TcpStream that keeps when how much came; from ``begin`` on, a read waits ``patience``."""

    patience: float = 0.0
    began: float | None = None
    total: int = 0
    first: tuple[float, int] | None = None
    last: float = 0.0
    longest: tuple[float, int] = (0.0, 0)
    stalls: int = 0
    series: list[int] = field(default_factory=list)

    def begin(self, patience: float) -> None:
        self.patience, self.began = patience, time.monotonic()

    async def read(self, limit: int) -> bytes:
        if self.began is None:
            return await TcpStream.read(self, limit)
        async with asyncio.timeout(self.patience):
            data = await TcpStream.read(self, limit)
        if data:
            self._arrived(time.monotonic() - self.began, len(data))
        return data

    def _arrived(self, at: float, size: int) -> None:
        self._fill(at)
        if self.first is None:
            self.first = (at, size)
        else:
            self._gap(at)
        self.total += size
        self.last = at

    def _gap(self, at: float) -> None:
        gap = at - self.last
        self.longest = max(self.longest, (gap, self.total))
        self.stalls += gap >= STALL

    def _fill(self, at: float) -> None:
        """The slots that ended before ``at``."""
        while (len(self.series) + 1) * SLOT <= at:
            self.series.append(self.total)

    def note(self, trail: Trail, info: TcpInfo) -> None:
        facts = trail.facts
        if self.began is not None and self.first is not None:
            at = time.monotonic() - self.began
            if facts.get("stopped") == Failure.TIMEOUT:
                self._gap(at)  # the one that did not end
            self._fill(at)
        facts["received_bytes"] = self.total
        facts["series"] = tuple(map(str, [*self.series, self.total]))
        facts["series_slot_seconds"] = SLOT
        if self.first is not None and self.last > self.first[0]:
            moved = self.total - self.first[1]
            facts["throughput_bits_per_second"] = round(8 * moved / (self.last - self.first[0]))
        facts["longest_gap_seconds"] = round(self.longest[0], 4)
        facts["longest_gap_after_bytes"] = self.longest[1]
        facts["stalls"] = self.stalls
        facts["min_rtt_seconds"] = info.min_rtt
        facts["receive_rtt_seconds"] = info.receive_rtt
        facts["out_of_order"] = info.out_of_order
        facts["segments_in"], facts["segments_out"] = info.segments_in, info.segments_out


PROBE = TransferProbe
