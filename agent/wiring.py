"""The running agent: one core at work, its schedule, its web process, its signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agent import pausing, purging, webguard
from agent.accepted import accept
from agent.adhoc import AdHoc
from agent.checks import catalogue_problem
from agent.core import Core
from agent.history import History
from agent.knobs import knobs_of
from agent.outside import STATUS_BYTES, pause_of
from agent.plan import group_of, group_sizes, interval_of, planned_bytes
from agent.rounds import Beat
from agent.scheduler import Schedule
from agent.store import Store
from agent.trimming import Limits
from agent.webdoor import WebDoor, listen
from config.model import Config, ConfigError
from config.values import split_listen, url_host_port
from exporters import memory
from exporters.feed import AgentFigures, ReloadAnswer, Update
from probes.model import Proof

log = logging.getLogger(__name__)

RULES_VERSION = "6"
"""Counts up whenever the same observations would get another status."""
DRAIN = 5.0
"""Seconds that rounds under way may go on after SIGTERM."""


def callpath_version() -> str:
    try:
        return version("callpath")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"


def versions(config: Config) -> dict[str, str]:
    return {"version": callpath_version(), "rules": RULES_VERSION, "catalogue": config.catalogue}


def state_dir(config: Config) -> Path:
    """``state_dir``, else $STATE_DIRECTORY (systemd), else the XDG state folder."""
    given = config.settings.state_dir
    if given:
        return Path(str(given))
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "callpath"


def contact_rows(config: Config) -> list[dict[str, Any]]:
    """Everything that would be contacted: one row per target, as ``callpath messengers`` shows it.

    ``seconds`` is the interval between full runs, None for what is asked only when something fails;
    ``bytes_per_day`` counts both directions and one
    address per name.
    """
    knobs = knobs_of(config)
    everything = (*(t for m in config.messengers for t in m.targets), *config.controls)
    sizes = group_sizes(everything)
    rows = []
    for target in everything:
        cadence = knobs.controls if target.role else knobs.cadence
        planned = planned_bytes(target, cadence, sizes[group_of(target)])
        rows.append(
            {
                "messenger": target.target.messenger,
                "channel": target.target.channel,
                "role": str(target.role) if target.role else "",
                "target": target.target.name,
                "probe": target.target.probe,
                "host": target.host or getattr(target.probe, "resolver", ""),
                "port": target.port,
                "addresses": list(target.addresses),
                "seconds": interval_of(target, cadence),
                "bytes_per_day": round(planned),
                "proof": str(target.proof),
                "informative": target.informative,
            }
        )
    return [*rows, *_own_servers(config)]


def _own_servers(config: Config) -> list[dict[str, Any]]:
    """The operator's own: the twin, asked when something fails, and another callpath."""
    twin, outside = config.settings.twin, config.settings.outside
    places: list[tuple[str, str, str, int, float | None, float]] = []
    if twin.address:
        places += [("twin", f"udp-{port}", twin.address, port, None, 0) for port in twin.udp_ports]
        places.append(("twin", "tls", twin.address, twin.tls_port, None, 0))
    if outside.url:
        host, port = url_host_port(outside.url)
        pause = pause_of(outside)
        places.append(("outside", "status", host, port, pause, 86400 / pause * STATUS_BYTES))
    return [
        {
            "messenger": whose,
            "channel": "",
            "role": "",
            "target": name,
            "probe": whose,
            "host": host,
            "port": port,
            "addresses": [],
            "seconds": seconds,
            "bytes_per_day": round(planned),
            "proof": str(Proof.DOCUMENTED),
            "informative": True,
        }
        for whose, name, host, port, seconds, planned in places
    ]


class Agent:
    """Runs until told to stop. ``load`` reads the configuration anew for a reload. Raises
    ConfigError for a signed catalogue that is older than one in use before."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self._load = load
        self._figures = _figures(config)
        self._store = Store(state_dir(config))
        try:
            accept(config, self._store)
        except ConfigError:
            self._store.close()
            raise
        self._lock = purging.hold(self._store.folder)
        self._history = History(self._store, None, 0.0, self._versions)
        self._core = self._make_core(config)
        self._schedule: Schedule | None = None
        self._web: WebDoor | None = None
        self._stop = asyncio.Event()
        self._reload_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    def _make_core(self, config: Config) -> Core:
        if problem := catalogue_problem(config):
            log.warning("%s", problem)
        kept = config.settings.history
        limits = Limits(kept.keep, kept.max_size) if kept.enabled else None
        self._history.configure(limits, config.settings.schedule.interval)
        core = Core(config, self._store, self._figures, self._publish, self._history)
        figures, vantage = self._figures, config.settings.vantage
        figures.name, figures.country = core.name, vantage.country
        figures.asn, figures.network = vantage.asn, vantage.network
        figures.catalogue, figures.signed = config.catalogue, config.update is not None
        self._adhoc = AdHoc(config, core.env, core.manners)
        figures.calibrated_at = max((c.at for c in config.calibration), default=None)
        return core

    def _versions(self) -> dict[str, str]:
        figures = self._figures
        return {"rules": figures.rules, "catalogue": figures.catalogue}

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises OSError when the listen address cannot be had."""
        config = self._core.config
        settings = config.settings
        host, port = split_listen(settings.web.listen)
        listener = await listen(host, port)
        self._web = WebDoor(
            listener,
            {
                "listen_host": host,
                "hosts": list(settings.web.hosts),
                "allow_reload": settings.web.allow_reload,
                "folder": str(self._store.folder) if self._history.limits else "",
            },
            lambda: self._core.everything(),
            self.reload,
            lambda said: self._adhoc.answer(said),
            webguard.guard_of(config),
        )
        self._web.start()
        if config.web is not None:
            self._spawn(webguard.watch(config, self._load, self._web.replace_guard))
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.reload()))
        self._spawn(self._watch_pause())
        self._start_schedule()
        memory.settle()
        log.info("callpath %s listens on %s", callpath_version(), settings.web.listen)
        try:
            await self._stop.wait()
            log.info("stopping: rounds under way may end")
            await self._drain()
        finally:
            for task in self._tasks:
                task.cancel()
            await self._core.engine.close()
            await self._web.stop()
            listener.close()
            self._store.close()
            if self._lock is not None:
                os.close(self._lock)

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _publish(self, update: Update) -> None:
        if self._web is not None:
            self._web.publish(update)

    # --- schedule ---

    def _start_schedule(self) -> None:
        core = self._core

        async def work(name: str, beat: Beat) -> None:
            await core.run_messenger(name, beat)  # paused, it asks nothing and lets go of the old

        self._schedule = Schedule(
            core.messengers,
            core.knobs.cadence.interval,
            work,
            skipped=lambda reason: self._figures.rounds_skipped.update((reason,)),
            lag=self._figures.lag.observe,
        )
        self._schedule.start()
        core.outside.start()

    async def _drain(self) -> None:
        """Let rounds end, briefly; then stop. What was cut off reports nothing."""
        assert self._schedule is not None
        await self._schedule.drain(DRAIN)
        await asyncio.gather(self._core.stop(), self._adhoc.stop())

    async def _watch_pause(self) -> None:
        """A file named ``paused`` in the state folder stops all sending within a second; one named
        ``purge`` makes the agent forget."""
        marker, asked = pausing.marker(self._store.folder), False
        while True:
            self._lock = purging.hold_on(self._store.folder, self._lock)
            before, asked = asked, purging.is_asked(self._store.folder)
            if asked and not before:  # once, should it fail
                await self._forget()
            core = self._core
            paused = pausing.is_paused(marker.parent, otherwise=core.manners.paused)
            if paused and not core.manners.paused:
                log.warning("paused: %s exists", marker)
                core.manners.paused = True
                await asyncio.gather(core.stop(), self._adhoc.stop())
            elif core.manners.paused and not paused:
                log.warning("going on: %s is gone", marker)
                core.manners.paused = False
                core.outside.start()
            await asyncio.sleep(pausing.POLL)

    # --- reload ---

    async def reload(self) -> ReloadAnswer:
        """Read the configuration anew; a bad one leaves the old one running."""
        async with self._reload_lock:
            try:
                config = await asyncio.to_thread(self._load)
                accept(config, self._store)
            except ConfigError as error:
                self._figures.reload_ok = False
                for problem in error.problems:
                    log.error("reload refused: %s", problem)
                # Now, not with the next round: whoever asked for it looks at once.
                self._publish(Update(self._figures, ready=self._core.ready))
                return ReloadAnswer(tuple(map(str, error.problems)))
            await self._swap(config)
            self._figures.reload_ok = True
            self._figures.reloaded_at = time.time()
            self._publish(self._core.everything())
            log.info("reloaded")
            return ReloadAnswer(())

    async def _swap(self, config: Config) -> None:
        """The new configuration takes over; states and trust come back from the store."""
        old = self._core
        if config.settings.web != old.config.settings.web:
            log.warning("web.* takes effect at the next start")
        if state_dir(config) != self._store.folder:
            log.warning("state_dir takes effect at the next start")
        assert self._schedule is not None
        await self._schedule.stop()
        await asyncio.gather(old.stop(), self._adhoc.stop())
        core = self._make_core(config)
        core.take_over(old)
        self._core = core
        self._start_schedule()
        del old
        memory.settle()

    async def _forget(self) -> None:
        """Everything that was learned or kept; what holds for today's manners holds on."""
        async with self._reload_lock:
            old, config = self._core, self._core.config
            assert self._schedule is not None
            await self._schedule.stop()
            await asyncio.gather(old.stop(), self._adhoc.stop())
            await old.engine.close()
            try:
                await asyncio.to_thread(self._store.forget)
            except OSError as error:
                log.error("purge failed, what was kept is there still: %s", error)
            else:
                log.warning("purged: everything that was kept is forgotten")
                purging.done(self._store.folder)
            accept(config, self._store)
            self._history = History(self._store, None, 0.0, self._versions)
            core = self._make_core(config)
            core.manners.inherit(old.manners)
            self._core = core
            self._start_schedule()
            self._publish(core.everything())


def _figures(config: Config) -> AgentFigures:
    v = versions(config)
    return AgentFigures(
        version=v["version"], rules=v["rules"], catalogue=v["catalogue"], reloaded_at=time.time()
    )


async def run(config: Config, load: Callable[[], Config]) -> None:
    """Run the agent in this process until it is told to stop."""
    agent = Agent(config, load)
    with contextlib.suppress(asyncio.CancelledError):
        await agent.run()
