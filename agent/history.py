"""What is kept of the rounds: whole for a while, then as figures (docs/history.md).

A round in which something failed, was contrasted or changed is kept whole for ``history.keep``, and
with it all that its verdict rested on, so that the rules can be run again; of the others the
successes go after two days. Every row rests on rows since the last *anchor*, which has everything.

Notes are taken in the agent's loop; encoding and writing happen in the thread of agent/saving.py,
in the round's own transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.diagnosis import unmasked
from agent.recorded import Judged, judgement_from, judgement_record, to_record
from agent.rounds import Ran
from agent.slots import LENGTH, Slots
from agent.store import Store, Work
from agent.trimming import Limits, trimming
from agent.vantage import Judgement
from exporters.record import pack, pack_observations, unpack, unpack_observations
from probes.model import CONTROL, Diagnosis, Observation, Status, Target, VantageStatus

ANCHOR_EVERY = 240
"""Rows of one messenger after which everything is written again."""
WAITING_MOST = 240
"""Rounds that wait for a disk that fails; the oldest go first."""
CHANGES_MOST = 2000
"""That wait while there is no file; the oldest go first."""
GAP = 5
"""Intervals without a round after which the time between counts as not measured."""
STEP = 30.0
"""Seconds by which the wall clock must move against the steady one to count as set."""
BELIEVED_AFTER = 600.0
"""Seconds after which a clock that was set is believed, unless the controls say it is wrong."""
_ROUND = "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_KEEP = "UPDATE rounds SET kept = 1 WHERE id = ?"
_CHANGE = f"INSERT OR REPLACE INTO changes VALUES ({', '.join('?' * 15)})"
_SPAN = "INSERT OR REPLACE INTO spans VALUES (?, ?, ?, ?)"
_TARGET = "INSERT OR REPLACE INTO targets VALUES (?, ?, ?, ?, ?)"
_SLOT = f"INSERT OR REPLACE INTO slots VALUES ({', '.join('?' * 15)})"


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Calendar:
    """The wall clock, as far as it is believed: set by a day, it must stay so for a while, and the
    controls must not say that it is wrong. Pure."""

    _offset: float | None = None
    _since: float | None = None
    """When the clock was first seen to be set, in steady seconds."""

    def now(self, wall: float, steady: float, *, wrong: bool) -> float:
        """Unix seconds; ``wrong``: do the controls say that this host's clock is off?"""
        offset = wall - steady
        if self._offset is None or abs(offset - self._offset) < STEP:
            self._offset, self._since = offset, None  # slewed, or as it was
        elif wrong:
            self._since = None
        elif self._since is None:
            self._since = steady
        elif steady - self._since >= BELIEVED_AFTER:
            self._offset, self._since = offset, None
        return steady + self._offset


@dataclass(slots=True)
class _Chain:
    """What rows of one messenger rest on. ``stored``: observations in kept rows since ``anchor``,
    the row that needs no other; None when the next one must be one."""

    stored: dict[str, Observation] = field(default_factory=dict)
    past: tuple[str, ...] = ()
    rows: int = 0
    anchor: int | None = None


@dataclass(slots=True)
class _Note:
    """``controls``: the row of the controls of its beat."""

    row: int
    at: float
    judged: Judged
    kept: bool = False
    controls: _Note | None = None


class History:
    """``limits``: None keeps nothing. ``interval``: seconds between rounds. ``versions``: of the
    rules and the catalogue, as they are when a round is written. Outlives a reload."""

    def __init__(
        self,
        store: Store,
        limits: Limits | None,
        interval: float,
        versions: Callable[[], Mapping[str, str]],
        steady: Callable[[], float] = _steady,
    ) -> None:
        self._store, self._recalled, self._begun = store, False, store.begun
        self._versions, self._steady = versions, steady
        self._calendar = Calendar()
        self._notes: list[_Note] = []
        self._changes: list[Work] = []
        self._unsaved: list[Work] = []
        self._slots = Slots()
        self._chains: dict[str, _Chain] = {}
        self._controls: _Note | None = None
        self._wrong = False
        self._turn = 0
        self._last: dict[tuple[str, str], tuple[object, ...]] = {}
        self._targets: dict[Target, int] = {}
        self._span: tuple[int, float, float] | None = None
        self._next_round = self._next_change = 1
        self.configure(limits, interval)

    def configure(self, limits: Limits | None, interval: float) -> None:
        """What to keep, and the pace of rounds, from now on; with the first limits it goes on where
        the agent before ended."""
        self.limits, self.interval = limits, interval
        if limits is not None and not self._recalled:
            self._recalled = True
            self._recall()

    def _recall(self) -> None:
        """Go on where the agent before ended."""
        kept = self._store.history()
        self._next_round, self._next_change = kept.rounds + 1, kept.changes + 1
        self._targets, self._span = kept.targets, kept.span
        self._last = {key: tuple(told) for key, told in kept.last.items()}
        if kept.span is None:
            return
        since = kept.span[2] - 2 * LENGTH
        for at, judged, *observations in self._store.rounds_since(since):
            try:
                judgement = judgement_from(unpack(judged)["judgement"])
                seen = [o for packed in observations for o in unpack_observations(packed)]
            except (ValueError, KeyError, TypeError):
                continue  # damaged, or of a later version: it costs ten minutes' figures
            self._add_figures(at, judgement, seen)

    # --- notes, in the loop ---

    def note_controls(self, at: float, judgement: Judgement, ran: Ran) -> None:
        """The controls of a beat. ``at``: Unix seconds, by the host's clock."""
        if self.limits is None:
            return
        self._wrong = judgement.status is VantageStatus.FAULTY and "clock" in judgement.reason
        judged = Judged(CONTROL, at, judgement, (), asked(ran), (), None, ())
        self._controls = self._note(judged, self._now(at))

    def note_round(self, judged: Judged, shown: Sequence[Diagnosis]) -> None:
        """A messenger's round, and what is shown after it."""
        if self.limits is None:
            return
        at = self._now(judged.at)
        changed = self._show(shown, at)
        note = self._note(judged, at)
        note.kept, note.controls = changed or is_evidence(judged), self._controls
        if note.kept and self._controls is not None and not self._controls.kept:
            self._controls.kept = True
            # It may be written already.
            self._changes.append((_KEEP, [(self._controls.row,)]))

    def show(self, shown: Iterable[Diagnosis], at: float) -> None:
        """What is shown now, whatever changed it. ``at``: Unix seconds, by the host's clock."""
        if self.limits is not None:
            self._show(shown, self._now(at))

    def _now(self, wall: float) -> float:
        return self._calendar.now(wall, self._steady(), wrong=self._wrong)

    def _note(self, judged: Judged, at: float) -> _Note:
        note = _Note(self._next_round, at, judged)
        self._next_round += 1
        self._notes.append(note)
        return note

    def _show(self, shown: Iterable[Diagnosis], at: float) -> bool:
        changed = False
        for d in shown:
            key, told = (d.messenger, d.channel), _told(d)
            if d.reason == "starting" or self._last.get(key) == told:
                continue
            self._last[key] = told
            self._changes.append((_CHANGE, [(self._next_change, at, *key, *told, *_more(d, at))]))
            self._next_change += 1
            changed = True
        return changed

    # --- writing, in the thread that saves ---

    def work(self) -> list[Work]:
        """The statements for all that was noted, and for what could not be written before."""
        if self.limits is None or self._store.in_memory:
            self._notes.clear()
            waiting, self._changes = self._changes, []
            self._changes[:0] = [w for w in waiting if w[0] == _CHANGE][-CHANGES_MOST:]
            return []
        if self._store.begun != self._begun:
            self._begin_anew()
        notes, self._notes = self._notes, []
        changes, self._changes = self._changes, []
        for note in notes:
            self._unsaved.append(self._row(note))
            self._add_figures(note.at, note.judged.judgement, note.judged.finished)
        self._unsaved += changes
        if not notes:
            return list(self._unsaved)
        at = notes[-1].at
        self._unsaved += self._whole_slots(at)
        made = [*self._unsaved, self._span_until(at)]
        if not self._wrong:
            self._turn += 1
            made += trimming(self.limits, at, self._turn)
        return made

    def _begin_anew(self) -> None:
        """Another file: it is empty, or has a history in which other numbers are taken. What is
        kept rests on nothing in it."""
        self._begun = self._store.begun
        kept = self._store.history()
        self._targets, self._span = kept.targets, kept.span
        self._last.clear()
        self._chains.clear()
        if not kept.rounds and not kept.changes:
            return
        self._next_round += kept.rounds
        self._next_change += kept.changes
        for note in {id(n): n for n in (*self._notes, self._controls) if n is not None}.values():
            note.row += kept.rounds
        waiting = [*self._unsaved, *self._changes]
        self._unsaved.clear()
        self._changes = [
            (sql, [(int(str(number)) + kept.changes, *words) for number, *words in rows])
            for sql, rows in waiting
            if sql == _CHANGE
        ]

    def saved(self, *, written: bool) -> None:
        """Was that work written? If not, it goes with the next."""
        if written:
            self._unsaved.clear()
        elif sum(sql == _ROUND for sql, _ in self._unsaved) > WAITING_MOST:
            # What changed is small, and waits for as long as it takes.
            self._unsaved = [work for work in self._unsaved if work[0] != _ROUND]
            self._chains.clear()

    def _row(self, note: _Note) -> Work:
        judged = note.judged
        chain = self._chains.setdefault(judged.messenger, _Chain())
        own = {o.id: o for o in judged.finished}
        record: dict[str, Any]
        also: Sequence[Observation] = ()
        if judged.messenger == CONTROL:
            record = {"judgement": judgement_record(judged.judgement)}
        elif note.kept:
            record, also = self._kept(note, chain, own)
        else:
            record = to_record(judged, None, self._versions())
            chain.anchor = None
        failed = pack_observations(o for o in own.values() if not o.works or o.contrast)
        worked = pack_observations(o for o in own.values() if o.works and not o.contrast)
        anchor = int(note.row == chain.anchor)
        row = (note.row, note.at, judged.messenger, int(note.kept), anchor)
        return _ROUND, [(*row, pack(record), failed, worked, pack_observations(also))]

    def _kept(
        self, note: _Note, chain: _Chain, own: dict[str, Observation]
    ) -> tuple[dict[str, Any], list[Observation]]:
        """And all that is in no kept row since the anchor; new contrasts are its ``own``."""
        judged = note.judged
        past = tuple(o.id for o in judged.known.past) if judged.known else ()
        if chain.anchor is None or chain.rows >= ANCHOR_EVERY:
            chain.stored, chain.anchor, chain.rows = {}, note.row, 0
            told: dict[str, Any] = {"all": past}
        else:
            told = _difference(chain.past, past)
        chain.rows, chain.past = chain.rows + 1, past
        stored = dict(chain.stored)
        beside = note.controls
        if beside is not None and beside.kept and beside.row > chain.anchor:
            stored |= {o.id: o for o in beside.judged.finished}
        named = {o.id: o for o in judged.named()}
        also: dict[str, Observation] = {}
        for o in named.values():
            if o.id in own or stored.get(o.id) is o:
                continue
            new = o.contrast is not None and o.id not in stored
            asked = judged.known.contrasts if judged.known is not None else ()
            (own if new and o in asked else also)[o.id] = o
        chain.stored = named | own
        return to_record(judged, told, self._versions()), list(also.values())

    def _add_figures(self, at: float, judgement: Judgement, seen: Sequence[Observation]) -> None:
        if not judgement.masks:
            known = unmasked([o for o in seen if o.contrast is None], judgement)
            self._slots.add(at, known)

    def _whole_slots(self, at: float) -> list[Work]:
        made: list[Work] = []
        for target, start, figures in self._slots.whole(at):
            number = self._targets.get(target)
            if number is None:
                number = self._targets[target] = max(self._targets.values(), default=0) + 1
                words = target.messenger, target.channel, target.name, target.probe
                made.append((_TARGET, [(number, *words)]))
            made.append((_SLOT, [(number, start, *figures)]))
        return made

    def _span_until(self, at: float) -> Work:
        """While the agent runs: what is outside was not measured."""
        number, since, until = self._span or (0, at, at)
        if self._span is None or not 0 <= at - until <= GAP * self.interval:
            number, since = number + 1, at
        self._span = number, since, at
        return _SPAN, [(*self._span, self.interval)]


def asked(ran: Ran) -> tuple[Observation, ...]:
    """All that a round saw."""
    return tuple(o for f in ran.finished for o in f.measured.observations)


def is_evidence(judged: Judged) -> bool:
    """Did anything that decides a channel fail, now or in what the rules still remember?"""
    if judged.known is not None and (judged.known.contrasts or judged.known.past):
        return True
    deciding = {e.config.target for e in judged.evidence if e.proven and not e.config.informative}
    seen = unmasked(judged.finished, judged.judgement)
    return any(not o.works and o.target in deciding for o in seen)


def _difference(before: tuple[str, ...], now: tuple[str, ...]) -> dict[str, Any]:
    """How to get from what the row before had to this."""
    drop = before.index(now[0]) if now and now[0] in before else len(before)
    rest = before[drop:]
    if now[: len(rest)] != rest:
        return {"all": now}
    return {"drop": drop, "add": now[len(rest) :]}


def _told(d: Diagnosis) -> tuple[object, ...]:
    """The words that make one stretch of time differ from the next."""
    why = d.reason if d.status is Status.UNKNOWN else ""
    return str(d.status), str(d.mechanism), str(d.certainty), int(d.intermittent), why


def _more(d: Diagnosis, at: float) -> tuple[object, ...]:
    first = d.first
    since = None if d.since is None else min(d.since, at)
    found = (first.confidence, first.rule, first.variant) if first else (0.0, "", "")
    return (since, *found, d.summary, len(first.evidence) if first else 0)
