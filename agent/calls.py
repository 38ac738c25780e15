"""Signs of calls that are cut off, held against the flows that ran beside them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent import callflow
from agent.callflow import CALL, CANARY, RANDOM
from agent.case import Case, Group
from agent.sighting import Sighting, Sign, ids_of, of_targets
from probes.model import Observation

RUNS = 3
"""Runs that must have ended so: one way of several that is bad cuts one flow of three by chance."""


def _most(group: Group, told: Callable[[Observation], bool | None]) -> Sighting | None:
    """Does it hold of more than half of the runs that can tell?"""
    known = [(o, holds) for o in group.observations if (holds := told(o)) is not None]
    found = [o for o, holds in known if holds]
    return Sighting(2 * len(found) > len(known), ids_of(found)) if known else None


def _lives(arm: str) -> Callable[[Case, Group], Sighting | None]:
    return lambda case, group: _most(group, lambda o: callflow.lives(o, arm))


def _other_flow_lives(case: Case, group: Group) -> Sighting | None:
    return _most(group, lambda o: callflow.lives(o, callflow.beside(o)))


def _twin_call_cut(case: Case, group: Group) -> Sighting | None:
    def cut(o: Observation) -> bool | None:
        arm = callflow.at_twin(o)
        return None if arm is None else callflow.died(o, arm)

    return _most(group, cut)


def _runs(case: Case, group: Group) -> list[Observation]:
    """Of the group's targets at its addresses, those that are kept and these: one of each address
    in a while, since what happens at once happens once."""
    names = {o.target.name for o in group.observations}
    kept = (o for name in names for o in case.known.streams.get(name, ()))
    ordered = sorted({o.id: o for o in (*kept, *group.observations)}.values(), key=lambda o: o.at)
    last: dict[str | None, float] = {}
    spaced = []
    for o in ordered:
        if o.address in group.addresses and o.at - last.get(o.address, -1e12) >= case.known.spacing:
            last[o.address] = o.at
            spaced.append(o)
    return spaced


def _is_dead(o: Observation) -> bool | None:
    return callflow.died(o, CALL)


def _cut_again(case: Case, group: Group) -> Sighting | None:
    """The call and nothing else, every time since it began."""
    runs = _since_first(_runs(case, group))
    if len(runs) < RUNS:
        return None
    alone = all(
        callflow.died(o, CALL) and callflow.lives(o, CANARY) and callflow.lives(o, RANDOM)
        for o in runs
    )
    return Sighting(alone, ids_of(runs))


def _since_first(
    runs: Sequence[Observation], cut: Callable[[Observation], bool | None] = _is_dead
) -> list[Observation]:
    """From the first on that was cut off: before it was none."""
    began = next((n for n, o in enumerate(runs) if cut(o)), len(runs))
    return list(runs[began:])


def _all_flows_end(case: Case, group: Group) -> Sighting | None:
    """Random bytes as well as the call; of a media stream there is but one."""

    def ends(o: Observation) -> bool | None:
        if not callflow.is_call(o):
            return callflow.died(o, CALL)
        other = callflow.died(o, RANDOM)
        return None if other is None else bool(other and callflow.died(o, CALL))

    return _most(group, ends)


def _ended(runs: Sequence[Observation]) -> list[Observation]:
    return [o for o in runs if callflow.died(o, CALL)]


def _ends_alike(case: Case, group: Group) -> Sighting | None:
    runs = _ended(group.observations)
    return Sighting(callflow.alike(runs), ids_of(runs)) if runs else None


def _ends_again(case: Case, group: Group) -> Sighting | None:
    """One of three runs that went on says that it was something else."""
    runs = _since_first(_runs(case, group))
    if len(runs) < RUNS:
        return None
    ended = _ended(runs)
    return Sighting(len(ended) == len(runs) and callflow.alike(ended), ids_of(ended))


def _other_ends_alike(case: Case, group: Group) -> Sighting | None:
    """At another's server, at the same place."""
    told = [
        o for o in _ended(group.observations) if callflow.died(o, callflow.beside(o)) is not None
    ]
    if not told:
        return None
    there = [o for o in told if callflow.died(o, callflow.beside(o))]
    alike = len(there) == len(told) and all(callflow.alike([o], callflow.beside(o)) for o in there)
    return Sighting(alike, ids_of(there))


def _borne(case: Case, group: Group) -> Sighting | None:
    """Does the server bear it where nobody interferes, or has it done so here? Its trust is that of
    whole calls; that of a media stream is its relay's, and says nothing."""
    told = [
        known for o in group.observations if (known := case.known.outside.get(o.target)) is not None
    ]
    if told:
        return Sighting(any(told), group.ids)
    names = {o.target.name for o in group.observations if callflow.is_call(o)}
    before = [
        o
        for name in {o.target.name for o in group.observations}
        for o in case.known.streams.get(name, ())
        if callflow.lives(o, CALL)
    ]
    if not names and not before:
        return None
    return Sighting(bool(before) or bool(names & case.known.verified), ids_of(before))


def _borne_elsewhere(case: Case, group: Group) -> Sighting | None:
    """That it was borne here before tells nothing: a server may limit us from today on."""
    told = of_targets(case.known.outside, group)
    return Sighting(any(told), group.ids) if told else None


# --- sizes -------------------------------------------------------------------------------------


def _size_split(case: Case, group: Group) -> Sighting | None:
    return _most(group, callflow.is_split)


def _sizes_again(case: Case, group: Group) -> Sighting | None:
    """Each size has a way of its own through whatever shares flows out, and one of them may be bad:
    but not the same sizes' three times."""
    runs = _since_first(_runs(case, group), callflow.is_split)
    if len(runs) < RUNS:
        return None
    silent = [callflow.sizes(o)[1] for o in runs]
    same = all(callflow.is_split(o) for o in runs) and all(it == silent[0] for it in silent)
    return Sighting(same, ids_of(runs))


def _small_fail(case: Case, group: Group) -> Sighting | None:
    return _most(group, callflow.small_fail)


def _twin_sizes(*, pass_there: bool) -> Callable[[Case, Group], Sighting | None]:
    """Does what is silent at the relay pass to the twin, or end there at the same size?"""

    def look(o: Observation) -> bool | None:
        answered, silent = callflow.sizes(o, "twin_")
        if not answered:  # a twin that answers nothing tells nothing
            return None
        wanted = callflow.sizes(o)[1]
        if pass_there:
            return wanted <= answered
        return callflow.is_split(o, "twin_") and wanted == silent

    return lambda case, group: _most(group, look)


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.CANARIES_LIVE: _lives(CANARY),
    Sign.RANDOM_LIVES_ON: _lives(RANDOM),
    Sign.OTHER_FLOW_LIVES: _other_flow_lives,
    Sign.TWIN_CALL_CUT: _twin_call_cut,
    Sign.CUT_AGAIN: _cut_again,
    Sign.BORNE: _borne,
    Sign.BORNE_ELSEWHERE: _borne_elsewhere,
    Sign.ALL_FLOWS_END: _all_flows_end,
    Sign.ENDS_ALIKE: _ends_alike,
    Sign.ENDS_AGAIN: _ends_again,
    Sign.OTHER_ENDS_ALIKE: _other_ends_alike,
    Sign.SIZE_SPLIT: _size_split,
    Sign.SIZES_AGAIN: _sizes_again,
    Sign.SMALL_ONES_FAIL: _small_fail,
    Sign.TWIN_SIZES_PASS: _twin_sizes(pass_there=True),
    Sign.TWIN_SIZES_SPLIT: _twin_sizes(pass_there=False),
}
