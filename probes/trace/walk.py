"""The procedure: what happens at full hop limit first, then flow by flow with rising hop limits.

On one flow the hop limit only rises: a filter that remembers is not met before it is found, and all
packets take one path where routers balance by flow. interference-methods 3.2, 3.5.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from probes.net.address import Source
from probes.net.hops import FULL, Answer, Connections, Datagrams, Seen
from probes.trace import words
from probes.trace.place import (
    MOST,
    Place,
    Probed,
    Run,
    Sign,
    acted_upon,
    is_last,
    place,
    placement,
    settled,
)
from probes.trace.words import Make, Words

LONGEST = 30
"""Hops."""
SENDS = 3
SURVEYED = 4
"""Flows with all hops before anything else; as many again where they do not agree."""
BEHIND = 2
"""Hops that are looked at behind the first at which something was done."""
SILENT = 1
"""Routers before a server that does not answer whose own silence leaves it the server's."""
GAP = 6
"""Silent hops in a row after which nothing more is expected."""
MOST_PACKETS = 2000
"""Of one trace, connections' own included."""
SPREAD = 1.1
"""Seconds between the packets whose silence decides: a router may report one a second."""


class Word(StrEnum):
    """``server``: nothing acts on the way, and the server does not answer."""

    FOUND = "found"
    NOTHING = "no_interference"
    SERVER = "dead_server"
    UNCLEAR = "unclear"


@dataclass(slots=True)
class Report:
    """``method`` as in interference-methods 3.3; ``why`` where the word alone does not say."""

    word: Word
    method: str
    signs: frozenset[Sign] = frozenset()
    place: Place | None = None
    runs: list[Run] = field(default_factory=list)
    packets: int = 0
    seconds: float = 0.0
    why: str = ""


Tell = Callable[[str], None]


@dataclass(slots=True)
class Walk:
    """``address`` and ``port`` are the messenger's; ``control``: another place that answers such
    packets, for a trigger that is the address itself. ``limit``: seconds for all of it."""

    words: Words
    address: str
    port: int
    source: Source = field(default_factory=Source)
    control: tuple[str, int] | None = None
    limit: float = 600.0
    tell: Tell = lambda text: None
    packets: int = 0
    _wait: float = 0.6
    _harmless: Make | None = None
    _split: int = 0

    async def trace(self) -> Report:
        """Raises OSError where this host cannot send there."""
        began = time.monotonic()
        report = await (self._datagrams() if self.words.transport == "udp" else self._streams())
        report.packets, report.seconds = self.packets, time.monotonic() - began
        return report

    # --- datagrams: methods A, D and E ---

    async def _datagrams(self) -> Report:
        if self.words.trigger is None:
            return await self._addresses("A")
        surveyed = [await self._ask_flow() for _ in range(SURVEYED)]
        if len(set(map(str, surveyed))) > 1:
            surveyed += [await self._ask_flow() for _ in range(SURVEYED)]
        passed = [one for one in surveyed if one == _Flow(answered=True, alive=one.alive)]
        if self._harmless is None and not passed:
            return await self._addresses("A")
        signs = {Sign.REFUSED for one in surveyed if one.refused}
        signs |= {Sign.CUT for one in surveyed if one.alive is False}
        signs |= {Sign.SILENCE for one in surveyed if not one.answered}
        if len(passed) == len(surveyed) and Sign.CUT not in signs:
            if self.words.forged is None:
                return await self._nothing("A", self._datagram_run)
            signs = {Sign.FORGED}
        found = frozenset(signs)
        method = "D" if Sign.CUT in found else "E" if Sign.FORGED in found else "A"
        runs = await self._runs(found, self._datagram_run)
        return self._judge(method, found, runs)

    async def _ask_flow(self) -> _Flow:
        """The trigger with all hops, and whether the flow lives on."""
        assert self.words.trigger is not None
        with Datagrams(self.address, self.port, self.source) as flow:
            seen = await self._shoot(flow, self.words.trigger, FULL)
            alive = await self._alive(flow)
            self.packets += flow.sent
        if alive is False and self._harmless is not None:
            with Datagrams(self.address, self.port, self.source) as flow:
                if await self._alive(flow) is not True:
                    alive = None  # not the trigger's doing
                self.packets += flow.sent
        return _Flow(bool(seen.answers), bool(seen.refused), alive)

    async def _alive(self, flow: Datagrams) -> bool | None:
        """Do harmless datagrams with all hops get their answer? None: no such are known."""
        if self._harmless is None:
            for make in self.words.harmless:
                with Datagrams(self.address, self.port, self.source) as fresh:
                    seen = await self._shoot(fresh, make, FULL)
                    self.packets += fresh.sent
                if seen.answers:
                    self._harmless = make
                    self._wait = min(max(3 * seen.seconds, 0.25), 1.0)
                    break
            else:
                return None
        return bool((await self._shoot(flow, self._harmless, FULL)).answers)

    async def _shoot(
        self, flow: Datagrams, make: Make, hops: int, sends: int = SENDS, spread: float = 0.0
    ) -> Seen:
        seen = Seen()
        for number in range(sends):
            wait = max(self._wait, spread if number + 1 < sends else 0.0)
            seen.merge(await flow.shoot(make(), hops, wait))
            if not seen.silent:
                break
        return seen

    async def _datagram_run(self, signs: frozenset[Sign]) -> Run:
        assert self.words.trigger is not None
        control = self._harmless or self.words.control or self.words.trigger
        with Datagrams(self.address, self.port, self.source) as flow:
            port = flow.sock.getsockname()[1]
            # First, where that harms nothing: a server may take what comes second on a flow for
            # part of what came first, and not answer it.
            if signs == {Sign.SILENCE}:
                asked = await self._shoot(flow, self.words.trigger, FULL)
                if asked.answers:
                    self.packets += flow.sent
                    return Run(port, {}, None, False)

            async def harmless(hops: int) -> Seen:
                return await self._shoot(flow, control, hops, 2)

            controls, distance = await _sweep(harmless)

            async def trigger(hops: int, control: Seen, first: bool) -> Probed:
                assert self.words.trigger is not None
                if Sign.FORGED in signs:
                    seen = await flow.shoot(self.words.trigger(), hops, self._wait, lambda _: False)
                elif first:
                    spread = 0.0 if Sign.CUT in signs or hops == FULL else SPREAD
                    seen = await self._shoot(flow, self.words.trigger, hops, spread=spread)
                else:
                    seen = await self._shoot(flow, self.words.trigger, hops, 1)
                alive = await self._alive(flow) if Sign.CUT in signs else None
                return Probed(seen, control, alive, self._forged(seen, answered))

            answered = controls[distance].answers if distance else []
            behind = distance + BEHIND if distance and Sign.FORGED in signs else distance
            hops = await _rise(trigger, controls, behind, signs)
            full = await trigger(FULL, Seen(), True)
            self.packets += flow.sent
        caught = _caught(full, signs) or _acts(hops, distance, signs)
        return Run(port, hops, distance, caught, controls)

    def _forged(self, seen: Seen, control: Sequence[Answer]) -> bool:
        """Two answers that differ to one question, or one that its server would not give."""
        bodies = {answer.data for answer in seen.answers}
        if self.words.forged is None or not bodies:
            return False
        known = [answer.data for answer in control]
        return len(bodies) > 1 or any(self.words.forged(one, o) for one in bodies for o in known)

    # --- connections: methods B and C ---

    async def _streams(self) -> Report:
        if self.words.trigger is None:
            return await self._addresses("B")
        if not await self._accepted():
            return await self._addresses("B")
        whole = [await self._say(self._trigger, 0, FULL) for _ in range(SURVEYED)]
        parted = [await self._say(self._trigger, self.words.split, FULL) for _ in range(2)]
        seen = [one for one in (*whole, *parted) if one is not None]
        if seen and all(one.answers for one in seen):
            return await self._nothing("C", self._stream_run)
        if len({bool(one.answers) for one in whole if one}) == 1 and not any(
            one.answers for one in parted if one
        ):
            self._split = self.words.split  # it is read in pieces as well
        signs = {Sign.RESET for one in seen if one.reset}
        signs |= {Sign.SILENCE for one in seen if not one.answers and not one.reset}
        if self._split and any(one.acked is False for one in parted if one):
            harmless = [await self._say(self._control, self._split, FULL) for _ in range(2)]
            if all(one is not None and one.acked for one in harmless):
                signs.add(Sign.CUT)
        found = frozenset(signs)
        return self._judge("C", found, await self._runs(found, self._stream_run))

    async def _accepted(self) -> bool:
        for _ in range(SENDS):
            port = Connections(self.address, self.port, self.source)
            seen = await port.knock(FULL, 1.0)
            self.packets += port.sent
            if seen.answers:
                self._wait = min(max(3 * seen.seconds, 0.25), 1.0)
                return True
        return False

    def _trigger(self) -> bytes:
        assert self.words.trigger is not None
        return self.words.trigger()

    def _control(self) -> bytes:
        return self.words.control() if self.words.control else self._trigger()

    async def _say(
        self, make: Make, split: int, hops: int, on: Connections | None = None
    ) -> Seen | None:
        port = on or Connections(self.address, self.port, self.source)
        said = make()

        def enough(seen: Seen) -> bool:
            return bool(seen.expired) and (seen.acked is not False)

        seen = await port.say(said[:split], said[split:], hops, self._wait, enough)
        if on is None:
            self.packets += port.sent
        return seen

    async def _stream_run(self, signs: frozenset[Sign]) -> Run:
        port = Connections(self.address, self.port, self.source)

        async def knock(hops: int) -> Seen:
            seen = Seen()
            for _ in range(2):
                seen.merge(await port.knock(hops, min(self._wait, 0.8)))
                if not seen.silent:
                    break
            return seen

        controls, distance = await _sweep(knock)

        async def trigger(hops: int, control: Seen, first: bool) -> Probed:
            seen, accepted = Seen(), False
            for _ in range(SENDS if first else 1):
                said = await self._say(self._trigger, self._split, hops, port)
                accepted = accepted or said is not None
                if said is not None:
                    seen.merge(said)
                if not seen.silent and seen.acked is not False:
                    break
            return Probed(seen, control, seen.acked if accepted else None)

        hops = await _rise(trigger, controls, distance, signs)
        full = await trigger(FULL, Seen(), True)
        self.packets += port.sent
        caught = _caught(full, signs) or _acts(hops, distance, signs)
        return Run(port.own, hops, distance, caught, controls)

    # --- an address: everything to it is the trigger ---

    async def _addresses(self, method: str) -> Report:
        for _ in range(SENDS):
            if (await self._reach()).answers:
                return Report(Word.NOTHING, method)
        signs = frozenset({Sign.SILENCE, Sign.RESET, Sign.REFUSED})
        runs = await self._runs(signs, self._address_run)
        report = self._judge(method, signs, runs)
        shown = {
            Sign.REFUSED if p.trigger.refused else Sign.RESET if p.trigger.reset else Sign.SILENCE
            for run in runs
            for k, p in run.hops.items()
            if acted_upon(k, p, run.distance, signs)
        }
        report.signs = frozenset(shown or {Sign.SILENCE})
        found = report.place.stretch if report.place else None
        if report.place and found:
            report.place = replace(report.place, placement=placement(runs, report.signs, found))
        if found is None or not is_last(runs, found.low):
            return report
        refusals = {p.trigger.refused for run in runs for p in run.hops.values()} - {""}
        if refusals == {self.address} or not (refusals or await self._answers_at_all()):
            distance = next((run.distance for run in runs if run.distance), 0)
            there = distance and found.low >= distance - 1 - SILENT
            report.word = Word.SERVER if there else Word.UNCLEAR
            report.why = "" if there else "it may as well be the server that does not answer"
        return report

    async def _reach(self) -> Seen:
        ask, close = self._asker(self.address, self.port)
        try:
            return await ask(FULL)
        finally:
            close()

    async def _answers_at_all(self) -> bool:
        """Anything: a filter on one protocol or port lets the others through."""
        for port in dict.fromkeys((self.port, 443, 80)):
            tcp = Connections(self.address, port, self.source)
            seen = await tcp.knock(FULL, 0.9)
            self.packets += tcp.sent
            if seen.answers or seen.reset:
                return True
        return False

    async def _address_run(self, signs: frozenset[Sign]) -> Run:
        """The path to the control's address is the control; only what both share counts."""
        controls: dict[int, Seen] = {}
        distance = None
        if self.control is not None:
            ask, close = self._asker(*self.control, words.stranger)
            try:
                controls, distance = await _sweep(ask)
            finally:
                close()
        shared = True
        ask, close = self._asker(self.address, self.port)

        async def trigger(hops: int, control: Seen, first: bool) -> Probed:
            nonlocal shared
            seen = await ask(hops)
            if first and seen.silent and control.expired:
                await asyncio.sleep(SPREAD)
                seen = await ask(hops)
            named = {one.expired for one in (seen, control) if one.expired}
            shared = shared and len(named) < 2
            return Probed(seen, control if shared else Seen())

        try:
            last = {} if controls else dict.fromkeys(range(1, LONGEST + 1), Seen())
            hops = await _rise(trigger, controls or last, distance, signs)
        finally:
            own = close()
        return Run(own, hops, distance if shared else None, True, controls if shared else {})

    def _asker(
        self, address: str, port: int, make: Make | None = None
    ) -> tuple[Callable[[int], Awaitable[Seen]], Callable[[], int]]:
        """How to send one packet there with so many hops, and how to end it: packets, own port."""
        if self.words.transport == "udp":
            flow = Datagrams(address, port, self.source)
            make = make or self.words.trigger or words.stranger
            own = flow.sock.getsockname()[1]

            def end() -> int:
                self.packets += flow.sent
                flow.sock.close()
                return int(own)

            return lambda hops: self._shoot(flow, make, hops, 2), end
        tcp = Connections(address, port, self.source)

        async def knock(hops: int) -> Seen:
            seen = Seen()
            for _ in range(2):
                seen.merge(await tcp.knock(hops, 0.9))
                if not seen.silent:
                    break
            return seen

        def done() -> int:
            self.packets += tcp.sent
            return tcp.own

        return knock, done

    # --- all ---

    async def _runs(
        self, signs: frozenset[Sign], one: Callable[[frozenset[Sign]], Awaitable[Run]]
    ) -> list[Run]:
        runs: list[Run] = []
        until = time.monotonic() + self.limit
        before = self.packets
        while not settled(runs, signs) and time.monotonic() < until:
            each = (self.packets - before) // len(runs) if runs else 0
            if self.packets + 2 * each > MOST_PACKETS:
                break
            runs.append(await one(signs))
            self.tell(f"run {len(runs)} of {MOST} at most")
        return runs

    async def _nothing(
        self, method: str, one: Callable[[frozenset[Sign]], Awaitable[Run]]
    ) -> Report:
        """With the path, which somebody may want to see."""
        runs = [await one(frozenset())]
        return Report(Word.NOTHING, method, frozenset(), place(runs, frozenset()), runs)

    def _judge(self, method: str, signs: frozenset[Sign], runs: list[Run]) -> Report:
        found = place(runs, signs)
        if not found.caught:
            return Report(Word.NOTHING, method, signs, found, runs)
        if found.stretch is None:
            return Report(
                Word.UNCLEAR, method, signs, found, runs, why="the runs contradict each other"
            )
        return Report(Word.FOUND, method, signs, found, runs)


@dataclass(frozen=True, slots=True)
class _Flow:
    answered: bool
    refused: bool = False
    alive: bool | None = None


def _caught(full: Probed, signs: frozenset[Sign]) -> bool:
    """Was it acted upon with all hops?"""
    seen = full.trigger
    if Sign.FORGED in signs:
        return False  # only what comes from the way says so
    return seen.reset or bool(seen.refused) or full.alive is False or not seen.answers


def _acts(hops: dict[int, Probed], distance: int | None, signs: frozenset[Sign]) -> bool:
    return any(acted_upon(k, p, distance, signs) for k, p in hops.items())


async def _sweep(ask: Callable[[int], Awaitable[Seen]]) -> tuple[dict[int, Seen], int | None]:
    """Rising hop limits until the server answers; also its distance, where it does."""
    seen: dict[int, Seen] = {}
    for hops in range(1, LONGEST + 1):
        seen[hops] = await ask(hops)
        if seen[hops].answers:
            return seen, hops
        if all(seen[k].silent for k in range(max(1, hops - GAP + 1), hops + 1)) and hops >= GAP:
            break
    last = max((k for k, one in seen.items() if not one.silent), default=0)
    return {k: one for k, one in seen.items() if k <= last + 1}, None


Trigger = Callable[[int, Seen, bool], Awaitable[Probed]]


async def _rise(
    trigger: Trigger, controls: dict[int, Seen], distance: int | None, signs: frozenset[Sign]
) -> dict[int, Probed]:
    """Until something was done to it, and a little further."""
    hops: dict[int, Probed] = {}
    behind = quiet = 0
    for k in range(1, (distance or max(controls, default=0)) + 1):
        hops[k] = await trigger(k, controls.get(k, Seen()), not behind)
        acted = acted_upon(k, hops[k], distance, signs)
        behind = behind + 1 if acted or behind else 0
        quiet = quiet + 1 if hops[k].trigger.silent else 0
        if behind > BEHIND or quiet > GAP or (acted and hops[k].alive is False):
            break
    return hops
