"""Logging: text for people, or one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from probes.model import VantageStatus


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(level: str, form: str) -> None:
    """Log to stderr at ``level``; ``form`` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_Json() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "asyncio", "apscheduler"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def line_changed(before: str, now: str, reason: str) -> None:
    """What is shown of the line itself is another word than before; "" at the start."""
    if now == before or (not before and now == VantageStatus.ONLINE):
        return
    level = logging.INFO if now == VantageStatus.ONLINE else logging.WARNING
    said = f": {reason}" if reason else ""
    logging.getLogger(__name__).log(level, "this line: %s -> %s%s", before or "start", now, said)


def bug_in(what: str) -> Callable[[asyncio.Task[Any]], None]:
    """For ``add_done_callback``: an exception that nobody waits for is logged all the same."""

    def done(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            logging.getLogger(__name__).error("bug in %s", what, exc_info=error)

    return done
