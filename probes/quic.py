"""Does QUIC pass to a server, and if not, what of it is stopped? A ladder of four rungs.

Each rung is the control of the next, and differs from it in one thing: a question for versions,
which has no TLS; a handshake of version 1 with a neutral name; one with the target's own name; the
same in version 2, in which a filter for version 1 does not find the name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from probes.model import Failure, Step
from probes.net.udp import Datagram
from probes.shake import counted, shake, until, why
from probes.trail import NETWORK_ERRORS, Peer, Trail, classify
from probes.wire import certificate, quic
from probes.wire.error import WireError

if TYPE_CHECKING:
    from probes.net.quic import Handshake

LIMIT = 4.0
"""Seconds of a rung; the first two are climbed at once."""
SLACK = 1.0
PINGS = (0.0, 0.2, 0.4, 1.5, 3.0)
RUNGS = ("ping", "neutral", "name", "v2")
_ID = 8


@dataclass(frozen=True, slots=True)
class QuicProbe:
    """Works when the third rung does: a handshake with the target's name, and its certificate.

    ``server_name``: the name to ask for and to verify, the target's host when empty; ``neutral``:
    the name of the second rung, which nobody filters. Each rung has a source port of its own.

    Facts: quic_ping, quic_neutral, quic_name, quic_v2 ("ok", "no_version", or the word for what
    went wrong), quic_ladder (what they come to, see ``verdict``), quic_versions (of the first
    rung), quic_heard (did the third get anything back?), and of the third rtt_seconds,
    retransmissions and the certificate's.
    """

    kind: ClassVar[str] = "quic"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 20
    handshake: ClassVar[bool] = True
    research: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 25_000

    server_name: str = ""
    neutral: str = "example.com"
    alpn: tuple[str, ...] = ("h3",)

    def subject(self, host: str) -> str:
        return (self.server_name or host).lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        name = self.server_name or peer.host or peer.address
        for asked in (self.neutral, name, name):
            await trail.env.courtesy.handshake(peer.address, f"{asked}:{peer.port} quic")
        limit = trail.limit(LIMIT)
        async with trail.step(Step.EXCHANGE, 3 * limit + SLACK):
            ladder = _Ladder(trail, peer, limit, self.alpn)
            try:
                await asyncio.gather(ladder.ping(), ladder.greet("neutral", self.neutral, quic.V1))
                failed = await ladder.greet("name", name, quic.V1)
                await ladder.greet("v2", name, quic.V2)
            finally:
                ladder.note()
            if failed is not None:
                raise failed


def verdict(ping: str, neutral: str, name: str, v2: str) -> str:
    """One word for the four rungs: the first that is not climbed names what stops the others.

    ``open``; ``name``: version 1 passes and not with this name, ``name_v1``: which passes in
    version 2; ``v1``: QUIC passes and version 1 does not; ``all``: nothing comes back at all;
    ``answered``: the server does, and not as it should.
    """
    if name == "ok":
        return "open"
    if name != Failure.TIMEOUT:
        return "answered"
    if neutral == "ok":
        return "name_v1" if v2 == "ok" else "name"
    if ping == "ok" and neutral == Failure.TIMEOUT:
        return "v1"
    return "all" if ping == neutral == Failure.TIMEOUT else "answered"


@dataclass(slots=True)
class _Ladder:
    """No rung raises what the network does: the next ones are climbed all the same."""

    trail: Trail
    peer: Peer
    limit: float
    alpn: tuple[str, ...]
    _rungs: dict[str, str] = field(default_factory=dict)

    async def ping(self) -> None:
        try:
            await self._ping()
            self._rungs["ping"] = "ok"
        except NETWORK_ERRORS as error:
            self._rungs["ping"] = str(classify(error))

    async def greet(self, rung: str, name: str, version: int) -> Exception | None:
        """A rung with a handshake; returns what went wrong."""
        # 16 MiB and a fifth of a second that a client's profile never needs.
        from probes.net import chain
        from probes.net.quic import Handshake

        handshake = Handshake(name, version, self.alpn)
        try:
            await self._greet(rung, handshake)
            if rung == "name":
                chain.verify(handshake.chain(), name, self.trail.env.tls_ca_file)
        except NETWORK_ERRORS as error:
            self._rungs[rung] = "no_version" if handshake.versions else str(classify(error))
            return error
        self._rungs[rung] = "ok"
        return None

    def note(self) -> None:
        facts = self.trail.facts
        facts.update({f"quic_{rung}": word for rung, word in self._rungs.items()})
        if len(self._rungs) == len(RUNGS):
            facts["quic_ladder"] = verdict(**self._rungs)

    async def _ping(self) -> None:
        ids = [quic.Ids(os.urandom(_ID), os.urandom(_ID)) for _ in PINGS]
        loop, scale = asyncio.get_running_loop(), self.limit / LIMIT
        refusals: list[WireError] = []

        def heard(datagram: Datagram) -> bool:
            try:
                versions = _versions(datagram.data, ids)
            except WireError as error:
                refusals.append(error)
                return False
            self.trail.facts["quic_versions"] = tuple(f"{v:08x}" for v in versions)
            return True

        with counted(self.trail, self.peer) as flow:
            started = loop.time()
            for due, one in zip(PINGS, ids, strict=True):
                if await until(flow, started + due * scale, heard):
                    break
                flow.send(quic.ping(one, os.urandom(quic.SMALLEST)))
            else:
                await until(flow, started + self.limit, heard)
            if "quic_versions" not in self.trail.facts:
                raise why(flow, refusals)

    async def _greet(self, rung: str, handshake: Handshake) -> None:
        with counted(self.trail, self.peer) as flow:
            shaken = await shake(flow, handshake, self.limit)
        if rung == "name":
            facts = self.trail.facts
            facts["quic_heard"], facts["retransmissions"] = handshake.heard, shaken.again
            if shaken.rtt is not None:
                facts["rtt_seconds"] = shaken.rtt
            if shown := handshake.chain():
                facts.update(certificate.facts(shown))
        if shaken.problem is not None:
            raise shaken.problem


def _versions(data: bytes, asked: Sequence[quic.Ids]) -> tuple[int, ...]:
    """What an answer to one of these pings lists. Raises WireError."""
    for ids in asked:
        try:
            seen = quic.read(data, ids, quic.RESERVED)
        except WireError as error:
            if error.failure is Failure.WRONG_ID and ids is not asked[-1]:
                continue
            raise
        if seen.versions:
            return seen.versions
        break
    raise WireError(Failure.BAD_REPLY, "no list of versions")


PROBE = QuicProbe
