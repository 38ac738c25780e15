"""``callpath check``: one round by hand, and what its exit code says."""

from __future__ import annotations

import asyncio
import sys

from agent.core import Core
from agent.store import Store
from agent.wiring import state_dir
from config.model import Config
from exporters.feed import AgentFigures
from probes.model import Report, Status, VantageStatus

_SPINNER_PAUSE = 0.2


async def run_check(config: Config, names: tuple[str, ...], *, quiet: bool) -> Report:
    """One round of everything. Reads and writes what was learned, never channel state.

    Progress goes to stderr when it is a terminal and not ``quiet``.
    """
    store = Store(state_dir(config))
    core = Core(config, store, AgentFigures(), lambda update: None)
    round_task = asyncio.create_task(core.check(names))
    try:
        if not quiet and sys.stderr.isatty():
            await _progress(core, round_task)
        return await round_task
    finally:
        await core.stop()
        store.close()


async def _progress(core: Core, task: asyncio.Task[Report]) -> None:
    from rich.console import Console

    with Console(stderr=True).status("asking") as status:
        while not task.done():
            status.update(f"asking: {core.asking()} targets to go")
            await asyncio.wait([task], timeout=_SPINNER_PAUSE)


def exit_code(report: Report) -> int:
    """0 fine · 1 a channel is degraded, blocked or unreachable · 3 the vantage cannot tell."""
    blind = (VantageStatus.OFFLINE, VantageStatus.PORTAL, VantageStatus.FAULTY)
    statuses = [d.status for d in report.diagnoses]
    if report.vantage.status in blind or all(s is Status.UNKNOWN for s in statuses):
        return 3
    bad = (Status.DEGRADED, Status.BLOCKED, Status.UNREACHABLE)
    return 1 if any(s in bad for s in statuses) else 0
