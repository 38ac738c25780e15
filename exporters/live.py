"""A media stream while it plays, in the terminal (``callpath probe media … --watch``)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from probes.wire.quality import Quality

_NAMES = {
    "target": "target",
    "control": "control",
    "companion": "companion, 1 a second",
    "long": "long-lived flow",
}


class StreamView:
    """Redrawn with every ``show``; what it showed last stays."""

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console or Console(stderr=True), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, figures: Mapping[str, Quality]) -> None:
        self._live.update(table(figures), refresh=True)


def table(figures: Mapping[str, Quality]) -> Table:
    """A row per stream. What is not known yet is a dash."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    made.add_column("stream", no_wrap=True)
    for name in ("sent", "lost", "late", "RTT", "p95", "jitter", "gap", "MOS G.711", "MOS Opus"):
        made.add_column(name, justify="right", no_wrap=True)
    for name, its in figures.items():
        made.add_row(
            _NAMES.get(name, name),
            str(its.requests),
            _share(its.lost),
            _share(its.late[1] if its.late else None),
            _ms(its.rtt_median),
            _ms(its.rtt_p95),
            _ms(its.jitter),
            _ms(its.longest_gap),
            _score(its.mos_g711),
            _score(its.mos_opus),
        )
    return made


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.1f} ms"


def _score(mos: float | None) -> str:
    return "–" if mos is None else f"{mos:.2f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
