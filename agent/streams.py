"""Media streams in the judging: what a channel sounds like, beside whether it answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.diagnosis import CHANNEL_WORDS, Evidence, usable, works
from agent.facts import number
from agent.vantage import Judgement
from config.model import MessengerConfig
from probes.model import Diagnosis, Failure, Observation, Status, Step

HALF = 0.5
"""Share of a channel's streams that must be bad for the channel to be."""
KEPT = 12
"""Runs of one target that are remembered."""
KEPT_FOR = 2 * 3600.0
"""Seconds for which they are."""
LATE = 0.05
POOR_SCORE = 3.6


def is_stream(o: Observation) -> bool:
    return o.target.probe == "media"


def is_kept(o: Observation) -> bool:
    """Do its last runs say more than the newest?"""
    return o.target.probe in _KEPT_KINDS


def is_bad(o: Observation) -> bool:
    """Would nobody want to talk so? Lost or late packets, or none at all that came back."""
    failed = o.failed
    if not is_stream(o) or failed is None or failed.step is not Step.STREAM:
        return False
    return failed.failure in (Failure.LOSSY, Failure.TIMEOUT)


def heard(
    raw: Sequence[Diagnosis],
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    vantage: Judgement,
) -> tuple[Diagnosis, ...]:
    """``raw``, where a channel works and half of its streams do not sound. A relay that does not
    even answer has no sound: it counts in the quorum."""
    return tuple(
        _heard(d, messenger, [e for e in evidence if e.config.target.channel == d.channel], vantage)
        if d.status is Status.OK
        else d
        for d in raw
    )


def _heard(
    d: Diagnosis,
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    vantage: Judgement,
) -> Diagnosis:
    relays = {e.config.target: works(usable(e, vantage)) for e in evidence}
    newest = [
        seen[0]
        for e in evidence
        if e.proven
        for seen in [usable(e, vantage)]
        if _measured(seen) and (e.config.relay is None or relays.get(e.config.relay))
    ]
    bad = [o for o in newest if is_bad(o)]
    if not bad or len(bad) < HALF * len(newest):
        return d
    worst = max(bad, key=lambda o: number(o, "bad_ratio") or 1.0)
    what = f"{messenger.title} {CHANNEL_WORDS[d.channel]}"
    summary = f"{what}: degraded, its servers answer, and {_words(worst)}."
    return replace(d, status=Status.DEGRADED, reason=HEARD, summary=summary)


def _measured(seen: Sequence[Observation]) -> bool:
    return bool(seen) and is_stream(seen[0]) and (seen[0].ok or is_bad(seen[0]))


def _words(o: Observation) -> str:
    lost, late = number(o, "loss_ratio"), number(o, "late_60ms_ratio") or 0.0
    if lost is None or lost >= 1:
        return "of a stream like a call's nothing comes back"
    score = number(o, "mos_opus")
    heard = f" (estimated score {score:.1f} of 4.5)" if score is not None else ""
    if lost >= late:
        return f"{lost:.0%} of the packets of a stream like a call's are lost{heard}"
    return f"{late:.0%} of the packets of a stream like a call's come too late{heard}"


_KEPT_KINDS = ("media", "call")
HEARD = "heard_badly"
"""The reason that only a stream can give or take."""


def kept(
    before: Sequence[Observation], seen: Iterable[Observation], now: float
) -> tuple[Observation, ...]:
    """The runs of one target that are remembered, the newest last."""
    known = {o.id for o in before}
    new = [o for o in seen if is_kept(o) and o.id not in known]
    return tuple(o for o in (*before, *new) if 0 <= now - o.at < KEPT_FOR)[-KEPT:]
