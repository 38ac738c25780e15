"""Does a TURN service refuse a stranger as it should: 401 with its realm?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from probes.model import Failure
from probes.stun import StunExchange
from probes.trail import Peer, Trail
from probes.wire import stun
from probes.wire.error import WireError


@dataclass(frozen=True, slots=True)
class TurnProbe:
    """Allocate without credentials (RFC 8656 section 7.2); it creates nothing at the server.

    ``realm``: the expected one; another is ``bad_reply``, since the realm names the operator.
    An answer of any code with our id counts otherwise. Facts as for stun.
    """

    kind: ClassVar[str] = "turn"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 5

    transport: Literal["udp", "tcp", "tls"] = "udp"
    server_name: str = ""
    realm: str = ""

    @property
    def handshake(self) -> bool:
        return self.transport == "tls"

    @property
    def bytes_per_run(self) -> int:
        return {"udp": 1000, "tcp": 1900, "tls": 8100}[self.transport]

    def subject(self, host: str) -> str:
        return (self.server_name or host).lower() if self.handshake else ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        ask = StunExchange(stun.allocate_request, b"", self._judge)
        await ask.run(trail, peer, self.transport, self.server_name)

    def _judge(self, answer: stun.Answer) -> None:
        if self.realm and answer.realm != self.realm:
            raise WireError(Failure.BAD_REPLY, f"realm {answer.realm!r}")


PROBE = TurnProbe
