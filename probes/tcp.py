"""Does the other side accept a TCP connection?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probes.net import stream
from probes.trail import Peer, Trail


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Connects and closes. Facts: rtt_seconds (the kernel's), retransmissions."""

    kind: ClassVar[str] = "tcp"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = False
    bytes_per_run: ClassVar[int] = 350  # seven segments

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with stream.connect(trail, peer):
            pass


PROBE = TcpProbe
