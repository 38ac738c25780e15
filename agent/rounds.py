"""One round: the checks of one messenger and the controls of the same beat, then what they mean.

The controls of a beat run once and are shared by every messenger's round of that beat, so that a
failure is always judged against controls of the same minute.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent import plan
from agent.checks import to_check
from agent.diagnosis import SEEN_FOR, Evidence
from agent.plan import Ask, Asked, Cadence
from agent.vantage import ControlResult, Judgement
from config.model import TargetConfig
from probes.measure import Measured, Memo, measure
from probes.model import Family, Observation
from probes.net.environment import Environment
from probes.net.errors import NotMeasured

log = logging.getLogger(__name__)

SPREAD = 0.1
"""Share of the interval over which a round's checks start; more when there are many."""
PER_CHECK = 0.005
"""Seconds between starts at the least while they fit into four fifths of the interval."""
CUT_OFF = 0.9
"""Share of the interval after which a round is judged without the checks still under way."""
CHECK_CUT_OFF = 80.0
"""Seconds after which a round by hand is judged (design 5.1: at most 90 s)."""


@dataclass(slots=True)
class Beat:
    """One tick of the schedule, shared by the jobs that it triggers. ``at`` is when it was due;
    ``spoiled`` when the host slept through it, so that what it saw is no evidence."""

    at: float
    memo: Memo = field(default_factory=Memo)
    spoiled: bool = False
    controls: asyncio.Task[Controls] | None = None


@dataclass(frozen=True, slots=True)
class Controls:
    """What the controls of one beat said. ``mapped``: our address by STUN operator."""

    judgement: Judgement
    mapped: dict[str, frozenset[str]]
    spoiled: bool = False


@dataclass(slots=True)
class Seen:
    """What is remembered of one target between rounds. ``conclusive`` is its last run that was
    asked to the end, or that failed before."""

    asked: Asked = field(default_factory=Asked)
    conclusive: tuple[Observation, ...] = ()
    at: float | None = None
    last_run: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """One check that ended in time for its round."""

    ask: Ask
    measured: Measured
    seconds: float


@dataclass(frozen=True, slots=True)
class Ran:
    """What a round did. ``unfinished`` names targets still being asked when it was judged."""

    finished: tuple[Finished, ...]
    unfinished: frozenset[str]
    skipped: tuple[str, ...]


@dataclass(slots=True)
class Runner:
    """Asks the targets of one messenger (or the controls), and remembers what they said.

    A check that outlives its round is not started again before it ends; what it saw counts for the
    round in which it ends.
    """

    name: str
    targets: tuple[TargetConfig, ...]
    env: Environment
    gate: asyncio.Semaphore
    seen: dict[str, Seen] = field(default_factory=dict)
    _running: dict[str, asyncio.Task[Finished | None]] = field(default_factory=dict)
    _skips: list[str] = field(default_factory=list)

    async def run(
        self,
        beat: Beat,
        cadence: Cadence,
        undecided: frozenset[str],
        families: frozenset[Family],
        *,
        in_full: bool = False,
    ) -> Ran:
        """Ask what is due. ``in_full``: everything, now, and waited for (``callpath check``)."""
        started = time.monotonic()
        now = time.time()
        if in_full:
            asks = [Ask(target, partial=False) for target in self.targets]
        else:
            asked = {name: seen.asked for name, seen in self.seen.items()}
            asks = plan.plan(self.targets, asked, undecided, cadence, now)
        asks = [ask for ask in asks if ask.target.target.name not in self._running]
        gap = spacing(len(asks), cadence.interval) if not in_full else PER_CHECK
        for index, ask in enumerate(asks):
            self._start(ask, beat, index * gap, families, now)
        cut_off = started + (CHECK_CUT_OFF if in_full else CUT_OFF * cadence.interval)
        await self._wait(cut_off)
        return self._collect()

    def going(self) -> int:
        """How many checks are under way."""
        return sum(not task.done() for task in self._running.values())

    async def stop(self) -> None:
        """Cancel what is under way; it reports nothing."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    def _start(
        self, ask: Ask, beat: Beat, delay: float, families: frozenset[Family], now: float
    ) -> None:
        name = ask.target.target.name
        seen = self.seen.setdefault(name, Seen())
        seen.asked = Asked(now, seen.asked.full if ask.partial else now)
        self._running[name] = asyncio.create_task(self._ask(ask, beat, delay, families))

    async def _ask(
        self, ask: Ask, beat: Beat, delay: float, families: frozenset[Family]
    ) -> Finished | None:
        await asyncio.sleep(delay)
        async with self.gate:
            started = time.monotonic()
            try:
                check = to_check(ask.target, self.env)
                measured = await measure(
                    check, self.env, families=families, partial=ask.partial, memo=beat.memo
                )
            except NotMeasured as error:
                self._skips.append(error.reason)
                return None
            except Exception:
                # A bug costs only its own check, and is never shown as the network's doing.
                log.exception("bug in the check %s/%s", self.name, ask.target.target.name)
                return None
            self._skips += measured.skipped
            return Finished(ask, measured, time.monotonic() - started)

    async def _wait(self, cut_off: float) -> None:
        while self._running:
            pending = [task for task in self._running.values() if not task.done()]
            left = cut_off - time.monotonic()
            if not pending or left <= 0:
                return
            await asyncio.wait(pending, timeout=left)

    def _collect(self) -> Ran:
        finished: list[Finished] = []
        for name, task in list(self._running.items()):
            if not task.done():
                continue
            del self._running[name]
            result = None if task.cancelled() else task.result()
            if result is None or not result.measured.observations:
                self.seen[name].asked = Asked()  # nothing was asked: due again next round
                continue
            finished.append(result)
            self._remember(name, result)
        skipped, self._skips = tuple(self._skips), []
        return Ran(tuple(finished), frozenset(self._running), skipped)

    def _remember(self, name: str, finished: Finished) -> None:
        seen = self.seen[name]
        observations = finished.measured.observations
        seen.last_run = max(o.at for o in observations)
        partial_success = finished.ask.partial and any(o.ok for o in observations)
        if not partial_success:
            seen.conclusive, seen.at = observations, seen.last_run

    def evidence(
        self, ran: Ran, cadence: Cadence, proven: Callable[[TargetConfig], bool], now: float
    ) -> list[Evidence]:
        """One entry per target. A target whose check hangs right now and that worked before is not
        counted as working on the strength of the past."""
        found = []
        for target in self.targets:
            seen = self.seen.get(target.target.name, Seen())
            horizon = SEEN_FOR * max(plan.interval_of(target, cadence), cadence.interval)
            fresh = seen.at is not None and now - seen.at <= horizon + cadence.interval
            if target.target.name in ran.unfinished and any(o.works for o in seen.conclusive):
                fresh = False
            found.append(Evidence(target, seen.conclusive, seen.last_run, fresh, proven(target)))
        return found


def spacing(count: int, interval: float) -> float:
    """Seconds between the starts of a round's checks: spread, not bunched. Pure."""
    if count <= 1:
        return 0.0
    span = min(0.8 * interval, max(SPREAD * interval, count * PER_CHECK))
    return span / count


def control_results(evidence: Sequence[Evidence]) -> list[ControlResult]:
    return [ControlResult(e.config, e.observations, e.proven) for e in evidence if e.fresh]


def mapped_by_owner(ran: Ran) -> dict[str, frozenset[str]]:
    """Our address as each STUN operator saw it in this round."""
    found: dict[str, frozenset[str]] = {}
    for finished in ran.finished:
        target = finished.ask.target
        if finished.measured.mapped:
            owner = target.owner or target.target.name
            found[owner] = found.get(owner, frozenset()) | finished.measured.mapped
    return found


def lateness(ran: Ran) -> float:
    """Median seconds by which our own packets left late in this round."""
    values = [
        float(o.facts["send_lateness_seconds"])  # type: ignore[arg-type] # ours: always a float
        for f in ran.finished
        for o in f.measured.observations
        if "send_lateness_seconds" in o.facts
    ]
    return statistics.median(values) if values else 0.0
