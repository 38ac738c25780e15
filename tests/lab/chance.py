"""Randomness that is made from its arguments alone: the same seed and count, the same number."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

MASK = (1 << 64) - 1


def draw(seed: int, count: int) -> float:
    """A number in [0, 1) made from its arguments alone (SplitMix64's output function)."""
    mixed = (seed * 0xD1342543DE82EF95 + (count + 1) * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


FlowKey = tuple[bytes, int, bytes, int, int]  # client, port, server, port, protocol


def draw_for(seed: int, flow: FlowKey) -> float:
    """A number in [0, 1) for a flow, the same whenever it is asked for."""
    client, client_port, server, port, protocol = flow
    numbers = client_port.to_bytes(2, "big") + port.to_bytes(2, "big") + bytes((protocol,))
    return draw(seed, zlib.crc32(client + server + numbers))


@dataclass(frozen=True, slots=True)
class Loss:
    """Random loss: ``share`` of the packets, in runs of ``burst`` packets on average.

    ``burst`` 0 is independent loss; otherwise Gilbert's two states, nothing arrives in the bad one.
    """

    share: float = 0.0
    burst: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError("loss share must be between 0 and 1")
        if self.burst and (self.share == 1 or self.burst < self.share / (1 - self.share)):
            raise ValueError("so much loss needs longer bursts")
        if self.burst and self.burst < 1:
            raise ValueError("a burst is at least one packet")

    def takes(self, count: int, lost_before: bool) -> bool:
        """Is packet number ``count`` lost, given what became of the one before?"""
        number = draw(self.seed, count)
        if not self.burst:
            return number < self.share
        if lost_before:
            return number >= 1 / self.burst
        return number < self.share / (self.burst * (1 - self.share))
