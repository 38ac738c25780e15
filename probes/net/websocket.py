"""A WebSocket over a stream that we opened ourselves, as a stream of the bytes in its messages."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from probes.model import Failure
from probes.net.errors import Refusal
from probes.net.http import ByteStream
from probes.trail import Trail
from probes.wire import websocket as wire
from probes.wire.error import WireError

SWITCHING = 101  # RFC 6455 section 4.2.2
_CHUNK = 4096


@dataclass(slots=True)
class WebSocketStream:
    """Each ``write`` is one binary message. ``read`` gives what came in binary messages, b"" once
    the server closed. Raises OSError, WireError. Pings are answered."""

    over: ByteStream
    _reader: wire.Reader
    _waiting: bytearray = field(default_factory=bytearray)
    _closed: bool = False

    async def write(self, data: bytes) -> None:
        await self.over.write(wire.frame(data, os.urandom(4)))

    async def read(self, limit: int) -> bytes:
        while not self._waiting and not self._closed:
            data = await self.over.read(_CHUNK)
            self._closed = not data
            await self.take(data)
        taken = bytes(self._waiting[:limit])
        del self._waiting[:limit]
        return taken

    async def take(self, data: bytes) -> None:
        """Bytes that came from the server."""
        for frame in self._reader.feed(data):
            if frame.control == wire.PING:
                await self.over.write(wire.frame(frame.payload, os.urandom(4), wire.PONG))
            elif frame.control == wire.CLOSE:
                self._closed = True
                return
            elif not frame.control:
                self._waiting += frame.payload


async def upgrade(
    trail: Trail, over: ByteStream, host: str, path: str, *, origin: str = "", protocol: str = ""
) -> WebSocketStream:
    """The handshake, within a step of the caller's. Raises OSError, EOFError, WireError, and
    Refusal(HTTP_STATUS) for another status than 101. Facts: http_status."""
    key = os.urandom(wire.KEY_SIZE)
    await over.write(wire.request(host, path, key, origin=origin, protocol=protocol))
    head, found, received = wire.Head(), None, 0
    while found is None:
        data = await over.read(_CHUNK)
        if not data:
            if received:
                raise WireError(Failure.TRUNCATED, f"closed after {received} bytes of a head")
            raise EOFError("closed without an answer")
        received += len(data)
        found = head.feed(data)
    status, fields, rest = found
    trail.facts["http_status"] = status
    if status != SWITCHING:
        raise Refusal(Failure.HTTP_STATUS, f"status {status} instead of a WebSocket")
    wire.check_upgrade(fields, key, protocol)
    stream = WebSocketStream(over, wire.Reader())
    await stream.take(rest)
    return stream
