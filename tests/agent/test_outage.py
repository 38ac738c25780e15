"""What an outage of the line takes with it: what went on for long and failed since it began."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.outage import Outage
from agent.rounds import Runner, Seen
from agent.streamlog import StreamLog
from probes.model import Failure, Observation, Step, StepResult
from tests.agent.building import environment, seen
from tests.agent.streaming import M1
from tests.agent.worlds import R1

ROUND = 60.0


def stream(began: float, lasted: float, failure: Failure | None = Failure.LOSSY) -> Observation:
    made = seen(M1, failure, Step.STREAM, at=began)
    return replace(made, steps=(StepResult(Step.STREAM, lasted, failure),))


@pytest.mark.parametrize(
    ("observation", "goes"),
    [
        (stream(70.0, 30.0), True),
        (stream(50.0, 30.0), True),
        (stream(20.0, 30.0), False),
        (stream(70.0, 30.0, None), False),
        (seen(R1, Failure.TIMEOUT, at=70.0), False),
    ],
    ids=["begun since", "begun before", "over before", "it was good", "one question"],
)
def test_what_was_cut_off_is_forgotten(observation, goes):
    runner = Runner("m", (M1,), environment(), asyncio.Semaphore())
    name, log = observation.target.name, StreamLog()
    runner.seen[name] = Seen(conclusive=(observation,), at=observation.at)
    log.runs["m"] = {name: (observation,)}
    outage = Outage()
    steps = [
        outage.step(bool(down), False, n * ROUND, [runner], log.drop)
        for n, down in enumerate((0, 0, 1))
    ]
    assert not any(steps)
    assert runner.seen[name].conclusive == (() if goes else (observation,))
    assert log.of("m")[name] == (() if goes else (observation,))


def test_the_first_round_after_one_is_told():
    outage, told = Outage(), []
    for number, down in enumerate((0, 1, 1, 0, 0, 1, 0)):
        told.append(outage.step(bool(down), False, number * ROUND, []))
    assert told == [False, False, False, True, False, False, True]


def test_a_host_that_slept_leaves_nothing_to_settle():
    outage = Outage()
    assert not any(outage.step(False, slept, 0.0, []) for slept in (False, True, True, False))
