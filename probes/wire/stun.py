"""STUN and the first request of TURN (RFC 8489, RFC 8656, and the older form of RFC 3489)."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.text import clean

MAGIC_COOKIE = 0x2112A442  # RFC 8489 section 5
MAX_MESSAGE = 2048  # bytes; the largest answer we know of is 512, a datagram has at most 1500

_HEADER = 20
_ICE_SIZE = 96
_LONGEST_SOFTWARE = 508  # RFC 8489 section 14.14: under 128 characters, at most 509 bytes
_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")
_FINGERPRINT_XOR = 0x5354554E  # RFC 8489 section 14.7

BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111  # RFC 8489 section 18.2
ALLOCATE_REQUEST, ALLOCATE_SUCCESS, ALLOCATE_ERROR = 0x0003, 0x0103, 0x0113  # RFC 8656 section 17
# What WhatsApp clients and relays say to keep a path open, seen in captures of 2015 to 2023.
APP_KEEPALIVE, APP_KEEPALIVE_ANSWER = 0x0801, 0x0802

_SUCCESSES = (BINDING_SUCCESS, ALLOCATE_SUCCESS, APP_KEEPALIVE_ANSWER)
_ERRORS = (BINDING_ERROR, ALLOCATE_ERROR)

# RFC 8489 section 18.3, RFC 8656 section 18, RFC 8445 section 16.1
MAPPED_ADDRESS = 0x0001
USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
ERROR_CODE = 0x0009
REALM = 0x0014
REQUESTED_TRANSPORT = 0x0019
XOR_MAPPED_ADDRESS = 0x0020
PRIORITY = 0x0024
OLD_XOR_MAPPED_ADDRESS = 0x8020  # its number in the drafts before RFC 5389
SOFTWARE = 0x8022
FINGERPRINT = 0x8028
ICE_CONTROLLING = 0x802A
GOOG_NETWORK_INFO = 0xC057  # libwebrtc: 16-bit network id, 16-bit cost


class Dress(StrEnum):
    """What a Binding request looks like to a box on the way."""

    BARE = "bare"
    ICE = "ice"
    RFC3489 = "rfc3489"
    APP = "app"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. ``error_code`` is None in a success; ``size`` is the message in bytes."""

    error_code: int | None
    reason: str
    realm: str
    software: str
    mapped: tuple[str, int] | None
    size: int


def binding_request(dress: Dress, transaction_id: bytes, seed: bytes, size: int = 0) -> bytes:
    """Build a Binding request, or the keepalive that stands for one in the dress ``app``.

    ``transaction_id`` is 12 random bytes; ``seed`` is at least 32, the source of everything else
    that is random. ``bare``, ``rfc3489`` and ``app`` have 20 bytes, ``ice`` 96; with a larger
    ``size`` a SOFTWARE attribute fills it up, to at most three bytes less (RFC 8489 section 14.14:
    any server skips it). In the dress ``rfc3489`` the id has 16 bytes: what precedes
    ``transaction_id`` in it, ``request[4:8]``, is the ``legacy_prefix`` of ``read_answer``.
    """
    if len(seed) < 32:
        raise ValueError(f"seed has {len(seed)} bytes, not 32")
    if dress is Dress.ICE:
        return _ice_check(transaction_id, seed, size)
    kind = APP_KEEPALIVE if dress is Dress.APP else BINDING_REQUEST
    bare = encode(kind, transaction_id, _filling(size - _HEADER, seed))
    if dress is Dress.APP:
        return bare
    if dress is Dress.BARE:
        return bare
    prefix = seed[:4] if seed[:4] != _COOKIE else seed[:3] + bytes([seed[3] ^ 1])
    return bare[:4] + prefix + bare[8:]


def allocate_request(transaction_id: bytes) -> bytes:
    """Build the 28-byte Allocate that Telegram's clients begin with: UDP, no credentials."""
    return encode(ALLOCATE_REQUEST, transaction_id, [(REQUESTED_TRANSPORT, b"\x11\0\0\0")])


def _filling(size: int, seed: bytes) -> list[tuple[int, bytes]]:
    """A SOFTWARE attribute of at most so many bytes with its header; none where none fits."""
    room = size // 4 * 4 - 4
    if room <= 0:
        return []
    text = hashlib.shake_256(b"filling" + seed).hexdigest(256).encode()
    return [(SOFTWARE, text[: min(room, _LONGEST_SOFTWARE)])]


def _ice_check(transaction_id: bytes, seed: bytes, size: int) -> bytes:
    """A connectivity check (RFC 8445 section 7.2.2) with libwebrtc's attributes in its order."""
    pool = hashlib.shake_256(seed).digest(40)
    names, tie_breaker, password = (_ice_chars(pool[:8]), pool[8:16], _ice_chars(pool[16:]))
    attributes = [
        (USERNAME, names[:4] + b":" + names[4:]),
        (GOOG_NETWORK_INFO, struct.pack("!HH", 1, 10)),  # the first network, at the cost of Wi-Fi
        (ICE_CONTROLLING, tie_breaker),
        (PRIORITY, struct.pack("!I", 0x6E7F1EFF)),  # a peer-reflexive candidate on IPv4
        *_filling(size - _ICE_SIZE, seed),
    ]
    return encode(
        BINDING_REQUEST, transaction_id, attributes, integrity_key=password, fingerprint=True
    )


def _ice_chars(random: bytes) -> bytes:
    """One ice-char (RFC 8839 section 5.4) for each random byte."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return bytes(alphabet[byte & 63] for byte in random)


def encode(
    message_type: int,
    transaction_id: bytes,
    attributes: Iterable[tuple[int, bytes]],
    *,
    integrity_key: bytes | None = None,
    fingerprint: bool = False,
) -> bytes:
    """Build a message of (type, value) attributes, padded with zeros; the id has 12 bytes.

    With ``integrity_key`` it ends with MESSAGE-INTEGRITY, with ``fingerprint`` with FINGERPRINT.
    """
    if len(transaction_id) != 12:
        raise ValueError(f"transaction id has {len(transaction_id)} bytes, not 12")
    body = b"".join(_attribute(kind, value) for kind, value in attributes)
    message = struct.pack("!HH", message_type, len(body)) + _COOKIE + transaction_id + body
    if integrity_key is not None:
        message = _grown(message, MESSAGE_INTEGRITY, _integrity(message, integrity_key))
    if fingerprint:
        message = _grown(message, FINGERPRINT, _fingerprint(message))
    return message


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _grown(message: bytes, kind: int, value: bytes) -> bytes:
    added = _attribute(kind, value)
    return _with_length(message, len(message) - _HEADER + len(added)) + added


def _with_length(message: bytes, length: int) -> bytes:
    return message[:2] + length.to_bytes(2, "big") + message[4:]


def _integrity(before: bytes, key: bytes) -> bytes:
    """HMAC-SHA1 as if the message ended with these 24 bytes (RFC 8489 section 14.5)."""
    return hmac.digest(key, _with_length(before, len(before) - _HEADER + 24), "sha1")


def _fingerprint(before: bytes) -> bytes:
    """CRC-32 as if the message ended with these 8 bytes (RFC 8489 section 14.7)."""
    crc = zlib.crc32(_with_length(before, len(before) - _HEADER + 8))
    return (crc ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def long_term_key(user: str, realm: str, password: str) -> bytes:
    """The 16-byte key of RFC 8489 section 9.2.2; the texts are already prepared (RFC 8265)."""
    text = f"{user}:{realm}:{password}".encode()
    return hashlib.md5(text, usedforsecurity=False).digest()


def verify_integrity(data: bytes, key: bytes) -> bool:
    """Whether the message carries the MESSAGE-INTEGRITY that ``key`` gives.

    Raises WireError(TRUNCATED) if the attributes do not add up.
    """
    for offset, kind, value in _walk(data):
        if kind == MESSAGE_INTEGRITY:
            return hmac.compare_digest(value, _integrity(data[:offset], key))
    return False


def verify_fingerprint(data: bytes) -> bool:
    """Whether the message ends with a valid FINGERPRINT.

    Raises WireError(TRUNCATED) if the attributes do not add up.
    """
    for offset, kind, value in _walk(data):
        if kind == FINGERPRINT:
            return offset + 8 == len(data) and value == _fingerprint(data[:offset])
    return False


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    """The (type, value) pairs of a whole message, in order, without padding.

    Raises WireError(TRUNCATED) if they do not add up to its end.
    """
    return [(kind, value) for _, kind, value in _walk(data)]


def _walk(data: bytes) -> list[tuple[int, int, bytes]]:
    """Offset, type and value of each attribute."""
    found, offset = [], _HEADER
    while offset < len(data):
        if offset + 4 > len(data):
            raise WireError(Failure.TRUNCATED, "the message ends inside an attribute's header")
        kind, length = struct.unpack_from("!HH", data, offset)
        start, end = offset + 4, offset + 4 + length
        if end > len(data):
            raise WireError(Failure.TRUNCATED, f"attribute 0x{kind:04x} runs over the end")
        found.append((offset, kind, data[start:end]))
        offset = end + -end % 4  # the header has 20 bytes, so offsets are aligned like the body
    return found


def frame_length(header: bytes) -> int:
    """The length in bytes of the message that begins with ``header`` on a stream.

    RFC 8489 section 6.2.2: the length field is the framing. Raises WireError: TRUNCATED under 20
    bytes, BAD_REPLY where no STUN message can begin, OVERSIZED above ``MAX_MESSAGE``.
    """
    if len(header) < _HEADER:
        raise WireError(Failure.TRUNCATED, f"{len(header)} bytes are no STUN header")
    message_type, length = struct.unpack_from("!HH", header)
    if message_type >= 0x4000 or length % 4:
        raise WireError(Failure.BAD_REPLY, f"not STUN: begins with {header[:4].hex()}")
    if _HEADER + length > MAX_MESSAGE:
        raise WireError(Failure.OVERSIZED, f"announces {_HEADER + length} bytes")
    return _HEADER + int(length)


def matches(data: bytes, transaction_id: bytes) -> bool:
    """Whether the message carries this 12-byte id; says nothing about the rest of it."""
    return data[8:_HEADER] == transaction_id


def read_answer(data: bytes, transaction_id: bytes, *, legacy_prefix: bytes = b"") -> Answer:
    """Read the answer to our Binding, Allocate or keepalive and check all that proves it ours.

    ``legacy_prefix`` is the first 4 bytes of the 16-byte id of a request in RFC 3489 form. Raises
    WireError: OVERSIZED; TRUNCATED; BAD_REPLY if it is no well-formed answer; WRONG_ID.
    """
    message_type = _check_shape(data)
    if not legacy_prefix and data[4:8] != _COOKIE:
        raise WireError(Failure.BAD_REPLY, "no magic cookie")
    if data[4:_HEADER] != (legacy_prefix or _COOKIE) + transaction_id:
        raise WireError(Failure.WRONG_ID, f"id is {data[4:_HEADER].hex()}")
    values: dict[int, bytes] = {}
    for kind, value in attributes(data):
        values.setdefault(kind, value)  # only the first of a kind counts: RFC 8489 section 14
    if FINGERPRINT in values and not verify_fingerprint(data):
        raise WireError(Failure.BAD_REPLY, "the fingerprint is wrong")
    mapped = _mapped(values, data[4:_HEADER], legacy=bool(legacy_prefix))
    if message_type == BINDING_SUCCESS and mapped is None:
        raise WireError(Failure.BAD_REPLY, "a Binding success without a mapped address")
    code, reason = _error(values) if message_type in _ERRORS else (None, "")
    realm, software = clean(values.get(REALM, b"")), clean(values.get(SOFTWARE, b""))
    return Answer(code, reason, realm, software, mapped, len(data))


def _check_shape(data: bytes) -> int:
    """The message type of what has the shape of an answer."""
    if len(data) > MAX_MESSAGE:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    length = frame_length(data)
    if length > len(data):
        raise WireError(Failure.TRUNCATED, f"{len(data)} bytes of {length}")
    if length < len(data):
        raise WireError(Failure.BAD_REPLY, f"{len(data)} bytes, but announces {length}")
    message_type = int.from_bytes(data[:2], "big")
    if message_type not in (*_SUCCESSES, *_ERRORS):
        raise WireError(Failure.BAD_REPLY, f"message type 0x{message_type:04x} is no answer")
    return message_type


def _mapped(values: dict[int, bytes], mask: bytes, *, legacy: bool) -> tuple[str, int] | None:
    """Our own address as the server sees it; ``mask`` is the 16 bytes of cookie and id.

    RFC 3489 knows only the plain form. What a server masks with when it answers such a request in
    the newer form is not settled, so there the plain form counts first.
    """
    kinds = [XOR_MAPPED_ADDRESS, OLD_XOR_MAPPED_ADDRESS]
    for kind in [MAPPED_ADDRESS, *kinds] if legacy else [*kinds, MAPPED_ADDRESS]:
        if kind in values:
            return _address(values[kind], bytes(16) if kind == MAPPED_ADDRESS else mask)
    return None


def _address(value: bytes, mask: bytes) -> tuple[str, int]:
    """RFC 8489 sections 14.1 and 14.2: a zero byte, family, port and address, the latter masked."""
    if (len(value), value[1:2]) not in ((8, b"\x01"), (20, b"\x02")):
        raise WireError(Failure.BAD_REPLY, f"malformed address {value[:20].hex()}")
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(mask[:2], "big")
    packed = bytes(byte ^ other for byte, other in zip(value[4:], mask, strict=False))
    return str(ipaddress.ip_address(packed)), port


def _error(values: dict[int, bytes]) -> tuple[int, str]:
    """RFC 8489 section 14.8: the hundreds are in the low 3 bits of byte 2, the rest in byte 3."""
    value = values.get(ERROR_CODE, b"")
    if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
        raise WireError(Failure.BAD_REPLY, f"an error without a valid code: {value[:4].hex()}")
    return (value[2] & 7) * 100 + value[3], clean(value[4:])
