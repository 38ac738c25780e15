"""The endpoints: in this process over their application, and as the agent's real web process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from agent import webdoor
from agent.health import is_healthy
from agent.webdoor import WebDoor, listen
from exporters import web
from exporters.feed import ProbeAnswer, ReloadAnswer, Update
from exporters.guard import Guard
from exporters.mirror import Mirror
from exporters.web import WebSettings, application, is_known_host
from probes.model import Status, Vantage, VantageStatus
from tests.agent.building import until
from tests.exporters.building import (
    HOSTILE,
    SCRIPT,
    agent_figures,
    diagnosis,
    finding,
    report,
    update,
)

LOOPBACK = WebSettings("127.0.0.1", (), False)


# --- which Host is ours ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listening", "hosts", "header", "known"),
    [
        ("127.0.0.1", (), "127.0.0.1:22550", True),
        ("127.0.0.1", (), "127.0.0.1", True),
        ("127.0.0.1", (), "localhost:22550", True),
        ("127.0.0.1", (), "LocalHost", True),
        ("127.0.0.1", (), "[::1]:22550", True),
        ("::1", (), "[::1]:22550", True),
        ("localhost", (), "localhost:22550", True),
        ("127.0.0.1", (), "evil.test:22550", False),
        ("127.0.0.1", (), "127.0.0.1.evil.test", False),
        ("127.0.0.1", (), "localhost.evil.test", False),
        ("127.0.0.1", (), "192.0.2.1:22550", False),
        ("127.0.0.1", (), "", False),
        ("127.0.0.1", (), ":22550", False),
        ("127.0.0.1", (), "[", False),
        ("127.0.0.1", (), "[::1]evil", False),
        ("127.0.0.1", (), "127.0.0.1:evil", False),
        ("127.0.0.1", (), "127.0.0.1@evil.test", False),
        ("127.0.0.1", (), "[]", False),
        ("127.0.0.1", ("probe.test",), "probe.test:443", True),
        ("127.0.0.1", ("Probe.Test",), "probe.test", True),
        ("127.0.0.1", ("probe.test",), "other.test", False),
        ("192.0.2.1", (), "192.0.2.1:22550", True),
        ("192.0.2.1", (), "192.0.2.2:22550", False),
        ("192.0.2.1", (), "localhost", False),
        ("0.0.0.0", (), "192.0.2.9:22550", True),  # a literal address cannot be rebound
        ("0.0.0.0", (), "localhost:22550", True),
        ("0.0.0.0", (), "evil.test:22550", False),
        ("::", (), "[2001:db8::1]:22550", True),
    ],
)
def test_known_hosts(listening, hosts, header, known):
    assert is_known_host(header, WebSettings(listening, hosts, False)) is known


# --- the application -------------------------------------------------------------------------


async def reloaded() -> ReloadAnswer:
    return ReloadAnswer(())


async def no_probe(said: dict[str, object]) -> ProbeAnswer:
    return ProbeAnswer(403, f"{said['target']} is not allowed")


def client(mirror: Mirror, settings: WebSettings = LOOPBACK, reload=reloaded) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(mirror, settings, reload, no_probe))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:22550")


def filled(**given) -> Mirror:
    import time

    made = Mirror()
    made.apply(update(**given), time.monotonic())
    return made


PATHS = (
    "/",
    "/target/m/relay",
    "/icon.svg",
    "/metrics",
    "/api/v1/status",
    "/-/healthy",
    "/-/ready",
)


@pytest.mark.parametrize("path", PATHS)
async def test_endpoints_and_their_headers(path):
    async with client(filled()) as ask:
        answer = await ask.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert (await ask.request(method, path)).status_code == 405
        assert (await ask.head(path)).status_code == 200


async def test_unknown_paths_are_not_found():
    async with client(filled()) as ask:
        for path in ("/nosuch", "/static/x", "/-/reload/x"):
            assert (await ask.get(path)).status_code == 404


@pytest.mark.parametrize("path", [*PATHS, "/nosuch", "/-/reload"])
async def test_another_host_gets_nothing_and_the_same_headers(path):
    async with client(filled(), WebSettings("127.0.0.1", (), True)) as ask:
        answer = await ask.request(
            "POST" if path == "/-/reload" else "GET", path, headers={"Host": "evil.test"}
        )
        assert answer.status_code == 421
        assert "babadede" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_two_hosts_are_no_host():
    async with client(filled()) as ask:
        headers = [("Host", "127.0.0.1"), ("Host", "127.0.0.1")]
        assert (await ask.get("/metrics", headers=headers)).status_code == 421


async def test_status_is_the_document_without_observations():
    async with client(filled()) as ask:
        found = (await ask.get("/api/v1/status")).json()
    assert found["version"] == 1
    assert found["callpath"] == {"version": "1.2.3", "rules": "1", "catalogue": "2026.11.20"}
    assert "observations" not in found
    assert len(found["channels"]) == 2


async def test_metrics_as_the_scraper_asks():
    async with client(filled()) as ask:
        text = await ask.get("/metrics")
        assert text.headers["content-type"].startswith("text/plain")
        opened = await ask.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert opened.headers["content-type"].startswith("application/openmetrics-text")
        assert opened.text.endswith("# EOF\n")


async def test_metrics_are_rendered_once_per_update_however_often_they_are_asked(monkeypatch):
    mirror, rendered = filled(), []
    render = web.prometheus.render
    monkeypatch.setattr(
        web.prometheus, "render", lambda *given: rendered.append(given) or render(*given)
    )
    monkeypatch.setattr(web, "time", FrozenTime(mirror))
    async with client(mirror) as ask:
        for number in range(40):
            await ask.get("/metrics", headers={"Accept": f"text/x{number % 2}"})
        assert len(rendered) == 2
        mirror.apply(update(), 0.0)
        await ask.get("/metrics")
        assert len(rendered) == 3
        for number in range(40):  # memory stays flat whatever is asked for
            await ask.get("/metrics", headers={"Accept": f"text/y{number}"})
        assert len(rendered) == 43


class FrozenTime:
    def __init__(self, mirror: Mirror) -> None:
        self.now = mirror.heard

    def monotonic(self) -> float:
        return self.now


async def test_healthy_while_the_agent_is_heard_of(monkeypatch):
    mirror = filled()
    clock = FrozenTime(mirror)
    monkeypatch.setattr(web, "time", clock)
    async with client(mirror) as ask:
        clock.now += web.SILENT_FOR
        assert (await ask.get("/-/healthy")).status_code == 200
        clock.now += 0.1
        assert (await ask.get("/-/healthy")).status_code == 503
        mirror.apply(update(), clock.now)
        assert (await ask.get("/-/healthy")).status_code == 200


async def test_before_the_first_round_it_is_not_ready_and_says_so():
    async with client(filled(ready=False, report=None)) as ask:
        assert (await ask.get("/-/ready")).status_code == 503
        assert (await ask.get("/api/v1/status")).status_code == 503
        page = await ask.get("/")
        assert (page.status_code, "No round has ended yet" in page.text) == (200, True)
        assert (await ask.get("/metrics")).status_code == 200


# --- the page --------------------------------------------------------------------------------


async def test_the_page_says_what_there_is():
    async with client(filled()) as ask:
        answer = await ask.get("/")
    assert "Messy" in answer.text
    assert "unreachable, none of 2 servers answers" in answer.text
    assert "does not decide yet" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert f'<style nonce="{nonce}">' in answer.text
    assert "style=" not in answer.text, "the policy allows no inline style"
    assert f"script-src 'nonce-{nonce}'" in policy
    assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}">') == 1
    async with client(filled()) as ask:
        assert nonce not in (await ask.get("/")).text


async def test_the_page_says_what_was_done_and_what_decided():
    blocked = diagnosis(status=Status.BLOCKED, findings=(finding(),))
    async with client(filled(report=report(blocked))) as ask:
        page = (await ask.get("/")).text
    assert "<strong>ip drop</strong>, likely" in page
    assert "Nothing comes back. Rule R12, confidence 80 %." in page
    assert "What decided: another port is silent too; a neighbour answers." in page


@pytest.mark.parametrize(
    ("days", "signed", "said"),
    [(0, False, ""), (1, False, ", 1 day old"), (91, True, ", 91 days old, signed")],
)
async def test_the_page_says_how_old_the_catalogue_is(days, signed, said):
    version = f"{datetime.now(UTC) - timedelta(days=days):%Y.%m.%d}.2"
    async with client(filled(agent=agent_figures(catalogue=version, signed=signed))) as ask:
        assert f"catalogue {version}{said}</p>" in (await ask.get("/")).text


async def test_the_page_escapes_whatever_it_shows():
    hostile = report(
        diagnosis(summary=HOSTILE, messenger=SCRIPT, reason=SCRIPT),
        vantage=Vantage(SCRIPT, VantageStatus.ONLINE, HOSTILE),
    )
    figures = agent_figures(name=SCRIPT, version=SCRIPT, catalogue=SCRIPT)
    async with client(filled(report=hostile, agent=figures, titles={SCRIPT: SCRIPT})) as ask:
        text = (await ask.get("/")).text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("status", list(Status))
async def test_the_page_shows_every_status(status):
    async with client(filled(report=report(diagnosis(status=status, intermittent=True)))) as ask:
        text = (await ask.get("/")).text
    assert f'<span class="status {status}"><span class="word"><span class="glyph"' in text
    assert f"</span>{status}</span>, comes and goes</span>" in text


async def test_a_data_centre_is_not_a_subscribers_view():
    async with client(filled(agent=agent_figures(network="hosting"))) as ask:
        assert "Not a subscriber" in (await ask.get("/")).text


# --- reload ----------------------------------------------------------------------------------

ALLOWED = WebSettings("127.0.0.1", (), True)


@pytest.mark.parametrize(
    ("settings", "headers", "answer", "status"),
    [
        (ALLOWED, {}, (), 200),
        (ALLOWED, {}, ("callpath.yaml:1: state: wrong",), 500),
        (ALLOWED, {"Origin": "http://127.0.0.1:22550"}, (), 403),
        (ALLOWED, {"Origin": "null"}, (), 403),
        (ALLOWED, {"Host": "evil.test"}, (), 421),
        (LOOPBACK, {}, (), 403),
    ],
)
async def test_reload(settings, headers, answer, status):
    asked = []

    async def reload() -> ReloadAnswer:
        asked.append(True)
        return ReloadAnswer(answer)

    async with client(filled(), settings, reload) as ask:
        found = await ask.post("/-/reload", headers=headers)
        assert found.status_code == status
        assert bool(asked) is (status in (200, 500))
        assert all(problem in found.text for problem in answer if status == 500)
        assert (await ask.get("/-/reload")).status_code == 405


# --- the real process ------------------------------------------------------------------------


@dataclass
class Served:
    door: WebDoor
    port: int
    update: Update
    reloads: list[ReloadAnswer] = field(default_factory=list)

    async def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
        """Status and body; the header lines are sent as they are."""
        lines = [f"{method} {path} HTTP/1.1", *headers, "Connection: close"]
        if method == "POST":
            lines.append("Content-Length: 0")
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            data = await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        head, _, body = data.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), body.decode()

    @property
    def host(self) -> str:
        return f"Host: 127.0.0.1:{self.port}"

    async def until(self, path: str, wanted: str, seconds: float = 20) -> str:
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(ConnectionError):
                    status, body = await self.get(path, self.host)
                    if status == 200 and wanted in body:
                        return body
                await asyncio.sleep(0.05)


def children() -> set[int]:
    """The web processes that this one started; other tests have servers of their own."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return {pid for pid in found if b"exporters.web" in _command(pid)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(webdoor, "RESTART_PAUSE", 0.05)
    listener = await listen("127.0.0.1", 0)
    port = listener.getsockname()[1]

    async def reload() -> ReloadAnswer:
        if not made.reloads:
            raise KeyError("a bug in the reload")
        return made.reloads.pop(0)

    settings: dict[str, object] = {
        "listen_host": "127.0.0.1",
        "hosts": ["probe.test"],
        "allow_reload": True,
        "folder": "",
    }
    door = WebDoor(listener, settings, lambda: made.update, reload, no_probe)
    made = Served(door, port, update())
    door.start()
    try:
        await made.until("/-/healthy", "healthy")
        yield made
    finally:
        await door.stop()
        listener.close()


async def test_the_web_process(served: Served):
    """One process for all that needs none of its own: it takes half a second to start."""
    status, body = await served.get("/metrics", served.host)
    assert status == 200
    assert 'callpath_channel_status{channel="call",messenger="m",status="unreachable"} 1' in body
    status, body = await served.get("/api/v1/status", served.host)
    assert json.loads(body)["vantage"]["name"] == "babadede"

    # Updates go over the pipe.
    served.door.publish(update(report=report(diagnosis(status=Status.OK)), reset=False))
    await served.until("/metrics", 'messenger="m",status="ok"} 1')

    # Who may ask.
    assert (await served.get("/metrics", "Host: probe.test"))[0] == 200
    assert (await served.get("/metrics", f"Host: localhost:{served.port}"))[0] == 200
    assert (await served.get("/metrics", f"Host: evil.test:{served.port}"))[0] == 421
    assert (await served.get("/metrics", served.host, "Host: evil.test"))[0] in (400, 421)
    assert (await served.get("/metrics"))[0] in (400, 421)
    assert (await served.get("http://evil.test/metrics", "Host: evil.test"))[0] in (400, 421)
    assert (await served.get("/nosuch", served.host))[0] == 404
    assert (await served.get("/metrics", served.host, method="POST"))[0] == 405

    # A reload goes to the agent and its answer back.
    served.reloads += [ReloadAnswer(()), ReloadAnswer(("a.yaml:3: state: wrong",))]
    assert await served.get("/-/reload", served.host, method="POST") == (200, "reloaded\n")
    status, body = await served.get("/-/reload", served.host, method="POST")
    assert (status, body) == (500, "a.yaml:3: state: wrong\n")
    origin = "Origin: http://evil.test"
    assert (await served.get("/-/reload", served.host, origin, method="POST"))[0] == 403
    assert served.reloads == []

    # And a container asks after its health.
    assert await asyncio.to_thread(is_healthy, f"127.0.0.1:{served.port}") == ""
    assert await asyncio.to_thread(is_healthy, f"0.0.0.0:{served.port}") == ""
    assert "no answer" in await asyncio.to_thread(is_healthy, "127.0.0.1:9")


async def test_what_answers_but_is_not_healthy_is_not_healthy():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 5\r\nConnection: close\r\n\r\nno!\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(is_healthy, f"127.0.0.1:{port}") == "no!"


async def test_a_killed_web_process_comes_back_with_everything(served: Served):
    (before,) = children()
    os.kill(before, signal.SIGKILL)
    await until(lambda: children() - {before})
    after = children() - {before}
    body = await served.until("/metrics", 'target="relay"')
    assert 'target="c"' in body
    assert len(after) == 1


async def test_a_web_process_that_is_told_to_end_comes_back(served: Served):
    (before,) = children()
    os.kill(before, signal.SIGTERM)
    await until(lambda: before not in children())
    await served.until("/metrics", 'target="relay"')


async def test_a_server_that_ends_by_itself_ends_the_process(monkeypatch):
    async def serve(self: web.uvicorn.Server, sockets: list[socket.socket]) -> None:
        return None

    monkeypatch.setattr(web.uvicorn.Server, "serve", serve)
    listener = await listen("127.0.0.1", 0)
    ours, theirs = socket.socketpair()
    with listener, ours:
        guard = pickle.dumps(Guard())
        ours.sendall(len(guard).to_bytes(4, "big") + guard)
        await asyncio.wait_for(web.serve(listener, theirs, LOOPBACK), 10)
        await asyncio.sleep(0)  # the loop closes transports in its next pass


async def test_a_bug_in_a_reload_costs_the_page_a_moment_only(served: Served, caplog):
    (before,) = children()
    status, _ = await served.get("/-/reload", served.host, method="POST")
    assert status in (0, 500)
    await until(lambda: before not in children())
    await served.until("/metrics", 'target="relay"')
    assert "a bug in the reload" in caplog.text


async def test_no_process_to_be_had_is_tried_again(served: Served, monkeypatch, caplog):
    start = asyncio.create_subprocess_exec
    refused = []

    async def exhausted(*arguments, **given):
        if len(refused) < 3:
            refused.append(True)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await start(*arguments, **given)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", exhausted)
    (before,) = children()
    os.kill(before, signal.SIGKILL)
    await until(lambda: len(refused) >= 3)
    await served.until("/metrics", 'target="relay"')
    assert caplog.text.count("the web process failed") == 3


async def test_the_web_process_ends_by_itself_when_the_agent_does(served: Served, monkeypatch):
    killed = []
    kill = asyncio.subprocess.Process.kill
    monkeypatch.setattr(
        asyncio.subprocess.Process, "kill", lambda process: killed.append(True) or kill(process)
    )
    (child,) = children()
    await served.door.stop()
    assert child not in children()
    assert killed == []
    served.door.publish(update())  # to nobody


async def test_an_address_in_use_is_an_error(served: Served, monkeypatch):
    monkeypatch.setattr(webdoor, "PATIENCE", 0.2)
    with pytest.raises(OSError, match="in use"):
        await listen("127.0.0.1", served.port)
