"""Does a voice server send a stranger's latency pings back?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from probes.model import Step
from probes.net.udp import Datagram, open_flow
from probes.trail import Peer, Trail
from probes.transaction import DEADLINE, ask_udp, schedule
from probes.wire import echo

SLACK = 1.0
_HEADERS = 28


@dataclass(frozen=True, slots=True)
class EchoProbe:
    """Five pings with counters of their own, from a random first one, on the schedule of stun; each
    must come back unchanged.

    ``header``: the bytes before the counter, two hexadecimal digits each. Anything on the way could
    send them back as well: it proves that datagrams of this form get through, not who answers.
    Facts: as for stun without STUN's.
    """

    kind: ClassVar[str] = "echo"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 5
    handshake: ClassVar[bool] = False

    header: str

    @property
    def bytes_per_run(self) -> int:
        return 5 * 2 * (_HEADERS + len(self.header) // 2 + echo.COUNTER)

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        header = bytes.fromhex(self.header)
        first = int.from_bytes(os.urandom(echo.COUNTER), "little")
        pings = [echo.ping(header, first + n) for n, _ in enumerate(schedule(trail)[0])]

        def match(_flow: int, datagram: Datagram) -> int:
            return echo.read_answer(datagram.data, pings)

        async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE) + SLACK):
            with open_flow(peer.address, peer.port, trail.env.source) as flow:
                tally = await ask_udp(trail, [flow], pings, match)
                tally.judge(flow.errors)


PROBE = EchoProbe
