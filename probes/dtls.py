"""Does a DTLS server answer a first flight? Stops there; nothing is negotiated."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

from probes.model import Failure, Step
from probes.net.udp import Datagram, News, open_flow
from probes.trail import Peer, Trail
from probes.transaction import DEADLINE, ask_udp, schedule
from probes.wire import dtls
from probes.wire.error import WireError

SLACK = 1.0


@dataclass(frozen=True, slots=True)
class DtlsProbe:
    """Five ClientHellos, each from a source port of its own: to the server they are five clients,
    and the 5-tuple says which hello an answer belongs to. HelloVerifyRequest or ServerHello count.

    Facts: requests, answered, rtt_seconds, dtls_answer, dtls_version, dtls_alert.
    """

    kind: ClassVar[str] = "dtls"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 5
    handshake: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 2000

    dress: dtls.Dress = dtls.Dress.OPENSSL

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
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


def _match(trail: Trail, index: int, datagram: Datagram) -> int:
    answer = dtls.read_answer(datagram.data)
    if answer.kind == "alert":
        trail.facts["dtls_alert"] = answer.alert
        raise WireError(Failure.TLS_ALERT, answer.alert)
    trail.facts["dtls_answer"] = answer.kind
    trail.facts["dtls_version"] = answer.version
    return index


PROBE = DtlsProbe
