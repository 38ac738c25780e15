"""Tables that a person likes to read, for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporters.document import in_order
from probes.model import Diagnosis, Fact, Mechanism, Observation, Report, Status
from probes.wire.text import clean

_STYLES = {
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


def _console() -> Console:
    # Text from the network is never read as markup, nor ":100:" in an address as an emoji.
    width = None if sys.stdout.isatty() else 160
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=False, width=width)


def report(shown: Report, seconds: float) -> None:
    """The answer of ``callpath check``: the line first, then a row per channel."""
    console = _console()
    status = str(shown.vantage.status)
    console.print(
        Text.assemble("This line is ", (status, _STYLES[status]), f": {shown.vantage.reason}.")
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
            Text(str(d.status), _STYLES[str(d.status)]),
            mechanism_words(d),
            str(d.certainty) if d.first else "",
            f"{d.working} of {d.measured}",
            _sentence(d),
        )
    console.print()
    console.print(table)
    failing = [d for d in in_order(shown.diagnoses) if d.status not in (Status.OK, Status.UNKNOWN)]
    for d in failing:
        _decided(console, d)
        _failing_targets(console, d, shown.observations)
    if shown.left_out and failing:
        console.print("\nNot compared, so that some rules had to be silent:")
        for words in shown.left_out:
            console.print(f"  {words}")
    console.print(f"\n{len(shown.observations)} observations in {seconds:.0f} s.")


def _sentence(d: Diagnosis) -> str:
    return d.summary.partition(": ")[2] or d.summary


def mechanism_words(d: Diagnosis) -> str:
    """For people: nothing where nothing is wrong."""
    return "" if d.mechanism is Mechanism.NONE else str(d.mechanism).replace("_", " ")


def _decided(console: Console, d: Diagnosis) -> None:
    """Each finding, and what it rests on."""
    for f in d.findings:
        name = str(f.mechanism).replace("_", " ")
        head = f"\n{d.messenger} {d.channel}: {name}, {f.certainty}"
        console.print(f"{head} ({f.confidence:.0%}, rule {f.rule}): {f.told}.")
        if f.decided:
            console.print(f"  What decided: {'; '.join(f.decided)}.")


def _failing_targets(console: Console, d: Diagnosis, seen: Sequence[Observation]) -> None:
    console.print(f"\n{d.messenger} {d.channel}, what failed:")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=False)
    failed = {t.target.name for t in d.targets if t.works is False}
    for o in seen:
        if o.target.messenger == d.messenger and o.target.name in failed and o.failed:
            table.add_row(o.target.name, o.target.probe, o.address or "–", _failure(o), _packets(o))
    console.print(table)


def _failure(o: Observation) -> str:
    failed = o.failed
    return f"{failed.step}: {failed.failure}".replace("_", " ") if failed else "ok"


def _packets(o: Observation) -> str:
    if "requests" in o.facts:
        return f"{o.facts.get('answered', 0)} of {o.facts['requests']} answered"
    return f"after {o.seconds:.1f} s"


def observations(seen: Sequence[Observation]) -> None:
    """The answer of ``callpath probe``: every step with its time, then every fact."""
    console = _console()
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


def contacts(rows: Sequence[dict[str, Any]]) -> None:
    """The answer of ``callpath messengers``: what would be contacted."""
    console = _console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("messenger", "channel", "target", "probe"):
        table.add_column(name, no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("every", justify="right", no_wrap=True)
    table.add_column("a day", justify="right", no_wrap=True)
    table.add_column("answers strangers", no_wrap=True)
    for row in rows:
        where = f"{row['host']}:{row['port']}" if row["port"] else str(row["host"])
        if row["addresses"]:
            where += f" ({', '.join(row['addresses'])})"
        table.add_row(
            row["messenger"],
            row["channel"] or row["role"],
            row["target"],
            row["probe"],
            where,
            _every(row["seconds"]),
            _size(row["bytes_per_day"]),
            row["proof"] + (", informative" if row["informative"] else ""),
        )
    console.print(table)
    total = sum(row["bytes_per_day"] for row in rows)
    console.print(f"\n{len(rows)} targets, about {_size(total)} a day.")


def _every(seconds: float | None) -> str:
    if seconds is None:
        return "on failure"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:g} s"


def _size(count: float) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**19 else f"{count / 1024:.0f} KiB"
