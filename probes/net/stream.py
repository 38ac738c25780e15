"""TCP: a connected socket, the kernel's own figures about it, and words for what went wrong."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from dataclasses import dataclass

from probes.model import Failure, Step
from probes.net.address import parse
from probes.net.datagram import IP_RECVERR, IPV6_RECVERR, icmp_failures, icmp_sender
from probes.net.errors import Refusal
from probes.trail import Peer, Trail

CONNECT_LIMIT = 10.0
_SEGMENT_HEADERS = (52, 72)  # IPv4 and IPv6: IP, TCP, timestamps option


_TCP_INFO = struct.Struct("=24x I 40x I 20x I 4x I 16x QQIIII 72x I")


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """struct tcp_info of linux/tcp.h, the fields that probes use. Times in seconds."""

    rtt: float
    min_rtt: float
    retransmissions: int
    bytes_acked: int
    bytes_received: int
    segments_out: int
    segments_in: int
    state: int
    """As in net/tcp_states.h: 7 is closed (by an RST), 8 is closed by the other side's FIN."""
    unacked: int
    """Segments sent and not acknowledged yet."""
    not_sent: int
    """Bytes that wait for the other side's window."""
    out_of_order: int
    """Segments that came before an earlier one: what is lost on the way here shows as these."""
    receive_rtt: float
    """The receiver's estimate, 0 while there is none; grows with a queue on the way here."""


def tcp_info(sock: socket.socket) -> TcpInfo:
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232).ljust(232, b"\0")
    (
        unacked,
        rtt,
        receive_rtt,
        total_retransmissions,
        acked,
        received,
        segments_out,
        segments_in,
        not_sent,
        min_rtt,
        out_of_order,
    ) = _TCP_INFO.unpack_from(raw)
    return TcpInfo(
        rtt=rtt / 1e6,
        min_rtt=min_rtt / 1e6,
        retransmissions=total_retransmissions,
        # The SYN counts as one acknowledged byte.
        bytes_acked=max(acked - 1, 0),
        bytes_received=received,
        segments_out=segments_out,
        segments_in=segments_in,
        state=raw[0],
        unacked=unacked,
        not_sent=not_sent,
        out_of_order=out_of_order,
        receive_rtt=receive_rtt / 1e6,
    )


@dataclass(slots=True)
class TcpStream:
    """Bytes over a connected socket. Raises OSError; ``read`` returns b"" at a FIN."""

    sock: socket.socket

    async def read(self, limit: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, limit)

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def info(self) -> TcpInfo:
        return tcp_info(self.sock)


def connect(trail: Trail, peer: Peer) -> Connection:
    """The ``connect`` step: a TCP connection to a literal address, as a context that gives its
    TcpStream and closes it.

    Facts: rtt_seconds (the kernel's, from SYN to SYN-ACK), retransmissions; icmp_from_target, where
    an ICMP error ended it: did the address itself send it, or a router on the way?
    """
    return Connection(trail, peer)


class Connection:
    """A connection while it is open. A class, as ``Timed`` is one."""

    __slots__ = ("_peer", "_six", "_sock", "_trail")

    def __init__(self, trail: Trail, peer: Peer) -> None:
        self._trail, self._peer, self._six = trail, peer, ":" in peer.address

    async def __aenter__(self) -> TcpStream:
        trail, family = self._trail, socket.AF_INET6 if self._six else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with trail.step(Step.CONNECT, trail.limit(CONNECT_LIMIT)):
                await _connect(self._sock, self._peer, trail, self._six)
            trail.facts["rtt_seconds"] = tcp_info(self._sock).rtt
        except BaseException:
            self._leave()
            raise
        return TcpStream(self._sock)

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        with self._sock:
            info = tcp_info(self._sock)
            self._trail.facts["retransmissions"] = info.retransmissions
            headers = _SEGMENT_HEADERS[self._six]
            self._trail.count(
                info.segments_out,
                info.segments_in,
                info.segments_out * headers + info.bytes_acked,
                info.segments_in * headers + info.bytes_received,
            )


async def _connect(sock: socket.socket, peer: Peer, trail: Trail, six: bool) -> None:
    # With the error queue on, a filter's ICMP code is told from a routing error; it goes off again
    # once connected, since then a soft ICMP error would kill the connection.
    level, option = (socket.IPPROTO_IPV6, IPV6_RECVERR) if six else (socket.IPPROTO_IP, IP_RECVERR)
    sock.setsockopt(level, option, 1)
    trail.env.source.bind(sock, stream=True)
    try:
        await connected(sock, (peer.address, peer.port))
    except OSError as error:
        for failure, sender in _queued(sock):
            trail.facts["icmp_from_target"] = parse(sender) == parse(peer.address)
            if failure is not Failure.REFUSED:  # whose word the errno is, RST or ICMP
                raise Refusal(failure, f"ICMP while connecting: {error}") from error
        raise
    sock.setsockopt(level, option, 0)


async def connected(sock: socket.socket, address: tuple[str, int]) -> None:
    """Until a socket that does not block is connected: as the loop's ``sock_connect``, at half its
    cost. Raises OSError."""
    failed = sock.connect_ex(address)
    if failed in (errno.EINPROGRESS, errno.EINTR):
        loop, fd = asyncio.get_running_loop(), sock.fileno()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(fd, _settle, writable)
        try:
            await writable
        finally:
            loop.remove_writer(fd)
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, errno.errorcode.get(failed, "?"))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _queued(sock: socket.socket) -> list[tuple[Failure, str]]:
    """The words for queued ICMP errors, and who sent them."""
    found: list[tuple[Failure, str]] = []
    for _ in range(4):
        try:
            _data, ancillary, _flags, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            break
        sender = icmp_sender(ancillary)
        found.extend((failure, sender) for failure in icmp_failures(ancillary))
    return found
