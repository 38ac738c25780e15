"""A real Alertmanager beside Prometheus, and a webhook that writes down what it is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import tempfile
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import yaml

from tests.lab.world import ROOT, LabError, World, program, wait_until

PROGRAMS = ("prometheus-alertmanager",)
LISTEN = "127.0.0.1:9093"
WEBHOOK = ("127.0.0.1", 9099)  # where the shipped configuration's receivers are
RULES = ROOT / "deploy" / "prometheus" / "callpath.rules.yml"
CONFIGURATION = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"

_MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Message(NamedTuple):
    """One call of the webhook: Unix time, the receiver it was for, what became of its alerts."""

    at: float
    receiver: str
    status: str
    alerts: tuple[dict[str, Any], ...]

    @property
    def names(self) -> set[tuple[str, str, str]]:
        """Each alert's name without the prefix, its messenger and its own status."""
        return {
            (
                one["labels"]["alertname"].removeprefix("Callpath"),
                one["labels"].get("messenger", ""),
                one["status"],
            )
            for one in self.alerts
        }


class Alertmanager:
    """``with Alertmanager(world, factor) as alertmanager:`` the shipped one, ``factor`` times as
    fast; ``messages`` is what its webhook has been told."""

    def __init__(self, world: World, factor: int) -> None:
        self.world, self.factor = world, factor
        self.directory = Path(tempfile.mkdtemp(prefix="alertmanager-", dir=world.directory))
        self.log = self.directory / "alertmanager.log"
        self.messages: list[Message] = []

    def __enter__(self) -> Alertmanager:
        listener = self.world.call(socket.create_server, WEBHOOK)
        self._webhook = _Webhook(listener, self.messages)
        threading.Thread(target=self._webhook.serve_forever, daemon=True).start()
        file = self.directory / "alertmanager.yml"
        file.write_text(faster_routes(CONFIGURATION.read_text(), self.factor))
        command = [
            program("prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={self.directory / 'data'}",
            f"--web.listen-address={LISTEN}",
            "--cluster.listen-address=",
        ]
        with self.log.open("wb") as output:
            self._process = self.world.client(command, stdout=output, stderr=output)
        wait_until(self._ready, "Alertmanager")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.world.stop(self._process)
        self._webhook.shutdown()
        self._webhook.server_close()

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"Alertmanager ended: {self.log.read_text()[-2000:]}")
        return self.world.call(_status, "/-/ready") == HTTPStatus.OK


def faster_rules(text: str, factor: int) -> str:
    """Rules whose every duration is divided: intervals, waits, and the ranges of expressions."""
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        group["interval"] = faster(group["interval"], factor)
        for rule in group["rules"]:
            for key in ("for", "keep_firing_for"):
                if key in rule:
                    rule[key] = faster(rule[key], factor)
            rule["expr"] = re.sub(r"\[(\w+)\]", lambda m: f"[{faster(m[1], factor)}]", rule["expr"])
    return yaml.safe_dump(rules, sort_keys=False)


def faster_routes(text: str, factor: int) -> str:
    """An Alertmanager configuration whose waits are divided."""
    settings = yaml.safe_load(text)
    for route in (settings["route"], *settings["route"]["routes"]):
        for key in ("group_wait", "group_interval", "repeat_interval"):
            if key in route:
                route[key] = faster(route[key], factor)
    return yaml.safe_dump(settings, sort_keys=False)


def faster(duration: str, factor: int) -> str:
    """``1m`` by ten is ``6000ms``. Raises KeyError or ValueError for what is not so simple."""
    return f"{int(duration[:-1]) * _MILLISECONDS[duration[-1]] // factor}ms"


class _Webhook(HTTPServer):
    def __init__(self, listener: socket.socket, messages: list[Message]) -> None:
        super().__init__(WEBHOOK, _Listener, bind_and_activate=False)
        self.socket.close()
        self.socket = listener  # made inside the namespace, where it stays
        self.messages = messages


class _Listener(BaseHTTPRequestHandler):
    server: _Webhook

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = Message(time.time(), said["receiver"], said["status"], tuple(said["alerts"]))
        self.server.messages.append(message)
        self.send_response(HTTPStatus.OK)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the test's own output."""


def _status(path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(LISTEN, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status
