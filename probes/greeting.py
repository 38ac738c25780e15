"""A client's first words over TCP, or in a WebSocket, and the server's: what mtproto and noise
share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from probes.model import Failure, Step
from probes.net import stream, tls, websocket
from probes.net.http import ByteStream
from probes.net.stream import TcpStream
from probes.trail import Peer, Trail
from probes.wire.error import WireError
from probes.wire.foreign import spoken

EXCHANGE_LIMIT = 10.0
_CHUNK = 4096
_HEAD = 256
"""Bytes of what came that are kept, to say what else it is."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Door:
    """The WebSocket at which to ask: its path, and what its handshake says."""

    path: str
    origin: str = ""
    protocol: str = ""


@asynccontextmanager
async def way(trail: Trail, peer: Peer, door: Door | None) -> AsyncIterator[ByteStream | None]:
    """Connect, secure and upgrade, as far as ``door`` asks for it, and begin the exchange step, in
    which the caller talks; None where the run is to stop after ``connect``."""
    async with stream.connect(trail, peer) as tcp:
        if trail.partial:
            yield None
            return
        if door is None:
            async with trail.step(Step.EXCHANGE, trail.limit(EXCHANGE_LIMIT)):
                yield tcp
            return
        name = peer.host or peer.address
        secured = await tls.secure(trail, tcp, peer.address, name, ("http/1.1",))
        host = f"[{name}]" if ":" in name else name
        host = host if peer.port == 443 else f"{host}:{peer.port}"
        async with trail.step(Step.EXCHANGE, trail.limit(EXCHANGE_LIMIT)):
            yield await websocket.upgrade(
                trail, secured, host, door.path, origin=door.origin, protocol=door.protocol
            )


async def greet(
    trail: Trail, over: ByteStream, hello: bytes, feed: Callable[[bytes], Answer | None]
) -> Answer:
    """Say ``hello`` in one piece and read until ``feed`` has an answer. Raises OSError, EOFError
    (closed without a byte), WireError.

    Facts: hello_bytes; over TCP hello_acked (did the other side's kernel acknowledge it?);
    server_spoke; spoke_instead, where what came is an ``echo``, ``http`` or ``tls``.
    """
    trail.facts["hello_bytes"] = len(hello)
    heard = b""
    try:
        await over.write(hello)
        while True:
            data = await over.read(_CHUNK)
            if not data:
                if heard:
                    raise WireError(Failure.TRUNCATED, "closed in the middle of an answer")
                raise EOFError("closed without an answer")
            heard = (heard + data)[:_HEAD]
            answer = feed(data)
            if answer is not None:
                return answer
    except WireError as error:
        instead = spoken(heard, hello)
        if not instead:
            raise
        trail.facts["spoke_instead"] = instead
        raise WireError(Failure.BAD_REPLY, f"speaks {instead}: {error}") from error
    finally:
        trail.facts["server_spoke"] = bool(heard)
        if isinstance(over, TcpStream):
            trail.facts["hello_acked"] = bool(heard) or over.info().bytes_acked >= len(hello)
