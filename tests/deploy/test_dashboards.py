"""The dashboards: made by the script, and every query of them has an answer."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporters import prometheus
from exporters.feed import TargetFigures, record
from probes.model import Diagnosis, Status
from scripts import dashboards
from tests.deploy.scraped import metrics
from tests.exporters import building
from tests.exporters.test_streams import MEDIA, run
from tests.probes.programs import need
from tests.probes.servers import closed_port

ROOT = Path(__file__).parents[2]
BOARDS = {file.stem: json.loads(file.read_text()) for file in dashboards.FOLDER.glob("*.json")}
QUERIES = {
    f"{name}: {panel['title']} {target['refId']}": target["expr"]
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel["targets"]
}
VARIABLES = {
    "$__rate_interval": "2s",
    '"$instance"': '".*"',
    '"$messenger"': '".*"',
    '"$messenger|control"': '".*"',
}


def test_the_files_are_what_the_script_makes() -> None:
    assert set(BOARDS) == set(dashboards.BOARDS) == {"fleet", "vantage", "quality", "evidence"}
    for name in BOARDS:
        assert (dashboards.FOLDER / f"{name}.json").read_text() == dashboards.written(name)


def test_every_panel_says_what_it_shows() -> None:
    for board in BOARDS.values():
        assert board["uid"].startswith("callpath-")
        for panel in board["panels"]:
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert panel["datasource"]["uid"] == "${datasource}"


def everything(count: int) -> bytes:
    """Metrics of an agent with something in every series; counters grow with ``count``."""
    failing = building.diagnosis(findings=(building.finding(),), place=building.located())
    blocked = replace(failing, status=Status.BLOCKED)
    chat: Diagnosis = building.diagnosis(channel="chat", status=Status.OK, reason="ok")
    agent = building.agent_figures(sent_bytes=1000 * count, received_bytes=900 * count)
    agent.checks_skipped["packet_budget"] += count
    agent.contrasts_skipped["profile"] += count
    for _ in range(count):
        agent.lag.observe(0.2)
    relay = building.target_figures(success=False)
    media = TargetFigures(MEDIA, "", "documented", expires=building.NOW + 100)
    for _ in range(count):
        seen = run(
            reordered_ratio=0.01, duplicate_ratio=0.01, longest_gap_seconds=0.2,
            send_lateness_seconds=0.001,
        )  # fmt: skip
        record(media, (seen,), seen)
    for key in relay.failures:
        relay.failures[key] += count
    mirror = building.mirror(
        agent=agent,
        report=building.report(blocked, chat),
        targets={("m", "relay"): relay, ("m", "media-r"): media},
    )
    return prometheus.render(mirror, "text/plain", building.NOW)[0]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prometheus with the shipped rules that has scraped for some seconds."""
    folder = tmp_path_factory.mktemp("prometheus")
    program, port = need("prometheus"), closed_port(socket.SOCK_STREAM)
    rules = (ROOT / "deploy" / "prometheus" / "callpath.rules.yml").read_text()
    (folder / "rules.yml").write_text(rules.replace("interval: 15s", "interval: 500ms"))
    began = time.monotonic()
    with metrics(lambda: everything(1 + round(10 * (time.monotonic() - began)))) as scraped:
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
            "rule_files: [rules.yml]\n"
            "scrape_configs:\n"
            f'  - {{job_name: callpath, static_configs: [{{targets: ["127.0.0.1:{scraped}"]}}]}}\n'
        )
        command = [
            program, f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                _until(client, "channel:callpath_channel_interference:max")
                _until(client, "rate(callpath_sent_bytes_total[2s]) > 0")
                yield client
        finally:
            process.terminate()
            process.wait(20)
            shutil.rmtree(folder, ignore_errors=True)


def _until(client: httpx.Client, expression: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError, KeyError):
            if _ask(client, expression):
                return
        time.sleep(0.2)
    raise AssertionError(f"never had an answer: {expression}")


def _ask(client: httpx.Client, expression: str) -> list[Any]:
    answer = client.get(f"/api/v1/query?query={urllib.parse.quote(expression)}")
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return []  # it is starting, and says so in words
    told = answer.json()
    assert told["status"] == "success", (expression, told)
    return list(told["data"]["result"])


@pytest.mark.parametrize("expression", QUERIES.values(), ids=QUERIES)
def test_every_query_has_an_answer(asked: httpx.Client, expression: str) -> None:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    assert _ask(asked, expression)


def test_every_variable_is_a_label_that_there_is(asked: httpx.Client) -> None:
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(
                    r"label_values\((\w+), (\w+)\)", variable["query"]
                ).groups()  # type: ignore[union-attr]
                assert _ask(asked, f'{metric}{{{label}!=""}}')
