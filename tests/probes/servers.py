"""Real servers on loopback that misbehave; each misbehaviour is a few lines."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

import probes
from probes.model import Observation, Target
from probes.net.environment import Environment
from probes.trail import Peer, Probe, StepFailed, Trail
from probes.wire import stun

PROBES = Path(probes.__path__[0])
TARGET = Target("control", "", "test", "")
SHORT = 0.15
"""Timeout in seconds where silence is the outcome: how late this machine is does not matter."""
COUNTED = 1.0
"""Timeout where every answer counts: a busy machine answers a third of a second late."""

NASTY = "\x1b[31mred\x1b]0;title\x07\u202egnol\u200b<script>alert(1)</script>" + "A" * 65536
"""All that a text from the network may carry at once."""


def assert_clean(text: object) -> None:
    """One printable line of bounded length; markup stays, since the page escapes it."""
    assert isinstance(text, str)
    assert text
    assert len(text) <= 120
    assert text.isprintable()
    assert "[31m" not in text


async def observe(
    probe: Probe,
    port: int,
    env: Environment,
    *,
    host: str = "",
    address: str = "127.0.0.1",
    timeout: float | None = 5.0,
    partial: bool = False,
    rfc_timers: bool = False,
) -> Observation:
    """One run of a probe at one address; a run of it leaves no task behind."""
    trail = Trail(env, timeout, partial, rfc_timers)
    with suppress(StepFailed):
        await probe.run(trail, Peer(address, port, host))
    assert not our_tasks(), "a run leaves a task behind"
    return Observation("", TARGET, 0.0, tuple(trail.steps), trail.facts, partial)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until ``condition`` holds; something else has to bring it about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 # the kernel's tables and servers set no Event
            await asyncio.sleep(0)


def our_tasks() -> list[str]:
    """Tasks that run code of probes/: not the test's own, nor a server's."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    files = [getattr(c, "cr_code", None) for c in coroutines]
    return [str(c) for c in files if c and Path(c.co_filename).is_relative_to(PROBES)]


def family(host: str) -> socket.AddressFamily:
    """Of a loopback address; skips the test where this machine has none of that family."""
    if ":" not in host:
        return socket.AF_INET
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")
    return socket.AF_INET6


# --- UDP ---


@dataclass(frozen=True, slots=True)
class Later:
    seconds: float
    data: bytes


Reply = Iterable[bytes | Later]
Answer = Callable[[int, bytes], Reply]
"""Number of the datagram (from 0) and its bytes to what is sent back for it."""


@dataclass(slots=True)
class UdpServer:
    sock: socket.socket
    answer: Answer
    received: list[bytes] = field(default_factory=list)
    peers: list[tuple[str, int]] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port

    def _readable(self) -> None:
        data, peer = self.sock.recvfrom(65535)
        number = len(self.received)
        self.received.append(data)
        self.peers.append(peer)
        for item in self.answer(number, data):
            if isinstance(item, Later):
                asyncio.get_running_loop().call_later(item.seconds, self._send, item.data, peer)
            else:
                self._send(item, peer)

    def _send(self, data: bytes, peer: tuple[str, int]) -> None:
        if self.sock.fileno() >= 0:
            with suppress(OSError):
                self.sock.sendto(data, peer)


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(family(host), socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, port))
    return sock


@asynccontextmanager
async def udp_server(
    answer: Answer, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[UdpServer]:
    loop = asyncio.get_running_loop()
    with udp_socket(host, port) as sock:
        server = UdpServer(sock, answer)
        loop.add_reader(sock, server._readable)
        try:
            yield server
        finally:
            loop.remove_reader(sock)


def silent(_number: int, _data: bytes) -> Reply:
    return []


def echo(_number: int, data: bytes) -> Reply:
    return [data]


def closed_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    """A port where nobody listens."""
    with socket.socket(family(host), kind) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
    return port


def clients_of(port: int) -> list[int]:
    """Local ports of the UDP sockets that are connected to ``port`` on 127.0.0.1."""
    rows = Path("/proc/thread-self/net/udp").read_text().splitlines()[1:]
    ends = [row.split()[1:3] for row in rows]
    return [int(near[9:], 16) for near, far in ends if far == f"0100007F:{port:04X}"]


# --- TCP and TLS ---

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class TcpServer:
    port: int
    connections: int = 0


@asynccontextmanager
async def tcp_server(
    behave: Behaviour, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[TcpServer]:
    """``connections`` counts those whose TLS handshake, where there is one, was completed."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writers.add(writer)
        with suppress(OSError, EOFError):
            await behave(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls, family=family(host))
    seen = TcpServer(server.sockets[0].getsockname()[1])
    try:
        yield seen
    finally:
        await asyncio.sleep(0)  # what was accepted just now gets its transport
        server.close()
        async with asyncio.timeout(5):
            while _busy(server):
                for writer in writers:
                    writer.transport.abort()
                await asyncio.sleep(0)


def _busy(server: asyncio.Server) -> bool:
    """Has it connections left? ``wait_closed`` knows from Python 3.12 on; 3.13 counts otherwise."""
    return bool(getattr(server, "_active_count", 0) or getattr(server, "_clients", ()))


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with an RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def reset_after_first_bytes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(1)
    reset(writer)


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await reader.read()


async def close_after_first_bytes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.read(65536)


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def say(*chunks: bytes) -> Behaviour:
    """Reads the first bytes, says ``chunks``, closes."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()

    return behave


# --- DNS ---


def dns_reply(
    query: bytes,
    *addresses: str,
    rcode: str = "NOERROR",
    texts: tuple[str, ...] = (),
    flags: int = 0,
) -> bytes:
    """The answer to ``query`` with those of ``addresses`` that it asks for."""
    asked = dns.message.from_wire(query)
    answer = dns.message.make_response(asked, recursion_available=True)
    answer.set_rcode(dns.rcode.from_text(rcode))
    answer.flags |= flags
    question = asked.question[0]
    kind = question.rdtype.name
    found = [*texts] if kind == "TXT" else [a for a in addresses if (":" in a) == (kind == "AAAA")]
    if found:
        answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
    return answer.to_wire()


def answering(*addresses: str, rcode: str = "NOERROR") -> Answer:
    return lambda _number, data: [dns_reply(data, *addresses, rcode=rcode)]


# --- STUN ---

MAPPED = "203.0.113.77"


def stun_reply(request: bytes, *extra: tuple[int, bytes], mapped: str = MAPPED) -> bytes:
    """A Binding success for the request's id, in the form (cookie or not) in which it came."""
    plain = b"\0\x01" + (4242).to_bytes(2, "big") + socket.inet_aton(mapped)
    answer = stun.encode(
        stun.BINDING_SUCCESS, request[8:20], [(stun.MAPPED_ADDRESS, plain), *extra]
    )
    return answer[:4] + request[4:8] + answer[8:]


def stun_refusal(request: bytes, code: int, *extra: tuple[int, bytes]) -> bytes:
    """An error of the request's own method."""
    kind = int.from_bytes(request[:2], "big") | 0x0110
    value = bytes([0, 0, code // 100, code % 100])
    return stun.encode(kind, request[8:20], [(stun.ERROR_CODE, value + b"no"), *extra])


def stun_answers(_number: int, data: bytes) -> Reply:
    return [stun_reply(data)]
