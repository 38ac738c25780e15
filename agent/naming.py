"""Signs of names: what resolvers said, judged by owner and certificate, never by comparing
addresses alone. Pure."""

from __future__ import annotations

from collections.abc import Callable

from agent.case import (
    Case,
    Differs,
    Group,
    Symptom,
    is_elsewhere,
    of_role,
    symptom_of,
    took,
    trusted_answers,
)
from agent.facts import count
from agent.sighting import OF_FIVE, Sighting, Sign, holds_of, ids, ids_of, marked, of_results
from agent.vantage import ControlResult
from probes.model import Observation, Role, Step

UNSPECIFIED = ("0.0.0.0", "::")
_MOSTLY = 0.5


def is_trusted(result: ControlResult, transport: str) -> bool:
    """Is it a trusted resolver, over this transport? Those go by names, others by addresses."""
    name, _, by = getattr(result.config.probe, "resolver", "").partition("/")
    return bool(by) and name != "system" and by == transport


def _contrasts(case: Case, group: Group, *transports: str) -> list[Observation]:
    """What trusted resolvers were asked about the group's names."""
    names = {case.host_of(o) for o in group.observations}
    return [
        c
        for c in case.contrasts(Differs.RESOLVER)
        if c.facts.get("query") in names and c.facts.get("transport") in transports
    ]


def answers_of(c: Observation) -> tuple[str, ...]:
    answers = c.facts.get("answers")
    return answers if isinstance(answers, tuple) else ()


def _is_right(case: Case, c: Observation) -> bool | None:
    """The owner test of one answer; None where the file states no owner."""
    answers = answers_of(c)
    if not c.works or not answers:
        return False
    owned = [case.owned(a) for a in answers]
    return None if None in owned else any(owned)


def _trusted_passes(case: Case, group: Group) -> Sighting | None:
    """By the owner's prefixes, or because the target works at the address that was named."""
    asked = _contrasts(case, group, "tcp", "tls", "https")
    there = marked(case, group, Differs.ANSWER)
    secured = [c for c in there if c.works and took(c, Step.TLS)]
    right = [c for c in asked if _is_right(case, c)]
    if not asked:
        return None
    return Sighting(bool(right or secured), ids_of(right, secured))


def _trusted_differs(case: Case, group: Group) -> Sighting | None:
    found = [trusted_answers(case, o) for o in group.observations]
    told = [(o, answers) for o, answers in zip(group.observations, found, strict=True) if answers]
    if not told:
        return None
    differs = all(is_elsewhere(o, given) for o, answers in told for _, given in answers)
    return Sighting(differs, tuple(c.id for _, answers in told for c, _ in answers))


def _trusted_denies(case: Case, group: Group) -> Sighting | None:
    asked = [c for c in _contrasts(case, group, "tcp", "tls", "https") if "rcode" in c.facts]
    if not asked:
        return None
    return Sighting(not any(map(answers_of, asked)), ids_of(asked))


def _trusted_udp_wrong(case: Case, group: Group) -> Sighting | None:
    asked = [c for c in _contrasts(case, group, "udp") if "rcode" in c.facts]
    return holds_of(asked, lambda c: _is_right(case, c) is False)


def _trusted_tcp_right(case: Case, group: Group) -> Sighting | None:
    return holds_of(_contrasts(case, group, "tcp"), lambda c: _is_right(case, c) is True)


def _trusted_secured_right(case: Case, group: Group) -> Sighting | None:
    """For whichever of the messenger's names: there are fewer encrypted transports than channels,
    and each is asked about one name."""
    asked = [
        c for c in case.contrasts(Differs.RESOLVER) if c.facts.get("transport") in ("tls", "https")
    ]
    return holds_of(asked, lambda c: _is_right(case, c) is True)


def _answer_fails(case: Case, group: Group) -> Sighting | None:
    """A certificate of somebody else, or an address outside of the networks of the owner."""

    def fails(o: Observation) -> bool:
        strange = symptom_of(o) is Symptom.STRANGE_CERTIFICATE
        return strange or (o.address is not None and case.owned(o.address) is False)

    return holds_of(group.observations, fails)


def _unverifiable(case: Case, group: Group) -> Sighting | None:
    failing = _answer_fails(case, group)
    return Sighting(failing is not None and not failing.holds, group.ids)


def _by_system(o: Observation) -> bool:
    """Was a name looked up at the host's own resolver?"""
    at_first = bool(o.steps) and o.steps[0].step is Step.RESOLVE
    return at_first or o.facts.get("resolver") == "system"


def _at_system(case: Case) -> list[ControlResult]:
    asked = [r for r in case.known.controls if r.config.role is not Role.AD]
    return [r for r in asked if any(map(_by_system, r.observations))]


def _resolved(r: ControlResult) -> bool:
    return any(o.steps[0].failure is None for o in r.observations if o.steps and _by_system(o))


def _other_names_ok(case: Case, group: Group) -> Sighting | None:
    asked = _at_system(case)
    if not asked:
        return None
    resolved = [r for r in asked if _resolved(r)]
    return Sighting(len(resolved) >= _MOSTLY * len(asked), ids(resolved))


def _interleaved_ok(case: Case, group: Group) -> Sighting | None:
    """Five queries for the name and five for a control's, in turn, at the same resolver; those
    serve the names of every channel in the round."""
    again = marked(case, group, Differs.TIME)
    other = case.contrasts(Differs.QUERY)
    if not again or not other:
        return None
    silent = all(c.facts.get("answered") == 0 for c in again)
    heard = any(count(c, "answered") >= OF_FIVE for c in other)
    return Sighting(silent and heard, ids_of(again, other))


def _two_answers(case: Case, group: Group) -> Sighting | None:
    """The first one wrong, a later one right by the owner test: otherwise they may be any two."""
    names = {case.host_of(o) for o in group.observations}
    asked = [
        o for e, seen in case.seen for o in seen if getattr(e.config.probe, "query", None) in names
    ] + _contrasts(case, group, "udp")

    def both(o: Observation) -> bool:
        late = o.facts.get("late_addresses")
        right = isinstance(late, tuple) and any(case.owned(a) for a in late)
        return bool(o.facts.get("late_differs")) and right and _is_right(case, o) is False

    return holds_of(asked, both)


def _answered_nowhere(case: Case, group: Group) -> Sighting | None:
    return holds_of(marked(case, group, Differs.NOWHERE), lambda c: "rcode" in c.facts)


def _unfiltered(case: Case, group: Group) -> Sighting | None:
    filtered = _filtered(case, group)
    asked = [r for r in of_role(case, Role.AD) if _asks_system(r)]
    if not asked:
        return None
    answered = of_results(asked)
    assert answered is not None
    return Sighting(
        answered.holds and not (filtered is not None and filtered.holds), answered.evidence
    )


def _asks_system(result: ControlResult) -> bool:
    return getattr(result.config.probe, "resolver", "system") == "system"


def _filtered(case: Case, group: Group) -> Sighting | None:
    """It answers with nowhere, denies a name that only carries advertising, or leads that to the
    same page."""
    nowhere = [o for o in group.observations if o.address in UNSPECIFIED]
    if nowhere:
        return Sighting(True, ids_of(nowhere))
    asked = [r for r in of_role(case, Role.AD) if _asks_system(r)]

    def filters(o: Observation) -> bool:
        denied = "rcode" in o.facts and not o.works
        return denied or not group.addresses.isdisjoint(answers_of(o))

    filtered = [r for r in asked if any(map(filters, r.observations))]
    return Sighting(bool(filtered), ids(filtered)) if asked else None


def _public_resolver(case: Case, group: Group) -> Sighting | None:
    """A router at home may lie by itself; that another resolver does, over UDP, it cannot."""
    if not case.known.private_resolver:
        return Sighting(True)
    return _trusted_udp_wrong(case, group)


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.TRUSTED_PASSES: _trusted_passes,
    Sign.TRUSTED_DIFFERS: _trusted_differs,
    Sign.TRUSTED_DENIES: _trusted_denies,
    Sign.TRUSTED_UDP_WRONG: _trusted_udp_wrong,
    Sign.TRUSTED_TCP_RIGHT: _trusted_tcp_right,
    Sign.TRUSTED_SECURED_RIGHT: _trusted_secured_right,
    Sign.ANSWER_FAILS: _answer_fails,
    Sign.UNVERIFIABLE: _unverifiable,
    Sign.OTHER_NAMES_OK: _other_names_ok,
    Sign.INTERLEAVED_OK: _interleaved_ok,
    Sign.TWO_ANSWERS: _two_answers,
    Sign.ANSWERED_NOWHERE: _answered_nowhere,
    Sign.UNFILTERED: _unfiltered,
    Sign.FILTERED: _filtered,
    Sign.PUBLIC_RESOLVER: _public_resolver,
}
