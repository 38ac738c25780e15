"""What a filter does to a packet. Each action is a value; ``apply`` turns a case into a verdict.

An action keeps what it must remember in the case's ``memory``, which belongs to the rule's residual
scope: per connection where the rule marks connections, common to all its packets otherwise.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from tests.lab import content
from tests.lab import packet as packets
from tests.lab.chance import FlowKey, Loss, draw, draw_for
from tests.lab.packet import ACK, FIN, PSH, RST, Ends, Packet

OUT, IN = "out", "in"  # out: from the client to the servers

NAME_ERROR, REFUSED = 3, 5  # RFC 1035 section 4.1.1

# What RFC 7915 section 5.2 makes of IPv4's codes for "destination unreachable".
V6_CODES = {0: 0, 1: 0, packets.PORT_UNREACHABLE: packets.V6_PORT_UNREACHABLE}


class Injection(NamedTuple):
    """A packet of the filter's own; ``ttl`` in it is what it has when it leaves the filter."""

    direction: str
    data: bytes


class Verdict(NamedTuple):
    """What goes on (None: nothing), how much later, how often, and what else is sent."""

    packet: Packet | None
    delay: float = 0.0
    copies: int = 1
    injected: tuple[Injection, ...] = ()


@dataclass(slots=True)
class Memory:
    """What is kept about one residual scope; ``count`` is of packets acted upon before this one."""

    since: float
    until: float = math.inf
    count: int = 0
    kept: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Case:
    """One packet before one rule."""

    packet: Packet
    direction: str
    now: float
    ttl: int  # what is left of the packet's when it leaves this router
    router: bytes
    memory: Memory
    seed: int
    flow: FlowKey
    count: int  # packets that the rule has acted upon before, in all scopes

    @property
    def number(self) -> float:
        """Another one in [0, 1) for every packet."""
        return draw(~self.seed, self.count)

    @property
    def flow_number(self) -> float:
        """Always the same one in [0, 1) for a flow."""
        return draw_for(self.seed, self.flow)

    @property
    def back(self) -> str:
        return IN if self.direction == OUT else OUT

    def passed(self, **changes: Any) -> Verdict:
        return Verdict(self.packet, **changes)

    def segment(
        self, ends: Ends, sequence: int, acknowledged: int, flags: int, **more: Any
    ) -> bytes:
        """A forged TCP segment. ``ttl`` None copies what the packet itself has left here."""
        ttl, number = more.pop("ttl", 64), more.pop("identification", 0)
        body = packets.tcp(ends, sequence, acknowledged, flags, **more)
        return packets.ip(
            ends[0], ends[2], packets.TCP, body, self.ttl if ttl is None else ttl, number
        )


class Action(Protocol):
    """``word`` is for the log; ``needs_residual``: without a mark it would make no sense."""

    word: ClassVar[str]

    @property
    def needs_residual(self) -> bool: ...

    def apply(self, case: Case) -> Verdict: ...


# Silence


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing passes, or nothing after so many more packets or seconds since the mark.

    ``spread`` adds 0 to that many packets, chosen by seed and flow.
    """

    after_packets: int = 0
    spread: int = 0
    after_seconds: float = 0.0

    word: ClassVar[str] = "drop"

    @property
    def needs_residual(self) -> bool:
        return bool(self.after_packets or self.spread or self.after_seconds)

    def apply(self, case: Case) -> Verdict:
        if not self.needs_residual:
            return Verdict(None)
        grace = self.after_packets + int(case.flow_number * (self.spread + 1))
        # The packet that triggers is not one of those that are still let through.
        waiting = case.memory.count <= grace and (self.after_packets or self.spread)
        early = case.now - case.memory.since < self.after_seconds
        return case.passed() if waiting or early else Verdict(None)


@dataclass(frozen=True, slots=True)
class Lose:
    """Some packets are lost, at random or in bursts."""

    loss: Loss

    word: ClassVar[str] = "loss"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        lost = self.loss.takes(case.count, case.memory.kept.get("lost", False))
        case.memory.kept["lost"] = lost
        return Verdict(None) if lost else case.passed()


# Refusal and teardown


@dataclass(frozen=True, slots=True)
class Reject:
    """The filter's router says with ICMP that it will not carry this. Codes are IPv4's."""

    code: int = packets.ADMIN_PROHIBITED

    word: ClassVar[str] = "reject"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        if not packets.may_be_answered(case.packet):
            return Verdict(None)
        code = self.code
        if case.packet.version == 6:
            code = V6_CODES.get(code, packets.V6_ADMIN_PROHIBITED)
        answer = packets.unreachable(case.packet, case.router, code)
        return Verdict(None, injected=(Injection(case.back, answer),))


@dataclass(frozen=True, slots=True)
class Refuse:
    """A TCP segment is answered by RST|ACK as if its destination were closed; the rest passes."""

    word: ClassVar[str] = "reset"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        if case.packet.protocol != packets.TCP or not case.packet.first_fragment:
            return case.passed()
        if case.packet.tcp_flags & RST:  # nobody answers a reset, RFC 9293 section 3.10.7.1
            return Verdict(None)
        return Verdict(None, injected=(Injection(case.back, packets.reset(case.packet)),))


@dataclass(frozen=True, slots=True)
class InjectReset:
    """Forged resets race the server's answer.

    ``count`` 3 steps the sequence numbers as the Great Firewall does. ``genuine``: the packet that
    triggered passes (a filter beside the path), else it ends here. ``ttl`` None copies.
    """

    both: bool = False
    count: int = 1
    ttl: int | None = 64
    identification: int = 0
    genuine: bool = True

    word: ClassVar[str] = "inject"
    needs_residual: ClassVar[bool] = False
    STEPS: ClassVar[tuple[int, ...]] = (0, 1460, 4380)

    def apply(self, case: Case) -> Verdict:
        packet = case.packet
        if packet.protocol != packets.TCP or packet.tcp_flags & RST or not packet.first_fragment:
            return case.passed()
        seen = packet.sequence + packet.span
        # The receiver expects what follows the packet, if it gets the packet.
        ahead = seen if self.genuine else packet.sequence
        back = self._resets(case, case.back, packet.acknowledged, seen)
        onward = self._resets(case, case.direction, ahead, packet.acknowledged)
        to_client = back if case.direction == OUT else onward
        return Verdict(
            packet if self.genuine else None, injected=back + onward if self.both else to_client
        )

    def _resets(
        self, case: Case, direction: str, sequence: int, acknowledged: int
    ) -> tuple[Injection, ...]:
        onward = direction == case.direction
        ends = packets.forward(case.packet) if onward else packets.backward(case.packet)
        fields = {"ttl": self.ttl, "identification": self.identification}
        return tuple(
            Injection(
                direction, case.segment(ends, sequence + step, acknowledged, RST | ACK, **fields)
            )
            for step in self.STEPS[: self.count]
        )


@dataclass(frozen=True, slots=True)
class RewriteToReset:
    """The server's answers lose their payload and become RST|ACK; nothing else betrays it."""

    word: ClassVar[str] = "rewrite"
    needs_residual: ClassVar[bool] = True

    def apply(self, case: Case) -> Verdict:
        packet = case.packet
        if case.direction == OUT or packet.protocol != packets.TCP or not packet.first_fragment:
            return case.passed()
        return Verdict(packets.cut_to_reset(packet))


# Lies


@dataclass(frozen=True, slots=True)
class Forge:
    """A DNS query over UDP gets a forged answer; ``beside``: the true one comes too, later.

    Without addresses of the asked family the answer is empty, with ``code`` 3 NXDOMAIN.
    ``ttl`` is the IP packet's, None copies the query's; ``seconds`` is the record's.
    """

    addresses: tuple[str, ...] = ()
    code: int = 0
    beside: bool = False
    seconds: int = 60
    ttl: int | None = 64

    word: ClassVar[str] = "forge"
    needs_residual: ClassVar[bool] = False
    A: ClassVar[int] = 1
    AAAA: ClassVar[int] = 28

    def __post_init__(self) -> None:
        for address in self.addresses:
            ipaddress.ip_address(address)  # raises

    def apply(self, case: Case) -> Verdict:
        packet = case.packet
        asked = content.question(packet.payload) if packet.protocol == packets.UDP else None
        if asked is None:
            return case.passed()
        ends = packets.backward(packet)
        body = packets.udp(*ends, self._answer(packet.payload, asked))
        ttl = case.ttl if self.ttl is None else self.ttl
        answer = packets.ip(ends[0], ends[2], packets.UDP, body, ttl)
        return Verdict(packet if self.beside else None, injected=(Injection(case.back, answer),))

    def _answer(self, query: bytes, asked: content.Question) -> bytes:
        length = {self.A: 4, self.AAAA: 16}.get(asked.kind)
        given = [ipaddress.ip_address(address).packed for address in self.addresses]
        records = [address for address in given if len(address) == length and not self.code]
        # QR, RA and the query's RD; no EDNS, which a forger seldom bothers with.
        flags = bytes((0x80 | (query[2] & 0x01), 0x80 | self.code))
        counts = b"\0\1" + len(records).to_bytes(2, "big") + bytes(4)
        message = query[:2] + flags + counts + query[12 : asked.end]
        for address in records:
            fixed = asked.kind.to_bytes(2, "big") + b"\0\1" + self.seconds.to_bytes(4, "big")
            message += b"\xc0\x0c" + fixed + len(address).to_bytes(2, "big") + address
        return message


@dataclass(frozen=True, slots=True)
class BlockPage:
    """The client gets a page and a FIN in the server's name.

    In the path nothing of the connection reaches the server any more, which gets a reset;
    ``genuine``: from beside the path it races the true answer. ``location`` makes it a 302.
    """

    body: str = "<html>This resource is blocked</html>"
    location: str = ""
    genuine: bool = False

    word: ClassVar[str] = "page"
    needs_residual: ClassVar[bool] = True

    def apply(self, case: Case) -> Verdict:
        packet = case.packet
        payload = packet.payload
        if packet.protocol != packets.TCP or case.direction == IN or not payload:
            return case.passed() if self.genuine else Verdict(None)
        ends, own = packets.backward(packet), packets.forward(packet)
        number, seen = packet.acknowledged, packet.sequence + len(payload)
        page = self._page()
        told = case.segment(ends, number, seen, PSH | ACK, payload=page, window=65535)
        ended = case.segment(ends, number + len(page), seen, FIN | ACK, window=65535)
        injected = (Injection(IN, told), Injection(IN, ended))
        if self.genuine:
            return case.passed(injected=injected)
        cut = case.segment(own, packet.sequence, number, RST | ACK)
        return Verdict(None, injected=(*injected, Injection(OUT, cut)))

    def _page(self) -> bytes:
        status = f"302 Found\r\nLocation: {self.location}" if self.location else "200 OK"
        body = self.body.encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}"
        return f"{head}\r\nConnection: close\r\n\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Redirect:
    """Packets go to another address (and port), answers come back in the asked one's name.

    The rule must match a connection from its first packet on. With a TLS server behind it that has
    an authority of its own this is a man in the middle, with an HTTP server a portal, with a
    resolver DNS interception. ICMP errors of the other address are not translated.
    """

    address: str
    port: int = 0  # 0: the asked one

    word: ClassVar[str] = "redirect"
    needs_residual: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ipaddress.ip_address(self.address)  # raises

    def apply(self, case: Case) -> Verdict:
        address = ipaddress.ip_address(self.address).packed
        if case.direction == IN or len(address) != len(case.packet.destination):
            return case.passed()
        place = (address, self.port or case.packet.destination_port)
        return Verdict(packets.with_end(case.packet, place, source=False))


# Quality


@dataclass(frozen=True, slots=True)
class Police:
    """A token bucket per direction: what exceeds ``burst`` and ``rate`` bytes a second is lost."""

    rate: float
    burst: float

    word: ClassVar[str] = "police"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        tokens, filled = case.memory.kept.get(case.direction, (self.burst, case.now))
        tokens = min(self.burst, tokens + (case.now - filled) * self.rate)
        size = len(case.packet.data)
        fits = tokens >= size
        case.memory.kept[case.direction] = (tokens - size * fits, case.now)
        return case.passed() if fits else Verdict(None)


@dataclass(frozen=True, slots=True)
class Allow:
    """A server's limit: ``burst`` packets at once in each direction, whatever their size, and one
    more every ``seconds``; the others are lost."""

    seconds: float
    burst: int = 1

    word: ClassVar[str] = "allow"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        tokens, filled = case.memory.kept.get(case.direction, (float(self.burst), case.now))
        tokens = min(self.burst, tokens + (case.now - filled) / self.seconds)
        passes = tokens >= 1
        case.memory.kept[case.direction] = (tokens - passes, case.now)
        return case.passed() if passes else Verdict(None)


@dataclass(frozen=True, slots=True)
class Shape:
    """A queue per direction of ``depth`` bytes that drains ``rate`` bytes a second."""

    rate: float
    depth: float

    word: ClassVar[str] = "shape"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        free = max(case.now, case.memory.kept.get(case.direction, case.now))
        size = len(case.packet.data)
        if (free - case.now) * self.rate + size > self.depth:
            return Verdict(None)
        free += size / self.rate
        case.memory.kept[case.direction] = free
        return case.passed(delay=free - case.now)


@dataclass(frozen=True, slots=True)
class Delay:
    """Later by ``seconds`` and up to ``jitter`` more; packets of one direction keep their order."""

    seconds: float = 0.0
    jitter: float = 0.0

    word: ClassVar[str] = "delay"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        due = case.now + self.seconds + self.jitter * case.number
        # A microsecond apart, so that the last bit of a sum cannot make packets change places.
        due = max(due, case.memory.kept.get(case.direction, 0.0) + 1e-6)
        case.memory.kept[case.direction] = due
        return case.passed(delay=due - case.now)


@dataclass(frozen=True, slots=True)
class Reorder:
    """A share of the packets is held back by ``seconds``, so that later ones overtake them."""

    share: float
    seconds: float

    word: ClassVar[str] = "reorder"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        return case.passed(delay=self.seconds if case.number < self.share else 0.0)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A share of the packets arrives twice."""

    share: float

    word: ClassVar[str] = "duplicate"
    needs_residual: ClassVar[bool] = False

    def apply(self, case: Case) -> Verdict:
        return case.passed(copies=2 if case.number < self.share else 1)


ALL: Sequence[type] = (
    Drop,
    Lose,
    Reject,
    Refuse,
    InjectReset,
    RewriteToReset,
    Forge,
    BlockPage,
    Redirect,
    Police,
    Allow,
    Shape,
    Delay,
    Reorder,
    Duplicate,
)
