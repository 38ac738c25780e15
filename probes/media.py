"""Would a call be heard? A paced train of STUN that each server answers, packet by packet.

One packet that comes back says that a relay is there; a voice needs nearly all of them, in time. So
a train goes to the relay in a call's rhythm, each packet with an id of its own, and its twin goes
interleaved to where nothing is restricted: what both lose is the line's, what only the relay's
loses is not. A slow companion from another port tells a server that limits a train's rate from a
way that loses packets, and a flow that stays open for hours one that is old from one that is new.
All figures are of the round trip, except where the operator's own server counts (probes/twin.py).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

from probes.model import Failure, Step
from probes.net.environment import Beside
from probes.net.errors import NotMeasured, Refusal
from probes.net.knock import knock
from probes.net.streams import Played, Send, Stream, Streams
from probes.stun import note_answer, round_trip_bytes
from probes.trail import Peer, Trail
from probes.trains import Lane, distribution, disturbed, every, start_of
from probes.twin import Dress as TwinDress
from probes.twin import ask_tally, shaped
from probes.wire import paired, quality, stun, twin
from probes.wire.badness import sounds_bad
from probes.wire.error import WireError
from probes.wire.quality import Packet, Quality

Profile = Literal["keepalive", "voip20", "voip60", "voip120"]


@dataclass(frozen=True, slots=True)
class Pace:
    """``interval``: seconds between two packets; ``size``: bytes of each with its padding, 0 for as
    small as the dress makes it; ``seconds``: how long by default; ``sound``: seconds of a voice in
    a packet of the call that is estimated."""

    interval: float
    size: int
    seconds: float
    sound: float


PACES = MappingProxyType(
    {
        "keepalive": Pace(1.0, 0, 120.0, 0.02),
        "voip20": Pace(0.02, 100, 30.0, 0.02),
        "voip60": Pace(0.06, 250, 30.0, 0.06),
        "voip120": Pace(0.12, 120, 30.0, 0.12),
    }
)
"""What calls send: stun-callquality 3.5 in the project's notes."""

LAST_ANSWERS = 2.0
"""Seconds after the last packet for which answers are waited for."""
SLOW = 1.0
"""Seconds between packets to whoever is asked as a stranger: a third party, or the companion."""
LONG = 10.0
"""Seconds between packets of the flow that stays open."""
FIRST = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Seconds at which a fast train's first questions leave: where none is answered, no train goes."""
KNOCKS = 1 / 8
"""Seconds between two SYNs to the owner's other servers, in turn, beside a fast train."""
HALF = 0.5
_TWIN_DRESSES = {
    stun.Dress.BARE: TwinDress.STUN_BARE,
    stun.Dress.ICE: TwinDress.STUN_ICE,
    stun.Dress.RFC3489: TwinDress.STUN_RFC3489,
    stun.Dress.APP: TwinDress.STUN_APP,
}


@dataclass(frozen=True, slots=True)
class MediaProbe:
    """Facts: those of probes/wire/quality.py, of the train; with a name before them of what ran
    beside it, ``twin_`` or ``stun_``, and ``tcp_`` of connections to other servers of the owner's;
    with the same name those of probes/wire/paired.py, what the two together say.
    ``companion_requests``, ``companion_answered``, ``companion_bad_ratio``; ``long_requests``,
    ``long_answered``; ``padded``: did the server take packets of a voice's size?
    ``twin_up_loss_ratio``, ``twin_down_loss_ratio``, ``one_way`` (``up``, ``down``): which way
    packets were lost, as the operator's own server counted. ``rtt_buckets``, ``rtt_sum_seconds``:
    all round trips, by ``quality.RTT_BOUNDS``.

    ``seconds`` 0: as long as the profile says; ``spacing`` 0: seconds between two packets as it
    says. ``fast``: the server may be sent a voice's rate.
    """

    kind: ClassVar[str] = "media"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = False

    profile: Profile = "keepalive"
    seconds: float = 0.0
    spacing: float = 0.0
    fast: bool = False
    dress: stun.Dress = stun.Dress.BARE

    def __post_init__(self) -> None:
        if self.seconds and not 2 <= self.seconds <= 300:
            raise ValueError("seconds must be from 2 to 300, or 0 for the profile's own")
        if self.spacing and not 0.02 <= self.spacing <= 10:
            raise ValueError("spacing must be from 0.02 to 10, or 0 for the profile's own")
        if self.spacing and self.fast:
            raise ValueError("fast is for the pace of a voice: not with a spacing of its own")

    @property
    def research(self) -> bool:
        """A voice's rate is what no app sends to a server that it is not in a call over."""
        return self.profile != "keepalive"

    @property
    def pace(self) -> Pace:
        pace = PACES[self.profile]
        return replace(pace, interval=self.spacing) if self.spacing else pace

    @property
    def length(self) -> float:
        """Seconds from its first packet to its last."""
        return self.seconds or self.pace.seconds

    @property
    def stream_packets(self) -> tuple[int, float]:
        """How many packets go to the target in one run, and at most how many a second."""
        train = int(self.length / self.pace.interval) + 1
        beside = train + int(self.length / SLOW) + 2 * len(FIRST) if self.research else 0
        return train + beside + int(self.length / LONG) + 1, 1 / self.pace.interval

    @property
    def bytes_per_run(self) -> int:
        each = round_trip_bytes(self.dress, self.pace.size)
        train, long = int(self.length / self.pace.interval), int(self.length / LONG)
        slow = 3 * int(self.length / SLOW) if self.research else 0
        return 2 * train * each + (long + slow) * round_trip_bytes(self.dress)

    def subject(self, host: str) -> str:
        return self.profile

    async def run(self, trail: Trail, peer: Peer) -> None:
        streams = trail.env.streams
        if streams is None:
            raise NotMeasured("no_engine")
        async with trail.step(Step.STREAM, self.length + 30.0):
            await _Run(self, trail, peer, streams).play()


PROBE = MediaProbe


class _Run:
    """One run at one address."""

    def __init__(self, probe: MediaProbe, trail: Trail, peer: Peer, streams: Streams) -> None:
        self._probe, self._trail, self._peer, self._streams = probe, trail, peer, streams
        self._beside = _beside(trail.env.beside, peer.address)
        self._heard: list[twin.Answer] = []
        self._twin_flow = int.from_bytes(os.urandom(3), "big")

    async def play(self) -> None:
        probe, facts = self._probe, self._trail.facts
        facts["profile"] = probe.profile
        padded = probe.pace.size > 0 and await self._accepts_padding()
        if probe.pace.size:
            facts["padded"] = padded
        lanes = self._lanes(padded)
        knocking = asyncio.create_task(self._knock())
        try:
            played = await self._played(lanes)
            knocks = await knocking
        finally:
            knocking.cancel()
        if disturbed(played, probe.pace.interval):
            raise NotMeasured("probe_fault")
        self._note(lanes, played)
        self._note_knocks(lanes[0].packets, knocks)
        await self._note_directions(lanes)
        self._judge(lanes[0], played[0])

    async def _accepts_padding(self) -> bool:
        """Ask first, in both sizes: where nothing answers no train is sent."""
        lanes = [self._stun_lane("", FIRST, 0), self._stun_lane("", FIRST, self._probe.pace.size)]
        played = await self._played(lanes, shown=False)
        small, large = (any(p.rtt is not None for p in lane.packets) for lane in lanes)
        if not small and not large:
            self._trail.facts["requests"] = 2 * len(FIRST)
            self._trail.facts["answered"] = 0
            self._fail(lanes[0], played[0])
        return large

    async def _played(self, lanes: list[Lane], *, shown: bool = True) -> list[Played]:
        last = max(send.at for lane in lanes for send in lane.stream.sends)
        lasts = last + LAST_ANSWERS
        wanted = [
            Stream(s.address, s.port, s.sends, lasts, s.flow) for s in (i.stream for i in lanes)
        ]
        watch = self._watch(lanes) if self._trail.env.watch is not None and shown else None
        played = await self._streams.play(wanted, self._trail.env.source, watch)
        start = start_of(wanted, played)
        for lane, its in zip(lanes, played, strict=True):
            for _ in lane.settle(its, start):
                await asyncio.sleep(0)
            self._count(lane.stream, its)
        return played

    def _watch(self, lanes: list[Lane]) -> Callable[[Sequence[Played]], None]:
        show = self._trail.env.watch
        assert show is not None

        def watched(played: Sequence[Played]) -> None:
            start = start_of([lane.stream for lane in lanes], played)
            figures: dict[str, Quality] = {}
            for lane, its in zip(lanes, played, strict=True):
                now = Lane(lane.name, lane.stream, lane.read)
                for _ in now.settle(its, start):
                    pass
                if now.packets:
                    figures[lane.name] = quality.quality(now.packets, self._probe.pace.sound)
            show(figures)

        return watched

    def _count(self, stream: Stream, played: Played) -> None:
        header = 48 if ":" in stream.address else 28
        sent = [send for send, at in zip(stream.sends, played.sent, strict=False) if at]
        self._trail.count(
            len(sent),
            len(played.received),
            sum(len(send.data) + header for send in sent),
            sum(len(it.data) + header for it in played.received),
        )

    def _lanes(self, padded: bool) -> list[Lane]:
        """The train first, then what runs beside it."""
        probe, pace = self._probe, self._probe.pace
        train = every(pace.interval, probe.length)
        half = pace.interval / 2
        firsts = paired.turns(len(train), os.urandom(len(train) // 8 + 2))
        ours = [at if first else at + half for at, first in zip(train, firsts, strict=True)]
        theirs = [at + half if first else at for at, first in zip(train, firsts, strict=True)]
        lanes = [self._stun_lane("target", ours, pace.size if padded else 0)]
        if self._beside is not None:
            lanes.append(self._control_lane(self._beside, lanes[0].stream, theirs))
        if probe.research and (self._beside is None or not self._beside.key):
            lanes.append(self._dress_lane(theirs, pace.size if padded else 0))
        slow = every(SLOW, probe.length, SLOW / 3)
        if probe.research:
            lanes.append(self._stun_lane("companion", slow, 0))
        flow = f"{self._peer.address} {self._peer.port} {probe.dress}"
        lanes.append(self._stun_lane("long", every(LONG, probe.length, 2 * SLOW / 3), 0, flow))
        return lanes

    def _stun_lane(self, name: str, times: Sequence[float], size: int, flow: str = "") -> Lane:
        where, dress = (self._peer.address, self._peer.port), self._probe.dress
        return self._questions(name, where, dress, times, size, flow, ours=True)

    def _questions(
        self,
        name: str,
        where: tuple[str, int],
        dress: stun.Dress,
        times: Sequence[float],
        size: int,
        flow: str = "",
        *,
        ours: bool = False,
    ) -> Lane:
        """Binding requests, each with an id of its own. ``ours``: its answers are the target's."""
        ids = [os.urandom(12) for _ in times]
        numbers = {one: number for number, one in enumerate(ids)}
        seed = os.urandom(32)
        requests = [stun.binding_request(dress, one, seed, size) for one in ids]
        legacy = requests[0][4:8] if dress is stun.Dress.RFC3489 else b""

        def read(data: bytes) -> int:
            number = numbers.get(data[8:20])
            if number is None:
                raise WireError(Failure.WRONG_ID, "of no packet of this train")
            answer = stun.read_answer(data, ids[number], legacy_prefix=legacy)
            if ours:
                note_answer(self._trail, answer)
            return number

        sends = tuple(Send(at, data) for at, data in zip(times, requests, strict=True))
        return Lane(name, Stream(*where, sends, 0.0, flow), read)

    def _dress_lane(self, times: Sequence[float], size: int) -> Lane:
        """The same relay asked in another form, in turn with the train: without a twin the only
        control that differs in one thing."""
        cookie = self._probe.dress is not stun.Dress.RFC3489
        other = stun.Dress.RFC3489 if cookie else stun.Dress.BARE
        return self._questions("dress", (self._peer.address, self._peer.port), other, times, size)

    def _control_lane(self, beside: Beside, target: Stream, train: Sequence[float]) -> Lane:
        """In turn with the train, in a random order, since whoever always comes first finds the
        shorter queue; to a stranger once a second, or half as often as a slow train."""
        if not beside.key:
            voice = self._probe.research
            times = every(SLOW, self._probe.length, SLOW / 2) if voice else train[::2]
            where = beside.address, beside.port
            return self._questions("control", where, stun.Dress.BARE, times, 0)
        flow, now, key = self._twin_flow, time.time(), beside.key
        dress = _TWIN_DRESSES[self._probe.dress]
        size = max(len(send.data) for send in target.sends)
        sends = tuple(
            Send(
                at,
                shaped(
                    dress,
                    size,
                    os.urandom(32),
                    twin.Request(flow, number, twin.IN_STUN),
                    now + at,
                    key,
                ),
            )
            for number, at in enumerate(train)
        )

        def read(data: bytes) -> int:
            answer = twin.read_answer(data, key, flow, twin.IN_STUN, now)
            if answer.number >= len(sends):
                raise WireError(Failure.WRONG_ID, "of no packet of this train")
            self._heard.append(answer)
            return answer.number

        return Lane("control", Stream(beside.address, beside.port, sends, 0.0), read)

    async def _knock(self) -> list[Packet]:
        """SYNs to other servers of the owner's, in turn: is it the way to all of them?"""
        if not self._probe.research or not self._trail.sites:
            return []
        began = time.monotonic()
        waiting: list[tuple[float, asyncio.Task[float | None]]] = []
        for number, at in enumerate(every(KNOCKS, self._probe.length)):
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            site = self._trail.sites[number % len(self._trail.sites)]
            sent = time.monotonic() - began
            waiting.append((sent, asyncio.create_task(knock(*site, self._trail.env.source))))
        answered = await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
        for bug in answered:
            if isinstance(bug, BaseException) and not isinstance(bug, OSError):
                raise bug
        heard = sum(isinstance(took, float) for took in answered)
        self._trail.count(len(waiting), heard, 60 * len(waiting), 60 * heard)
        return [
            Packet(sent, took, 1, number)
            for number, ((sent, _), took) in enumerate(zip(waiting, answered, strict=True))
            if not isinstance(took, BaseException)
        ]

    def _note(self, lanes: list[Lane], played: list[Played]) -> None:
        sound, facts = self._probe.pace.sound, self._trail.facts
        late = sorted(it for its in played for it in its.late)
        if late:
            facts["send_lateness_seconds"] = round(late[len(late) // 2], 5)
        by_name = {lane.name: lane.packets for lane in lanes}
        facts |= quality.facts(quality.quality(by_name["target"], sound))
        facts |= distribution(by_name["target"], "")
        for name in ("companion", "long"):
            if packets := by_name.get(name):
                facts[f"{name}_requests"] = len(packets)
                facts[f"{name}_answered"] = sum(p.rtt is not None for p in packets)
                facts[f"{name}_bad_ratio"] = round(quality.quality(packets, sound).bad or 0.0, 4)
        if self._beside is not None and (control := by_name["control"]):
            self._note_control(self._beside.kind, by_name["target"], control)
            facts |= distribution(control, f"{self._beside.kind}_")
        if dress := by_name.get("dress"):
            self._note_control("dress", by_name["target"], dress)

    def _note_control(self, name: str, target: Sequence[Packet], control: Sequence[Packet]) -> None:
        sound, facts = self._probe.pace.sound, self._trail.facts
        facts |= quality.facts(quality.quality(control, sound), f"{name}_")
        if any(p.rtt is not None for p in control):  # else it is no control but another failure
            facts |= paired.facts(paired.compare(target, control, sound), f"{name}_")

    def _note_knocks(self, target: Sequence[Packet], knocks: Sequence[Packet]) -> None:
        """Where the owner's other servers are hardly there they tell nothing of the way."""
        answered = sum(p.rtt is not None for p in knocks)
        if answered >= HALF * max(1, len(knocks)):
            self._note_control("tcp", target, knocks)

    async def _note_directions(self, lanes: list[Lane]) -> None:
        """What the operator's own server counted: which way did its packets get lost?"""
        beside, facts = self._beside, self._trail.facts
        if beside is None or not beside.key:
            return
        sent = sum(len(lane.packets) for lane in lanes if lane.name == "control")
        answered = len({answer.number for answer in self._heard})
        arrived = max((answer.received for answer in self._heard), default=None)
        if answered < sent and beside.tls_port:
            where = Peer(beside.address, beside.tls_port, "")
            pin, key = beside.tls_sha256, beside.key
            told = await ask_tally(self._trail, where, pin, key, self._twin_flow)
            arrived = arrived if told is None else told
        if arrived is None:
            return
        found = paired.direction(sent, arrived, answered)
        if found.up is not None:
            facts["twin_up_loss_ratio"] = round(found.up, 4)
        if found.down is not None:
            facts["twin_down_loss_ratio"] = round(found.down, 4)
        if found.only:
            facts["one_way"] = found.only

    def _judge(self, lane: Lane, played: Played) -> None:
        seen = quality.quality(lane.packets, self._probe.pace.sound)
        if not seen.answered:
            self._fail(lane, played)
        delay = seen.mouth_to_ear
        if sounds_bad(seen.bad or 0.0, seen.requests, seen.burst_ratio or 1.0, delay):
            lost = f"{seen.requests - seen.answered} of {seen.requests} packets lost"
            raise Refusal(Failure.LOSSY, lost)

    def _fail(self, lane: Lane, played: Played) -> None:
        """The word for a train of which nothing was answered."""
        if not lane.packets:
            raise Refusal(Failure.BLOCKED_LOCALLY, "this host lets no packet out")
        if played.failures:
            raise Refusal(played.failures[0], f"{len(played.failures)} ICMP errors")
        if lane.strays:
            raise Refusal(Failure.BAD_REPLY, f"{lane.strays} datagrams that are no answer")
        raise TimeoutError(f"none of {len(lane.packets)} answered")


def _beside(known: Sequence[Beside], address: str) -> Beside | None:
    """The first that is reached over the same family."""
    return next((b for b in known if (":" in b.address) == (":" in address)), None)
