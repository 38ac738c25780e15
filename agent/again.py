"""Was it a passing trouble? What failed is asked once more, and what it did before is remembered.
Pure.

A contrast that passes tells of a filter only while the failure lasts: a flap of the route, a
restart, one bad machine behind a load balancer are over by then, or not met the second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from agent.case import CONNECT, HELLO, WORDS, Case, Differs, Group, differs_in, symptom_of
from agent.sighting import Sighting, Sign, connects, ids_of, marked
from probes.model import Observation

IN_A_ROW = 4
"""Failures beyond the first ones, and none that passed: half of a fleet that is down has chosen who
failed first, but not who fails from then on."""
LATELY = 900.0
"""Seconds for which a target that came and went is not believed to be blocked."""


def _failed_again(case: Case, group: Group) -> Sighting | None:
    again = marked(case, group, Differs.AGAIN)
    if not again:
        return None
    passed = [c for c in again if _passes(group, c)]
    if passed:
        return Sighting(False, ids_of(passed))
    tries = _tries(case, group)
    fickle = [o for its in tries for o in _between_failures(its)]
    if fickle:
        return Sighting(False, ids_of(fickle))
    more = len(again) + sum(max(0, _failed_lately(its) - 1) for its in tries)
    return Sighting(more >= IN_A_ROW or case.known.by_hand, ids_of(again))


def _passes(group: Group, o: Observation) -> bool:
    if group.symptom in CONNECT:
        return connects(o)
    return o.works and not (group.symptom in (*HELLO, *WORDS) and o.partial)


def _tries(case: Case, group: Group) -> list[list[tuple[Observation, bool]]]:
    """What was asked lately of each of the group's targets at its address, in turn, and whether it
    passed; what was asked again in this round left out."""
    since = group.since - LATELY
    lately: dict[tuple[str, str | None], list[Observation]] = {
        (o.target.name, o.address): [] for o in group.observations
    }
    for o in {o.id: o for o in (*case.known.past, *group.observations)}.values():
        tries = lately.get((o.target.name, o.address))
        if tries is None or o.at < since or not _tells(group, o):
            continue
        if o.contrast is None or (
            differs_in(o, Differs.AGAIN) and o.contrast.of not in group.members
        ):
            tries.append(o)
    ordered = [sorted(tries, key=lambda o: o.at) for tries in lately.values()]
    return [[(o, _passes(group, o)) for o in tries] for tries in ordered]


def _tells(group: Group, o: Observation) -> bool:
    return _passes(group, o) or symptom_of(o) is not None


def _failed_lately(tries: Sequence[tuple[Observation, bool]]) -> int:
    """In a row, up to now."""
    return sum(1 for _ in takewhile(lambda it: not it[1], reversed(tries)))


def _between_failures(tries: Sequence[tuple[Observation, bool]]) -> list[Observation]:
    """What passed between two failures. After a filter was lifted and set again, a target has
    passed several times in a row."""
    return [
        o
        for (_, before), (o, passed), (_, after) in zip(tries, tries[1:], tries[2:], strict=False)
        if passed and not before and not after
    ]


SIGNS = {Sign.FAILED_AGAIN: _failed_again}
