"""Two vantages that send to a central Prometheus, over a line that is cut for a while."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporters import prometheus
from tests.deploy.scraped import metrics
from tests.exporters import building
from tests.probes.programs import need
from tests.probes.servers import closed_port

ROOT = Path(__file__).parents[2]
VANTAGES = ("tehran-1", "moscow-2")


def counted() -> Callable[[], bytes]:
    """An agent's /metrics with a counter that grows by each scrape, so that every one is told."""
    scrapes = itertools.count(1)

    def made() -> bytes:
        agent = building.agent_figures(sent_bytes=next(scrapes))
        return prometheus.render(building.mirror(agent=agent), "text/plain")[0]

    return made


class Uplink:
    """A way to ``port`` that can be cut: connections break, and new ones are refused."""

    def __init__(self, port: int) -> None:
        self._to, self.port = port, closed_port(socket.SOCK_STREAM)
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        assert self._listener
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._open.clear()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                self._open += [ours, theirs]
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=_pipe, args=pair, daemon=True).start()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def started(*command: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


def asked(port: int, expression: str) -> list[Any]:
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return list(json.load(answer)["data"]["result"])


def until(port: int, expression: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if asked(port, expression):
                return
        time.sleep(0.2)
    raise AssertionError(f"never: {expression}")


def sent_by_a_vantage(folder: Path, name: str, agent: int, uplink: int) -> str:
    """The shipped configuration, with this one's name, agent, uplink, and a quicker pace."""
    text = (ROOT / "deploy" / "prometheus" / "vantage.yml").read_text()
    for was, now in (
        ("tehran-1 #", f"{name} #"),
        ("127.0.0.1:22550", f"127.0.0.1:{agent}"),
        ("https://prometheus.example.org/", f"http://127.0.0.1:{uplink}/"),
        ("scrape_interval: 15s", "scrape_interval: 500ms\n  scrape_timeout: 500ms"),
    ):
        assert was in text
        text = text.replace(was, now)
    file = folder / f"{name}.yml"
    file.write_text(text)
    return str(file)


TEN_MINUTES = pytest.param(600.0, id="ten minutes", marks=pytest.mark.long)


@pytest.mark.parametrize("cut", [pytest.param(4.0, id="seconds"), TEN_MINUTES])
def test_nothing_is_lost_while_the_uplink_is_cut(tmp_path: Path, cut: float) -> None:
    program, central = need("prometheus"), closed_port(socket.SOCK_STREAM)
    (tmp_path / "central.yml").write_text("storage: {tsdb: {out_of_order_time_window: 2h}}\n")
    uplink = Uplink(central)
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            started(
                program, f"--config.file={tmp_path / 'central.yml'}",
                f"--storage.tsdb.path={tmp_path / 'central'}",
                f"--web.listen-address=127.0.0.1:{central}", "--web.enable-remote-write-receiver",
            )
        )  # fmt: skip
        for name in VANTAGES:
            agent = stack.enter_context(metrics(counted()))
            file = sent_by_a_vantage(tmp_path, name, agent, uplink.port)
            stack.enter_context(
                started(
                    program, "--enable-feature=agent", f"--config.file={file}",
                    f"--storage.agent.path={tmp_path / name}",
                    f"--web.listen-address=127.0.0.1:{closed_port(socket.SOCK_STREAM)}",
                )
            )  # fmt: skip
        both = "count(count by (vantage) (callpath_sent_bytes_total)) == 2"
        until(central, both, 60)
        uplink.cut()
        cut_at = time.time()
        time.sleep(cut)
        mended_at = time.time()
        assert not asked(central, f"timestamp(callpath_sent_bytes_total) > {cut_at + 2}"), "cut"
        uplink.mend()
        until(central, f"count(timestamp(callpath_sent_bytes_total) > {mended_at}) == 2", 120)
        window = int(mended_at - cut_at) + 30
        found = asked(central, f"callpath_sent_bytes_total[{window}s] @ {mended_at + 1}")
        assert len(found) == len(VANTAGES)
        for series in found:
            counts = [int(float(value)) for _, value in series["values"]]
            meanwhile = [at for at, _ in series["values"] if cut_at < at < mended_at]
            assert len(meanwhile) >= cut
            assert counts == list(range(counts[0], counts[0] + len(counts))), "a scrape is missing"
    uplink.cut()
