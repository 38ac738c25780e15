"""``callpath history`` over what an agent has left."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer.testing

from agent import historydoor
from agent.cli import app
from exporters.historydocument import COLUMNS
from tests.agent.line import RELAYS, Line

USAGE = 2


def asked(line: Line, *words: str):
    file = line.folder.parent / "callpath.yaml"
    file.write_text(f"state_dir: {line.folder}\n")
    return typer.testing.CliRunner().invoke(app, ["history", *words, "--config", str(file)])


@pytest.fixture
async def outage(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Four good rounds and six without a relay, while it lasts."""
    monkeypatch.setattr(historydoor, "time", line.clock.module)
    await line.round(4)
    line.world.silent.update(RELAYS)
    await line.round(6)
    return line


async def test_an_outage_in_every_form(outage):
    told = asked(outage)
    assert told.exit_code == 0
    assert "unreachable" in told.stdout
    assert "7 min, still" in told.stdout
    document = json.loads(asked(outage, "--json").stdout)
    [found] = document["outages"]
    assert (found["messenger"], found["channel"], found["to"]) == ("m", "call", None)
    assert found["from"] < document["at"]
    [row] = csv.DictReader(asked(outage, "--csv", "m").stdout.splitlines())
    assert tuple(row) == COLUMNS
    assert row["status"] == "unreachable"


async def test_what_was_not_measured_is_no_good_news(outage):
    told = asked(outage, "telegram").stdout
    assert "Nothing was measured in that time." in told
    assert "No outage" not in told
    told = asked(outage, "m", "telegram", "--since", "1d").stdout
    assert "Nothing is known of that time: telegram call" in told
    assert "Not known for 23 h 49 min of it: m call" in told
    document = json.loads(asked(outage, "--since", "1d", "--json").stdout)
    unknown = {(one["messenger"], one["channel"]): one["seconds"] for one in document["not_known"]}
    assert unknown["telegram", "call"] == 86400.0
    assert 85000.0 < unknown["m", "call"] < 86400.0


async def test_a_messenger_of_which_nobody_has_heard_is_an_error(outage):
    told = asked(outage, "telegran")
    assert told.exit_code == USAGE
    assert "telegran" in told.stderr


async def test_judging_again_says_what_it_could_not_judge(outage):
    """The messengers of the default configuration have no rounds here."""
    told = asked(outage, "--rediagnose")
    assert "0 rounds judged again, 0 verdicts differ" in told.stdout
    document = json.loads(asked(outage, "--rediagnose", "--json").stdout)
    assert document["rediagnosed"] == {"rounds": 0, "left_out": {}, "differing": []}


async def test_judging_again(outage):
    told = historydoor.look_back(outage.core.config, (), 86400.0, True, outage.folder)
    assert told.counted.judged == 10
    assert told.differing == []


def test_there_is_nothing_yet(tmp_path: Path):
    file = tmp_path / "callpath.yaml"
    file.write_text(f"state_dir: {tmp_path / 's'}\n")
    told = typer.testing.CliRunner().invoke(app, ["history", "--config", str(file)])
    assert told.exit_code == USAGE
    assert "nothing is remembered yet" in told.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("words", [("--since", "soon"), ("--csv", "--json")])
async def test_usage(outage, words):
    assert asked(outage, *words).exit_code == USAGE
