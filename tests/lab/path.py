"""The path between client and servers as a model: packets and times in, packets and times out.

No socket, no clock, no global randomness: the same packets at the same times with the same seed
fare the same, in the router process as on a virtual clock.

```
 client ── hop 1 ── hop 2 ── ... ── hop N ── servers
```

A router lowers the hop count first and applies its rules afterwards, as Linux forwards: a packet
that expires at the filtering router is still answered, so the last hop to answer is the filter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.lab import packet as packets
from tests.lab.packet import Packet

OUT, IN = "out", "in"  # out: from the client to the servers

PROTOCOLS = {
    "any": frozenset[int](),
    "tcp": frozenset({packets.TCP}),
    "udp": frozenset({packets.UDP}),
    "icmp": frozenset({packets.ICMP, packets.ICMPV6}),
}
ACTIONS = frozenset({"drop", "reject", "reset", "loss"})

_MASK = (1 << 64) - 1


def draw(seed: int, count: int) -> float:
    """A number in [0, 1) made from its arguments alone (SplitMix64's output function)."""
    mixed = (seed * 0xD1342543DE82EF95 + (count + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


@dataclass(frozen=True, slots=True)
class Loss:
    """Random loss: ``share`` of the packets, in runs of ``burst`` packets on average.

    ``burst`` 0 is independent loss; otherwise Gilbert's two states, nothing arrives in the bad one.
    """

    share: float = 0.0
    burst: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError("loss share must be between 0 and 1")
        if self.burst and (self.share == 1 or self.burst < self.share / (1 - self.share)):
            raise ValueError("so much loss needs longer bursts")
        if self.burst and self.burst < 1:
            raise ValueError("a burst is at least one packet")

    def takes(self, count: int, lost_before: bool) -> bool:
        """Is packet number ``count`` lost, given what became of the one before?"""
        number = draw(self.seed, count)
        if not self.burst:
            return number < self.share
        if lost_before:
            return number >= 1 / self.burst
        return number < self.share / (self.burst * (1 - self.share))


@dataclass(frozen=True, slots=True)
class Rule:
    """What one router does to some packets. Empty lists match everything.

    ``remote`` and ``ports`` name the servers' end of a packet, whichever way it goes; ``exempt``
    are prefixes within ``remote`` that the rule leaves alone. ``code`` is for reject, ``loss`` for
    loss. A reset answers TCP segments only and lets everything else pass.
    """

    action: str
    name: str = ""
    hop: int = 2
    direction: str = "both"
    protocol: str = "any"
    family: int = 0  # 4, 6, or 0 for both
    remote: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    code: int = packets.ADMIN_PROHIBITED
    loss: Loss = Loss()

    def __post_init__(self) -> None:
        if self.action not in ACTIONS or self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown action or protocol in {self}")
        if self.direction not in (OUT, IN, "both") or self.family not in (0, 4, 6):
            raise ValueError(f"unknown direction or family in {self}")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Rule:
        """Lists become tuples; an unknown key or a bad prefix is an error for the caller."""
        loss = Loss(**fields.pop("loss", {}))
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        rule = cls(**{**fields, **lists}, loss=loss)
        networks((*rule.remote, *rule.exempt))  # raises
        return rule


class Network(NamedTuple):
    length: int  # of an address, in bytes
    shift: int
    prefix: int

    def holds(self, address: bytes) -> bool:
        if len(address) != self.length:
            return False
        return int.from_bytes(address, "big") >> self.shift == self.prefix


def networks(prefixes: Sequence[str]) -> tuple[Network, ...]:
    """Parsed once, since a filter compares every packet."""
    parsed = [ipaddress.ip_network(prefix) for prefix in prefixes]
    return tuple(
        Network(net.max_prefixlen // 8, shift, int(net.network_address) >> shift)
        for net in parsed
        for shift in [net.max_prefixlen - net.prefixlen]
    )


@dataclass(slots=True)
class Installed:
    """A rule at work: its parsed prefixes and what it has seen."""

    rule: Rule
    remote: tuple[Network, ...]
    exempt: tuple[Network, ...]
    hits: int = 0
    dropped: int = 0
    lost_before: bool = False

    @classmethod
    def of(cls, rule: Rule) -> Installed:
        return cls(rule, networks(rule.remote), networks(rule.exempt))

    def matches(self, packet: Packet, direction: str) -> bool:
        rule = self.rule
        if rule.direction not in ("both", direction) or rule.family not in (0, packet.version):
            return False
        wanted = PROTOCOLS[rule.protocol]
        if wanted and packet.protocol not in wanted:
            return False
        if direction == OUT:
            address, port = packet.destination, packet.destination_port
        else:
            address, port = packet.source, packet.source_port
        if rule.ports and port not in rule.ports:
            return False
        if self.remote and not any(network.holds(address) for network in self.remote):
            return False
        return not any(network.holds(address) for network in self.exempt)

    def takes(self, packet: Packet) -> bool:
        """Count the packet and say whether it ends here."""
        rule, count = self.rule, self.hits
        self.hits += 1
        if rule.action == "loss":
            self.lost_before = rule.loss.takes(count, self.lost_before)
            taken = self.lost_before
        else:
            taken = rule.action != "reset" or packet.protocol == packets.TCP
        self.dropped += taken
        return taken

    def answer(self, packet: Packet, router: bytes) -> bytes | None:
        """What the sender of a packet that was taken gets to hear."""
        if self.rule.action == "reset":
            return packets.reset(packet)
        if self.rule.action == "reject" and packets.may_be_answered(packet):
            return packets.unreachable(packet, router, self.rule.code)
        return None


@dataclass(frozen=True, slots=True)
class Line:
    """How the path behaves when no rule interferes; times are seconds, one way."""

    delay: float = 0.010
    jitter: float = 0.0
    loss_out: Loss = Loss()
    loss_in: Loss = Loss(seed=2)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Line:
        settings: dict[str, Any] = {
            key: Loss(**value) if isinstance(value, dict) else value
            for key, value in fields.items()
        }
        return cls(**settings)


class Arrival(NamedTuple):
    """A packet that leaves the path at ``due`` on the side that ``direction`` leads to."""

    due: float
    direction: str
    data: bytes


class Fate(NamedTuple):
    """What became of one packet: an arrival or none, and a word for the log."""

    arrival: Arrival | None
    word: str


@dataclass(slots=True)
class _Flow:
    """One direction's memory: packets do not overtake each other, loss comes in runs."""

    count: int = 0
    lost_before: bool = False
    last_due: float = 0.0


@dataclass(slots=True)
class Path:
    """Every router between client and servers, as (IPv4, IPv6) addresses, client side first."""

    hops: Sequence[tuple[bytes, bytes]]
    line: Line = Line()
    rules: dict[int, Installed] = field(default_factory=dict)
    _added: int = 0
    _flows: dict[str, _Flow] = field(default_factory=lambda: {OUT: _Flow(), IN: _Flow()})

    def add(self, rule: Rule) -> int:
        if not 1 <= rule.hop <= len(self.hops):
            raise ValueError(f"there is no hop {rule.hop}")
        self._added += 1
        self.rules[self._added] = Installed.of(rule)
        return self._added

    def set_line(self, line: Line) -> None:
        """A new line starts its random numbers anew: no test depends on the one before."""
        self.line = line
        self._flows = {OUT: _Flow(), IN: _Flow()}

    def carry(self, packet: Packet, direction: str, now: float) -> Fate:
        """Take a packet that enters at ``now`` through all hops."""
        order = range(1, len(self.hops) + 1)
        ttl = packet.ttl
        for hop in order if direction == OUT else reversed(order):
            ttl -= 1
            if ttl <= 0:
                return self._expired(packet, direction, hop, now)
            for number, installed in self.rules.items():
                if installed.rule.hop != hop or not installed.matches(packet, direction):
                    continue
                if installed.takes(packet):
                    answer = installed.answer(packet, self._address(hop, packet))
                    word = f"rule {number} {installed.rule.action}"
                    return self._back(answer, direction, hop, now, word)
        return self._through(packet, direction, ttl, now)

    def _address(self, hop: int, packet: Packet) -> bytes:
        return self.hops[hop - 1][packet.version == 6]

    def _expired(self, packet: Packet, direction: str, hop: int, now: float) -> Fate:
        answer = None
        if packets.may_be_answered(packet):
            answer = packets.time_exceeded(packet, self._address(hop, packet))
        return self._back(answer, direction, hop, now, f"expired {hop}")

    def _back(self, answer: bytes | None, direction: str, hop: int, now: float, word: str) -> Fate:
        """An answer from the middle of the path has to go there and back, whole links only."""
        if answer is None:
            return Fate(None, word)
        links = len(self.hops) + 1
        distance = hop if direction == OUT else links - hop
        back = IN if direction == OUT else OUT
        return Fate(Arrival(now + 2 * self.line.delay * distance / links, back, answer), word)

    def _through(self, packet: Packet, direction: str, ttl: int, now: float) -> Fate:
        flow = self._flows[direction]
        loss = self.line.loss_out if direction == OUT else self.line.loss_in
        flow.lost_before = loss.takes(flow.count, flow.lost_before)
        flow.count += 1
        if flow.lost_before:
            return Fate(None, "lost")
        wait = self.line.delay
        if self.line.jitter:
            wait += self.line.jitter * draw(~loss.seed & _MASK, flow.count)
        # A queue makes packets late, it does not reorder them.
        flow.last_due = max(now + wait, flow.last_due)
        return Fate(Arrival(flow.last_due, direction, packets.with_ttl(packet, ttl)), "passed")
