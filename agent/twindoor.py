"""The twin's sockets: UDP ports and TLS for any name. What it says is decided in agent/twin.py."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
import ssl
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from agent.twin import Allowance, Twin, source_of
from probes.net.datagram import SO_TIMESTAMPNS, arrival
from probes.net.files import create_private
from probes.wire import twin as wire

log = logging.getLogger(__name__)

TLS_PER_SECOND, TLS_BURST = 0.5, 10.0  # new connections per source
TLS_AT_ONCE = 8  # per source
TLS_IN_ALL = 256
HANDSHAKE_LIMIT = 10.0
IDLE_LIMIT = 10.0
"""Seconds that a secured connection may last; whoever asks for a tally asks at once."""
_BURST = 64  # datagrams per wake-up, so that a flood on one port cannot hold the loop
_LARGEST = wire.MAX_SIZE + 1  # read of a datagram: what is larger is seen to be


def load_key(path: Path) -> bytes:
    """The key at ``path``; a new one is written there (mode 0600) when it does not exist.

    Raises OSError, ValueError.
    """
    if not path.exists():
        create_private(path, secrets.token_hex(wire.KEY_SIZE).encode() + b"\n")
    return wire.parse_key(path.read_text("ascii"))


class TwinDoor:
    """Serves on every given address. Ports of 0 are the kernel's choice, for tests."""

    def __init__(self, twin: Twin, tls: ssl.SSLContext) -> None:
        self.twin = twin
        self.udp_ports: list[int] = []
        self.tls_port = 0
        self._tls = tls
        self._udp: list[socket.socket] = []
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._allowance = Allowance(TLS_PER_SECOND, TLS_BURST)
        self._open: Counter[str] = Counter()

    def open(self, addresses: Sequence[str], udp_ports: Sequence[int], tls_port: int) -> None:
        """Bind and start to serve. Raises OSError, with nothing left open."""
        loop = asyncio.get_running_loop()
        try:
            for address in addresses:
                for port in udp_ports:
                    sock = _bound(address, port, socket.SOCK_DGRAM)
                    self._udp.append(sock)
                    self.udp_ports.append(sock.getsockname()[1])
                    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                    loop.add_reader(sock, self._readable, sock)
                listener = _bound(address, tls_port, socket.SOCK_STREAM)
                self._listeners.append(listener)
                self.tls_port = listener.getsockname()[1]
                self._spawn(self._accept(listener))
        except OSError:
            self._close_sockets()
            raise

    async def close(self) -> None:
        self._close_sockets()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close_sockets(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in (*self._udp, *self._listeners):
            loop.remove_reader(sock)
            sock.close()
        self._udp, self._listeners, self.udp_ports = [], [], []

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- UDP ---

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                data, ancillary, _flags, peer = sock.recvmsg(_LARGEST, 128)
            except OSError:  # nothing more, or an ICMP error about an answer: nothing to do
                return
            at, _ttl = arrival(ancillary)
            answer = self.twin.answer(data, peer[0], peer[1], at / 1e9)
            if answer is not None:
                # A full buffer loses the answer, as a path would.
                with contextlib.suppress(OSError):
                    sock.sendto(answer, peer)

    # --- TLS ---

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while listener.fileno() >= 0:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    await asyncio.sleep(0.1)  # there is none to be had until one is given back
                continue
            source = source_of(peer[0])
            if not self._may_connect(source):
                self.twin.counts["tls_limited"] += 1
                sock.close()
                continue
            self._open[source] += 1
            self._spawn(self._serve(sock, source))

    def _may_connect(self, source: str) -> bool:
        if self._open.total() >= TLS_IN_ALL or self._open[source] >= TLS_AT_ONCE:
            return False
        return self._allowance.take(source, time.time())

    async def _serve(self, sock: socket.socket, source: str) -> None:
        """A handshake for whatever name, one tally if it is asked for, and the end."""
        try:
            with sock, contextlib.suppress(OSError, EOFError):
                reader, writer = await self._secured(sock)
                try:
                    async with asyncio.timeout(IDLE_LIMIT):
                        self.twin.counts["tls"] += 1
                        question = await reader.readexactly(wire.TALLY_SIZE)
                        answer = self.twin.tally(question, time.time())
                        if answer is not None:
                            self.twin.counts["tally"] += 1
                            writer.write(answer)
                            await writer.drain()
                            await reader.read(1)  # until the other side has it and closes
                finally:
                    writer.transport.abort()
        finally:
            self._open[source] -= 1
            self._open += Counter()  # drops what is zero

    async def _secured(
        self, sock: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=4096, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_LIMIT
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Raises OSError with the place as its filename."""
    stream = kind == socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    place = f"{address}, {'TCP' if stream else 'UDP'} port {port}"
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise OSError(error.errno, error.strerror, place) from error
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if stream:
            sock.listen(128)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, error.strerror, place) from error
    return sock
