"""Many runs: groups that share a healthy start, each run a copy of the process that went there."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lab import innocent
from tests.lab.interference import everything
from tests.lab.scenario import Scenario
from tests.lab.trial import Found, Started, phase_of, started

SCENARIOS: dict[str, Scenario] = {s.name: s for s in (*everything.ALL, *innocent.ALL)}


@dataclass(frozen=True, slots=True)
class Group:
    """Runs, as (scenario's name, seed), from one healthy start."""

    profile: str
    start: int
    ipv6: bool
    cold: bool
    transfers: float | None
    decides: tuple[str, ...]
    runs: tuple[tuple[str, int], ...]


def groups(
    scenarios: Iterable[Scenario], profile: str, seeds: Sequence[int], size: int
) -> list[Group]:
    """``size`` seeds of every scenario share a start, and what kind of line it is."""
    kinds: dict[tuple[bool, bool, float | None, tuple[str, ...]], list[Scenario]] = {}
    for s in scenarios:
        kinds.setdefault((s.ipv6, s.cold, s.transfers, s.decides), []).append(s)
    return [
        Group(profile, seeds[at], *kind, runs)
        for at in range(0, len(seeds), size)
        for kind, its in kinds.items()
        if (runs := _runs(its, seeds[at : at + size]))
    ]


def _runs(scenarios: Sequence[Scenario], seeds: Sequence[int]) -> tuple[tuple[str, int], ...]:
    return tuple((s.name, seed) for seed in seeds for s in scenarios if seed <= s.most)


def played(groups: Sequence[Group], jobs: int) -> Iterator[Found]:
    """Every run of every group, ``jobs`` groups at once, as they end."""
    context = multiprocessing.get_context("fork")
    ended = context.SimpleQueue()
    with context.Pool(jobs, _tell, (ended,), maxtasksperchild=1) as pool:
        pool.map_async(_play_group, groups, chunksize=1)
        for _ in range(sum(len(group.runs) for group in groups)):
            yield ended.get()


_ended: Any = None


def _tell(ended: Any) -> None:
    global _ended
    _ended = ended


def _play_group(group: Group) -> None:
    left = set(group.runs)
    try:
        for found in play_group(group):
            left.discard((found.scenario, found.seed))
            _ended.put(found)
    except BaseException:  # or the others would wait for these for ever
        for name, seed in left:
            _ended.put(Found(name, group.profile, seed, error=traceback.format_exc()[-2000:]))


def play_group(group: Group) -> Iterator[Found]:
    logging.disable(logging.WARNING)  # what a world does to the agent is not news
    with tempfile.TemporaryDirectory() as directory:
        healthy = started(
            group.profile,
            group.start,
            Path(directory),
            ipv6=group.ipv6,
            cold=group.cold,
            transfers=group.transfers,
            decides=group.decides,
        )
        gc.collect()
        gc.freeze()  # or every copy would copy it all
        gc.disable()
        for name, seed in sorted(group.runs, key=lambda run: phase_of(run[1])):
            if not group.cold:
                healthy.go_on(phase_of(seed))
            yield _copied(healthy, SCENARIOS[name], seed)


def _copied(healthy: Started, scenario: Scenario, seed: int) -> Found:
    """One run in a copy of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(healthy, scenario, seed, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not data:
        return Found(scenario.name, healthy.profile, seed, error=f"ended with {status}")
    return Found(**json.loads(data))


def _run(healthy: Started, scenario: Scenario, seed: int, writing: int) -> None:
    """Never returns: what the test runner would do at its end is not this copy's to do."""
    try:
        found = healthy.play(scenario, seed)
    except BaseException:  # a bug of the model or of the agent: said in the matrix
        found = Found(scenario.name, healthy.profile, seed, error=traceback.format_exc()[-2000:])
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps(asdict(found)).encode())
    os._exit(0)
