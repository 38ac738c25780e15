"""The path between client and servers as a model: packets and times in, packets and times out.

No socket, no clock, no global randomness: the same packets at the same times with the same seed
fare the same, in the router process as on a virtual clock.

```
 client ── hop 1 ── hop 2 ── ... ── hop N ── servers
```

A router lowers the hop count first and applies its rules afterwards, as Linux forwards: a packet
that expires at the filtering router is still answered, so the last hop to answer is the filter.
A rule that is ``early`` comes before that: then the last hop to answer is the one before it. What
routers do not answer, where there is more than one at a hop and how much longer the way back is,
``topology.py`` declares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.lab import actions
from tests.lab import packet as packets
from tests.lab.actions import IN, OUT, Injection
from tests.lab.censor import Censor, Match
from tests.lab.chance import MASK, Loss, draw
from tests.lab.engine import Installed
from tests.lab.packet import Packet
from tests.lab.topology import Answers, Branches, Detour, Hop, Manners, Topology, parallel

STRAIGHT = Topology()
LOSSLESS_OUT, LOSSLESS_IN = Loss(), Loss(seed=2)
UNTOUCHED = (0.0, 1, ())  # the rest of a verdict that changes nothing


@dataclass(frozen=True, slots=True)
class Line:
    """How the path behaves when no rule interferes; times are seconds, one way."""

    delay: float = 0.010
    jitter: float = 0.0
    loss_out: Loss = LOSSLESS_OUT
    loss_in: Loss = LOSSLESS_IN


class Arrival(NamedTuple):
    """A packet that leaves the path at ``due`` on the side that ``direction`` leads to, with
    ``ttl`` left of its hop count."""

    due: float
    direction: str
    packet: Packet
    ttl: int

    @property
    def data(self) -> bytes:
        return packets.with_ttl(self.packet, self.ttl)


class Fate(NamedTuple):
    """What became of one packet: what arrives where because of it, and a word for the log."""

    arrivals: tuple[Arrival, ...]
    word: str

    @property
    def arrival(self) -> Arrival | None:
        """The one, where nothing forges or copies."""
        return self.arrivals[0] if self.arrivals else None


@dataclass(slots=True)
class _Flow:
    """One direction's memory: packets do not overtake each other, loss comes in runs."""

    count: int = 0
    lost_before: bool = False
    last_due: float = 0.0


class Path:
    """Every router between client and servers, as (IPv4, IPv6) addresses, client side first."""

    def __init__(
        self, hops: Sequence[Hop], line: Line = Line(), topology: Topology = STRAIGHT
    ) -> None:
        self.hops = hops
        self.line = line
        self.rules: dict[int, Installed] = {}
        self._added = 0
        self._flows = {OUT: _Flow(), IN: _Flow()}
        self.set_topology(topology)

    def add(self, rule: Censor, now: float = 0.0) -> int:
        """Install a rule behind its hop; returns its number."""
        if not 1 <= rule.hop <= len(self.hops):
            raise ValueError(f"there is no hop {rule.hop}")
        self.topology.check_branch(rule.hop, rule.branch)
        self._added += 1
        self.rules[self._added] = Installed(rule, now)
        self._arrange()
        return self._added

    def remove(self, number: int) -> None:
        del self.rules[number]
        self._arrange()

    def clear(self) -> None:
        self.rules.clear()
        self._arrange()

    def _arrange(self) -> None:
        """The rules in the order in which a packet meets them, each with the hop counts that it
        takes to get there and the branches that its hop is one of.

        On the way back it meets those of one hop in reverse: what one of them translated is as
        the later ones know it until the first has translated it back. Early ones come first both
        ways, having taken as many hop counts as the late ones of the router before.
        """
        met: dict[str, list[tuple[int, int, Installed, Branches | None]]] = {OUT: [], IN: []}
        for number, rule in self.rules.items():
            hop = rule.rule.hop
            branches = self.topology.branching(hop)
            for direction, order in met.items():
                passed = self._between(direction, hop) - rule.rule.early
                order.append((passed, number, rule, branches))
        met[OUT].sort(key=lambda it: (it[0], it[2].rule.early, it[1]))
        met[IN].sort(key=lambda it: (it[0], it[2].rule.early, -it[1]))
        self._order = met

    def _between(self, direction: str, hop: int) -> int:
        """How many times a packet's hop count was lowered when router ``hop`` has done so."""
        if direction == OUT:
            return hop
        longer = self.topology.detour.hops if hop <= self.topology.behind(len(self.hops)) else 0
        return len(self.hops) + 1 - hop + longer

    def set_topology(self, topology: Topology) -> None:
        """Raises ValueError if it does not fit the path or the rules on it."""
        topology.check(len(self.hops))
        for installed in self.rules.values():
            topology.check_branch(installed.rule.hop, installed.rule.branch)
        self.topology = topology
        self._manners = Manners(topology.answers)
        self.crossed = {OUT: len(self.hops), IN: len(self.hops) + topology.detour.hops}
        self._arrange()

    def set_line(self, line: Line) -> None:
        """A new line starts its random numbers anew: no test depends on the one before."""
        self.line = line
        self._flows = {OUT: _Flow(), IN: _Flow()}

    def carry(self, packet: Packet, direction: str, now: float) -> Fate:
        """Take a packet that enters at ``now`` through all hops.

        Everything is decided at once, at that time: rules see a packet earlier than it would reach
        them, by less than the line's delay.
        """
        forged: list[Arrival] = []
        delay, copies, word = 0.0, 1, "passed"
        for passed, number, installed, branches in self._order[direction]:
            left = packet.ttl - passed
            if left <= 0:
                break
            hop = installed.rule.hop
            router = self.hops[hop - 1][packet.version == 6]
            if branches is not None:
                branch = branches.taken(packet, direction)
                if installed.rule.branch not in (None, branch):
                    continue
                router = parallel(self.hops[hop - 1], branch)[packet.version == 6]
            verdict = installed.decide(packet, direction, now, left, router)
            if verdict is None:
                continue
            if verdict.injected:
                forged += self._injected(verdict.injected, direction, hop, now)
            if verdict.packet is None:
                return Fate(tuple(forged), f"rule {number} {installed.rule.action.word}")
            if verdict.packet is not packet or verdict[1:] != UNTOUCHED:
                word = f"rule {number} {installed.rule.action.word}"
            packet = verdict.packet
            delay += verdict.delay
            copies *= verdict.copies
        if packet.ttl <= self.crossed[direction]:
            hop = self._where(packet, direction)
            arrivals = self._expired(packet, direction, hop, now) if hop else ()
            word = f"expired {hop or 'on the detour'}"
        elif (due := self.through(direction, now)) is None:
            arrivals, word = (), "lost"
        else:
            left = packet.ttl - self.crossed[direction]
            arrivals = (Arrival(due + delay, direction, packet, left),) * copies
        return Fate((*forged, *arrivals), word)

    def _injected(
        self,
        injected: Sequence[Injection],
        direction: str,
        hop: int,
        now: float,
        *,
        by_rule: bool = True,
    ) -> list[Arrival]:
        """What starts in the middle passes the remaining routers, but no further filter."""
        links = len(self.hops) + 1
        arrivals = []
        for side, data in injected:
            routers = self.crossed[side] - self._between(side, hop)
            parsed = packets.parse(data)
            if parsed.ttl <= routers:
                continue
            # There and back to the sender takes whole links; onward is the way itself. A rule of
            # the last router is the server's own doing, and its word comes as far.
            distance = hop if direction == OUT else links - hop
            if by_rule and hop == len(self.hops) and direction == OUT:
                distance = links
            wait = self.line.delay * (1 if side == direction else 2 * distance / links)
            for crossed in dict.fromkeys((direction, side)):
                due = self.through(crossed, now)
                if due is None:
                    break
                wait += due - now - self.line.delay
            else:
                arrivals.append(Arrival(now + wait, side, parsed, parsed.ttl - routers))
        return arrivals

    def _expired(self, packet: Packet, direction: str, hop: int, now: float) -> tuple[Arrival, ...]:
        if not packets.may_be_answered(packet):
            return ()
        branches = self.topology.branching(hop)
        branch = branches.taken(packet, direction) if branches else 0
        if not self._manners.answer(hop, branch, now):
            return ()
        router = parallel(self.hops[hop - 1], branch)
        answer = packets.time_exceeded(packet, router[packet.version == 6])
        back = IN if direction == OUT else OUT
        told = [Injection(back, answer)]
        return tuple(self._injected(told, direction, hop, now, by_rule=False))

    def _where(self, packet: Packet, direction: str) -> int:
        """The hop at which a packet's hop count runs out; 0 is none that has a name."""
        routers, count = max(1, packet.ttl), len(self.hops)
        if direction == OUT:
            return routers
        detour = self.topology.detour.hops
        before = count - self.topology.behind(count)  # routers that it meets before the detour
        if before < routers <= before + detour:
            return 0
        return count + 1 - (routers if routers <= before else routers - detour)

    def watches(self, direction: str, protocol: int, server: bytes, port: int) -> bool:
        """May a rule do something to such a packet? If not, ``through`` is all that happens to one
        that has hops enough."""
        return bool(self.rules) and any(
            rule.cares(direction, protocol, server, port) for rule in self.rules.values()
        )

    def through(self, direction: str, now: float) -> float | None:
        """When a packet that nothing stops arrives, or None: the line itself loses it."""
        flow = self._flows[direction]
        loss = self.line.loss_out if direction == OUT else self.line.loss_in
        if loss.share:
            flow.lost_before = loss.takes(flow.count, flow.lost_before)
            if flow.lost_before:
                flow.count += 1
                return None
        flow.count += 1
        wait = self.line.delay
        if self.line.jitter:
            wait += self.line.jitter * draw(~loss.seed & MASK, flow.count)
        # A queue makes packets late, it does not reorder them.
        flow.last_due = max(now + wait, flow.last_due)
        return flow.last_due


# To the router and back, as JSON


_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (*actions.ALL, Match, Censor, Loss, Line, Topology, Answers, Branches, Detour)
}


def to_json(value: Any) -> Any:
    """Dataclasses become objects that name their class; tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """Raises KeyError, TypeError or ValueError for what is no declaration."""
    if isinstance(value, dict):
        fields = {key: from_json(item) for key, item in value.items() if key != "is"}
        return _KINDS[value["is"]](**fields)
    return tuple(map(from_json, value)) if isinstance(value, list) else value
