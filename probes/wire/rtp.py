"""The header of RTP packets (RFC 3550 section 5.1), as a call's voice has it."""

from __future__ import annotations

import struct

HEADER = 12
CLOCK = 48_000
"""Ticks a second of Opus, whatever its rate: RFC 7587 section 4.1."""
OPUS = 111
"""The dynamic payload type that browsers and other calling programs give it."""
_VERSION_2 = 0x80


def packet(sequence: int, timestamp: int, source: int, payload: bytes, *, first: bool) -> bytes:
    """One packet of a voice; numbers are cut to their fields, since they wrap around.

    ``source`` is the stream's own 32 bits; ``first`` marks the beginning of a talk (RFC 3551
    section 4.1). What follows the header is encrypted in every call (RFC 3711): random bytes.
    """
    return (
        struct.pack(
            "!BBHII",
            _VERSION_2,
            first << 7 | OPUS,
            sequence & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            source & 0xFFFFFFFF,
        )
        + payload
    )
