"""What the agent allows itself: spacing, handshake pace, packet and byte budgets, and the pause.

Enforced in code at the door to the network (probes/net), whatever the schedule asks for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from probes.model import Target
from probes.net.address import REMEMBERED
from probes.net.environment import Traffic
from probes.net.errors import NotMeasured

MINUTE = 60.0
DAY = 86_400
HANDSHAKES_A_MINUTE = 2
HANDSHAKE_GAP = 0.5
"""More handshakes to one destination and name trip connection-burst rules (interference-methods
2.5 in the project's notes; design 7)."""
HOUR = 3600.0
SLOW_RATE = 1.5
"""Packets a second up to which a stream is what an app sends to keep a path open."""
SLOW_AN_HOUR, FAST_AN_HOUR = 4_500, 12_000
"""Packets of streams to one address and port in an hour: a slow one all the time, and of a voice's
rate four minutes, so that what is undecided can be asked again at once."""
_EARLY = 0.1
"""Share of the interval by which a check that comes early is held back instead of left out."""


@dataclass(slots=True)
class Limits:
    """Seconds, counts, bytes; ``fast_prefixes`` are laboratories, where rates do not apply."""

    min_interval: float
    packets_per_target_per_minute: int
    bytes_per_day: int
    fast_prefixes: tuple[str, ...] = ()


@dataclass(slots=True)
class Manners:
    """Implements probes.net.environment.Courtesy. Times are monotonic seconds."""

    limits: Limits
    traffic: Traffic
    paused: bool = False
    day: str = ""
    day_bytes: int = 0
    _last: dict[tuple[str, int, str], float] = field(default_factory=dict)
    _packets: dict[tuple[str, str], deque[tuple[float, int]]] = field(default_factory=dict)
    _handshakes: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    _next_handshake: dict[str, float] = field(default_factory=dict)
    _spared: dict[str, float] = field(default_factory=dict)
    _streams: dict[tuple[str, int], deque[tuple[float, int]]] = field(default_factory=dict)
    _counted: int = 0

    async def check(self, target: Target, address: str, port: int, kind: str, packets: int) -> None:
        self._refuse_when_spent()
        fast = self._is_fast(address)
        if self.limits.min_interval < MINUTE and not fast:
            raise NotMeasured("outside_fast_prefixes")
        if self.is_spared(address):
            raise NotMeasured("residual")
        await self._space(address, port, kind, self.limits.min_interval)
        if not fast:
            self._spend_packets(target, packets)

    async def on_request(self, target: Target, address: str, packets: int) -> None:
        """As ``check``, for what somebody asks for now: in the budgets, and not spaced out."""
        self._refuse_when_spent()
        if not self._is_fast(address):
            if self.limits.min_interval < MINUTE:
                raise NotMeasured("outside_fast_prefixes")
            self._spend_packets(target, packets)
        if self.is_spared(address):
            raise NotMeasured("residual")

    async def handshake(self, address: str, name: str) -> None:
        self._refuse_when_spent()
        if self._is_fast(address):
            return
        now = time.monotonic()
        recent = self._handshakes.setdefault((address, name), deque())
        while recent and now - recent[0] >= MINUTE:
            recent.popleft()
        if len(recent) >= HANDSHAKES_A_MINUTE:
            raise NotMeasured("handshake_rate")
        start = max(now, self._next_handshake.get(address, 0.0))
        self._next_handshake[address] = start + HANDSHAKE_GAP
        recent.append(start)
        if start > now:
            await asyncio.sleep(start - now)
            self._refuse_when_spent()

    async def stream(
        self, target: Target, address: str, port: int, packets: int, rate: float, allowed: bool
    ) -> None:
        self._refuse_when_spent()
        if self._is_fast(address):
            return
        if rate > SLOW_RATE and not allowed:
            raise NotMeasured("not_fast")
        most = FAST_AN_HOUR if rate > SLOW_RATE else SLOW_AN_HOUR
        now = time.monotonic()
        recent = self._streams.setdefault((address, port), deque())
        while recent and now - recent[0][0] >= HOUR:
            recent.popleft()
        if sum(count for _, count in recent) + packets > most:
            raise NotMeasured("stream_budget")
        recent.append((now, packets))

    def spare(self, address: str, seconds: float) -> None:
        """Ask nothing there for so long: a filter may remember what was just asked."""
        self._spared[address] = time.monotonic() + seconds

    def is_spared(self, address: str) -> bool:
        return bool(self._spared) and self._spared.get(address, 0.0) > time.monotonic()

    def inherit(self, old: Manners) -> None:
        """Go on where ``old`` stopped: a reload is no licence to ask twice."""
        self.traffic.add(old.traffic.sent, old.traffic.received)
        self._counted = old._counted
        self.paused, self.day, self.day_bytes = old.paused, old.day, old.day_bytes
        self._last, self._packets = old._last, old._packets
        self._handshakes, self._next_handshake = old._handshakes, old._next_handshake
        self._spared, self._streams = old._spared, old._streams

    def spent_today(self) -> int:
        """Bytes of this UTC day, both directions; survives a restart through ``day_bytes``."""
        today = _day(int(time.time() // DAY))
        total = self.traffic.sent + self.traffic.received
        if today != self.day:
            self.day, self.day_bytes = today, 0
        self.day_bytes += total - self._counted
        self._counted = total
        return self.day_bytes

    def spent(self) -> bytes:
        """The same for the store: the day and its bytes."""
        spent = self.spent_today()
        return f"{self.day} {spent}".encode()

    def restore(self, kept: bytes) -> None:
        words = kept.decode().split()
        if len(words) == 2 and words[1].isdigit():
            self.day, self.day_bytes = words[0], int(words[1])

    def forget_old(self) -> None:
        """Drop what no longer limits anything; called once a round, so that memory stays flat."""
        now = time.monotonic()
        horizon = max(self.limits.min_interval, MINUTE) * 2
        self._last = {k: t for k, t in self._last.items() if now - t < horizon}
        self._handshakes = {k: q for k, q in self._handshakes.items() if q and now - q[-1] < MINUTE}
        self._packets = {k: q for k, q in self._packets.items() if q and now - q[-1][0] < MINUTE}
        self._spared = {k: t for k, t in self._spared.items() if t > now}
        self._streams = {k: q for k, q in self._streams.items() if q and now - q[-1][0] < HOUR}
        self._next_handshake = {k: t for k, t in self._next_handshake.items() if t > now}

    def refusal(self) -> str:
        """Why nothing at all may be asked now; "" when something may."""
        if self.paused:
            return "paused"
        return "byte_budget" if self.spent_today() >= self.limits.bytes_per_day else ""

    def _refuse_when_spent(self) -> None:
        if reason := self.refusal():
            raise NotMeasured(reason)

    async def _space(self, address: str, port: int, kind: str, interval: float) -> None:
        key = (address, port, kind)
        now = time.monotonic()
        last = self._last.get(key)
        wait = 0.0 if last is None else last + interval - now
        if wait > interval * _EARLY:
            raise NotMeasured("min_interval")
        self._last[key] = now + max(wait, 0.0)
        if wait > 0:
            await asyncio.sleep(wait)
            self._refuse_when_spent()

    def _spend_packets(self, target: Target, packets: int) -> None:
        now = time.monotonic()
        recent = self._packets.setdefault((target.messenger, target.name), deque())
        while recent and now - recent[0][0] >= MINUTE:
            recent.popleft()
        spent = sum(count for _, count in recent)
        if spent + packets > self.limits.packets_per_target_per_minute:
            raise NotMeasured("packet_budget")
        recent.append((now, packets))

    def _is_fast(self, address: str) -> bool:
        return bool(self.limits.fast_prefixes) and _within(address, self.limits.fast_prefixes)


@lru_cache(maxsize=2)  # asked for every check
def _day(number: int) -> str:
    """The UTC day that begins so many days after 1970."""
    return datetime.fromtimestamp(number * DAY, UTC).date().isoformat()


@lru_cache(maxsize=REMEMBERED)  # asked for every packet that leaves, of the same addresses
def _within(address: str, prefixes: tuple[str, ...]) -> bool:
    ip = ipaddress.ip_address(address)
    return any(
        ip.version == net.version and ip in net for net in map(ipaddress.ip_network, prefixes)
    )
