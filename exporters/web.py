"""The web process: /metrics, the page, the status document and the probes of its health.

Started by the agent with two inherited descriptors: the listening socket, and one end of a socket
pair over which the agent's updates come. It ends when that closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import pickle
import re
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from exporters import adhoc, memory, prometheus
from exporters.document import document
from exporters.feed import ProbeAnswer, ReloadAnswer, Update
from exporters.framing import RELOAD, read_frame, write_frame
from exporters.guard import Guard, Guarded, context, protocol
from exporters.mirror import Mirror
from exporters.webhistory import HistoryEndpoint
from exporters.webpage import SILENT_FOR, Pages

RELOAD_LIMIT = 30.0
PROBE_LIMIT = 125.0
WAITING = 256
"""Requests of /probe at a time."""
TICK = 1.0
"""Seconds between two renewals of the Date header, and looks whether a signal came."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """``hosts``: names that the Host header may have beside the listen address. ``folder``: where
    the history is, "" where none is kept."""

    listen_host: str
    hosts: tuple[str, ...]
    allow_reload: bool
    folder: str = ""


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@]+))(?::[0-9]{1,5})?")

Reload = Callable[[], Awaitable[ReloadAnswer]]
Probe = Callable[[dict[str, object]], Awaitable[ProbeAnswer]]


class Endpoints:
    """The endpoints of design 5.4, over one mirror."""

    def __init__(self, mirror: Mirror, settings: WebSettings, reload: Reload, probe: Probe) -> None:
        self._mirror, self._settings, self._reload = mirror, settings, reload
        self._probe = probe
        self._rendered: dict[str, tuple[int, float, bytes, str]] = {}

    async def metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        made = self._rendered.get(accept)
        now = time.monotonic()
        if made is None or made[0] != self._mirror.changed or now - made[1] > 1:
            if len(self._rendered) > 16:
                self._rendered.clear()
            body, content_type = prometheus.render(self._mirror, accept)
            made = self._rendered[accept] = (self._mirror.changed, now, body, content_type)
        return Response(made[2], media_type=None, headers={"Content-Type": made[3]})

    async def status(self, _request: Request) -> Response:
        report = self._mirror.report
        if report is None or not self._mirror.ready:
            return PlainTextResponse("no round has ended yet\n", 503)
        return JSONResponse(document(report, self._mirror.versions, observations=False))

    async def healthy(self, _request: Request) -> Response:
        if time.monotonic() - self._mirror.heard > SILENT_FOR:
            return PlainTextResponse("the agent has not been heard of\n", 503)
        return PlainTextResponse("healthy\n")

    async def ready(self, _request: Request) -> Response:
        if not self._mirror.ready:
            return PlainTextResponse("no round has ended yet\n", 503)
        return PlainTextResponse("ready\n")

    async def probe(self, request: Request) -> Response:
        """As blackbox_exporter's: 200 whenever something was measured."""
        said: dict[str, object] = {
            name: request.query_params.get(name, "") for name in ("module", "target", "hostname")
        }
        if (scrape := request.headers.get("x-prometheus-scrape-timeout-seconds")) is not None:
            try:
                said["timeout"] = float(scrape)
            except ValueError:
                return PlainTextResponse("X-Prometheus-Scrape-Timeout-Seconds is no number\n", 400)
        answer = await self._probe(said)
        if answer.status != 200:
            return PlainTextResponse(answer.text + "\n", answer.status)
        if request.query_params.get("debug") == "true":
            return PlainTextResponse(adhoc.debug(answer))
        body, content_type = adhoc.render(answer, request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"Content-Type": content_type})

    async def reload_now(self, request: Request) -> Response:
        if not self._settings.allow_reload:
            return PlainTextResponse("web.allow_reload is off; SIGHUP works\n", 403)
        answer = await self._reload()
        if answer.problems:
            return PlainTextResponse("\n".join(answer.problems) + "\n", 500)
        return PlainTextResponse("reloaded\n")


def application(mirror: Mirror, settings: WebSettings, reload: Reload, probe: Probe) -> Starlette:
    """What is served over one mirror, to those who name a host that is ours."""
    at = Endpoints(mirror, settings, reload, probe)
    history = HistoryEndpoint(settings.folder, lambda: mirror.versions)
    pages = Pages(mirror, settings.folder)
    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/target/{messenger}/{target}", pages.target),
            Route("/icon.svg", pages.icon),
            Route("/metrics", at.metrics),
            Route("/api/v1/status", at.status),
            Route("/api/v1/history", history.answer),
            Route("/probe", at.probe),
            Route("/-/healthy", at.healthy),
            Route("/-/ready", at.ready),
            Route("/-/reload", at.reload_now, methods=["POST"]),
        ],
        middleware=[Middleware(KnownHosts, settings=settings)],
    )


class KnownHosts:
    """Refuses requests for other names: a page on the web must not reach the agent by rebinding.
    And what another page in a browser asks for, but for being led here by a link."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _with_headers(send)
            hosts = [value for key, value in scope["headers"] if key == b"host"]
            text = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
            if not is_known_host(text, self._settings):
                refusal = PlainTextResponse("unknown host; see web.hosts\n", 421)
                await refusal(scope, receive, send)
                return
            if _of_another_page(scope["headers"], scope["path"]):
                await PlainTextResponse("not from a web page\n", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _of_another_page(headers: Iterable[tuple[bytes, bytes]], path: str) -> bool:
    """Browsers say so (Fetch Metadata, W3C; Origin with whatever changes something); scrapers and
    shells say nothing. A followed link may show what there is, and make this host ask nobody."""
    said = dict(headers)
    if b"origin" in said:
        return True
    if said.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
        return False
    followed = (said.get(b"sec-fetch-mode"), said.get(b"sec-fetch-dest")) == (
        b"navigate",
        b"document",
    )
    return not followed or path == "/probe"


def _with_headers(send: Send) -> Send:
    async def sending(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])  # type: ignore[call-overload] # ASGI: pairs of bytes
            headers += [
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
                (b"cache-control", b"no-store"),
                (b"cross-origin-resource-policy", b"same-origin"),
                (b"cross-origin-opener-policy", b"same-origin"),
            ]
            message = {**message, "headers": headers}
        await send(message)

    return sending  # type: ignore[return-value] # ASGI's message type is a MutableMapping


def is_known_host(header: str, settings: WebSettings) -> bool:
    """Does a Host header name this agent? Literal addresses cannot be rebound, so behind a wildcard
    listener any of them will do. Pure."""
    host = _host_part(header)
    if not host:
        return False
    if host in {h.lower() for h in settings.hosts} or host == settings.listen_host.lower():
        return True
    try:
        listening = ipaddress.ip_address(settings.listen_host)
    except ValueError:
        return False
    if listening.is_loopback and host in ("localhost", "127.0.0.1", "::1"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" and listening.is_unspecified
    return listening.is_unspecified


def _host_part(header: str) -> str:
    """The host of "host", "host:port", "[ip6]" or "[ip6]:port"; "" for anything else."""
    match = _HOST.fullmatch(header.strip().lower())
    return (match[1] or match[2]) if match else ""


class _Agent:
    """The other end of the socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers: asyncio.Queue[ReloadAnswer] = asyncio.Queue()
        self._reloading = asyncio.Lock()
        self._asked: dict[int, asyncio.Future[ProbeAnswer]] = {}
        self._numbers = itertools.count(1)

    async def follow(self, mirror: Mirror) -> None:
        """Apply updates until the agent is gone."""
        while (frame := await read_frame(self._reader)) is not None:
            message = pickle.loads(frame)
            if isinstance(message, Update):
                mirror.apply(message, time.monotonic())
                if message.reset:
                    memory.settle()
            elif isinstance(message, ReloadAnswer):
                self._answers.put_nowait(message)
            elif isinstance(message, ProbeAnswer):
                waiting = self._asked.get(message.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    async def reload(self) -> ReloadAnswer:
        async with self._reloading:
            while not self._answers.empty():
                self._answers.get_nowait()
            write_frame(self._writer, RELOAD)
            try:
                async with asyncio.timeout(RELOAD_LIMIT):
                    return await self._answers.get()
            except TimeoutError:
                return ReloadAnswer(("the agent did not answer",))

    async def probe(self, said: dict[str, object]) -> ProbeAnswer:
        """Ask the agent; whoever waits longer than any probe may take is told so."""
        if len(self._asked) >= WAITING:
            return ProbeAnswer(503, "too many probes are under way")
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            write_frame(self._writer, json.dumps({**said, "number": number}).encode())
            async with asyncio.timeout(PROBE_LIMIT):
                return await self._asked[number]
        except TimeoutError:
            return ProbeAnswer(503, "the agent did not answer")
        finally:
            del self._asked[number]


class _Server(uvicorn.Server):
    """uvicorn looks ten times a second whether it is to end; on an idle machine that was most of
    what this process cost. This one is told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.should_exit = self.force_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # 0: the tick that renews the Date header
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._ended.wait()


async def serve(listener: socket.socket, pipe: socket.socket, settings: WebSettings) -> None:
    """Serve until the agent closes its end."""
    # Idle connections must not use up what a scrape needs; only this process has them open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reader, writer = await asyncio.open_connection(sock=pipe)
    first = await read_frame(reader)
    if first is None:
        return
    guard: Guard = pickle.loads(first)
    # Whoever is authenticated may; a file without passwords any more takes that back.
    settings = replace(settings, allow_reload=settings.allow_reload or guard.authenticates)
    agent, mirror = _Agent(reader, writer), Mirror()
    config = uvicorn.Config(
        Guarded(application(mirror, settings, agent.reload, agent.probe), guard),
        http=protocol(guard.tls.sans if guard.tls else ()),
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    config.load()
    config.ssl = context(guard.tls) if guard.tls else None
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    following = asyncio.create_task(agent.follow(mirror))
    # A server that ends by itself ends the process: the agent starts another one.
    await asyncio.wait([serving, following], return_when=asyncio.FIRST_COMPLETED)
    following.cancel()
    # The agent is gone, perhaps killed and about to start anew: the address must be free soon.
    server.end()
    writer.close()
    await serving


def main() -> None:
    """``python -m exporters.web LISTEN_FD PIPE_FD SETTINGS_JSON``; started by the agent only."""
    listen_fd, pipe_fd, text = sys.argv[1:4]
    listener, pipe = socket.socket(fileno=int(listen_fd)), socket.socket(fileno=int(pipe_fd))
    given = json.loads(text)
    settings = WebSettings(
        given["listen_host"], tuple(given["hosts"]), given["allow_reload"], given["folder"]
    )
    asyncio.run(serve(listener, pipe, settings))


if __name__ == "__main__":
    main()
