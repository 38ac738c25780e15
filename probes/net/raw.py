"""Connections of the kernel's, and segments injected into them: our side of the tracer's process.

The process (probes/trace/rawtracer.py) captures and injects. Which sequence numbers a connection
has is read from the capture of its handshake. interference-methods 3.4.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from probes.net.address import Source
from probes.net.hops import (
    EXPIRED_4,
    EXPIRED_6,
    FULL,
    RESETS,
    UNREACHABLE_4,
    UNREACHABLE_6,
    Answer,
    Connections,
    Enough,
    Seen,
    Teardown,
)
from probes.net.stream import connected, tcp_info

CAP_NET_RAW = 13
PROGRAM = Path(__file__).parents[1] / "trace" / "rawtracer.py"
PATIENCE = 15.0
"""Seconds for the process to start: scapy takes one, and more on a small machine."""
LONGEST_SEGMENT = 1200
"""Bytes that fit into one segment anywhere."""
_CAPTURED = 4096
_LINE = 1 << 16
_LATE = 1.0
_POLL = 0.004
_MODULUS = 1 << 32


class RawMissing(Exception):
    """The tracer's process cannot do its work here; the text says why."""


def capable() -> bool:
    """Has this process CAP_NET_RAW in effect?"""
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return False
    held = next((line for line in status.splitlines() if line.startswith(b"CapEff:")), b"CapEff: 0")
    return bool(int(held.split()[1], 16) >> CAP_NET_RAW & 1)


@dataclass(frozen=True, slots=True)
class Captured:
    """One packet; ``rest`` as the process describes it, by protocol."""

    number: int
    at: float
    out: bool
    protocol: str
    own: int
    sender: str
    ttl: int
    rest: Mapping[str, Any]

    @property
    def flags(self) -> str:
        return str(self.rest.get("flags", ""))


@dataclass(frozen=True, slots=True)
class _Open:
    """A connection as its handshake was captured; ``sequence`` is of the next byte to send."""

    source: str
    sequence: int
    acknowledged: int
    window: int
    timestamp: list[int]
    rtt: float
    server: Captured


class Raw:
    """``async with Raw(address) as raw``. Raises RawMissing."""

    def __init__(self, address: str, source: Source | None = None) -> None:
        self.address, self.source = address, source or Source()
        self.fastest: float | None = None
        self._heard: deque[Captured] = deque(maxlen=_CAPTURED)
        self._numbers = itertools.count()
        self._came = asyncio.Event()
        self._over = False
        self._quotes: dict[str, set[str]] = {}

    async def __aenter__(self) -> Self:
        if not capable():
            raise RawMissing("no CAP_NET_RAW")
        ours, theirs = socket.socketpair()
        # By its file: it imports nothing of ours, for its licence's sake.
        command = [sys.executable, "-P", str(PROGRAM), str(theirs.fileno()), self.address]
        if self.source.interface:
            command.append(self.source.interface)
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise RawMissing(str(error)) from error
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE)
        try:
            async with asyncio.timeout(PATIENCE):
                first = json.loads(await self._reader.readline() or b"{}")
        except (TimeoutError, ValueError) as error:
            await self._end()
            raise RawMissing("the tracer's process does not start") from error
        if not first.get("ready"):
            await self._end()
            raise RawMissing(str(first.get("missing", "the tracer's process ended")))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._end()

    async def _end(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(2.0):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _read(self) -> None:
        while line := await self._reader.readline():
            try:
                told = json.loads(line)
                one = Captured(
                    next(self._numbers),
                    told["at"],
                    told["out"],
                    told["protocol"],
                    told["own"],
                    told["from"],
                    told["ttl"],
                    told,
                )
            except (ValueError, KeyError, TypeError):
                continue
            self._heard.append(one)
            if one.protocol == "icmp":
                self._quotes.setdefault(one.sender, set()).update(told["differs"])
            self._came.set()
        self._over = True

    def quotes(self) -> dict[str, Sequence[str]]:
        """Per router, in what it quoted another packet than was sent."""
        return {router: sorted(differs) for router, differs in self._quotes.items()}

    # --- a connection, and a segment in it ---

    async def say(
        self, port: Connections, data: bytes, hops: int, wait: float, enough: Enough | None = None
    ) -> Seen | None:
        """On a connection of its own: ``data`` injected with so many hops, its first byte by the
        kernel with all hops behind it. ``acked``: was either acknowledged? The kernel never repeats
        what it has not sent. None where nobody accepts the connection. Raises RawMissing once the
        process has ended."""
        mark = next(self._numbers)
        with port.bound(self.source, port.own) as sock:
            port.sent += 3
            try:
                async with asyncio.timeout(wait + 1.0):
                    await connected(sock, (self.address, port.port))
            except OSError:
                return None
            opened = await self._opened(mark, port.own)
            if self._over:
                raise RawMissing("the tracer's process has ended")
            if opened is None:
                return None
            seen = Seen(acked=False)
            since = await self._inject(opened, port, data, hops)
            port.sent += 2
            try:
                sock.send(data[:1])
            except OSError as error:
                seen.reset = error.errno in RESETS
            deadline = time.monotonic() + max(wait, 3 * opened.rtt + 0.1)
            told = 0
            while True:
                found = Seen(acked=tcp_info(sock).bytes_acked >= 1)
                reached = self._gather(found, mark, since, opened, port.own, len(data), hops)
                seen.reset = seen.reset or found.reset
                left = deadline - time.monotonic()
                found.reset = seen.reset
                if left <= 0 or found.answers or (enough and enough(found)):
                    break
                if found.reset and not told:
                    # The router's word on the same packet tells who stands beside the path.
                    told, deadline = 1, min(deadline, time.monotonic() + opened.rtt)
                await self._more(min(_POLL, left))
            if reached is not None:
                self._order(opened, port, reached, FULL, "R", b"")
        return found

    async def _opened(self, mark: int, own: int) -> _Open | None:
        """The connection whose SYN is the newest since then. What is left of the one before it on
        the same port may be told late."""
        until = time.monotonic() + _LATE
        while time.monotonic() < until:
            syn = server = None
            for one in self._since(mark, own):
                if one.out and one.flags == "S":
                    syn, server = one, None
                elif syn is None:
                    continue
                elif not one.out and one.flags == "SA" and _follows(syn, one.rest["ack"]):
                    server = one
                elif server and one.out and one.flags == "A" and _follows(syn, one.rest["seq"]):
                    stamps = [v for name, v in one.rest["options"] if name == "Timestamp"]
                    rtt = server.at - syn.at
                    self.fastest = min(rtt, self.fastest or rtt)
                    seq, ack = one.rest["seq"], one.rest["ack"]
                    window = one.rest["window"]
                    stamp = stamps[0] if stamps else []
                    return _Open(one.sender, seq, ack, window, stamp, rtt, server)
            await self._more(0.05)
        return None

    async def _inject(self, opened: _Open, port: Connections, data: bytes, hops: int) -> float:
        """When it left."""
        mark, began = next(self._numbers), time.time()
        self._order(opened, port, opened.sequence, hops, "PA", data)
        until = time.monotonic() + _LATE
        while time.monotonic() < until:
            for one in self._since(mark, port.own):
                if one.out and one.rest.get("seq") == opened.sequence and one.rest.get("length"):
                    return one.at
            await self._more(0.05)
        return began

    def _order(
        self, opened: _Open, port: Connections, seq: int, hops: int, flags: str, data: bytes
    ) -> None:
        order = {
            "source": opened.source,
            "own": port.own,
            "port": port.port,
            "seq": seq,
            "ack": opened.acknowledged,
            "window": opened.window,
            "timestamp": opened.timestamp,
            "hops": hops,
            "flags": flags,
            "data": data.hex(),
        }
        self._writer.write(json.dumps(order).encode() + b"\n")

    def _gather(
        self,
        seen: Seen,
        mark: int,
        since: float,
        opened: _Open,
        own: int,
        length: int,
        hops: int,
    ) -> int | None:
        """What came since; returns the sequence number that the server expects if it has it all."""
        reached = None
        for one in self._since(mark, own):
            if one.out or one.at < since:
                continue
            if one.protocol == "icmp":
                if one.rest["of"] == "tcp" and one.rest["seq"] == opened.sequence:
                    _report(one, seen)
            elif one.protocol == "tcp":
                if "R" in one.flags or "F" in one.flags:
                    seen.reset = seen.reset or "R" in one.flags
                    seen.teardowns.append(_teardown(one, hops, since, opened.rtt, opened.server))
                if "R" not in one.flags:
                    got = (one.rest["ack"] - opened.sequence) % _MODULUS
                    seen.acked = seen.acked or 0 < got <= length
                    if got == length > 1:
                        reached = one.rest["ack"]
                        seen.answers = [Answer(b"", one.ttl, one.at - since)]
            if not seen.silent and not seen.seconds:
                seen.seconds = one.at - since
        return reached

    # --- what the kernel sends ---

    def mark(self) -> tuple[int, float]:
        return next(self._numbers), time.time()

    def witness(self, mark: tuple[int, float], own: int, hops: int, seen: Seen) -> None:
        """Teardowns since then of what the kernel sent from that port."""
        number, since = mark
        for one in self._since(number, own):
            if not one.out and one.protocol == "tcp" and "R" in one.flags:
                seen.teardowns.append(_teardown(one, hops, since, self.fastest, None))

    # --- all ---

    def _since(self, mark: int, own: int) -> Iterator[Captured]:
        """From the oldest on."""
        found = itertools.takewhile(lambda one: one.number > mark, reversed(self._heard))
        return reversed([one for one in found if one.own == own])

    async def _more(self, seconds: float) -> None:
        self._came.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            pass


def _follows(syn: Captured, number: int) -> bool:
    return number == (int(syn.rest["seq"]) + 1) % _MODULUS


def _report(one: Captured, seen: Seen) -> None:
    kind, code = one.rest["icmp"]
    six = ":" in one.sender
    if kind == (EXPIRED_6 if six else EXPIRED_4)[1]:
        seen.expired = one.sender
    elif kind == (known := UNREACHABLE_6 if six else UNREACHABLE_4)[0]:
        seen.refused, seen.unreachable = one.sender, code in known[1]


def _teardown(
    one: Captured, hops: int, since: float, rtt: float | None, server: Captured | None
) -> Teardown:
    return Teardown(
        hops,
        one.flags,
        one.ttl,
        one.rest["id"],
        one.rest["window"],
        tuple(name for name, _ in one.rest["options"]),
        one.at - since,
        rtt,
        server.ttl if server else None,
        server.rest["id"] if server else None,
    )
