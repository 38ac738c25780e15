"""One check, asked once: resolve, then one run at every address, one observation each."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from probes.model import Contrast, Fact, Failure, Family, Observation, Step, StepResult, Target
from probes.net import resolver
from probes.net.address import OwnAddresses, family_of, is_askable, is_bogon, parse
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from probes.trail import Peer, Probe, StepFailed, Trail

BOTH = frozenset({Family.IPV4, Family.IPV6})


@dataclass(frozen=True, slots=True)
class Check:
    """A target and how to ask it: what is scheduled. ``pinned`` addresses are asked beside those
    that the name resolves to; ``timeout`` replaces the probe's own limits; ``sites`` are other
    servers of the owner's that answer over TCP."""

    target: Target
    probe: Probe
    host: str
    port: int
    pinned: tuple[str, ...] = ()
    family: Family = Family.ANY
    timeout: float | None = None
    rfc_timers: bool = False
    sites: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run at one address left behind."""

    at: float
    steps: tuple[StepResult, ...]
    facts: dict[str, Fact]
    mapped: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run under way or ended, and the task that does it: that of whoever asked first."""

    outcome: asyncio.Future[Outcome]
    task: asyncio.Task[object] | None


@dataclass(slots=True)
class Memo:
    """Answers shared within one round: many names of one service lead to the same addresses, and
    the same question there is asked once."""

    names: dict[tuple[object, ...], asyncio.Task[resolver.Resolution]] = field(default_factory=dict)
    runs: dict[tuple[object, ...], Run] = field(default_factory=dict)
    closed: bool = False

    def cancel(self) -> None:
        """Stop all sending now; whoever waits for a run does not begin it anew."""
        self.closed = True
        for task in self._under_way():
            task.cancel()

    async def close(self) -> None:
        """Stop all sending, and wait until every socket is closed."""
        under_way = self._under_way()
        self.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _under_way(self) -> list[asyncio.Task[object]]:
        runs = [r.task for r in self.runs.values() if r.task and not r.outcome.done()]
        return [*self.names.values(), *runs]


@dataclass(frozen=True, slots=True)
class Measured:
    """The observations of one check, what manners left unasked (reasons), and the addresses of
    ours that STUN servers saw; those stay in memory."""

    observations: tuple[Observation, ...]
    skipped: tuple[str, ...]
    mapped: frozenset[str]


async def measure(
    check: Check,
    env: Environment,
    *,
    families: frozenset[Family] = BOTH,
    partial: bool = False,
    memo: Memo | None = None,
) -> Measured:
    """Ask ``check`` at every address of ``families``. Cancelled, it reports nothing; whoever waits
    for the same run then begins it anew."""
    if memo is not None:
        return await _measure(check, env, families, partial, memo)
    memo = Memo()
    try:
        return await _measure(check, env, families, partial, memo)
    finally:
        await memo.close()


async def _measure(
    check: Check, env: Environment, families: frozenset[Family], partial: bool, memo: Memo
) -> Measured:
    observations: list[Observation] = []
    at = time.time()
    resolution, addresses = await _addresses(check, env, memo)
    if resolution is not None and (resolution.step.failure or resolution.distrusted):
        observations += _untrusted(check, env, at, resolution)
    wanted = [a for a in addresses if family_of(a) in families and is_askable(a)]
    results = await _all([_shared_run(check, env, a, partial, memo) for a in wanted])
    skipped: list[str] = []
    mapped: set[str] = set()
    for address, result in zip(wanted, results, strict=True):
        if isinstance(result, NotMeasured):
            skipped.append(result.reason)
        elif isinstance(result, BaseException):
            raise result
        else:
            first = (resolution.step,) if resolution and address in resolution.addresses else ()
            observations.append(_observation(check, env, address, first, result, partial))
            if result.mapped:
                mapped.add(result.mapped)
    return Measured(tuple(observations), tuple(skipped), frozenset(mapped))


async def measure_at(
    check: Check, env: Environment, address: str, contrast: Contrast, facts: dict[str, Fact]
) -> Observation:
    """Ask ``check`` at one address as a contrast. Raises NotMeasured. Its kind is its own, so that
    it is spaced from others of its kind and not from what it explains; at the operator's own
    server one messenger's contrasts do not keep those of another waiting."""
    asked = (contrast.differs, check.probe.kind, check.probe.subject(check.host))
    whose = check.target.messenger if check.probe.kind == "twin" else ""
    kind = " ".join((*asked, str(facts.get("transport", "")), whose))
    outcome = await _run(check, env, address, False, kind)
    made = _observation(check, env, address, (), outcome, False)
    return replace(made, facts={**made.facts, "port": check.port, **facts}, contrast=contrast)


async def _all(runs: list[Coroutine[object, object, Outcome]]) -> list[Outcome | BaseException]:
    """The results of all runs, a NotMeasured among them as a value."""
    if len(runs) != 1:
        return await asyncio.gather(*runs, return_exceptions=True)
    try:
        return [await runs[0]]  # the usual case does without a task of its own
    except NotMeasured as reason:
        return [reason]


async def _addresses(
    check: Check, env: Environment, memo: Memo
) -> tuple[resolver.Resolution | None, list[str]]:
    """Literal host, or what the name resolves to, with the pinned ones beside."""
    literal = parse(check.host)
    if literal is not None:
        found, resolution = [check.host], None
    elif not check.host:
        found, resolution = [], None
    else:
        # A pinned bogon is believed, but only for the target whose file names it.
        vouched = frozenset(a for a in check.pinned if is_bogon(a) or env.own.holds(a))
        key = (check.host.lower(), check.family, vouched)
        if key not in memo.names:
            work = resolver.lookup(env, check.host, check.family, check.pinned)
            memo.names[key] = asyncio.create_task(work)
        resolution = await asyncio.shield(memo.names[key])
        found = list(resolution.addresses)
    wanted = dict.fromkeys([*found, *check.pinned])
    if check.family is not Family.ANY:
        return resolution, [a for a in wanted if family_of(a) is check.family]
    return resolution, list(wanted)


def _untrusted(
    check: Check, env: Environment, at: float, resolution: resolver.Resolution
) -> list[Observation]:
    """Observations for what resolving went wrong with: one for the name, or one per address that
    was answered but is not connected to."""
    spent = resolution.step.seconds
    if not resolution.distrusted:
        return [_record(check, env.own, at, (resolution.step,), dict(resolution.facts), False)]
    refused = StepResult(
        Step.RESOLVE, spent, Failure.BAD_ANSWER, "not an address for a public name"
    )
    made = []
    for address in resolution.distrusted:
        facts: dict[str, Fact] = {**resolution.facts, "family": str(family_of(address))}
        if not env.own.holds(address):
            facts["address"] = address
        made.append(_record(check, env.own, at, (refused,), facts, False))
    return made


async def _shared_run(
    check: Check, env: Environment, address: str, partial: bool, memo: Memo
) -> Outcome:
    key = (address, check.port, check.timeout, *_question(check, partial))
    while (run := memo.runs.get(key)) is not None and not run.outcome.cancelled():
        try:
            shared = await asyncio.shield(run.outcome)
        except asyncio.CancelledError:
            if memo.closed or not run.outcome.cancelled() or _is_cancelled():
                raise
            continue  # whoever ran it was cancelled, and not we
        return replace(shared, facts={**shared.facts, "shared": True})
    return await _first_run(check, env, address, partial, memo, key)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _first_run(
    check: Check,
    env: Environment,
    address: str,
    partial: bool,
    memo: Memo,
    key: tuple[object, ...],
) -> Outcome:
    """Run in the caller's own task: one more for each of thousands is a tenth of their cost."""
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    memo.runs[key] = Run(outcome, asyncio.current_task())
    try:
        result = await _run(check, env, address, partial)
    except asyncio.CancelledError:
        outcome.cancel()
        raise
    except Exception as error:
        outcome.set_exception(error)
        outcome.exception()  # seen here; whoever else waits sees it too
        raise
    outcome.set_result(result)
    return result


def _question(check: Check, partial: bool) -> tuple[object, ...]:
    """What the peer gets to see of a run, beside its own address. Only a handshake tells it the
    name that the address stands for; up to ``connect`` nothing tells it anything."""
    if partial or check.probe.kind == "tcp":
        return ("tcp",)
    return (check.probe, check.probe.subject(check.host), check.rfc_timers)


async def _run(
    check: Check, env: Environment, address: str, partial: bool, kind: str = ""
) -> Outcome:
    named = f"{check.probe.kind} {check.probe.subject(check.host)}".strip()
    kind = "tcp" if partial else kind or named
    packets = 1 if partial else check.probe.packets_per_run
    await env.courtesy.check(check.target, address, check.port, kind, packets)
    paced: Any = check.probe
    if hasattr(paced, "stream_packets"):
        many, rate = paced.stream_packets
        await env.courtesy.stream(check.target, address, check.port, many, rate, paced.fast)
    trail = Trail(env, check.timeout, partial, check.rfc_timers, check.sites)
    at = time.time()
    with contextlib.suppress(StepFailed):  # the reason is the last step on the trail
        await check.probe.run(trail, Peer(address, check.port, _name(check.host)))
    return Outcome(at, tuple(trail.steps), trail.facts, trail.mapped)


def _name(host: str) -> str:
    return "" if parse(host) is not None else host


def _observation(
    check: Check,
    env: Environment,
    address: str,
    first: tuple[StepResult, ...],
    outcome: Outcome,
    partial: bool,
) -> Observation:
    facts = {"address": address, "family": str(family_of(address)), **outcome.facts}
    own = env.own
    if outcome.mapped:  # the agent hears of it after the round, and these texts were sent with it
        own = OwnAddresses(own.local, own.mapped | {outcome.mapped})
    return _record(check, own, outcome.at, (*first, *outcome.steps), facts, partial)


def _record(
    check: Check,
    own: OwnAddresses,
    at: float,
    steps: tuple[StepResult, ...],
    facts: dict[str, Fact],
    partial: bool,
) -> Observation:
    clean: dict[str, Fact] = {}
    for key, value in facts.items():
        if isinstance(value, str):
            if key != "address" and ("." in value or ":" in value):
                value = own.scrub(value)
        elif isinstance(value, tuple):
            value = tuple(own.scrub(text) for text in value)
        clean[key] = value
    told = tuple(
        replace(step, detail=own.scrub(step.detail)) if step.detail else step for step in steps
    )
    return Observation(secrets.token_hex(8), check.target, at, told, clean, partial)
