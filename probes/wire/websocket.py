"""The client's side of a WebSocket (RFC 6455): its handshake, and binary messages as a stream."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.text import clean

MAX_HEAD = 8192
"""Bytes of the server's answer to the handshake."""
MAX_FRAME = 65536
KEY_SIZE = 16

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_CONTINUATION, _TEXT, _BINARY = 0, 1, 2  # section 5.2
CLOSE, PING, PONG = 8, 9, 10
_MOST_CONTROL = 125


@dataclass(frozen=True, slots=True)
class Frame:
    """``control``: CLOSE, PING or PONG, 0 for a piece of binary data."""

    control: int
    payload: bytes


# --- the handshake -----------------------------------------------------------------------------


def request(host: str, path: str, key: bytes, *, origin: str = "", protocol: str = "") -> bytes:
    """``key``: 16 random bytes; ``host`` as the URL has it; texts must be ASCII."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode('ascii')}",
        "Sec-WebSocket-Version: 13",
    ]
    lines += [f"Origin: {origin}"] * bool(origin)
    lines += [f"Sec-WebSocket-Protocol: {protocol}"] * bool(protocol)
    return "\r\n".join((*lines, "", "")).encode("ascii")


def accept_of(key: bytes) -> str:
    """What a server has to answer to ``key`` (section 4.2.2)."""
    digest = hashlib.sha1(base64.b64encode(key) + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


@dataclass(slots=True)
class Head:
    """Collects the answer to the handshake; holds ``MAX_HEAD`` bytes and the last piece at most."""

    _data: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """Status, header fields by lower-case name, and what came behind them, once all of the head
        is there. Raises WireError."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if not b"HTTP/1.1 ".startswith(self._data[:9]):
            raise WireError(Failure.BAD_REPLY, "no HTTP/1.1 answer")
        if max(end, 0) > MAX_HEAD or (end < 0 and len(self._data) > MAX_HEAD):
            raise WireError(Failure.OVERSIZED, f"a head of more than {MAX_HEAD} bytes")
        if end < 0:
            return None
        first, *lines = bytes(self._data[:end]).decode("latin-1").split("\r\n")
        status = first[9:12]
        if not (status.isascii() and status.isdigit() and len(status) == 3):
            raise WireError(Failure.BAD_REPLY, clean(f"no status in {first}"))
        fields = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise WireError(Failure.BAD_REPLY, clean(f"no header field in {line}"))
            fields[name.strip().lower()] = value.strip()
        return int(status), fields, bytes(self._data[end + 4 :])


def check_upgrade(fields: dict[str, str], key: bytes, protocol: str = "") -> None:
    """Of an answer with status 101 (section 4.1). Raises WireError."""
    if fields.get("upgrade", "").lower() != "websocket":
        raise WireError(Failure.BAD_REPLY, "101, and no WebSocket")
    if fields.get("sec-websocket-accept") != accept_of(key):
        raise WireError(Failure.WRONG_ID, "101 to another key")
    if fields.get("sec-websocket-protocol", "") not in ("", protocol):
        raise WireError(Failure.BAD_REPLY, "another subprotocol than was asked for")


# --- frames ------------------------------------------------------------------------------------


def frame(payload: bytes, mask: bytes, control: int = 0) -> bytes:
    """One whole message of a client: binary, or a ``control`` one; ``mask``: 4 random bytes."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 | (control or _BINARY)]) + length + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Section 5.3; twice gives the payload back."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


@dataclass(slots=True)
class Reader:
    """Cuts what a server sends into frames. Holds ``MAX_FRAME`` bytes and the last piece at the
    most: a longer frame is refused by its length."""

    _data: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises WireError."""
        self._data += data
        frames = []
        while (found := self._first()) is not None:
            one, size = found
            del self._data[:size]
            frames.append(one)
        return frames

    def _first(self) -> tuple[Frame, int] | None:
        data = self._data
        if len(data) < 2:
            return None
        kind, size, at = data[0] & 0x0F, data[1] & 0x7F, 2
        _check_head(data[0], data[1])
        if size > _MOST_CONTROL:
            at = 4 if size == 126 else 10
            if len(data) < at:
                return None
            size = int.from_bytes(data[2:at], "big")
        if size > MAX_FRAME:
            raise WireError(Failure.OVERSIZED, f"a frame of {size} bytes")
        if len(data) < at + size:
            return None
        control = kind if kind >= CLOSE else 0
        return Frame(control, bytes(data[at : at + size])), at + size


def _check_head(first: int, second: int) -> None:
    kind = first & 0x0F
    if first & 0x70:
        raise WireError(Failure.BAD_REPLY, "an extension that was not agreed on")
    if second & 0x80:
        raise WireError(Failure.BAD_REPLY, "a server that masks its frames")
    if kind == _TEXT or kind not in (_CONTINUATION, _BINARY, CLOSE, PING, PONG):
        raise WireError(Failure.BAD_REPLY, f"a frame of kind {kind}")
    if kind >= CLOSE and (second & 0x7F > _MOST_CONTROL or not first & 0x80):
        raise WireError(Failure.BAD_REPLY, "a control frame in pieces")
