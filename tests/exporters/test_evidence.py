"""Rounds as lines, and back; and lines that nobody of ours has written."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.evidence import observation_line, round_line, rows
from exporters.history import Row
from probes.model import Contrast, Failure, Observation, Step, StepResult, Target

AT = 1_800_000_000.123456


def observation(id: str = "o1", **more: Any) -> Observation:
    return Observation(
        id=id,
        target=Target("m", "call", "relay", "stun"),
        at=AT,
        steps=(StepResult(Step.RESOLVE, 0.01), StepResult(Step.EXCHANGE, 4.0, Failure.TIMEOUT)),
        facts={"address": "192.0.2.1", "requests": 5, "rtt": 0.5, "on": True, "all": ("a", "b")},
        **more,
    )


def row(number: int, *seen: Observation, messenger: str = "m", **more: Any) -> Row:
    given = {"kept": True, "anchor": number == 1, "judged": {"raw": []}, **more}
    return Row(id=number, at=AT + number, messenger=messenger, seen=seen, **given)


ROWS = [
    row(1, observation(), observation("o2", contrast=Contrast("o1", "dress"))),
    row(2, messenger="control"),
    row(3, observation("o3", partial=True), judged=None),
]


def lines(of: list[Row]) -> tuple[list[Any], list[Any]]:
    rounds = [json.loads(json.dumps(round_line(r))) for r in of]
    seen = [json.loads(json.dumps(observation_line(o, r.id))) for r in of for o in r.seen]
    return rounds, seen


def test_what_was_written_comes_out_again():
    assert list(rows(*lines(ROWS), "m")) == ROWS


def broken(key: str, value: Any) -> tuple[list[Any], list[Any]]:
    rounds, seen = lines(ROWS)
    (rounds[0] if key in rounds[0] and key not in ("at", "messenger") else seen[0])[key] = value
    return rounds, seen


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("round", "1"),
        ("round", None),
        ("judged", []),
        ("time", 1e300),
        ("time", -1),
        ("time", "now"),
        ("time", True),
        ("steps", [{"step": "teleport", "seconds": 1, "failure": None}]),
        ("steps", [{"step": "tls", "seconds": "1", "failure": None}]),
        ("steps", [{"step": "tls", "seconds": 1, "failure": "boredom"}]),
        ("steps", [{"step": "tls", "seconds": 1, "failure": None}] * 99),
        ("steps", 7),
        ("facts", []),
        ("facts", {"a": {"b": "c"}}),
        ("facts", {"a": [1]}),
        ("facts", {"a": None}),
        ("contrast", {"of": 1, "differs": "x"}),
        ("contrast", "x"),
        ("id", 7),
        ("messenger", None),
    ],
)
def test_what_nobody_of_ours_has_written(key, value):
    with pytest.raises(ValueError, match=r"\w"):
        list(rows(*broken(key, value), "m"))


def test_rounds_of_somebody_else_and_observations_of_no_round():
    rounds, seen = lines(ROWS)
    with pytest.raises(ValueError, match="nobody"):
        list(rows(rounds, seen, "other"))
    with pytest.raises(ValueError, match="no round"):
        list(rows(rounds[1:], seen, "m"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted({*round_line(ROWS[0]), *observation_line(ROWS[0].seen[0], 1)})


@given(st.sampled_from(KEYS), json_values, st.booleans())
def test_nothing_but_value_error_comes_of_any_json(key, value, of_round):
    rounds, seen = lines(ROWS)
    (rounds if of_round else seen)[0][key] = value
    with contextlib.suppress(ValueError):
        list(rows(rounds, seen, "m"))
