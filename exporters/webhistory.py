"""The endpoint of the history: segments, outages, a target's figures. Bounded, and off the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from exporters.document import timestamp
from exporters.history import History, NoHistory
from exporters.historydocument import VERSION, failures, outage, point, segment

DAY = 86400.0
LONGEST = 366 * DAY
"""Seconds that may be asked about at once."""
MOST, USUAL = 1000, 200
"""Segments, or failures, of one answer; what is older is asked for with ``until``."""
POINTS = 504
"""Of a series."""
AT_ONCE = 2
PARAMETERS = frozenset({"messenger", "channel", "target", "since", "until", "limit"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about; times are Unix seconds."""

    messenger: str
    channel: str
    target: str
    since: float
    until: float
    limit: int


class HistoryEndpoint:
    """``folder``: the agent's state folder, "" where nothing is kept. ``versions``: as in every
    document."""

    def __init__(self, folder: str, versions: Callable[[], Mapping[str, str]]) -> None:
        self._folder, self._versions = folder, versions
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def answer(self, request: Request) -> Response:
        try:
            asked = parse(request.query_params, time.time())
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        if not self._folder:
            return PlainTextResponse("nothing is kept: history.enabled is off\n", 404)
        try:
            async with self._gate:
                body = await asyncio.to_thread(self._answer, asked)
        except NoHistory as error:
            return PlainTextResponse(f"{error}\n", 404)
        return JSONResponse(body)

    def _answer(self, asked: Asked) -> dict[str, Any]:
        head = {
            "version": VERSION,
            "callpath": dict(self._versions()),
            "from": timestamp(asked.since),
            "to": timestamp(asked.until),
        }
        # Opened anew for every answer: a purge, or a store set aside, may be between.
        history = History(Path(self._folder))
        try:
            return head | (
                of_target(history, asked) if asked.target else of_channels(history, asked)
            )
        finally:
            history.close()


def of_channels(history: History, asked: Asked) -> dict[str, Any]:
    """Segments and outages, the newest first. ``next`` is the ``until`` for what is older, None
    when that is all."""
    keys = [
        key
        for key in history.channels()
        if (not asked.messenger or key[0] == asked.messenger)
        and (not asked.channel or key[1] == asked.channel)
    ]
    found = [s for key in keys for s in history.segments(*key, asked.since, asked.until)]
    found.sort(key=lambda s: (-s.until, s.messenger, s.channel))
    limit = max(asked.limit, len(keys))  # of each the newest, so that older ones are come to
    shown, rest = found[:limit], found[limit:]
    names = (asked.messenger,) if asked.messenger else ()
    outages = history.outages(asked.since, asked.until, names, asked.channel)
    return {
        "segments": [{"messenger": s.messenger, "channel": s.channel, **segment(s)} for s in shown],
        "outages": [outage(o) for o in outages[: asked.limit]],
        "next": timestamp(rest[0].until) if rest else None,
    }


def of_target(history: History, asked: Asked) -> dict[str, Any]:
    points = history.series(asked.messenger, asked.target, asked.since, asked.until, POINTS)
    failed = history.failures(asked.messenger, asked.target, min(asked.limit, USUAL))
    return {
        "messenger": asked.messenger,
        "target": asked.target,
        "series": [point(p) for p in points],
        "failures": failures(o for o in failed if asked.since <= o.at <= asked.until),
    }


def parse(given: Mapping[str, str], now: float) -> Asked:
    """Raises ValueError that says what is wrong. Without ``since``: a day."""
    unknown = sorted(set(given) - PARAMETERS)
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0][:40]!r}; known: {sorted(PARAMETERS)}")
    until = _time(given["until"], "until") if "until" in given else now
    since = _time(given["since"], "since") if "since" in given else until - DAY
    if not since < until or until - since > LONGEST:
        raise ValueError("since must be before until, and by no more than 366 days")
    limit = given.get("limit", str(USUAL))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST):
        raise ValueError(f"limit must be a number from 1 to {MOST}")
    asked = Asked(
        messenger=given.get("messenger", ""),
        channel=given.get("channel", ""),
        target=given.get("target", ""),
        since=since,
        until=min(until, now),
        limit=int(limit),
    )
    if asked.target and not asked.messenger:
        raise ValueError("target needs messenger")
    if asked.since >= asked.until:
        raise ValueError("since is in the future")
    return asked


def _time(text: str, name: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} must be a time like 2026-11-24T09:00:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
