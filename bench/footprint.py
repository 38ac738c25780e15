"""Memory of the agent with the shipped catalogue, and how soon it can be scraped.

In the lab, at ten times the pace: twenty rounds, so that everything has been asked and answered.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from bench.process import children, peak
from tests.lab.lab import Lab
from tests.lab.world import wait_until

STARTS = 5
ROUNDS = 20
INTERVAL = 6.0
METRICS = "http://127.0.0.1:22550/metrics"


def main() -> None:
    with Lab() as lab:
        starts = [_start(lab) for _ in range(STARTS)]
        print(
            f"first scrape: {statistics.median(starts):.2f} s after start"
            f" (median of {STARTS}: {', '.join(f'{s:.2f}' for s in sorted(starts))})"
        )
        _memory(lab)


def _start(lab: Lab) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        agent = lab.agent(["run", "--yes", "--config", str(lab.configuration(Path(folder)))])
        wait_until(lambda: _scrape(lab), "the first scrape", 30)
        seconds = time.monotonic() - began
        agent.terminate()
        agent.wait(30)
    return seconds


def _memory(lab: Lab) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = lab.configuration(Path(folder), INTERVAL)
        agent = lab.agent(["run", "--yes", "--config", str(file)])
        time.sleep(ROUNDS * INTERVAL)
        web = children(agent.pid)
        page = _scrape(lab)
        print(f"main process: {peak(agent.pid):.0f} MiB at its peak, after {ROUNDS} rounds")
        for child in web:
            print(f"web process: {peak(int(child)):.0f} MiB at its peak")
        print(f"/metrics: {len(page.splitlines())} lines, {len(page) // 1024} KiB")
        agent.terminate()
        agent.wait(30)


def _scrape(lab: Lab) -> str:
    try:
        return lab.world.call(_fetch)
    except OSError:
        return ""


def _fetch() -> str:
    with urlopen(METRICS, timeout=5) as answer:
        return str(answer.read().decode())
