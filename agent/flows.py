"""Signs of what happens to a flow: TLS hellos, first bytes, datagrams in several dresses. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.case import (
    Case,
    Differs,
    Group,
    Symptom,
    may_be_strangers,
    of_role,
    symptom_of,
    took,
)
from agent.companion import Payload
from agent.facts import count
from agent.sighting import (
    ENOUGH,
    OF_FIVE,
    Sighting,
    Sign,
    holds_of,
    ids_of,
    marked,
    spoke,
    timed_out,
    two_operators,
)
from config.values import url_host_port
from probes.model import Failure, Observation, Role, Step
from probes.net.address import prefix_of

RETURNING = 0.8
MSS = 1200
"""Bytes of a hello that certainly fits into one segment."""
PROMPT = 4.0
"""Seconds; a probe waits for ten."""


def _tls_elsewhere(case: Case, _: Group) -> Sighting | None:
    asked = of_role(case, Role.FOREIGN)
    return two_operators([r for r in asked if any(took(o, Step.TLS) for o in r.observations)])


# --- TLS ---------------------------------------------------------------------------------------


def _neutral(case: Case, group: Group) -> list[tuple[Observation, Observation]]:
    """Failures, each with the neutral name at its address and port."""
    asked = {(c.address, case.port_of(c)): c for c in case.contrasts(Differs.NAME)}
    pairs = ((o, asked.get((o.address, case.port_of(o)))) for o in group.observations)
    return [(o, c) for o, c in pairs if c is not None]


def _passes(symptom: Symptom, c: Observation) -> bool:
    """Any byte of the server's will do, but where a few packets passed it must complete, and soon:
    of a slow server's answers some come in time."""
    if symptom is not Symptom.HELLO_ACKED:
        return spoke(c)
    return c.ok and all(s.seconds < PROMPT for s in c.steps if s.step is Step.TLS)


def _neutral_ok(case: Case, group: Group) -> Sighting | None:
    again = {c.contrast.of for c in case.contrasts(Differs.TIME) if c.contrast and spoke(c)}
    # What passes with the target's own name a while later did not fail for the name.
    pairs = [(o, c) for o, c in _neutral(case, group) if o.id not in again]
    passed = [c for _, c in pairs if _passes(group.symptom, c)]
    if passed:
        return Sighting(True, ids_of(passed))
    return None if not _uncontaminated(pairs) else Sighting(False)


def _uncontaminated(
    pairs: Sequence[tuple[Observation, Observation]],
) -> list[tuple[Observation, Observation]]:
    """A neutral name that fails after the target's may meet what that one left behind."""
    return [(o, c) for o, c in pairs if c.at < o.at]


def _neutral_fails(case: Case, group: Group) -> Sighting | None:
    if any(_passes(group.symptom, c) for _, c in _neutral(case, group)):
        return Sighting(False)
    pairs = _uncontaminated(_neutral(case, group))
    same = [c for _, c in pairs if symptom_of(c) is group.symptom]
    return Sighting(len(same) == len(pairs), ids_of(same)) if pairs else None


def _neutral_as_long(case: Case, group: Group) -> Sighting | None:
    pairs = [(o, c) for o, c in _neutral(case, group) if _passes(group.symptom, c)]
    return holds_of(
        [c for _, c in pairs], lambda c: any(_as_long(o, c) for o, n in pairs if n is c)
    )


def _as_long(o: Observation, c: Observation) -> bool:
    return 0 < count(o, "clienthello_bytes") <= count(c, "clienthello_bytes")


def name_fails_elsewhere(case: Case, group: Group) -> Sighting | None:
    asked = marked(case, group, Differs.ADDRESS)
    return holds_of(asked, lambda c: symptom_of(c) is group.symptom)


def _other_address_ok(case: Case, group: Group) -> Sighting | None:
    names = {o.target.name for o in group.observations}
    same_name = {case.host_of(o) for o in group.observations} - {""}
    others = [
        o
        for e, seen in case.seen
        for o in seen
        if o.id not in group.members
        and (e.config.host in same_name or e.config.target.name in names)
    ]
    return holds_of(others, lambda o: o.works and not o.partial)


def _short_hello_ok(case: Case, group: Group) -> Sighting | None:
    long = any(count(o, "clienthello_bytes") > MSS for o in group.observations)
    return holds_of(marked(case, group, Differs.LENGTH), spoke) if long else None


def _random_survives(case: Case, group: Group) -> Sighting | None:
    return holds_of(marked(case, group, Differs.BYTES), _survives)


def _survives(o: Observation) -> bool:
    """Closed by the server or answered is as good: what was asked is the path."""
    return o.ok or spoke(o)


def _issuers(seen: Sequence[Observation]) -> dict[str, set[str]]:
    """Targets by the issuer that stands before them."""
    found: dict[str, set[str]] = {}
    for o in seen:
        issuer = str(o.facts.get("certificate_issuer", ""))
        if issuer and o.failed and o.failed.failure is Failure.UNKNOWN_ISSUER:
            found.setdefault(issuer, set()).add(o.target.name)
    return found


def _one_issuer(case: Case, group: Group) -> Sighting | None:
    """Where a resolver may have led to a stranger, it is no wonder that his stands there."""
    theirs = [o for o in group.observations if not may_be_strangers(case, o)]
    return Sighting(any(len(names) >= 2 for names in _issuers(theirs).values()), group.ids)


def _strange_issuer(case: Case, group: Group) -> Sighting | None:
    return Sighting(bool(_issuers(group.observations)), group.ids)


def _clean_controls(case: Case, group: Group) -> Sighting | None:
    clean = _tls_elsewhere(case, group)
    if clean is None:
        return None
    controls = of_role(case, Role.FOREIGN, Role.DOMESTIC)
    theirs = {str(o.facts.get("certificate_issuer")) for r in controls for o in r.observations}
    return Sighting(clean.holds and not theirs & set(_issuers(group.observations)), clean.evidence)


def _clean_since(case: Case, group: Group) -> Sighting | None:
    """What reads everything may have begun during the round, after the controls were asked."""
    controls = of_role(case, Role.FOREIGN, Role.DOMESTIC)
    secure = [o for r in controls for o in r.observations if took(o, Step.TLS)]
    return holds_of(
        [*secure, *case.contrasts(Differs.CONTROL)], lambda o: o.works and o.at >= group.since
    )


def _page_redirects(case: Case, group: Group) -> Sighting | None:
    def leads_away(o: Observation) -> bool:
        try:
            host, _ = url_host_port(str(o.facts.get("http_location", "")))
        except ValueError:
            return False
        known = case.host_of(o)
        return host != known and not host.endswith("." + known)

    return holds_of([o for o in group.observations if "http_location" in o.facts], leads_away)


# --- UDP ---------------------------------------------------------------------------------------


def _relays(case: Case, group: Group) -> Sighting | None:
    """Three that are known to answer: here before, or on an open network now."""
    known = case.known
    answering = {
        o.address
        for o in group.observations
        if o.address and (o.target.name in known.verified or known.outside.get(o.target))
    }
    enough = len(answering) >= 3 and len(set(map(prefix_of, answering))) >= 2
    return Sighting(enough, group.ids)


def _dresses(case: Case, group: Group) -> list[Observation]:
    return [c for c in case.contrasts(Differs.DRESS) if c.address in group.addresses]


def _every_dress_silent(case: Case, group: Group) -> Sighting | None:
    """Of the dresses that these servers owe an answer. One of another protocol tells nothing by its
    silence; where all are such, the servers' own words said again do."""
    dressed, said = _dresses(case, group), _said_again(case, group)
    owed = [c for c in dressed if _is_owed(case, group, c)]
    asked = owed or (said if dressed else [])
    silent = all(symptom_of(c) in (Symptom.UDP_SILENT, Symptom.DTLS_SILENT) for c in asked)
    return Sighting(silent and not any(c.works for c in dressed), ids_of(asked)) if asked else None


def _said_again(case: Case, group: Group) -> list[Observation]:
    again = [c for c in case.contrasts(Differs.AGAIN) if c.address in group.addresses]
    return [c for c in again if _protocol(c) in set(map(_protocol, group.observations))]


def _is_owed(case: Case, group: Group, c: Observation) -> bool:
    """Is an answer known of that server: to its target's protocol, or to another target's there?"""
    own = {o.target.name: _protocol(o) for o in group.observations}
    if own.get(c.target.name) == _protocol(c):
        return True
    place = c.address, case.port_of(c)
    return any(
        (o.address, case.port_of(o)) == place and _protocol(o) == _protocol(c)
        for e, seen in case.seen
        if e.config.target.name in case.known.verified
        for o in seen
    )


def _protocol(o: Observation) -> str:
    """A contrast in another protocol than its target's says so in ``said``."""
    said = str(o.facts.get("said", o.target.probe))
    return "stun" if said == "turn" else said


def _answers(o: Observation) -> int:
    return count(o, "answered")


def _requests(o: Observation) -> int:
    return count(o, "requests")


def _cookie_silent(case: Case, group: Group) -> Sighting | None:
    """The cookie again, interleaved with what has none, at a relay that knows this dress."""
    again = [
        c
        for c in case.contrasts(Differs.TIME)
        if c.address in group.addresses and c.target.probe == "stun"
    ]
    known = [c for c in again if c.target.name in case.known.verified]
    return Sighting(bool(known) and not any(map(_answers, known)), ids_of(known)) if again else None


def _cookieless_ok(case: Case, group: Group) -> Sighting | None:
    pairs = {c.address for c in case.contrasts(Differs.TIME)}
    asked = [
        c for c in _dresses(case, group) if c.facts.get("cookie") is False and c.address in pairs
    ]
    return holds_of(asked, lambda c: _answers(c) >= OF_FIVE)


def _public_cookieless_ok(case: Case, group: Group) -> Sighting | None:
    asked = [
        c
        for c in marked(case, group, Differs.DRESS)
        if c.facts.get("cookie") is False and c.address not in group.addresses
    ]
    return holds_of(asked, lambda c: _answers(c) >= OF_FIVE)


def _echo(payload: Payload, *, returns: bool) -> Callable[[Case, Group], Sighting | None]:
    """At least four of five come back, or of five and more none while the twin believes us."""

    def look(case: Case, _: Group) -> Sighting | None:
        asked = at_twin(case, payload)
        sent, returned = sum(map(_requests, asked)), sum(map(_answers, asked))
        if sent < ENOUGH:
            return None
        if returns:
            return Sighting(returned >= RETURNING * sent, ids_of(asked))
        if not returned and not _believed(case):
            return None
        return Sighting(all(map(_unanswered, asked)), ids_of(asked))

    return look


def at_twin(case: Case, *payloads: Payload) -> list[Observation]:
    return [c for c in case.contrasts(Differs.TWIN) if c.facts.get("payload") in payloads]


def _believed(case: Case) -> bool:
    """Has the twin said in this round, by an answer or over TLS, how much of ours came? A wrong
    key, a wrong clock or a stopped twin looks like a block otherwise."""
    return any("received_by_peer" in c.facts for c in case.contrasts(Differs.TWIN))


def _unanswered(c: Observation) -> bool:
    return timed_out(c) and not _answers(c)


def _twin_silent(case: Case, _: Group) -> Sighting | None:
    """Whatever it looks like: STUN and random bytes at least."""
    each = [at_twin(case, payload) for payload in (Payload.STUN, Payload.RANDOM)]
    if any(sum(map(_requests, asked)) < ENOUGH for asked in each):
        return None
    asked = [*each[0], *each[1], *at_twin(case, Payload.DTLS)]
    silent = all(map(_unanswered, asked))
    return Sighting(silent, ids_of(asked)) if _believed(case) or not silent else None


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.NEUTRAL_OK: _neutral_ok,
    Sign.NEUTRAL_FAILS: _neutral_fails,
    Sign.NEUTRAL_AS_LONG: _neutral_as_long,
    Sign.NAME_FAILS_ELSEWHERE: name_fails_elsewhere,
    Sign.OTHER_ADDRESS_OK: _other_address_ok,
    Sign.SHORT_HELLO_OK: _short_hello_ok,
    Sign.RANDOM_SURVIVES: _random_survives,
    Sign.TLS_ELSEWHERE: _tls_elsewhere,
    Sign.ONE_ISSUER: _one_issuer,
    Sign.STRANGE_ISSUER: _strange_issuer,
    Sign.CLEAN_CONTROLS: _clean_controls,
    Sign.CLEAN_SINCE: _clean_since,
    Sign.PAGE_REDIRECTS: _page_redirects,
    Sign.RELAYS: _relays,
    Sign.EVERY_DRESS_SILENT: _every_dress_silent,
    Sign.COOKIE_SILENT: _cookie_silent,
    Sign.COOKIELESS_OK: _cookieless_ok,
    Sign.PUBLIC_COOKIELESS_OK: _public_cookieless_ok,
    Sign.TWIN_SILENT: _twin_silent,
    Sign.TWIN_RANDOM_OK: _echo(Payload.RANDOM, returns=True),
    Sign.TWIN_STUN_OK: _echo(Payload.STUN, returns=True),
    Sign.TWIN_STUN_SILENT: _echo(Payload.STUN, returns=False),
    Sign.TWIN_DTLS_SILENT: _echo(Payload.DTLS, returns=False),
}
