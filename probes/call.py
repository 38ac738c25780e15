"""Does a call survive at a relay? The whole shape of one on one 5-tuple, and what differs from it.

A filter may let a few Bindings pass and swallow the flow once it looks like a call. So one flow
does what a caller does: Bindings, an ICE check, an Allocate without a token, then a voice that
nobody hears, with a Binding every second that the relay answers: a canary. Beside it, packet by
packet and each from a source port of its own, go the canaries alone, the canaries among random
bytes of the same sizes at the same times, and the call once more to the operator's own server.
What dies in the first alone dies of its shape.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from probes.lanes import Lane, Part, Role, alone
from probes.model import Fact, Failure, Step
from probes.net.environment import Beside
from probes.net.errors import NotMeasured, Refusal
from probes.net.streams import Played
from probes.trail import Peer, Trail
from probes.twin import Dress as TwinDress
from probes.twin import shaped
from probes.wire import dtls, rtp, stun, twin
from probes.wire.error import WireError

Profile = Literal["voip20", "voip60", "voip120"]


@dataclass(frozen=True, slots=True)
class Voice:
    """``interval``: seconds between two packets; ``size``: bytes of each."""

    interval: float
    size: int


VOICES = MappingProxyType(
    {"voip20": Voice(0.02, 100), "voip60": Voice(0.06, 250), "voip120": Voice(0.12, 120)}
)
"""What calls send: stun-callquality 3.5 in the project's notes."""
LENGTH = 20.0
"""Seconds of the voice: some filters let a flow live for ten."""
CANARIES = 20
"""At least so many in a run, however short; in one of this length or more, one a second."""
OPENING = (0.0, 0.3)
"""Seconds at which every flow's first canaries leave."""
ICE, ALLOCATE, HELLO, TALK = 0.5, (0.6, 0.9), 1.1, 1.3
"""Seconds at which a call's other first words leave; one Allocate may get lost."""
SIZES = (20, 60, 100, 250, 500, 1000)
"""Bytes of padded Bindings, from as small as there are to what passes every path."""
PER_SIZE = 5
LAST_ANSWERS = 2.0
"""Seconds after the last packet for which answers are waited for."""
LATE = 1.0
"""Seconds by which a packet may leave late: only their order means anything."""
NEEDED = 0.6
"""Share of the call's canaries that must be answered for it to work: three of five."""
_NO_PROTOCOL = 0xC0
"""The first bytes from here on begin neither STUN, DTLS, TURN nor RTP (RFC 9443 section 3)."""


@dataclass(frozen=True, slots=True)
class CallProbe:
    """Arms: ``call``, ``canary``, ``random``, and ``twin`` (the call there) or else ``control``
    (canaries alone at a public STUN server). Facts of each, with its name before them: those of
    ``lanes.Lane.facts``. ``allocate_requests``, ``allocate_answered``, ``allocate_error_code``,
    ``realm``, ``software``, ``ice_answered``; ``sizes_answered``, ``sizes_silent``: padded Bindings
    of which most were answered, or none, each size from a port of its own, and the twin's
    (``twin_sizes_answered``, ``twin_sizes_silent``); ``twin_received``: how many requests came
    there; ``requests`` and ``answered`` are the call's canaries.

    ``seconds`` 0 is twenty; ``fast``: the server may be sent a voice's rate; ``dtls``: a browser's
    ClientHello comes before the voice.
    """

    kind: ClassVar[str] = "call"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = False
    research: ClassVar[bool] = True

    profile: Profile = "voip60"
    seconds: float = 0.0
    fast: bool = False
    dtls: bool = False

    def __post_init__(self) -> None:
        if self.seconds and not 2 <= self.seconds <= 60:
            raise ValueError("seconds must be from 2 to 60, or 0 for twenty")

    @property
    def voice(self) -> Voice:
        return VOICES[self.profile]

    @property
    def length(self) -> float:
        """Seconds of the voice."""
        return self.seconds or LENGTH

    @property
    def stream_packets(self) -> tuple[int, float]:
        """How many packets go to the target in one run, and at most how many a second."""
        voice = int(self.length / self.voice.interval + 1e-6)
        canaries = len(_canaries(self.length))
        return 2 * (voice + 4) + 3 * canaries + PER_SIZE * len(SIZES), 2 / self.voice.interval

    @property
    def bytes_per_run(self) -> int:
        voice = int(self.length / self.voice.interval) * (28 + self.voice.size)
        canaries = len(_canaries(self.length)) * 2 * 60
        sizes = PER_SIZE * (sum(SIZES) + len(SIZES) * 100)
        # The voice goes to the relay in two arms, to the twin in one and comes back from there.
        return 4 * (voice + canaries + sizes)

    def subject(self, host: str) -> str:
        return self.profile

    async def run(self, trail: Trail, peer: Peer) -> None:
        streams = trail.env.streams
        if streams is None:
            raise NotMeasured("no_engine")
        lanes = _lanes(self, trail, peer)
        last = max(part.at for lane in lanes for part in lane.parts)
        async with trail.step(Step.STREAM, last + LAST_ANSWERS + 30.0):
            wanted = [lane.stream(last + LAST_ANSWERS) for lane in lanes]
            played = await streams.play(wanted, trail.env.source)
            for lane, its in zip(lanes, played, strict=True):
                lane.settle(its)
                trail.count(*lane.traffic(its))
            if any(it.overflowed or max(it.late, default=0.0) > LATE for it in played):
                raise NotMeasured("probe_fault")
            _note(trail, lanes)
            _judge(lanes, played)


PROBE = CallProbe


def _lanes(probe: CallProbe, trail: Trail, peer: Peer) -> list[Lane]:
    """The call first, then what differs from it in one thing. They take turns: each arm's packets
    leave between those of the others."""
    turn = probe.voice.interval / 4
    shape = _shape(probe)
    canaries = _canaries(probe.length)
    relay = _Relay(trail)
    arms = [
        relay.lane("call", peer.address, peer.port, [*canaries, *shape], 0.0),
        relay.lane("canary", peer.address, peer.port, canaries, turn),
        relay.lane("random", peer.address, peer.port, [*canaries, *_random(shape)], 2 * turn),
    ]
    sizes = [(size, _spread(probe.length, number)) for number, size in enumerate(SIZES)]
    arms += [relay.sized(size, peer.address, peer.port, times) for size, times in sizes]
    beside = _beside(trail.env.beside, peer.address)
    if beside is not None and beside.key:
        echo = _Twin(trail, beside)
        arms.append(echo.lane("twin", [*canaries, *shape], 3 * turn))
        arms += [echo.sized(size, times) for size, times in sizes]
    elif beside is not None:
        slow = [part for part in canaries if part.at not in OPENING[1:]]
        every = max(1, round(1 / _gap(probe.length)))  # a third party is asked once a second
        arms.append(relay.lane("control", beside.address, beside.port, slow[::every], 3 * turn))
    return arms


# --- what is sent ------------------------------------------------------------------------------


def _canaries(length: float) -> list[Part]:
    gap = _gap(length)
    times = [*OPENING, *(TALK + gap / 2 + gap * n for n in range(int(length / gap + 1e-6)))]
    return [Part(at, Role.CANARY, b"") for at in times]


def _gap(length: float) -> float:
    """Seconds between two canaries."""
    return min(1.0, length / CANARIES)


def _spread(length: float, number: int) -> list[float]:
    """When the padded Bindings of one size leave, over the whole run; each size at its own time."""
    gap = length / PER_SIZE
    return [TALK + gap * (n + (number + 0.5) / len(SIZES)) for n in range(PER_SIZE)]


def _shape(probe: CallProbe) -> list[Part]:
    """What a caller sends beside its canaries; what is answered gets its id when it is sealed."""
    parts = [Part(ICE, Role.ICE, b""), *(Part(at, Role.ALLOCATE, b"") for at in ALLOCATE)]
    if probe.dtls:
        hello = dtls.client_hello(dtls.Dress.BROWSER, os.urandom(32))
        parts.append(Part(HELLO, Role.SAID, hello))
    start, source = int.from_bytes(os.urandom(2), "big"), int.from_bytes(os.urandom(4), "big")
    clock = int.from_bytes(os.urandom(4), "big")
    ticks = round(probe.voice.interval * rtp.CLOCK)
    for number in range(int(probe.length / probe.voice.interval + 1e-6)):
        payload = os.urandom(probe.voice.size - rtp.HEADER)
        at, clock = TALK + number * probe.voice.interval, clock + ticks
        voice = rtp.packet(start + number, clock, source, payload, first=not number)
        parts.append(Part(at, Role.SAID, voice))
    return parts


def _random(shape: Sequence[Part]) -> list[Part]:
    """Bytes of the same sizes at the same times that are nothing a call says."""
    return [Part(part.at, Role.SAID, _noise(part.size)) for part in shape]


def _noise(size: int) -> bytes:
    made = os.urandom(size)
    return bytes([made[0] | _NO_PROTOCOL]) + made[1:]


class _Relay:
    """Flows to servers that know nothing of us: what they answer is told by the id."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def lane(self, name: str, address: str, port: int, parts: Sequence[Part], late: float) -> Lane:
        made = sorted((self._filled(part, part.at + late) for part in parts), key=lambda p: p.at)
        return Lane(name, address, port, tuple(made), self._reader(name, made))

    def sized(self, size: int, address: str, port: int, times: Sequence[float]) -> Lane:
        seed = os.urandom(32)
        made = [
            Part(at, Role.CANARY, stun.binding_request(stun.Dress.BARE, os.urandom(12), seed, size))
            for at in times
        ]
        return Lane(f"size {size}", address, port, tuple(made), self._reader("", made))

    def _filled(self, part: Part, at: float) -> Part:
        one, seed = os.urandom(12), os.urandom(32)
        match part.role:
            case Role.CANARY:
                data = stun.binding_request(stun.Dress.BARE, one, seed)
            case Role.ICE:
                data = stun.binding_request(stun.Dress.ICE, one, seed)
            case Role.ALLOCATE:
                data = stun.allocate_request(one)
            case Role.SAID:
                data = part.data
        return Part(at, part.role, data)

    def _reader(self, name: str, parts: Sequence[Part]) -> Callable[[bytes], int]:
        asked = {p.data[8:20]: n for n, p in enumerate(parts) if p.role is not Role.SAID}

        def read(data: bytes) -> int:
            number = asked.get(data[8:20])
            if number is None:
                raise WireError(Failure.WRONG_ID, "of no request of this flow")
            answer = stun.read_answer(data, data[8:20])
            if name == "call":
                self._note(parts[number].role, answer)
            return number

        return read

    def _note(self, role: Role, answer: stun.Answer) -> None:
        """The mapped address is kept in memory for the vantage's own use; it is no fact."""
        facts = self._trail.facts
        if answer.mapped:
            self._trail.mapped = answer.mapped[0]
        if answer.software:
            facts["software"] = answer.software
        if role is Role.ALLOCATE:
            if answer.error_code is not None:
                facts["allocate_error_code"] = answer.error_code
            if answer.realm:
                facts["realm"] = answer.realm


class _Twin:
    """Flows to the operator's own server, which answers whatever is sealed, a voice as well."""

    def __init__(self, trail: Trail, beside: Beside) -> None:
        self._trail, self._beside, self._began = trail, beside, time.time()

    def lane(self, name: str, parts: Sequence[Part], late: float) -> Lane:
        return self._sealed(name, [Part(p.at + late, p.role, p.data) for p in parts], 0)

    def sized(self, size: int, times: Sequence[float]) -> Lane:
        return self._sealed(f"twin size {size}", [Part(at, Role.CANARY, b"") for at in times], size)

    def _sealed(self, name: str, parts: Sequence[Part], size: int) -> Lane:
        flow = int.from_bytes(os.urandom(3), "big")
        ordered = sorted(parts, key=lambda part: part.at)
        made = [
            Part(part.at, part.role, self._seal(part, flow, number, size))
            for number, part in enumerate(ordered)
        ]
        key, near = self._beside.key, self._began

        def read(data: bytes) -> int:
            offset = twin.IN_STUN if data[:1] < b"\x04" else twin.IN_DTLS
            answer = twin.read_answer(data, key, flow, offset, near)
            if answer.number >= len(made):
                raise WireError(Failure.WRONG_ID, "of no request of this flow")
            if name == "twin":
                known = self._trail.facts.get("twin_received", 0)
                self._trail.facts["twin_received"] = max(answer.received, int(known))  # type: ignore[arg-type] # ours: always int
            return answer.number

        return Lane(name, self._beside.address, self._beside.port, tuple(made), read)

    def _seal(self, part: Part, flow: int, number: int, size: int) -> bytes:
        """The seal stands where such a message is random: in an id, in a hello's random, in the
        voice, of which the header stays as it is."""
        key, at, seed = self._beside.key, self._began + part.at, os.urandom(32)
        if part.role is Role.SAID:
            request = twin.Request(flow, number, twin.IN_DTLS)
            return twin.sealed_request(part.data, twin.IN_DTLS, key, request, at)
        request = twin.Request(flow, number, twin.IN_STUN)
        if part.role is Role.ALLOCATE:
            whole = len(stun.allocate_request(bytes(12)))
            return stun.allocate_request(twin.tag(key, request, whole, at))
        dress = TwinDress.STUN_ICE if part.role is Role.ICE else TwinDress.STUN_BARE
        return shaped(dress, size, seed, request, at, key)


def _beside(known: Sequence[Beside], address: str) -> Beside | None:
    """The first that is reached over the same family."""
    return next((b for b in known if (":" in b.address) == (":" in address)), None)


# --- what came of it ---------------------------------------------------------------------------


def _note(trail: Trail, lanes: Sequence[Lane]) -> None:
    facts, call = trail.facts, lanes[0]
    arms = [lane for lane in lanes if " " not in lane.name]
    for lane in arms:
        facts |= lane.facts()
    facts["requests"], facts["answered"] = call.asked(Role.CANARY), call.answered(Role.CANARY)
    facts["allocate_requests"] = call.asked(Role.ALLOCATE)
    facts["allocate_answered"] = call.answered(Role.ALLOCATE)
    facts["ice_answered"] = bool(call.answered(Role.ICE))
    facts["unexpected"] = sum(lane.strays for lane in lanes)
    for before, whose in (("", "size "), ("twin_", "twin size ")):
        theirs = [lane for lane in lanes if lane.name.startswith(whose)]
        if theirs:
            facts |= _sizes(theirs, before)


def _sizes(lanes: Sequence[Lane], before: str) -> dict[str, Fact]:
    """Those of which most were answered, and of which none was; some lost tell nothing."""
    told: dict[str, list[str]] = {"answered": [], "silent": []}
    for lane in lanes:
        asked, answered = lane.asked(Role.CANARY), lane.answered(Role.CANARY)
        size = lane.name.rpartition(" ")[2]
        if asked and answered >= NEEDED * asked:
            told["answered"].append(size)
        elif asked == PER_SIZE and not answered:
            told["silent"].append(size)
    return {f"{before}sizes_{word}": tuple(sizes) for word, sizes in told.items()}


def _judge(lanes: Sequence[Lane], played: Sequence[Played]) -> None:
    """The word for a call that did not survive."""
    call = lanes[0]
    asked, answered = call.asked(Role.CANARY), call.answered(Role.CANARY)
    if not asked:
        raise Refusal(Failure.BLOCKED_LOCALLY, "this host lets no packet out")
    if answered >= NEEDED * asked and not alone(call).silent:
        return
    if answered:
        raise Refusal(Failure.LOSSY, f"{answered} of {asked} canaries in a call answered")
    if played[0].failures:
        raise Refusal(played[0].failures[0], f"{len(played[0].failures)} ICMP errors")
    raise TimeoutError(f"none of {asked} canaries in a call answered")
