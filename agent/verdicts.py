"""From a channel's failures to findings: which rules fire, and how much they may be believed. Pure.

Healthy channels are not looked at. Confidence is a probability that starts at the rule's base; the
modifiers multiply its odds (interference-methods 1.6 in the project's notes, design 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.case import LINE, Case, Group, Known, Symptom, case_of, groups
from agent.diagnosis import Evidence
from agent.peers import CALL
from agent.rules import RULES, Rule
from agent.sighting import Sighting, Sign
from agent.signs import see
from agent.vantage import Judgement
from config.model import MessengerConfig
from probes.model import Certainty, Diagnosis, Finding, Mechanism, Status

SUSPECTED, LIKELY = 0.5, 0.75
HELD_BACK = 0.74
"""What a rule reaches at the most without all that makes it firm."""
FEW_CONTROLS, FEWER = 3, 1 / 4
FLAPPED = 1 / 3
SECOND_MECHANISM = 3.0
PEERS = 3.0
HEARD = (Symptom.HEARD_BADLY, Symptom.CALL_CUT, Symptom.SIZE_CUT)
STOCHASTIC = "_stochastic"
"""How the variant of what is done at random ends."""


def explain(
    raw: Sequence[Diagnosis],
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    judgement: Judgement,
    known: Known,
) -> tuple[Diagnosis, ...]:
    """The diagnoses with what was done to the traffic, where something fails."""
    said = []
    for d in raw:
        if ailing(d):
            case = case_of(messenger, d.channel, evidence, judgement, known)
            said.append(_with_findings(d, find(case)))
        elif d.status is Status.OK and in_part(d, evidence):
            case = case_of(messenger, d.channel, evidence, judgement, known)
            said.append(_of_part(d, find(case)))
        else:
            said.append(d)
    return tuple(said)


def ailing(d: Diagnosis) -> bool:
    """Is there anything to explain?"""
    return d.status is not Status.OK and d.reason not in ("uncalibrated", "not_measured")


def in_part(d: Diagnosis, evidence: Sequence[Evidence]) -> bool:
    """Does anything that decides the channel answer at some of its addresses only?"""
    return any(
        any(not o.works for o in e.observations) and any(o.works for o in e.observations)
        for e in evidence
        if e.fresh
        and e.proven
        and not e.config.informative
        and e.config.target.channel == d.channel
    )


def _of_part(d: Diagnosis, findings: tuple[Finding, ...]) -> Diagnosis:
    """A channel that works at some of its addresses is degraded when a rule says why."""
    partial = tuple(f for f in findings if f.mechanism is Mechanism.PARTIAL_BLOCK)
    if not partial:
        return d
    summary = d.summary.replace(": ok, ", ": degraded, ", 1).rstrip(".")
    summary = f"{summary}, though not at all of their addresses."
    return replace(d, status=Status.DEGRADED, reason="addresses", summary=summary, findings=partial)


def _with_findings(d: Diagnosis, findings: tuple[Finding, ...]) -> Diagnosis:
    found = replace(d, findings=findings)
    if d.status is Status.UNREACHABLE and found.interference:
        summary = d.summary.replace(": unreachable, ", ": blocked, ", 1)
        found = replace(found, status=Status.BLOCKED, reason="interference", summary=summary)
    return found


def tell(d: Diagnosis) -> Diagnosis:
    """With what was found in its sentence."""
    if d.first is None or not d.first.told:
        return d
    sentence = f"{d.summary.rstrip('.')}. {_WORDS[d.certainty]}: {d.first.told}."
    return replace(d, summary=sentence)


_WORDS = {
    Certainty.SUSPECTED: "Suspected",
    Certainty.LIKELY: "Likely",
    Certainty.CONFIRMED: "Confirmed",
}


def find(case: Case) -> tuple[Finding, ...]:
    """Every rule that fires, the most certain first; of one mechanism the strongest rule."""
    found: list[tuple[Finding, Group]] = []
    at_random: dict[Mechanism, str] = {}
    for group in groups(case):
        fired = _fire(case, group)
        at_random |= {f.mechanism: f.variant for f in fired if f.variant.endswith(STOCHASTIC)}
        found += _strongest([(finding, group) for finding in fired])
    lifted = [_among(_beside(finding, group, found), group, case) for finding, group in found]
    certain = [f for f in lifted if f.certainty is not Certainty.NONE]
    certain.sort(key=lambda f: -f.confidence)
    unique: dict[str, Finding] = {}
    for finding in certain:
        flag = at_random.get(finding.mechanism, finding.variant)
        unique.setdefault(finding.mechanism, replace(finding, variant=flag))
    return tuple(unique.values())


def _strongest(fired: list[tuple[Finding, Group]]) -> list[tuple[Finding, Group]]:
    best: dict[str, tuple[Finding, Group]] = {}
    for finding, group in fired:
        known = best.get(finding.mechanism)
        if known is None or finding.confidence > known[0].confidence:
            best[finding.mechanism] = (finding, group)
    return list(best.values())


def _fire(case: Case, group: Group) -> list[Finding]:
    seen: dict[Sign, Sighting | None] = {}

    def holds(sign: Sign) -> Sighting | None:
        """The sighting of a sign that holds; None when it does not, or was not measured."""
        if sign not in seen:
            seen[sign] = see(sign, case, group)
        sighting = seen[sign]
        return sighting if sighting is not None and sighting.holds else None

    fired = []
    for rule in RULES:
        if group.symptom not in rule.symptoms:
            continue
        sightings = [holds(sign) for sign in rule.needs]
        if all(s is not None for s in sightings):
            firm = all(holds(sign) is not None for sign in rule.firm)
            fired.append(_finding(rule, case, group, [s for s in sightings if s], firm))
    return fired


def _finding(
    rule: Rule, case: Case, group: Group, sightings: Sequence[Sighting], firm: bool
) -> Finding:
    confidence = round(weigh(rule, case, any(s.inferred for s in sightings), firm), 2)
    decided = [sign for sign in rule.needs if sign.control]
    return Finding(
        mechanism=rule.mechanism,
        certainty=certainty_of(confidence),
        confidence=confidence,
        rule=rule.id,
        variant=rule.variant,
        evidence=tuple(dict.fromkeys((*group.ids, *(i for s in sightings for i in s.evidence)))),
        told=rule.sentence,
        decided=tuple(sign.words for sign in decided),
        controls=tuple(dict.fromkeys(sign.control for sign in decided)),
    )


def weigh(rule: Rule, case: Case, inferred: bool, firm: bool) -> float:
    """For what is not interference it is the probability that it is none."""
    if not rule.mechanism.interference:
        return 1 - rule.base
    base = rule.base - (rule.without_outside if inferred and Sign.UP in rule.needs else 0.0)
    odds = 1.0
    of_the_line = rule.symptoms[0] in LINE  # whose controls are the evidence
    if not of_the_line and _controls_answered(case) < FEW_CONTROLS:
        odds *= FEWER
    if case.known.flapped:
        odds *= FLAPPED
    confidence = with_odds(base, odds)
    return confidence if firm else min(confidence, HELD_BACK)


def with_odds(probability: float, factor: float) -> float:
    odds = factor * probability / (1 - probability)
    return odds / (1 + odds)


def certainty_of(confidence: float) -> Certainty:
    """Of one round: that never exceeds likely."""
    if confidence < SUSPECTED:
        return Certainty.NONE
    return Certainty.LIKELY if confidence >= LIKELY else Certainty.SUSPECTED


def _controls_answered(case: Case) -> int:
    return sum(any(o.works for o in r.observations) for r in case.known.controls)


def _among(finding: Finding, group: Group, case: Case) -> Finding:
    """Calls of other messengers that get through at the same time leave the line out of it. That
    makes a strong finding stronger, and nothing out of a suspicion: trouble at one operator leaves
    the others alone as well. Streams are held against better than that."""
    if case.channel != CALL or not case.known.peers or group.symptom in HEARD:
        return finding
    if not finding.mechanism.interference or finding.certainty is not Certainty.LIKELY:
        return finding
    confidence = with_odds(min(finding.confidence, 0.99), PEERS)
    return replace(finding, confidence=round(confidence, 2))


def _beside(finding: Finding, group: Group, found: Sequence[tuple[Finding, Group]]) -> Finding:
    """Two mechanisms against one target are no accident, unless one is held back for a reason."""
    if not finding.mechanism.interference or finding.certainty is not Certainty.LIKELY:
        return finding
    targets = {o.target for o in group.observations}
    second = any(
        other.mechanism is not finding.mechanism
        and other.mechanism.interference
        and other.certainty is Certainty.LIKELY
        and group_of.symptom is not group.symptom
        and targets & {o.target for o in group_of.observations}
        for other, group_of in found
    )
    if not second:
        return finding
    confidence = with_odds(min(finding.confidence, 0.99), SECOND_MECHANISM)
    return replace(finding, confidence=round(confidence, 2))
