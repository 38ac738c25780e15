"""UDP flows: one connected socket, kernel receive times, ICMP errors by the error queue.

asyncio's own datagram transport gives neither times nor the error queue, and pins the loop at the
first ICMP error when IP_RECVERR is set; so this is a raw socket, ``add_reader`` and ``recvmsg``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from probes.model import Failure
from probes.net.address import Source, parse
from probes.net.errors import Refusal

# linux/in.h and asm-generic/socket.h; absent from Python's socket module before 3.14
IP_RECVERR, IPV6_RECVERR = 11, 25
IP_RECVTTL, IP_TTL = 12, 2
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_EXTENDED_ERROR = struct.Struct("@IBBBBII")  # struct sock_extended_err, linux/errqueue.h

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

    @property
    def headers(self) -> int:
        return IP_UDP_HEADERS[self.sock.family]

    def send(self, data: bytes) -> int:
        """Send one datagram; returns the Unix nanoseconds just before.

        An ICMP error of an earlier datagram surfaces as this call's errno while nothing is sent:
        it is kept, and the send is tried again. Raises OSError for what the host itself refuses.
        """
        for _ in range(8):
            at = time.time_ns()
            try:
                self.sock.send(data)
            except OSError as error:
                if not self._drain_errors():
                    if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                        raise Refusal(Failure.OTHER, "the host's send buffer is full") from error
                    raise
                continue
            break
        else:
            raise Refusal(Failure.REFUSED, "ICMP errors outran the sends")
        self.sent += 1
        self.bytes_sent += len(data) + self.headers
        return at

    async def wait(self, seconds: float) -> bool:
        """Until something new arrives or the time is over; True when something arrived."""
        return seconds > 0 and await self.news.wait(seconds)

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


def arrival(messages: list[tuple[int, int, bytes]]) -> tuple[int, int | None]:
    """Kernel receive time, Unix nanoseconds (now where it was not told), and TTL."""
    at, ttl = time.time_ns(), None
    for level, kind, data in messages:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data[:16])
            at = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) in (
            (socket.IPPROTO_IP, IP_TTL),
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
        ):
            ttl = int.from_bytes(data[:4], "little")
    return at, ttl


def icmp_failures(messages: list[tuple[int, int, bytes]]) -> Iterator[Failure]:
    """The words for the ICMP errors in one error-queue message (ip(7), IP_RECVERR)."""
    for level, kind, data in messages:
        if (level, kind) not in (
            (socket.IPPROTO_IP, IP_RECVERR),
            (socket.IPPROTO_IPV6, IPV6_RECVERR),
        ):
            continue
        _errno, origin, icmp_type, code, _pad, _info, _data = _EXTENDED_ERROR.unpack(data[:16])
        if origin == 2:  # SO_EE_ORIGIN_ICMP; type 3 is destination unreachable (RFC 792)
            if icmp_type == 3:
                yield _icmp4(code)
        elif origin == 3 and icmp_type == 1:  # SO_EE_ORIGIN_ICMP6, RFC 4443 section 3.1
            yield _icmp6(code)
        elif origin == 1:  # SO_EE_ORIGIN_LOCAL: this host found no way out
            yield Failure.UNREACHABLE


def icmp_sender(messages: list[tuple[int, int, bytes]]) -> str:
    """Who sent the ICMP error of one error-queue message, "" when it does not say."""
    for level, kind, data in messages:
        if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR) and len(data) >= 24:
            return socket.inet_ntop(socket.AF_INET, data[20:24])  # struct sockaddr_in
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_RECVERR) and len(data) >= 40:
            return socket.inet_ntop(socket.AF_INET6, data[24:40])  # struct sockaddr_in6
    return ""


def _icmp4(code: int) -> Failure:
    if code in (2, 3):  # protocol, port unreachable
        return Failure.REFUSED
    if code in (9, 10, 13):  # administratively prohibited (RFC 1122, RFC 1812)
        return Failure.PROHIBITED
    return Failure.UNREACHABLE


def _icmp6(code: int) -> Failure:
    if code == 4:
        return Failure.REFUSED
    if code in (1, 5, 6):  # prohibited, source policy, reject route
        return Failure.PROHIBITED
    return Failure.UNREACHABLE


@contextmanager
def open_flow(address: str, port: int, source: Source, news: News | None = None) -> Iterator[Flow]:
    """A connected flow to ``address``, a literal, from a fresh source port. Raises OSError.

    Flows given one ``news`` wake whoever waits on any of them.
    """
    six = ":" in address
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        source.bind(sock, stream=False)
        sock.connect((address, port))
        flow = Flow(sock, news or News())
        fd = sock.fileno()  # by the socket itself, selectors would format it for a KeyError
        loop.add_reader(fd, flow._readable)
        try:
            yield flow
        finally:
            loop.remove_reader(fd)
    finally:
        sock.close()
