"""``make run`` as a newcomer types it, in a network namespace without a route."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.lab


def _require() -> None:
    problem = ""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("make"):
        problem = "needs root, unshare and make"
    elif not (ROOT / ".venv" / ".installed").exists():
        problem = "needs what make setup makes; make test does it first"
    if problem and os.environ.get("CI") == "true":
        pytest.fail(problem, pytrace=False)
    if problem:
        pytest.skip(problem)


@contextmanager
def _made_to_run(directory: Path) -> Iterator[subprocess.Popen[str]]:
    log = (directory / "log").open("w")
    environment = {**os.environ, "XDG_STATE_HOME": str(directory)}
    script = 'ip link set lo up && exec make --no-print-directory run ARGS="--yes"'
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
        log.close()


def _inside(process: subprocess.Popen[str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["nsenter", "--net", "--target", str(process.pid), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


def _status(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    fetch = (
        "import sys, urllib.request;"
        "sys.stdout.write(urllib.request.urlopen("
        "'http://127.0.0.1:22550/api/v1/status', timeout=5).read().decode())"
    )
    answer = _inside(process, str(ROOT / ".venv/bin/python"), "-c", fetch)
    return json.loads(answer.stdout) if answer.returncode == 0 else None


def test_make_run_serves_and_without_a_line_knows_nothing(tmp_path: Path) -> None:
    _require()
    with _made_to_run(tmp_path) as process:
        deadline = time.monotonic() + 60
        status = None
        while time.monotonic() < deadline and process.poll() is None:
            status = _status(process)
            if status and status["vantage"]["status"] == "offline":
                break
            time.sleep(0.5)
        assert status, (tmp_path / "log").read_text()
        assert status["vantage"]["status"] == "offline"
        assert {c["status"] for c in status["channels"]} == {"unknown"}
        assert {c["messenger"] for c in status["channels"]} == {"whatsapp", "telegram"}
        healthy = _inside(process, str(ROOT / ".venv/bin/callpath"), "healthcheck")
        assert (healthy.returncode, healthy.stdout.strip()) == (0, "healthy")
    assert "Traceback" not in (tmp_path / "log").read_text()
