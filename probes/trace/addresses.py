"""A trace for which the address is trigger enough: method A by datagrams, B by SYNs.

A server that is not there looks like a filter, unless it is known how far away it would be: by
another port of the same address, by a neighbour in its network, or else by strangers, whose path
may be another. interference-methods 3.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from probes.net.hops import FULL, Answer, Connections, Datagrams, Seen
from probes.trace import words
from probes.trace.common import SENDS, SPREAD, Common, Report, Word
from probes.trace.place import Placement, Probed, Run, Sign, Stretch, acted_upon, is_last, placement
from probes.trace.sweep import LONGEST, rise, sweep
from probes.trace.words import Make

DOORS = (443, 80, 5222)
"""TCP ports that a messenger's server may have open as well."""
SILENT = 1
"""Routers before a server that does not answer whose own silence leaves it the server's."""
CLOSED = 33433
"""A port of UDP that nobody has: a host says so, and from where it is."""
PASSED = 2
"""Routers on a stranger's way behind the place, which is nearer than any server at home as well: so
near to here no server of another country's is."""

Ask = Callable[[int], Awaitable[Seen]]
Asking = tuple[Ask, Callable[[], int]]
"""How to send one packet with so many hops, and how to end it, which tells the own port."""


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the address is held against, by ``ask``. ``away``: the distance of that, and of the
    address where it is ``near``; ``home``: of a server in the own country."""

    ask: Callable[[], Asking] | None = None
    near: bool = False
    away: int | None = None
    home: int | None = None


@dataclass(slots=True)
class Addresses(Common):
    """Everything that goes to the address is the trigger."""

    async def _addresses(self, method: str) -> Report:
        surveyed = await self._survey(
            self._reach,
            lambda seen: bool(seen.answers),
            lambda seen: seen.reset or bool(seen.refused),
        )
        if all(seen.answers for seen in surveyed):
            return await self._nothing(method, self._own_way)
        # Filtered on some paths only?
        self._some = self._mixed = any(seen.answers for seen in surveyed)
        ground = await self._ground()
        signs = frozenset({Sign.SILENCE, Sign.RESET, Sign.REFUSED})
        runs = await self._runs(signs, lambda signs: self._address_run(signs, ground))
        report = self._judge(method, signs, runs)
        acted = [
            probed.trigger
            for run in runs
            for k, probed in run.hops.items()
            if acted_upon(k, probed, run.distance, signs)
        ]
        shown = {
            Sign.REFUSED if seen.refused else Sign.RESET if seen.reset else Sign.SILENCE
            for seen in acted
        }
        report.signs = frozenset(shown or {Sign.SILENCE})
        found = report.place.stretch if report.place else None
        if report.place is None or found is None:
            return report
        report.place = replace(report.place, placement=placement(runs, report.signs, found))
        forbidden = any(s.refused not in ("", self.address) and not s.unreachable for s in acted)
        if report.word is Word.FOUND and not self._some and not forbidden:
            report.word, report.why = self._whose(found, runs, ground)
            if report.word is not Word.FOUND:  # nobody is known to stand anywhere
                server = report.word is Word.SERVER
                whose = Placement.ENDPOINT if server else Placement.UNKNOWN
                report.place = replace(report.place, placement=whose)
        return report

    def _whose(self, found: Stretch, runs: Sequence[Run], ground: _Ground) -> tuple[Word, str]:
        """A filter's on the way, or may it be that there is no such server?"""
        low, high = found.low, found.high
        aways = [away for away in (ground.away, *(run.distance for run in runs)) if away]
        away = min(aways, default=None)  # more is one whose answer was lost on the way
        last = is_last(runs, low)
        if low == 0 and high is None:
            return Word.UNCLEAR, "no router on the way says a word"
        if ground.near and away is not None:
            if high is not None and high < away:
                return Word.FOUND, ""
            there = low >= away - 1 - SILENT
        else:
            nearer = high is not None and high < min(away or 0, ground.home or 0)
            known = _named_behind(runs, low) >= PASSED
            if not last and (self.sure or (nearer and known)):
                return Word.FOUND, ""
            shared = any(run.controls for run in runs)
            there = last and shared and away is not None and low >= away - 1 - SILENT
            if not there and not last:
                return Word.UNCLEAR, "nothing near the address answers, and it may be nearer"
        if there:
            return Word.SERVER, ""
        return Word.UNCLEAR, "it may as well be the server that does not answer"

    async def _reach(self) -> Seen:
        ask, close = self._asker(self.address, self.port)
        try:
            seen = await ask(FULL)
            if seen.silent and await self._stalled():
                seen = await ask(FULL)
            return seen
        finally:
            close()

    # --- what it is held against ---

    async def _ground(self) -> _Ground:
        tcp = self.words.transport == "tcp"
        doors: list[Callable[[], Asking]] = [
            partial(self._knocker, self.address, port)
            for port in dict.fromkeys((*DOORS, self.port))
            if self._some or not (tcp and port == self.port)  # that is what does not answer
        ]
        doors.append(partial(self._echo, self.address))
        if near := await self._first(doors):
            return _Ground(near[0], True, near[1])
        for wanted in (True, False):
            asked = [
                partial(self._asker, one.address, one.port, words.stranger)
                for one in self.controls
                if one.near is wanted and not one.home
            ]
            if held := await self._first(asked):
                homes = [partial(self._knocker, c.address, c.port) for c in self.controls if c.home]
                home = None if wanted else await self._first(homes)
                return _Ground(held[0], wanted, held[1], home[1] if home else None)
        return _Ground()

    async def _first(
        self, asks: Sequence[Callable[[], Asking]]
    ) -> tuple[Callable[[], Asking], int] | None:
        """Who answers, and how far away."""
        for one in asks:
            seen, distance = await self._swept(one)
            if distance:
                self._wait = min(max(3 * seen[distance].seconds, 0.25), 0.9)
                return one, distance
        return None

    async def _swept(self, asking: Callable[[], Asking]) -> tuple[dict[int, Seen], int | None]:
        """The way there. Where some flows are acted upon, this one may be as well: others then."""
        seen: dict[int, Seen] = {}
        for _ in range(SENDS if self._some else 1):
            ask, close = asking()
            try:
                if (await ask(FULL)).answers:
                    seen, distance = await sweep(ask)
                    if distance:
                        return seen, distance
            finally:
                close()
        return seen, None

    # --- runs ---

    async def _own_way(self, signs: frozenset[Sign]) -> Run:
        """Of an address that answers."""
        ask, close = self._asker(self.address, self.port)
        try:
            seen, distance = await sweep(ask)
        finally:
            own = close()
        return Run(own, {}, distance, False, seen)

    async def _address_run(self, signs: frozenset[Sign], ground: _Ground) -> Run:
        """The path to the control is the control. Of a stranger's, only what both share counts."""
        controls: dict[int, Seen] = {}
        away = None
        if ground.ask is not None:
            controls, away = await self._swept(ground.ask)
        near, shared = ground.near, True
        ask, close = self._asker(self.address, self.port)

        async def trigger(hops: int, control: Seen, first: bool) -> Probed:
            nonlocal shared
            seen = await ask(hops)
            if first and seen.silent and control.expired:
                await asyncio.sleep(SPREAD)
                seen = await ask(hops)
            named = {one.expired for one in (seen, control) if one.expired}
            shared = near or (shared and len(named) < 2)
            return Probed(seen, control if shared else Seen())

        try:
            if self._some and (await ask(FULL)).answers:
                return Run(close(), {}, None, False, controls)
            last = {} if controls else dict.fromkeys(range(1, LONGEST + 1), Seen())
            hops = _passed(await rise(trigger, controls or last, away, signs))
        finally:
            own = close()
        arrived = any(one.trigger.answers for one in hops.values())
        if arrived:  # this way is free, though none of those before was
            self._some = self._mixed = True
        return Run(own, hops, away if near else None, not arrived, controls if shared else {})

    # --- one packet ---

    def _asker(self, address: str, port: int, make: Make | None = None) -> Asking:
        if self.words.transport == "tcp":
            return self._knocker(address, port)
        return self._datagrams_to(address, port, make or self.words.trigger or words.stranger)

    def _datagrams_to(self, address: str, port: int, make: Make) -> Asking:
        flow = Datagrams(address, port, self.source)
        own = flow.sock.getsockname()[1]

        def end() -> int:
            self.packets += flow.sent
            flow.sent = 0
            flow.sock.close()
            return int(own)

        return lambda hops: self._shoot(flow, make, hops, 2 if hops else SENDS), end

    def _echo(self, address: str) -> Asking:
        """Its own word that a port is closed, as an answer."""
        flow_ask, end = self._datagrams_to(address, CLOSED, words.stranger)

        async def ask(hops: int) -> Seen:
            seen = await flow_ask(hops)
            if seen.refused == address and not seen.unreachable:
                seen.answers.append(Answer(b"", None, seen.seconds))
            return seen

        return ask, end

    def _knocker(self, address: str, port: int) -> Asking:
        tcp = Connections(address, port, self.source)

        async def knock(hops: int) -> Seen:
            seen = Seen()
            for _ in range(2 if hops else SENDS):
                mark = self.raw.mark() if self.raw else None
                seen.merge(await tcp.knock(hops, self._wait))
                if self.raw and mark and seen.reset:
                    await asyncio.sleep(0.01)  # the kernel may be told before the tracer is
                    self.raw.witness(mark, tcp.own, hops, seen)
                if not seen.silent:
                    break
            return seen

        def end() -> int:
            self.packets += tcp.sent
            tcp.sent = 0
            return tcp.own

        return knock, end


def _passed(hops: dict[int, Probed]) -> dict[int, Probed]:
    """Where a packet got further, its silence before is a router's, whatever the control's does."""
    last = max((k for k, one in hops.items() if one.trigger.expired), default=0)
    return {
        k: replace(one, control=Seen()) if k < last and one.trigger.silent else one
        for k, one in hops.items()
    }


def _named_behind(runs: Sequence[Run], low: int) -> int:
    """Routers on the control's way, where it is the address's as far as anybody can tell."""
    return max(
        (sum(bool(s.expired) and k > low for k, s in run.controls.items()) for run in runs),
        default=0,
    )
