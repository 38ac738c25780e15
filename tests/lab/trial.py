"""One scenario, played once on the virtual clock.

It begins healthy: the agent has run for a quarter of an hour, and then for a part of the schedule's
five minutes that the seed chooses.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from agent.recorded import Judged
from probes.model import SURE, Diagnosis, Status
from tests.lab.catalogue import Catalogue
from tests.lab.chance import Loss
from tests.lab.path import Line
from tests.lab.scenario import Expected, Rules, Scenario
from tests.lab.virtual.world import Agent, VirtualWorld, configuration, shuffled

HEALTHY = 15 * 60.0
"""Seconds; WhatsApp's relays earn their trust in ten minutes."""
PHASE = 5 * 60.0
STEADY = 3
"""Rounds in a row with the right answer after which it is believed to stay."""


@dataclass(slots=True)
class VirtualStage:
    """A stage on the virtual clock."""

    world: VirtualWorld
    agent: Agent
    seed: int

    @property
    def catalogue(self) -> Catalogue:
        return self.world.catalogue

    def add(self, rules: Rules) -> None:
        for rule in rules:
            self.world.path.add(rule, self.world.clock.now)

    def clear(self) -> None:
        self.world.path.clear()

    def lie(self, name: str, *addresses: str) -> None:
        self.world.internet.lie(name, *addresses)

    def retire(self, *names: str) -> None:
        for name in names:
            self.world.internet.retire(name)

    def cache(self, address: str, names: Sequence[str]) -> None:
        self.world.internet.cache(address, names)

    def tell_the_truth(self) -> None:
        self.world.internet.tell_the_truth()

    def line(self, line: Line) -> None:
        self.world.path.set_line(line)

    def skew(self, seconds: float) -> None:
        self.world.clock.skew = seconds

    def tunnel(self) -> None:
        self.world.here.tunnel = self.world.internet.tunnelled = True

    def stall(self, seconds: float, every: float) -> None:
        """Something takes the processor for so long at a time."""

        def take() -> None:
            self.world.clock.now += seconds
            self.world.loop.call_later(every, take)

        take()

    def suspend(self, seconds: float) -> None:
        self.world.clock.sleep_through(seconds)
        self.agent.beats.spoil_next(self.world.clock.wall())


@dataclass(slots=True)
class Found:
    """What one run came to. ``entered``: minutes until every expected channel was in a bad state;
    ``minutes`` and ``packets``: until the expected one, with its mechanism, None when never;
    ``accused``: what was said at likely or better of channels that are not hit; ``last``: what was
    shown at the end."""

    scenario: str
    profile: str
    seed: int
    right: bool = False
    entered: float | None = None
    minutes: float | None = None
    packets: int | None = None
    accused: list[str] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    error: str = ""


def line_of(rng: random.Random) -> Line:
    """An ordinary line: 30 to 120 ms there and back, some jitter, hardly any loss."""
    loss = rng.choice((0.0, 0.0, 0.001, 0.004))
    seed = rng.randrange(1 << 30)
    return Line(
        delay=rng.uniform(0.015, 0.06),
        jitter=rng.choice((0.0, 0.002, 0.01)),
        loss_out=Loss(loss, seed=seed),
        loss_in=Loss(loss, seed=seed + 1),
    )


@dataclass(slots=True)
class Started:
    """An agent on a healthy line, ready for scenarios."""

    world: VirtualWorld
    agent: Agent
    profile: str
    since: float

    def go_on(self, seconds: float) -> None:
        """Stay healthy until so many seconds after the common start."""
        self.world.run(self.agent.rounds(self.since + seconds))

    def play(self, scenario: Scenario, seed: int) -> Found:
        """Play ``scenario`` to its end; this process is of no further use."""
        return self.world.run(_play(self, scenario, seed))  # type: ignore[no-any-return] # what _play returns


def started(
    profile: str,
    seed: int,
    directory: File,
    *,
    ipv6: bool = False,
    cold: bool = False,
    transfers: float | None = None,
    decides: tuple[str, ...] = (),
) -> Started:
    rng = random.Random(seed)
    world = VirtualWorld(seed, line=line_of(rng), ipv6=ipv6)
    world.__enter__()
    agent = Agent(world, shuffled(configuration(profile, directory, transfers, decides), rng))
    if not cold:
        world.run(agent.rounds(world.clock.now + HEALTHY))
    return Started(world, agent, profile, world.clock.now)


def phase_of(seed: int) -> float:
    """Seconds of health after the common start."""
    return random.Random(~seed).uniform(0.0, PHASE)


class Bugs(logging.Handler):
    """What the agent logs as a bug of its own, which it survives and a test must not."""

    def __init__(self, found: Found) -> None:
        super().__init__(logging.ERROR)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        self.found.error = self.found.error or self.format(record)


async def _play(of: Started, scenario: Scenario, seed: int) -> Found:
    world, agent = of.world, of.agent
    world.rng.seed(seed)
    found = Found(scenario.name, of.profile, seed)
    logging.getLogger().addHandler(Bugs(found))  # for good: this process plays nothing else
    watch = Watch(of, scenario, found)
    core, diagnose = agent.core, agent.core.diagnose

    async def watched(*args: Any) -> Judged:
        judged = await diagnose(*args)
        watch.accusations(judged.raw)
        return judged

    stage = VirtualStage(world, agent, seed)
    begun = world.clock.now
    watch.began, watch.sent = begun, world.kernel.sent
    core.diagnose = watched  # type: ignore[method-assign] # seen on its way
    happenings = sorted(scenario.happens, key=lambda it: it[0]) or [(0.0, lambda stage: None)]
    ends = [minute for minute, _ in happenings[1:]] + [scenario.minutes]
    for (minute, happen), end in zip(happenings, ends, strict=True):
        watch.settled = end == scenario.minutes
        happen(stage)
        if end > minute:
            await _until(agent, watch, begun + 60 * end, minute)
    found.last = watch.shown()
    found.right = watch.right()
    if not scenario.innocent and not found.right:
        found.minutes = found.packets = None
    await agent.stop()
    return found


async def _until(agent: Agent, watch: Watch, until: float, since: float) -> None:
    """Rounds until then, or until it has been right for long enough."""
    clock = agent.world.clock
    while clock.now < until and not watch.done():
        await agent.rounds(min(until, clock.now + 66.0), watch.after)


class Watch:
    """Looks at every round of a run."""

    def __init__(self, of: Started, scenario: Scenario, found: Found) -> None:
        self.core, self.world = of.agent.core, of.world
        self.scenario, self.found = scenario, found
        self.expected = scenario.expected(of.profile)
        self.began, self.sent = 0.0, 0
        self.settled = False
        self.steady = 0
        self.broken = False
        places = {f"{e.messenger} {e.channel}" for e in self.expected}
        self.hit = places | set(scenario.beside)

    def after(self, name: str, shown: Sequence[Diagnosis]) -> None:
        self.accusations(shown)
        if self.scenario.innocent or not self.expected:
            return
        fits = all(self._fits(e) for e in self.expected)
        self.broken = self.broken or not fits
        passed = round((self.world.clock.now - self.began) / 60, 2)
        if self.found.entered is None and all(map(self._is_bad, self.expected)):
            self.found.entered = passed
        if fits and self.found.minutes is None:
            self.found.minutes = passed
            self.found.packets = self.world.kernel.sent - self.sent
        elif not fits:
            self.found.minutes = self.found.packets = None
        self.steady = self.steady + 1 if fits else 0

    def _fits(self, e: Expected) -> bool:
        d = self.core.shown.get((e.messenger, e.channel))
        if d is None or d.status not in e.status:
            return False
        return not e.mechanism or str(d.mechanism) in e.mechanism

    def _is_bad(self, e: Expected) -> bool:
        d = self.core.shown.get((e.messenger, e.channel))
        return d is not None and d.status not in (Status.OK, Status.UNKNOWN)

    def accusations(self, seen: Sequence[Diagnosis]) -> None:
        for d in seen:
            place = f"{d.messenger} {d.channel}"
            if place in self.hit and not self.scenario.innocent:
                continue
            said = [f for f in d.findings if f.mechanism.interference and f.certainty in SURE]
            told = [f"{place}: {f.mechanism} {f.rule} {f.confidence}" for f in said]
            if d.status is Status.BLOCKED and not told:
                told = [f"{place}: blocked"]
            self.found.accused += [t for t in told if t not in self.found.accused]

    def done(self) -> bool:
        """Has it been right for long enough? Never where nothing is expected to change."""
        ok = all(e.status == ("ok",) for e in self.expected)
        return bool(self.settled and not ok and self.steady >= 2 * STEADY)

    def right(self) -> bool:
        if self.found.accused or ("always" in self.scenario.tags and self.broken):
            return False
        return all(self._fits(e) for e in self.expected)

    def shown(self) -> dict[str, str]:
        told = {}
        for (messenger, channel), d in self.core.shown.items():
            place = f"{messenger} {channel}"
            if place in self.hit or self.scenario.innocent or d.status is not Status.OK:
                first = f" {d.first.rule} {d.first.confidence}" if d.first else ""
                told[place] = f"{d.status} {d.mechanism}{first}"
        return told
