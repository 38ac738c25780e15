"""The path of a trace, drawn for the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

_HERE = "this host"


def draw(told: Mapping[str, Any]) -> None:
    """A line per hop, from this host to the server, with the place marked."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has but ASCII
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    interval = told["interval"]
    low, high = (interval["low"], interval["high"]) if interval else (None, None)
    routers = {r["hop"]: r for r in told["routers"]}
    last = told["distance"] or max((*routers, high or 0, (low or 0) + 1))
    console.print(Text(f"  0  {_HERE}"))
    if low == 0:
        console.print(_mark(told, high == 1))
    for hop in range(1, last + 1):
        server = hop == told["distance"]
        one = routers.get(hop) or {}
        who = told["address"] if server else one.get("address") or "(silent)"
        line = f"{hop:>3}  {who}"
        line += "  the server" if server else f"  {one['as']}" if one.get("as") else ""
        beyond = low is not None and hop > low
        console.print(Text(line, "dim" if beyond and not server else ""))
        if low == hop:
            console.print(_mark(told, high == hop + 1))
    if told["distance"] is None:
        console.print(Text("  …", "dim"))
    console.print(told["summary"])
    agreement = told["agreement"] or {"runs": 0}
    details = [f"method {told['method']}", f"{told['packets']} packets", f"{told['seconds']:g} s"]
    if agreement["runs"] and (told["paths"] or 1) > 1:
        details.insert(1, f"{told['paths']} paths")
    if torn := told["teardowns"]:
        details.insert(0, _ORIGINS[torn["origin"]])
    raw = told["raw"]
    details.append("captured" if raw["used"] else f"not captured ({raw['why_not']})")
    if told["placement"] in _PLACED:
        details.insert(0, _PLACED[told["placement"]])
    console.print(Text(", ".join(details), "dim"))


_PLACED = {
    "in_path": "the packets go through it",
    "on_path": "it stands beside the path",
    "endpoint": "at the server or just before it",
}


_ORIGINS = {
    "injected": "the resets are forged",
    "rewritten": "the server's answers are made resets",
    "unclear": "whose the resets are is unclear",
}


def _mark(told: Mapping[str, Any], exact: bool) -> Text:
    sign = ", ".join(told["signs"])
    return Text(f"  ✗  {sign}" + ("" if exact else " (here or further on)"), "bold red")
