"""The agent's side of the tracer: one process per trace, which ends before the trace is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from probes.net.address import Source

log = logging.getLogger(__name__)

LIMIT = 180.0
"""Seconds after which the tracer begins no further run."""
OVERDUE = 60.0
"""Seconds behind that at which it is killed."""
PLACEMENTS = ("in_path", "on_path", "endpoint", "unknown")
FARTHEST = 255
_FOUND = "found"
_WORDS = (_FOUND, "no_interference", "dead_server", "unclear")


@dataclass(frozen=True, slots=True)
class Order:
    """What to say to whom (probes/trace/words.py has the kinds). ``controls``: other places that
    answer such packets: address, port, and does it stand near; ``sure``: a verdict says that the
    target is acted upon; ``more``: of the kind."""

    kind: str
    address: str
    port: int
    name: str = ""
    neutral: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    controls: Sequence[tuple[str, int, bool]] = ()
    sure: bool = True
    source: Source = field(default_factory=Source)
    asn_file: str = ""
    limit: float = LIMIT


@dataclass(frozen=True, slots=True)
class Traced:
    """``low`` is None unless ``word`` is ``found``; ``networks`` are those of the two hops, ""
    where that is not known."""

    word: str
    low: int | None
    high: int | None
    agree: int
    runs: int
    method: str
    placement: str
    networks: tuple[str, str]
    packets: int


Spent = Callable[[int, int], None]
"""Bytes sent and received since it was last called."""


async def trace(order: Order, spent: Spent) -> Traced | None:
    """None where the tracer did not get that far, which the log says. Cancelled, or too late, the
    process is killed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the agent alone
        )
    except OSError as error:
        log.error("the tracer cannot start: %s", error)
        return None
    try:
        async with asyncio.timeout(order.limit + OVERDUE):
            return await _heard(process, order, spent)
    except TimeoutError:
        log.error("the tracer does not come to an end: killed")
    except (ValueError, KeyError, TypeError) as error:
        log.error("the tracer talks nonsense: %s", error)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return None


def command() -> tuple[str, ...]:
    return (sys.executable, "-m", "agent.tracer", str(os.getpid()))


async def _heard(process: asyncio.subprocess.Process, order: Order, spent: Spent) -> Traced | None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(order)).encode())
    with contextlib.suppress(ConnectionError):
        await process.stdin.drain()
    process.stdin.close()
    sent = received = 0
    async for line in process.stdout:
        told = json.loads(line)
        now = _count(told["sent"]), _count(told["received"])
        spent(max(now[0] - sent, 0), max(now[1] - received, 0))
        sent, received = max(now[0], sent), max(now[1], received)
        if "result" in told:
            return traced(told)
    log.error("the tracer ended without a word, with %s", await process.wait())
    return None


def traced(told: Mapping[str, Any]) -> Traced:
    """Raises ValueError, KeyError and TypeError for what is no result."""
    word, high = told["result"], told["high"]
    if word not in _WORDS or told["placement"] not in PLACEMENTS:
        raise ValueError(f"no such word: {word}, {told['placement']}")
    low = _count(told["low"], FARTHEST) if word == _FOUND else None
    if low is not None and high is not None and not low < _count(high, FARTHEST):
        raise ValueError("the stretch has no length")
    first, second = told["networks"]
    return Traced(
        word,
        low,
        high if low is not None else None,
        _count(told["agree"], FARTHEST),
        _count(told["runs"], FARTHEST),
        str(told["method"])[:1],
        told["placement"],
        (str(first), str(second)),
        _count(told["packets"]),
    )


def _count(value: Any, most: int = 2**40) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"no number: {value!r}"[:80])
    return value
