"""A store with a history that a test wrote row by row."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agent.store import Store
from exporters.history import History

KEY = ("m", "call")


class Written:
    """A store with a history of a few rows."""

    def __init__(self, folder: Path) -> None:
        Store(folder).close()
        self.folder = folder
        self.db = sqlite3.connect(folder / "callpath.sqlite")

    def span(self, since: float, until: float, interval: float = 60.0) -> None:
        self.db.execute("INSERT INTO spans VALUES (NULL, ?, ?, ?)", (since, until, interval))
        self.db.commit()

    def change(
        self,
        at: float,
        status: str,
        mechanism: str = "none",
        *,
        since: float | None = None,
        certainty: str = "none",
        confidence: float = 0.0,
        channel: str = "call",
        messenger: str = "m",
        summary: str = "It is so.",
    ) -> None:
        self.db.execute(
            "INSERT INTO changes VALUES (NULL, ?, ?, ?, ?, ?, ?, 0, '', ?, ?, 'R1', '', ?, 3)",
            (at, messenger, channel, status, mechanism, certainty, since, confidence, summary),
        )
        self.db.commit()

    def segments(self, since: float, now: float) -> list[tuple[float, float, str]]:
        history = History(self.folder)
        try:
            return [(s.since, s.until, str(s.status)) for s in history.segments(*KEY, since, now)]
        finally:
            history.close()
