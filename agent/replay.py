"""Today's rules over the rounds that are kept whole: where would the verdict be another?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.judging import rejudge
from agent.recorded import Judged, NotWhole, Shelf, from_record, said
from config.model import MessengerConfig, TargetConfig
from exporters.history import Row
from probes.model import CONTROL, Diagnosis, Observation

HELD = 20_000
"""Observations that are held for what rests on them, many times what a round can rest on."""
COMPARED = ("status", "mechanism", "certainty", "rule")


@dataclass(frozen=True, slots=True)
class Again:
    """A round judged again, as ``diagnoses`` has it. ``before`` and ``now`` are what was said and
    what is said, by channel (agent/recorded.py ``said``); ``rules`` the version that said it."""

    row: int
    at: float
    messenger: str
    rules: str
    judged: Judged
    before: tuple[Mapping[str, Any], ...]
    now: tuple[Mapping[str, Any], ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def differs(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """What was said, and what is said now, where that is not the same."""
        then = {d["channel"]: d for d in self.before}
        return [
            (then[d["channel"]], d)
            for d in self.now
            if d["channel"] in then
            and any(then[d["channel"]][word] != d[word] for word in COMPARED)
        ]


@dataclass(slots=True)
class Counted:
    """``left``: rounds that are not whole, or of another catalogue, by the reason."""

    judged: int = 0
    left: dict[str, int] = field(default_factory=dict)


def replay(
    rows: Iterable[Row],
    since: float,
    messenger: MessengerConfig,
    controls: Iterable[TargetConfig],
    counted: Counted,
) -> Iterator[Again]:
    """``rows`` in their order (``History.rows``); those before ``since`` are only read for what
    later ones rest on."""
    seen: dict[str, Observation] = {}
    of_controls: dict[str, Observation] = {}
    past: tuple[str, ...] | None = None
    shelf = Shelf({}, messenger, {t.target.name: t for t in controls})
    for row in rows:
        if row.messenger == CONTROL:
            of_controls |= {o.id: o for o in row.seen}
            _forget(of_controls)
            continue
        if row.judged is None:
            past = None
            if row.at >= since:
                _leave(counted, "its successes are gone")
            continue
        seen |= of_controls | {o.id: o for o in row.seen}
        past = _past(row.judged.get("past"), past, row.anchor)
        shelf = Shelf(seen, messenger, shelf.controls)
        judged: Judged | None = None
        try:
            if past is None:
                raise NotWhole("what it remembered is gone")
            judged = from_record(row.judged, row.at, past, shelf)
        except NotWhole as why:
            if row.at >= since:
                _leave(counted, str(why))
        except (KeyError, ValueError, TypeError):
            if row.at >= since:
                _leave(counted, "it cannot be read")
        if judged is None:
            continue
        # What a round does not name, no later one does.
        named = {o.id: o for o in judged.named()}
        seen = named | {o.id: o for o in row.seen}
        _forget(seen)
        of_controls = {}
        if row.at < since:
            continue
        counted.judged += 1
        diagnoses = rejudge(judged, messenger)
        now = tuple(map(said, diagnoses))
        rules = str(row.judged["by"].get("rules", ""))
        before = tuple(row.judged["raw"])
        yield Again(row.id, row.at, row.messenger, rules, judged, before, now, diagnoses)


def _forget(held: dict[str, Observation]) -> None:
    """The oldest, where they are more than anything honest names."""
    for i in list(held)[: max(0, len(held) - HELD)]:
        del held[i]


def _past(
    told: Mapping[str, Any] | None, before: tuple[str, ...] | None, anchor: bool
) -> tuple[str, ...] | None:
    """The ids of what the round remembered; None when that rests on a row that is gone."""
    if told is None:
        return ()
    if "all" in told:
        return tuple(told["all"])
    if before is None or anchor:
        return None
    return (*before[int(told["drop"]) :], *told["add"])


def _leave(counted: Counted, why: str) -> None:
    counted.left[why] = counted.left.get(why, 0) + 1
