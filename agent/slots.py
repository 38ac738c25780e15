"""Ten minutes of one target in a few figures, which outlive the observations. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from agent.facts import count, number
from probes.model import Observation, Target

LENGTH = 600
"""Seconds. Slots begin at multiples of it."""
Figures = tuple[int | float | None, ...]
_STREAM = ("loss_ratio", "late_60ms_ratio", "jitter_seconds", "mos_g711")
_BESIDE = ("twin_", "stun_")
"""What may stand before the facts of the stream beside."""


def slot_of(at: float) -> int:
    return math.floor(at / LENGTH) * LENGTH


@dataclass(slots=True)
class Slot:
    """What runs have added up to. RTTs are seconds, one per run that had any."""

    runs: int = 0
    working: int = 0
    rtts: list[float] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    stream: list[float | None] = field(default_factory=lambda: [None] * 6)

    def add(self, observations: Sequence[Observation]) -> None:
        """One run, of a target's addresses."""
        self.runs += 1
        self.working += any(o.works for o in observations)
        shown = next((o for o in observations if o.works), None)
        rtt = number(shown, "rtt_seconds") if shown else None
        if rtt is not None:
            self.rtts.append(rtt)
        for o in observations:
            if not o.facts.get("shared"):
                self.sent += count(o, "sent")
                self.received += count(o, "received")
            if o.target.probe == "media":
                self.stream = [*(number(o, name) for name in _STREAM), *_of_control(o)]

    def figures(self) -> Figures:
        """runs, working, least, median and 95th percentile of the RTT, sent, received; of the last
        stream loss, late, jitter, MOS; loss and MOS of the stream beside it."""
        rtts = sorted(self.rtts)
        spread: tuple[float | None, ...] = (None, None, None)
        if rtts:
            spread = (rtts[0], median(rtts), rtts[math.ceil(0.95 * len(rtts)) - 1])
        return (self.runs, self.working, *spread, self.sent, self.received, *self.stream)


def _of_control(o: Observation) -> tuple[float | None, float | None]:
    for prefix in _BESIDE:
        if f"{prefix}requests" in o.facts:
            return number(o, f"{prefix}loss_ratio"), number(o, f"{prefix}mos_g711")
    return None, None


class Slots:
    """Those under way. A slot is whole when a run after its end is seen."""

    def __init__(self) -> None:
        self._open: dict[int, dict[Target, Slot]] = {}

    def add(self, at: float, observations: Iterable[Observation]) -> None:
        """What a round asked at ``at``, Unix seconds."""
        runs: dict[Target, list[Observation]] = {}
        for o in observations:
            runs.setdefault(o.target, []).append(o)
        theirs = self._open.setdefault(slot_of(at), {})
        for target, its in runs.items():
            theirs.setdefault(target, Slot()).add(its)

    def whole(self, at: float) -> list[tuple[Target, int, Figures]]:
        """What has ended by ``at``, and is forgotten here. A clock that was set back ends what is
        in its future."""
        now = slot_of(at)
        ended = [start for start in self._open if start != now]
        return [
            (target, start, slot.figures())
            for start in ended
            for target, slot in self._open.pop(start).items()
        ]
