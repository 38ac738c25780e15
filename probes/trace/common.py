"""What all methods of a trace have in common: its limits, its runs, and what they come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from probes.net.address import Source
from probes.net.hops import FULL, Answer, Connections, Datagrams, Seen
from probes.net.raw import Raw
from probes.trace.place import MOST, Place, Run, Sign, Stretch, place, settled
from probes.trace.words import Make, Words

SENDS = 3
SURVEYED = 4
"""Flows with all hops before anything else."""
MANY = 24
"""Flows that must all have passed: one in a thousand times they all miss a filter on one of four
paths."""
FRESH = 8
"""New flows that must all be dead before an address is thought to be remembered: of two paths, one
of which is filtered, they all meet that once in 256 times."""
MOST_PACKETS = 2000
"""Of one trace, connections' own included."""
SWIFT = 58.0
"""Seconds after which no run ends that is not needed, where no filter's memory is waited for."""
FEWEST = 2
"""Runs that must have met the filter, also where that takes longer."""
SPREAD = 1.1
"""Seconds between the packets whose silence decides: a router may report one a second."""
PAUSES = {Sign.RESET: 90.0, Sign.SILENCE: 60.0}
"""Seconds for which a filter remembers an address (interference-methods 3.2, and 5)."""


class Word(StrEnum):
    """``server``: nothing acts on the way, and the server does not answer."""

    FOUND = "found"
    NOTHING = "no_interference"
    SERVER = "dead_server"
    UNCLEAR = "unclear"


@dataclass(slots=True)
class Report:
    """``method`` as in interference-methods 3.3; ``why`` where the word alone does not say."""

    word: Word
    method: str
    signs: frozenset[Sign] = frozenset()
    place: Place | None = None
    runs: list[Run] = field(default_factory=list)
    packets: int = 0
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """Another place that answers such packets. ``near``: it stands where the traced address does,
    so that it is as far away; ``home``: in the vantage's own country, by TCP at least."""

    address: str
    port: int
    near: bool = False
    home: bool = False


Tell = Callable[[str], None]
Flow = TypeVar("Flow")


OneRun = Callable[[frozenset[Sign]], Awaitable[Run]]


@dataclass(slots=True)
class Common:
    """``address`` and ``port`` are the messenger's; ``controls`` are for a trigger that is the
    address itself, and ``sure``: others have found that it is acted upon. ``limit``: seconds for
    all of it; ``raw``: to inject and capture by, where that is permitted; ``pauses``: seconds to
    wait before a run where a filter remembers the address, by what it does."""

    words: Words
    address: str
    port: int
    source: Source = field(default_factory=Source)
    controls: Sequence[Control] = ()
    sure: bool = False
    limit: float = 600.0
    tell: Tell = lambda text: None
    raw: Raw | None = None
    pauses: Mapping[Sign, float] = field(default_factory=lambda: PAUSES)
    packets: int = 0
    _began: float = field(default_factory=time.monotonic)
    _wait: float = 0.6
    _harmless: Make | None = None
    _answers: Sequence[Answer] = ()
    """To a harmless one."""
    _passes: bool = False
    """Some flow has passed."""
    _patience: int = 4
    """Silent flows that may be asked once more."""
    _remembers: bool = False
    """The first trigger spoilt the address for every new flow."""
    _some: bool = False
    """Several flows failed with all hops."""
    _mixed: bool = False
    """Some failed, others passed."""
    _spoilt: bool = False
    """Harmless ones do not arrive either on some flow that seemed cut off."""

    async def _survey(
        self,
        ask: Callable[[], Awaitable[Flow]],
        passed: Callable[[Flow], bool],
        told: Callable[[Flow], bool],
        flows: Sequence[Flow] = (),
    ) -> list[Flow]:
        """What becomes of flows with all hops, of more where they have ``passed`` but for one. A
        single one that was lost, and of which nobody ``told``, is chance unless there are more:
        left out then."""
        found = [*flows]
        while len(found) < MANY:
            whole = sum(map(passed, found))
            if len(found) >= SURVEYED and (whole == 0 or len(found) - whole > 1):
                break
            self._passes = whole > 0
            found.append(await ask())
        lost = [one for one in found if not passed(one)]
        if len(found) == MANY and len(lost) == 1 and not told(lost[0]):
            found += [await ask() for _ in range(MANY)]
            if all(map(passed, found[MANY:])):
                return [one for one in found if passed(one)]
        return found

    async def _stalled(self) -> bool:
        """A flow is silent: is it to be asked once more, a moment later? Where others pass, a
        server or a line may have paused. A few, since it takes time."""
        if not self._passes or not self._patience:
            return False
        self._patience -= 1
        await asyncio.sleep(SPREAD)
        return True

    async def _alive(self, flow: Datagrams) -> bool | None:
        """Do harmless datagrams with all hops get their answer? None: no such are known."""
        if self._harmless is None:
            return None
        return bool((await self._shoot(flow, self._harmless, FULL)).answers)

    async def _lives_on(self, flow: Datagrams, said: Seen) -> bool | None:
        """The same after a trigger. None as well where its server has answered it and is silent
        since: it may take the flow for another protocol's now."""
        alive = await self._alive(flow)
        return None if said.answers and not alive else alive

    async def _learn(self) -> bool:
        """Which harmless datagrams are answered here. Before anything that a filter remembers.
        Was a flow of theirs refused? On one of several paths only, it may be."""
        refused = False
        for make in self.words.harmless:
            for _ in range(SURVEYED):
                with Datagrams(self.address, self.port, self.source) as fresh:
                    seen = await self._shoot(fresh, make, FULL)
                    self.packets += fresh.sent
                refused = refused or bool(seen.refused)
                if not seen.refused:
                    break
            if seen.answers:
                self._harmless, self._answers = make, seen.answers
                self._wait = min(max(3 * seen.seconds, 0.25), 1.0)
                break
        return refused

    async def _shoot(
        self, flow: Datagrams, make: Make, hops: int, sends: int = SENDS, spread: float = 0.0
    ) -> Seen:
        seen = Seen()
        for number in range(sends):
            wait = max(self._wait, spread if number + 1 < sends else 0.0)
            seen.merge(await flow.shoot(make(), hops, wait))
            if not seen.silent:
                break
        return seen

    async def _accepted(self, on: Connections | None = None) -> bool:
        for _ in range(SENDS):
            port = on or Connections(self.address, self.port, self.source)
            seen = await port.knock(FULL, 1.0)
            self.packets += 0 if on else port.sent
            if seen.answers:
                self._wait = min(max(3 * seen.seconds, 0.25), 1.0)
                return True
        return False

    async def _all_dead(self) -> bool:
        """Does nothing harmless pass on any new flow? One of several paths is not all of them."""
        for _ in range(FRESH):
            if self.words.transport == "tcp":
                port = Connections(self.address, self.port, self.source)
                passes = bool((await port.knock(FULL, self._wait)).answers)
                self.packets += port.sent
            else:
                with Datagrams(self.address, self.port, self.source) as flow:
                    passes = await self._alive(flow) is not False
                    self.packets += flow.sent
            if passes:
                return False
        return True

    async def _runs(self, signs: frozenset[Sign], one: OneRun) -> list[Run]:
        runs: list[Run] = []
        until = self._began + self.limit
        before, longest = self.packets, 0.0
        while not settled(runs, signs, mixed=self._mixed) and time.monotonic() < until:
            if self._spoilt:
                break
            each = (self.packets - before) // len(runs) if runs else 0
            if self.packets + 2 * each > MOST_PACKETS:
                break
            if self._remembers and not await self._forgotten(signs, until, len(runs) + 1):
                break
            begun = time.monotonic()
            needed = self._remembers or sum(run.caught for run in runs) < FEWEST
            if not needed and begun + longest > self._began + SWIFT:
                break
            runs.append(await one(signs))
            longest = max(longest, time.monotonic() - begun)
            self.tell(f"run {len(runs)} of {MOST} at most")
        return runs

    async def _waiting(self, method: str, signs: frozenset[Sign], one: OneRun) -> Report:
        """Where the first trigger spoilt the address for everything else that goes there."""
        self._remembers = True
        report = self._judge(method, signs, await self._runs(signs, one))
        if not report.runs:
            report.word = Word.UNCLEAR
            pause = max((self.pauses[sign] for sign in signs if sign in self.pauses), default=0.0)
            report.why = f"a filter remembers the address for longer than {self.limit:g} s"
            if pause >= self.limit:
                report.why = f"a filter remembers the address, and {pause:g} s is to be waited"
        return report

    async def _forgotten(self, signs: frozenset[Sign], until: float, number: int) -> bool:
        """Wait until harmless packets pass again; False: there is no time for that."""
        pause = max((self.pauses[sign] for sign in signs if sign in self.pauses), default=0.0)
        while time.monotonic() + pause < until:
            self.tell(
                f"a filter remembers this address: {pause:g} s of silence before run {number}"
            )
            await asyncio.sleep(pause)
            if self.words.transport == "tcp":
                if await self._accepted():
                    return True
                continue
            with Datagrams(self.address, self.port, self.source) as flow:
                passes = await self._alive(flow)
                self.packets += flow.sent
            if passes:
                return True
        return False

    async def _nothing(self, method: str, one: OneRun) -> Report:
        """With the path, which somebody may want to see."""
        runs = [await one(frozenset())]
        return Report(Word.NOTHING, method, frozenset(), place(runs, frozenset()), runs)

    def _judge(self, method: str, signs: frozenset[Sign], runs: list[Run]) -> Report:
        found = place(runs, signs)
        report = Report(Word.FOUND, method, signs, found, runs)
        if not runs:
            report.word, report.why = Word.UNCLEAR, "there was no time for a run"
        elif not found.caught:
            report.word = Word.UNCLEAR if self._some else Word.NOTHING
            report.why = "some connections are acted upon, none of those that were traced"
        elif found.stretch is None:
            report.word, report.why = Word.UNCLEAR, "the runs contradict each other"
        elif self._mixed and Sign.FORGED not in signs and _at_the_server(runs, found.stretch):
            report.word = Word.UNCLEAR
            report.why = "some connections fail, and only at the server: it may be its own doing"
        if report.word in (Word.FOUND, Word.NOTHING):
            report.why = ""
        return report


def _at_the_server(runs: Sequence[Run], found: Stretch) -> bool:
    distance = max((run.distance or 0 for run in runs), default=0)
    return distance > 0 and found.low >= distance - 1
