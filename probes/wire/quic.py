"""QUIC as anyone on the path can read it (RFC 8999), and the question that needs no handshake.

A server that knows QUIC answers a long packet of a version that nobody speaks with the versions
that it does (RFC 9000 sections 6 and 17.2.1). Both packets carry no TLS and no name.
"""

from __future__ import annotations

from dataclasses import dataclass

from probes.model import Failure
from probes.wire.error import WireError

V1, V2 = 0x00000001, 0x6B3343CF  # RFC 9000 section 15, RFC 9369 section 3.1
RESERVED = 0x1A2A3A4A
"""A version that exists to be unknown (RFC 9000 section 15)."""
SMALLEST = 1200
"""Bytes below which a server may ignore a client's first datagram (RFC 9000 section 14.1)."""
LARGEST = 4096
"""Bytes of a datagram. More than an Ethernet's 1500 goes to no client whose path is not known."""
MOST_VERSIONS = 64

_LONG, _FIXED = 0x80, 0x40
_LONGEST_ID = 20
_RETRY = {V1: 3, V2: 0}  # of the types in RFC 9000 section 17.2, RFC 9369 section 3.2
_INITIAL = {V1: 0, V2: 1}


@dataclass(frozen=True, slots=True)
class Ids:
    """Of a client's first packet: the connection's id at the server, which the client made up, and
    the client's own."""

    theirs: bytes
    ours: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """A datagram's first packet. ``version`` is None in a short header; ``versions`` are those that
    a Version Negotiation lists, empty for every other packet."""

    version: int | None
    versions: tuple[int, ...] = ()


def ping(ids: Ids, filling: bytes, version: int = RESERVED) -> bytes:
    """Build the 1200-byte question for versions; ``filling`` is random, and at least as long."""
    lengths = {len(ids.theirs), len(ids.ours)}
    if len(filling) < SMALLEST or not lengths <= set(range(1, _LONGEST_ID + 1)):
        raise ValueError("too short a filling, or an id of no possible length")
    first = _LONG | _FIXED | (filling[0] & 0x0F)
    head = bytes([first]) + version.to_bytes(4, "big") + _vector(ids.theirs) + _vector(ids.ours)
    # Shaped like an Initial without a token: some servers read that far before they look whether
    # they know the version.
    left = SMALLEST - len(head) - 3
    return head + b"\0" + (0x4000 | left).to_bytes(2, "big") + filling[-left:]


def ids_of(first: bytes) -> Ids:
    """Read back the ids of a client's own first packet. Raises WireError."""
    _, theirs, ours, _ = _long(first)
    return Ids(theirs, ours)


def read(data: bytes, ids: Ids, version: int) -> Seen:
    """Look at an answer to a first packet that carried ``ids`` and asked for ``version``.

    Raises WireError: OVERSIZED; TRUNCATED if a packet or list ends early; WRONG_ID if it is for
    another connection; BAD_REPLY if it is no QUIC, our own packet, or of a version not asked for.
    """
    if len(data) > LARGEST:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    if not data:
        raise WireError(Failure.TRUNCATED, "an empty datagram")
    if not data[0] & _LONG:
        # Without a version; the receiver knows the length of its own id (RFC 8999 section 5.2).
        if not data[0] & _FIXED or data[1 : 1 + len(ids.ours)] != ids.ours:
            raise WireError(Failure.BAD_REPLY, f"not QUIC: begins with {data[:4].hex()}")
        return Seen(None)
    told, receiver, sender, at = _long(data)
    if told not in (0, version):
        raise WireError(Failure.BAD_REPLY, f"not QUIC, or of version {told:08x}")
    if told and not data[0] & _FIXED:
        raise WireError(Failure.BAD_REPLY, f"not QUIC: begins with {data[:4].hex()}")
    if (receiver, sender) == (ids.theirs, ids.ours):
        raise WireError(Failure.BAD_REPLY, "our own packet came back")
    if receiver != ids.ours:
        raise WireError(Failure.WRONG_ID, "the packet is for another connection")
    if told:
        _whole(data, told, at)
        return Seen(told)
    if sender != ids.theirs:
        raise WireError(Failure.WRONG_ID, "the versions of another connection")
    return Seen(0, _versions(data[at:], version))


def _versions(listed: bytes, asked: int) -> tuple[int, ...]:
    """Of a list that has the version that was asked for, none is to be believed (section 6.2)."""
    if not listed or len(listed) % 4:
        raise WireError(Failure.TRUNCATED, f"{len(listed)} bytes of versions")
    if len(listed) > 4 * MOST_VERSIONS:
        raise WireError(Failure.OVERSIZED, f"{len(listed) // 4} versions")
    found = [int.from_bytes(listed[i : i + 4], "big") for i in range(0, len(listed), 4)]
    if asked in found:
        raise WireError(Failure.BAD_REPLY, "it offers the version that it refuses")
    return tuple(found)


def _whole(data: bytes, version: int, at: int) -> None:
    """Does every packet end within the datagram? Further ones follow the first, or padding does
    (RFC 9000 section 12.2)."""
    start = 0
    while True:
        kind = data[start] >> 4 & 3
        if kind == _RETRY.get(version):
            return  # it goes on to the datagram's end
        if kind == _INITIAL.get(version):
            length, at = _number(data, at)
            at += length
        length, at = _number(data, at)
        start = at + length
        if start > len(data):
            raise WireError(Failure.TRUNCATED, f"{len(data) - at} of {length} bytes of a packet")
        if start == len(data) or not data[start] & _LONG:
            return
        data, start = data[start:], 0
        at = _long(data)[3]


def _long(data: bytes) -> tuple[int, bytes, bytes, int]:
    """Version, receiver's and sender's id, and where what depends on the version begins (RFC 8999
    section 5.1)."""
    version = int.from_bytes(data[1:5], "big")
    ids, at = [], 5
    for _ in range(2):
        length = data[at] if at < len(data) else 0
        ids.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    if at > len(data):
        raise WireError(Failure.TRUNCATED, "the datagram ends inside a long header")
    return version, ids[0], ids[1], at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000 section 16), and where it ends."""
    size = 1 << (data[at] >> 6) if at < len(data) else 1
    if at + size > len(data):
        raise WireError(Failure.TRUNCATED, "the datagram ends inside a header")
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def _vector(data: bytes) -> bytes:
    return bytes([len(data)]) + data
