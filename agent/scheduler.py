"""When rounds run: one apscheduler job per messenger, all on one beat.

apscheduler triggers rounds, never packets. Its own jitter drifts and its default grace is one
second, so the beat brings its jitter with it and the grace is set. Its times are wall-clock: a
clock that is set starts the beat anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.plan import JITTER
from agent.rounds import Beat

log = logging.getLogger(__name__)

CLOCK_STEP = 2.0
_ROUNDING = 0.001
SLEPT = 2.0
"""Seconds of difference between clocks that mean the clock was set, or the host slept."""


class Beats:
    """The instants at which rounds are due: random first one, then jittered. Unix seconds."""

    def __init__(self, interval: float, first: float, rng: random.Random) -> None:
        self._interval = interval
        self._rng = rng
        self._due = [first]
        self._beats: dict[float, Beat] = {}
        self._spoil = 0

    def after(self, previous: float | None, now: float) -> float:
        """The first instant after ``previous``, or not before ``now`` without one."""
        # apscheduler hands instants back as datetimes, rounded to microseconds.
        passed = now if previous is None else previous + _ROUNDING
        while self._due[-1] < passed:
            self._due.append(self._due[-1] + self._interval * (1 + self._rng.uniform(0, JITTER)))
        self._due = self._due[-64:]
        return next(due for due in self._due if due >= passed)

    def current(self, now: float) -> Beat:
        """The beat that is due now: one object for all jobs that it triggers."""
        due = max((d for d in self._due if d <= now), default=self._due[0])
        if due not in self._beats:
            self._beats = {at: b for at, b in self._beats.items() if at > due - self._interval * 3}
            self._beats[due] = Beat(due, spoiled=self._spoil > 0)
            self._spoil = max(0, self._spoil - 1)
        return self._beats[due]

    def spoil_next(self, now: float) -> None:
        """The host slept: the round under way and the next are no evidence."""
        self.current(now).spoiled = True
        self._spoil = 1

    def begin_anew(self, first: float) -> Beats:
        """The same beat from another instant on; what the host slept through stays spoiled."""
        beats = Beats(self._interval, first, self._rng)
        beats._spoil = self._spoil
        return beats


class _OnTheBeat(BaseTrigger):  # type: ignore[misc] # apscheduler ships no types
    def __init__(self, beats: Beats) -> None:
        self._beats = beats

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        last = previous.timestamp() if previous else None
        return datetime.fromtimestamp(self._beats.after(last, now.timestamp()), UTC)


class Schedule:
    """Runs ``work(name, beat)`` for every name on every beat until stopped.

    ``skipped(reason)`` is called for each tick that was dropped: "late" or "overlap";
    ``lag(seconds)`` for each that ran.
    """

    def __init__(
        self,
        names: Iterable[str],
        interval: float,
        work: Callable[[str, Beat], Awaitable[object]],
        skipped: Callable[[str], None],
        lag: Callable[[float], None],
    ) -> None:
        self._names = tuple(names)
        self._interval = interval
        self._work = work
        self._skipped = skipped
        self._lag = lag
        self._rng = random.Random()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._beats = Beats(interval, time.time(), self._rng)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._ended = False
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def start(self, *, soon: float = 0.5) -> None:
        """``soon``: upper bound of the random first delay in seconds."""
        self._begin(time.time() + self._rng.uniform(0.05, soon))
        self._scheduler.add_listener(self._dropped, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler.add_listener(self._failed, EVENT_JOB_ERROR)
        self._scheduler.start()
        self._watch = asyncio.create_task(self._watch_clocks())

    async def drain(self, seconds: float) -> None:
        """No further round starts; those under way may end within ``seconds``."""
        self._no_more()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        await self.stop()

    async def stop(self) -> None:
        """No further round starts; those under way are cut off and report nothing."""
        self._no_more()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _no_more(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self._ended:
            self._ended = True  # shutdown itself only takes effect in the loop's next pass
            self._scheduler.shutdown(wait=False)

    def _begin(self, first: float) -> None:
        self._beats = self._beats.begin_anew(first)
        for name in self._names:
            self._scheduler.add_job(
                self._round,
                _OnTheBeat(self._beats),
                args=[name],
                id=name,
                replace_existing=True,
                max_instances=1,
                coalesce=False,  # each tick that was missed is dropped by its grace, and counted
                misfire_grace_time=max(1, int(min(self._interval / 2, 30))),
                next_run_time=datetime.fromtimestamp(first, UTC),
            )

    async def _round(self, name: str) -> None:
        beat = self._beats.current(time.time())
        self._lag(max(0.0, time.time() - beat.at))
        task = asyncio.create_task(self._run(name, beat))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # apscheduler cancels its jobs at shutdown; the round itself may drain.
            if not self._ended:
                raise

    async def _run(self, name: str, beat: Beat) -> None:
        try:
            await self._work(name, beat)
        except Exception:
            # A bug costs its own round: the next one comes all the same.
            log.exception("bug in the round of %s", name)

    def _dropped(self, event: Any) -> None:
        self._skipped("late" if event.code == EVENT_JOB_MISSED else "overlap")

    def _failed(self, event: Any) -> None:
        log.error("bug in a job: %s", event.exception)

    async def _watch_clocks(self) -> None:
        """A set clock misfires or stalls wall-clock jobs; a sleep makes old evidence of new."""
        wall, slept = _wall_offset(), _boot_offset()
        while True:
            await asyncio.sleep(1)
            if _boot_offset() - slept > SLEPT:
                log.warning("the host slept; this round and the next do not count")
                self._beats.spoil_next(time.time())
            if abs(_wall_offset() - wall) > CLOCK_STEP:
                log.warning("the clock was set; the schedule begins anew")
                self._begin(time.time() + self._interval * self._rng.uniform(0.5, 1))
            wall, slept = _wall_offset(), _boot_offset()


def _wall_offset() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_offset() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
