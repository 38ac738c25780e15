"""``callpath calibrate`` in the simulated internet, and what its file is good for in a block."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.test_agent import by_channel, checked
from tests.lab.world import CLIENT_V4

pytestmark = [pytest.mark.lab, pytest.mark.slow]

INTERVAL = 1.5
SILENT = "91.108.9.35"


def calibrated(lab: Lab, directory: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one ``callpath calibrate``."""
    directory.mkdir()
    file = lab.configuration(directory, INTERVAL)
    command = ["calibrate", "--config", str(file), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    out, err = (process := lab.agent(command, **pipes)).communicate(timeout=150)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def test_relays_that_answered_a_calibration_decide_and_silent_ones_do_not(
    lab: Lab, tmp_path: Path
) -> None:
    lab.world.rules.add("drop", remote=(f"{SILENT}/32",))
    file = tmp_path / "open.json"
    arguments = ("--messenger", "telegram", "--for", "15s", "-o", str(file), "--json")
    code, out, err = calibrated(lab, tmp_path / "open", *arguments)
    assert code == 0, err
    assert CLIENT_V4 not in out + err + file.read_text()
    made = json.loads(file.read_text())
    assert json.loads(out)["calibration"] == made
    relays = {t.name: t.host for t in lab.catalogue.select(messenger="telegram", channel="call")}
    of_relays = [t for t in made["targets"] if t["target"] in relays and t["dress"] != "app"]
    silent = {t["target"] for t in of_relays if not t["answered"]}
    assert silent == {name for name, host in relays.items() if host == SILENT}
    assert {t["dress"] for t in of_relays if t["probe"] == "stun"} == {"bare", "ice", "rfc3489"}

    # Another place, of which nothing is known, inside a block.
    lab.restore()
    lab.world.rules.add("drop", **lab.call_relays("telegram"))
    inside = tmp_path / "inside"
    inside.mkdir()
    _, document = checked(lab, inside, "telegram", calibration=[str(file)])
    call = by_channel(document)[("telegram", "call")]
    assert call["status"] == "blocked"
    measured = {t["target"] for t in call["target_states"] if t["works"] is not None}
    decide = {t.name for t in lab.catalogue.targets if not t.fields.get("informative")} & measured
    assert SILENT in {relays[name] for name in decide & silent}
    assert call["targets"]["deciding"] == len(decide - silent)


def test_a_dead_line_is_exit_3(lab: Lab, tmp_path: Path) -> None:
    lab.world.rules.cut()
    file = tmp_path / "made.json"
    code, out, err = calibrated(lab, tmp_path / "cut", "--for", "15s", "-o", str(file))
    assert (code, out) == (3, "")
    assert "nothing was learned: this line is offline" in err
    assert not file.exists()
