"""Does a STUN server, or a call relay that speaks STUN, answer a stranger's Binding requests?"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import ClassVar, Literal

from probes.model import Failure, Step
from probes.net import http, stream, tls
from probes.net.udp import Datagram, open_flow
from probes.trail import Peer, Trail
from probes.transaction import DEADLINE, RFC_DEADLINE, ask_udp, schedule
from probes.wire import stun
from probes.wire.error import WireError

ANSWER = 60
"""Bytes of an ordinary answer: 32 with our address alone, 88 with all that some servers add."""
SLACK = 1.0  # seconds a step may run over its own schedule before it is cut off
Judge = Callable[[stun.Answer], None]


@dataclass(frozen=True, slots=True)
class StunProbe:
    """Five Binding requests (transaction.py). Any answer with our id counts, an error too.

    Facts: requests, answered, rtt_seconds (median), rtt_min_seconds, error_code, software, realm.
    Over TLS the stream is secured for ``server_name``, the target's host when empty.
    """

    kind: ClassVar[str] = "stun"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 5

    transport: Literal["udp", "tcp", "tls"] = "udp"
    dress: stun.Dress = stun.Dress.BARE
    server_name: str = ""

    @property
    def handshake(self) -> bool:
        return self.transport == "tls"

    @property
    def bytes_per_run(self) -> int:
        if self.transport != "udp":
            return 1800 if self.transport == "tcp" else 8000
        return 5 * round_trip_bytes(self.dress)

    def subject(self, host: str) -> str:
        return (self.server_name or host).lower() if self.handshake else ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        seed = os.urandom(32)

        def build(request_id: bytes) -> bytes:
            return stun.binding_request(self.dress, request_id, seed)

        # An RFC 3489 request has four more bytes of id where the cookie would be.
        legacy = build(bytes(12))[4:8] if self.dress is stun.Dress.RFC3489 else b""
        ask = StunExchange(build, legacy, lambda answer: None)
        await ask.run(trail, peer, self.transport, self.server_name)


def round_trip_bytes(dress: stun.Dress, size: int = 0) -> int:
    """Of a request and an ordinary answer over IPv4, headers included."""
    asked = len(stun.binding_request(dress, bytes(12), bytes(32), size))
    return 28 + asked + 28 + ANSWER


@dataclass(frozen=True, slots=True)
class StunExchange:
    """The requests of one run over any transport. ``judge`` raises WireError for an answer that
    is well formed but not the expected server's."""

    build: Callable[[bytes], bytes]
    legacy_prefix: bytes
    judge: Judge

    async def run(self, trail: Trail, peer: Peer, transport: str, server_name: str) -> None:
        offsets, _ = schedule(trail)
        ids = [os.urandom(12)] * len(offsets) if trail.rfc_timers else _ids(len(offsets))
        if transport == "udp":
            await self._over_udp(trail, peer, ids)
            return
        async with AsyncExitStack() as stack:
            tcp = await stack.enter_async_context(stream.connect(trail, peer))
            if trail.partial:
                return
            over: http.ByteStream = tcp
            if transport == "tls":
                name = server_name or peer.host or peer.address
                over = await tls.secure(trail, tcp, peer.address, name)
            async with trail.step(Step.EXCHANGE, trail.limit(stream.CONNECT_LIMIT)):
                await self._over_stream(trail, over, ids[0])

    async def _over_udp(self, trail: Trail, peer: Peer, ids: list[bytes]) -> None:
        limit = RFC_DEADLINE if trail.rfc_timers else trail.limit(DEADLINE)
        async with trail.step(Step.EXCHANGE, limit + SLACK):
            with open_flow(peer.address, peer.port, trail.env.source) as flow:

                def match(_flow: int, datagram: Datagram) -> int:
                    return self._match(trail, ids, datagram.data)

                tally = await ask_udp(trail, [flow], [self.build(i) for i in ids], match)
                tally.judge(flow.errors)

    def _match(self, trail: Trail, ids: list[bytes], data: bytes) -> int:
        index = next((i for i, known in enumerate(ids) if stun.matches(data, known)), 0)
        answer = stun.read_answer(data, ids[index], legacy_prefix=self.legacy_prefix)
        note_answer(trail, answer)
        self.judge(answer)
        return index

    async def _over_stream(self, trail: Trail, over: http.ByteStream, request_id: bytes) -> None:
        """One request: the kernel repeats what is lost (RFC 8489 section 6.2.2)."""
        await over.write(self.build(request_id))
        data = b""
        wanted = 20
        while len(data) < wanted:
            more = await over.read(4096)
            if not more:
                if data:
                    raise WireError(Failure.TRUNCATED, f"closed after {len(data)} bytes")
                raise EOFError("closed without an answer")
            data += more
            if len(data) >= 20:
                wanted = stun.frame_length(data[:20])
        answer = stun.read_answer(data[:wanted], request_id, legacy_prefix=self.legacy_prefix)
        note_answer(trail, answer)
        self.judge(answer)


def _ids(count: int) -> list[bytes]:
    return [os.urandom(12) for _ in range(count)]


def note_answer(trail: Trail, answer: stun.Answer) -> None:
    """The mapped address is kept in memory for the vantage's own use; it never becomes a fact."""
    if answer.error_code is not None:
        trail.facts["error_code"] = answer.error_code
    if answer.realm:
        trail.facts["realm"] = answer.realm
    if answer.software:
        trail.facts["software"] = answer.software
    if answer.mapped:
        trail.mapped = answer.mapped[0]


PROBE = StunProbe
