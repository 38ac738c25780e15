"""A handshake of datagrams carried over a flow: what quic and dtls share.

The handshake itself has no socket; it says what to send, and when it wants to say more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from probes.net.errors import Refusal
from probes.net.udp import Datagram, Flow, open_flow
from probes.trail import Peer, Trail
from probes.wire.error import WireError

PAUSE = 0.001
"""Seconds for which the loop is left to others at the least."""
Heard = Callable[[Datagram], bool]


class Handshake(Protocol):
    """``heard``: did anything come back that makes sense? ``done``: nothing is left to wait for;
    ``error`` then is what ended it, None for a whole handshake. Times are the loop's."""

    heard: bool
    done: bool
    error: WireError | None

    def start(self, now: float) -> list[bytes]: ...
    def due(self, now: float) -> list[bytes]:
        """What is to be sent now."""

    def timer(self, now: float) -> float | None:
        """When there is something to be sent at the latest, if nothing comes before."""

    def receive(self, data: bytes, now: float) -> None:
        """Raises WireError for what is no answer."""


@dataclass(frozen=True, slots=True)
class Shaken:
    """``again``: packets sent beyond the first before anything came; ``rtt`` in seconds, None where
    nobody knows which packet was answered (Karn's rule)."""

    again: int
    rtt: float | None
    problem: Exception | None


async def shake(flow: Flow, handshake: Handshake, limit: float) -> Shaken:
    """Carry it to its end, or for ``limit`` seconds. What the network does is ``problem``."""
    loop = asyncio.get_running_loop()
    refusals: list[WireError] = []
    arrived: list[int] = []

    def heard(datagram: Datagram) -> bool:
        try:
            handshake.receive(datagram.data, loop.time())
        except WireError as error:
            refusals.append(error)
        if handshake.heard:
            arrived.append(datagram.at)
        return True

    deadline = loop.time() + limit
    sent_at = [flow.send(data) for data in handshake.start(loop.time())]
    again = 0
    while not handshake.done and not flow.errors and loop.time() < deadline:
        due = max(handshake.timer(loop.time()) or deadline, loop.time() + PAUSE)
        await until(flow, min(due, deadline), heard)
        for data in handshake.due(loop.time()):
            flow.send(data)
            again += not handshake.heard
    rtt = max(0, arrived[0] - sent_at[0]) / 1e9 if arrived and not again else None
    problem = handshake.error if handshake.done else why(flow, refusals)
    return Shaken(again, rtt, problem)


async def until(flow: Flow, deadline: float, heard: Heard) -> bool:
    """Give what arrives to ``heard`` until that is content, an ICMP error came, or it is time."""
    loop = asyncio.get_running_loop()
    while True:
        content = [heard(datagram) for datagram in flow.take()]  # all, since they are taken
        if any(content):
            return True
        if flow.errors or not await flow.wait(deadline - loop.time()):
            return False


def why(flow: Flow, refusals: list[WireError]) -> Exception:
    """What a question that got no answer met: ICMP, what is no answer, or nothing."""
    if flow.errors:
        return Refusal(flow.errors[0], f"{len(flow.errors)} ICMP errors")
    return refusals[0] if refusals else TimeoutError("not answered")


@contextmanager
def counted(trail: Trail, peer: Peer) -> Iterator[Flow]:
    """A flow of its own, whose packets count for the run."""
    with open_flow(peer.address, peer.port, trail.env.source) as flow:
        try:
            yield flow
        finally:
            trail.count(flow.sent, flow.received, flow.bytes_sent, flow.bytes_received)
