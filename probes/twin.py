"""Asking the operator's own companion server abroad: the cleanest control there is.

These are probes without a kind in the catalogue: contrasts build them (agent/companion.py) with
the key and the fingerprint of the configuration. Two of them started together send on the same
schedule, each from a source port of its own, so that their requests leave side by side.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from probes.model import Step
from probes.net import stream, tls
from probes.net.errors import NotMeasured
from probes.net.udp import Datagram, open_flow
from probes.trail import Peer, StepFailed, Trail
from probes.transaction import DEADLINE, ask_udp, schedule
from probes.wire import dtls, stun, twin

SLACK = 1.0  # seconds a step may run over its own schedule before it is cut off
_TALLY_LIMIT = 5.0


class Dress(StrEnum):
    """What a request to the twin looks like to a box on the way."""

    STUN_BARE = "stun_bare"
    STUN_ICE = "stun_ice"
    STUN_RFC3489 = "stun_rfc3489"
    STUN_APP = "stun_app"
    DTLS_OPENSSL = "dtls_openssl"
    DTLS_BROWSER = "dtls_browser"
    DTLS_PION = "dtls_pion"
    RANDOM = "random"


_STUN = {
    Dress.STUN_BARE: stun.Dress.BARE,
    Dress.STUN_ICE: stun.Dress.ICE,
    Dress.STUN_RFC3489: stun.Dress.RFC3489,
    Dress.STUN_APP: stun.Dress.APP,
}
_DTLS = {Dress(f"dtls_{dress}"): dress for dress in dtls.Dress}


def size_of(dress: Dress) -> int:
    """Bytes of a request in this dress: what random bytes are to be compared with it by."""
    return len(shaped(dress, 0, bytes(32), twin.Request(0, 0, 0), 0.0, bytes(twin.KEY_SIZE)))


@dataclass(frozen=True, slots=True)
class TwinUdpProbe:
    """Five requests (transaction.py) that look like ``dress``; each answer is sealed by the twin.

    ``size``: bytes of a request in the dress ``random``. When answers are missing, the twin is
    asked over TLS how many requests came (``tls_port`` and ``tls_sha256``; port 0: it is not).

    Facts: those of stun without STUN's; ``received_by_peer`` (requests that came there, absent
    when not known) and ``received_by_peer_at`` (its clock at the newest one, Unix seconds).
    """

    kind: ClassVar[str] = "twin"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 6
    handshake: ClassVar[bool] = False

    key: bytes = field(repr=False)
    dress: Dress
    size: int = 20
    tls_port: int = 0
    tls_sha256: str = ""

    @property
    def bytes_per_run(self) -> int:
        return 10 * (28 + (self.size if self.dress is Dress.RANDOM else size_of(self.dress)))

    @property
    def research(self) -> bool:
        """Random bytes are what no app sends (probes.registry.needs_research)."""
        return self.dress is Dress.RANDOM

    def subject(self, host: str) -> str:
        return f"{self.dress} {self.size}" if self.dress is Dress.RANDOM else str(self.dress)

    async def run(self, trail: Trail, peer: Peer) -> None:
        flow_id = int.from_bytes(os.urandom(3), "big")
        offset = twin.IN_DTLS if self.dress in _DTLS else twin.IN_STUN
        now = time.time()
        requests = [
            shaped(
                self.dress,
                self.size,
                os.urandom(32),
                twin.Request(flow_id, n, offset),
                now,
                self.key,
            )
            for n in range(len(schedule(trail)[0]))
        ]
        heard: list[twin.Answer] = []

        def match(_flow: int, datagram: Datagram) -> int:
            answer = twin.read_answer(datagram.data, self.key, flow_id, offset, time.time())
            heard.append(answer)
            return answer.number

        failed: StepFailed | None = None
        try:
            async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE) + SLACK):
                with open_flow(peer.address, peer.port, trail.env.source) as flow:
                    tally = await ask_udp(trail, [flow], requests, match)
                    tally.judge(flow.errors)
        except StepFailed as error:  # the count is worth most when nothing was answered
            failed = error
        if heard:
            newest = max(heard, key=lambda answer: answer.received)
            trail.facts["received_by_peer"] = newest.received
            trail.facts["received_by_peer_at"] = round(newest.at, 4)
        if self.tls_port and trail.facts.get("answered") != len(requests):
            where = Peer(peer.address, self.tls_port, "")
            told = await ask_tally(trail, where, self.tls_sha256, self.key, flow_id)
            if told is not None:
                trail.facts["received_by_peer"] = told
        if failed:
            raise failed


async def ask_tally(trail: Trail, where: Peer, pin: str, key: bytes, flow_id: int) -> int | None:
    """How many requests of a flow came there, over TLS: what no answer could tell. Its failure is
    no step of this run, and leaves the count unknown."""
    aside = Trail(trail.env, min(_TALLY_LIMIT, trail.limit(_TALLY_LIMIT)))
    with suppress(StepFailed, NotMeasured):
        async with stream.connect(aside, where) as tcp:
            secured = await tls.secure(aside, tcp, where.address, where.address, pin=pin)
            async with aside.step(Step.EXCHANGE, aside.limit(_TALLY_LIMIT)):
                return await _tally(secured, key, flow_id)
    return None


async def _tally(secured: tls.TlsStream, key: bytes, flow_id: int) -> int:
    question = twin.Request(flow_id, twin.TALLY, twin.IN_STUN)
    shape = os.urandom(twin.TALLY_SIZE)
    await secured.write(twin.sealed_request(shape, twin.IN_STUN, key, question, time.time()))
    data = b""
    while len(data) < twin.TALLY_SIZE:
        more = await secured.read(twin.TALLY_SIZE - len(data))
        if not more:
            raise EOFError("closed without a tally")
        data += more
    return twin.read_answer(data, key, flow_id, twin.IN_STUN, time.time()).received


def shaped(
    dress: Dress, size: int, seed: bytes, request: twin.Request, at: float, key: bytes
) -> bytes:
    """A sealed request that looks like ``dress``; ``size`` for random bytes, and what a larger STUN
    message is filled up to; ``seed`` has 32."""
    if dress in _DTLS:
        shape = dtls.client_hello(_DTLS[dress], seed)
        return twin.sealed_request(shape, twin.IN_DTLS, key, request, at)
    if dress in _STUN:
        sized = len(stun.binding_request(_STUN[dress], bytes(12), seed, size))
        return stun.binding_request(_STUN[dress], twin.tag(key, request, sized, at), seed, size)
    shape = os.urandom(size)
    while twin.is_binding_request(shape):  # that would be another dress
        shape = os.urandom(size)
    return twin.sealed_request(shape, twin.IN_STUN, key, request, at)


@dataclass(frozen=True, slots=True)
class TwinTlsProbe:
    """A TLS handshake with the twin for ``server_name``, any name at all, by the pinned
    certificate: another one is ``bad_certificate``. With "" no name is sent."""

    kind: ClassVar[str] = "twin"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 3000

    tls_sha256: str
    server_name: str = ""
    alpn: tuple[str, ...] = ()

    def subject(self, host: str) -> str:
        return (self.server_name or host).lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with stream.connect(trail, peer) as tcp:
            if not trail.partial:
                name = self.server_name or peer.address
                await tls.secure(trail, tcp, peer.address, name, self.alpn, pin=self.tls_sha256)
