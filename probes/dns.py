"""What does a resolver say about a name, over any transport, and does a second answer follow?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probes.model import Step
from probes.net import nameserver, resolver
from probes.trail import Peer, Trail
from probes.wire.dns import Answer, encode_query

SLACK = 1.0  # seconds the step may run over its own schedule before it is cut off
LINGER = 2.0
"""How long a second answer is waited for: an injected one comes first, the true one after it."""


@dataclass(frozen=True, slots=True)
class DnsProbe:
    """``resolver``: "system", a trusted resolver's name, "name/transport", or "ip[:port]" (UDP).

    Facts: resolver, rcode, answers, transport, rtt_seconds; over UDP also late_answers (how many
    further datagrams came within two seconds) and late_differs (did one say something else?).
    """

    kind: ClassVar[str] = "dns"
    takes: ClassVar[str] = "resolver"
    packets_per_run: ClassVar[int] = 5

    query: str
    type: str = "A"
    resolver: str = "system"

    def __post_init__(self) -> None:
        encode_query(self.query, self.type, 0)  # raises ValueError for what cannot be asked

    @property
    def handshake(self) -> bool:
        return self.resolver.endswith(("/tls", "/https"))

    @property
    def bytes_per_run(self) -> int:
        return 7000 if self.handshake else 250

    def subject(self, host: str) -> str:
        return f"{self.query} {self.type}".lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        transport, trusted = resolver.choose(trail.env, self.resolver)
        trail.facts["resolver"] = self.resolver
        trail.facts["transport"] = transport

        def judge(answer: Answer) -> None:
            self._note(trail, answer)
            resolver.judge(answer)

        if transport == "udp" or trusted is None:
            await self._over_udp(trail, peer, judge)
        elif transport == "tcp":
            await nameserver.ask_tcp(trail, peer, self.query, self.type, judge)
        else:
            await nameserver.ask_secured(trail, trusted, transport, self.query, self.type, judge)

    async def _over_udp(self, trail: Trail, peer: Peer, judge: nameserver.Judge) -> None:
        deadline = trail.limit(nameserver.DEADLINE)
        servers = [(peer.address, peer.port)]
        with nameserver.UdpQuery(trail.env, servers, self.query, self.type, deadline) as query:
            try:
                async with trail.step(Step.EXCHANGE, deadline + SLACK):
                    answer = await query.first()
                    trail.facts["rtt_seconds"] = query.answers[0][1]
                    judge(answer)
            finally:
                # After a refusal too: behind an injected NXDOMAIN the true answer follows.
                if query.answers:
                    await query.linger(min(LINGER, deadline))
                self._note_packets(trail, query)

    def _note_packets(self, trail: Trail, query: nameserver.UdpQuery) -> None:
        trail.facts["requests"] = trail.facts["sent"] = sum(flow.sent for flow in query.flows)
        trail.facts["received"] = sum(flow.received for flow in query.flows)
        if query.strays:
            trail.facts["unexpected"] = len(query.strays)
        if len(query.answers) > 1:
            first = _content(query.answers[0][0])
            trail.facts["late_answers"] = len(query.answers) - 1
            trail.facts["late_differs"] = any(_content(a) != first for a, _ in query.answers[1:])
            trail.facts["late_addresses"] = query.answers[-1][0].addresses

    def _note(self, trail: Trail, answer: Answer) -> None:
        trail.facts["rcode"] = answer.rcode
        trail.facts["answers"] = answer.addresses or answer.records
        if answer.min_ttl is not None:
            trail.facts["answer_ttl_seconds"] = answer.min_ttl


def _content(answer: Answer) -> tuple[str, tuple[str, ...]]:
    return answer.rcode, tuple(sorted(answer.addresses or answer.records))


PROBE = DnsProbe
