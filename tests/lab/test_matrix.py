"""A sample of the scenarios on the virtual clock, and what the page says of it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import innocent, matrix, trials
from tests.lab.interference import everything
from tests.lab.scenario import says
from tests.lab.trial import Bugs, Found
from tests.lab.trials import SCENARIOS
from tests.lab.world import ROOT

EVERY = 3


def played(kept: Path) -> list[Found]:
    """In a process of its own, since every run is a copy of it."""
    few = ("--seeds", "1", "--innocent-seeds", "1", "--quick", "--no-real", "--no-research")
    command = [sys.executable, "-m", "tests.lab.matrix", *few, "--every", str(EVERY)]
    subprocess.run([*command, "--out", "-", "--keep", str(kept)], cwd=ROOT, check=False)
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    return [Found(**{k: v for k, v in row.items() if k != "real"}) for row in rows]


@pytest.mark.slow
def test_a_third_of_the_scenarios_end_as_they_should(tmp_path: Path) -> None:
    """All of them, with many seeds, are for ``make lab``."""
    found = played(tmp_path / "runs.jsonl")
    assert [f for f in found if f.error] == []
    quick = [s.name for s in SCENARIOS.values() if s.minutes <= matrix.QUICK]
    assert {f.scenario for f in found} == set(quick[::EVERY])
    counted = [f for f in found if not SCENARIOS[f.scenario].later]
    guilty = [f for f in counted if not SCENARIOS[f.scenario].innocent]
    assert len(guilty) > 20
    assert [f for f in guilty if not f.right] == []
    assert [f for f in counted if SCENARIOS[f.scenario].innocent and f.accused] == []
    assert [f for f in counted if _is_late(f)] == []


def _is_late(f: Found) -> bool:
    goal = SCENARIOS[f.scenario].goal
    return goal is not None and (f.entered is None or f.entered > goal)


def test_a_bug_of_the_agents_own_is_an_error_of_the_run() -> None:
    found = Found("any", "client", 1)
    log, handler = logging.getLogger("callpath.test"), Bugs(found)
    log.addHandler(handler)
    log.propagate = False
    try:
        log.warning("what a world does")
        assert found.error == ""
        log.error("bug in the check %s", "a")
        log.error("bug in the check %s", "b")
    finally:
        log.removeHandler(handler)
    assert found.error == "bug in the check a"


def test_there_are_enough_of_them_and_no_name_twice() -> None:
    assert len(everything.ALL) >= 70
    assert len({*everything.ALL}) + len({*innocent.ALL}) == len(SCENARIOS)


def test_every_seed_of_every_scenario_is_played_once() -> None:
    chosen = list(SCENARIOS.values())
    made = trials.groups(chosen, "client", range(1, 8), 3)
    runs = [run for group in made for run in group.runs]
    assert len(runs) == len(set(runs))
    assert set(runs) == {(s.name, seed) for s in chosen for seed in range(1, 8) if seed <= s.most}


def found(name: str, **given: object) -> Found:
    return Found(name, "client", 1, **given)  # type: ignore[arg-type] # fields of Found


def test_a_share_below_the_line_fails_and_so_does_one_accusation() -> None:
    right = [found("relays dropped", right=True) for _ in range(97)]
    wrong = [found("relays dropped") for _ in range(3)]
    clean, accusing = found("healthy"), found("healthy", accused=["m c: ip_drop"])
    assert matrix.holds([*right, *wrong, clean])
    assert not matrix.holds([*right, *wrong, *wrong, clean])
    assert not matrix.holds([*right, *wrong, accusing])
    assert not matrix.holds([*right, found("healthy", error="KeyError")])


def test_the_page_says_what_was_found_instead() -> None:
    s = SCENARIOS["relays dropped"]
    runs = [
        found(s.name, right=True, entered=3.0, minutes=3.5, packets=2000),
        found(s.name, last={"telegram call": "unreachable inconclusive"}),
    ]
    text = matrix.page([s], runs, [], 60.0)
    assert "| relays dropped | S58 | telegram call blocked `udp_relay_block` | 1/2 |" in text
    assert "3.0, 3.0 (goal 4)" in text
    assert "| relays dropped | client | telegram call: unreachable inconclusive | 1 |" in text


def test_expectations_are_read_as_they_are_written() -> None:
    e = says("telegram call", "blocked|degraded", "ip_drop|udp_relay_block")
    assert (e.messenger, e.channel) == ("telegram", "call")
    assert e.status == ("blocked", "degraded")
    assert e.mechanism == ("ip_drop", "udp_relay_block")
    assert says("telegram call", "ok").mechanism == ()
