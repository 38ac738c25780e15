"""Does the lab's Prometheus scrape what stands where the agent will stand, and answer questions?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import prometheus
from tests.lab.lab import Lab
from tests.lab.prometheus import Prometheus, check_metrics
from tests.lab.skipping import require_lab
from tests.lab.world import LabError, wait_until

pytestmark = pytest.mark.lab

EXPOSITION = """\
# HELP callpath_rounds_total Rounds that were started.
# TYPE callpath_rounds_total counter
callpath_rounds_total{messenger="telegram"} 7
"""


@pytest.fixture
def scraping(lab: Lab, tmp_path: Path) -> Iterator[Prometheus]:
    """A file server in the agent's place."""
    require_lab(*prometheus.PROGRAMS)
    (tmp_path / "metrics").write_text(EXPOSITION)
    address, port = prometheus.AGENT.split(":")
    command = [sys.executable, "-m", "http.server", "--bind", address, port]
    agent = lab.world.client(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    with Prometheus(lab.world, interval=0.2) as running:
        yield running
    lab.world.stop(agent)


def test_values_and_their_history_can_be_asked(scraping: Prometheus) -> None:
    def twice() -> bool:
        found = scraping.query_range("callpath_rounds_total", started, time.time(), 0.2)
        return bool(found) and len(found[0].points) >= 2

    started = time.time()
    wait_until(twice, "two scrapes")
    (series,) = scraping.query('callpath_rounds_total{messenger="telegram"}')
    assert series.labels["job"] == "callpath"
    assert series.points[-1][1] == 7
    assert scraping.query("up")[0].points[-1][1] == 1
    assert scraping.query("scalar(callpath_rounds_total)")[0].points[-1][1] == 7
    assert scraping.query("absent_metric") == []
    assert [target["health"] for target in scraping.targets()] == ["up"]


def test_a_wrong_expression_is_an_error(scraping: Prometheus) -> None:
    with pytest.raises(LabError, match="parse error"):
        scraping.query("sum(")


def test_promtool_reads_expositions() -> None:
    require_lab(*prometheus.PROGRAMS)
    assert check_metrics(EXPOSITION) == ""
    assert "counter" in check_metrics(EXPOSITION.replace("_total", ""))
    assert check_metrics("not an exposition\n")
