"""A real Prometheus beside the agent, inside the client's namespace."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.lab.beside import Beside
from tests.lab.world import LabError, World, program

PROGRAMS = ("prometheus", "promtool")
LISTEN = "127.0.0.1:9090"  # the namespace's own loopback: two labs do not meet
AGENT = "127.0.0.1:22550"


class Series(NamedTuple):
    """One time series of an answer: its labels, and (Unix time, value) pairs in order."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class Prometheus(Beside):
    """``with Prometheus(world) as prometheus:`` scrapes agents; ``interval`` is in seconds.

    ``rules`` is a file of rules, whose alerts go to the Alertmanager at the address ``alerts``.
    ``lookback``, in seconds, is how long a series stands after its last sample.
    """

    name, listen = "prometheus", LISTEN

    def __init__(
        self,
        world: World,
        agents: Sequence[str] = (AGENT,),
        interval: float = 1.0,
        *,
        rules: Path | None = None,
        alerts: str = "",
        lookback: float = 300.0,
    ) -> None:
        super().__init__(world)
        self.agents, self.interval = agents, interval
        self.rules, self.alerts, self.lookback = rules, alerts, lookback

    def options(self) -> list[str]:
        return [
            f"--config.file={self._write_configuration()}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={LISTEN}",
            f"--query.lookback-delta={round(self.lookback * 1000)}ms",
        ]

    def query(self, expression: str) -> list[Series]:
        """The newest value of every series that an expression has."""
        return _series(self._ask("query", query=expression))

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Values from ``start`` to ``end``, Unix times, every ``step`` seconds."""
        return _series(self._ask("query_range", query=expression, start=start, end=end, step=step))

    def targets(self) -> list[dict[str, Any]]:
        """How the scrapes go: ``health`` is up or down, ``lastError`` says why."""
        return list(self._ask("targets")["activeTargets"])

    def _ask(self, what: str, **parameters: Any) -> Any:
        path = f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        status, body = self.get(path)
        if status != HTTPStatus.OK:
            raise LabError(f"{status} {body.decode(errors='replace')}")
        return json.loads(body)["data"]

    def _write_configuration(self) -> Path:
        interval = f"{round(self.interval * 1000)}ms"
        job = {"job_name": "callpath", "static_configs": [{"targets": list(self.agents)}]}
        pace = {"scrape_interval": interval, "scrape_timeout": interval}
        file = self.directory / "prometheus.yml"
        settings: dict[str, Any] = {"global": pace, "scrape_configs": [job]}
        if self.rules:
            settings["rule_files"] = [str(self.rules)]
        if self.alerts:
            receiver = {"static_configs": [{"targets": [self.alerts]}]}
            settings["alerting"] = {"alertmanagers": [receiver]}
        file.write_text(yaml.safe_dump(settings))
        return file


def check_metrics(exposition: str) -> str:
    """What ``promtool check metrics`` finds wrong with an exposition in text format; "" is fine."""
    command = (program("promtool"), "check", "metrics")
    done = subprocess.run(command, input=exposition, capture_output=True, text=True, check=False)
    if done.returncode and not done.stderr:
        return f"promtool ended with {done.returncode}"
    return done.stderr + done.stdout


def _series(data: Any) -> list[Series]:
    if data["resultType"] == "scalar":
        return [Series({}, [_point(data["result"])])]
    return [
        Series(one["metric"], [_point(p) for p in one.get("values") or [one["value"]]])
        for one in data["result"]
    ]


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
