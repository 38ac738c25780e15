"""``callpath check``: one round by hand, and what its exit code says."""

from __future__ import annotations

import asyncio
import math
import sys
import time

from agent.accepted import accept
from agent.core import Core
from agent.followup import PATIENCE
from agent.rounds import Beat, Controls, Ran, joined
from agent.state import Steady
from agent.store import Store
from agent.verdicts import tell
from agent.wiring import state_dir
from config.model import Config, ConfigError, MessengerConfig
from exporters.feed import AgentFigures
from probes.measure import BOTH
from probes.model import CONTROL, Diagnosis, Observation, Report, Status, VantageStatus

OVER = 88.0
"""Seconds after which a round by hand goes without further contrasts (design 5.1: 90 in all)."""
ASKED = -math.inf
"""In place of it: its contrasts were asked already."""
_SPINNER_PAUSE = 0.2
Explained = tuple[MessengerConfig, Ran, tuple[Diagnosis, ...]]


async def run_check(
    config: Config, names: tuple[str, ...], *, quiet: bool, patient: bool = False
) -> Report:
    """One round of everything. Reads and writes what was learned, never channel state. ``patient``:
    contrasts that must wait for their time are waited for, ``PATIENCE`` seconds at the most.
    Raises ConfigError for a signed catalogue that is older than one in use before.

    Progress goes to stderr when it is a terminal and not ``quiet``.
    """
    store = Store(state_dir(config))
    try:
        accept(config, store)
    except ConfigError:
        store.close()
        raise
    core = Core(config, store, AgentFigures(), lambda update: None)
    core.follower.patient = patient
    round_task = asyncio.create_task(one_round(core, names))
    try:
        if not quiet and sys.stderr.isatty():
            await _progress(core, round_task)
        return await round_task
    finally:
        await core.stop()
        await core.engine.close()
        store.close()


async def one_round(core: Core, names: tuple[str, ...]) -> Report:
    """Everything, now, and the contrasts of what failed; raw diagnoses, no state."""
    core.outside.start()
    patience = PATIENCE if core.follower.patient else 0.0
    beat, over = Beat(time.time()), time.monotonic() + OVER + patience
    chosen = [core.messengers[name] for name in names]
    core.controls_task = asyncio.create_task(core.run_controls(beat, in_full=True))
    beat.controls = core.controls_task
    cadence = core.knobs.cadence
    tasks = [
        asyncio.create_task(
            core.runners[m.name].run(beat, cadence, frozenset(), BOTH, in_full=True)
        )
        for m in chosen
    ]
    controls = await core.controls_task
    await core.outside.first_read()
    observations: list[Observation] = [o for e in core.evidence[CONTROL] for o in e.observations]

    async def explained(messenger: MessengerConfig, asked: asyncio.Task[Ran]) -> Explained:
        ran = await asked
        return messenger, ran, await _diagnose(core, messenger, ran, ran, controls, over)

    async def heard(messenger: MessengerConfig, ran: Ran, told: tuple[Diagnosis, ...]) -> Explained:
        """With its streams, which went on while what failed was explained."""
        later = await core.runners[messenger.name].streams()
        if later.finished:
            ran = joined(ran, later)
            told = await _diagnose(core, messenger, ran, later, controls, ASKED)
        return messenger, ran, told

    of_each = [explained(m, task) for m, task in zip(chosen, tasks, strict=True)]
    if core.follower.patient:  # which waits for all of them at the same time
        found = await asyncio.gather(*of_each)
    else:
        found = [await each for each in of_each]
    found = [await heard(*each) for each in found]
    told: list[Diagnosis] = []
    for messenger, ran, diagnoses in found:
        told += (core.localiser.told(tell(d)) for d in diagnoses)
        observations += [o for f in ran.finished for o in f.measured.observations]
        observations += core.follower.kept.get(messenger.name, ())
    core.steady = Steady(str(controls.judgement.status))
    await core.saving.save({})
    left_out = tuple(core.follower.left_out)
    without = core.outside.problem
    return Report(time.time(), core.vantage(), tuple(told), tuple(observations), left_out, without)


async def _diagnose(
    core: Core,
    messenger: MessengerConfig,
    ran: Ran,
    new: Ran,
    controls: Controls,
    over: float,
) -> tuple[Diagnosis, ...]:
    """By all that ``ran``, of which ``new`` was not judged yet; asks until ``over``."""
    runner, judgement = core.runners[messenger.name], controls.judgement
    cadence, now = core.knobs.cadence, time.time()
    if not judgement.masks:
        core.learned.note_round(new, judgement)
        core.stream_log.note(messenger.name, new, now)
    # An answer of this very round may be the one that was missing to prove a target.
    evidence = runner.evidence(ran, cadence, core.learned.proven, now)
    return (await core.diagnose(messenger, ran, evidence, controls, over)).raw


def asking(core: Core) -> int:
    """How many checks of a round by hand are still under way."""
    return core.controls.going() + sum(r.going() for r in core.runners.values())


def words(core: Core) -> str:
    """How far a round by hand is."""
    if waiting := core.follower.waiting:
        return f"waiting for {waiting} contrasts, {PATIENCE / 60:.0f} minutes at the most"
    return f"asking: {asking(core)} targets to go"


async def _progress(core: Core, task: asyncio.Task[Report]) -> None:
    from rich.console import Console

    with Console(stderr=True).status("asking") as status:
        while not task.done():
            status.update(words(core))
            await asyncio.wait([task], timeout=_SPINNER_PAUSE)


def exit_code(report: Report) -> int:
    """0 fine · 1 a channel is degraded, blocked or unreachable · 3 the vantage cannot tell."""
    blind = (VantageStatus.OFFLINE, VantageStatus.PORTAL, VantageStatus.FAULTY)
    statuses = [d.status for d in report.diagnoses]
    if report.vantage.status in blind or all(s is Status.UNKNOWN for s in statuses):
        return 3
    bad = (Status.DEGRADED, Status.BLOCKED, Status.UNREACHABLE)
    return 1 if any(s in bad for s in statuses) else 0
