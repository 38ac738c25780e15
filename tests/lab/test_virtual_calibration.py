"""Two hours of ``callpath calibrate`` at the shipped pace, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.calibrate import LONGEST, Calibration, Extent, extent, open_questions
from agent.scheduler import Beats
from probes.model import Target
from tests.lab.actions import Drop
from tests.lab.censor import Censor, match
from tests.lab.virtual import secrecy
from tests.lab.virtual.world import MemoryStore, VirtualWorld, configuration

SILENT = "91.108.9.35"
SHIPPED_INTERVAL = 60.0


class Watched:
    """The manners of a calibration, and what they let pass: requests, and when each was asked."""

    def __init__(self, manners: Any, world: VirtualWorld) -> None:
        self.manners, self.world = manners, world
        self.requests = 0
        self.asked: dict[tuple[str, int, str], list[float]] = defaultdict(list)
        self.handshakes: dict[tuple[str, str], list[float]] = defaultdict(list)

    async def check(self, target: Target, address: str, port: int, kind: str, packets: int) -> None:
        await self.manners.check(target, address, port, kind, packets)
        self.requests += packets
        self.asked[address, port, kind].append(self.world.clock.now)

    async def handshake(self, address: str, name: str) -> None:
        await self.manners.handshake(address, name)
        self.handshakes[address, name].append(self.world.clock.now)

    async def stream(self, *_: Any) -> None:
        raise AssertionError("a calibration plays no stream")


async def two_hours(made: Calibration, world: VirtualWorld) -> str:
    """Its rounds as the schedule would begin them; why it ended."""
    await made.begin()
    beats = Beats(SHIPPED_INTERVAL, world.clock.wall() + 0.3, world.rng)
    began, due, why = world.clock.now, None, ""
    while not why:
        due = beats.after(due, world.clock.wall())
        await asyncio.sleep(max(0.0, due - world.clock.wall()))
        beat = beats.current(world.clock.wall())
        await asyncio.gather(*(made.round(name, beat) for name in made.core.runners))
        why = made.over(began)
    await made.close()
    return why


def calibrated(directory: Path, *rules: Censor) -> tuple[Calibration, Watched, Extent, str]:
    with VirtualWorld(1) as world:
        config = configuration("client", directory)
        asked = open_questions(config, [m.name for m in config.messengers])
        made = Calibration(asked, MemoryStore(Path()), LONGEST)
        watched = Watched(made.core.manners, world)
        made.core.env.courtesy, made.core.env.streams = watched, world.streams
        made.core.env.tls_ca_file = str(secrecy.root())
        for rule in rules:
            world.path.add(rule, world.clock.now)
        why = world.run(two_hours(made, world))
        return made, watched, extent(asked, LONGEST), why


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Calibration, Watched, Extent, str]:
    silent = Censor(match(remote=(f"{SILENT}/32",)), Drop())
    return calibrated(tmp_path_factory.mktemp("calibration"), silent)


def test_two_hours_are_enough_for_every_target_in_every_dress(done) -> None:
    made, _, _, why = done
    assert why == "the time is up"
    dresses = Counter((k.messenger, k.probe, k.dress) for k in made.tallies)
    assert dresses["whatsapp", "dtls", "pion"] == dresses["whatsapp", "dtls", "openssl"] > 10
    assert min(t.asked for t in made.tallies.values()) >= 7
    silent = {k.target for k, t in made.tallies.items() if not t.answered and k.dress != "app"}
    assert silent == {"call-eu-1", "call-eu-1-turn"}
    assert all(t.answered in (0, t.asked) for t in made.tallies.values())


def test_it_is_never_faster_than_manners(done) -> None:
    _, watched, _, _ = done
    gaps = [b - a for at in watched.asked.values() for a, b in pairwise(at)]
    assert len(gaps) > 1000
    assert min(gaps) >= 0.99 * SHIPPED_INTERVAL
    for at in watched.handshakes.values():
        assert all(c - a >= 60 for a, c in zip(at, at[2:], strict=False))


def test_no_more_is_sent_than_was_announced(done) -> None:
    made, watched, announced, _ = done
    traffic = made.core.env.traffic
    assert 0.6 * announced.requests < watched.requests <= announced.requests
    assert 0.6 * announced.size < traffic.sent + traffic.received <= announced.size
    assert announced.seconds == LONGEST
