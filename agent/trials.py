"""Signs that take several attempts: hellos in turn, bursts, and what happens at random. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from agent.case import Case, Differs, Group, Symptom, differs_in, symptom_of
from agent.chance import fisher
from agent.facts import count, transmissions
from agent.sighting import ENOUGH, Sighting, Sign, ids_of, marked, spoke
from probes.model import Observation

IN_TURN = 3
SILENT = (Symptom.HELLO_UNACKED, Symptom.HELLO_ACKED)
TWENTY = 20
RANDOM = (0.2, 0.8)
STEADY = 0.98
P = 0.001
FROZEN = 2
"""Handshakes of a burst that must have frozen, after one at least was answered."""


def _at(case: Case, group: Group, differs: Differs, *, earlier: bool = True) -> list[Observation]:
    """Contrasts at the group's addresses, of this round and of those before, in order."""
    before = case.known.past if earlier else ()
    found = [
        c
        for c in (*before, *case.known.contrasts)
        if differs_in(c, differs)
        and c.address in group.addresses
        and c.target in {o.target for o in group.observations}
    ]
    return sorted({c.id: c for c in found}.values(), key=lambda c: c.at)


def _own(case: Case, group: Group) -> list[Observation]:
    """The group's targets at its addresses, as they were asked, in this round and before it."""
    names = {o.target for o in group.observations}
    again = [c for c in case.contrasts(Differs.TIME) if c.address in group.addresses]
    seen = [o for o in case.known.past if o.contrast is None or differs_in(o, Differs.TIME)]
    found = [
        o
        for o in (*seen, *again, *group.observations)
        if o.target in names and o.address in group.addresses and not o.partial
    ]
    return sorted({o.id: o for o in found}.values(), key=lambda o: o.at)


def _other_hello_ok(case: Case, group: Group) -> Sighting | None:
    asked = _at(case, group, Differs.HELLO)
    return Sighting(all(map(spoke, asked)), ids_of(asked)) if asked else None


def _hellos_in_turn(case: Case, group: Group) -> Sighting | None:
    """At one address: three of each at least, one after the other."""
    for address in group.addresses:
        other = [c for c in _at(case, group, Differs.HELLO) if c.address == address]
        own = [o for o in _own(case, group) if o.address == address]
        fails = [o for o in own if symptom_of(o) is not None]
        if min(len(other), len(fails)) < IN_TURN:
            continue
        order = sorted([*((o.at, False) for o in fails), *((c.at, True) for c in other)])
        changes = sum(a[1] is not b[1] for a, b in pairwise(order))
        since = min(o.at for o in fails)
        if sum(map(transmissions, fails)) < ENOUGH and all(symptom_of(o) in SILENT for o in fails):
            continue
        always = all(map(spoke, other)) and not any(o.works for o in own if o.at >= since)
        return Sighting(always and changes >= 2 * (IN_TURN - 1), ids_of(other, fails))
    return None


def _burst_freezes(case: Case, group: Group) -> Sighting | None:
    asked = _at(case, group, Differs.BURST, earlier=False)
    return Sighting(any(map(_froze, asked)), ids_of(asked)) if asked else None


def _froze(c: Observation) -> bool:
    return count(c, "answered") > 0 and count(c, "frozen") >= FROZEN


def _recovered(case: Case, group: Group) -> Sighting | None:
    """A single one after the failure and before the burst."""
    bursts = [c.at for c in _at(case, group, Differs.BURST, earlier=False)]
    failed = max(o.at for o in group.observations)
    single = [
        c
        for c in _at(case, group, Differs.TIME, earlier=False)
        if c.at > failed and all(c.at < at for at in bursts)
    ]
    return Sighting(single[-1].works, ids_of(single)) if single else None


def _burst_elsewhere(case: Case, group: Group) -> Sighting | None:
    asked = marked(case, group, Differs.BURST)
    there = [c for c in asked if c.address not in group.addresses]
    return Sighting(any(map(_froze, there)), ids_of(there)) if there else None


def _spaced(case: Case, seen: Sequence[Observation]) -> list[Observation]:
    """Each address's attempts, those that come too soon after another left out."""
    kept: list[Observation] = []
    last: dict[str | None, float] = {}
    for o in seen:
        if o.at - last.get(o.address, -1e12) >= case.known.spacing:
            last[o.address] = o.at
            kept.append(o)
    return kept


def _at_random(case: Case, group: Group) -> Sighting | None:
    own = _spaced(case, _own(case, group))
    if len(own) < TWENTY:
        return None
    share = sum(o.works for o in own) / len(own)
    return Sighting(RANDOM[0] <= share <= RANDOM[1], ids_of(own))


def _neutral_steady(case: Case, group: Group) -> Sighting | None:
    neutral = _spaced(case, _at(case, group, Differs.NAME))
    if len(neutral) < TWENTY:
        return None
    return Sighting(sum(map(spoke, neutral)) >= STEADY * len(neutral), ids_of(neutral))


def _beyond_chance(case: Case, group: Group) -> Sighting | None:
    own, neutral = _spaced(case, _own(case, group)), _spaced(case, _at(case, group, Differs.NAME))
    if not own or not neutral:
        return None
    works, passes = sum(o.works for o in own), sum(map(spoke, neutral))
    p = fisher(works, len(own) - works, passes, len(neutral) - passes)
    return Sighting(p < P, ids_of(own, neutral))


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.OTHER_HELLO_OK: _other_hello_ok,
    Sign.HELLOS_IN_TURN: _hellos_in_turn,
    Sign.BURST_FREEZES: _burst_freezes,
    Sign.RECOVERED: _recovered,
    Sign.BURST_ELSEWHERE: _burst_elsewhere,
    Sign.AT_RANDOM: _at_random,
    Sign.NEUTRAL_STEADY: _neutral_steady,
    Sign.BEYOND_CHANCE: _beyond_chance,
}
