"""What an outage of the line takes with it: what went on for long and failed since it began."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.outage import Outage
from agent.rounds import Runner, Seen
from agent.streamlog import StreamLog
from probes.model import Failure, Observation, Status, Step, StepResult
from tests.agent.building import environment, seen
from tests.agent.line import RELAYS, STUN
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


# --- the whole agent, round by round ---


async def test_bad_rounds_before_an_outage_do_not_count_after_it(line):
    await line.round()
    line.world.silent.update(RELAYS)
    await line.round(2)
    line.cut()
    await line.round()
    line.world.silent = set(RELAYS)
    assert (await line.statuses(2))["call"] == "ok"
    assert (await line.statuses(1))["call"] == "unreachable"


async def test_outages_that_begin_and_end_within_rounds_are_no_coming_and_going(line):
    """Controls are asked several times in a round, and may answer where a relay did not."""
    await line.round(12)
    for _ in range(3):
        line.world.silent.update(RELAYS)
        await line.round()
        line.cut()
        await line.round(3)
        line.world.silent = {*RELAYS, STUN[0]}
        await line.round()
        line.world.silent.clear()
        shown = await line.round(4)
        assert (shown["call"].status, shown["call"].intermittent) == (Status.OK, False)


async def test_a_block_on_a_line_that_often_fails_is_found_all_the_same(line):
    await line.round()
    line.cut()
    await line.round()
    line.world.silent = set(RELAYS)
    assert (await line.statuses(3))["call"] == "unreachable", "and the next outage comes then"


async def test_an_outage_after_a_reload_costs_what_it_cut_off_alone(line):
    await line.round(2)
    made = line.make()
    made.take_over(line.core)
    assert made._outage is line.core._outage


async def test_what_fails_in_the_first_round_after_an_outage_is_not_remembered(line):
    await line.round()
    line.cut()
    await line.round(3)
    line.world.silent = {*RELAYS, STUN[0]}
    await line.round()
    assert not line.core.follower.past.get("m")
    await line.round()
    assert {o.target.channel for o in line.core.follower.past["m"]} == {"call"}
