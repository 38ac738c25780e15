"""``callpath calibrate``: which targets, in which dresses, answer a stranger on an open network.

Rounds, controls and manners are the agent's own: only what is asked is another choice, and dresses
take turns in it, so that one target is asked no more often than the agent would ask it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent import pausing, plan
from agent.calibrated import Key, Tally
from agent.checks import dress_of
from agent.core import Core
from agent.diagnosis import unmasked
from agent.knobs import knobs_of
from agent.rounds import Beat, Controls, Ran
from agent.scheduler import Schedule
from agent.store import Store
from agent.trust import RUNS_NEEDED
from agent.vantage import Judgement
from agent.wiring import DRAIN
from config.model import Config, TargetConfig
from exporters.feed import AgentFigures
from probes.model import CONTROL, Family, Observation, Proof, VantageStatus
from probes.net.address import family_of, parse
from probes.registry import needs_research

log = logging.getLogger(__name__)

RUNS = RUNS_NEEDED
"""Runs of a target in one dress after which it is asked no more: as many as trust needs."""
LONGEST = 2 * 3600.0
"""Seconds that a calibration may take at most."""
PATIENCE = 3
"""Turns of the slowest target after which it is given up that anything more can be counted."""
PROGRESS = 60.0
"""Seconds between two lines of progress."""


class Blind(Exception):
    """Nothing can be learned from this line now; the text says why."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a calibration sends at the most: ``requests`` are datagrams and connection attempts,
    ``size`` bytes in both directions, ``seconds`` until all was asked ``RUNS`` times."""

    targets: int
    dressed: int
    requests: int
    size: int
    seconds: float


def open_questions(config: Config, names: Iterable[str]) -> Config:
    """The same configuration with what calibration asks: of these messengers, and only targets that
    have still to show that they answer a stranger. Streams are to relays that are asked anyway."""
    wanted = set(names)
    chosen = (
        replace(m, targets=tuple(t for t in m.targets if _is_open(t) and not plan.is_stream(t)))
        for m in config.messengers
        if m.name in wanted
    )
    return replace(config, messengers=tuple(m for m in chosen if m.targets))


def _is_open(target: TargetConfig) -> bool:
    return target.proof is not Proof.DOCUMENTED


def dresses(target: TargetConfig, *, research: bool) -> tuple[TargetConfig, ...]:
    """The target in every dress that its probe knows and the profile allows, its own first. Dresses
    are those of datagrams: over TCP a box on the way tells nobody by them."""
    own: Any = getattr(target.probe, "dress", None)
    if not isinstance(own, StrEnum) or getattr(target.probe, "transport", "udp") != "udp":
        return (target,)
    others = (replace(target.probe, dress=d) for d in type(own) if d is not own)
    allowed = [p for p in others if research or not needs_research(p)]
    return (target, *(replace(target, probe=p) for p in allowed))


def extent(config: Config, seconds: float) -> Extent:
    """``config`` as of ``open_questions``."""
    research = config.settings.profile == "research"
    knobs = knobs_of(config)
    asked = [t for m in config.messengers for t in m.targets]
    sizes = plan.group_sizes([*asked, *config.controls])
    dressed, ends = 0, 0.0
    for target in asked:
        count = len(dresses(target, research=research))
        dressed += count
        full, _ = plan.runs_a_day(target, knobs.cadence, sizes[plan.group_of(target)])
        ends = max(ends, (RUNS * count - 1) * 86400 / full)
    lasts = min(seconds, ends)
    requests = size = 0.0
    for target in (*asked, *config.controls):
        cadence = knobs.controls if target.role else knobs.cadence
        full, connects = plan.runs_a_day(target, cadence, sizes[plan.group_of(target)])
        runs, between = 1 + full * lasts / 86400, connects * lasts / 86400
        if not target.role:
            runs = min(runs, RUNS * len(dresses(target, research=research)))
        places = max(1, len(target.addresses))
        requests += places * (runs * target.probe.packets_per_run + between)
        size += places * (runs * target.probe.bytes_per_run + between * plan.CONNECT_BYTES)
    return Extent(len(asked), dressed, round(requests), round(size), lasts)


def blindness(seen: Judgement) -> str:
    """Why this line tells nothing of an open network; "" when it may."""
    if not seen.controls:
        return f"no control was measured: {seen.reason}"
    if seen.status is not VantageStatus.ONLINE:
        return f"this line is {seen.status}: {seen.reason}"
    return ""


class Calibration:
    """One calibration, of a configuration as ``open_questions`` leaves it. ``tallies`` is what it
    has come to so far; ``left_out`` what nothing can be asked of here; ``uncounted`` the rounds in
    which the line itself was in doubt."""

    def __init__(self, config: Config, store: Store, seconds: float) -> None:
        self.core = Core(config, store, AgentFigures(), lambda update: None)
        self.seconds = seconds
        self.tallies: dict[Key, Tally] = {}
        self.left_out: tuple[str, ...] = ()
        self.uncounted: set[float] = set()
        self.judgement: Judgement | None = None
        research = config.settings.profile == "research"
        self._dressed = {
            m.name: [dresses(t, research=research) for t in m.targets] for m in config.messengers
        }
        self._sizes = plan.group_sizes([t for m in config.messengers for t in m.targets])
        self._controls_seen: dict[str, float] = {}
        self._counted_at = time.monotonic()

    # --- asking ---

    async def begin(self) -> None:
        """All controls, once. Raises Blind where the line is no open network's."""
        controls = await self.core.run_controls(Beat(time.time()), in_full=True)
        self.judgement = controls.judgement
        if why := blindness(controls.judgement):
            raise Blind(why)
        self._count_controls(controls)
        left_out = []
        for name, dressed in self._dressed.items():
            dead = [d[0] for d in dressed if not _can_ask(d[0], controls.judgement.families)]
            left_out += [f"{name}/{t.target.name}" for t in dead]
            self._dressed[name] = [d for d in dressed if d[0] not in dead]
        self.left_out = tuple(left_out)

    async def round(self, name: str, beat: Beat) -> None:
        """One round of one messenger, on the agent's schedule."""
        core, runner = self.core, self.core.runners[name]
        runner.targets = self.turn(name)
        if core.manners.refusal():
            return
        ran, controls = await asyncio.gather(
            runner.run(beat, core.knobs.cadence, frozenset(), core.families),
            core.controls_of(beat),
        )
        if controls is None:  # a bug, which was logged
            return
        self.judgement = controls.judgement
        if controls.spoiled or blindness(controls.judgement):
            self.uncounted.add(beat.at)
            return
        core.learned.note_round(ran, controls.judgement)
        self._count(ran, controls.judgement)
        self._count_controls(controls)
        await core.saving.save({})

    def turn(self, name: str) -> tuple[TargetConfig, ...]:
        """Every target of a messenger that is not done with, in the dress that was asked least."""
        chosen = []
        for dressed in self._dressed.get(name, ()):
            asked, least = min((self._asked(t), n) for n, t in enumerate(dressed))
            if asked < RUNS:
                chosen.append(dressed[least])
        return tuple(chosen)

    def _asked(self, target: TargetConfig) -> int:
        tally = self.tallies.get(_key(target))
        return tally.asked if tally else 0

    # --- counting ---

    def _count(self, ran: Ran, seen: Judgement) -> None:
        for finished in ran.finished:
            if not finished.ask.partial:
                self._add(finished.ask.target, finished.measured.observations, seen)

    def _count_controls(self, controls: Controls) -> None:
        """Those that have still to show it too, each run once; they keep their own dress."""
        for target in filter(_is_open, self.core.config.controls):
            seen = self.core.controls.seen.get(target.target.name)
            if seen and seen.at and seen.at > self._controls_seen.get(target.target.name, 0.0):
                self._controls_seen[target.target.name] = seen.at
                self._add(target, seen.conclusive, controls.judgement)

    def _add(self, target: TargetConfig, seen: Sequence[Observation], by: Judgement) -> None:
        if usable := unmasked(seen, by):
            tally = self.tallies.setdefault(_key(target), Tally())
            tally.add(any(o.works for o in usable), max(o.at for o in usable))
            self._counted_at = time.monotonic()

    # --- until when ---

    def runs(self) -> tuple[int, int]:
        """Runs counted so far, and wanted in all; without those of the controls."""
        keys = [_key(t) for of_one in self._dressed.values() for d in of_one for t in d]
        counted = (self.tallies[key].asked for key in keys if key in self.tallies)
        return sum(min(n, RUNS) for n in counted), RUNS * len(keys)

    def answering(self) -> tuple[int, int]:
        """Targets in one dress that answered at all, and that were asked."""
        return sum(t.answered > 0 for t in self.tallies.values()), len(self.tallies)

    def over(self, began: float) -> str:
        """Why nothing more is asked; "" while it goes on. ``began``: monotonic seconds."""
        now = time.monotonic()
        rest = [t for name in self._dressed for t in self.turn(name)]
        if not rest:
            return f"everything was asked {RUNS} times"
        if now - began >= self.seconds:
            return "the time is up"
        if self.core.manners.refusal() == "byte_budget":
            return "the bytes of today are spent"
        cadence, sizes = self.core.knobs.cadence, self._sizes
        slowest = max(plan.turn_of(t, cadence, sizes[plan.group_of(t)]) for t in rest)
        if now - self._counted_at > PATIENCE * slowest and not self.core.manners.paused:
            return "nothing more can be counted here"
        return ""

    def words(self) -> str:
        """How far it is."""
        asked, wanted = self.runs()
        answered, of = self.answering()
        said = f"{asked} of {wanted} runs, {answered} of {of} asked so far have answered"
        if self.uncounted:
            said += f"; {len(self.uncounted)} rounds do not count, the line was in doubt"
        if self.judgement is not None and (why := blindness(self.judgement)):
            said += f"; {why}"
        return said + ("; paused" if self.core.manners.paused else "")

    async def run(self, stop: asyncio.Event, tell: Callable[[str], None]) -> str:
        """To the end, which is told. What was counted until then is in ``tallies``."""
        core, began = self.core, time.monotonic()
        self._counted_at = began
        schedule = Schedule(
            core.runners, core.knobs.cadence.interval, self.round, lambda _: None, lambda _: None
        )
        schedule.start()
        told = began
        try:
            while not stop.is_set():
                await self._pause(pausing.is_paused(core.store.folder))
                if why := self.over(began):
                    return why
                if time.monotonic() - told >= PROGRESS:
                    told = time.monotonic()
                    tell(f"{(told - began) / 60:.0f} min: {self.words()}")
                await _until(stop, pausing.POLL)
            return "it was stopped"
        finally:
            await schedule.drain(DRAIN)

    async def _pause(self, paused: bool) -> None:
        """As the agent does: a file named ``paused`` stops all sending within a second."""
        manners = self.core.manners
        stops, manners.paused = paused and not manners.paused, paused
        if stops:
            await self.core.stop()

    async def close(self) -> None:
        await self.core.stop()
        await self.core.engine.close()


def _key(target: TargetConfig) -> Key:
    of = target.target
    return Key(of.messenger or CONTROL, of.name, of.probe, dress_of(target))


def _can_ask(target: TargetConfig, families: frozenset[Family]) -> bool:
    """Is any of its addresses of a family that works here? Names may have both."""
    if not target.host or parse(target.host) is None:
        return target.family is Family.ANY or target.family in families
    return any(family_of(a) in families for a in (target.host, *target.addresses))


async def _until(stop: asyncio.Event, seconds: float) -> None:
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()


async def calibrate(calibration: Calibration, tell: Callable[[str], None]) -> str:
    """Controls, then rounds until all is asked, the time is up, or SIGINT or SIGTERM comes; why it
    ended. Raises Blind."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    try:
        tell("asking the controls")
        await _first(asyncio.create_task(calibration.begin()), stop)
        if stop.is_set():
            return "it was stopped"
        if calibration.left_out:
            count = len(calibration.left_out)
            tell(f"left out, no control works over the family of their addresses: {count} targets")
        return await calibration.run(stop, tell)
    finally:
        await calibration.close()


async def _first(begun: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([begun, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not begun.done():
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
        return
    begun.result()


# --- files -------------------------------------------------------------------------------------


def cannot_write(file: Path) -> str:
    """Why ``file`` could not be written; "" when it can. Asked before two hours are spent."""
    if file.is_dir():
        return f"{file} is a directory"
    folder = file.absolute().parent
    return "" if folder.is_dir() and os.access(folder, os.W_OK) else f"cannot write in {folder}"


def write(file: Path, text: str) -> None:
    """The whole file or nothing of it. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
