"""Signs of what concerns a part of an owner's addresses, or the whole way to them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.case import Case, Group, Symptom, answered, cut_off, in_window, symptom_of
from agent.facts import count, number
from agent.sighting import SOONER, Sighting, Sign, ids, ids_of, over_tcp, stun, two_operators, web
from probes.model import Observation

PART = 0.2
"""Share of a channel's addresses, as the quorum of its targets leaves by default."""
HALF = 0.5
SLOWER = 2.0
SLACK = 0.05
"""Seconds by which a longer round trip must be longer."""


def _everything(case: Case) -> list[Observation]:
    """What was seen of the channel's deciding targets, at addresses that answered here before."""
    return [
        o
        for e, seen in case.of_channel()
        if e.proven and not e.config.informative
        for o in seen
        if o.address in case.known.nearest
    ]


def _addresses(seen: Iterable[Observation]) -> set[str]:
    return {o.address for o in seen if o.address}


def _many_addresses(case: Case, group: Group) -> Sighting | None:
    """Of the families that answer at all: a family that is dead as a whole is another matter."""
    everything = _everything(case)
    families = {o.family for o in everything if o.works}
    there = [o for o in everything if o.family in families]
    if not there:
        return None
    dead = group.addresses & _addresses(there) - _addresses(o for o in there if o.works)
    return Sighting(len(dead) >= max(2, PART * len(_addresses(there))), group.ids)


def _one_family(case: Case, group: Group) -> Sighting | None:
    """Everything of the group's family is silent, and was there to be asked; the other answers."""
    families = {o.family for o in group.observations}
    if len(families) != 1 or len(group.addresses) < 2:
        return None
    (family,) = families
    same = [o for o in _everything(case) if o.family == family]
    other = [o for o in _everything(case) if o.family != family]
    if not other:
        return None
    return Sighting(
        not any(o.works for o in same) and all(o.works for o in other),
        (*group.ids, *ids_of(other)),
    )


def _family_ok(case: Case, group: Group) -> Sighting | None:
    """Two operators' controls of the same kind answer over the family."""
    families = {o.family for o in group.observations}
    kind = web(case) if over_tcp(group.observations) else stun(case)
    asked = [r for r in kind if any(o.family in families for o in r.observations)]
    return two_operators(
        [r for r in asked if any(o.works and o.family in families for o in r.observations)]
    )


def _controls_clean(case: Case, _: Group) -> Sighting | None:
    asked = [r for r in (*stun(case), *web(case)) if r.heard]
    if len(stun(case)) < 2:
        return None
    clean = [r for r in asked if answered(r) and not any(map(_drags_by_loss, r.observations))]
    lossy = any(symptom_of(o) is Symptom.LOSSY for r in stun(case) for o in r.observations)
    return Sighting(not lossy and len(clean) >= 0.8 * len(asked), ids(clean))


def _drags_by_loss(o: Observation) -> bool:
    return count(o, "retransmissions") > 0


def _path_drags(case: Case, group: Group) -> Sighting | None:
    """Half of what was asked of the owner over TCP was sent again, or took twice as long."""
    asked = over_tcp(o for _, seen in case.seen for o in seen if o.id not in group.members)
    if not asked:
        return None
    bad = [o for o in asked if _drags_by_loss(o) or _slow(case, o)]
    return Sighting(len(bad) >= HALF * len(asked), ids_of(bad))


def _slow(case: Case, o: Observation) -> bool:
    rtt, least = number(o, "rtt_seconds"), case.known.nearest.get(o.address or "")
    return rtt is not None and least is not None and rtt > SLOWER * least + SLACK


def _first_answered(case: Case, group: Group) -> Sighting | None:
    asked = [o for o in group.observations if "answered_first" in o.facts]
    found = [o for o in asked if o.facts["answered_first"] is True]
    return Sighting(len(found) >= 2 and len(found) == len(asked), ids_of(found)) if asked else None


def _in_time(case: Case, group: Group) -> Sighting | None:
    known = case.known.nearest
    timed = [o for o in group.observations if o.failed is not None and o.address in known]
    if not timed:
        return None
    late = [o for o in timed if o.failed and o.failed.seconds >= SOONER * known[o.address or ""]]
    return Sighting(2 * len(late) > len(timed), ids_of(late))


def _cut_off_before(case: Case, group: Group) -> Sighting | None:
    cut = cut_off(case)
    before = [h for o in group.observations for h in in_window(cut, o)]
    return Sighting(bool(before), ids_of(before))


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.MANY_ADDRESSES: _many_addresses,
    Sign.ONE_FAMILY: _one_family,
    Sign.FAMILY_OK: _family_ok,
    Sign.CONTROLS_CLEAN: _controls_clean,
    Sign.PATH_DRAGS: _path_drags,
    Sign.FIRST_ANSWERED: _first_answered,
    Sign.IN_TIME: _in_time,
    Sign.CUT_OFF_BEFORE: _cut_off_before,
}
