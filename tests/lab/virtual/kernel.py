"""The client's kernel without a network: sockets whose packets go through the lab's path model.

Stands in for the module ``socket`` where probes open theirs, so that everything above it, probes
and agent, is what runs in the field. Packets become bytes only where a rule may want to read them.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from probes.net import datagram as beside
from tests.lab import packet as packets
from tests.lab.actions import IN, OUT
from tests.lab.packet import ACK, RST, TCP, UDP, Ends, Packet
from tests.lab.path import Arrival, Path
from tests.lab.virtual.clock import Loop
from tests.lab.virtual.tcp import Endpoint
from tests.lab.world import CLIENT_V4, CLIENT_V6

TTL = 64
DESCRIPTORS = itertools.count(1_000_000)
_OPTIONS = b"\x01\x01\x08\x0a" + bytes(8)  # timestamps, as long as Linux's
_UNREACHABLE = {1: errno.EHOSTUNREACH, 3: errno.ECONNREFUSED, 9: errno.ENETUNREACH}
"""icmp_err_convert of Linux's icmp.c, the codes that filters send; others are EHOSTUNREACH."""


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text(address: bytes) -> str:
    return packets.text(address)


class Kernel:
    """Both ends of the path: the client's sockets, and ``world``, the servers beyond it."""

    def __init__(self, loop: Loop, path: Path, rng: random.Random, *, ipv6: bool) -> None:
        self.loop, self.path, self.rng, self.ipv6 = loop, path, rng, ipv6
        self.world: Any = None
        self.own = {4: packed(CLIENT_V4), 6: packed(CLIENT_V6)}
        self.ports: dict[tuple[int, int], VirtualSocket] = {}
        self.sent = 0  # packets that left this host
        self._port = rng.randrange(32768, 60999)

    def port(self, protocol: int) -> int:
        while True:
            self._port = 32768 + (self._port - 32768 + 1 + self.rng.randrange(7)) % 28000
            if (protocol, self._port) not in self.ports:
                return self._port

    def route(self, address: str) -> None:
        """Raises OSError where this host has no way to."""
        if ":" in address and not self.ipv6:
            raise OSError(errno.ENETUNREACH, "no route")

    # --- packets ---

    def transmit(self, direction: str) -> Callable[[Ends, int, int, int, bytes], None]:
        """How a TCP endpoint on that side sends."""

        def send(ends: Ends, sequence: int, acknowledged: int, flags: int, payload: bytes) -> None:
            if direction == OUT:
                self.sent += 1
            server, port = ends[2:] if direction == OUT else ends[:2]
            if self.path.watches(direction, TCP, server, port):
                packet = tcp_packet(ends, sequence, acknowledged, flags, payload)
                self._carry(packet, direction)
            elif (due := self.path.through(direction, self.loop.time())) is not None:
                arrive = self._tcp_here if direction == IN else self.world.tcp
                self.loop.deliver(due, arrive, ends, sequence, acknowledged, flags, payload)

        return send

    def datagram(self, direction: str, ends: Ends, payload: bytes) -> None:
        if direction == OUT:
            self.sent += 1
        server, port = ends[2:] if direction == OUT else ends[:2]
        if self.path.watches(direction, UDP, server, port):
            self._carry(udp_packet(ends, payload), direction)
        elif (due := self.path.through(direction, self.loop.time())) is not None:
            ttl = TTL - self.path.crossed[direction]
            arrive = self._udp_here if direction == IN else self.world.udp
            self.loop.deliver(due, arrive, ends, payload, ttl)

    def unreachable(self, asked: Ends, payload: bytes) -> None:
        """A server's host has no such UDP port."""
        about = udp_packet(asked, payload)
        code = packets.PORT_UNREACHABLE if about.version == 4 else packets.V6_PORT_UNREACHABLE
        answer = packets.unreachable(about, about.destination, code)
        self._carry(packets.parse(answer), IN)

    def _carry(self, packet: Packet, direction: str) -> None:
        for arrival in self.path.carry(packet, direction, self.loop.time()).arrivals:
            self.loop.deliver(arrival.due, self._arrives, arrival)

    def _arrives(self, arrival: Arrival) -> None:
        _, direction, packet, ttl = arrival
        if packet.protocol == TCP:
            arrive = self._tcp_here if direction == IN else self.world.tcp
            sent = (packet.sequence, packet.acknowledged, packet.tcp_flags, packet.payload)
            arrive(packets.forward(packet), *sent)
        elif packet.protocol == UDP:
            arrive = self._udp_here if direction == IN else self.world.udp
            arrive(packets.forward(packet), packet.payload, ttl)
        elif direction == IN:
            self._icmp_here(packet)

    def _tcp_here(
        self, ends: Ends, sequence: int, acknowledged: int, flags: int, payload: bytes
    ) -> None:
        sock = self.ports.get((TCP, ends[3]))
        if sock is not None and sock.peer == ends[:2] and sock.endpoint is not None:
            sock.endpoint.segment(sequence, acknowledged, flags, payload)

    def _udp_here(self, ends: Ends, payload: bytes, ttl: int) -> None:
        sock = self.ports.get((UDP, ends[3]))
        if sock is not None and sock.peer == ends[:2]:
            sock.datagram(payload, ttl)

    def _icmp_here(self, packet: Packet) -> None:
        kind, code = packet.payload[0], packet.payload[1]
        if kind != (3 if packet.version == 4 else 1):
            return  # time exceeded, say: no probe asks for it
        quoted = packet.payload[8:]
        header = 20 if packet.version == 4 else 40
        protocol = quoted[9] if packet.version == 4 else quoted[6]
        source, destination = struct.unpack_from("!HH", quoted, header)
        sock = self.ports.get((protocol, source))
        if sock is not None and sock.peer is not None and sock.peer[1] == destination:
            sock.icmp(packet.version, kind, code, packet.source)

    def module(self) -> Any:
        """Stands for the module ``socket``."""
        return _Sockets(self)


class _Sockets:
    def __init__(self, kernel: Kernel) -> None:
        self.__dict__.update(vars(socket), socket=self._socket)
        self._kernel = kernel

    def _socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> Any:
        return VirtualSocket(self._kernel, family, kind)


class VirtualSocket:
    """A socket of either kind: non-blocking, connected, with an error queue."""

    def __init__(self, kernel: Kernel, family: int, kind: int) -> None:
        self.kernel, self.family, self.type = kernel, family, kind
        self.protocol = UDP if kind == socket.SOCK_DGRAM else TCP
        self.fd = next(DESCRIPTORS)
        kernel.loop.watched[self.fd] = self
        self.peer: tuple[bytes, int] | None = None
        self.local = 0
        self.reader: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self.writer: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self.queue: deque[Any] = deque()
        self.errors: deque[Any] = deque()
        self.error = 0
        self.ended_by_peer = False
        self.endpoint: Endpoint | None = None
        self.ends: Ends | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- what probes call ---

    def __enter__(self) -> VirtualSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self.fd

    def setblocking(self, _: bool) -> None:
        return None

    def setsockopt(self, *_: Any) -> None:
        return None

    def bind(self, _: Any) -> None:
        return None

    def getpeername(self) -> tuple[str, int]:
        if self.peer is None:
            raise OSError(errno.ENOTCONN, "not connected")
        return text(self.peer[0]), self.peer[1]

    def getsockopt(self, _level: int, option: int, size: int = 0) -> Any:
        if option == socket.SO_ERROR and not size:
            error, self.error = self.error, 0
            return error
        return self.endpoint.info() if self.endpoint is not None else bytes(size)

    def connect(self, address: tuple[str, int]) -> None:
        """UDP, or the question whether there is a route."""
        self.kernel.route(address[0])
        self._set_peer(address)

    def connect_ex(self, address: tuple[str, int]) -> int:
        try:
            self.kernel.route(address[0])
        except OSError as error:
            return error.errno or 0
        ends = self._set_peer(address)
        first = self.kernel.rng.randrange(1 << 24)
        send = self.kernel.transmit(OUT)
        self.endpoint = Endpoint(self.kernel.loop, send, ends, self, first)
        self.endpoint.connect()
        return errno.EINPROGRESS

    def _set_peer(self, address: tuple[str, int]) -> Ends:
        self.peer = (packed(address[0]), address[1])
        self.local = self.kernel.port(self.protocol)
        self.kernel.ports[self.protocol, self.local] = self
        own = self.kernel.own[6 if ":" in address[0] else 4]
        self.ends = (own, self.local, *self.peer)
        return self.ends

    def send(self, data: bytes) -> int:
        assert self.ends is not None
        self.kernel.datagram(OUT, self.ends, bytes(data))
        return len(data)

    def recvmsg(self, _size: int, _ancillary: int = 0, flags: int = 0) -> Any:
        queue = self.errors if flags == socket.MSG_ERRQUEUE else self.queue
        if not queue:
            raise BlockingIOError
        return queue.popleft()

    def close(self) -> None:
        if self.endpoint is not None:
            self.endpoint.abandon()
        if self.kernel.ports.get((self.protocol, self.local)) is self:
            del self.kernel.ports[self.protocol, self.local]
        self.kernel.loop.watched.pop(self.fd, None)

    async def receive(self, size: int) -> bytes:
        while not (self.queue or self.error or self.ended_by_peer):
            self._waiter = self.kernel.loop.create_future()
            await self._waiter
        if self.queue:
            data: bytes = self.queue.popleft()
            if len(data) > size:
                self.queue.appendleft(data[size:])
            return data[:size]
        if self.error:
            error, self.error = self.error, 0
            raise OSError(error, os.strerror(error))
        return b""

    async def send_all(self, data: bytes) -> None:
        assert self.endpoint is not None
        if self.error:
            error, self.error = self.error, 0
            raise OSError(error, os.strerror(error))
        if self.endpoint.state == "closed":
            raise OSError(errno.EPIPE, "closed")
        self.endpoint.write(data)

    # --- what arrives ---

    def opened(self) -> None:
        self._writable()

    def arrived(self, data: bytes) -> None:
        self.queue.append(data)
        self._wake()

    def ended(self) -> None:
        self.ended_by_peer = True
        self._wake()

    def broken(self, error: int) -> None:
        self.error = error
        self._wake()
        self._writable()

    def datagram(self, payload: bytes, ttl: int) -> None:
        seconds, rest = divmod(round(self.kernel.loop.clock.wall() * 1e9), 1_000_000_000)
        told = [(socket.SOL_SOCKET, beside.SO_TIMESTAMPNS, beside._TIMESPEC.pack(seconds, rest))]
        hops = ttl.to_bytes(4, "little")
        if self.family == socket.AF_INET6:
            told.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, hops))
        else:
            told.append((socket.IPPROTO_IP, beside.IP_TTL, hops))
        self.queue.append((payload, told, 0, None))
        self._readable()

    def icmp(self, version: int, kind: int, code: int, sender: bytes) -> None:
        self.errors.append((b"", [_extended(version, kind, code, sender)], 0, None))
        if self.endpoint is None:
            self._readable()
        elif self.endpoint.state == "syn sent":
            self.endpoint.icmp(_UNREACHABLE.get(code, errno.EHOSTUNREACH))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _readable(self) -> None:
        if self.reader is not None:
            callback, args = self.reader
            callback(*args)

    def _writable(self) -> None:
        if self.writer is not None:
            callback, args = self.writer
            callback(*args)


def _extended(version: int, kind: int, code: int, sender: bytes) -> tuple[int, int, bytes]:
    """struct sock_extended_err and the sender's address behind it."""
    origin = 2 if version == 4 else 3
    error = beside._EXTENDED_ERROR.pack(0, origin, kind, code, 0, 0, 0)
    if version == 4:
        return socket.IPPROTO_IP, beside.IP_RECVERR, error + struct.pack("=HH", 2, 0) + sender
    return socket.IPPROTO_IPV6, beside.IPV6_RECVERR, error + struct.pack("=HHI", 10, 0, 0) + sender


# Packets without checksums: no filter of the lab looks at those


def tcp_packet(
    ends: Ends, sequence: int, acknowledged: int, flags: int, payload: bytes, ttl: int = TTL
) -> Packet:
    _, source_port, _, port = ends
    fields = (source_port, port, sequence, acknowledged, 8 << 4, flags, 65535, 0, 0)
    return _packet(ends, TCP, struct.pack("!HHIIBBHHH", *fields) + _OPTIONS + payload, ttl)


def udp_packet(ends: Ends, payload: bytes, ttl: int = TTL) -> Packet:
    header = struct.pack("!HHHH", ends[1], ends[3], 8 + len(payload), 0)
    return _packet(ends, UDP, header + payload, ttl)


def _packet(ends: Ends, protocol: int, body: bytes, ttl: int) -> Packet:
    source, source_port, destination, port = ends
    if len(source) == 16:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, ttl)
        data, version, header = head + source + destination + body, 6, 40
    else:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, ttl, protocol, 0)
        data, version, header = head + source + destination + body, 4, 20
    return Packet(
        data, version, source, destination, protocol, ttl, header, source_port, port, True
    )


def refusal(ends: Ends, sequence: int, acknowledged: int, flags: int, size: int) -> Any:
    """Sequence, acknowledged and flags of the reset that answers a segment to a closed port."""
    number = acknowledged if flags & ACK else 0
    span = size + bool(flags & packets.SYN) + bool(flags & packets.FIN)
    return number, sequence + span, RST | ACK
