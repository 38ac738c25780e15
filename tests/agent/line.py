"""A small world and an agent in it, for tests that go round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.core import Core
from agent.history import History
from agent.rounds import Beat
from agent.store import Store
from agent.trimming import Limits
from config.model import MessengerConfig, TargetConfig
from exporters.feed import AgentFigures, Update
from probes.model import Role
from tests.agent.building import (
    Clock,
    FakeStun,
    FakeTls,
    World,
    configuration,
    control,
    messenger,
    target,
)

RELAYS = [f"198.51.100.{n}" for n in range(1, 6)]
CHAT = "198.51.100.50"
WEB = [f"203.0.113.{n}" for n in range(1, 5)]
STUN = [f"203.0.113.{n}" for n in range(11, 14)]
OURS = "192.0.2.77"


class Line:
    """A small world, a clock, and an agent that is driven round by round."""

    def __init__(self, clock: Clock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.world = World(mapped=dict.fromkeys(STUN, OURS))
        self.attachment = "wlan"
        self.updates: list[Update] = []
        self.figures = AgentFigures()
        self.store = Store(folder)
        self.core = self.make()

    def controls(self) -> tuple[TargetConfig, ...]:
        return (
            *(
                control(f"web{n}", host=address, kind="", probe=FakeTls(self.world), port=443)
                for n, address in enumerate(WEB)
            ),
            *(
                control(f"stun{n}", Role.STUN, host=address, probe=FakeStun(self.world))
                for n, address in enumerate(STUN)
            ),
        )

    def messenger(self, name: str = "m", **given: Any) -> MessengerConfig:
        relays = (
            target(f"relay{n}", messenger=name, host=a, probe=FakeStun(self.world), **given)
            for n, a in enumerate(RELAYS)
        )
        chat = target("chat", messenger=name, channel="chat", host=CHAT, probe=FakeTls(self.world))
        return messenger(*relays, chat, name=name)

    def make(self, *messengers: MessengerConfig, store: Store | None = None, **sections: Any):
        messengers = messengers or (self.messenger(),)
        config = configuration(messengers, self.controls(), **sections)
        store = store or self.store
        limits = Limits(30 * 86400.0, 2**30)
        versions = {"rules": "1", "catalogue": "2026-11-01"}
        self.history = History(store, limits, 60.0, lambda: versions, lambda: self.clock.steady)
        return Core(config, store, self.figures, self.updates.append, self.history)

    async def round(self, count: int = 1, *, seconds: float = 66.0, name: str = "m", **given: Any):
        """So many rounds; what the last one showed, by channel."""
        shown = ()
        for _ in range(count):
            shown = await self.core.run_messenger(name, Beat(self.clock.wall, **given))
            self.clock.forward(seconds)
        return {d.channel: d for d in shown}

    async def statuses(self, count: int = 1) -> dict[str, str]:
        shown = await self.round(count)
        return {channel: str(d.status) for channel, d in shown.items()}

    def move(self, address: str, attachment: str) -> None:
        self.world.mapped = dict.fromkeys(STUN, address)
        self.attachment = attachment

    def cut(self) -> None:
        self.world.silent |= {*RELAYS, CHAT, *WEB, *STUN}

    def restart(self, seconds: float = 1.0) -> None:
        self.store.close()
        self.clock.forward(seconds)
        self.store = Store(self.folder)
        self.core = self.make()
