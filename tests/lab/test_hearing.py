"""A sample of what docs/call-quality.md says of thousands of runs; ``make lab`` plays them all."""

from __future__ import annotations

import shutil

import pytest

from probes.model import Mechanism
from tests.lab import hearing
from tests.lab.hearing import GUILTY, INNOCENT, KEPT_WITHIN, MARKS, ROOT, TARGETED, trial

PAGE = ROOT / "docs" / "call-quality.md"
SURE = [world for world in GUILTY if world.least]
SAYS = {
    "7 % on everything": Mechanism.MEDIA_DEGRADED_GENERAL,
    "15 points more on the transit": Mechanism.PATH_DEGRADED,
    "a slow line, 96 kbit/s": Mechanism.MEDIA_DEGRADED_GENERAL,
    "a server that limits flows to 20/s": Mechanism.RATE_LIMITED,
    "a server that limits hosts to 40/s": Mechanism.RATE_LIMITED,
}


@pytest.mark.parametrize("world", SURE, ids=lambda world: world.name)
def test_a_relay_that_is_singled_out_is_found(world):
    assert sum(bool(trial(world, seed).first) for seed in (1, 2)) >= 1


@pytest.mark.parametrize("world", INNOCENT, ids=lambda world: world.name)
def test_nobody_is_accused_of_what_nobody_does(world):
    found = trial(world, 1)
    assert found.first == 0
    assert found.last == SAYS.get(world.name, found.last)


def test_a_keepalive_finds_fifteen_percent_in_time():
    found = [hearing.minutes_until_degraded(0.15, seed) for seed in range(1, 5)]
    assert sum(m is not None and m <= KEPT_WITHIN for m in found) >= 3
    assert hearing.minutes_until_degraded(0.0, 1) is None


def test_both_streams_take_turns_at_random():
    sent = [
        event for event in hearing.sends(hearing.VOIP20, 1) if event.stream in ("target", "twin")
    ]
    firsts = [a.stream for a, b in zip(sent[::2], sent[1::2], strict=True)]
    assert firsts.count("target") == 750
    assert firsts != ["target", "twin"] * 750


def test_the_page_has_a_row_for_every_world():
    figures = PAGE.read_text().split(MARKS[0])[1].split(MARKS[1])[0]
    rows = [line.split("|")[1].strip() for line in figures.splitlines() if line.startswith("|")]
    assert [row for row in rows if row in {w.name for w in hearing.WORLDS}] == [
        world.name for world in hearing.WORLDS
    ]


def test_the_table_and_its_place(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    code = hearing.main(["--trials", "2", "--only", "nothing", "--jobs", "1", "--out", str(page)])
    text = page.read_text()
    assert code == 0
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| nothing | 0 | 0 | – | `fine` 100.0% |" in text
    hearing.main(["--trials", "2", "--only", "nothing", "--jobs", "1", "--out", str(page)])
    assert page.read_text() == text


def test_what_is_no_page_yet_becomes_one(tmp_path):
    page = tmp_path / "new.md"
    hearing.written(page, "first")
    assert "first" in page.read_text()
    hearing.written(page, "others")
    assert "first" not in page.read_text()


def test_what_does_not_hold_is_told():
    guilty = next(world for world in GUILTY if world.least == 0.95)
    innocent = INNOCENT[0]
    heard = [hearing.Heard("", 2, TARGETED)] * 96 + [hearing.Heard("", 0, "bad")] * 4
    assert hearing.holds(guilty, heard)
    assert not hearing.holds(guilty, [*heard, *heard[-2:]])
    assert not hearing.holds(innocent, heard)


@pytest.mark.long
def test_a_thousand_runs_each(tmp_path):
    page = tmp_path / "call-quality.md"
    shutil.copy(PAGE, page)
    assert hearing.main(["--out", str(page)]) == 0
