"""Paced requests that are each counted: the exchange that stun, turn and dtls share.

Five requests with ids of their own at 0, 0.2, 0.4, 1.5 and 3 s, each sent once, deadline 4 s. A
prober that retries until something answers reports "up" at 70 % loss; this one works only when
three of five were answered, and says ``lossy`` when one or two were.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from probes.model import Failure
from probes.net.errors import Refusal
from probes.net.udp import Datagram, Flow
from probes.trail import Trail
from probes.wire.error import WireError

OFFSETS = (0.0, 0.2, 0.4, 1.5, 3.0)
DEADLINE = 4.0
RFC_OFFSETS = (0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5)
RFC_DEADLINE = 39.5
"""RFC 8489 section 6.2.1: RTO 500 ms doubled, Rc 7, Rm 16."""
NEEDED = 3


@dataclass(slots=True)
class Tally:
    """Counts of one run. ``answered``: request index to RTT in seconds. ``refusals`` are the words
    for datagrams that were not our answer."""

    needed: int
    repeats: bool = False
    """The requests are one and the same: one answer will do, and when several were sent nobody
    knows which of them it answers, so that it has no RTT (Karn's rule)."""
    sent_at: list[tuple[int, int]] = field(default_factory=list)
    answered: dict[int, float] = field(default_factory=dict)
    duplicates: int = 0
    refusals: list[Failure] = field(default_factory=list)
    lateness: float = 0.0
    ttls: list[int] = field(default_factory=list)

    def rtt(self, index: int, received: int) -> float:
        """Seconds from our send to the kernel's receive; both are wall-clock times, so a clock
        step in between shows against the monotonic clock, which then decides."""
        sent_wall, sent_monotonic = self.sent_at[index]
        by_kernel = (received - sent_wall) / 1e9
        at_most = (time.monotonic_ns() - sent_monotonic) / 1e9
        return by_kernel if 0 <= by_kernel <= at_most + 0.005 else at_most

    @property
    def complete(self) -> bool:
        """Nothing is left to wait for."""
        return len(self.answered) >= (1 if self.repeats else len(self.sent_at))

    def judge(self, icmp: Sequence[Failure]) -> None:
        """Raise the word for this run unless enough was answered."""
        if len(self.answered) >= self.needed:
            return
        if self.answered:
            raise Refusal(Failure.LOSSY, f"{len(self.answered)} of {len(self.sent_at)} answered")
        for words, what in ((icmp, "ICMP errors"), (self.refusals, "datagrams that are no answer")):
            if words:
                came = f"{len(words)} {what} came to {len(self.sent_at)} requests"
                raise Refusal(words[0], came)
        raise TimeoutError(f"none of {len(self.sent_at)} answered")

    def note(self, trail: Trail, flows: Sequence[Flow]) -> None:
        facts = trail.facts
        icmp = sum(len(flow.errors) for flow in flows)
        facts["requests"] = len(self.sent_at)
        facts["answered"] = len(self.answered)
        rtts = [] if self.repeats and len(self.sent_at) > 1 else list(self.answered.values())
        if rtts:
            facts["rtt_seconds"] = statistics.median(rtts)
            facts["rtt_min_seconds"] = min(rtts)
        if 0 < len(self.answered) < len(self.sent_at) and not self.repeats:
            # A server that limits us answers the first and not the later ones.
            facts["answered_first"] = max(self.answered) < len(self.answered)
        if self.duplicates:
            facts["duplicates"] = self.duplicates
        if self.refusals:
            facts["unexpected"] = len(self.refusals)
        if icmp:
            facts["icmp_errors"] = icmp
            facts["icmp_from_target"] = not any(flow.foreign_errors for flow in flows)
        if self.ttls:
            facts["received_ttl"] = min(self.ttls)
        facts["send_lateness_seconds"] = round(self.lateness, 4)


Match = Callable[[int, Datagram], int]
"""Flow index and datagram to the index of the request answered. Raises WireError for a stray."""


def schedule(trail: Trail) -> tuple[list[float], float]:
    """Offsets and deadline in seconds, scaled as a whole when the target sets its own timeout."""
    if trail.rfc_timers:
        return list(RFC_OFFSETS), RFC_DEADLINE
    scale = trail.limit(DEADLINE) / DEADLINE
    return [offset * scale for offset in OFFSETS], DEADLINE * scale


async def ask_udp(
    trail: Trail,
    flows: Sequence[Flow],
    requests: Sequence[bytes],
    match: Match,
) -> Tally:
    """Send ``requests`` on schedule and count what comes back until all is answered or it is over.

    Request *i* leaves by ``flows[i]`` where there is one flow a request, else by the only one.
    ``match(flow index, datagram)`` names the request answered or raises WireError.
    """
    offsets, deadline = schedule(trail)
    tally = Tally(needed=1 if trail.rfc_timers else NEEDED, repeats=trail.rfc_timers)
    started = time.monotonic()
    seen = [0] * len(flows)
    try:
        for index, request in enumerate(requests):
            due = started + offsets[index]
            while (left := due - time.monotonic()) > 0:
                await _collect(flows, seen, tally, match, left)
                if tally.repeats and tally.complete:
                    break
            if tally.repeats and tally.complete:
                break
            tally.lateness = max(tally.lateness, time.monotonic() - due)
            sent = flows[min(index, len(flows) - 1)].send(request)
            tally.sent_at.append((sent, time.monotonic_ns()))
        over = started + deadline
        while not tally.complete and (left := over - time.monotonic()) > 0:
            if sum(len(flow.errors) for flow in flows) + len(tally.answered) >= len(requests):
                break
            await _collect(flows, seen, tally, match, left)
    finally:
        trail.count(
            sum(flow.sent for flow in flows),
            sum(flow.received for flow in flows),
            sum(flow.bytes_sent for flow in flows),
            sum(flow.bytes_received for flow in flows),
        )
        tally.note(trail, flows)
    return tally


async def _collect(
    flows: Sequence[Flow],
    seen: list[int],
    tally: Tally,
    match: Match,
    seconds: float,
) -> None:
    await flows[0].wait(seconds)  # flows of one run share their news
    for index, flow in enumerate(flows):
        for datagram in flow.datagrams[seen[index] :]:
            _judge_datagram(index, datagram, tally, match)
        seen[index] = len(flow.datagrams)


def _judge_datagram(index: int, datagram: Datagram, tally: Tally, match: Match) -> None:
    try:
        which = match(index, datagram)
    except WireError as error:
        tally.refusals.append(error.failure)
        return
    if which >= len(tally.sent_at):  # an answer to what was not asked yet
        tally.refusals.append(Failure.WRONG_ID)
        return
    if which in tally.answered:
        tally.duplicates += 1
        return
    tally.answered[which] = tally.rtt(which, datagram.at)
    if datagram.ttl is not None:
        tally.ttls.append(datagram.ttl)
