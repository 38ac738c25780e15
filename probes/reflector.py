"""Does one of Telegram's reflectors, through which calls are relayed, answer a stranger's ping?"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import ClassVar

from probes.model import Step
from probes.net.udp import Datagram, open_flow
from probes.trail import Peer, Trail
from probes.transaction import DEADLINE, ask_udp, schedule
from probes.wire import reflector

SLACK = 1.0
_HEADERS = 28


@dataclass(frozen=True, slots=True)
class ReflectorProbe:
    """Five pings with ids of their own, all for one random peer tag, on the schedule of stun. Only
    a server that read the ping can answer it: the answer has the tag and the id.

    Whether a tag that no call knows is answered is not documented. Our address in the answer is
    not believed: nobody has seen one lately. Facts: requests, answered, rtt_seconds,
    clock_offset_seconds (whole seconds, the server's clock minus ours).
    """

    kind: ClassVar[str] = "reflector"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 5
    handshake: ClassVar[bool] = False
    bytes_per_run: ClassVar[int] = 5 * (_HEADERS + reflector.PING + _HEADERS + reflector.ANSWER)

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        tag = os.urandom(reflector.TAG)
        queries = [os.urandom(reflector.QUERY) for _ in schedule(trail)[0]]

        def match(_flow: int, datagram: Datagram) -> int:
            data = datagram.data
            index = next((i for i, q in enumerate(queries) if reflector.answers(data, q)), 0)
            answer = reflector.read_answer(data, tag, queries[index])
            trail.facts["clock_offset_seconds"] = answer.clock - int(time.time())
            return index

        async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE) + SLACK):
            with open_flow(peer.address, peer.port, trail.env.source) as flow:
                pings = [reflector.ping(tag, query) for query in queries]
                tally = await ask_udp(trail, [flow], pings, match)
                tally.judge(flow.errors)


PROBE = ReflectorProbe
