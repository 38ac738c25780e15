"""What the twin answers to whom: limits per source, replays, counts. Pure, in bounded tables.

To strangers it is a STUN server that says little and seldom; to holders of the key an echo. All
tables have a size that no flood changes: those that strangers fill forget their oldest entry, the
one that only holders of the key fill takes nothing more.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from probes.wire import twin

SOURCES = 4096
"""Sources whose rate is remembered. A flood of forged ones makes the table forget: that costs one
answer more to a source which has to send thousands of packets for it."""
FLOWS = 4096
"""Flows whose numbers are remembered, at most 1 KiB each."""
KEPT = 2 * twin.WINDOW
"""Seconds after its last request until a flow is forgotten: nothing captured holds any longer."""
STUN_RATE = 1.0  # Binding answers a second and source: they are larger than what asks for them
ECHO_RATE = 200.0  # a voice stream has 50 packets a second


@dataclass(slots=True)
class Allowance:
    """A token bucket per source: ``rate`` a second, ``burst`` at once. Times are seconds."""

    rate: float
    burst: float
    size: int = SOURCES
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, source: str, now: float) -> bool:
        left, at = self._left.pop(source, (self.burst, now))
        # A clock that was set back gives nothing and takes nothing.
        left = min(self.burst, left + max(0.0, now - at) * self.rate)
        allowed = left >= 1.0
        self._left[source] = (left - 1.0 if allowed else left, now)
        if len(self._left) > self.size:
            self._left.popitem(last=False)
        return allowed

    def __len__(self) -> int:
        return len(self._left)


@dataclass(slots=True)
class Flow:
    """``seen``: bit n is set once request n came."""

    received: int = 0
    seen: int = 0
    last: float = 0.0

    def first_time(self, number: int) -> bool:
        mark = 1 << number
        fresh = not self.seen & mark
        self.seen |= mark
        self.received += fresh
        return fresh


@dataclass(slots=True)
class Twin:
    """Answers datagrams and tallies. ``counts`` says what came, for the log."""

    key: bytes = field(repr=False)
    stun: Allowance = field(default_factory=lambda: Allowance(STUN_RATE, 1.0))
    echo: Allowance = field(default_factory=lambda: Allowance(ECHO_RATE, ECHO_RATE))
    flows: OrderedDict[int, Flow] = field(default_factory=OrderedDict)
    counts: Counter[str] = field(default_factory=Counter)

    def answer(self, data: bytes, address: str, port: int, now: float) -> bytes | None:
        """What goes back to ``address``, if anything. ``now``: when it came, Unix seconds."""
        word, answer = self._judge(data, address, port, now)
        self.counts[word] += 1
        return answer

    def _judge(self, data: bytes, address: str, port: int, now: float) -> tuple[str, bytes | None]:
        source = source_of(address)
        request = twin.read_request(data, self.key, now)
        if request is None:
            if not twin.is_binding_request(data):
                return "strange", None
            if not self.stun.take(source, now):
                return "stun_limited", None
            return "stun", twin.mapped_answer(data, address, port)
        if request.number > twin.MAX_NUMBER:
            return "strange", None
        flow = self._flow(request.flow, now)
        if flow is None:
            return "full", None
        # Before the limit: whoever repeats what others sent must not use up their allowance.
        if not flow.first_time(request.number):
            return "replayed", None
        if not self.echo.take(source, now):
            return "echo_limited", None
        return "echo", twin.sealed_answer(data, request, self.key, flow.received, now)

    def tally(self, data: bytes, now: float) -> bytes | None:
        """The answer to how many requests of a flow came; None for anything else."""
        request = twin.read_request(data, self.key, now)
        if request is None or request.number != twin.TALLY:
            return None
        flow = self.flows.get(request.flow)
        received = flow.received if flow is not None else 0
        return twin.sealed_answer(data, request, self.key, received, now)

    def _flow(self, number: int, now: float) -> Flow | None:
        flow = self.flows.get(number)
        if flow is None:
            self._forget_old(now)
            if len(self.flows) >= FLOWS:
                return None
            flow = self.flows[number] = Flow()
        flow.last = max(flow.last, now)
        self.flows.move_to_end(number)
        return flow

    def _forget_old(self, now: float) -> None:
        while self.flows:
            oldest = next(iter(self.flows))
            if now - self.flows[oldest].last <= KEPT:
                return
            del self.flows[oldest]


def source_of(address: str) -> str:
    """What limits count by: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
