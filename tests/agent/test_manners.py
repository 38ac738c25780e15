"""What the agent allows itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from agent import manners
from agent.manners import Limits, Manners
from probes.model import Target
from probes.net.environment import Traffic
from probes.net.errors import NotMeasured
from tests.agent.building import Clock

A, B = "192.0.2.1", "192.0.2.2"
RELAY = Target("m", "call", "relay", "stun")


class Sleeping:
    """Stands for asyncio: sleeping moves the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.forward(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(manners, "time", clock.module)
    return clock


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Sleeping:
    made = Sleeping(clock)
    monkeypatch.setattr(manners, "asyncio", made)
    return made


def limited(**given: Any) -> Manners:
    values: dict[str, Any] = {
        "min_interval": 60.0,
        "packets_per_target_per_minute": 1000,
        "bytes_per_day": 10**9,
        **given,
    }
    return Manners(Limits(**values), Traffic())


async def asked(of: Manners, address: str = A, port: int = 3478, kind: str = "stun", packets=5):
    """ "" when it may be asked, else why not."""
    try:
        await of.check(RELAY, address, port, kind, packets)
    except NotMeasured as error:
        return error.reason
    return ""


# --- one check per address, port and kind in the interval ------------------------------------


async def test_spacing(clock, sleeping):
    of = limited()
    assert await asked(of) == ""
    clock.forward(53)
    assert await asked(of) == "min_interval"
    clock.forward(7)
    assert await asked(of) == ""
    assert sleeping.slept == []


async def test_what_comes_a_little_early_is_held_back(clock, sleeping):
    of = limited()
    await asked(of)
    clock.forward(55)
    assert await asked(of) == ""
    assert sleeping.slept == [5.0]
    clock.forward(53)
    assert await asked(of) == "min_interval"  # counted from when it was let go


async def test_two_that_come_early_are_not_both_let_go(clock, sleeping):
    of = limited()
    await asked(of)
    clock.forward(55)
    found = await asyncio.gather(asked(of), asked(of))
    assert sorted(found) == ["", "min_interval"]


@pytest.mark.parametrize("other", [{"address": B}, {"port": 443}, {"kind": "turn"}])
async def test_other_questions_are_apart(clock, sleeping, other):
    of = limited()
    await asked(of)
    assert await asked(of, **other) == ""


async def test_a_pause_that_begins_while_a_check_is_held_back_stops_it(clock, sleeping):
    of = limited()
    await asked(of)
    clock.forward(55)
    task = asyncio.create_task(asked(of))
    await asyncio.sleep(0)
    of.paused = True
    assert await task == "paused"


# --- handshakes ------------------------------------------------------------------------------


async def handshaken(of: Manners, address: str = A, name: str = "a.example") -> str:
    try:
        await of.handshake(address, name)
    except NotMeasured as error:
        return error.reason
    return ""


async def test_two_handshakes_a_minute_for_one_name_at_one_destination(clock, sleeping):
    of = limited()
    assert await handshaken(of) == ""
    clock.forward(10)
    assert await handshaken(of) == ""
    assert await handshaken(of) == "handshake_rate"
    assert await handshaken(of, name="b.example") == ""
    assert await handshaken(of, address=B) == ""
    clock.forward(49)
    assert await handshaken(of) == "handshake_rate"
    clock.forward(1)
    assert await handshaken(of) == ""


async def test_handshakes_to_one_destination_are_half_a_second_apart(clock, sleeping):
    of = limited()
    starts = []
    for name in "abcdef":
        assert await handshaken(of, name=name) == ""
        starts.append(clock.steady)
    gaps = [later - before for before, later in pairwise(starts)]
    assert gaps == pytest.approx([manners.HANDSHAKE_GAP] * 5)
    before = clock.steady
    await handshaken(of, address=B)
    assert clock.steady == before  # another destination waits for nobody


async def test_handshakes_that_come_at_once_queue(clock, monkeypatch):
    of = limited()
    waits: list[float] = []

    class Asyncio:
        @staticmethod
        async def sleep(seconds: float) -> None:
            waits.append(round(seconds, 3))

    monkeypatch.setattr(manners, "asyncio", Asyncio)
    await asyncio.gather(*(handshaken(of, name=name) for name in "abcd"))
    assert waits == [0.5, 1.0, 1.5]


# --- budgets ---------------------------------------------------------------------------------


async def test_packets_per_target_and_minute(clock, sleeping):
    of = limited(packets_per_target_per_minute=12)
    assert await asked(of, port=1, packets=5) == ""
    clock.forward(30)
    assert await asked(of, port=2, packets=5) == ""
    assert await asked(of, port=3, packets=5) == "packet_budget"
    assert await asked(of, port=4, packets=2) == ""
    clock.forward(30)
    assert await asked(of, port=5, packets=5) == ""
    with_other_name = Target("m", "call", "other", "stun")
    await of.check(with_other_name, A, 6, "stun", 12)


async def test_bytes_of_a_day_both_directions(clock, sleeping):
    of = limited(bytes_per_day=1000)
    of.traffic.add(400, 599)
    assert await asked(of) == ""
    of.traffic.add(1, 0)
    assert await asked(of, port=1) == "byte_budget"
    assert await handshaken(of) == "byte_budget"
    assert of.refusal() == "byte_budget"


async def test_a_new_utc_day_begins_with_nothing_spent(clock, sleeping):
    clock.wall = datetime(2026, 11, 24, 23, 59, tzinfo=UTC).timestamp()
    of = limited(bytes_per_day=1000)
    of.traffic.add(500, 500)
    assert of.spent_today() == 1000
    clock.forward(59)
    assert of.spent_today() == 1000
    assert of.day == "2026-11-24"
    clock.forward(1)
    assert of.spent_today() == 0
    assert of.day == "2026-11-25"
    of.traffic.add(10, 5)
    assert of.spent_today() == 15
    assert await asked(of) == ""


def test_what_was_spent_before_a_restart_counts():
    of = limited(bytes_per_day=1000)
    of.spent_today()
    restarted = limited(bytes_per_day=1000)
    restarted.day, restarted.day_bytes = of.day, 999
    restarted.traffic.add(1, 0)
    assert restarted.spent_today() == 1000
    assert restarted.refusal() == "byte_budget"


async def test_a_reload_is_no_licence_to_ask_twice(clock, sleeping):
    old = limited(bytes_per_day=1000)
    await asked(old)
    await handshaken(old)
    await handshaken(old)
    old.traffic.add(300, 300)
    assert old.spent_today() == 600
    new = limited(bytes_per_day=1000)
    new.inherit(old)
    assert await asked(new) == "min_interval"
    assert await handshaken(new) == "handshake_rate"
    assert new.spent_today() == 600
    old.paused = True
    new.inherit(old)
    assert new.refusal() == "paused"


async def test_paused(clock, sleeping):
    of = limited()
    of.paused = True
    assert await asked(of) == "paused"
    assert await handshaken(of) == "paused"
    of.paused = False
    assert await asked(of) == ""


# --- laboratories ----------------------------------------------------------------------------


async def test_fast_prefixes_have_no_packet_and_handshake_rates(clock, sleeping):
    of = limited(
        min_interval=1.0,
        packets_per_target_per_minute=1,
        fast_prefixes=("192.0.2.0/24", "2001:db8::/32"),
    )
    for _ in range(5):
        assert await asked(of) == ""
        assert await handshaken(of) == ""
        assert await asked(of, address="2001:db8::1") == ""
        clock.forward(1)
    assert sleeping.slept == []


async def test_outside_of_them_a_short_interval_reaches_nobody(clock, sleeping):
    of = limited(min_interval=1.0, fast_prefixes=("192.0.2.0/24",))
    assert await asked(of, address="198.51.100.1") == "outside_fast_prefixes"
    assert await asked(of, address="2001:db8::1") == "outside_fast_prefixes"


async def test_inside_the_interval_still_holds(clock, sleeping):
    of = limited(min_interval=10.0, fast_prefixes=("192.0.2.0/24",))
    assert await asked(of) == ""
    clock.forward(5)
    assert await asked(of) == "min_interval"


async def test_memory_stays_flat(clock, sleeping):
    of = limited()
    for number in range(200):
        await asked(of, address=f"198.51.100.{number}")
        await handshaken(of, address=f"198.51.100.{number}")
        clock.forward(60)
        of.forget_old()
    kept = [len(of._last), len(of._handshakes), len(of._packets), len(of._next_handshake)]
    assert max(kept) <= 3
    assert await asked(of, address="198.51.100.199") == ""
