"""A real Alertmanager beside Prometheus, and a webhook that writes down what it is told."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple, Self

import yaml

from tests.lab.beside import Beside
from tests.lab.world import ROOT, World

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


class Alertmanager(Beside):
    """``with Alertmanager(world, factor) as alertmanager:`` the shipped one, ``factor`` times as
    fast; ``messages`` is what its webhook has been told."""

    name, listen = PROGRAMS[0], LISTEN

    def __init__(self, world: World, factor: int) -> None:
        super().__init__(world)
        self.factor = factor
        self.messages: list[Message] = []

    def __enter__(self) -> Self:
        listener = self.world.call(socket.create_server, WEBHOOK)
        self._webhook = _Webhook(listener, self.messages)
        threading.Thread(target=self._webhook.serve_forever, daemon=True).start()
        return super().__enter__()

    def options(self) -> list[str]:
        file = self.directory / "alertmanager.yml"
        file.write_text(faster_routes(CONFIGURATION.read_text(), self.factor))
        return [
            f"--config.file={file}",
            f"--storage.path={self.directory / 'data'}",
            f"--web.listen-address={LISTEN}",
            "--cluster.listen-address=",
        ]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._webhook.shutdown()
        self._webhook.server_close()


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
