"""What a filter reads out of payloads: the names and shapes that give a conversation away.

Bytes in, values out, and never an error: what cannot be read is not what the filter looks for.
Written apart from the agent's codecs, so that a misreading in one shows against the other.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from aioquic.buffer import Buffer, BufferReadError
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.quic.packet import QuicPacketType, pull_quic_header

STUN_COOKIE = bytes.fromhex("2112a442")  # RFC 8489 section 5
HANDSHAKE, CLIENT_HELLO = 22, 1  # RFC 8446 sections 5.1 and 4
SERVER_NAME, ALPN = 0, 16  # extensions: RFC 6066 section 3, RFC 7301
ENCRYPTED_CLIENT_HELLO = 0xFE0D  # draft-ietf-tls-esni

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT ", b"DELETE ")

# A hello with post-quantum keys and padding has two kilobytes; no filter waits for ever.
LONGEST_OPENING = 20_000


class Hello(NamedTuple):
    """A ClientHello of TLS or DTLS."""

    name: str  # "" without a server name
    fingerprint: str  # see _fingerprint
    extensions: frozenset[int]


class Question(NamedTuple):
    """The first question of a DNS query."""

    name: str  # lower case, without the last dot
    kind: int
    end: int  # where the question section's first entry ends in the message


class Request(NamedTuple):
    """An HTTP/1 request."""

    host: str


class Opening(NamedTuple):
    """What a client said first on a TCP connection. ``end`` is where it was complete."""

    said: Hello | Question | Request | None
    end: int


UNREADABLE = Opening(None, 0)


def opening(stream: bytes) -> Opening | None:
    """Read the first bytes of a client's stream; None: more are needed to tell."""
    if not stream:
        return None
    if len(stream) > LONGEST_OPENING:
        return UNREADABLE
    if stream[0] == HANDSHAKE:
        return _tls(stream)
    if stream.startswith(METHODS):
        return _http(stream)
    if any(method.startswith(stream) for method in METHODS):
        return None
    return _framed_dns(stream)


def _tls(stream: bytes) -> Opening | None:
    """Handshake messages may be spread over several records."""
    message, at = b"", 0
    while len(stream) >= at + 5:
        if stream[at] != HANDSHAKE or stream[at + 1] != 3:
            return UNREADABLE
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        message += stream[at + 5 : at + 5 + length]
        if message and message[0] != CLIENT_HELLO:
            return UNREADABLE
        at += 5 + length
        if len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4], "big")
            if len(message) >= whole:
                # Bytes of this record beyond the message do not matter for when it was complete.
                spare = len(message) - whole
                return Opening(_hello(message[4:whole], dtls=False), min(at, len(stream)) - spare)
    return None


def _http(stream: bytes) -> Opening | None:
    head, complete, _ = stream.partition(b"\r\n\r\n")
    at = head.lower().find(b"\r\nhost:")
    if at < 0:
        return Opening(Request(""), len(head) + 4) if complete else None
    start = at + len(b"\r\nhost:")
    stop = stream.find(b"\r\n", start)
    if stop < 0:
        return None
    host = _text(stream[start:stop].strip())
    name, _, port = host.rpartition(":")
    return Opening(Request(name if port.isdigit() and name else host), stop + 2)


def _framed_dns(stream: bytes) -> Opening | None:
    """RFC 1035 section 4.2.2: two bytes of length before the message."""
    if len(stream) < 2:
        return None
    length = int.from_bytes(stream[:2], "big")
    if length < 17 or (len(stream) >= 6 and stream[4] & 0x80):
        return UNREADABLE
    if len(stream) < 2 + length:
        return None
    return Opening(question(stream[2 : 2 + length]), 2 + length)


def question(message: bytes) -> Question | None:
    """What a DNS query asks; None for answers and whatever is no DNS message."""
    if len(message) < 17 or message[2] & 0x80 or message[4:6] == b"\0\0":
        return None
    labels, at = [], 12
    while at < len(message) and message[at]:
        length = message[at]
        if length > 63:  # a pointer has no business in a first question
            return None
        labels.append(_text(message[at + 1 : at + 1 + length]))
        at += 1 + length
    if at + 5 > len(message):
        return None
    return Question(".".join(labels), int.from_bytes(message[at + 1 : at + 3], "big"), at + 5)


def is_stun(payload: bytes) -> bool:
    return len(payload) >= 20 and payload[0] < 0x40 and payload[4:8] == STUN_COOKIE


class Voice(NamedTuple):
    """The header of an RTP packet, as far as it tells one stream from another."""

    number: int
    source: int


def voice(payload: bytes) -> Voice | None:
    """RFC 3550 section 5.1; random bytes look like it one time in four, but not twice."""
    if len(payload) < 13 or payload[0] >> 6 != 2:
        return None
    return Voice(int.from_bytes(payload[2:4], "big"), int.from_bytes(payload[8:12], "big"))


def dtls_hello(payload: bytes) -> Hello | None:
    """The ClientHello in a datagram (RFC 6347 section 4.1); a part of one has no name."""
    if len(payload) < 25 or payload[0] != HANDSHAKE or payload[1] != 0xFE:
        return None
    if payload[13] != CLIENT_HELLO:
        return None
    return _hello(payload[25:], dtls=True) or Hello("", "", frozenset())


def quic_hello(payload: bytes, version: int = 1) -> Hello | None:
    """The ClientHello in a client's first packet of this version, decrypted as anyone on the path
    can: its keys come from an id in the clear (RFC 9001 section 5.2). One that goes on in a second
    datagram has no name."""
    if len(payload) < 1200 or payload[1:5] != version.to_bytes(4, "big"):
        return None
    buffer = Buffer(data=payload)
    try:
        header = pull_quic_header(buffer, host_cid_length=8)
        if header.packet_type is not QuicPacketType.INITIAL:
            return None
        pair = CryptoPair()
        pair.setup_initial(cid=header.destination_cid, is_client=False, version=version)
        packet = payload[: header.packet_length]
        _, plain, _ = pair.decrypt_packet(packet, buffer.tell(), 0)
        stream = _crypto_stream(plain)
    except (ValueError, CryptoError, BufferReadError):
        return None
    if len(stream) < 4 or stream[0] != CLIENT_HELLO:
        return None
    return _hello(stream[4:], dtls=False) or Hello("", "", frozenset())


def _crypto_stream(plain: bytes) -> bytes:
    """The first bytes of TLS in a packet's frames, which may come in any order (RFC 9000 19.6)."""
    pieces: dict[int, bytes] = {}
    buffer = Buffer(data=plain)
    while not buffer.eof():
        kind = buffer.pull_uint8()
        if kind == 6:
            offset, length = buffer.pull_uint_var(), buffer.pull_uint_var()
            pieces[offset] = buffer.pull_bytes(length)
        elif kind > 1:  # neither padding nor a ping
            break
    stream = b""
    for offset, data in sorted(pieces.items()):
        if offset > len(stream):
            break
        stream += data[len(stream) - offset :]
    return stream


class _Short(ValueError):
    """A length points beyond the end."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        if len(taken) < length:
            raise _Short
        self.at += length
        return taken

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def vector(self, length_bytes: int) -> bytes:
        return self.take(self.number(length_bytes))


def _hello(body: bytes, *, dtls: bool) -> Hello | None:
    """RFC 8446 section 4.1.2; DTLS 1.2 has a cookie behind the session."""
    reader = _Reader(body)
    try:
        reader.take(34)
        reader.vector(1)
        if dtls:
            reader.vector(1)
        suites = _numbers(reader.vector(2))
        reader.vector(1)
        block = _Reader(reader.vector(2) if reader.at < len(body) else b"")
        extensions: dict[int, bytes] = {}
        while block.at < len(block.data):
            kind = block.number(2)
            extensions[kind] = block.vector(2)
        name = _server_name(extensions.get(SERVER_NAME, b""))
    except _Short:
        return None
    return Hello(name, _fingerprint(suites, extensions), frozenset(extensions))


def _server_name(data: bytes) -> str:
    """The list has one entry, type 0, since no other type was ever defined."""
    if not data:
        return ""
    reader = _Reader(data)
    reader.take(3)
    return _text(reader.vector(2))


def _fingerprint(suites: list[int], extensions: dict[int, bytes]) -> str:
    """A hash in the manner of JA4: sorted, without GREASE, name and ALPN, so it tells libraries."""
    kinds = sorted(k for k in extensions if not _grease(k) and k not in (SERVER_NAME, ALPN))
    text = f"{sorted(s for s in suites if not _grease(s))}{kinds}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _grease(number: int) -> bool:
    """RFC 8701 section 2."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace").lower()
