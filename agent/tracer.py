"""The tracer's process: one order as JSON on stdin, JSON lines on stdout, the last is the result.

``python -m agent.tracer PARENT``. It is a process of its own so that the agent has nothing of it in
memory, and so that whoever wants it to stop kills it. Addresses of routers do not leave it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probes.net.address import Source, parse
from probes.trace.common import Control, Report
from probes.trace.walk import Walk
from probes.trace.words import NEUTRAL, Words, words

PR_SET_PDEATHSIG = 1  # prctl(2)
BEAT = 0.5
"""Seconds between two words of how much was sent so far."""
_HEADERS = 60
_ANSWER = 120
"""Bytes that an answer or a router's report has at the most, about."""


def main() -> None:
    die_with(int(sys.argv[1]))
    order = json.loads(sys.stdin.buffer.read())
    told = asyncio.run(carry_out(order))
    _say(told)


def die_with(parent: int) -> None:
    """However the parent ends, this process does not outlive it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        sys.exit(1)


async def carry_out(order: Mapping[str, Any]) -> dict[str, Any]:
    """Raises KeyError, TypeError and ValueError for what is no order of ours."""
    more = order["more"]
    said = words(order["kind"], order["name"], order["neutral"] or NEUTRAL, **more)
    walk = Walk(
        said,
        order["address"],
        order["port"],
        Source(**order["source"]),
        [Control(*each) for each in order["controls"]],
        order["sure"],
        order["limit"],
    )
    size = _size(said)
    saying = asyncio.create_task(_keep_saying(walk, size))
    try:
        report = await walk.trace()
    finally:
        saying.cancel()
    return {**_spent(report.packets, size), **result(report, order)}


def result(report: Report, order: Mapping[str, Any]) -> dict[str, Any]:
    """The stretch and who the networks at its ends belong to, no router."""
    place = report.place
    found = place.stretch if place else None
    low = high = ""
    if place and found:
        at_end = [r.distance for r in report.runs if r.distance]
        routers = {n: r for n, r in enumerate(place.routers, 1) if r}
        if at_end:
            routers[at_end[0]] = order["address"]
        low, high = routers.get(found.low, ""), routers.get(found.high or 0, "")
    known = _networks(order["asn_file"], (low, high))
    return {
        "result": str(report.word),
        "low": found.low if found else None,
        "high": found.high if found else None,
        "agree": place.agree if place else 0,
        "runs": place.runs if place else 0,
        "placement": str(place.placement) if place else "unknown",
        "method": report.method,
        "networks": [known.get(low, ""), known.get(high, "")],
        "seconds": round(report.seconds, 1),
        "why": report.why,
    }


def _networks(file: str, routers: Sequence[str]) -> dict[str, str]:
    wanted = [r for r in routers if parse(r)]
    if not file or not wanted:
        return {}
    from agent.tracing import networks  # imported late: it brings half the agent along

    try:
        return networks(Path(file), wanted)
    except OSError:
        return {}


async def _keep_saying(walk: Walk, size: int) -> None:
    said = 0
    while True:
        await asyncio.sleep(BEAT)
        if walk.packets > said:
            said = walk.packets
            _say(_spent(said, size))


def _spent(packets: int, size: int) -> dict[str, int]:
    """Bytes as if every packet carried the whole trigger and was answered: rather too many."""
    return {
        "packets": packets,
        "sent": packets * (size + _HEADERS),
        "received": packets * _ANSWER,
    }


def _size(said: Words) -> int:
    return len(said.trigger()) if said.trigger else 0


def _say(told: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
