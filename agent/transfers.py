"""Signs of transfers: how far they get and at what pace, held against a control's in turn. Pure."""

from __future__ import annotations

from collections.abc import Callable

from agent import pace
from agent.case import Case, Differs, Group, Symptom
from agent.chance import rank_sum
from agent.sighting import Sighting, Sign, holds_of, ids_of, marked, of_targets, timed_out
from probes.model import Observation

TRIES = 3
"""Transfers that must have stopped at the same place."""
RUNS = 5
"""Transfers of each that a comparison of paces takes: fewer cannot reach one per cent (4.2)."""
P = 0.01
TWICE = 2.0
BEYOND = 1.2


def _tries(case: Case, group: Group) -> list[Observation]:
    return [*group.observations, *filter(pace.is_transfer, marked(case, group, Differs.TIME))]


def _controls(case: Case, group: Group) -> list[Observation]:
    """Those that came to an end: what failed for another reason says nothing of the pace."""
    asked = [*case.known.transfers, *marked(case, group, Differs.SERVER)]
    return [c for c in asked if c.ok or pace.froze(c)]


def _control_went_on(case: Case, group: Group) -> Sighting | None:
    controls = _controls(case, group)
    if not controls:
        return None
    furthest = max(map(pace.carried, group.observations))
    went_on = all(c.ok and pace.carried(c) >= BEYOND * furthest for c in controls)
    return Sighting(went_on, ids_of(controls))


def _froze_alike(case: Case, group: Group) -> Sighting | None:
    tries = _tries(case, group)
    if len(tries) < TRIES:
        return None
    same = all(map(pace.froze, tries)) and (
        pace.alike([*map(pace.carried, tries)]) or pace.alike([*map(pace.segments, tries)])
    )
    return Sighting(same, ids_of(tries))


def _segments(*, freeze: bool) -> Callable[[Case, Group], Sighting | None]:
    """Many against one: only where the one passes do the many tell anything."""

    def look(case: Case, group: Group) -> Sighting | None:
        asked = marked(case, group, Differs.SEGMENTS)
        many = [c for c in asked if c.facts.get("pieces") != 1]
        one = [c for c in asked if c.facts.get("pieces") == 1]
        if not many or not one or not all(c.works for c in one):
            return None
        holds = all(timed_out(c) if freeze else c.works for c in many)
        return Sighting(holds, ids_of(asked))

    return look


def _whole_outside(case: Case, group: Group) -> Sighting | None:
    there = of_targets(case.known.outside, group)
    return Sighting(all(there), group.ids) if there else None


def _paces(seen: list[Observation]) -> list[float]:
    return [found for o in seen if (found := pace.pace(o)) is not None]


def _slower(case: Case, group: Group) -> Sighting | None:
    tries, controls = _tries(case, group), [c for c in _controls(case, group) if c.ok]
    own, theirs = _paces(tries), _paces(controls)
    if not own or not theirs:
        return None
    return Sighting(TWICE * max(own) < min(theirs), ids_of(tries, controls))


def _slower_again(case: Case, group: Group) -> Sighting | None:
    """Runs are compared, not the packets within them, which are no independent trials (4.2)."""
    tries, controls = _tries(case, group), _controls(case, group)
    own, theirs = _paces(tries), _paces(controls)
    if min(len(own), len(theirs)) < RUNS:
        return None
    return Sighting(rank_sum(own, theirs) < P, ids_of(tries, controls))


def _mostly(holds: Callable[[Observation], bool]) -> Callable[[Case, Group], Sighting | None]:
    def look(case: Case, group: Group) -> Sighting | None:
        tries = [o for o in _tries(case, group) if pace.blocks(o)]
        found = [o for o in tries if holds(o)]
        return Sighting(2 * len(found) > len(tries), ids_of(found)) if tries else None

    return look


def _control_as_slow(case: Case, group: Group) -> Sighting | None:
    controls = _controls(case, group)
    if group.symptom is Symptom.FLOW_FROZEN:
        return holds_of(controls, pace.froze)
    slower = _slower(case, group)
    if slower is None:
        return None
    return Sighting(not slower.holds and any(map(pace.is_slow, controls)), slower.evidence)


def _outside(*, slow: bool) -> Callable[[Case, Group], Sighting | None]:
    def look(case: Case, group: Group) -> Sighting | None:
        there = of_targets(case.known.slow_outside, group)
        return Sighting(all(it is slow for it in there), group.ids) if there else None

    return look


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.CONTROL_WENT_ON: _control_went_on,
    Sign.SEGMENTS_FREEZE: _segments(freeze=True),
    Sign.SEGMENTS_PASS: _segments(freeze=False),
    Sign.FROZE_ALIKE: _froze_alike,
    Sign.WHOLE_OUTSIDE: _whole_outside,
    Sign.SLOWER: _slower,
    Sign.SLOWER_AGAIN: _slower_again,
    Sign.STEADY_PACE: _mostly(pace.is_steady),
    Sign.BY_LOSS: _mostly(pace.lost),
    Sign.BY_DELAY: _mostly(pace.queued),
    Sign.CONTROL_AS_SLOW: _control_as_slow,
    Sign.SLOW_OUTSIDE: _outside(slow=True),
    Sign.FAST_OUTSIDE: _outside(slow=False),
}
