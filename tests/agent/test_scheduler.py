"""When rounds run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import scheduler
from agent.scheduler import Beats, Schedule
from tests.agent.building import Clock, until

INTERVAL = 60.0


def beats(seed: int = 1, first: float = 1000.0) -> Beats:
    return Beats(INTERVAL, first, random.Random(seed))


@given(st.integers(0, 10_000), st.floats(0, 3600))
def test_beats_are_never_shorter_than_the_interval_and_a_fifth_longer_at_most(seed, first):
    of = beats(seed, first)
    due = [of.after(None, first)]
    for _ in range(100):
        due.append(of.after(due[-1], due[-1]))
    gaps = [b - a for a, b in pairwise(due)]
    assert all(INTERVAL - 1e-6 <= gap <= 1.2 * INTERVAL + 1e-6 for gap in gaps)
    assert len(set(gaps)) > 50  # drawn anew each time


def test_the_first_beat_is_the_one_that_was_given():
    assert beats().after(None, 1000.0) == 1000.0
    assert beats().after(None, 900.0) == 1000.0


def test_all_jobs_are_on_one_beat():
    of = beats()
    one, other = of.after(None, 1000.0), of.after(None, 1000.0)
    for _ in range(200):
        assert one == other
        assert of.current(one + 0.1) is of.current(other + 0.3)
        one, other = of.after(one, one + 0.1), of.after(other, other + 0.3)


def test_each_beat_is_another():
    of = beats()
    first = of.current(1000.0)
    assert first.at == 1000.0
    second = of.current(of.after(1000.0, 1000.0) + 0.01)
    assert second is not first
    assert second.controls is None


def test_an_instant_rounded_by_apscheduler_gives_no_second_beat():
    of = beats()
    due = of.after(None, 1000.0)
    assert of.after(due - 0.0004, due) > due + 1


def test_memory_stays_flat():
    of = beats()
    at = of.after(None, 1000.0)
    for _ in range(1000):
        of.current(at)
        at = of.after(at, at)
    assert len(of._due) <= 64
    assert len(of._beats) <= 4


def test_a_sleep_spoils_the_beat_under_way_and_the_next():
    of = beats()
    first = of.current(1000.0)
    of.spoil_next(1030.0)
    assert first.spoiled
    at = of.after(1000.0, 1000.0)
    assert of.current(at).spoiled
    assert not of.current(of.after(at, at)).spoiled


def test_a_sleep_after_which_the_clock_is_set_spoils_the_next_beat_all_the_same():
    of = beats()
    of.current(1000.0)
    of.spoil_next(1030.0)
    anew = of.begin_anew(5000.0)
    assert anew.current(5000.0).spoiled
    assert not anew.current(anew.after(5000.0, 5000.0)).spoiled


# --- the schedule, for real and fast ---------------------------------------------------------


class Recorder:
    def __init__(self) -> None:
        self.ran: list[tuple[str, object]] = []
        self.skipped: Counter[str] = Counter()
        self.lags: list[float] = []
        self.ended = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def work(self, name: str, beat: object) -> None:
        self.ran.append((name, beat))
        await self.gate.wait()
        self.ended += 1

    def schedule(self, names: str = "ab", interval: float = 1.0) -> Schedule:
        return Schedule(
            tuple(names),
            interval,
            self.work,
            skipped=lambda reason: self.skipped.update((reason,)),
            lag=self.lags.append,
        )


async def test_every_name_runs_on_every_beat():
    recorder = Recorder()
    schedule = recorder.schedule()
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) >= 4)
    await schedule.stop()
    assert [name for name, _ in recorder.ran[:4]] in (list("abab"), list("abba"), list("baba"))
    assert recorder.ran[0][1] is recorder.ran[1][1]
    assert recorder.ran[2][1] is not recorder.ran[1][1]
    assert len(recorder.lags) == len(recorder.ran)
    assert min(recorder.lags) >= 0


async def test_a_round_that_runs_too_long_is_not_started_again_and_counted():
    recorder = Recorder()
    recorder.gate.clear()
    schedule = recorder.schedule("a")
    schedule.start(soon=0.06)
    await until(lambda: recorder.skipped["overlap"] >= 1)
    assert len(recorder.ran) == 1
    recorder.gate.set()
    await until(lambda: len(recorder.ran) >= 2)
    await schedule.stop()


async def test_late_ticks_are_dropped_and_each_is_counted():
    """The loop stands still over three beats and more."""
    recorder = Recorder()
    schedule = recorder.schedule("a")
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) >= 1)
    before = len(recorder.ran)
    import time

    time.sleep(4.9)  # noqa: ASYNC251 - the very thing that is tested
    await until(lambda: len(recorder.ran) > before)
    await schedule.stop()
    assert recorder.skipped["late"] >= 2
    assert recorder.skipped["late"] + len(recorder.ran) <= 8


async def test_a_bug_in_a_round_costs_only_that_round(caplog):
    recorder = Recorder()

    async def broken(name: str, beat: object) -> None:
        recorder.ran.append((name, beat))
        raise KeyError("a bug")

    schedule = Schedule("a", 1.0, broken, lambda reason: None, lambda lag: None)
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) >= 2)
    await schedule.stop()
    assert "bug in the round of a" in caplog.text


async def test_stop_cuts_rounds_off_and_starts_no_other():
    recorder = Recorder()
    recorder.gate.clear()
    schedule = recorder.schedule()
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) == 2)
    await schedule.stop()
    assert recorder.ended == 0
    await asyncio.sleep(1.3)
    assert len(recorder.ran) == 2


async def test_drain_lets_rounds_end():
    recorder = Recorder()
    recorder.gate.clear()
    schedule = recorder.schedule()
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) == 2)
    asyncio.get_running_loop().call_later(0.3, recorder.gate.set)
    await schedule.drain(5)
    assert recorder.ended == 2


async def test_drain_waits_no_longer_than_told():
    recorder = Recorder()
    recorder.gate.clear()
    schedule = recorder.schedule()
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) == 2)
    async with asyncio.timeout(5):
        await schedule.drain(0.2)
    assert recorder.ended == 0


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    found = {"wall": 0.0, "boot": 0.0}
    monkeypatch.setattr(scheduler, "_wall_offset", lambda: found["wall"])
    monkeypatch.setattr(scheduler, "_boot_offset", lambda: found["boot"])
    return found


async def test_a_set_clock_begins_the_beat_anew(offsets):
    recorder = Recorder()
    schedule = recorder.schedule("a", 2.0)
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) == 1)
    first = schedule._beats
    offsets["wall"] = -3600.0
    await until(lambda: schedule._beats is not first)
    await until(lambda: len(recorder.ran) >= 2)
    await schedule.stop()


async def test_a_sleep_of_the_host_spoils_beats(offsets):
    recorder = Recorder()
    schedule = recorder.schedule("a", 2.0)
    schedule.start(soon=0.06)
    await until(lambda: len(recorder.ran) == 1)
    offsets["boot"] = 60.0
    await until(lambda: recorder.ran[0][1].spoiled)
    await until(lambda: len(recorder.ran) == 2)
    await schedule.stop()
    assert recorder.ran[1][1].spoiled


def test_the_fake_clock_is_a_clock():
    clock = Clock()
    before = clock.module.time()
    clock.forward(5)
    assert clock.module.time() - before == 5
