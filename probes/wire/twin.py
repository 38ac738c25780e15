"""What the agent and its companion server, the twin, say to each other (docs/twin.md).

A request is any datagram whose 12 bytes at ``offset`` are a tag: a keyed hash, the time, the flow
and the number in it, sealed so that they look random. In a STUN message they stand where the
transaction id does, in a DTLS hello where its random does; so what a box on the way sees is the
same as of any other sender. The answer is the request with a tag of its own, never a byte longer.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
from dataclasses import dataclass
from hashlib import blake2b

from probes.model import Failure
from probes.wire import stun
from probes.wire.error import WireError

KEY_SIZE = 32
TAG_SIZE = 12
IN_STUN = 8  # the transaction id: RFC 8489 section 5
IN_DTLS = 27  # the hello's random: RFC 6347 section 4.2.1, after 13 + 12 bytes of headers and 2
OFFSETS = (IN_STUN, IN_DTLS)
MIN_SIZE, MAX_SIZE = 20, 1400
"""Bytes of a request: a bare STUN header, and what passes every path unfragmented."""
WINDOW = 90
"""Seconds that a request's time may differ from the twin's. A clock that is off by 60 s makes the
vantage faulty, so that no skew below this is taken for silence."""
MAX_NUMBER = 8191
"""Requests of a flow are numbered from 0; a voice stream of two minutes has 6,000."""
TALLY = 0xFFFF
"""The number of the question, over TLS, how many requests of a flow came. It counts for none."""
TALLY_SIZE = 32

_ANSWERED = {
    stun.BINDING_REQUEST: stun.BINDING_SUCCESS,
    stun.ALLOCATE_REQUEST: stun.ALLOCATE_SUCCESS,
    stun.APP_KEEPALIVE: stun.APP_KEEPALIVE_ANSWER,
}
_TICK = 1e-4  # seconds of a unit of the twin's time in an answer; 24 bits of them are 28 minutes
_TICKS = 1 << 24


@dataclass(frozen=True, slots=True)
class Request:
    """``flow``: 24 random bits chosen for one run; ``offset``: where its tag stands."""

    flow: int
    number: int
    offset: int


@dataclass(frozen=True, slots=True)
class Answer:
    """``number``: that of the request answered; ``received``: how many requests of the flow had
    come to the twin by then, this one included; ``at``: when it came, by the twin's clock in Unix
    seconds, to 0.1 ms."""

    number: int
    received: int
    at: float


def parse_key(text: str) -> bytes:
    """The key of a key file: 64 hexadecimal digits. Raises ValueError, which never quotes it."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError("must hold a key of 64 hexadecimal digits")
    return key


def sealed_request(shape: bytes, offset: int, key: bytes, request: Request, at: float) -> bytes:
    """``shape`` with the tag of ``request`` at ``offset``; ``at`` is our Unix time.

    For shapes whose other bytes depend on what stands there (a STUN fingerprint), build them from
    ``tag``. Raises ValueError for a size or number that the twin would not answer.
    """
    if not max(MIN_SIZE, offset + TAG_SIZE) <= len(shape) <= MAX_SIZE:
        raise ValueError(f"a request cannot have {len(shape)} bytes")
    sealed = tag(key, request, len(shape), at)
    return shape[:offset] + sealed + shape[offset + TAG_SIZE :]


def tag(key: bytes, request: Request, size: int, at: float) -> bytes:
    """The 12 bytes that make a datagram of ``size`` bytes a request."""
    if not 0 <= request.flow < 1 << 24 or not 0 <= request.number <= 0xFFFF:
        raise ValueError(f"no such request: {request}")
    seconds = int(at)
    plain = bytes([seconds & 0xFF]) + request.flow.to_bytes(3, "big")
    plain += request.number.to_bytes(2, "big")
    mac = _request_mac(key, seconds, plain, size)
    return mac + _xor(plain, _hash(key, b"request seal", mac, len(plain)))


def read_request(data: bytes, key: bytes, now: float) -> Request | None:
    """The request in a datagram, None for everything that is not from a holder of the key, of this
    minute and of an allowed size. ``now`` is Unix time. Whether it came before is not known here.
    """
    if not MIN_SIZE <= len(data) <= MAX_SIZE:
        return None
    for offset in OFFSETS:
        found = data[offset : offset + TAG_SIZE]
        if len(found) == TAG_SIZE and (request := _open(found, key, len(data), now, offset)):
            return request
    return None


def _open(found: bytes, key: bytes, size: int, now: float, offset: int) -> Request | None:
    mac, sealed = found[:6], found[6:]
    plain = _xor(sealed, _hash(key, b"request seal", mac, len(sealed)))
    # Only the low 8 bits of the time travel; the hash is over all of it, so that a request which
    # is repeated 256 seconds later does not hold.
    seconds = _nearest(plain[0], int(now), 256)
    if seconds < 0 or abs(seconds - now) > WINDOW:
        return None
    if not hmac.compare_digest(mac, _request_mac(key, seconds, plain, size)):
        return None
    return Request(int.from_bytes(plain[1:4], "big"), int.from_bytes(plain[4:6], "big"), offset)


def sealed_answer(data: bytes, request: Request, key: bytes, received: int, at: float) -> bytes:
    """The answer to the datagram ``data`` that held ``request``: as long, and of the same shape.

    ``received`` and ``at`` as in ``Answer``; the count stops at 65535.
    """
    shape = _as_answered(data, request.offset)
    before, after = shape[: request.offset], shape[request.offset + TAG_SIZE :]
    plain = struct.pack("!HH", request.number, min(received, 0xFFFF))
    plain += (int(at / _TICK) % _TICKS).to_bytes(3, "big")
    mac = _answer_mac(key, request.flow, plain, before, after)
    sealed = _xor(plain, _hash(key, b"answer seal", mac, len(plain)))
    return before + mac + sealed + after


def read_answer(data: bytes, key: bytes, flow: int, offset: int, near: float) -> Answer:
    """Read an answer to a request of ``flow``; ``near`` is our Unix time, within 14 minutes of the
    twin's. Raises WireError: OVERSIZED, TRUNCATED, BAD_REPLY for what the twin did not say to us.
    """
    if len(data) > MAX_SIZE:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    if len(data) < max(MIN_SIZE, offset + TAG_SIZE):
        raise WireError(Failure.TRUNCATED, f"{len(data)} bytes hold no answer")
    found, after = data[offset : offset + TAG_SIZE], data[offset + TAG_SIZE :]
    mac, sealed = found[:5], found[5:]
    plain = _xor(sealed, _hash(key, b"answer seal", mac, len(sealed)))
    if not hmac.compare_digest(mac, _answer_mac(key, flow, plain, data[:offset], after)):
        raise WireError(Failure.BAD_REPLY, "not sealed with our key")
    number, received = struct.unpack_from("!HH", plain)
    ticks = _nearest(int.from_bytes(plain[4:], "big"), int(near / _TICK), _TICKS)
    return Answer(number, received, ticks * _TICK)


def is_binding_request(data: bytes) -> bool:
    """A whole STUN Binding request, with the cookie or in the form of RFC 3489."""
    if len(data) < MIN_SIZE or data[:2] != stun.BINDING_REQUEST.to_bytes(2, "big"):
        return False
    try:
        return stun.frame_length(data[:20]) == len(data)
    except WireError:
        return False


def mapped_answer(request: bytes, address: str, port: int) -> bytes:
    """A Binding success with XOR-MAPPED-ADDRESS and nothing else: 32 bytes, 44 for IPv6.

    RFC 8489 section 14.2; what masks the address is what stands in the request's place of the
    cookie and the id, since a request in the form of RFC 3489 has sixteen bytes of id.
    """
    mask = request[4:20]
    packed = ipaddress.ip_address(address).packed
    value = struct.pack("!BBH", 0, 1 if len(packed) == 4 else 2, port ^ (mask[0] << 8 | mask[1]))
    value += _xor(packed, mask[: len(packed)])
    made = stun.encode(stun.BINDING_SUCCESS, request[8:20], [(stun.XOR_MAPPED_ADDRESS, value)])
    return made[:4] + mask + made[20:]


def _as_answered(data: bytes, offset: int) -> bytes:
    """A STUN request with the type of its answer; everything else as it is."""
    kind = _ANSWERED.get(int.from_bytes(data[:2], "big"))
    if offset != IN_STUN or kind is None:
        return data
    return kind.to_bytes(2, "big") + data[2:]


def _request_mac(key: bytes, seconds: int, plain: bytes, size: int) -> bytes:
    return _hash(key, b"request", struct.pack("!QH", seconds, size) + plain, 6)


def _answer_mac(key: bytes, flow: int, plain: bytes, before: bytes, after: bytes) -> bytes:
    whole = flow.to_bytes(3, "big") + plain + bytes([len(before)]) + before + after
    return _hash(key, b"answer", whole, 5)


def _hash(key: bytes, purpose: bytes, data: bytes, size: int) -> bytes:
    """Keyed BLAKE2b (RFC 7693), of another function for each purpose."""
    return blake2b(data, digest_size=size, key=key, person=purpose).digest()


def _xor(data: bytes, mask: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(data, mask, strict=True))


def _nearest(low: int, near: int, modulus: int) -> int:
    """The number that is ``low`` modulo ``modulus`` and nearest to ``near``."""
    half = modulus // 2
    return near + (low - near + half) % modulus - half
