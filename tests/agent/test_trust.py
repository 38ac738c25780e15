"""Which targets may decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.trust import LAPSE, RUNS_NEEDED, Record, after_run, is_proven
from probes.model import Proof

DAY = 86400.0


def learn(proof: Proof, runs: str, *, siblings: bool = True, start: float = 0.0, record=None):
    """``+`` an answered run, ``-`` a silent one; a minute apart."""
    record = record or Record()
    for number, sign in enumerate(runs):
        record = after_run(record, proof, sign == "+", siblings, start + number * 60)
    return record


def proven(record, proof, *, asked=0, answered=0, now=0.0):
    return is_proven(record, proof, asked, answered, now)


def test_documented_always_decides():
    assert proven(None, Proof.DOCUMENTED)
    assert proven(learn(Proof.DOCUMENTED, "-" * 20), Proof.DOCUMENTED, now=90 * DAY)


@pytest.mark.parametrize(
    ("proof", "runs", "expected"),
    [
        (Proof.CAPTURED, "", False),
        (Proof.CAPTURED, "-----", False),
        (Proof.CAPTURED, "+", True),
        (Proof.CAPTURED, "-" * 50 + "+", True),
        (Proof.UNPROVEN, "+" * 9, False),
        (Proof.UNPROVEN, "+" * 10, True),
        (Proof.UNPROVEN, "+" * 9 + "-", True),
        (Proof.UNPROVEN, "+" * 8 + "--", False),
        (Proof.UNPROVEN, "-" * 100, False),
        # First started inside a block: once it is lifted, ten runs are enough.
        (Proof.UNPROVEN, "-" * 1000 + "+" * 10, True),
        (Proof.UNPROVEN, "-" * 1005 + "+" * 10, False),
        (Proof.UNPROVEN, "-" * 1005 + "+" * 15, True),
        # A quarter of the runs answered, as at 70 % loss, is no proof.
        (Proof.UNPROVEN, "+---" * 100, False),
    ],
)
def test_trust_is_earned(proof, runs, expected):
    assert proven(learn(proof, runs), proof, now=len(runs) * 60) is expected


def test_an_outage_does_not_undo_what_was_earned():
    record = learn(Proof.UNPROVEN, "+" * 10 + "-" * 5000, siblings=False)
    assert proven(record, Proof.UNPROVEN, now=100 * DAY)
    assert (record.runs, record.answered) == (10, 10)


def test_trust_lapses_after_thirty_days_of_silence_while_siblings_answer():
    record = learn(Proof.UNPROVEN, "+" * 10)
    record = after_run(record, Proof.UNPROVEN, False, True, 1 * DAY)
    assert proven(record, Proof.UNPROVEN, now=1 * DAY + LAPSE - 1)
    assert not proven(record, Proof.UNPROVEN, now=1 * DAY + LAPSE)
    # One answer is not ten.
    record = after_run(record, Proof.UNPROVEN, True, True, 40 * DAY)
    assert not proven(record, Proof.UNPROVEN, now=40 * DAY)
    record = learn(Proof.UNPROVEN, "+" * 9, record=record, start=40 * DAY)
    assert proven(record, Proof.UNPROVEN, now=41 * DAY)


def test_an_answer_in_time_ends_the_silence():
    record = learn(Proof.CAPTURED, "+-")
    record = after_run(record, Proof.CAPTURED, True, True, 29 * DAY)
    record = after_run(record, Proof.CAPTURED, False, True, 30 * DAY)
    assert proven(record, Proof.CAPTURED, now=31 * DAY)
    assert record.silent_since == 30 * DAY
    assert record.last_verified == 29 * DAY


def test_silence_of_the_whole_fleet_is_no_retirement():
    record = learn(Proof.CAPTURED, "+" + "-" * 10, siblings=False)
    assert record.silent_since is None


@pytest.mark.parametrize(
    ("proof", "asked", "answered", "expected"),
    [
        (Proof.CAPTURED, 5, 1, True),
        (Proof.CAPTURED, 5, 0, False),
        (Proof.UNPROVEN, 3, 3, True),
        (Proof.UNPROVEN, 2, 2, False),
        (Proof.UNPROVEN, 100, 90, True),
        (Proof.UNPROVEN, 100, 89, False),
        (Proof.UNPROVEN, 0, 0, False),
    ],
)
def test_a_calibration_file_may_vouch(proof, asked, answered, expected):
    assert proven(None, proof, asked=asked, answered=answered) is expected
    # Also for an agent that was first started inside a block.
    silent = learn(proof, "-" * 30, siblings=False)
    assert proven(silent, proof, asked=asked, answered=answered, now=1800) is expected


@given(st.sampled_from([Proof.CAPTURED, Proof.UNPROVEN]), st.text(alphabet="+-", max_size=80))
def test_no_trust_without_answers_and_none_is_lost_within_thirty_days(proof, runs):
    record = Record()
    was = False
    for number, sign in enumerate(runs):
        record = after_run(record, proof, sign == "+", True, number * 60.0)
        now = proven(record, proof, now=number * 60.0)
        assert now or not was
        if now:
            needed = 1 if proof is Proof.CAPTURED else 9
            assert runs[: number + 1].count("+") >= needed
        was = now
        assert record.answered <= record.runs
        assert record.earned or record.runs < RUNS_NEEDED or proof is Proof.CAPTURED
