"""What ``callpath history`` and ``callpath purge`` do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.replay import Again, Counted, replay
from agent.wiring import versions
from config.model import Config, MessengerConfig
from exporters import notknown
from exporters.document import timestamp
from exporters.history import History, Outage
from exporters.historydocument import VERSION, outage
from exporters.notknown import Channel


@dataclass(frozen=True, slots=True)
class Told:
    """``differing`` is None where nothing was judged again, else a row per channel and round;
    ``unknown``: seconds of each channel in which nothing is known of it."""

    since: float
    now: float
    outages: Sequence[Outage]
    unknown: Mapping[Channel, float]
    differing: list[dict[str, Any]] | None
    counted: Counted
    document: dict[str, Any]


def look_back(
    config: Config, names: Sequence[str], seconds: float, again: bool, folder: Path
) -> Told:
    """Outages of these messengers, or of all that are remembered, of the last ``seconds``.
    ``again``: judge anew what is whole. Raises NoHistory, and ValueError for a messenger of which
    nobody has heard."""
    now = time.time()
    since = now - seconds
    history = History(folder)
    try:
        known = channels(config.messengers, history, names)
        for name in names:
            if name not in {messenger for messenger, _ in known}:
                raise ValueError(f"no messenger {name} is configured or remembered")
        unknown = notknown.not_known(history, known, since, now)
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
        "not_known": notknown.listed(unknown),
    }
    if differing is not None:
        document["rediagnosed"] = {
            "rounds": counted.judged,
            "left_out": counted.left,
            "differing": differing,
        }
    return Told(since, now, outages, unknown, differing, counted, document)


def channels(
    configured: Iterable[MessengerConfig], history: History, names: Sequence[str]
) -> set[Channel]:
    """Of these messengers, or of all: those that are configured, and those that are remembered."""
    found = {(m.name, t.target.channel) for m in configured for t in m.targets}
    return {key for key in found.union(history.channels()) if not names or key[0] in names}


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
