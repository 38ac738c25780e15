"""Connected datagram sockets, and what the kernel says beside a datagram: when it came, and the
ICMP errors of the error queue. No event loop: the agent's is asyncio, the media engine has its own.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator

from probes.model import Failure
from probes.net.address import Source
from probes.net.errors import Refusal

# linux/in.h and asm-generic/socket.h; absent from Python's socket module before 3.14
IP_RECVERR, IPV6_RECVERR = 11, 25
IP_TTL = 2
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_EXTENDED_ERROR = struct.Struct("@IBBBBII")  # struct sock_extended_err, linux/errqueue.h


def connected(address: str, port: int, source: Source) -> socket.socket:
    """To ``address``, a literal, from a fresh source port, non-blocking; with receive times and
    the error queue. Raises OSError."""
    six = ":" in address
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        source.bind(sock, stream=False)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def send(sock: socket.socket, data: bytes, drain_errors: Callable[[], int]) -> int:
    """Send one datagram; returns the Unix nanoseconds just before.

    An ICMP error of an earlier datagram surfaces as this call's errno while nothing is sent:
    ``drain_errors`` keeps what is on the error queue and says how many there were, and the send is
    tried again. Raises Refusal, and OSError for what the host itself refuses.
    """
    for _ in range(8):
        at = time.time_ns()
        try:
            sock.send(data)
        except OSError as error:
            # What is too large is said there as well, and would be again.
            if not drain_errors() or error.errno == errno.EMSGSIZE:
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    raise Refusal(Failure.OTHER, "the host's send buffer is full") from error
                raise
            continue
        return at
    raise Refusal(Failure.REFUSED, "ICMP errors outran the sends")


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
        number, origin, icmp_type, code, _pad, _info, _data = _EXTENDED_ERROR.unpack(data[:16])
        if origin == 2:  # SO_EE_ORIGIN_ICMP; type 3 is destination unreachable (RFC 792)
            if icmp_type == 3:
                yield _icmp4(code)
        elif origin == 3 and icmp_type == 1:  # SO_EE_ORIGIN_ICMP6, RFC 4443 section 3.1
            yield _icmp6(code)
        elif origin == 1 and number != errno.EMSGSIZE:
            # SO_EE_ORIGIN_LOCAL: this host found no way out
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
