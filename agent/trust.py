"""Which targets may decide: those that are known to answer a stranger. Pure.

Trust belongs to target x dress x network. It is earned by verified answers, survives a restart, and
lapses after 30 days of silence while siblings answer (the target was retired).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from probes.model import Proof

RUNS_NEEDED = 10
SHARE_NEEDED = 0.9
CALIBRATED_ANSWERS = 3
LAPSE = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Record:
    """Runs and verified answers of one target in one dress on one network.

    ``silent_since``: first unanswered run since the last answer, counted only in rounds in which a
    sibling answered; None while it answers. ``earned`` stays once the target has been trusted.
    """

    runs: int = 0
    answered: int = 0
    earned: bool = False
    last_verified: float | None = None
    silent_since: float | None = None


def after_run(
    record: Record, proof: Proof, answered: bool, siblings_answered: bool, at: float
) -> Record:
    if answered:
        runs, total = record.runs + 1, record.answered + 1
        lapsed = record.silent_since is not None and at - record.silent_since >= LAPSE
        if lapsed:
            runs = total = 1
        record = Record(runs, total, record.earned and not lapsed, at, None)
    else:
        silent = record.silent_since
        if silent is None and siblings_answered:
            silent = at
        # An outage must not undo what was learned: silence counts only towards what is not earned.
        runs = record.runs if record.earned else record.runs + 1
        record = replace(record, runs=runs, silent_since=silent)
    earned = record.earned or _deserves(record, proof)
    if not earned and record.runs >= RUNS_NEEDED:
        # A first start inside a block must not be made up for run by run: the ten begin anew.
        return replace(record, runs=0, answered=0)
    return record if earned is record.earned else replace(record, earned=earned)


def _deserves(record: Record, proof: Proof) -> bool:
    if proof is Proof.CAPTURED:
        return record.answered >= 1
    return record.runs >= RUNS_NEEDED and record.answered >= SHARE_NEEDED * record.runs


def is_proven(record: Record | None, proof: Proof, asked: int, answered: int, now: float) -> bool:
    """May the target decide? ``asked`` and ``answered`` are a calibration's counts, 0 without."""
    if proof is Proof.DOCUMENTED:
        return True
    record = record or Record()
    if record.silent_since is not None and now - record.silent_since >= LAPSE:
        return False
    if record.earned:
        return True
    if proof is Proof.CAPTURED:
        return answered >= 1
    return answered >= CALIBRATED_ANSWERS and answered >= SHARE_NEEDED * asked
