"""Calls and streams from the subscriber's line: a program, with its orders on standard input and
what it saw on standard output, both pickled."""

from __future__ import annotations

import asyncio
import pickle
import sys
from dataclasses import dataclass

from probes.call import CallProbe
from probes.measure import Check, measure
from probes.media import MediaProbe
from probes.model import Observation, Target
from probes.net.address import OwnAddresses
from probes.net.environment import Beside, Environment
from tests.lab.flows import FlowStreams


@dataclass(frozen=True, slots=True)
class Order:
    """One run: of which probe, to which relay, held against what."""

    target: Target
    address: str
    port: int
    probe: CallProbe | MediaProbe
    beside: tuple[Beside, ...]


async def call(order: Order) -> tuple[Observation, ...]:
    env = Environment(
        own=OwnAddresses(local=frozenset()), streams=FlowStreams(), beside=order.beside
    )
    measured = await measure(Check(order.target, order.probe, order.address, order.port), env)
    return measured.observations


async def call_all(orders: list[Order]) -> list[tuple[Observation, ...]]:
    return list(await asyncio.gather(*map(call, orders)))


if __name__ == "__main__":
    made = asyncio.run(call_all(pickle.load(sys.stdin.buffer)))
    pickle.dump(made, sys.stdout.buffer)
