"""Small configurations, observations and probes that never touch the network."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

from agent.vantage import ControlResult, Judgement
from config.model import Calibrated, Config, MessengerConfig, TargetConfig
from config.schema import Settings
from probes.measure import BOTH
from probes.model import (
    CONTROL,
    Failure,
    Family,
    Observation,
    Proof,
    Role,
    Step,
    StepResult,
    Target,
    VantageStatus,
)
from probes.net.address import OwnAddresses
from probes.net.environment import Environment
from probes.trail import Peer, Trail

_ids = itertools.count()


@dataclass(eq=False)
class World:
    """What the fake probes meet: addresses that are silent, that reset handshakes, that hang, or
    whose code has a bug. ``asked`` is everything that reached it: address, and whether partly."""

    silent: set[str] = field(default_factory=set)
    resetting: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    buggy: set[str] = field(default_factory=set)
    mapped: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, bool]] = field(default_factory=list)
    sending: Counter[str] = field(default_factory=Counter)
    """Grows as long as something is sent to an address that hangs."""

    def times(self, address: str) -> int:
        return sum(asked == address for asked, _ in self.asked)


@dataclass(frozen=True, slots=True)
class FakeStun:
    """Asked every round."""

    world: World
    dress: str = "bare"
    kind: ClassVar[str] = "stun"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 5

    @property
    def handshake(self) -> bool:
        return False

    @property
    def bytes_per_run(self) -> int:
        return 900

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        await meet(self.world, trail, peer, Step.EXCHANGE)


@dataclass(frozen=True, slots=True)
class FakeTls:
    """A handshake: asked every five minutes, with its connect step in between."""

    world: World
    kind: ClassVar[str] = "tls"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 3

    @property
    def handshake(self) -> bool:
        return True

    @property
    def bytes_per_run(self) -> int:
        return 7000

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        await meet(self.world, trail, peer, Step.TLS)


@dataclass(frozen=True, slots=True)
class FakeTcp:
    """A connection, asked every round; large groups rotate."""

    world: World
    kind: ClassVar[str] = "tcp"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1

    @property
    def handshake(self) -> bool:
        return False

    @property
    def bytes_per_run(self) -> int:
        return 420

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        await meet(self.world, trail, peer, Step.CONNECT)


async def meet(world: World, trail: Trail, peer: Peer, last: Step) -> None:
    address = peer.address
    world.asked.append((address, trail.partial))
    if address in world.buggy:
        raise KeyError("a bug")
    if last is not Step.EXCHANGE:
        async with trail.step(Step.CONNECT, 60):
            await _connect(world, address)
        if trail.partial or last is Step.CONNECT:
            return
    async with trail.step(last, 60):
        await _connect(world, address)
        if address in world.resetting:
            raise ConnectionResetError(104, "reset")
    trail.facts["rtt_seconds"] = 0.03
    trail.count(1, 1, 100, 200)
    trail.mapped = world.mapped.get(address, "")


async def _connect(world: World, address: str) -> None:
    while address in world.hanging:
        world.sending[address] += 1
        await asyncio.sleep(0.01)
    if address in world.silent:
        raise TimeoutError


def target(
    name: str = "a",
    *,
    messenger: str = "m",
    channel: str = "call",
    probe: Any = None,
    host: str = "192.0.2.1",
    port: int = 3478,
    role: Role | None = None,
    owner: str = "",
    kind: str = "",
    **given: Any,
) -> TargetConfig:
    probe = probe or FakeStun(World())
    settings: dict[str, Any] = {
        "addresses": (),
        "family": Family.ANY,
        "timeout": None,
        "proof": Proof.DOCUMENTED,
        "interval": None,
        "informative": False,
        **given,
    }
    return TargetConfig(
        target=Target(messenger, channel, name, kind or probe.kind),
        probe=probe,
        host=host,
        port=port,
        role=role,
        owner=owner,
        **settings,
    )


def control(name: str, role: Role = Role.FOREIGN, **given: Any) -> TargetConfig:
    kinds = {Role.STUN: "stun", Role.DTLS: "dtls", Role.RESOLVER: "dns", Role.AD: "dns"}
    given = {"owner": name, "kind": kinds.get(role, "https"), **given}
    return target(name, messenger=CONTROL, channel="", role=role, **given)


def messenger(*targets: TargetConfig, name: str = "m", quorum: float = 0.8) -> MessengerConfig:
    return MessengerConfig(name, "Messy", quorum, (), (), (), targets)


def seen(
    of: TargetConfig,
    failure: Failure | None = None,
    step: Step = Step.EXCHANGE,
    *,
    family: Family | None = Family.IPV4,
    at: float = 0.0,
    before: tuple[Step, ...] = (),
    partial: bool = False,
    **facts: Any,
) -> Observation:
    """What one run saw at one address, from its last step."""
    steps = (*(StepResult(s, 0.01) for s in before), StepResult(step, 0.02, failure))
    if family is not None:
        facts = {
            "address": "192.0.2.1" if family is Family.IPV4 else "2001:db8::1",
            "family": str(family),
            **facts,
        }
    return Observation(f"o{next(_ids)}", of.target, at, steps, facts, partial)


def result(
    of: TargetConfig,
    failure: Failure | None = None,
    step: Step = Step.EXCHANGE,
    *,
    proven: bool = True,
    **given: Any,
) -> ControlResult:
    return ControlResult(of, (seen(of, failure, step, **given),), proven)


def judgement(status: VantageStatus = VantageStatus.ONLINE, **given: Any) -> Judgement:
    known: dict[str, Any] = {
        "reason": "controls answer",
        "families": BOTH,
        "names": True,
        "abroad": True,
        "share": 1.0,
        **given,
    }
    return Judgement(status, **known)


def settings(**sections: Any) -> Settings:
    return Settings.model_validate_json(json.dumps(sections))


def configuration(
    messengers: tuple[MessengerConfig, ...],
    controls: tuple[TargetConfig, ...],
    calibration: tuple[Calibrated, ...] = (),
    **sections: Any,
) -> Config:
    return Config(settings(**sections), messengers, controls, calibration, "2026.11.20")


def environment(**given: Any) -> Environment:
    return Environment(own=OwnAddresses(local=frozenset()), system="127.0.0.1:9", **given)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that another task, process or thread is about to do."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


class Clock:
    """A wall clock and a monotonic one that move only when told."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 5000.0

    def forward(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    @property
    def module(self) -> Any:
        """Stands for the module ``time``."""
        return SimpleNamespace(time=lambda: self.wall, monotonic=lambda: self.steady)

    @property
    def wall_only(self) -> Any:
        return SimpleNamespace(time=lambda: self.wall, monotonic=time.monotonic)
