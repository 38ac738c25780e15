"""Packets whose hop limit may run out on the way, and what comes of them, without privileges.

The error queue names the router at which a datagram or a SYN ran out (ip(7), IP_RECVERR); on an
open connection the kernel tells only that something did. interference-methods 3.3, A to E.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from probes.net import datagram
from probes.net.address import Source
from probes.net.stream import connected, tcp_info
from probes.net.udp import IP_RECVTTL

FULL = 0
"""Instead of a hop limit: the host's own."""
SOMEBODY = "?"
"""A router that the kernel does not name."""
_POLL = 0.004
_GRACE = 0.02
"""A reset from nearer may come a little after a farther router's word."""
RESETS = {errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE}
EXPIRED_4, EXPIRED_6 = (2, 11), (3, 3)  # origin and ICMP type: RFC 792, RFC 4443 section 3.3
UNREACHABLE_4, UNREACHABLE_6 = (3, {0, 1, 5, 6, 7, 8, 11, 12}), (1, {0, 3})
"""ICMP type and codes of who knows no way, or no such host: RFC 1812 section 5.2.7.1, RFC 4443
section 3.1. The other codes say that it is not wanted."""


class Answer(NamedTuple):
    """``ttl`` as received; ``seconds`` after the packet was sent."""

    data: bytes
    ttl: int | None
    seconds: float


class Teardown(NamedTuple):
    """A RST or FIN as captured: only with CAP_NET_RAW. ``hops`` of what was sent before it;
    ``seconds`` after that; ``rtt``, ``server_ttl`` and ``server_id`` of the same connection's
    SYN-ACK, None where there was none; ``options`` by name."""

    hops: int
    flags: str
    ttl: int
    id: int
    window: int
    options: tuple[str, ...]
    seconds: float
    rtt: float | None = None
    server_ttl: int | None = None
    server_id: int | None = None


@dataclass(slots=True)
class Seen:
    """What came of one packet. ``expired``: the router at which it ran out; ``refused``: who said
    that it may not pass, or not reach; ``unreachable``: that it knows no way or no such host, which
    no filter need say; ``acked``: what was sent before it on the same connection
    was acknowledged, None where that is not known; ``seconds`` until the first of these."""

    expired: str = ""
    refused: str = ""
    unreachable: bool = False
    reset: bool = False
    answers: list[Answer] = field(default_factory=list)
    acked: bool | None = None
    seconds: float = 0.0
    teardowns: list[Teardown] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        return not (self.expired or self.refused or self.reset or self.answers)

    def merge(self, other: Seen) -> None:
        """With what came of another packet just like it."""
        self.expired = self.expired or other.expired
        self.refused = self.refused or other.refused
        self.unreachable = self.unreachable or other.unreachable
        self.reset = self.reset or other.reset
        self.answers += other.answers
        self.teardowns += other.teardowns
        if other.acked is not None:
            self.acked = bool(self.acked) or other.acked
        self.seconds = self.seconds or other.seconds


Enough = Callable[[Seen], bool]


def limit(sock: socket.socket, hops: int) -> None:
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops or -1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops or 64)


class Datagrams:
    """One UDP flow to a literal address: every packet takes the same path (Paris traceroute).

    Raises OSError where this host cannot send there."""

    def __init__(self, address: str, port: int, source: Source) -> None:
        self.sock = datagram.connected(address, port, source)
        self.sent = 0
        if self.sock.family is socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    async def shoot(
        self, data: bytes, hops: int, wait: float, enough: Enough | None = None
    ) -> Seen:
        """Send one datagram and listen for ``wait`` seconds, or until it is ``enough``."""
        seen, enough = Seen(), enough or (lambda seen: not seen.silent)
        self._listen(Seen(), b"", 0.0)  # what is late belongs to nobody
        limit(self.sock, hops)
        began = time.monotonic()
        datagram.send(self.sock, data, lambda: self._errors(Seen(), b""))
        self.sent += 1
        while True:
            self._listen(seen, data, began)
            left = began + wait - time.monotonic()
            if enough(seen) or left <= 0:
                return seen
            await asyncio.sleep(min(_POLL, left))

    def _listen(self, seen: Seen, sent: bytes, began: float) -> None:
        before = seen.silent
        self._errors(seen, sent)
        while True:
            try:
                data, told, _, _ = self.sock.recvmsg(65535, 128)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                if not self._errors(seen, sent):
                    break
                continue
            seen.answers.append(Answer(data, datagram.arrival(told)[1], time.monotonic() - began))
        if before and not seen.silent:
            seen.seconds = time.monotonic() - began

    def _errors(self, seen: Seen, sent: bytes) -> int:
        count = 0
        while True:
            try:
                quoted, told, _, _ = self.sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return count
            count += 1
            # A router quotes eight bytes at least, which are the UDP header; most quote more.
            if sent and quoted and not sent.startswith(quoted[: len(sent)]):
                continue
            read_error(told, seen)


def read_error(told: list[tuple[int, int, bytes]], seen: Seen) -> None:
    """One message of the error queue."""
    for level, kind, data in told:
        if (level, kind) not in (
            (socket.IPPROTO_IP, datagram.IP_RECVERR),
            (socket.IPPROTO_IPV6, datagram.IPV6_RECVERR),
        ):
            continue
        origin, icmp_type, code = struct.unpack_from("BBB", data, 4)
        sender = datagram.icmp_sender(told) or SOMEBODY
        if (origin, icmp_type) in (EXPIRED_4, EXPIRED_6):
            seen.expired = sender
        elif origin in (2, 3) and (origin, icmp_type) != (2, 12):
            seen.refused = sender
            kind, codes = UNREACHABLE_6 if origin == EXPIRED_6[0] else UNREACHABLE_4
            seen.unreachable = icmp_type == kind and code in codes


class Connections:
    """TCP connections to a literal address, one after the other from one source port."""

    def __init__(self, address: str, port: int, source: Source) -> None:
        self.address, self.port, self.source = address, port, source
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sent = 0
        with self.bound(Source(source.address, source.interface), 0) as first:
            self.own: int = first.getsockname()[1]

    def bound(self, source: Source, own: int) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Closed without a word: nothing is repeated, and the port is free at once.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if source.interface:
                Source("", source.interface).bind(sock, stream=True)
            fits = (":" in source.address) == (self.family is socket.AF_INET6)
            sock.bind((source.address if fits else "", own))
        except BaseException:
            sock.close()
            raise
        return sock

    def _report(self, sock: socket.socket) -> None:
        six = self.family is socket.AF_INET6
        level, option = (
            (socket.IPPROTO_IPV6, datagram.IPV6_RECVERR)
            if six
            else (socket.IPPROTO_IP, datagram.IP_RECVERR)
        )
        sock.setsockopt(level, option, 1)

    async def knock(self, hops: int, wait: float) -> Seen:
        """A SYN. ``answers`` has one, empty, when it was accepted."""
        seen, began = Seen(), time.monotonic()
        with self.bound(self.source, self.own) as sock:
            self._report(sock)
            limit(sock, hops)
            self.sent += 1
            try:
                async with asyncio.timeout(wait):
                    await connected(sock, (self.address, self.port))
                seen.answers.append(Answer(b"", None, time.monotonic() - began))
            except TimeoutError:
                pass
            except OSError as error:
                self._told(sock, seen)
                seen.reset = error.errno in RESETS and not seen.refused
            seen.seconds = 0.0 if seen.silent else time.monotonic() - began
            limit(sock, FULL)
        return seen

    def _told(self, sock: socket.socket, seen: Seen) -> None:
        while True:
            try:
                _, told, _, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            read_error(told, seen)

    async def say(
        self, before: bytes, data: bytes, hops: int, wait: float, enough: Enough | None = None
    ) -> Seen | None:
        """On a connection of its own: ``before`` with all hops, and ``data`` at once behind it with
        so many. None where nobody accepts the connection. The answer is the first bytes back."""
        with self.bound(self.source, self.own) as sock:
            self.sent += 3
            try:
                async with asyncio.timeout(wait + 1.0):
                    await connected(sock, (self.address, self.port))
            except OSError:  # TimeoutError is one
                return None
            rtt = tcp_info(sock).rtt
            self._report(sock)
            seen, began = Seen(acked=False if before else None), time.monotonic()
            try:
                if before:
                    sock.send(before)
                limit(sock, hops)
                sock.send(data)
            except OSError as error:
                seen.reset = error.errno in RESETS
                return seen
            self.sent += 1 + bool(before)
            deadline = began + max(wait, 3 * rtt + 0.1)
            while True:
                self._look(sock, seen, len(before), began)
                left = deadline - time.monotonic()
                if left <= 0 or seen.reset or seen.answers:
                    break
                if enough and enough(seen):
                    await asyncio.sleep(_GRACE)
                    self._look(sock, seen, len(before), began)
                    break
                await asyncio.sleep(min(_POLL, left))
            limit(sock, FULL)
        return seen

    def _look(self, sock: socket.socket, seen: Seen, before: int, began: float) -> None:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error in RESETS:
            seen.reset = True
        elif error == errno.EHOSTUNREACH:
            seen.expired = SOMEBODY
        elif error:
            seen.refused = SOMEBODY
        if before and tcp_info(sock).bytes_acked >= before:
            seen.acked = True
        try:
            if data := sock.recv(4096):
                seen.answers.append(Answer(data, None, time.monotonic() - began))
        except BlockingIOError:
            pass
        except OSError as problem:
            seen.reset = seen.reset or problem.errno in RESETS
        if not seen.silent and not seen.seconds:
            seen.seconds = time.monotonic() - began
