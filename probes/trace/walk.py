"""The procedure: what happens at full hop limit first, then flow by flow with rising hop limits.

On one flow the hop limit only rises: a filter that remembers is not met before it is found, and all
packets take one path where routers balance by flow. interference-methods 3.2, 3.5.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from probes.net.hops import FULL, Answer, Connections, Datagrams, Seen
from probes.trace import words
from probes.trace.common import MANY, SENDS, SPREAD, SURVEYED, Report, Word
from probes.trace.place import Probed, Run, Sign, acted_upon, is_last, placement
from probes.trace.streams import Streams
from probes.trace.sweep import BEHIND, LONGEST, acts, caught, rise, sweep
from probes.trace.words import Make

SILENT = 1
"""Routers before a server that does not answer whose own silence leaves it the server's."""


@dataclass(slots=True)
class Walk(Streams):
    """A trace of any kind."""

    async def trace(self) -> Report:
        """Raises OSError where this host cannot send there."""
        began = time.monotonic()
        udp, report = self.words.transport == "udp", None
        if self.words.trigger is not None:
            report = await (self._datagrams() if udp else self._streams())
        if report is None:
            report = await self._addresses("A" if udp else "B")
        report.packets, report.seconds = self.packets, time.monotonic() - began
        return report

    # --- datagrams: methods A, D and E ---

    async def _datagrams(self) -> Report | None:
        """None where not even harmless ones are answered."""
        await self._learn()
        surveyed = [await self._ask_flow()]
        spoilt = self._harmless and surveyed[0].alive is None and not surveyed[0].answered
        if spoilt and await self._all_dead():
            return await self._waiting("D", frozenset({Sign.CUT, Sign.SILENCE}), self._datagram_run)
        surveyed += [await self._ask_flow() for _ in range(SURVEYED - 1)]
        if self._harmless or surveyed[0].answered:
            while len(surveyed) < MANY and _PASSED in surveyed:
                surveyed.append(await self._ask_flow())
        passed = [one for one in surveyed if one.answered and not one.refused]
        if self._harmless is None and not passed:
            return None
        signs = {Sign.REFUSED for one in surveyed if one.refused}
        signs |= {Sign.CUT for one in surveyed if one.alive is False}
        signs |= {Sign.SILENCE for one in surveyed if not one.answered}
        if len(passed) == len(surveyed) and Sign.CUT not in signs:
            if self.words.forged is None:
                return await self._nothing("A", self._datagram_run)
            signs = {Sign.FORGED}
        if len(surveyed) == MANY and surveyed.count(_PASSED) == MANY - 1:
            return await self._nothing("A", self._datagram_run)  # one in so many is chance
        found = frozenset(signs)
        method = "D" if Sign.CUT in found else "E" if Sign.FORGED in found else "A"
        failed = len(surveyed) - len(passed)
        self._some = Sign.FORGED not in found and failed > 1
        # Which questions are answered falsely shows on the way only: no flow is known beforehand.
        self._mixed = 0 < failed < len(surveyed) or Sign.FORGED in found
        runs = await self._runs(found, self._datagram_run)
        if self._spoilt:
            return None
        return self._judge(method, found, runs)

    async def _ask_flow(self) -> _Flow:
        """The trigger with all hops, and whether the flow lives on."""
        assert self.words.trigger is not None
        with Datagrams(self.address, self.port, self.source) as flow:
            seen = await self._shoot(flow, self.words.trigger, FULL)
            alive = await self._lives_on(flow, seen)
            self.packets += flow.sent
        if alive is False and self._harmless is not None:
            with Datagrams(self.address, self.port, self.source) as flow:
                if await self._alive(flow) is not True:
                    alive = None  # not the trigger's doing
                self.packets += flow.sent
        return _Flow(bool(seen.answers), bool(seen.refused), alive)

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

            controls, distance = await sweep(harmless)
            if distance is None and Sign.CUT in signs and not self._remembers:
                # Not even harmless ones arrive on this flow: its path is closed to the address,
                # and nothing that we said has cut it off.
                self._spoilt = True
                self.packets += flow.sent
                return Run(port, {}, None, False, controls)

            async def trigger(hops: int, control: Seen, first: bool) -> Probed:
                assert self.words.trigger is not None
                if Sign.FORGED in signs:
                    seen = await flow.shoot(self.words.trigger(), hops, self._wait, lambda _: False)
                elif first:
                    spread = 0.0 if Sign.CUT in signs or hops == FULL else SPREAD
                    seen = await self._shoot(flow, self.words.trigger, hops, spread=spread)
                else:
                    seen = await self._shoot(flow, self.words.trigger, hops, 1)
                alive = await self._lives_on(flow, seen) if Sign.CUT in signs else None
                return Probed(seen, control, alive, self._forged(seen, answered))

            answered = controls[distance].answers if distance else []
            behind = distance + BEHIND if distance and Sign.FORGED in signs else distance
            hops = await rise(trigger, controls, behind, signs)
            met = acts(hops, distance, signs)
            full = None
            if not (self._remembers and met):
                full = await trigger(FULL, Seen(), True)
                met = met or caught(full, signs)
            self.packets += flow.sent
        return Run(port, hops, distance, met, controls, full)

    def _forged(self, seen: Seen, control: Sequence[Answer]) -> bool:
        """Two answers that differ to one question, or one that its server would not give."""
        bodies = {answer.data for answer in seen.answers}
        if self.words.forged is None or not bodies:
            return False
        known = [answer.data for answer in control]
        return len(bodies) > 1 or any(self.words.forged(one, o) for one in bodies for o in known)

    # --- an address: everything to it is the trigger ---

    async def _addresses(self, method: str) -> Report:
        surveyed = [bool((await self._reach()).answers) for _ in range(SURVEYED)]
        while len(surveyed) < MANY and any(surveyed):
            surveyed.append(bool((await self._reach()).answers))
        if all(surveyed):
            return Report(Word.NOTHING, method)
        self._some = self._mixed = any(surveyed)  # filtered on some paths only
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
        if found is None or self._some or not is_last(runs, found.low):
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
                controls, distance = await sweep(ask)
            finally:
                close()
        if distance:
            self._wait = min(max(3 * controls[distance].seconds, 0.25), 0.9)
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
            if self._some and (await ask(FULL)).answers:
                return Run(close(), {}, None, False, controls)
            last = {} if controls else dict.fromkeys(range(1, LONGEST + 1), Seen())
            hops = await rise(trigger, controls or last, distance, signs)
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

            return lambda hops: self._shoot(flow, make, hops, 2 if hops else SENDS), end
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

        def done() -> int:
            self.packets += tcp.sent
            return tcp.own

        return knock, done


@dataclass(frozen=True, slots=True)
class _Flow:
    answered: bool
    refused: bool = False
    alive: bool | None = None


_PASSED = _Flow(answered=True, alive=True)
