"""Contrasts asked within their round: what the plan says, as far as manners and time allow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from agent import contrasts, pace, repeats
from agent.asks import (
    Around,
    Failed,
    Fetched,
    FollowUp,
    LeftOut,
    Plan,
    hellos,
    neutrals,
    window_of,
)
from agent.case import Differs, Symptom, differs_in, symptom_of, took
from agent.companion import Companion
from agent.diagnosis import Evidence, unmasked, usable
from agent.knobs import FIELD_INTERVAL
from agent.manners import Manners
from agent.plan import Cadence
from agent.rounds import Ran, Runner, control_results
from agent.sighting import connects
from agent.vantage import Judgement
from config.model import MessengerConfig, TargetConfig
from probes.measure import Check, measure_at
from probes.model import Contrast, Diagnosis, Observation, Role, Status, Step
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

PATIENCE = repeats.LONGEST + 120.0
"""Seconds that a patient round by hand waits for its contrasts at the most."""
FETCHING = 40.0
"""Seconds that must be left of a round for a transfer in it."""
_AGAIN = 2.0
"""Seconds after which a patient round asks its manners again."""
_NOT_YET = ("handshake_rate", "min_interval", "packet_budget", "residual")
PAST = 24 * 3600.0
"""Seconds for which what was seen of an ailing channel is kept, at most ``PAST_MOST`` of it."""
PAST_MOST = 2000

_WORDS = {
    "profile": "profile: client does not ask it",
    "no_control": "no control lends its name",
    "no_resolver": "no trusted resolver is configured",
    "residual": "it would have to wait until a filter has forgotten",
    "time": "the round was over",
}
Wave = Callable[[Failed, Sequence[Observation], Around], Plan]


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
    patient: bool = False
    waiting: int = 0
    """Contrasts that wait for their time."""
    kept: dict[str, tuple[Observation, ...]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    past: dict[str, tuple[Observation, ...]] = field(default_factory=dict)
    _ailing: dict[str, frozenset[str]] = field(default_factory=dict)
    _fetching: dict[str, asyncio.Lock] = field(default_factory=dict)
    """By address: two transfers at once would slow each other."""
    _scale: float = 1.0
    """Of the seconds to wait, in a laboratory's shorter day."""

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
        asks = contrasts.before(hellos(failed), around)
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
        self._scale = min(1.0, cadence.interval / FIELD_INTERVAL)
        if not ailing:
            self.kept.pop(name, None)
            return ()
        kept = self._still_evidence(of.runner, cadence)
        failed = _failed(of, ailing)
        if failed and seconds > 0:
            kept = [_of_its_round(c, failed) for c in kept]
            around = self._around(controls, _heard(of.ran), verified, _connected(of.ran))
            made = await self._waves(of.messenger, failed, kept, around, _limit(cadence), seconds)
            for c in made:
                if differs_in(c, Differs.AGAIN):
                    of.runner.wait(c)
            kept += made
        self.kept[name] = tuple(kept)
        return self.kept[name]

    def remember(self, of: Followed, *, settling: bool = False) -> tuple[Observation, ...]:
        """What earlier rounds saw of channels that were ailing at some time in the last day; this
        round is kept for the next ones."""
        name, now = of.messenger.name, time.time()
        current = {o.id for f in of.ran.finished for o in f.measured.observations}
        before = [o for o in self.past.get(name, ()) if 0 <= now - o.at < PAST]
        known = {o.id for o in before}
        before += [c for c in self.kept.get(name, ()) if c.id not in known]
        # A round by hand is judged twice, with its streams the second time.
        before = [
            o
            for o in before
            if o.id not in current and (o.contrast is None or o.contrast.of not in current)
        ]
        channels = {o.target.channel for o in before}
        channels |= {d.channel for d in of.raw if d.status in AILING}
        counts = channels and not of.judgement.masks and not settling
        added = _of_round(of, channels) if counts else ()
        self.past[name] = (*before, *added)[-PAST_MOST:]
        return tuple(before)

    def drop(self, void: Callable[[Observation], bool]) -> None:
        for memory in (self.past, self.kept):
            for name, seen in memory.items():
                memory[name] = tuple(o for o in seen if not void(o))

    def fetched_lately(self, name: str, since: float) -> frozenset[str]:
        """The targets whose transfers were asked once more from then on (Unix seconds)."""
        return frozenset(
            c.target.name for c in self.kept.get(name, ()) if pace.is_transfer(c) and c.at >= since
        )

    def forget(self) -> None:
        """Another network."""
        self.kept.clear()
        self.past.clear()
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
        working = neutrals(control_results(controls, set()))
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
            fetched=_fetched(controls),
            public=_silent_stun(controls),
            patient=self.patient,
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
        names = {(c.address, c.facts.get("port")) for c in before if differs_in(c, Differs.NAME)}

        def opening(failed: Failed, _: Sequence[Observation], around: Around) -> Plan:
            asks, left = contrasts.first(messenger, failed, around)
            return [
                a for a in asks if (a.address, a.port) not in names or a.differs != "name"
            ], left

        waves: tuple[Wave, ...] = (opening, contrasts.second, *repeats.WAVES, contrasts.last)
        if seconds < FETCHING:  # what is cut off would be fetched anew in every round
            waves = tuple(wave for wave in waves if wave is not repeats.transfers)
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
            if ask.differs is Differs.AGAIN:
                await asyncio.sleep(ask.wait * self._scale)  # nobody needs to be told of this
            elif ask.wait:
                await self._pause(ask.wait * self._scale)
            if ask.probe.kind == "transfer":
                async with self._fetching.setdefault(ask.address, asyncio.Lock()):
                    return await self._ask_one(ask, limit)
            async with gate:
                return await self._ask_one(ask, limit)

        return [o for o in await asyncio.gather(*map(one, asks)) if o is not None]

    async def _ask_one(self, ask: FollowUp, limit: float | None) -> Observation | None:
        if ask.probe.kind == "transfer":
            limit = None  # a pace takes its seconds, whatever the schedule
        check = Check(ask.config.target, ask.probe, ask.host, ask.port, timeout=limit)
        mark = Contrast(ask.of.id, ask.differs)
        try:
            while True:
                try:
                    return await measure_at(check, self.env, ask.address, mark, ask.facts)
                except NotMeasured as error:
                    if not self.patient or error.reason not in _NOT_YET:
                        raise
                await self._pause(_AGAIN * self._scale)
        except NotMeasured as error:
            self._leave_out(LeftOut(ask.of, ask.differs, error.reason))
        except Exception:
            # A bug costs only its own check, and is never shown as the network's doing.
            log.exception("bug in the contrast %s of %s", ask.differs, ask.of.target.name)
        finally:
            elsewhere = ask.differs is Differs.BURST and ask.address != ask.of.address
            if ask.differs is Differs.ADDRESS or elsewhere:
                self.manners.spare(ask.address, window_of(ask.of))
        return None

    async def _pause(self, seconds: float) -> None:
        self.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.waiting -= 1

    def _leave_out(self, one: LeftOut) -> None:
        self.skipped[one.reason] += 1
        why = _WORDS.get(one.reason, one.reason.replace("_", " "))
        target = one.of.target
        plain = {Differs.TWIN: "at the twin", Differs.AGAIN: "once more"}
        what = plain.get(one.differs, f"another {one.differs}")
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
        if (
            e.proven and e.config.target.channel in ailing
        ):  # transfers are rare: any fresh one will do
            found += [(e.config, o) for o in usable(e, of.judgement) if pace.is_bad(o)]
        if e.config.informative or not e.proven or e.config.target.channel not in ailing:
            continue
        seen = usable(e, of.judgement)
        if not any(o.works for o in seen):
            found += [(e.config, o) for o in seen if o.id in now and not pace.is_bad(o)]
    return found


def _of_round(of: Followed, channels: Collection[str]) -> list[Observation]:
    """What this very round saw of the channels' deciding targets, as far as masks leave it."""
    return [
        o
        for f in of.ran.finished
        if f.ask.target.target.channel in channels and not f.ask.target.informative
        for o in unmasked(f.measured.observations, of.judgement)
    ]


def _silent_stun(controls: Sequence[Evidence]) -> tuple[tuple[str, int], ...]:
    """Public call servers that did not answer in this round."""
    return tuple(
        (str(o.address), e.config.port)
        for e in controls
        if e.fresh and e.proven and e.config.role is Role.STUN and e.config.target.probe == "stun"
        for o in e.observations
        if symptom_of(o) is Symptom.UDP_SILENT
    )


def _fetched(controls: Sequence[Evidence]) -> Fetched | None:
    """The control's transfer that the messengers' are held against."""
    found = (
        Fetched(e.config, o)
        for e in controls
        if e.fresh and e.proven
        for o in e.observations
        if pace.is_transfer(o) and o.address
    )
    return next(found, None)


def _heard(ran: Ran) -> frozenset[tuple[str, int]]:
    return frozenset(
        (o.address, f.ask.target.port)
        for f in ran.finished
        for o in f.measured.observations
        if o.address and took(o, Step.CONNECT)
    )


def _connected(ran: Ran) -> tuple[tuple[str, int], ...]:
    found = [
        (o.at, o.address, f.ask.target.port)
        for f in ran.finished
        for o in f.measured.observations
        if o.address and connects(o)
    ]
    return tuple((address, port) for _, address, port in sorted(found))


def _of_its_round(c: Observation, failed: Failed) -> Observation:
    """A neutral name that went ahead belongs to the failure that came after it."""
    same = [o for config, o in failed if o.address == c.address and o.target == c.target]
    if not same or not differs_in(c, Differs.NAME):
        return c
    return replace(c, contrast=Contrast(same[0].id, Differs.NAME))


def is_private(env: Environment) -> bool:
    """Is the host's own resolver a router's or this host's?"""
    servers = resolver.nameservers(env)
    return bool(servers) and is_bogon(servers[0][0])
