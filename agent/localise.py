"""Where on the path: the agent traces a likely finding by itself, seldom, one at a time.

What is kept of a trace is the stretch, the networks at its ends and how many runs agree; no router.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent import tracedoor
from agent.asks import window_of
from agent.diagnosis import Evidence
from agent.manners import DAY, Manners
from agent.store import Store
from agent.traceable import Choice, choose, finding
from agent.tracedoor import Traced
from config.schema import LocaliseSettings
from probes.model import Diagnosis, Located, Mechanism, Status, Target
from probes.net import resolver
from probes.net.environment import Environment
from probes.wire.text import clean

log = logging.getLogger(__name__)

MOST_BYTES = 3_000_000
"""What a trace may use at the most: as much must be left of the day's budget."""
_KEY = "localise"
_AILING = (Status.DEGRADED, Status.BLOCKED, Status.UNREACHABLE)
Key = tuple[str, str, Mechanism]
"""Messenger, channel, mechanism."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one trace: when it ended (Unix seconds), None for no place."""

    at: float
    place: Located | None


class Localiser:
    """``scale``: of the seconds to wait, in a laboratory's shorter day.

    A target is traced at most ``per_day`` times in a day, and a finding not again while its last
    outcome is younger than a day's share of that, found or not.
    """

    def __init__(
        self,
        settings: LocaliseSettings,
        store: Store,
        env: Environment,
        manners: Manners,
        scale: float,
    ) -> None:
        self._settings, self._scale = settings, scale
        self._store, self._env, self._manners = store, env, manners
        self._outcomes: dict[Key, Outcome] = {}
        self._begun: dict[tuple[str, str], list[float]] = {}
        self._task: asyncio.Task[None] | None = None
        if settings.enabled:
            self._outcomes, self._begun = _read(store.get(_KEY) or b"")

    @property
    def busy(self) -> bool:
        """Is a trace under way, or waiting for its time?"""
        return self._task is not None and not self._task.done()

    def told(self, d: Diagnosis) -> Diagnosis:
        """With the place of what it finds, and a sentence of it, while that holds."""
        found = finding(d) if self._outcomes and d.status in _AILING else None
        if found is None:
            return d
        outcome = self._outcomes.get((d.messenger, d.channel, found.mechanism))
        if outcome is None or outcome.place is None or not 0 <= time.time() - outcome.at < DAY:
            return d
        summary = f"{d.summary.rstrip('.')}. {sentence(outcome.place)}"
        return replace(d, summary=summary, place=outcome.place)

    async def after(
        self, shown: Iterable[Diagnosis], evidence: Sequence[Evidence], controls: Sequence[Evidence]
    ) -> None:
        """Begin a trace, if a round that has just ended leaves something to be traced."""
        if not self._settings.enabled:
            return
        gone = [key for d in shown if d.status is Status.OK for key in self._of(d)]
        for key in gone:
            del self._outcomes[key]
        if gone:
            await self._save()
        if self.busy or self._refused():
            return
        for d in shown:
            found = finding(d) if d.status in _AILING else None
            if found is None or self._is_fresh((d.messenger, d.channel, found.mechanism)):
                continue
            servers = resolver.nameservers(self._env)
            choice = choose(d, evidence, controls, servers, self._may)
            if choice is not None:
                key = d.messenger, d.channel, found.mechanism
                self._task = asyncio.create_task(self._trace(key, choice))
                self._task.add_done_callback(_log_bug)
                return

    async def stop(self) -> None:
        """No packet leaves after this."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def forget(self) -> None:
        """Another network: its path is another."""
        await self.stop()
        if self._outcomes:
            self._outcomes.clear()
            await self._save()

    # --- when ---

    def _of(self, d: Diagnosis) -> list[Key]:
        return [key for key in self._outcomes if key[:2] == (d.messenger, d.channel)]

    def _refused(self) -> bool:
        left = self._manners.limits.bytes_per_day - self._manners.spent_today()
        return bool(self._manners.refusal()) or left < MOST_BYTES

    def _is_fresh(self, key: Key) -> bool:
        outcome = self._outcomes.get(key)
        age = time.time() - outcome.at if outcome else -1.0
        return 0 <= age < DAY / self._settings.per_day

    def _may(self, target: Target) -> bool:
        now = time.time()
        begun = self._begun.get((target.messenger, target.name), ())
        return sum(abs(now - at) < DAY for at in begun) < self._settings.per_day

    # --- one trace ---

    async def _trace(self, key: Key, choice: Choice) -> None:
        order, window = choice.order, self._scale * window_of(choice.seen)
        order = replace(order, source=self._env.source, asn_file=self._settings.asn_file)
        wait = max(0.0, choice.seen.at + window - time.time()) if window else 0.0
        # Nobody else asks there: the trace would meet what a filter remembers of that.
        self._manners.spare(order.address, wait + order.limit + tracedoor.OVERDUE)
        target = choice.target
        try:
            await asyncio.sleep(wait)
            if self._refused():
                return
            self._begun.setdefault((target.messenger, target.name), []).append(time.time())
            await self._save()
            log.info("looking for the place of %s, by %s %s", key[2], target.name, order.kind)
            traced = await tracedoor.trace(order, self._manners.traffic.add)
        finally:
            self._manners.spare(order.address, window)
        self._outcomes[key] = Outcome(time.time(), _located(target, traced))
        await self._save()
        log.info("%s %s, %s: %s", *key, _words(target, traced))

    async def _save(self) -> None:
        now = time.time()
        self._begun = {
            key: kept
            for key, begun in self._begun.items()
            if (kept := [at for at in begun if abs(now - at) < DAY])
        }
        await asyncio.to_thread(self._store.put, _KEY, _written(self._outcomes, self._begun))


def _located(target: Target, traced: Traced | None) -> Located | None:
    if traced is None or traced.low is None:
        return None
    low, high = (clean(text, 80) for text in traced.networks)
    return Located(
        target=target.name,
        low=traced.low,
        high=traced.high,
        agree=traced.agree,
        runs=traced.runs,
        method=traced.method,
        placement=traced.placement,
        at=time.time(),
        networks=(low, high),
    )


def _words(target: Target, traced: Traced | None) -> str:
    place = _located(target, traced)
    if place is not None:
        return sentence(place)
    return f"no place, {traced.word if traced else 'the tracer failed'}".replace("_", " ")


def sentence(place: Located) -> str:
    """Where it is done, plainly."""

    def hop(number: int, network: str) -> str:
        return f"hop {number} ({network})" if network else f"hop {number}"

    first, second = place.networks
    if place.high is None:
        where = f"behind {hop(place.low, first)}"
    elif place.low:
        where = f"between {hop(place.low, first)} and {hop(place.high, second)}"
    elif place.high == 1:
        where = "before the first router"
    else:
        where = f"within the first {place.high} hops"
    agree = f"{place.agree} of {place.runs} runs agree"
    return f"On the way to {place.target} it is done {where}; {agree}."


# --- in the store ---


def _written(outcomes: dict[Key, Outcome], begun: dict[tuple[str, str], list[float]]) -> bytes:
    told = {
        "outcomes": [
            [*key, o.at, asdict(o.place) if o.place else None] for key, o in outcomes.items()
        ],
        "begun": [[*key, at] for key, at in begun.items()],
    }
    return json.dumps(told).encode()


def _read(kept: bytes) -> tuple[dict[Key, Outcome], dict[tuple[str, str], list[float]]]:
    outcomes: dict[Key, Outcome] = {}
    begun: dict[tuple[str, str], list[float]] = {}
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        told: Any = json.loads(kept or b"{}")
        for messenger, name, times in told.get("begun", ()):
            begun[messenger, name] = [float(at) for at in times]
        for messenger, channel, mechanism, at, place in told.get("outcomes", ()):
            located = Located(**{**place, "networks": tuple(place["networks"])}) if place else None
            outcomes[messenger, channel, Mechanism(mechanism)] = Outcome(float(at), located)
    return outcomes, begun


def _log_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("bug in the localisation", exc_info=task.exception())
