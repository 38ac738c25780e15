"""Asking one name server: UDP with every datagram kept, TCP, TLS and HTTPS.

dnspython is the codec; the sockets are ours, so that late second answers, receive times and ICMP
errors are seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from probes.model import Failure, Step
from probes.net import http, stream, tls
from probes.net.environment import Environment, TrustedResolver
from probes.net.errors import Refusal
from probes.net.udp import Flow, News, open_flow
from probes.trail import Peer, Trail
from probes.wire import dns as wire
from probes.wire.error import WireError

RESEND = (0.0, 0.5, 1.0, 2.0, 4.0)
DEADLINE = 6.0

Judge = Callable[[wire.Answer], object]
"""Called inside the exchange step; raises the word for an answer that will not do."""


@dataclass(slots=True)
class UdpQuery:
    """One question over UDP: each try from a new port with a new id, the servers in turn.

    ``answers`` in order of arrival with their RTT in seconds, late second ones included;
    ``strays`` are datagrams that were no answer to us.
    """

    env: Environment
    servers: Sequence[tuple[str, int]]
    name: str
    kind: str
    deadline: float = DEADLINE
    answers: list[tuple[wire.Answer, float]] = field(default_factory=list)
    answered_by: tuple[str, int] = ("", 0)
    """The server of the first answer."""
    strays: list[WireError] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    _sent: list[tuple[int, int]] = field(default_factory=list)
    _seen: list[int] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _news: News = field(default_factory=News)

    def __enter__(self) -> UdpQuery:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for flow in self.flows:
            self.env.traffic.add(flow.bytes_sent, flow.bytes_received)

    async def first(self) -> wire.Answer:
        """The first valid answer. Raises the word for there being none."""
        started = time.monotonic()
        offsets = [offset for offset in RESEND if offset < self.deadline]
        for number in range(len(offsets)):
            self._send(number)
            until = started + (*offsets, self.deadline)[number + 1]
            await self._listen(until, lambda: bool(self.answers) or self._all_refused())
            if self.answers:
                return self.answers[0][0]
            if self._all_refused():
                break
        icmp = [word for flow in self.flows for word in flow.errors]
        if icmp:
            raise Refusal(icmp[0], "the name server's address refused")
        if self.strays:
            raise self.strays[0]
        raise TimeoutError(f"{len(self.flows)} queries unanswered")

    async def linger(self, seconds: float) -> None:
        """Go on listening; what comes is appended to ``answers`` and ``strays``."""
        await self._listen(time.monotonic() + seconds, lambda: False)

    async def _listen(self, until: float, enough: Callable[[], bool]) -> None:
        while not enough() and (left := until - time.monotonic()) > 0:
            await self.flows[0].wait(left)
            self._read()

    def _all_refused(self) -> bool:
        return len(self.flows) >= len(self.servers) and all(flow.errors for flow in self.flows)

    def _send(self, number: int) -> None:
        """To the next server. One to which this host has no way is passed over, as a client does;
        raises OSError when none is left."""
        while True:
            turn = number % len(self.servers)
            try:
                self._send_to(*self.servers[turn])
                return
            except OSError:
                if len(self.servers) == 1:
                    raise
                self.servers = [*self.servers[:turn], *self.servers[turn + 1 :]]

    def _send_to(self, address: str, port: int) -> None:
        flow = self._stack.enter_context(open_flow(address, port, self.env.source, self._news))
        query_id = secrets.randbelow(65536)
        sent_at = flow.send(wire.encode_query(self.name, self.kind, query_id))
        self.flows.append(flow)
        self._seen.append(0)
        self._sent.append((query_id, sent_at))

    def _read(self) -> None:
        for number, flow in enumerate(self.flows):
            query_id, sent_at = self._sent[number]
            for datagram in flow.datagrams[self._seen[number] :]:
                try:
                    answer = wire.read_answer(
                        datagram.data, query_id=query_id, name=self.name, type=self.kind
                    )
                except WireError as error:
                    self.strays.append(error)
                    continue
                if not self.answers:
                    self.answered_by = flow.sock.getpeername()[:2]
                self.answers.append((answer, max((datagram.at - sent_at) / 1e9, 0.0)))
            self._seen[number] = len(flow.datagrams)


async def ask_tcp(trail: Trail, peer: Peer, name: str, kind: str, judge: Judge) -> wire.Answer:
    """Over TCP (RFC 7766): connect and exchange steps."""
    async with stream.connect(trail, peer) as tcp:
        async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE)):
            answer = await _framed(tcp, name, kind)
            judge(answer)
    return answer


async def ask_secured(
    trail: Trail, trusted: TrustedResolver, transport: str, name: str, kind: str, judge: Judge
) -> wire.Answer:
    """Over TLS (RFC 7858) or HTTPS (RFC 8484, a POST of the wire message)."""
    peer = Peer(trusted.address, trusted.ports[transport], trusted.tls_name)
    alpn = ("h2", "http/1.1") if transport == "https" else ("dot",)
    async with stream.connect(trail, peer) as tcp:
        secured = await tls.secure(trail, tcp, peer.address, trusted.tls_name, alpn)
        async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE)):
            if transport == "tls":
                answer = await _framed(secured, name, kind)
            else:
                http2 = secured.session.selected_alpn_protocol() == "h2"
                answer = await _posted(trail, secured, peer, trusted.doh_path, name, kind, http2)
            judge(answer)
    return answer


async def _posted(
    trail: Trail,
    over: http.ByteStream,
    peer: Peer,
    path: str,
    name: str,
    kind: str,
    http2: bool,
) -> wire.Answer:
    port = "" if peer.port == 443 else f":{peer.port}"
    answer = await http.exchange(
        over,
        "POST",
        f"https://{peer.host}{port}{path}",
        content=wire.encode_query(name, kind, 0),
        content_type="application/dns-message",
        http2=http2,
    )
    trail.facts["http_status"] = answer.status
    if answer.status != 200:
        raise Refusal(Failure.HTTP_STATUS, f"status {answer.status}")
    return wire.read_answer(answer.body, query_id=0, name=name, type=kind)


async def _framed(over: http.ByteStream, name: str, kind: str) -> wire.Answer:
    query_id = secrets.randbelow(65536)
    query = wire.encode_query(name, kind, query_id)
    await over.write(len(query).to_bytes(2, "big") + query)
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = await over.read(8192)
        if not more:
            if data:
                raise WireError(Failure.TRUNCATED, f"closed after {len(data)} bytes")
            raise EOFError("closed without an answer")
        data += more
    length = int.from_bytes(data[:2], "big")
    return wire.read_answer(data[2 : 2 + length], query_id=query_id, name=name, type=kind)
