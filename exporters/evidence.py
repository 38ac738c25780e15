"""Rounds of the history as lines of JSON, and back: what an archive of evidence has of them.

A round's line has what was said of it and the ids of all that this rested on; the observations have
lines of their own, in the form of ``check --json``, each with the number of the round with which it
stands (docs/evidence.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from exporters.document import observation, timestamp
from exporters.history import Row
from probes.model import CONTROL, Contrast, Fact, Failure, Observation, Step, StepResult, Target

LATEST = 253_402_300_800.0
"""Unix time at which the calendar of RFC 3339 ends."""
MOST_STEPS = 16
LONGEST = 64 << 10
"""Bytes of an observation's line: a hundred times what most have."""
MOST_SEEN = 10_000
"""Observations of one round."""


def round_line(row: Row) -> dict[str, Any]:
    return {
        "round": row.id,
        "at": timestamp(row.at),
        "time": row.at,
        "messenger": row.messenger,
        "kept": row.kept,
        "anchor": row.anchor,
        "judged": row.judged,
    }


def observation_line(o: Observation, number: int) -> dict[str, Any]:
    """``at`` has milliseconds, ``time`` is exact."""
    made = {"round": number, "time": o.at, **observation(o)}
    return {**made, "partial": True} if o.partial else made


def rows(
    rounds: Iterable[dict[str, Any]], observations: Iterable[dict[str, Any]], messenger: str
) -> Iterator[Row]:
    """The rounds again, of ``messenger`` and the controls, in their order. Raises ValueError for
    what ``round_line`` and ``observation_line`` did not make."""
    waiting = iter(observations)
    line = next(waiting, None)
    for told in rounds:
        number, judged = told.get("round"), told.get("judged")
        if told.get("messenger") not in (messenger, CONTROL) or not isinstance(number, int):
            raise ValueError("a round of nobody")
        if judged is not None and not isinstance(judged, dict):
            raise ValueError("a round of which nothing can be read")
        seen = []
        while line is not None and line.get("round") == number:
            seen.append(_observation(line))
            if len(seen) > MOST_SEEN:
                raise ValueError("a round of more than anybody can ask")
            line = next(waiting, None)
        yield Row(
            id=number,
            at=moment(told.get("time")),
            messenger=str(told["messenger"]),
            kept=told.get("kept") is True,
            anchor=told.get("anchor") is True,
            judged=judged,
            seen=tuple(seen),
        )
    if line is not None:
        raise ValueError("observations of no round")


def _observation(line: dict[str, Any]) -> Observation:
    try:
        target = Target(*(_text(line[k]) for k in ("messenger", "channel", "target", "probe")))
        of, steps, facts = line["contrast"], line["steps"], line["facts"]
        if len(steps) > MOST_STEPS:
            raise ValueError("more steps than there are")
        return Observation(
            id=_text(line["id"]),
            target=target,
            at=moment(line["time"]),
            steps=tuple(_step(s) for s in steps),
            facts={_text(key): _fact(fact) for key, fact in facts.items()},
            partial=line.get("partial") is True,
            contrast=Contrast(_text(of["of"]), _text(of["differs"])) if of else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no observation: {error}") from error


def _step(told: dict[str, Any]) -> StepResult:
    failure = told["failure"]
    return StepResult(
        Step(told["step"]), _number(told["seconds"]), Failure(failure) if failure else None
    )


def _fact(value: Any) -> Fact:
    if isinstance(value, list):
        return tuple(map(_text, value))
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    raise ValueError("a fact that is none")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("something else where text should be")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("something else where a number should be")
    return float(value)


def moment(value: Any) -> float:
    """Unix seconds, of some day in the calendar. Raises ValueError."""
    at = _number(value)
    if not 0 <= at < LATEST:
        raise ValueError("a time that no calendar has")
    return at
