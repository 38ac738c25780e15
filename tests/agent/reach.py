"""The table of docs/verdicts.md: what confidence each rule reaches in one clean round.

``python -m tests.agent.reach`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from agent.case import Case, groups
from agent.rules import RULES, Rule
from agent.sighting import Sign
from agent.verdicts import _fire, certainty_of
from tests.agent.gradual import WORLDS

RESEARCH = {
    Sign.NAME_FAILS_ELSEWHERE,
    Sign.RANDOM_SURVIVES,
    Sign.TWIN_RANDOM_OK,
    Sign.TWIN_SILENT,
    Sign.CONTROL_WENT_ON,
    Sign.SLOWER,
    Sign.CONTROL_AS_SLOW,
    Sign.SLOW_OUTSIDE,
    Sign.OTHER_HELLO_OK,
    Sign.BURST_FREEZES,
    Sign.ANSWERED_NOWHERE,
    Sign.WORSE_THAN_DRESS,
    Sign.SITE_CLEAN,
    Sign.SITE_BAD,
    Sign.PACE_IS_BAD,
    Sign.CANARIES_LIVE,
    Sign.SIZE_SPLIT,
    Sign.QUIC_PING_OK,
    Sign.QUIC_NEUTRAL_OK,
}
OUTSIDE = {Sign.DOWN_OUTSIDE, Sign.SLOW_OUTSIDE, Sign.BAD_OUTSIDE}
TWIN = {sign for sign in Sign if sign.name.startswith("TWIN_")} | {
    Sign.WORSE_THAN_TWIN,
    Sign.ONE_WAY,
}
HEAD = (
    "| rule | mechanism | rests on | client alone | with an outside view | with a twin | research |"
)


def table() -> str:
    return "\n".join((HEAD, "|---|---|---|---|---|---|---|", *map(_row, RULES)))


def _row(rule: Rule) -> str:
    needs = set(rule.needs)
    alone, seen = _reached(rule, WORLDS[rule.id]()), _reached(rule, _seen_from_outside(rule))
    research = bool(needs & RESEARCH)
    cells = (
        "–" if needs & (RESEARCH | OUTSIDE | TWIN) else alone,
        "–" if needs & (RESEARCH | TWIN) else seen,
        "–" if research and needs & TWIN else alone if needs & TWIN else "",
        f"{alone}{_with(rule)}" if research else "",
    )
    mechanism = f"`{rule.mechanism}`"
    if rule.variant != rule.mechanism:
        mechanism += f" (`{rule.variant}`)"
    controls = " ".join(dict.fromkeys(s.control for s in rule.needs if s.control)) or "itself"
    return f"| `{rule.id}` | {mechanism} | {controls} | {' | '.join(cells)} |"


def _with(rule: Rule) -> str:
    """What else research takes."""
    if set(rule.needs) & TWIN:
        return ", with a twin"
    outside = {*OUTSIDE, Sign.WHOLE_OUTSIDE, Sign.FAST_OUTSIDE} & {*rule.needs, *rule.firm}
    return ", with an outside view" if outside else ""


def _seen_from_outside(rule: Rule) -> Case:
    case = WORLDS[rule.id]()
    if case.known.outside:
        return case
    works = {o.target: True for _, seen in case.seen for o in seen}
    return replace(case, known=replace(case.known, outside=works))


def _reached(rule: Rule, case: Case) -> str:
    found: Iterator[float] = (
        f.confidence for g in groups(case) for f in _fire(case, g) if f.rule == rule.id
    )
    confidence = next(found)
    return f"{confidence:.2f} {certainty_of(confidence)}"


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
