"""The procedure: what happens at full hop limit first, then flow by flow with rising hop limits.

On one flow the hop limit only rises: a filter that remembers is not met before it is found, and all
packets take one path where routers balance by flow. interference-methods 3.2, 3.5.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from probes.net.hops import FULL, Answer, Datagrams, Seen
from probes.trace.addresses import Addresses
from probes.trace.common import SPREAD, Report
from probes.trace.place import Probed, Run, Sign
from probes.trace.streams import Streams
from probes.trace.sweep import BEHIND, acts, caught, rise, sweep


@dataclass(slots=True)
class Walk(Streams, Addresses):
    """A trace of any kind."""

    async def trace(self) -> Report:
        """Raises OSError where this host cannot send there."""
        self._began = time.monotonic()
        udp, report = self.words.transport == "udp", None
        if self.words.trigger is not None:
            report = await (self._datagrams() if udp else self._streams())
        if report is None:
            report = await self._addresses("A" if udp else "B")
        report.packets, report.seconds = self.packets, time.monotonic() - self._began
        return report

    # --- datagrams: methods A, D and E ---

    async def _datagrams(self) -> Report | None:
        """None where not even harmless ones are answered."""
        refused = await self._learn()
        first = await self._ask_flow()
        spoilt = self._harmless and first.alive is None and not first.answered
        if spoilt and await self._all_dead():
            return await self._waiting("D", frozenset({Sign.CUT, Sign.SILENCE}), self._datagram_run)
        surveyed = await self._survey(
            self._ask_flow, lambda one: one.passed, lambda one: one.refused, [first]
        )
        surveyed += [_Flow(answered=False, refused=True)] if refused else []
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
        found = frozenset(signs)
        method = "D" if Sign.CUT in found else "E" if Sign.FORGED in found else "A"
        failed = len(surveyed) - len(passed)
        self._some = failed > 1 or Sign.REFUSED in found
        if Sign.FORGED in found:
            self._some = any(one.forged for one in surveyed)
        # Which questions are answered falsely shows on the way only: no flow is known beforehand.
        self._mixed = 0 < failed < len(surveyed) or Sign.FORGED in found
        runs = await self._runs(found, self._datagram_run)
        if self._spoilt:
            self._spoilt = False
            return None
        return self._judge(method, found, runs)

    async def _ask_flow(self) -> _Flow:
        """The trigger with all hops, and whether the flow lives on."""
        assert self.words.trigger is not None
        with Datagrams(self.address, self.port, self.source) as flow:
            seen = await self._shoot(flow, self.words.trigger, FULL)
            alive = await self._lives_on(flow, seen)
            if seen.silent and alive is not False and await self._stalled():
                seen.merge(await self._shoot(flow, self.words.trigger, FULL))
            self.packets += flow.sent
        if alive is False and self._harmless is not None:
            with Datagrams(self.address, self.port, self.source) as flow:
                if await self._alive(flow) is not True:
                    alive = None  # not the trigger's doing
                self.packets += flow.sent
        return _Flow(
            bool(seen.answers), bool(seen.refused), alive, self._forged(seen, self._answers)
        )

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
            closed = distance is None and not self._remembers
            if closed and signs & {Sign.CUT, Sign.REFUSED}:
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


@dataclass(frozen=True, slots=True)
class _Flow:
    answered: bool
    refused: bool = False
    alive: bool | None = None
    forged: bool = False

    @property
    def passed(self) -> bool:
        """Was nothing done to it that shows?"""
        return self.answered and not self.refused and self.alive is not False
