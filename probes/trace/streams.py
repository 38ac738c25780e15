"""Hellos on connections: method C, and R where segments are injected. interference-methods 3.4."""

from __future__ import annotations

from dataclasses import dataclass

from probes.net.hops import FULL, Connections, Seen
from probes.net.raw import LONGEST_SEGMENT
from probes.trace.common import MANY, SENDS, SURVEYED, Common, Report, Word
from probes.trace.place import Probed, Run, Sign
from probes.trace.sweep import acts, caught, rise, sweep
from probes.trace.words import Make


@dataclass(slots=True)
class Streams(Common):
    """``_split``: bytes of the trigger that go ahead of it; ``_injects``: it is injected whole, and
    its first byte said behind it."""

    _split: int = 0
    _injects: bool = False

    async def _streams(self) -> Report | None:
        """None where nobody accepts a connection."""
        if not await self._accepted():
            return None
        first = await self._hello()
        if first and not first.answers and await self._all_dead():
            sign = Sign.RESET if first.reset else Sign.SILENCE
            return await self._waiting("C", frozenset({Sign.CUT, sign}), self._stream_run)
        whole = await self._survey(
            self._hello,
            lambda one: bool(one and one.answers),
            lambda one: bool(one and one.reset),
            [first],
        )
        if all(one and one.answers for one in whole):
            return await self._nothing("C", self._stream_run)
        answered = sum(bool(one and one.answers) for one in whole)
        signs = {Sign.RESET for one in whole if one and one.reset}
        signs |= {Sign.SILENCE for one in whole if one and not one.answers and not one.reset}
        failed = len(whole) - answered
        self._some = failed > 1 or Sign.RESET in signs  # one silence may be a loss
        self._mixed = failed < len(whole)
        signs |= await (self._injected() if self._may_inject() else self._parted())
        found = frozenset(signs)
        method = "R" if self._injects else "C"
        report = self._judge(method, found, await self._runs(found, self._stream_run))
        if self._split and report.word is Word.NOTHING:  # it does not read in pieces after all
            self._split = 0
            found -= {Sign.CUT}
            report = self._judge(method, found, await self._runs(found, self._stream_run))
        return report

    async def _parted(self) -> set[Sign]:
        """May the trigger be said in two pieces, and does the first one get lost with it?"""
        parted: list[Seen | None] = []
        while len(parted) < SURVEYED or (
            self._mixed and len(parted) < MANY and all(one and one.answers for one in parted)
        ):
            parted.append(await self._say(self._trigger, self.words.split, FULL))
        if all(one and one.answers for one in parted):
            return set()
        self._split = self.words.split  # it is read in pieces as well
        if all(one.acked for one in parted if one):
            return set()
        harmless = [await self._say(self._control, self._split, FULL) for _ in range(2)]
        return {Sign.CUT} if all(one and one.acked for one in harmless) else set()

    def _may_inject(self) -> bool:
        return self.raw is not None and 1 < len(self._trigger()) <= LONGEST_SEGMENT

    async def _injected(self) -> set[Sign]:
        """Is what the kernel says behind an injected trigger lost with it?"""
        self._injects = True
        said: list[Seen | None] = []
        while len(said) < SURVEYED or (
            self._mixed and len(said) < MANY and all(one and one.acked for one in said)
        ):
            said.append(await self._inject(self._trigger, FULL))
        if all(one is None or one.acked for one in said):
            self._injects = any(said)
            return set()
        harmless = [await self._inject(self._control, FULL) for _ in range(2)]
        return {Sign.CUT} if all(one and one.acked for one in harmless) else set()

    async def _inject(self, make: Make, hops: int, on: Connections | None = None) -> Seen | None:
        assert self.raw is not None
        port = on or Connections(self.address, self.port, self.source)
        seen = await self.raw.say(
            port, make(), hops, self._wait, lambda seen: bool(seen.expired and seen.acked)
        )
        if on is None:
            self.packets += port.sent
        return seen

    def _trigger(self) -> bytes:
        assert self.words.trigger is not None
        return self.words.trigger()

    def _control(self) -> bytes:
        return self.words.control() if self.words.control else self._trigger()

    async def _hello(self) -> Seen | None:
        """The trigger whole on one flow, which stays the same where it is said again: a loss is no
        filter, and other connections may go another way."""
        port = Connections(self.address, self.port, self.source)
        seen: Seen | None = None
        for number in range(SENDS):
            said = await self._say(self._trigger, 0, FULL, port)
            seen = said or seen
            told = said and (said.answers or said.reset)
            if told or (number == 0 and not await self._stalled()):
                break
        self.packets += port.sent
        return seen

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

        controls, distance = await sweep(knock)

        async def trigger(hops: int, control: Seen, first: bool) -> Probed:
            seen, accepted = Seen(), False
            for _ in range(SENDS if first else 1):
                if self._injects:
                    said = await self._inject(self._trigger, hops, port)
                else:
                    said = await self._say(self._trigger, self._split, hops, port)
                accepted = accepted or said is not None
                if said is not None:
                    seen.merge(said)
                if self._remembers or (not seen.silent and seen.acked is not False):
                    break
            if self._remembers:
                return Probed(seen, control, await self._accepted(port))
            return Probed(seen, control, seen.acked if accepted else None)

        hops = await rise(trigger, controls, distance, signs)
        elicits = self._injects or self._remembers or self._split > 0
        full = None
        if not (self._remembers and acts(hops, distance, signs)):
            full = await trigger(FULL, Seen(), True)
        self.packets += port.sent
        met = acts(hops, distance, signs) or (full is not None and caught(full, signs))
        return Run(port.own, hops, distance, met, controls, full, elicits)
