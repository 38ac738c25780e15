"""Does a DTLS server answer a first flight, and whose certificate does it show?"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

from probes.model import Failure, Step
from probes.net.udp import Datagram, News, open_flow
from probes.shake import counted, shake
from probes.trail import Peer, Trail
from probes.transaction import DEADLINE, ask_udp, schedule
from probes.wire import certificate, dtls
from probes.wire.error import WireError

SLACK = 1.0
HANDSHAKE_LIMIT = 8.0
"""Seconds of a whole handshake: four of its first hellos, at 0, 1, 3 and 7 s."""


@dataclass(frozen=True, slots=True)
class DtlsProbe:
    """Five ClientHellos, each from a source port of its own: to the server they are five clients,
    and the 5-tuple says which hello an answer belongs to. HelloVerifyRequest or ServerHello count.

    ``whole``: one handshake instead, to its end, through OpenSSL. ``fingerprint``: that, and the
    SHA-256 of the certificate that must be shown; another is ``bad_certificate``. Both only in the
    research profile.

    Facts: requests, answered, rtt_seconds, dtls_answer, dtls_version, dtls_alert; of a whole
    handshake dtls_version, dtls_cipher, dtls_alert, fingerprint_matches, and the certificate's.
    """

    kind: ClassVar[str] = "dtls"
    takes: ClassVar[str] = "host"
    handshake: ClassVar[bool] = True

    dress: dtls.Dress = dtls.Dress.OPENSSL
    fingerprint: str = ""
    whole: bool = False

    @property
    def research(self) -> bool:
        return self.whole or bool(self.fingerprint)

    @property
    def packets_per_run(self) -> int:
        return 12 if self.research else 5

    @property
    def bytes_per_run(self) -> int:
        return 5000 if self.research else 2000

    def subject(self, host: str) -> str:
        return "certificate" if self.research else ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        await (self._whole if self.research else self._first_flights)(trail, peer)

    async def _first_flights(self, trail: Trail, peer: Peer) -> None:
        hellos = [dtls.client_hello(self.dress, os.urandom(32)) for _ in schedule(trail)[0]]
        async with trail.step(Step.EXCHANGE, trail.limit(DEADLINE) + SLACK):
            with ExitStack() as stack:
                news = News()
                flows = [
                    stack.enter_context(open_flow(peer.address, peer.port, trail.env.source, news))
                    for _ in hellos
                ]
                tally = await ask_udp(
                    trail, flows, hellos, lambda index, datagram: _match(trail, index, datagram)
                )
                tally.judge([word for flow in flows for word in flow.errors])

    async def _whole(self, trail: Trail, peer: Peer) -> None:
        from probes.net.dtls import Handshake  # OpenSSL's second copy, which few need

        limit = trail.limit(HANDSHAKE_LIMIT)
        await trail.env.courtesy.handshake(peer.address, f"{peer.port} dtls")
        async with trail.step(Step.EXCHANGE, limit + SLACK):
            handshake = Handshake(self.dress)
            with counted(trail, peer) as flow:
                shaken = await shake(flow, handshake, limit)
            facts = trail.facts
            facts["retransmissions"] = shaken.again
            if shaken.rtt is not None:
                facts["rtt_seconds"] = shaken.rtt
            if handshake.heard:
                facts["dtls_version"] = handshake.version
            if isinstance(shaken.problem, WireError) and shaken.problem.failure is _ALERT:
                facts["dtls_alert"] = str(shaken.problem)
            if shaken.problem is not None:
                raise shaken.problem
            facts["dtls_cipher"] = handshake.cipher
            facts.update(certificate.facts(handshake.chain()))
            if self.fingerprint:
                facts["fingerprint_matches"] = facts["certificate_sha256"] == self.fingerprint
                if not facts["fingerprint_matches"]:
                    raise WireError(Failure.BAD_CERTIFICATE, "not the certificate that is pinned")


_ALERT = Failure.TLS_ALERT


def _match(trail: Trail, index: int, datagram: Datagram) -> int:
    answer = dtls.read_answer(datagram.data)
    if answer.kind == "alert":
        trail.facts["dtls_alert"] = answer.alert
        raise WireError(_ALERT, answer.alert)
    trail.facts["dtls_answer"] = answer.kind
    trail.facts["dtls_version"] = answer.version
    return index


PROBE = DtlsProbe
