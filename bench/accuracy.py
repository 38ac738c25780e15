"""The media engine's round trips against the router's own: what of the error is whose.

In the simulated internet the router writes down when it took each packet from the client's device
and when it gave the answer back. What the engine measures beyond that is: from its clock to the
device and until the router has woken up (``out``), and from the router's write to the kernel's
receive time (``in``). The router is preferred by the scheduler, as the engine is: it stands for
other machines.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections.abc import Sequence

from agent.enginedoor import EngineDoor
from bench.streams import PACE, SIZE
from probes.net.address import Source
from probes.net.streams import Played, Send, Stream
from tests.lab.actions import IN, OUT
from tests.lab.path import Line
from tests.lab.world import ROOT, World, wait_until

RELAY, PORT = "91.108.9.120", 3478
SECONDS = 3.0
TIMES = 5
ROWS = ((1, PACE), (50, PACE), (200, 0.06), (200, PACE))
"""Streams and their pace: voip20; of 200 also voip60's, since the router is one process."""
_HEAD = 6


def main() -> None:
    with World() as world:
        world.rules.line(Line(delay=0.02, jitter=0.005))
        os.sched_setscheduler(world.router.pid, os.SCHED_RR, os.sched_param(1))
        world.place([RELAY])
        command = [sys.executable, "-m", "tests.lab.reflector", RELAY, str(PORT)]
        world.server(command, cwd=ROOT, stdout=-3)
        wait_until(lambda: _answers(world), "the reflector")
        for count, pace in ROWS:
            runs = sorted((_run(world, count, pace) for _ in range(TIMES)), key=lambda r: r[0][1])
            total, out, back, lost = runs[TIMES // 2]
            print(
                f"{count} streams, every {1000 * pace:.0f} ms: {_micro(total)} us beyond the"
                f" router's round trip (p50/p95/p99); out {_micro(out)}, in {_micro(back)};"
                f" {lost} lost",
                flush=True,
            )


Percentiles = tuple[float, float, float]


def _run(
    world: World, count: int, pace: float
) -> tuple[Percentiles, Percentiles, Percentiles, int]:
    body = bytes(SIZE - _HEAD)
    ticks = range(int(SECONDS / pace))
    streams = [
        Stream(
            RELAY,
            PORT,
            tuple(Send(pace * (n + i / count), _head(i, n) + body) for n in ticks),
            SECONDS + 0.5,
        )
        for i in range(count)
    ]
    world.start_crossings()
    played = world.call(asyncio.run, _play(streams))
    came: dict[bytes, float] = {}
    left: dict[bytes, float] = {}
    for crossing in world.crossings():
        if (crossing.event, crossing.direction) == ("came", OUT):
            came[crossing.head[:_HEAD]] = crossing.at
        elif (crossing.event, crossing.direction) == ("left", IN):
            left[crossing.head[:_HEAD]] = crossing.at
    out, back = [], []
    for i, one in enumerate(played):
        for answer in one.received:
            head = answer.data[:_HEAD]
            sent = one.sent[int.from_bytes(head[2:], "big")]
            out.append(came[head] - sent / 1e9)
            back.append(answer.at / 1e9 - left[head])
            assert head == _head(i, int.from_bytes(head[2:], "big"))
    total = [a + b for a, b in zip(out, back, strict=True)]
    lost = count * len(ticks) - len(total)
    return _percentiles(total), _percentiles(out), _percentiles(back), lost


async def _play(streams: Sequence[Stream]) -> list[Played]:
    async with EngineDoor() as door:
        return await door.play(streams, Source())


def _head(stream: int, n: int) -> bytes:
    return stream.to_bytes(2, "big") + n.to_bytes(4, "big")


def _percentiles(values: list[float]) -> Percentiles:
    found = statistics.quantiles(values, n=100)
    return found[49], found[94], found[98]


def _micro(values: Percentiles) -> str:
    return "/".join(f"{1e6 * v:.0f}" for v in values)


def _answers(world: World) -> bool:
    with world.client_socket() as sock:
        sock.settimeout(0.2)
        sock.connect((RELAY, PORT))
        sock.send(b"?")
        return sock.recv(4) == b"?"
