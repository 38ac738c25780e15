"""One round: the checks of one messenger and the controls of the same beat, then what they mean.

The controls of a beat run once and are shared by every messenger's round of that beat, so that a
failure is always judged against controls of the same minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent import plan
from agent.asks import window_of
from agent.beside import sites
from agent.checks import to_check
from agent.diagnosis import SEEN_FOR, Evidence, works
from agent.knobs import FIELD_INTERVAL
from agent.plan import Ask, Asked, Cadence, is_stream
from agent.vantage import ControlResult, Judgement
from config.model import TargetConfig
from probes.measure import Check, Measured, Memo, measure
from probes.model import Family, Observation, Role
from probes.net.environment import Environment
from probes.net.errors import NotMeasured

log = logging.getLogger(__name__)

SPREAD = 0.1
"""Share of the interval over which a round's checks start; more when there are many."""
PER_CHECK = 0.005
"""Seconds between the starts of two checks of the whole agent, on average, while they fit into four
fifths of the interval: closer together they would delay each other, and their round-trip times."""
SLOT = 0.05
"""Checks start on a grid of so many seconds, all rounds on the same one: a wake-up costs more than
the check that it starts, so they share it. No send is timed from its slot."""
CUT_OFF = 0.9
"""Share of the interval after which a round is judged without the checks still under way."""
REST = 0.5
"""Share of the interval that must be left of a round to ask the rest of a channel in it."""
PATIENCE = 2 / 5
"""Share of the interval that bounds the probes' default limits: in a laboratory's fast rounds a
check must end in its round too, or a silent address would have half the votes, and leave time for
its contrasts."""
BRIEF = 30.0
"""Seconds of a stream in a round by hand (design 5.1)."""
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
    """What the controls of one beat said. ``mapped``: our address by STUN operator; ``spoiled``:
    the round is no evidence, ``quiet`` when because the network has just changed; ``settling``:
    what fails in it is none, since an outage is just over; ``flapped``: a control answered in the
    round before and not in this one, or the other way about."""

    judgement: Judgement
    mapped: dict[str, frozenset[str]]
    spoiled: bool = False
    quiet: bool = False
    settling: bool = False
    flapped: bool = False


@dataclass(slots=True)
class Seen:
    """What is remembered of one target between rounds. ``conclusive`` is its last run that was
    asked to the end, or that failed before."""

    asked: Asked = field(default_factory=Asked)
    conclusive: tuple[Observation, ...] = ()
    at: float | None = None
    last_run: float | None = None


@dataclass(slots=True)
class UnderWay:
    """A check that was started. ``before``: when it had last been asked to the end, in case that
    nothing is asked now either; ``void``: what it sees is no evidence any more."""

    task: asyncio.Task[Finished | None]
    memo: Memo
    before: float
    void: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """One check that ended in time for its round."""

    ask: Ask
    measured: Measured
    seconds: float


@dataclass(frozen=True, slots=True)
class Ran:
    """What a round did. ``unfinished`` names targets still being asked when it was judged;
    ``in_full``: all that is known was asked in it."""

    finished: tuple[Finished, ...]
    unfinished: frozenset[str]
    skipped: tuple[str, ...]
    in_full: bool = False


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
    others: int = 0
    """Targets of the other rounds of a beat, which start at the same time."""
    seen: dict[str, Seen] = field(default_factory=dict)
    _running: dict[str, UnderWay] = field(default_factory=dict)
    _skips: list[str] = field(default_factory=list)
    _scale: float = 1.0
    """Of the seconds that a filter remembers, in a laboratory's shorter day."""
    _began: float = 0.0
    """Unix time at which the round under way began, which is when all of its checks are asked."""
    _until: float = 0.0
    """Monotonic seconds until which its checks are waited for."""
    _in_full: bool = False
    _sizes: Counter[tuple[str, str, str]] = field(init=False)
    _streams: frozenset[str] = field(init=False)
    _turns: dict[str, float] = field(default_factory=dict)
    _turns_at: Cadence | None = None

    def __post_init__(self) -> None:
        self._sizes = plan.group_sizes(self.targets)
        self._streams = frozenset(t.target.name for t in self.targets if is_stream(t))

    async def run(
        self,
        beat: Beat,
        cadence: Cadence,
        undecided: frozenset[str],
        families: frozenset[Family],
        *,
        in_full: bool = False,
    ) -> Ran:
        """Ask what is due. ``in_full``: everything, now, and all but the streams waited for
        (``callpath check``)."""
        cut_off = CHECK_CUT_OFF if in_full else CUT_OFF * cadence.interval
        self._until, self._in_full = time.monotonic() + cut_off, in_full
        now = self._began = time.time()
        # What ended since the last round was judged counts for this one, and may be asked again.
        ended = self._collect()
        self.env.patience = math.inf if in_full else PATIENCE * cadence.interval
        if in_full:
            asks = [Ask(target, partial=False) for target in self.targets]
        else:
            asked = {name: seen.asked for name, seen in self.seen.items()}
            asks = plan.plan(self.targets, asked, undecided, cadence, now)
        self._scale = min(1.0, cadence.interval / FIELD_INTERVAL)
        asks = [ask for ask in asks if ask.target.target.name not in self._running]
        gap = PER_CHECK if in_full else spacing(len(asks), cadence.interval, self.others)
        self._start_all(asks, beat, gap, families, now)
        await self._wait(self._until)
        return replace(joined(ended, self._collect()), in_full=in_full)

    async def go_on(
        self,
        ran: Ran,
        beat: Beat,
        cadence: Cadence,
        fell: frozenset[str],
        families: frozenset[Family],
    ) -> Ran:
        """The rest of the channels in which something just fell, in the same round while there is
        time: what is remembered of those whose turn it was not would outvote what was seen."""
        if self._until - time.monotonic() < REST * cadence.interval:
            return ran
        now = time.time()
        asked = {name: seen.asked for name, seen in self.seen.items()}
        asks = [
            ask
            for ask in plan.plan(self.targets, asked, fell, cadence, now)
            if ask.target.target.channel in fell
            and ask.target.target.name not in self._running
            and asked.get(ask.target.target.name, Asked()).run != self._began
        ]
        gap = spacing(len(asks), cadence.interval, self.others)
        self._start_all(asks, beat, gap, families, now)
        await self._wait(self._until)
        return joined(ran, self._collect())

    async def streams(self) -> Ran:
        """The streams of a round by hand, which take longer than all else in it: waited for."""
        await self._wait(self._until, streams=True)
        return replace(self._collect(), in_full=self._in_full)

    def going(self) -> int:
        """How many checks are under way."""
        return sum(not under_way.task.done() for under_way in self._running.values())

    async def stop(self) -> None:
        """Stop all sending; what is under way reports nothing, and is due again."""
        under_way = dict(self._running)
        self._running.clear()
        for name, one in under_way.items():
            one.task.cancel()
            self._not_asked(name, one)
        # The runs themselves are shielded, since others may share them.
        memos = {id(one.memo): one.memo for one in under_way.values()}
        tasks = [one.task for one in under_way.values()]
        closing = [memo.close() for memo in memos.values()]
        await asyncio.gather(*tasks, *closing, return_exceptions=True)

    def forget(self) -> None:
        """Another network: what was seen on the old one, or is being seen, is no evidence."""
        self.seen.clear()
        for under_way in self._running.values():
            under_way.void, under_way.before = True, Asked().full

    def void_streams(self) -> None:
        """What plays while the line is down, or nothing of it is evidence, says nothing of a call;
        a stream goes on for longer than that may last."""
        for name in self._streams & self._running.keys():
            self._running[name].void = True

    def _start_all(
        self,
        asks: Sequence[Ask],
        beat: Beat,
        gap: float,
        families: frozenset[Family],
        now: float,
    ) -> None:
        self._skips += ["residual"] * sum(ask.deferred for ask in asks)
        slots: dict[float, asyncio.Event] = {}
        for index, ask in enumerate(asks):
            self._start(ask, beat, _slot(slots, index * gap), families, now)

    def _start(
        self, ask: Ask, beat: Beat, slot: asyncio.Event, families: frozenset[Family], now: float
    ) -> None:
        name = ask.target.target.name
        seen = self.seen.setdefault(name, Seen())
        task = asyncio.create_task(self._ask(ask, beat, slot, families))
        self._running[name] = UnderWay(task, beat.memo, seen.asked.full)
        full = seen.asked.full if ask.partial else now
        seen.asked = Asked(now, full, seen.asked.until)

    def _not_asked(self, name: str, under_way: UnderWay) -> None:
        """It had its turn, so that it keeps no other from theirs, and stays as due as it was."""
        seen = self.seen.setdefault(name, Seen())
        seen.asked = Asked(seen.asked.run, under_way.before, seen.asked.until)

    async def _ask(
        self, ask: Ask, beat: Beat, slot: asyncio.Event, families: frozenset[Family]
    ) -> Finished | None:
        await slot.wait()
        if is_stream(ask.target) and ask.target.role is None and beat.controls is not None:
            await asyncio.wait([beat.controls])  # they say what it can be held against
        # A stream sends little and goes on for long: it keeps nobody else from their turn.
        async with contextlib.nullcontext() if is_stream(ask.target) else self.gate:
            started = time.monotonic()
            try:
                check = self._check(ask.target)
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

    def _check(self, target: TargetConfig) -> Check:
        check = to_check(target, self.env)
        if self._in_full and is_stream(target):
            probe: Any = check.probe
            check = replace(check, probe=replace(probe, seconds=min(probe.length, BRIEF)))
        if not is_stream(target):
            return check
        seen = (o for seen in self.seen.values() for o in seen.conclusive)
        return replace(check, sites=sites(target, self.targets, seen))

    async def _wait(self, cut_off: float, *, streams: bool = False) -> None:
        """A stream goes on for longer than a round: nobody waits for it unless asked to."""
        while self._running:
            pending = [
                u.task
                for name, u in self._running.items()
                if not u.task.done() and (streams or name not in self._streams)
            ]
            left = cut_off - time.monotonic()
            if not pending or left <= 0:
                return
            await asyncio.wait(pending, timeout=left)

    def _collect(self) -> Ran:
        finished: list[Finished] = []
        for name, under_way in list(self._running.items()):
            if not under_way.task.done():
                continue
            del self._running[name]
            if under_way.void:
                self._not_asked(name, under_way)
                continue
            result = None if under_way.task.cancelled() else under_way.task.result()
            if result is None or not result.measured.observations:
                self._not_asked(name, under_way)
                continue
            if self._is_residual(name, result):
                self._skips.append("residual")
                continue
            finished.append(result)
            self._remember(name, result)
        skipped, self._skips = tuple(self._skips), []
        return Ran(tuple(finished), frozenset(self._running), skipped)

    def _is_residual(self, name: str, finished: Finished) -> bool:
        """A connection that fails while a filter may remember what we asked before (M5)."""
        seen = self.seen.get(name, Seen())
        began = min(o.at for o in finished.measured.observations)
        return finished.ask.partial and began < seen.asked.until and not _only_connected(finished)

    def _remember(self, name: str, finished: Finished) -> None:
        seen = self.seen.setdefault(name, Seen())
        observations = finished.measured.observations
        seen.last_run = max(o.at for o in observations)
        if not _only_connected(finished):
            seen.conclusive, seen.at = observations, seen.last_run
            until = 0.0
            if not any(o.works for o in observations):
                until = max(o.at + self._scale * window_of(o) for o in observations)
            seen.asked = Asked(seen.asked.run, seen.asked.full, until)

    def wait(self, c: Observation) -> None:
        """Its name was said once more since: a filter remembers it from then."""
        if (seen := self.seen.get(c.target.name)) is not None:
            until = max(seen.asked.until, c.at + self._scale * window_of(c))
            seen.asked = replace(seen.asked, until=until)

    def turn_of(self, target: TargetConfig, cadence: Cadence) -> float:
        """Seconds within which the target is asked to the end again."""
        if self._turns_at is not cadence:  # it changes with the configuration only
            self._turns_at = cadence
            self._turns = {
                t.target.name: plan.turn_of(t, cadence, self._sizes[plan.group_of(t)])
                for t in self.targets
            }
        return self._turns[target.target.name]

    def evidence(
        self, ran: Ran, cadence: Cadence, proven: Callable[[TargetConfig], bool], now: float
    ) -> list[Evidence]:
        """One entry per target. A target whose check hangs right now and that worked before is not
        counted as working on the strength of the past."""
        found = []
        for target in self.targets:
            seen = self.seen.get(target.target.name, Seen())
            horizon = SEEN_FOR * self.turn_of(target, cadence)
            fresh = seen.at is not None and (
                ran.in_full or now - seen.at <= horizon + cadence.interval
            )
            hangs = target.target.name in ran.unfinished and not is_stream(target)
            if hangs and any(o.works for o in seen.conclusive):
                fresh = False
            found.append(Evidence(target, seen.conclusive, seen.last_run, fresh, proven(target)))
        return found


def joined(before: Ran, after: Ran) -> Ran:
    """What two parts of one round did."""
    finished, skipped = before.finished + after.finished, before.skipped + after.skipped
    return replace(after, finished=finished, skipped=skipped)


def _slot(slots: dict[float, asyncio.Event], delay: float) -> asyncio.Event:
    """The event of the first slot that is ``delay`` seconds away; ``slots`` are those there are."""
    loop = asyncio.get_running_loop()
    at = math.ceil((loop.time() + delay) / SLOT) * SLOT
    if at not in slots:
        slots[at] = asyncio.Event()
        loop.call_at(at, slots[at].set)
    return slots[at]


def concluded(ran: Ran) -> frozenset[str]:
    """The targets that may decide and of which this round learned more than that they connect."""
    return frozenset(
        f.ask.target.target.name
        for f in ran.finished
        if not f.ask.target.informative and not _only_connected(f)
    )


def fetched(ran: Ran) -> frozenset[str]:
    """The targets whose transfers ended in this round."""
    return frozenset(
        f.ask.target.target.name for f in ran.finished if f.ask.target.target.probe == "transfer"
    )


def streamed(ran: Ran) -> frozenset[str]:
    """The targets whose streams ended in this round."""
    return frozenset(f.ask.target.target.name for f in ran.finished if is_stream(f.ask.target))


def _only_connected(finished: Finished) -> bool:
    return finished.ask.partial and any(o.ok for o in finished.measured.observations)


def spacing(count: int, interval: float, others: int = 0) -> float:
    """Seconds between the starts of a round's ``count`` checks, beside which ``others`` start:
    spread, not bunched. Pure."""
    if count <= 1:
        return 0.0
    span = min(0.8 * interval, max(SPREAD * interval, (count + others) * PER_CHECK))
    return span / count


def control_results(evidence: Sequence[Evidence], heard: set[str]) -> list[ControlResult]:
    """``heard`` names the controls that answered in the last rounds. Informative ones judge
    nothing: a transfer that froze five hours ago says nothing of the line now."""
    return [
        ControlResult(e.config, e.observations, e.proven, e.config.target.name in heard)
        for e in evidence
        if e.fresh and not e.config.informative
    ]


def transfers(evidence: Sequence[Evidence]) -> list[Observation]:
    """The controls' transfers, which judge nothing but the pace of others."""
    return [
        o
        for e in evidence
        if e.fresh and e.proven and e.config.target.probe == "transfer"
        for o in e.observations
    ]


def flapped(before: Sequence[Evidence], now: Sequence[Evidence]) -> bool:
    """Did a control that stands for something change?"""
    outcomes = {e.config.target.name: works(e.observations) for e in before if e.fresh}
    return any(
        None not in (known := outcomes.get(e.config.target.name), seen := works(e.observations))
        and known is not seen
        for e in now
        if e.fresh
        and e.proven
        and not e.config.informative
        and e.config.role not in (Role.AD, Role.DTLS)
    )


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
