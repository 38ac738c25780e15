"""A censor at work: packets and times in, verdicts out.

No socket, no clock, no global randomness. The same packets at the same times meet the same fate for
the same seed, in the router process as on a virtual clock.

Cost: the router asks every rule about every packet, so what needs only the header comes first, the
answer for an address is kept, and flows are followed only where a rule's match needs it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.lab import content
from tests.lab import packet as packets
from tests.lab.actions import IN, OUT, Case, Memory, Redirect, Verdict
from tests.lab.censor import PROTOCOLS, Censor, holds_name, networks
from tests.lab.chance import FlowKey, draw, draw_for
from tests.lab.content import Hello, Question, Request
from tests.lab.packet import ACK, SEQUENCE, SYN, Packet

# A middlebox forgets idle flows after about ten minutes (interference-methods 2.3).
FLOW_IDLE = 600.0
SWEEP = 4096  # packets between two searches for what may be forgotten
PIECES = 64  # segments out of order that are kept for one opening

Said = Hello | Question | Request | None


@dataclass(slots=True)
class Flow:
    """What is known of one flow. TCP's opening is collected until it can be read."""

    key: FlowKey
    started: float
    last: float
    packet_counts: dict[str, int] = field(default_factory=lambda: {OUT: 0, IN: 0})
    byte_counts: dict[str, int] = field(default_factory=lambda: {OUT: 0, IN: 0})
    segments: int = 0  # with payload, of the client's
    base: int | None = None  # sequence number of the client's first byte
    stream: bytes = b""
    pieces: dict[int, bytes] = field(default_factory=dict)
    opening: content.Opening | None = None
    spoke_stun: bool = False
    voice: content.Voice | None = None
    voices: int = 0  # of the client's, each the next one of the same source

    def count(self, packet: Packet, direction: str, now: float) -> None:
        self.last = now
        self.packet_counts[direction] += 1
        self.byte_counts[direction] += len(packet.data)
        if direction == OUT and packet.protocol == packets.TCP and packet.payload:
            self.segments += 1
        if direction == OUT and packet.protocol == packets.UDP:
            self.listen(packet.payload)

    def listen(self, payload: bytes) -> None:
        """Does it sound like a call?"""
        self.spoke_stun |= content.is_stun(payload)
        said, before = content.voice(payload), self.voice
        if said is None or not self.spoke_stun:
            return
        follows = before is not None and said.source == before.source
        self.voices += follows and said.number == (before.number + 1) & 0xFFFF
        self.voice = said

    def total(self, counts: dict[str, int], counting: str) -> int:
        return counts[OUT] + counts[IN] if counting == "both" else counts[counting]

    def read(self, packet: Packet) -> None:
        """Add a segment of the client's to the opening, unless that is known already."""
        payload = packet.payload
        if packet.tcp_flags & SYN:
            self.base = (packet.sequence + 1) & SEQUENCE
            return
        if self.opening or not payload:
            return
        if self.base is None:  # the rule is younger than the connection
            self.base = packet.sequence
        offset = (packet.sequence - self.base) & SEQUENCE
        if offset > content.LONGEST_OPENING or len(self.pieces) >= PIECES:
            return
        if len(payload) > len(self.pieces.get(offset, b"")):
            self.pieces[offset] = payload
        for start in sorted(self.pieces):
            if start > len(self.stream):
                break
            self.stream += self.pieces.pop(start)[len(self.stream) - start :]
        self.opening = content.opening(self.stream)
        if self.opening:
            self.stream, self.pieces = b"", {}

    def said_by(self, packet: Packet) -> Said:
        """What the opening says, if this is the segment that completes it, or repeats that."""
        if self.opening is None or self.base is None or not packet.payload:
            return None
        start = (packet.sequence - self.base) & SEQUENCE
        if start < self.opening.end <= start + len(packet.payload):
            return self.opening.said
        return None


Test = Callable[[Packet, str, "Flow | None", float], bool]


class Installed:
    """One rule with everything it remembers. ``now`` may start anywhere but never goes back."""

    def __init__(self, rule: Censor, now: float = 0.0) -> None:
        self.rule = rule
        self.added = now
        self.hits = 0  # packets that the action was done to
        self.taken = 0  # packets among them that did not pass
        wanted = rule.match
        self._remote, self._exempt = networks(wanted.remote), networks(wanted.exempt)
        self._protocols = PROTOCOLS[wanted.protocol]
        self._reads_stream, self._counts = wanted.reads_stream, wanted.counts
        # Only what the client says can trigger it, and nothing else needs to be counted.
        datagrams = wanted.dtls or wanted.quic
        said = wanted.reads_stream or datagrams or wanted.direction == OUT
        self._outward = said and not wanted.counts
        self._known: dict[bytes, bool] = {}
        self._flows: dict[FlowKey, Flow] = {}
        self._marks: dict[tuple[object, ...], Memory] = {}
        self._common = Memory(now)
        self._bursts: dict[tuple[bytes, str], list[tuple[float, FlowKey]]] = {}
        self._translated: dict[FlowKey, tuple[bytes, int]] = {}
        self._looks, self._weighs = self._tests()
        self._age = 0

    def decide(
        self, packet: Packet, direction: str, now: float, ttl: int = 64, router: bytes = bytes(4)
    ) -> Verdict | None:
        """None: the packet is none of this rule's business."""
        if direction == OUT:
            address, port = packet.destination, packet.destination_port
        else:
            address, port = packet.source, packet.source_port
        if not self.cares(direction, packet.protocol, address, port):
            return None
        concerned = self._concerns(packet.protocol, address, port)
        self._forget(now)
        key = flow_key(packet, direction)
        if direction == IN and (asked := self._translated.get(key)):
            return Verdict(packets.with_end(packet, asked, source=True))
        flow = self._follow(packet, direction, key, now) if concerned else None
        looks = concerned and all(test(packet, direction, flow, now) for test in self._looks)
        memory = self._marked(key, now)
        if memory is None:
            if not (looks and self._weigh(packet, direction, flow, now, key)):
                return None
            memory = self._mark(key, now)
        elif self.rule.restart:
            memory.until = now + self.rule.seconds
        acts = self.rule.acts
        if acts != "both" and not (looks if acts == "matching" else acts == direction):
            return None
        return self._act(packet, direction, now, ttl, router, key, memory)

    # The packet's header

    def cares(self, direction: str, protocol: int, address: bytes, port: int) -> bool:
        """May it do something to a packet that way of the server with this address and port? False
        is certain."""
        if self._marks or self._translated:
            return True
        if direction == IN and self._outward:
            return False
        return self._concerns(protocol, address, port)

    def _concerns(self, protocol: int, address: bytes, port: int) -> bool:
        wanted = self.rule.match
        if wanted.ports and port not in wanted.ports:
            return False
        if self._protocols and protocol not in self._protocols:
            return False
        if wanted.family and wanted.family != (4 if len(address) == 4 else 6):
            return False
        if not self._remote and not self._exempt:
            return True
        held = self._known.get(address)
        if held is None:
            held = not self._remote or any(network.holds(address) for network in self._remote)
            held = held and not any(network.holds(address) for network in self._exempt)
            if len(self._known) < SWEEP:
                self._known[address] = held
        return held

    # Its flow

    def _follow(self, packet: Packet, direction: str, key: FlowKey, now: float) -> Flow | None:
        tcp = packet.protocol == packets.TCP
        if not (self._counts or (tcp and self._reads_stream)) or not packet.first_fragment:
            return None
        if not tcp and packet.protocol != packets.UDP:
            return None
        flow = self._flows.get(key)
        opens = tcp and direction == OUT and packet.tcp_flags & (SYN | ACK) == SYN
        if flow and opens and flow.base not in (None, (packet.sequence + 1) & SEQUENCE):
            flow = None  # the port was used again
        if flow is None or now - flow.last > FLOW_IDLE:
            flow = self._flows[key] = Flow(key, now, now)
        flow.count(packet, direction, now)
        if tcp and direction == OUT and (opens or self._reads_stream):
            flow.read(packet)
        return flow

    def _forget(self, now: float) -> None:
        self._age += 1
        if self._age % SWEEP:
            return
        self._flows = {k: f for k, f in self._flows.items() if now - f.last <= FLOW_IDLE}
        self._marks = {k: m for k, m in self._marks.items() if now < m.until}
        length = self.rule.match.burst_seconds
        self._bursts = {k: b for k, b in self._bursts.items() if now - b[-1][0] <= length}

    # What triggers

    def _tests(self) -> tuple[tuple[Test, ...], tuple[Test, ...]]:
        """Only what this match sets. Looks are about the packet itself, weighs about its flow."""
        wanted = self.rule.match
        looks: list[Test] = []
        weighs: list[Test] = []
        if wanted.direction != "both":
            looks.append(lambda packet, direction, flow, now: direction == wanted.direction)
        if wanted.window:
            looks.append(lambda packet, direction, flow, now: self._open(now))
        if wanted.size:
            least, most = wanted.size
            looks.append(lambda packet, *_: least <= len(packet.payload) <= most)
        if wanted.payload:
            parts = tuple((at, bytes.fromhex(text)) for at, text in wanted.payload)
            looks.append(lambda packet, *_: _contains(packet.payload, parts))
        if wanted.stun:
            looks.append(lambda packet, *_: content.is_stun(packet.payload))
        if wanted.dtls or wanted.quic or wanted.reads_stream:
            looks.append(lambda packet, direction, flow, now: self._reads(packet, direction, flow))
        for limit, read in (
            (
                wanted.packets_over,
                lambda flow, now: flow.total(flow.packet_counts, wanted.counting),
            ),
            (wanted.bytes_over, lambda flow, now: flow.total(flow.byte_counts, wanted.counting)),
            (wanted.segments_over, lambda flow, now: flow.segments),
            (wanted.voice_over, lambda flow, now: flow.voices),
            (wanted.age_over, lambda flow, now: now - flow.started),
        ):
            if limit is not None:
                weighs.append(_over(limit, read))
        if wanted.burst_over is not None:
            weighs.append(self._bursting)
        return tuple(looks), tuple(weighs)

    def _weigh(
        self, packet: Packet, direction: str, flow: Flow | None, now: float, key: FlowKey
    ) -> bool:
        if self.rule.probability < 1 and draw_for(self.rule.seed, key) >= self.rule.probability:
            return False
        return all(test(packet, direction, flow, now) for test in self._weighs)

    def _open(self, now: float) -> bool:
        start, end = self.rule.match.window or (0.0, 0.0)
        return start <= (now - self.added) % self.rule.match.period < end

    def _reads(self, packet: Packet, direction: str, flow: Flow | None) -> bool:
        said = self._said(packet, direction, flow)
        wanted = self.rule.match
        if isinstance(said, Hello):
            if wanted.fingerprint and said.fingerprint not in wanted.fingerprint:
                return False
            if wanted.extension is not None and wanted.extension not in said.extensions:
                return False
            patterns, name = wanted.sni, said.name
            if wanted.host or wanted.dns:
                return False
        elif isinstance(said, Question):
            patterns, name = wanted.dns, said.name
        elif isinstance(said, Request):
            patterns, name = wanted.host, said.host
        else:
            return False
        if holds_name(wanted.exempt_names, name):
            return False
        # A rule about hellos as such needs no name; one about other names is not met by this.
        return (
            holds_name(patterns, name) if patterns else isinstance(said, Hello) and not wanted.sni
        )

    def _said(self, packet: Packet, direction: str, flow: Flow | None) -> Said:
        if direction == IN or not packet.first_fragment:
            return None
        if packet.protocol == packets.UDP:
            wanted = self.rule.match
            if wanted.dns:
                return content.question(packet.payload)
            if wanted.quic:
                return content.quic_hello(packet.payload)
            return content.dtls_hello(packet.payload) if wanted.dtls else None
        return flow.said_by(packet) if flow else None

    def _bursting(self, packet: Packet, direction: str, flow: Flow | None, now: float) -> bool:
        """Note a handshake or a new flow, and say whether it is one too many."""
        if flow is None or direction == IN:
            return False
        wanted = self.rule.match
        name = ""
        if wanted.reads_stream or wanted.dtls:
            said = self._said(packet, direction, flow)
            name = said.name if isinstance(said, Hello | Question) else ""
        elif packet.protocol == packets.TCP:
            if packet.tcp_flags & (SYN | ACK) != SYN:
                return False
        elif flow.packet_counts[OUT] > 1:
            return False
        recent = self._bursts.setdefault((flow.key[2], name), [])
        recent[:] = [(at, key) for at, key in recent if now - at <= wanted.burst_seconds]
        if all(key != flow.key for _, key in recent):  # a retransmission is no second one
            recent.append((now, flow.key))
        run = 1
        for (before, _), (at, _) in reversed(list(itertools.pairwise(recent))):
            if at - before > wanted.burst_gap:
                break
            run += 1
        return run > (wanted.burst_over or 0)

    # What stays

    def _scope(self, key: FlowKey) -> tuple[object, ...]:
        client, _, server, port, protocol = key
        match self.rule.residual:
            case "4-tuple":
                return key
            case "3-tuple":
                return (client, server, port, protocol)
            case _:
                return (client, server)

    def _marked(self, key: FlowKey, now: float) -> Memory | None:
        if not self._marks:
            return None
        scope = self._scope(key)
        memory = self._marks.get(scope)
        if memory and now >= memory.until:
            del self._marks[scope]
            return None
        return memory

    def _mark(self, key: FlowKey, now: float) -> Memory:
        if not self.rule.residual:
            return self._common
        memory = self._marks[self._scope(key)] = Memory(now, now + self.rule.seconds)
        return memory

    # What is done

    def _act(
        self,
        packet: Packet,
        direction: str,
        now: float,
        ttl: int,
        router: bytes,
        key: FlowKey,
        memory: Memory,
    ) -> Verdict | None:
        rule = self.rule
        if rule.per_packet < 1 and draw(rule.seed ^ 0x5EED, self.hits) >= rule.per_packet:
            self.hits += 1
            return None
        case = Case(packet, direction, now, ttl, router, memory, rule.seed, key, self.hits)
        verdict = rule.action.apply(case)
        memory.count += 1
        self.hits += 1
        self.taken += verdict.packet is None
        if isinstance(rule.action, Redirect) and verdict.packet is not packet and verdict.packet:
            self._translated[flow_key(verdict.packet, OUT)] = (key[2], key[3])
        return verdict


def flow_key(packet: Packet, direction: str) -> FlowKey:
    """Later fragments have no ports: they belong to a scope of their own, but for 2-tuples."""
    if direction == OUT:
        own = packet.source, packet.source_port
        return (*own, packet.destination, packet.destination_port, packet.protocol)
    own = packet.destination, packet.destination_port
    return (*own, packet.source, packet.source_port, packet.protocol)


def _contains(payload: bytes, parts: tuple[tuple[int, bytes], ...]) -> bool:
    return all(payload[at : at + len(part)] == part for at, part in parts)


def _over(limit: float, read: Callable[[Flow, float], float]) -> Test:
    return lambda packet, direction, flow, now: flow is not None and read(flow, now) > limit
