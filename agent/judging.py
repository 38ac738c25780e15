"""A messenger's round judged, from what it saw to the raw diagnoses: what the agent runs, and what
runs again over the history. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from agent import callflow, streams
from agent.diagnosis import Evidence, diagnose, paced
from agent.recorded import Judged
from agent.vantage import Judgement
from agent.verdicts import ailing, explain, in_part
from config.model import MessengerConfig
from probes.model import Diagnosis, Observation


def statuses(
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    judgement: Judgement,
    again: Sequence[Observation],
) -> tuple[Diagnosis, ...]:
    """How each channel works. ``again``: contrasts kept from the rounds before."""
    raw = paced(diagnose(messenger, evidence, judgement), messenger, evidence, judgement, again)
    for stage in (streams.heard, callflow.cut):
        raw = stage(raw, messenger, evidence, judgement)
    return raw


def is_fine(
    raw: Sequence[Diagnosis], evidence: Sequence[Evidence], again: Sequence[Observation]
) -> bool:
    """Is there nothing to explain?"""
    return not again and not any(ailing(d) or in_part(d, evidence) for d in raw)


def rejudge(judged: Judged, messenger: MessengerConfig) -> tuple[Diagnosis, ...]:
    """What today's rules say of it."""
    evidence, judgement = judged.evidence, judged.judgement
    raw = statuses(messenger, evidence, judgement, judged.again)
    if judged.known is None:
        return raw
    return explain(raw, messenger, evidence, judgement, judged.known)
