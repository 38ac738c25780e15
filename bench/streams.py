"""The media engine: round trips, pace and CPU with 1 to 500 streams of voip20 (50 datagrams of 100
bytes a second), on loopback against a reflector of its own process.

What is busy meanwhile is what an agent does: this process, whose the engine is, does TLS handshakes
with nginx, asks unbound in bursts and renders a page of figures every second. A client on asyncio's
own datagrams, timed where it runs, goes beside it in the same loop, as a prober without an engine
would. Round trips of the engine are from its clock just before the send to the kernel's receive
time, and hold the reflector's share: a wake-up more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.enginedoor import EngineDoor
from bench import loopback
from bench.process import cpu, peak
from exporters.prometheus import render
from probes.dns import DnsProbe
from probes.measure import Check, measure
from probes.model import Target
from probes.net.address import Source
from probes.net.environment import Environment, Traffic
from probes.net.streams import Played, Send, Stream
from probes.tls import TlsProbe
from tests.exporters.building import NOW, mirror
from tests.lab.world import wait_until

PACE, SIZE = 0.02, 100
SECONDS = 3.0
STREAMS = (1, 50, 200, 500)
TIMES = 5
HANDSHAKES, QUESTIONS, SHOWN = 20, 50, 500
"""Every second: TLS handshakes one after the other, questions at once, targets on the page."""
ANYWHERE = Source()


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds, but for ``cost``: CPU of the engine for a packet and its answer; ``lost`` and
    ``unsent`` are counts of datagrams."""

    rtt: tuple[float, float, float]
    late: tuple[float, float, float]
    cost: float
    lost: int
    unsent: int
    overflowed: int

    def __str__(self) -> str:
        rtt, late = ("/".join(f"{1e6 * v:.0f}" for v in of) for of in (self.rtt, self.late))
        return (
            f"RTT {rtt} us, late {late} us (p50/p95/p99), {1e6 * self.cost:.1f} us of CPU a pair,"
            f" {self.lost} lost ({self.overflowed} by this host), {self.unsent} unsent"
        )


def main() -> None:
    loopback.alone()
    with (
        tempfile.TemporaryDirectory() as folder,
        loopback.servers(Path(folder)),
        reflector() as port,
    ):
        asyncio.run(_compare(Path(folder), port))


async def _compare(folder: Path, port: int) -> None:
    async with EngineDoor() as door:
        await _play(door, port, 1, 0.5)  # the process is there now
        for count in STREAMS:
            print(f"{count} streams: {await _median(door, port, count)}", flush=True)
        with _client(port) as alone:
            await asyncio.sleep(SECONDS)
        print(f"a client on asyncio: RTT {_micro(alone)} us", flush=True)
        ratios = [await _loaded(door, folder, port) for _ in range(TIMES)]
        for name, of in zip(("preferred", "ordinary"), zip(*ratios, strict=True), strict=True):
            ratio = statistics.median(of)
            print(f"{name}: p95 beside the agent's work {ratio:.2f} of one idle stream's")
        assert door.pid
        print(f"the engine's memory: {peak(door.pid):.0f} MiB at its peak")


async def _loaded(door: EngineDoor, folder: Path, port: int) -> list[float]:
    """As the scheduler prefers the engine where its user may be preferred, and as it does not.
    Round trips at p95 over those of one idle stream; in turn, since the machine changes."""
    assert door.pid
    ratios = []
    for policy, priority in ((os.SCHED_RR, 1), (os.SCHED_OTHER, 0)):
        os.sched_setscheduler(door.pid, policy, os.sched_param(priority))
        idle = await _play(door, port, 1, SECONDS)
        async with _busy(folder):
            with _client(port) as beside:
                loaded = await _play(door, port, STREAMS[-1], SECONDS)
        ratios.append(loaded.rtt[1] / idle.rtt[1])
        name = "preferred" if priority else "ordinary"
        print(f"{name}, {STREAMS[-1]} streams beside the agent's work: {loaded}")
        print(f"  one idle stream: {idle}")
        print(f"  a client on asyncio beside: RTT {_micro(beside)} us", flush=True)
    return ratios


async def _median(door: EngineDoor, port: int, count: int) -> Figures:
    """Of several runs, that with the median round trip at p95."""
    runs = [await _play(door, port, count, SECONDS) for _ in range(TIMES)]
    return sorted(runs, key=lambda f: f.rtt[1])[TIMES // 2]


async def _play(door: EngineDoor, port: int, count: int, seconds: float) -> Figures:
    """The streams' datagrams are spread over the pace: a burst of all would measure the queue."""
    body = bytes(SIZE - 4)
    ticks = range(int(seconds / PACE))
    streams = [
        Stream(
            "127.0.0.1",
            port,
            tuple(Send(PACE * (n + i / count), n.to_bytes(4, "big") + body) for n in ticks),
            seconds + 0.5,
        )
        for i in range(count)
    ]
    before = cpu(door.pid) if door.pid else 0.0
    played = await door.play(streams, ANYWHERE)
    assert door.pid
    return _figures(played, cpu(door.pid) - before)


def _figures(played: Sequence[Played], spent: float) -> Figures:
    rtts: list[float] = []
    for one in played:
        heard = {int.from_bytes(a.data[:4], "big"): a.at for a in reversed(one.received)}
        rtts += [(at - one.sent[n]) / 1e9 for n, at in heard.items() if one.sent[n]]
    unsent = sum(not at for one in played for at in one.sent)
    left = sum(len(one.sent) for one in played) - unsent
    return Figures(
        _percentiles(rtts),
        _percentiles([late for one in played for late in one.late]),
        spent / max(1, left),
        left - len(rtts),
        unsent,
        sum(one.overflowed for one in played),
    )


def _percentiles(values: list[float]) -> tuple[float, float, float]:
    found = statistics.quantiles(values, n=100)
    return found[49], found[94], found[98]


def _micro(values: list[float]) -> str:
    return "/".join(f"{1e6 * v:.0f}" for v in _percentiles(values))


# --- beside ---


@contextlib.contextmanager
def _client(port: int) -> Iterator[list[float]]:
    """One stream at the same pace from this loop, timed in this process: its round trips."""
    rtts: list[float] = []

    class Answers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            rtts.append((time.time_ns() - int.from_bytes(data[:8], "big")) / 1e9)

    async def stream() -> None:
        loop = asyncio.get_running_loop()
        place = ("127.0.0.1", port)
        transport, _ = await loop.create_datagram_endpoint(Answers, remote_addr=place)
        with contextlib.closing(transport):
            began = loop.time()
            for n in range(1_000_000):
                await asyncio.sleep(max(0.0, began + n * PACE - loop.time()))
                transport.sendto(time.time_ns().to_bytes(8, "big") + bytes(SIZE - 8))

    task = asyncio.create_task(stream())
    try:
        yield rtts
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def _busy(folder: Path) -> AsyncIterator[None]:
    """What an agent does, again every second."""
    env = Environment(tls_ca_file=str(folder / "ca.pem"), traffic=Traffic())
    places = [loopback.address(n) for n in range(QUESTIONS)]

    def tls(n: int) -> Check:
        target = Target("bench", "chat", f"tls-{n}", "tls")
        return Check(target, TlsProbe(loopback.NAME), places[n % QUESTIONS], loopback.TLS)

    def dns(n: int) -> Check:
        target = Target("bench", "chat", f"dns-{n}", "dns")
        at = f"{places[n]}:{loopback.DNS}"
        return Check(target, DnsProbe(loopback.NAME, resolver=at), places[n], loopback.DNS)

    async def handshakes() -> None:
        while True:
            for n in range(HANDSHAKES):
                (seen,) = (await measure(tls(n), env)).observations
                assert seen.works, seen
                await asyncio.sleep(1 / HANDSHAKES)

    async def questions() -> None:
        while True:
            await asyncio.gather(*(measure(dns(n), env) for n in range(QUESTIONS)))
            await asyncio.sleep(1)

    shown = mirror()
    figures = next(iter(shown.targets.values()))
    for n in range(SHOWN):
        target = replace(figures.target, name=f"target-{n}")
        shown.targets[target.messenger, target.name] = replace(figures, target=target)

    async def scrapes() -> None:
        while True:
            render(shown, "", NOW)
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(work()) for work in (handshakes, questions, scrapes)]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()  # a load that broke is no load
    finally:
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def reflector() -> Iterator[int]:
    """A process that returns every datagram; gives its port."""
    command = [sys.executable, "-m", "tests.lab.reflector", "127.0.0.1", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        wait_until(lambda: _answers(port), "the reflector")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.sendto(b"?", ("127.0.0.1", port))
        return sock.recv(10) == b"?"
