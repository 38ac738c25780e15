"""MTProto's first exchange without an account: ``req_pq_multi``, and ``resPQ`` in every transport.

core.telegram.org/mtproto/auth_key and /mtproto/mtproto-transports; the layouts are those of the
project's notes on messengers' infrastructure, 2.2 and 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from probes.model import Failure
from probes.wire.error import WireError

NONCE_SIZE = 16
HEADER_SIZE = 64
"""Bytes of an obfuscated stream's beginning."""
MAX_FRAME = 512
"""Bytes of an answer: ``resPQ`` with eight fingerprints and padding has 155."""
ERRORS = (-404, -429, -444)
"""What a data centre says instead of an answer: no such key, too many connections, not this DC."""
RATE_LIMITED = -429

_REQ_PQ_MULTI = 0xBE7E8EF1
_RES_PQ = 0x05162463
_VECTOR = 0x1CB5C415
_HEAD = struct.Struct("<QQI")  # auth key id, message id, length of the body
_BODY = struct.Struct("<I16s16s12sII")  # constructor, nonce, server nonce, pq, vector, count
_MOST_KEYS = 8
_MOST_PADDING = 15
_FORBIDDEN = (  # first words that would make an obfuscated stream look like something else
    b"HEAD",
    b"POST",
    b"GET ",
    b"OPTI",
    b"\xdd\xdd\xdd\xdd",
    b"\xee\xee\xee\xee",
    b"\x16\x03\x01\x02",
)
# Miller-Rabin with these bases is exact far beyond 64 bits (Sorenson and Webster, 2015).
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


class Transport(StrEnum):
    """How messages are framed, and what the stream begins with. ``websocket`` is ``obfuscated``
    in binary messages."""

    ABRIDGED = "abridged"
    INTERMEDIATE = "intermediate"
    PADDED = "padded"
    OBFUSCATED = "obfuscated"
    WEBSOCKET = "websocket"

    @property
    def framing(self) -> Transport:
        """How the frames inside look: obfuscation hides abridged ones."""
        return Transport.ABRIDGED if self.hides else self

    @property
    def hides(self) -> bool:
        return self in (Transport.OBFUSCATED, Transport.WEBSOCKET)


_STARTS = {
    Transport.ABRIDGED: b"\xef",
    Transport.INTERMEDIATE: b"\xee" * 4,
    Transport.PADDED: b"\xdd" * 4,
}


@dataclass(frozen=True, slots=True)
class ResPQ:
    """``server_time``: Unix seconds, from the message id; ``fingerprints``: the server's RSA keys,
    as 16 hexadecimal digits of the number."""

    server_time: int
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TransportError:
    """A code of ``ERRORS``: no answer, but nothing else than an MTProto server says that."""

    code: int


Answer = ResPQ | TransportError


# --- what we send ------------------------------------------------------------------------------


def message_id(nanoseconds: int) -> int:
    """For a message sent at this Unix time: seconds x 2^32, divisible by four."""
    return (nanoseconds << 32) // 1_000_000_000 & ~3


def request(identifier: int, nonce: bytes) -> bytes:
    """``req_pq_multi`` as an unencrypted message of 40 bytes; ``nonce``: 16 random bytes."""
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
    body = struct.pack("<I", _REQ_PQ_MULTI) + nonce
    return _HEAD.pack(0, identifier, len(body)) + body


def start(transport: Transport) -> bytes:
    """What a stream begins with that is not obfuscated."""
    return _STARTS[transport]


def frame(transport: Transport, payload: bytes, padding: bytes = b"") -> bytes:
    """``payload`` framed; ``padding``: up to 15 random bytes, for the padded transport only."""
    framing = transport.framing
    if framing is not Transport.ABRIDGED:
        padded = payload + padding if framing is Transport.PADDED else payload
        return len(padded).to_bytes(4, "little") + padded
    words = len(payload) // 4
    if words < 0x7F:
        return bytes([words]) + payload
    return b"\x7f" + words.to_bytes(3, "little") + payload


def is_header(header: bytes) -> bool:
    """May these 64 random bytes begin an obfuscated stream? Others look like another protocol."""
    return (
        len(header) == HEADER_SIZE
        and header[0] != 0xEF
        and header[:4] not in _FORBIDDEN
        and header[4:8] != bytes(4)
    )


class Obfuscation:
    """Both directions of an obfuscated stream. ``header``: 64 random bytes for which ``is_header``
    holds; ``dc``: the data centre's number, 0 to leave it open."""

    def __init__(self, header: bytes, dc: int = 0) -> None:
        if not is_header(header):
            raise ValueError("these bytes may not begin an obfuscated stream")
        number = dc.to_bytes(2, "little", signed=True) if dc else header[60:62]
        tag = _STARTS[Transport.ABRIDGED] * 4
        plain = header[:56] + tag + number + header[62:]
        back = plain[8:56][::-1]
        self._outgoing = _stream(plain[8:40], plain[40:56])
        self._incoming = _stream(back[:32], back[32:])
        self.start = plain[:56] + self._outgoing.update(plain)[56:]
        """The 64 bytes to send first."""

    def seal(self, data: bytes) -> bytes:
        return self._outgoing.update(data)

    def open(self, data: bytes) -> bytes:
        return self._incoming.update(data)


def _stream(key: bytes, counter: bytes) -> CipherContext:
    return Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor()


# --- what we accept ----------------------------------------------------------------------------


@dataclass(slots=True)
class Reader:
    """Collects a server's first message, however it is cut into pieces.

    Holds ``MAX_FRAME`` bytes and the last piece at the most; what cannot become an answer any more
    is refused as soon as it shows.
    """

    transport: Transport
    nonce: bytes
    _data: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Answer | None:
        """The answer once it is complete. Raises WireError."""
        self._data += data
        found = _length(self.transport.framing, self._data)
        if found is None:
            return None
        header, size = found
        if size > MAX_FRAME:
            raise WireError(Failure.OVERSIZED, f"a message of {size} bytes")
        payload = bytes(self._data[header : header + size])
        _begins(self.transport, payload, size)
        if len(payload) < size:
            return None
        return read_answer(payload, self.nonce, padded=self.transport is Transport.PADDED)


def _length(framing: Transport, data: bytes | bytearray) -> tuple[int, int] | None:
    """Bytes of the frame's header and of its payload; None while that is not known."""
    if framing is not Transport.ABRIDGED:
        return (4, int.from_bytes(data[:4], "little")) if len(data) >= 4 else None
    if not data:
        return None
    if data[0] > 0x7F:
        raise WireError(Failure.BAD_REPLY, "an acknowledgement of what was not sent")
    if data[0] < 0x7F:
        return 1, 4 * data[0]
    return (4, 4 * int.from_bytes(data[1:4], "little")) if len(data) >= 4 else None


def _begins(transport: Transport, payload: bytes, size: int) -> None:
    """Refuse what is neither a message without a key nor an error before all of it has come."""
    if _is_short(size, padded=transport is Transport.PADDED):
        return
    if size < _HEAD.size + _BODY.size:
        raise WireError(Failure.BAD_REPLY, f"a message of {size} bytes is no resPQ")
    if payload[:8] != bytes(min(len(payload), 8)):
        raise WireError(Failure.BAD_REPLY, "a message with a key that nobody has")


def _is_short(size: int, *, padded: bool) -> bool:
    return size == 4 or (padded and 4 < size <= 4 + _MOST_PADDING)


def read_answer(payload: bytes, nonce: bytes, *, padded: bool = False) -> Answer:
    """A whole payload: ``resPQ`` to our ``nonce``, or a transport error. ``padded``: up to 15 bytes
    may follow. Raises WireError."""
    if _is_short(len(payload), padded=padded):
        code = int.from_bytes(payload[:4], "little", signed=True)
        if code not in ERRORS:
            raise WireError(Failure.BAD_REPLY, f"an unknown transport error, {code}")
        return TransportError(code)
    if len(payload) < _HEAD.size + _BODY.size:
        raise WireError(Failure.TRUNCATED, f"{len(payload)} bytes are no resPQ")
    key, identifier, size = _HEAD.unpack_from(payload)
    constructor, echoed, _, pq, vector, count = _BODY.unpack_from(payload, _HEAD.size)
    if key != 0 or constructor != _RES_PQ or vector != _VECTOR:
        raise WireError(Failure.BAD_REPLY, f"constructor {constructor:08x} is not resPQ")
    if echoed != nonce:
        raise WireError(Failure.WRONG_ID, "resPQ to another nonce")
    if identifier & 3 != 1:
        raise WireError(Failure.BAD_REPLY, f"message id {identifier & 3} mod 4 is no answer's")
    spare = len(payload) - _HEAD.size - size
    if not 1 <= count <= _MOST_KEYS or size != _BODY.size + 8 * count:
        raise WireError(Failure.BAD_REPLY, f"{size} bytes for {count} fingerprints")
    if not 0 <= spare <= (_MOST_PADDING if padded else 0):
        raise WireError(Failure.BAD_REPLY, f"{spare} bytes beside the message")
    _check_pq(pq)
    found = struct.unpack_from(f"<{count}Q", payload, _HEAD.size + _BODY.size)
    return ResPQ(identifier >> 32, tuple(f"{one:016x}" for one in found))


def check_keys(answer: ResPQ, known: Collection[str]) -> None:
    """Raises WireError(UNKNOWN_ISSUER) when none of the server's keys is among the known."""
    if not set(answer.fingerprints) & set(known):
        raise WireError(Failure.UNKNOWN_ISSUER, f"unknown keys {', '.join(answer.fingerprints)}")


def _check_pq(text: bytes) -> None:
    """A TL string of eight bytes, big-endian: a product of primes below 2^63."""
    pq = int.from_bytes(text[1:9], "big")
    if text[0] != 8 or text[9:] != bytes(3):
        raise WireError(Failure.BAD_REPLY, "pq is not a string of eight bytes")
    if pq >= 1 << 63 or pq < 4 or is_prime(pq):
        raise WireError(Failure.BAD_REPLY, "pq is not a product below 2^63")


def is_prime(number: int) -> bool:
    """Exact for what has 64 bits. A composite number is nearly always found out by the first base,
    in a few microseconds."""
    if number < 2 or any(number % base == 0 for base in _BASES):
        return number in _BASES
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, base, odd, twos) for base in _BASES)


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
