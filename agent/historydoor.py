"""What ``callpath history`` and ``callpath purge`` do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.replay import Again, Counted, replay
from agent.wiring import versions
from config.model import Config
from exporters.document import timestamp
from exporters.history import History, Outage
from exporters.historydocument import VERSION, outage


@dataclass(frozen=True, slots=True)
class Told:
    """``differing`` is None where nothing was judged again, else a row per channel and round."""

    since: float
    now: float
    outages: Sequence[Outage]
    differing: list[dict[str, Any]] | None
    counted: Counted
    document: dict[str, Any]


def look_back(
    config: Config, names: Sequence[str], seconds: float, again: bool, folder: Path
) -> Told:
    """Outages of these messengers, or of all that are remembered, of the last ``seconds``.
    ``again``: judge anew what is whole. Raises NoHistory."""
    now = time.time()
    since = now - seconds
    history = History(folder)
    try:
        outages = history.outages(since, now, names)
        counted = Counted()
        differing = _again(config, history, names, since, now, counted) if again else None
    finally:
        history.close()
    document: dict[str, Any] = {
        "version": VERSION,
        "at": timestamp(now),
        "callpath": versions(config),
        "from": timestamp(since),
        "to": timestamp(now),
        "outages": [outage(o) for o in outages],
    }
    if differing is not None:
        document["rediagnosed"] = {
            "rounds": counted.judged,
            "left_out": counted.left,
            "differing": differing,
        }
    return Told(since, now, outages, differing, counted, document)


def _again(
    config: Config,
    history: History,
    names: Sequence[str],
    since: float,
    now: float,
    counted: Counted,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for messenger in config.messengers:
        if names and messenger.name not in names:
            continue
        rows = history.rows(messenger.name, since, now)
        for one in replay(rows, since, messenger, config.controls, counted):
            found += otherwise(one)
    return found


def otherwise(one: Again) -> list[dict[str, Any]]:
    """Where a round is judged otherwise today, as documents have it."""
    return [
        {
            "at": timestamp(one.at),
            "messenger": one.messenger,
            "channel": after["channel"],
            "rules": one.rules,
            "was": dict(before),
            "now": dict(after),
        }
        for before, after in one.differs
    ]
