"""Contrasts asked within their round: what the plan says, as far as manners and time allow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from agent import contrasts
from agent.case import Differs
from agent.companion import Companion
from agent.contrasts import Around, Failed, FollowUp, LeftOut
from agent.diagnosis import Evidence, usable
from agent.manners import Manners
from agent.plan import Cadence
from agent.rounds import Ran, Runner, control_results
from agent.sighting import connects
from agent.vantage import Judgement
from config.model import MessengerConfig, TargetConfig
from probes.measure import Check, measure_at
from probes.model import Contrast, Diagnosis, Observation, Status, Step
from probes.net import resolver
from probes.net.address import is_bogon
from probes.net.environment import Environment
from probes.net.errors import NotMeasured

log = logging.getLogger(__name__)

AILING = (Status.UNREACHABLE, Status.DEGRADED)
UNHURRIED = 40.0
"""Seconds of an interval from which on contrasts have the probes' own limits; below, a share."""
SHARE = 0.15
CUT_OFF = 0.95
"""Share of the interval after which a round goes on without its contrasts."""
AT_ONCE = 8

_WORDS = {
    "profile": "profile: client does not ask it",
    "no_control": "no control lends its name",
    "no_resolver": "no trusted resolver is configured",
    "residual": "it would have to wait until a filter has forgotten",
    "time": "the round was over",
}
Wave = Callable[[Failed, Sequence[Observation], Around], contrasts.Plan]


@dataclass(frozen=True, slots=True)
class Followed:
    """A messenger's round, judged as far as it goes without contrasts."""

    messenger: MessengerConfig
    runner: Runner
    ran: Ran
    raw: Sequence[Diagnosis]
    evidence: Sequence[Evidence]
    judgement: Judgement


@dataclass(slots=True)
class Follower:
    """``skipped`` counts by reason what was not asked; ``kept`` are the contrasts of failures that
    are still evidence, by messenger."""

    env: Environment
    manners: Manners
    research: bool
    skipped: Counter[str]
    twin: Companion | None = None
    kept: dict[str, tuple[Observation, ...]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    _ailing: dict[str, frozenset[str]] = field(default_factory=dict)

    async def before(self, runner: Runner, controls: Sequence[Evidence], cadence: Cadence) -> None:
        """The neutral names of targets that failed in TLS before, ahead of their own."""
        ailing = self._ailing.get(runner.name)
        if not ailing:
            return
        now = time.time()
        failed = [
            (target, o)
            for target in runner.targets
            if target.target.channel in ailing and (seen := runner.seen.get(target.target.name))
            for o in seen.conclusive
            if seen.asked.until <= now
        ]
        around = self._around(controls, frozenset(), frozenset())
        asks = contrasts.before(contrasts.hellos(failed), around)
        seen_now = await self._ask(asks, _limit(cadence))
        self.kept[runner.name] = (*self.kept.get(runner.name, ()), *seen_now)

    async def after(
        self,
        of: Followed,
        controls: Sequence[Evidence],
        verified: frozenset[str],
        cadence: Cadence,
        seconds: float,
    ) -> tuple[Observation, ...]:
        """Ask what would explain this round's failures, for so many seconds at the most; returns
        all contrasts that are evidence now."""
        name = of.messenger.name
        ailing = frozenset(d.channel for d in of.raw if d.status in AILING)
        self._ailing[name] = ailing
        if not ailing:
            self.kept.pop(name, None)
            return ()
        kept = self._still_evidence(of.runner, cadence)
        failed = _failed(of, ailing)
        if failed and seconds > 0:
            kept = [_of_its_round(c, failed) for c in kept]
            around = self._around(controls, _heard(of.ran), verified, _connected(of.ran))
            kept += await self._waves(of.messenger, failed, kept, around, _limit(cadence), seconds)
        self.kept[name] = tuple(kept)
        return self.kept[name]

    def forget(self) -> None:
        """Another network."""
        self.kept.clear()
        self._ailing.clear()

    def _still_evidence(self, runner: Runner, cadence: Cadence) -> list[Observation]:
        """A contrast belongs to the round of what it explains, and lasts as long as that."""
        found = []
        for c in self.kept.get(runner.name, ()):
            seen = runner.seen.get(c.target.name)
            if seen is not None and seen.at is not None and c.at >= seen.at - cadence.interval:
                found.append(c)
        return found

    def _around(
        self,
        controls: Sequence[Evidence],
        heard: frozenset[tuple[str, int]],
        verified: frozenset[str],
        siblings: tuple[tuple[str, int], ...] = (),
    ) -> Around:
        working = contrasts.neutrals(control_results(controls, set()))
        far = [n for n in working if not self.manners.is_spared(n.address)]
        servers = resolver.nameservers(self.env)
        return Around(
            research=self.research,
            neutral=working[0] if working else None,
            # The neutral name's own address is left in peace while there is another.
            far=far[-1] if far else None,
            trusted=self.env.trusted,
            system=servers[0] if servers else None,
            heard=heard,
            verified=verified,
            siblings=siblings,
            twin=self.twin,
        )

    async def _waves(
        self,
        messenger: MessengerConfig,
        failed: Failed,
        before: Sequence[Observation],
        around: Around,
        limit: float | None,
        seconds: float,
    ) -> list[Observation]:
        made: list[Observation] = []
        names = {(c.address, c.facts.get("port")) for c in before if _differs(c, Differs.NAME)}

        def opening(failed: Failed, _: Sequence[Observation], around: Around) -> contrasts.Plan:
            asks, left = contrasts.first(messenger, failed, around)
            return [
                a for a in asks if (a.address, a.port) not in names or a.differs != "name"
            ], left

        waves: tuple[Wave, ...] = (opening, contrasts.second, contrasts.last)
        asking: list[FollowUp] = []
        try:
            async with asyncio.timeout(seconds):
                for wave in waves:
                    asking, left = wave(failed, [*before, *made], around)
                    for one in left:
                        self._leave_out(one)
                    made += await self._ask(asking, limit)
        except TimeoutError:
            for ask in asking:
                self._leave_out(LeftOut(ask.of, ask.differs, "time"))
        return made

    async def _ask(self, asks: Sequence[FollowUp], limit: float | None) -> list[Observation]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(ask: FollowUp) -> Observation | None:
            async with gate:
                return await self._ask_one(ask, limit)

        return [o for o in await asyncio.gather(*map(one, asks)) if o is not None]

    async def _ask_one(self, ask: FollowUp, limit: float | None) -> Observation | None:
        check = Check(ask.config.target, ask.probe, ask.host, ask.port, timeout=limit)
        mark = Contrast(ask.of.id, ask.differs)
        try:
            return await measure_at(check, self.env, ask.address, mark, ask.facts)
        except NotMeasured as error:
            self._leave_out(LeftOut(ask.of, ask.differs, error.reason))
        except Exception:
            # A bug costs only its own check, and is never shown as the network's doing.
            log.exception("bug in the contrast %s of %s", ask.differs, ask.of.target.name)
        finally:
            if ask.differs is Differs.ADDRESS:
                self.manners.spare(ask.address, contrasts.window_of(ask.of))
        return None

    def _leave_out(self, one: LeftOut) -> None:
        self.skipped[one.reason] += 1
        why = _WORDS.get(one.reason, one.reason.replace("_", " "))
        target = one.of.target
        what = "at the twin" if one.differs is Differs.TWIN else f"another {one.differs}"
        said = f"{target.messenger} {target.name}, {what}: {why}"
        log.debug("contrast not asked: %s", said)
        if said not in self.left_out:
            self.left_out.append(said)


def _limit(cadence: Cadence) -> float | None:
    """Seconds that a step of a contrast may take; None for the probes' own limits."""
    return None if cadence.interval >= UNHURRIED else SHARE * cadence.interval


def _failed(of: Followed, ailing: frozenset[str]) -> list[tuple[TargetConfig, Observation]]:
    """What failed in this very round, of the deciding targets of ailing channels."""
    now = {o.id for f in of.ran.finished for o in f.measured.observations}
    found = []
    for e in of.evidence:
        if e.config.informative or not e.proven or e.config.target.channel not in ailing:
            continue
        seen = usable(e, of.judgement)
        if not any(o.works for o in seen):
            found += [(e.config, o) for o in seen if o.id in now]
    return found


def _heard(ran: Ran) -> frozenset[tuple[str, int]]:
    return frozenset(
        (o.address, f.ask.target.port)
        for f in ran.finished
        for o in f.measured.observations
        if o.address and any(s.step is Step.CONNECT for s in o.steps)
    )


def _connected(ran: Ran) -> tuple[tuple[str, int], ...]:
    found = [
        (o.at, o.address, f.ask.target.port)
        for f in ran.finished
        for o in f.measured.observations
        if o.address and connects(o)
    ]
    return tuple((address, port) for _, address, port in sorted(found))


def _differs(c: Observation, differs: Differs) -> bool:
    return c.contrast is not None and c.contrast.differs == differs


def _of_its_round(c: Observation, failed: Failed) -> Observation:
    """A neutral name that went ahead belongs to the failure that came after it."""
    same = [o for config, o in failed if o.address == c.address and o.target == c.target]
    if not same or not _differs(c, Differs.NAME):
        return c
    return replace(c, contrast=Contrast(same[0].id, Differs.NAME))


def is_private(env: Environment) -> bool:
    """Is the host's own resolver a router's or this host's?"""
    servers = resolver.nameservers(env)
    return bool(servers) and is_bogon(servers[0][0])
