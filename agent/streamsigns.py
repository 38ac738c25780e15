"""Signs of media streams, held against what ran beside them packet by packet. Pure."""

from __future__ import annotations

from collections.abc import Callable

from agent import hearing
from agent.case import Case, Group
from agent.facts import number
from agent.hearing import ENOUGH, LAST, Run
from agent.sighting import Sighting, Sign, ids_of, of_targets
from probes.model import Observation

NEARLY_ALL, HARDLY_ANY = 0.8, 0.05
"""Shares lost there and back, or back and there, when packets pass one way only. A line that is
full one way loses some there, not nearly all."""

Heard = list[tuple[Observation, Run]]


def _heard(case: Case, group: Group) -> list[Heard]:
    """The last runs of each of the group's targets, the newest last."""
    names = dict.fromkeys(o.target.name for o in group.observations)
    return [
        [
            (o, run)
            for o in case.known.streams.get(name, ())
            if (run := hearing.run_of(o.at, o.facts)) is not None
        ]
        for name in names
    ]


def _agree(asked: Callable[[Run], bool], said: Callable[[Run], bool]) -> Look:
    """Is it said in two of the last three runs, of most of the targets? Not measured where fewer
    than two of them ``asked``."""

    def look(case: Case, group: Group) -> Sighting | None:
        told: list[bool] = []
        evidence: list[Observation] = []
        for heard in _heard(case, group):
            last = [(o, said(run)) for o, run in heard[-LAST:] if asked(run)]
            if len(last) >= ENOUGH:
                told.append(sum(holds for _, holds in last) >= ENOUGH)
                evidence += [o for o, holds in last if holds]
        return Sighting(2 * sum(told) > len(told), ids_of(evidence)) if told else None

    return look


Look = Callable[[Case, Group], Sighting | None]


def _worse(*controls: str) -> Look:
    """Of flows that went on to their end: what falls silent and stays so is no loss."""

    def asked(run: Run) -> bool:
        return not run.silent and run.pair(*controls) is not None

    def said(run: Run) -> bool:
        return any(hearing.worse(run, control) for control in controls)

    return _agree(asked, said)


def _of_runs(said: Callable[[list[Run]], bool]) -> Look:
    """Of most of the targets, by all that is remembered of their runs."""

    def look(case: Case, group: Group) -> Sighting | None:
        told = [(heard, said([run for _, run in heard])) for heard in _heard(case, group) if heard]
        found = [heard[-1][0] for heard, holds in told if holds]
        return Sighting(2 * len(found) > len(told), ids_of(found)) if told else None

    return look


def _site_clean(case: Case, group: Group) -> Sighting | None:
    """By all of the last runs together: there are few connections in each."""
    told = [
        [(o, run) for o, run in heard[-LAST:] if run.pair("tcp") is not None]
        for heard in _heard(case, group)
    ]
    told = [heard for heard in told if len(heard) >= ENOUGH]
    found = [heard for heard in told if hearing.clean_over_tcp([run for _, run in heard])]
    evidence = [o for heard in found for o, _ in heard]
    return Sighting(2 * len(found) > len(told), ids_of(evidence)) if told else None


def _no_queue(case: Case, group: Group) -> Sighting | None:
    told: list[bool] = []
    evidence: list[Observation] = []
    for heard in filter(None, _heard(case, group)):
        runs = [run for _, run in heard]
        # A way that has become longer since is not a queue: its last good run says how long it is.
        nearest = hearing.least([run for run in runs if not hearing.is_bad(run)][-1:])
        if nearest is None:
            before = [case.known.nearest.get(heard[-1][0].address or ""), hearing.least(runs)]
            nearest = min((it for it in before if it is not None), default=None)
        prompt = hearing.is_prompt(runs, nearest)
        if prompt is not None:
            told.append(prompt)
            evidence += [o for o, _ in heard[-LAST:]] if prompt else []
    return Sighting(2 * sum(told) > len(told), ids_of(evidence)) if told else None


def _outside(*, bad: bool) -> Look:
    """Not being asked there excuses nobody; being heard as badly there does. What answers nothing
    has no sound: others say why."""

    def look(case: Case, group: Group) -> Sighting | None:
        there = of_targets(case.known.outside, group)
        as_bad = bool(there) and not any(there)
        if bad and not any(o.facts.get("answered") for o in group.observations):
            return None
        return Sighting(as_bad is bad, group.ids if bad else ())

    return look


def _stream_beside_bad(case: Case, group: Group) -> Sighting | None:
    """In this very run: what the line does to everything needs no second one. One that fell silent
    and stayed so lost nothing until then, and what passes one way only is another matter."""
    told = [
        (o, not _is_other(o, run) and hearing.bad_beside(run, "twin", "stun"))
        for o in group.observations
        if (run := hearing.run_of(o.at, o.facts)) is not None and run.pair("twin", "stun")
    ]
    found = [o for o, holds in told if holds]
    return Sighting(2 * len(found) > len(told), ids_of(found)) if told else None


def _one_way(case: Case, group: Group) -> Sighting | None:
    """Not by what a run was said to be, but by how much was lost which way. Of what is cut in both
    directions the twin hears nothing, and so cannot tell; and a twin with trouble of its own, where
    the relay has less, tells nothing of the relay."""
    told = []
    evidence: list[Observation] = []
    for heard in _heard(case, group):
        ways = [
            (o, w)
            for o, run in heard[-LAST:]
            if run.bad_ratio >= NEARLY_ALL and not _fell_silent(o) and (w := _ways(o)) is not None
        ]
        if len(ways) >= ENOUGH:
            one = [o for o, of_it in ways if _passes_one_way(*of_it)]
            told.append(len(one) >= ENOUGH)
            evidence += one
    return Sighting(2 * sum(told) > len(told), ids_of(evidence)) if told else None


def _passes_one_way(up: float, down: float) -> bool:
    return max(up, down) >= NEARLY_ALL and min(up, down) <= HARDLY_ANY


def _fell_silent(o: Observation) -> bool:
    return not {"silent_after_seconds", "twin_silent_after_seconds"}.isdisjoint(o.facts)


def _is_other(o: Observation, run: Run) -> bool:
    ways = _ways(o)
    one_way = ways is not None and _passes_one_way(*ways) and run.bad_ratio >= NEARLY_ALL
    return "silent_after_seconds" in o.facts or one_way


def _ways(o: Observation) -> tuple[float, float] | None:
    """Shares lost on the way to the twin and back. Where nothing arrived nothing came back."""
    up, down = number(o, "twin_up_loss_ratio"), number(o, "twin_down_loss_ratio")
    return None if up is None else (up, 0.0 if down is None else down)


SIGNS: dict[Sign, Look] = {
    Sign.WORSE_THAN_TWIN: _worse("twin"),
    Sign.WORSE_THAN_DRESS: _worse("dress"),
    Sign.WORSE_THAN_STRANGER: _worse("stun"),
    Sign.SITE_CLEAN: _site_clean,
    Sign.NO_QUEUE: _no_queue,
    Sign.NOT_AS_BAD_OUTSIDE: _outside(bad=False),
    Sign.BAD_OUTSIDE: _outside(bad=True),
    Sign.SITE_BAD: _agree(
        lambda run: run.pair("tcp", "dress") is not None,
        lambda run: hearing.bad_beside(run, "tcp", "dress"),
    ),
    Sign.STREAM_BESIDE_BAD: _stream_beside_bad,
    Sign.PACE_IS_BAD: _of_runs(hearing.rate_limited),
    Sign.PLACE_IS_BAD: _of_runs(lambda runs: not hearing.rate_limited(runs)),
    Sign.ONE_WAY: _one_way,
}
