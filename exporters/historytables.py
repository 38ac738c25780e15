"""What ``callpath history`` shows in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from exporters import notknown, words
from exporters.history import Outage
from exporters.tables import STYLES, console_for

SHOWN = 40
"""Rows at most; --json has them all."""


def outages(
    found: Sequence[Outage],
    unknown: Mapping[notknown.Channel, float],
    since: float,
    now: float,
) -> None:
    """The newest first; the sentence below its row, where there is room for it. Then what of that
    time is not known."""
    if found:
        _outages(found, now)
    elif not notknown.is_nothing_known(unknown, now - since):
        console_for().print("No outage was seen in that time.")
    else:
        console_for().print("Nothing was measured in that time.")
        return
    for line in notknown.in_words(unknown, now - since):
        console_for().print(line)


def _outages(found: Sequence[Outage], now: float) -> None:
    console = console_for()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("messenger", "channel", "from (UTC)", "for", "status", "mechanism", "certainty"):
        table.add_column(name, no_wrap=True)
    table.add_column("what was seen", overflow="fold", ratio=1)
    for o in found[:SHOWN]:
        lasted = words.lasted((now if o.until is None else o.until) - o.since)
        table.add_row(
            o.messenger,
            o.channel,
            _minute(o.since),
            f"{lasted}, still" if o.until is None else lasted,
            Text(str(o.status), STYLES[str(o.status)]),
            str(o.mechanism),
            str(o.certainty),
            o.summary,
        )
    console.print(table)
    _rest(len(found))


def rediagnosed(
    differing: Sequence[Mapping[str, Any]], judged: int, left: Mapping[str, int]
) -> None:
    """Where today's rules say otherwise."""
    console = console_for()
    console.print(f"\n{judged} rounds judged again, {len(differing)} verdicts differ.")
    for why, count in left.items():
        console.print(f"{count} rounds not judged: {why}.")
    if not differing:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("at (UTC)", "messenger", "channel", "rules", "was", "now"):
        table.add_column(name, overflow="fold")
    for d in differing[:SHOWN]:
        at = d["at"].replace("T", " ")[:16]
        was, now = _verdict(d["was"]), _verdict(d["now"])
        table.add_row(at, d["messenger"], d["channel"], d["rules"], was, now)
    console.print(table)
    _rest(len(differing))


def _rest(count: int) -> None:
    if count > SHOWN:
        console_for().print(f"{count - SHOWN} more; --json has them all.")


def _verdict(said: Mapping[str, Any]) -> str:
    words = (said["status"], said["mechanism"], said["certainty"], said["rule"])
    return " ".join(w for w in map(str, words) if w not in ("", "none"))


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
