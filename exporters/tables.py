"""Tables that a person likes to read, for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporters import words
from exporters.document import in_order
from probes.model import Diagnosis, Fact, Observation, Report, Status
from probes.wire.text import clean

STYLES = {
    "ok": "green",
    "online": "green",
    "degraded": "yellow",
    "restricted": "yellow",
    "blocked": "bold red",
    "unreachable": "bold red",
    "offline": "bold red",
    "faulty": "bold red",
    "unknown": "dim",
    "portal": "magenta",
    "tunnelled": "magenta",
}


SHOWN = 10
"""Rows of what failed, and of what was asked about it, by channel."""


def console_for() -> Console:
    """For stdout."""
    # Text from the network is never read as markup, nor ":100:" in an address as an emoji.
    width = None if sys.stdout.isatty() else 160
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=False, width=width)


def report(shown: Report, seconds: float) -> None:
    """The answer of ``callpath check``: the line first, then a row per channel."""
    console = console_for()
    status = str(shown.vantage.status)
    console.print(
        Text.assemble("This line is ", (status, STYLES[status]), f": {shown.vantage.reason}.")
    )
    if shown.without:
        console.print(f"{shown.without[:1].upper()}{shown.without[1:]}.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("messenger", "channel", "status", "mechanism", "certainty", "servers"):
        table.add_column(name, no_wrap=True)
    table.add_column("what was seen", overflow="fold", ratio=1)
    for d in in_order(shown.diagnoses):
        table.add_row(
            d.messenger,
            d.channel,
            Text(str(d.status), STYLES[str(d.status)]),
            words.mechanism(d),
            str(d.certainty) if d.first else "",
            f"{d.working} of {d.measured}",
            words.sentence(d),
        )
    console.print()
    console.print(table)
    failing = [d for d in in_order(shown.diagnoses) if d.status not in (Status.OK, Status.UNKNOWN)]
    for d in failing:
        _decided(console, d)
        _failing_targets(console, d, shown.observations)
    if shown.left_out and failing:
        console.print("\nNot compared, so that some rules had to be silent:")
        for one in shown.left_out:
            console.print(f"  {one}")
    console.print(f"\n{len(shown.observations)} observations in {seconds:.0f} s.")


def _decided(console: Console, d: Diagnosis) -> None:
    """Each finding, and what it rests on."""
    for f in d.findings:
        name = str(f.mechanism).replace("_", " ")
        head = f"\n{d.messenger} {d.channel}: {name}, {f.certainty}"
        console.print(f"{head} ({f.confidence:.0%}, rule {f.rule}): {f.told}.")
        if f.decided:
            console.print(f"  What decided: {'; '.join(f.decided)}.")


def _failing_targets(console: Console, d: Diagnosis, seen: Sequence[Observation]) -> None:
    names = {t.target.name for t in d.targets if t.works is False}
    theirs = [o for o in seen if o.target.messenger == d.messenger and o.target.name in names]
    _rows(
        console,
        f"\n{d.messenger} {d.channel}, what failed:",
        [
            (o.target.name, o.target.probe, o.address or "–", words.failure(o), words.packets(o))
            for o in theirs
            if o.contrast is None and o.failed
        ],
    )
    _rows(
        console,
        "  Asked to explain it:",
        [
            (
                o.target.name,
                words.differs(o, o.contrast),
                words.place(o),
                words.failure(o),
                words.packets(o),
            )
            for o in theirs
            if o.contrast is not None
        ],
    )


def _rows(console: Console, head: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Each but once: some things are asked several times in a row."""
    once: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in rows:
        once.setdefault(row[:-1], row)  # the last column is how long it took
    if not once:
        return
    console.print(head)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    for row in list(once.values())[:SHOWN]:
        table.add_row(*row)
    console.print(table)
    if len(once) > SHOWN:
        console.print(f"  and {len(once) - SHOWN} more")


def observations(seen: Sequence[Observation]) -> None:
    """The answer of ``callpath probe``: every step with its time, then every fact."""
    console = console_for()
    for o in seen:
        verdict = "works" if o.works else "does not work"
        console.print(f"{o.target.probe} {o.target.name} at {o.address or 'no address'}: {verdict}")
        for step in o.steps:
            word = f"failed: {step.failure}" if step.failure else "ok"
            console.print(f"  {step.step:<10} {step.seconds * 1000:9.2f} ms  {word}")
            if step.detail and step.failure:
                console.print(f"             {clean(step.detail, 200)}")
        for key, value in sorted(o.facts.items()):
            if key != "address":
                console.print(f"    {key} = {_value(value)}")


def _value(value: Fact) -> str:
    if isinstance(value, tuple):
        value = ", ".join(value)
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value), 2000)


def _where(row: Mapping[str, Any]) -> str:
    where = f"{row['host']}:{row['port']}" if row["port"] else str(row["host"])
    return where + (f" ({', '.join(row['addresses'])})" if row["addresses"] else "")


_WIDE = 130
"""Columns of a terminal that the table of contacts needs."""


def contacts(rows: Sequence[dict[str, Any]], available: Sequence[str] = ()) -> None:
    """The answer of ``callpath messengers``: what would be contacted, and ``available``, which is
    not."""
    console = console_for()
    told = [
        (
            row["messenger"],
            row["channel"] or row["role"],
            row["target"],
            row["probe"],
            _where(row),
            _every(row["seconds"]),
            _size(row["bytes_per_day"]),
            row["proof"] + (", informative" if row["informative"] else ""),
        )
        for row in rows
    ]
    if console.width < _WIDE:  # as columns they would be cut to nothing
        for row, (*label, where, often, size, answers) in zip(rows, told, strict=True):
            console.print(Text(" ".join(label), "bold"))
            often = often if row["seconds"] is None else f"every {often}"
            console.print(Text(f"  {where}: {often}, {size} a day, {answers}"), soft_wrap=True)
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in ("messenger", "channel", "target", "probe"):
            table.add_column(name, no_wrap=True)
        table.add_column("where", overflow="fold")
        table.add_column("every", justify="right", no_wrap=True)
        table.add_column("a day", justify="right", no_wrap=True)
        table.add_column("answers strangers", no_wrap=True)
        for one in told:
            table.add_row(*one)
        console.print(table)
    total = sum(row["bytes_per_day"] for row in rows)
    console.print(f"\n{len(rows)} targets, about {_size(total)} a day.")
    if available:
        console.print(f"Available, not selected: {', '.join(available)}.")


def _every(seconds: float | None) -> str:
    if seconds is None:
        return "on failure"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:g} s"


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**19 else f"{count / 1024:.0f} KiB"
