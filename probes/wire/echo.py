"""A voice server's latency ping: a fixed header and a counter, sent back unchanged.

Layout as in nDPI's captures of Discord (section 3 of the project's notes on infrastructure): four
bytes of header, and the counter, 32 bits, little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence

from probes.model import Failure
from probes.wire.error import WireError

COUNTER = 4
"""Bytes of it; it wraps around."""


def ping(header: bytes, counter: int) -> bytes:
    """Build the datagram with this number, which may have run over."""
    return header + (counter % (1 << 32)).to_bytes(COUNTER, "little")


def read_answer(data: bytes, pings: Sequence[bytes]) -> int:
    """Which of ``pings``, all of one header, came back: its index.

    Raises WireError: TRUNCATED for the beginning of one; OVERSIZED for one with something behind
    it; WRONG_ID for a counter that is not ours; BAD_REPLY for anything else.
    """
    size = len(pings[0])
    header = pings[0][: size - COUNTER]
    if len(data) < size and any(sent.startswith(data) for sent in pings):
        raise WireError(Failure.TRUNCATED, f"{len(data)} of {size} bytes")
    if len(data) < size or not data.startswith(header):
        raise WireError(Failure.BAD_REPLY, f"no echo: begins with {data[:4].hex()}")
    if len(data) > size:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    if data not in pings:
        raise WireError(Failure.WRONG_ID, "the counter is not ours")
    return pings.index(data)
