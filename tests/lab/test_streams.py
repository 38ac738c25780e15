"""The media engine on the simulated internet, held against the router's list of every packet."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

from agent.enginedoor import EngineDoor
from probes.net.address import Source
from probes.net.streams import Played, Send, Stream
from tests.lab.actions import IN, OUT, Action, Duplicate, Lose, Reorder
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.path import Line
from tests.lab.skipping import require_lab
from tests.lab.world import ROOT, World, wait_until

pytestmark = pytest.mark.lab

RELAY, PORT = "91.108.9.120", 3478
PACE, COUNT, STREAMS = 0.02, 40, 5
LINE = Line(delay=0.015)
TAKEN, GIVEN_BACK = ("came", OUT), ("left", IN)
"""The router's two ends of a round trip."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_lab()
    with World() as world:
        world.place([RELAY])
        command = [sys.executable, "-m", "tests.lab.reflector", RELAY, str(PORT)]
        world.server(command, cwd=ROOT, stdout=-3)
        wait_until(lambda: answers(world), "reflector")
        yield world


def answers(world: World) -> bool:
    with world.client_socket() as sock:
        sock.settimeout(0.2)
        sock.connect((RELAY, PORT))
        sock.send(b"?")
        return sock.recv(4) == b"?"


def played(world: World, streams: list[Stream]) -> list[Played]:
    """By an engine on the subscriber's line."""

    async def play() -> list[Played]:
        async with EngineDoor() as door:
            return await door.play(streams, Source())

    return world.call(asyncio.run, play())


def stream(number: int) -> Stream:
    """Payloads say which stream's which they are."""
    sends = tuple(Send(n * PACE, bytes([number, n]) + bytes(100)) for n in range(COUNT))
    return Stream(RELAY, PORT, sends, COUNT * PACE + 0.5)


@pytest.mark.parametrize(
    "actions",
    [
        (Lose(Loss(0.2, burst=3)),),
        (Duplicate(0.2),),
        (Reorder(0.3, 2.5 * PACE),),
        (Lose(Loss(0.1)), Duplicate(0.1), Reorder(0.2, 1.5 * PACE)),
    ],
    ids=["loss", "duplicates", "reordering", "all"],
)
def test_what_comes_is_what_the_router_let_out_and_in_that_order(
    world: World, actions: tuple[Action, ...]
) -> None:
    """Loss, duplicates and reordering are exact: every answer, as often and in the order in which
    the router wrote it, and no other."""
    world.rules.clear()
    world.rules.line(LINE)
    for seed, action in enumerate(actions, start=1):
        for direction in (OUT, IN):
            rule = Censor(match(direction=direction, protocol="udp"), action, seed=seed)
            world.rules.add(rule)
    world.start_crossings()
    of_each = played(world, [stream(number) for number in range(STREAMS)])
    came, left = defaultdict(list), defaultdict(list)
    for crossing in world.crossings():
        if (crossing.event, crossing.direction) == TAKEN:
            came[crossing.head[0]].append(crossing.head[1])
        elif (crossing.event, crossing.direction) == GIVEN_BACK:
            left[crossing.head[0]].append(crossing.head[1])
    everything = list(range(COUNT))
    assert any(order != everything for order in left.values()), "the path did nothing"
    for number, one in enumerate(of_each):
        assert [at > 0 for at in one.sent] == [True] * COUNT
        assert came[number] == everything
        assert [answer.data[1] for answer in one.received] == left[number]
        assert (one.failures, one.overflowed, one.stepped) == ((), 0, False)


def test_no_round_trip_is_shorter_than_the_path(world: World) -> None:
    """The router's own time for each packet, from its taking it to its giving the answer back, lies
    within the engine's: from before the send to the receive time in the kernel."""
    world.rules.clear()
    world.rules.line(Line(delay=0.01, jitter=0.01))
    world.start_crossings()
    (one,) = played(world, [stream(0)])
    crossings = [c for c in world.crossings() if (c.event, c.direction) in (TAKEN, GIVEN_BACK)]
    came = {c.head[1]: c.at for c in crossings if c.event == "came"}
    left = {c.head[1]: c.at for c in crossings if c.event == "left"}
    assert len(one.received) == COUNT
    for answer in one.received:
        n = answer.data[1]
        assert one.sent[n] / 1e9 <= came[n] + 2e-6 < left[n] <= answer.at / 1e9 + 2e-6
