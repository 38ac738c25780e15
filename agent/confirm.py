"""Findings over several rounds: what one round cannot confirm, three can. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.rules import RULES
from probes.model import Certainty, Finding

ROUNDS = 3
"""Spaced rounds that must have named a mechanism."""
CONTRASTS = 2
"""Different controls that must have decided."""
CONFIDENCE = 0.9

_AFTER_THREE = {rule.id: rule.after_three for rule in RULES if rule.after_three}


@dataclass(frozen=True, slots=True)
class Named:
    """A mechanism that rounds have named: the newest finding, how many rounds, the last one's time
    (Unix seconds), and by which controls all of them together."""

    finding: Finding
    rounds: int
    at: float
    controls: tuple[str, ...]


def recount(
    named: Sequence[Named], findings: Sequence[Finding], at: float, spacing: float
) -> tuple[Named, ...]:
    """``named`` after one more round. Rounds closer than ``spacing`` count once."""
    before = {n.finding.mechanism: n for n in named}
    for finding in findings:
        known = before.get(finding.mechanism)
        if known is None:
            before[finding.mechanism] = Named(finding, 1, at, finding.controls)
            continue
        apart = not 0 <= at - known.at < spacing  # a clock that was set back stops no counting
        before[finding.mechanism] = Named(
            finding,
            known.rounds + apart,
            at if apart else known.at,
            tuple(dict.fromkeys((*known.controls, *finding.controls))),
        )
    return tuple(before.values())


def settled(findings: Sequence[Finding], named: Sequence[Named]) -> tuple[Finding, ...]:
    """The findings, confirmed where the rounds before bear them out; the most certain first."""
    known = {n.finding.mechanism: n for n in named}
    found = [_settled(f, known.get(f.mechanism)) for f in findings]
    return tuple(sorted(found, key=lambda f: -f.confidence))


def _settled(finding: Finding, named: Named | None) -> Finding:
    if named is None or named.rounds < ROUNDS or finding.certainty is not Certainty.LIKELY:
        return finding
    confidence = max(finding.confidence, _AFTER_THREE.get(finding.rule, 0.0))
    finding = replace(finding, confidence=confidence)
    if confidence >= CONFIDENCE and len(named.controls) >= CONTRASTS:
        return replace(finding, certainty=Certainty.CONFIRMED)
    return finding
