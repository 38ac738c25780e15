"""Telegram's reflectors: the relays of calls that know a peer by its tag, and their ping.

Layout as in libtgvoip's ``VoIPController.cpp`` and tgcalls' ``ReflectorPort.cpp``, and in nDPI's
captures (2.7 in the project's notes on infrastructure). Numbers are little-endian.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from probes.model import Failure
from probes.wire.error import WireError

TAG, QUERY = 16, 8  # bytes of a peer's tag and of a query's id
PING, ANSWER = 40, 64
"""Bytes of a datagram."""

_NO_PEER = b"\xff" * 12
"""Where the id of a packet's receiver would be."""
_SELF_INFO = b"\xfe\xff\xff\xff"
_INFO = b"\xc7\x72\x15\xc0"  # 0xc01572c7


@dataclass(frozen=True, slots=True)
class Answer:
    """``clock`` is the server's, Unix seconds; ``mapped``: our address and port as it saw them."""

    clock: int
    mapped: tuple[str, int]


def ping(tag: bytes, query: bytes) -> bytes:
    """Build the 40-byte question "who am I?" for a peer ``tag`` and a ``query`` id of 8 bytes."""
    if len(tag) != TAG or len(query) != QUERY:
        raise ValueError(f"a tag of {len(tag)} and an id of {len(query)} bytes")
    return tag + _NO_PEER + _SELF_INFO + query


def answers(data: bytes, query: bytes) -> bool:
    """Does this datagram carry the id ``query`` where an answer has it?"""
    return data[36:44] == query


def read_answer(data: bytes, tag: bytes, query: bytes) -> Answer:
    """Read the answer to ``ping(tag, query)``.

    Raises WireError: TRUNCATED and OVERSIZED for an answer that is shorter or longer than 64 bytes;
    WRONG_ID for one to another tag or query; BAD_REPLY for anything else, our own ping among it.
    """
    head = tag + _NO_PEER + _INFO
    if len(data) < ANSWER and head.startswith(data[: len(head)]):
        raise WireError(Failure.TRUNCATED, f"{len(data)} of {ANSWER} bytes")
    if data[TAG : len(head)] != head[TAG:] or len(data) < ANSWER:
        raise WireError(Failure.BAD_REPLY, f"no reflector: begins with {data[:4].hex()}")
    if len(data) > ANSWER:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    if data[:TAG] != tag or not answers(data, query):
        raise WireError(Failure.WRONG_ID, "the tag or the query's id is not ours")
    (clock,) = struct.unpack_from("<I", data, 32)
    (port,) = struct.unpack_from("<I", data, 60)
    return Answer(clock, (_address(data[44:60]), port))


def _address(packed: bytes) -> str:
    """IPv4 addresses come as IPv6 ones that map them (RFC 4291 section 2.5.5.2)."""
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
