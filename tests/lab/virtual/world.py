"""The whole agent in a virtual world: rounds by the real core, packets by the path model."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path as File
from typing import Any
from unittest import mock

from agent import network, store
from agent.core import Core
from agent.history import History
from agent.rounds import Beat
from agent.scheduler import Beats
from agent.twin import Twin
from config import loader
from config.model import Config
from exporters.feed import AgentFigures
from probes.net import address, datagram, knock, stream, tls, udp
from tests.lab import catalogue
from tests.lab.deciding import decide
from tests.lab.path import Line, Path
from tests.lab.talk import ROUTERS
from tests.lab.virtual import secrecy
from tests.lab.virtual.clock import Clock, Loop
from tests.lab.virtual.internet import VAULT, Internet
from tests.lab.virtual.kernel import Kernel
from tests.lab.virtual.streams import VirtualStreams
from tests.lab.world import CLIENT_V4, CLIENT_V6, RESOLVER_V4

COUNTRY = "RU"
# httpcore looks for it along the whole path at every request where it is not installed.
if importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment] # how an import is told of that
TWIN, TWIN_PORT, TWIN_KEY = "203.0.113.77", 3478, bytes(range(32))
"""The operator's own server, which only an agent of the profile ``twin`` knows."""
GRACE = 30.0
"""Seconds by which a round may come late (agent/scheduler.py)."""


def _nobody(name: str, shown: Any) -> None:
    return None


class MemoryStore(store.Store):
    """The real store, forgotten at the end."""

    def _open(self) -> sqlite3.Connection:
        return store._prepare(sqlite3.connect(":memory:", check_same_thread=False))


WATCHED = ("whatsapp", "telegram")
"""The messengers that are selected by default."""


@cache
def shipped(messengers: tuple[str, ...] = WATCHED) -> catalogue.Catalogue:
    return catalogue.load(catalogue.shipped(COUNTRY, messengers))


@cache
def configuration(
    profile: str,
    directory: File,
    transfers: float | None = None,
    decides: tuple[str, ...] = (),
    messengers: tuple[str, ...] = WATCHED,
) -> Config:
    """The shipped schedule; ``transfers``: minutes between two of them instead, within a budget
    that allows it; ``decides`` as of a scenario. The profile ``twin`` is research with a server of
    its own, and streams in a voice's rhythm to Telegram's relays."""
    file = directory / f"{profile}.yaml"
    own = profile == "twin"
    folder = catalogue.with_root(directory, VAULT.root_hex)
    if decides:
        decide(folder, decides)
    text = (
        f"vantage: {{name: lab, country: {COUNTRY}, network: fixed}}\n"
        f"profile: {'research' if own else profile}\n"
        f"messengers: [{', '.join(messengers)}]\n"
        f'resolvers: {{system: "{RESOLVER_V4}"}}\n'
        f"messenger_dirs: [{folder}]\n"
    )
    if profile != "client":
        text += "risks: accepted\n"
    if own:
        key, pin = directory / "twin.key", Internet.twin_pin()
        key.write_text(TWIN_KEY.hex())
        text += f"twin: {{address: {TWIN}, key_file: {key}, tls_sha256: {pin}}}\n"
        text += "media: {profile: voip20}\n"
        text += "limits: {bytes_per_day: 2GiB, fast_prefixes: [91.108.0.0/16]}\n"
    if transfers is not None:
        text += f"schedule: {{transfer_interval: {transfers:g}m}}\n"
        text += "" if own else "limits: {bytes_per_day: 2GiB}\n"
    file.write_text(text)
    return loader.load(file)


def shuffled(config: Config, rng: random.Random) -> Config:
    """The same catalogue in another order."""

    def mixed(targets: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rng.sample(targets, len(targets)))

    messengers = tuple(replace(m, targets=mixed(m.targets)) for m in config.messengers)
    return replace(config, messengers=messengers, controls=mixed(config.controls))


@dataclass(slots=True)
class Here:
    """What the agent reads of its own host."""

    tunnel: bool = False
    attachment: str = "line"


class VirtualWorld:
    """``with VirtualWorld(seed) as world: world.run(...)``."""

    def __init__(
        self,
        seed: int,
        *,
        line: Line | None = None,
        ipv6: bool = False,
        messengers: tuple[str, ...] = WATCHED,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.here = Here()
        self.catalogue = shipped(messengers)
        self.path = Path(ROUTERS, line or Line(delay=0.02))
        self._ipv6 = ipv6
        self.loop: Loop
        self.kernel: Kernel
        self.internet: Internet
        self.streams: VirtualStreams
        self._cleanup = ExitStack()

    def __enter__(self) -> VirtualWorld:
        with ExitStack() as undo:
            undo.enter_context(self.clock.shown())
            self.loop = Loop(self.clock)
            undo.callback(self.loop.close)
            self.kernel = Kernel(self.loop, self.path, self.rng, ipv6=self._ipv6)
            self.internet = Internet(self.kernel, self.catalogue)
            self.internet.place_twin(TWIN, TWIN_PORT, Twin(TWIN_KEY))
            self.streams = VirtualStreams(self.kernel)
            undo.callback(self.streams.close)
            undo.enter_context(self._instead())
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._cleanup.close()

    @contextmanager
    def _instead(self) -> Iterator[None]:
        module = self.kernel.module()
        own = frozenset({CLIENT_V4, *((CLIENT_V6,) if self._ipv6 else ())})
        with (
            mock.patch.object(udp, "socket", module),
            mock.patch.object(datagram, "socket", module),
            mock.patch.object(stream, "socket", module),
            mock.patch.object(knock, "socket", module),
            mock.patch.object(address, "socket", module),
            mock.patch.object(address, "local_addresses", return_value=own),
            mock.patch.object(tls, "context", secrecy.context),
            mock.patch.object(tls, "believing", secrecy.believing),
            mock.patch.object(network, "attachment", side_effect=self._attachment),
            mock.patch("agent.core.default_route", return_value=("wan0", "")),
            mock.patch("agent.core.is_tunnel", side_effect=self._is_tunnel),
        ):
            yield

    def _attachment(self, _key: bytes) -> str:
        return self.here.attachment

    def _is_tunnel(self, _interface: str) -> bool:
        return self.here.tunnel

    def run(self, work: Awaitable[Any]) -> Any:
        async def inside() -> Any:
            return await work

        return self.loop.run_until_complete(inside())


@dataclass(slots=True)
class Agent:
    """A core and its schedule. ``after_round`` sees every update of a messenger."""

    world: VirtualWorld
    config: Config
    store: store.Store = field(default_factory=lambda: MemoryStore(File()))
    previous: float | None = None
    history: History | None = None
    core: Core = field(init=False)
    beats: Beats = field(init=False)

    def __post_init__(self) -> None:
        self.core = self._core()
        interval = self.core.knobs.cadence.interval
        self.beats = Beats(interval, self.world.clock.wall() + 0.3, self.world.rng)

    def _core(self) -> Core:
        core = Core(self.config, self.store, AgentFigures(), lambda update: None, self.history)
        core.env.streams = self.world.streams
        core.env.tls_ca_file = str(secrecy.root())
        return core

    async def rounds(self, until: float, after: Callable[[str, Any], None] = _nobody) -> None:
        """The schedule as in ``agent.scheduler``, without apscheduler, until then (monotonic).
        ``after`` is called with each round's messenger and diagnoses."""
        clock = self.world.clock
        running: dict[str, asyncio.Task[None]] = {}

        async def work(name: str, beat: Beat) -> None:
            after(name, await self.core.run_messenger(name, beat))

        while True:
            due = self.beats.after(self.previous, clock.wall())
            if due - clock.wall() > until - clock.now:
                break
            self.previous = due
            if (wait := due - clock.wall()) > 0:
                await asyncio.sleep(wait)
            elif wait < -GRACE:
                continue  # missed while the host slept
            beat = self.beats.current(clock.wall())
            for name in self.core.messengers:
                if name not in running or running[name].done():
                    running[name] = asyncio.create_task(work(name, beat))
        if running:
            await asyncio.wait(running.values())
        for task in running.values():
            task.result()
        await asyncio.sleep(max(0.0, until - clock.now))

    async def stop_asking(self) -> None:
        """What a process that ends leaves behind is its store."""
        await self.core.stop()
        self.core = self._core()

    async def stop(self) -> None:
        await self.core.stop()
        self.store.close()
