"""One page for people: what was seen, when, how sure that is, and what decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exporters import notknown
from exporters.history import Outage
from exporters.words import lasted
from probes.model import Finding


@dataclass(frozen=True, slots=True)
class Told:
    """``outages``: the newest first, each with the finding of the round in it that was surest, as
    today's rules judge it. ``unknown``: seconds of each channel in which nothing is known of it.
    Of the rounds ``judged`` again ``differing`` came out otherwise; ``left`` were not, by why."""

    since: float
    until: float
    place: Mapping[str, str]
    versions: Mapping[str, str]
    outages: Sequence[tuple[Outage, Finding | None]]
    unknown: Mapping[notknown.Channel, float]
    judged: int
    differing: int
    left: Mapping[str, int]


MOST = 30
"""Outages that are told one by one."""


def account(told: Told) -> str:
    """In Markdown; times are UTC."""
    v = told.versions
    lines = [
        "# What callpath saw",
        "",
        ", ".join(
            (
                f"From {_minute(told.since)} to {_minute(told.until)} UTC",
                *(f"{name} {value}" for name, value in told.place.items()),
            )
        )
        + ".",
        f"callpath {v['version']}, rules {v['rules']}, catalogue {v['catalogue']}.",
        "",
        "What is observed is what happens to packets, not who does it or why. `likely` is a",
        "confidence of 0.75 and more; `confirmed` means three spaced rounds and two comparisons.",
        "",
    ]
    length = told.until - told.since
    if not told.outages and notknown.is_nothing_known(told.unknown, length):
        lines += ["Nothing was measured in that time.", ""]
    elif not told.outages:
        lines += ["No channel was seen degraded, blocked or unreachable in that time.", ""]
    if words := notknown.in_words(told.unknown, length):
        lines += [*words, ""]
    for outage, finding in told.outages[:MOST]:
        lines += [*_outage(outage, finding), ""]
    if len(told.outages) > MOST:
        lines += [f"And {len(told.outages) - MOST} more, in outages.jsonl.", ""]
    lines += ["## Judged again", ""]
    lines.append(
        f"{told.judged} rounds were judged again when this was written, by the rules above;"
        f" {_count(told.differing, 'verdict')} came out otherwise than at the time."
    )
    lines += [f"{_count(n, 'round')} could not be: {why}." for why, n in told.left.items()]
    lines += [
        "Anybody can do so, from this archive alone: `callpath evidence --rediagnose FILE`.",
        "",
        "No address of the line that measured is in any of this. Nothing was sent to anybody.",
    ]
    return "\n".join(lines) + "\n"


def _outage(o: Outage, finding: Finding | None) -> list[str]:
    end = "still so at the end" if o.until is None else f"to {_minute(o.until)}"
    lines = [
        f"## {o.messenger}, {o.channel}: {o.status}",
        "",
        f"- when: {_minute(o.since)}, {end}; bad for {lasted(o.seconds)} of it",
        f"- what: {o.summary}",
    ]
    if o.rule:
        lines.append(
            f"- how sure: {o.mechanism}, {o.certainty} ({o.confidence:.2f}), rule {o.rule},"
            f" {_count(o.evidence, 'observation')} behind it"
        )
    else:
        lines.append("- how sure: no mechanism was found")
    if finding is not None and (finding.told or finding.decided):
        lines.append(f"- what decided: {'; '.join(filter(None, (finding.told, *finding.decided)))}")
    if finding is not None and finding.controls:
        lines.append(f"- compared with: {', '.join(finding.controls)} (docs/verdicts.md)")
    return lines


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
