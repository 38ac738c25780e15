"""The page over HTTP: ``/`` and a page for each target, with a strict policy and no outside parts.

The history is asked in a thread of its own; the page is rendered in the loop, in which the mirror
does not change meanwhile. Whoever has the newest version already gets 304 without any of that: the
page's own script asks every few seconds.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from exporters import page, prometheus, words
from exporters.document import timestamp
from exporters.feed import AgentFigures
from exporters.history import History, NoHistory
from exporters.mirror import Mirror
from exporters.page import Overview, Remembered, RememberedTarget, TargetPage

SILENT_FOR = 30.0
"""Seconds without a word from the agent after which it is not healthy; it speaks every five."""
AT_ONCE = 2
FAILURES = 10
"""Of a target that are shown, at most."""
NOT_KEPT = "nothing is kept: history.enabled is off"

Asked = TypeVar("Asked")


class Pages:
    """``folder``: the agent's state folder, "" where nothing is kept."""

    def __init__(self, mirror: Mirror, folder: str) -> None:
        self._mirror, self._folder = mirror, folder
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._life = secrets.token_hex(4)  # another process counts from the beginning again
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("exporters"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "timestamp": timestamp,
            "catalogue_age": _catalogue_age,
            "minute": page.minute,
            "clock": page.clock,
            "lasted": words.lasted,
            "percent": page.percent,
            "facts": page.facts,
            "told": page.told,
            "sentence": words.sentence,
            "mechanism": words.mechanism,
            "place": words.place,
        }
        self._templates.tests["unknown"] = lambda s: str(s) == "unknown"
        self._templates.globals |= {"answers": page.ANSWERS, "spans": page.SPANS}
        self._templates.globals["differs"] = words.differs

    async def overview(self, request: Request) -> Response:
        span = _span(request)
        if span is None:
            return PlainTextResponse(f"span must be one of {', '.join(page.SPANS)}\n", 400)
        now = time.time()
        if (known := self._known(request, now)) is not None:
            return known
        since = now - page.SPANS[span][1]

        def ask(history: History) -> Remembered:
            return Remembered(history.timeline(since, now), history.outages(since, now))

        past = await self._remembered(ask, lambda why: Remembered({}, (), why))
        view = page.overview(self._mirror, past, span, now)
        return self._shown("overview.html", view, now)

    async def target(self, request: Request) -> Response:
        span, now = _span(request), time.time()
        if span is None:
            return PlainTextResponse(f"span must be one of {', '.join(page.SPANS)}\n", 400)
        messenger, name = request.path_params["messenger"], request.path_params["target"]
        if not self._is_known(messenger, name):
            return PlainTextResponse("no such target\n", 404)
        if (known := self._known(request, now)) is not None:
            return known
        since = now - page.SPANS[span][1]

        def ask(history: History) -> RememberedTarget:
            return RememberedTarget(
                history.series(messenger, name, since, now, page.POINTS),
                history.failures(messenger, name, FAILURES),
            )

        past = await self._remembered(ask, lambda why: RememberedTarget((), (), why))
        view = page.target(self._mirror, past, messenger, name, span, now)
        return self._shown("target.html", view, now)

    async def icon(self, _request: Request) -> Response:
        body = self._templates.get_template("icon.svg").render()
        return Response(body, media_type="image/svg+xml")

    def _is_known(self, messenger: str, name: str) -> bool:
        return (messenger, name) in self._mirror.targets or any(
            t.target.name == name
            for d in self._mirror.diagnoses
            if d.messenger == messenger
            for t in d.targets
        )

    async def _remembered(
        self, ask: Callable[[History], Asked], nothing: Callable[[str], Asked]
    ) -> Asked:
        def opened() -> Asked:
            # Opened anew for every page: a purge, or a store set aside, may be between.
            history = History(Path(self._folder))
            try:
                return ask(history)
            finally:
                history.close()

        if not self._folder:
            return nothing(NOT_KEPT)
        try:
            async with self._gate:
                return await asyncio.to_thread(opened)
        except NoHistory as error:
            return nothing(str(error))

    def _version(self, now: float) -> str:
        """Of all that is shown: news of channels, the minute, and whether the agent is heard of."""
        return f'"{self._life}-{self._mirror.told}-{int(now // 60)}-{int(self._silent())}"'

    def _silent(self) -> bool:
        return time.monotonic() - self._mirror.heard > SILENT_FOR

    def _known(self, request: Request, now: float) -> Response | None:
        if request.headers.get("if-none-match") == self._version(now):
            return Response(status_code=304)
        return None

    def _shown(self, template: str, view: Overview | TargetPage, now: float) -> Response:
        nonce, mirror, version = secrets.token_urlsafe(16), self._mirror, self._version(now)
        body = self._templates.get_template(template).render(
            view=view,
            report=mirror.report,
            ready=mirror.ready,
            agent=mirror.agent,
            titles=mirror.titles,
            headline=page.headline(mirror),
            silent=self._silent(),
            now=now,
            nonce=nonce,
            version=version,
        )
        return HTMLResponse(body, headers=_headers(nonce) | {"ETag": version})


def _headers(nonce: str) -> dict[str, str]:
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}';"
        " connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "X-Frame-Options": "DENY"}


def _span(request: Request) -> str | None:
    found = request.query_params.get("span", "24h")
    return found if found in page.SPANS else None


def _catalogue_age(agent: AgentFigures) -> str:
    """What the page says behind the catalogue's version; "" where that is no date."""
    try:
        days = int((time.time() - prometheus.catalogue_day(agent.catalogue)) // 86400)
    except ValueError:
        return ""
    age = f", {days} day{'' if days == 1 else 's'} old" if days > 0 else ""
    return f"{age}, signed" if agent.signed else age
