"""Flows whose canaries tell whether they live: what each packet is, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from probes.model import Fact
from probes.net.streams import Played, Send, Stream
from probes.wire.error import WireError

SILENT = 5
"""Canaries at a flow's end that must be unanswered for it to be dead: at a third of loss that is
chance four times in a thousand."""


class Role(StrEnum):
    """What a packet is for."""

    CANARY = "canary"
    """A Binding that is answered as long as the flow lives."""
    ICE = "ice"
    ALLOCATE = "allocate"
    SAID = "said"
    """Nobody has to answer it."""


_ICE_SIZE, _ALLOCATE_SIZE = 96, 28


@dataclass(frozen=True, slots=True)
class Part:
    """One packet of a flow, ``at`` seconds after the start."""

    at: float
    role: Role
    data: bytes

    @property
    def size(self) -> int:
        """Bytes, also before it is filled in."""
        return len(self.data) or (_ICE_SIZE if self.role is Role.ICE else _ALLOCATE_SIZE)


@dataclass(frozen=True, slots=True)
class Ending:
    """How far a flow came. Seconds and packets (its own, this one included) at its last answered
    canary, and at the first of those that were not answered any more; ``silent``: it is dead."""

    silent: bool
    seconds: float
    packets: int
    dead_seconds: float
    dead_packets: int


@dataclass(slots=True)
class Lane:
    """One flow. ``read`` names the packet that a datagram answers, or raises WireError."""

    name: str
    address: str
    port: int
    parts: tuple[Part, ...]
    read: Callable[[bytes], int]
    strays: int = 0
    sent: tuple[bool, ...] = ()
    heard: set[int] = field(default_factory=set)
    """Numbers of the packets that were answered."""

    def stream(self, lasts: float) -> Stream:
        sends = tuple(Send(part.at, part.data) for part in self.parts)
        return Stream(self.address, self.port, sends, lasts)

    def settle(self, played: Played) -> None:
        self.sent = tuple(at > 0 for at in played.sent)
        for received in played.received:
            try:
                self.heard.add(self.read(received.data))
            except WireError:
                self.strays += 1

    def traffic(self, played: Played) -> tuple[int, int, int, int]:
        """Packets sent and received, bytes sent and received, headers included."""
        header = 48 if ":" in self.address else 28
        left = [part for part, sent in zip(self.parts, self.sent, strict=False) if sent]
        came = played.received
        sent, received = (sum(len(it.data) + header for it in its) for its in (left, came))
        return len(left), len(came), sent, received

    def numbers(self, role: Role) -> list[int]:
        """The packets of this kind that left, by number."""
        return [
            number
            for number, (part, sent) in enumerate(zip(self.parts, self.sent, strict=False))
            if sent and part.role is role
        ]

    def asked(self, role: Role) -> int:
        return len(self.numbers(role))

    def answered(self, role: Role) -> int:
        return len(self.heard.intersection(self.numbers(role)))

    def facts(self) -> dict[str, Fact]:
        """``_canaries``, ``_canaries_answered``, ``_packets`` (sent), ``_answers`` (to whatever),
        ``_first_answered`` (one of the first two canaries), and where it fell silent to the end
        ``_silent_after_seconds``, ``_silent_after_packets`` (its last answered canary) and
        ``_dead_from_seconds``, ``_dead_from_packets`` (the first that was not)."""
        canaries, ending = self.numbers(Role.CANARY), alone(self)
        told: dict[str, Fact] = {
            "canaries": len(canaries),
            "canaries_answered": self.answered(Role.CANARY),
            "packets": sum(self.sent),
            "answers": len(self.heard),
            "first_answered": bool(self.heard.intersection(canaries[:2])),
        }
        if ending.silent:
            told |= {
                "silent_after_seconds": round(ending.seconds, 3),
                "silent_after_packets": ending.packets,
                "dead_from_seconds": round(ending.dead_seconds, 3),
                "dead_from_packets": ending.dead_packets,
            }
        return {f"{self.name}_{word}": value for word, value in told.items()}


def alone(lane: Lane) -> Ending:
    """How this flow ended, by its canaries."""
    canaries = lane.numbers(Role.CANARY)
    lived = [place for place, number in enumerate(canaries) if number in lane.heard]
    last = lived[-1] if lived else -1
    silent = len(canaries) - 1 - last >= SILENT
    if not silent:
        return Ending(False, 0.0, 0, 0.0, 0)
    dead = canaries[last + 1]
    before = canaries[last] if lived else -1
    return Ending(
        True,
        lane.parts[before].at if lived else 0.0,
        sum(lane.sent[: before + 1]),
        lane.parts[dead].at,
        sum(lane.sent[: dead + 1]),
    )
