"""The command line of ``callpath calibrate``: what it is told, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent import calibrate, calibratedoor
from agent.calibrate import Blind
from agent.calibrated import Key, Tally, calibration
from agent.cli import app

runner = CliRunner()
AT = 1_795_000_000.0


@pytest.fixture(autouse=True)
def nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))

    async def refuses(*_: Any) -> str:
        raise Blind("this line is offline: no control answers")

    monkeypatch.setattr(calibrate, "calibrate", refuses)
    monkeypatch.setattr(calibratedoor, "is_healthy", lambda listen, **_how: "nobody there")
    monkeypatch.chdir(tmp_path)


def called(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["calibrate", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def written(name: str, answered: int = 10, catalogue: str = "2026.11.24", target: str = "a") -> str:
    counted = {Key("m", target, "stun", "bare"): Tally(10, answered, AT if answered else None)}
    made = calibration(counted, catalogue, "fixed", AT)
    Path(name).write_text(made.model_dump_json())
    return name


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--for", "3h"), "at most 2h"),
        (("--for", "0s"), "more than 0"),
        (("--for", "soon"), "--for"),
        (("--messenger", "nosuch"), "nosuch"),
        (("--network", "dsl"), "fixed, mobile, hosting"),
        (("-o", "/nosuch/made.json"), "cannot write"),
        (("-o", "."), "directory"),
        (("a.json",), "--merge and --diff"),
        (("--merge", "--diff", "a.json", "b.json"), "--merge and --diff"),
        (("--merge", "a.json", "-o", "c.json"), "two calibration files"),
        (("--merge", "a.json", "b.json"), "-o"),
        (("--merge", "a.json", "nosuch.json", "-o", "c.json"), "does not exist"),
        (("--merge", "a.json", "other.json", "-o", "c.json"), "different catalogues"),
        (("--merge", "a.json", "bad.json", "-o", "c.json"), "bad.json: targets[0]"),
        (("--diff", "a.json"), "two calibration files"),
        (("--config", "nosuch.yaml"), "nosuch.yaml"),
        (("--lists", "a.json"), "--lists takes no files"),
        (("--lists", "--merge"), "--lists takes no files"),
        (("--lists", "--messenger", "whatsapp"), "has lists"),
        (("--lists", "--messenger", "nosuch"), "nosuch"),
        (("--lists", "-o", "/nosuch/made.yaml"), "cannot write"),
    ],
)
def test_misuse_is_exit_2_with_a_sentence(arguments, word):
    for name in ("a.json", "b.json"):
        written(name)
    written("other.json", catalogue="2025.01.01")
    bad = json.loads(Path("a.json").read_text())
    bad["targets"][0]["answered"] = 11
    Path("bad.json").write_text(json.dumps(bad))
    code, out, err = called(*arguments)
    assert (code, out) == (2, "")
    assert word in err
    assert not Path("c.json").exists()


def test_what_will_be_sent_is_told_first_and_a_dead_line_is_exit_3(tmp_path):
    code, out, err = called("--for", "10m", "-o", "made.json")
    assert (code, out) == (3, "")
    first, last = err.splitlines()
    assert "requests" in first
    assert first.endswith("in 10 minutes")
    assert last == "nothing was learned: this line is offline: no control answers"
    assert not Path("made.json").exists()


def test_beside_an_agent_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(calibratedoor, "is_healthy", lambda listen, **_how: "")
    code, _, err = called("-o", "made.json")
    assert code == 2
    assert "an agent runs here" in err


def test_a_file_that_nobody_named_is_never_written_over(monkeypatch):
    written("calibration-20261128-1200.json")
    monkeypatch.setattr(
        calibratedoor.time, "strftime", lambda form, at: "calibration-20261128-1200.json"
    )
    code, _, err = called()
    assert code == 2
    assert "is there already" in err


def test_merging_writes_one_file():
    code, out, err = called("--merge", written("a.json"), written("b.json", 0), "-o", "c.json")
    assert (code, err) == (0, "")
    assert out == "Written to c.json: what 2 files say together.\n"
    (entry,) = json.loads(Path("c.json").read_text())["targets"]
    assert (entry["asked"], entry["answered"]) == (20, 10)


def test_a_diff_in_words_and_as_a_document():
    old, new = written("a.json"), written("b.json", 0, catalogue="2026.12.01")
    code, out, _ = called("--diff", old, new)
    assert code == 0
    assert out.splitlines() == [
        "The catalogue changed: 2026.11.24, now 2026.12.01.",
        "m, stun as bare: 1 target is silent, answered before: a (0 of 10, before 10 of 10)",
    ]
    (change,) = json.loads(called("--diff", old, new, "--json")[1])["changes"]
    assert (change["before"], change["now"], change["asked"]) == ("answers", "silent", 10)
    assert called("--diff", old, old)[1] == "Nothing changed.\n"
