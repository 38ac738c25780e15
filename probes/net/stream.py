"""TCP: a connected socket, the kernel's own figures about it, and words for what went wrong."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from probes.model import Failure, Step
from probes.net.address import parse
from probes.net.errors import Refusal
from probes.net.udp import IP_RECVERR, IPV6_RECVERR, icmp_failures, icmp_sender
from probes.trail import Peer, Trail

CONNECT_LIMIT = 10.0
_SEGMENT_HEADERS = {socket.AF_INET: 52, socket.AF_INET6: 72}  # IP, TCP, timestamps option


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


def tcp_info(sock: socket.socket) -> TcpInfo:
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232).ljust(232, b"\0")
    (rtt,) = struct.unpack_from("=I", raw, 68)
    (total_retransmissions,) = struct.unpack_from("=I", raw, 100)
    acked, received, segments_out, segments_in, _notsent, min_rtt = struct.unpack_from(
        "=QQIIII", raw, 120
    )
    return TcpInfo(
        rtt=rtt / 1e6,
        min_rtt=min_rtt / 1e6,
        retransmissions=total_retransmissions,
        # The SYN counts as one acknowledged byte.
        bytes_acked=max(acked - 1, 0),
        bytes_received=received,
        segments_out=segments_out,
        segments_in=segments_in,
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


@asynccontextmanager
async def connect(trail: Trail, peer: Peer) -> AsyncIterator[TcpStream]:
    """The ``connect`` step: a TCP connection to a literal address, closed on leaving.

    Facts: rtt_seconds (the kernel's, from SYN to SYN-ACK), retransmissions; icmp_from_target, where
    an ICMP error ended it: did the address itself send it, or a router on the way?
    """
    six = ":" in peer.address
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with trail.step(Step.CONNECT, trail.limit(CONNECT_LIMIT)):
                await _connect(sock, peer, trail, six)
            trail.facts["rtt_seconds"] = tcp_info(sock).rtt
            yield TcpStream(sock)
        finally:
            info = tcp_info(sock)
            trail.facts["retransmissions"] = info.retransmissions
            headers = _SEGMENT_HEADERS[sock.family]
            trail.count(
                info.segments_out,
                info.segments_in,
                info.segments_out * headers + info.bytes_acked,
                info.segments_in * headers + info.bytes_received,
            )
    finally:
        sock.close()


async def _connect(sock: socket.socket, peer: Peer, trail: Trail, six: bool) -> None:
    # With the error queue on, a filter's ICMP code is told from a routing error; it goes off again
    # once connected, since then a soft ICMP error would kill the connection.
    level, option = (socket.IPPROTO_IPV6, IPV6_RECVERR) if six else (socket.IPPROTO_IP, IP_RECVERR)
    sock.setsockopt(level, option, 1)
    trail.env.source.bind(sock, stream=True)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (peer.address, peer.port))
    except OSError as error:
        for failure, sender in _queued(sock):
            if failure is not Failure.REFUSED:  # an RST has no ICMP: its errno is the word
                trail.facts["icmp_from_target"] = parse(sender) == parse(peer.address)
                raise Refusal(failure, f"ICMP while connecting: {error}") from error
        raise
    sock.setsockopt(level, option, 0)
    failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, errno.errorcode.get(failed, "?"))


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
