"""UDP flows: one connected socket, kernel receive times, ICMP errors by the error queue.

asyncio's own datagram transport gives neither times nor the error queue, and pins the loop at the
first ICMP error when IP_RECVERR is set; so this is a raw socket, ``add_reader`` and ``recvmsg``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from probes.model import Failure
from probes.net.address import Source, parse
from probes.net.datagram import arrival, connected, icmp_failures, icmp_sender, send

IP_RECVTTL = 12  # linux/in.h
MAX_DATAGRAM = 65535
IP_UDP_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
_KEPT = 128  # datagrams of one flow that are looked at: what asks five times needs no more
_BURST = 64  # datagrams per wake-up, so that a flood cannot hold the loop


@dataclass(frozen=True, slots=True)
class Datagram:
    """``at``: kernel receive time, Unix nanoseconds; ``ttl``: as received, None if not told."""

    data: bytes
    at: int
    ttl: int | None


class News:
    """Wakes the one who waits for any of several flows. An event with a deadline: asyncio's Event
    within its timeout does the same at three times the cost, several times per probe."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: asyncio.Future[bool] | None = None

    def set(self) -> None:
        self._wake(True)

    def _wake(self, arrived: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(arrived)

    async def wait(self, seconds: float) -> bool:
        """Until the next ``set``, True, or for ``seconds``, False."""
        assert self._waiter is None, "one waits; a second would be left to wait for ever"
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        deadline = loop.call_later(seconds, self._wake, False)
        try:
            return await self._waiter
        finally:
            deadline.cancel()
            self._waiter = None


@dataclass(slots=True)
class Flow:
    """One 5-tuple. ``errors`` holds the failure words of ICMP errors, in order of arrival;
    ``foreign_errors`` counts those that another than the peer sent.

    Of a flood the first datagrams are kept; ``received`` counts them all.
    """

    sock: socket.socket
    news: News
    datagrams: list[Datagram] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)
    foreign_errors: int = 0
    sent: int = 0
    received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    _taken: int = 0

    @property
    def headers(self) -> int:
        return IP_UDP_HEADERS[self.sock.family]

    def send(self, data: bytes) -> int:
        """Send one datagram; returns the Unix nanoseconds just before. Raises Refusal, OSError."""
        at = send(self.sock, data, self._drain_errors)
        self.sent += 1
        self.bytes_sent += len(data) + self.headers
        return at

    async def wait(self, seconds: float) -> bool:
        """Until something new arrives or the time is over; True when something arrived."""
        return seconds > 0 and await self.news.wait(seconds)

    def take(self) -> list[Datagram]:
        """Those of ``datagrams`` that were not taken before."""
        new = self.datagrams[self._taken :]
        self._taken += len(new)
        return new

    def _readable(self) -> None:
        self._drain_errors()
        for _ in range(_BURST):
            try:
                data, ancillary, _flags, _ = self.sock.recvmsg(MAX_DATAGRAM, 128)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # The error itself is on the error queue, with its ICMP type and code.
                if not self._drain_errors():
                    break
                continue
            self.received += 1
            self.bytes_received += len(data) + self.headers
            if len(self.datagrams) >= _KEPT:
                continue
            at, ttl = arrival(ancillary)
            self.datagrams.append(Datagram(data, at, ttl))
        self.news.set()

    def _drain_errors(self) -> int:
        """Must empty the queue on every wake-up, or the loop spins. Returns how many there were."""
        drained = 0
        for _ in range(_BURST):
            try:
                _data, ancillary, _flags, _ = self.sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            drained += 1
            self.errors.extend(icmp_failures(ancillary))
            sender = parse(icmp_sender(ancillary))
            self.foreign_errors += sender not in (None, parse(self.sock.getpeername()[0]))
        return drained


@contextmanager
def open_flow(address: str, port: int, source: Source, news: News | None = None) -> Iterator[Flow]:
    """A connected flow to ``address``, a literal, from a fresh source port. Raises OSError.

    Flows given one ``news`` wake whoever waits on any of them.
    """
    loop = asyncio.get_running_loop()
    with connected(address, port, source) as sock:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        flow = Flow(sock, news or News())
        fd = sock.fileno()  # by the socket itself, selectors would format it for a KeyError
        loop.add_reader(fd, flow._readable)
        try:
            yield flow
        finally:
            loop.remove_reader(fd)
