"""Paced streams of datagrams: what is to be sent when, and what came of it.

Only the words: who plays them is a process of its own (agent/enginedoor.py), since a pace of 20 ms
does not survive beside TLS handshakes in one interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from probes.model import Failure
from probes.net.address import Source


@dataclass(frozen=True, slots=True)
class Send:
    """One datagram, ``at`` seconds after the common start of all streams that play together."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """One 5-tuple to a literal address. ``lasts``: seconds after the start until which answers are
    waited for. With a ``flow`` the socket stays open and the next stream of that name to the same
    place goes on with it, its source port and all; "" is a fresh source port."""

    address: str
    port: int
    sends: tuple[Send, ...]
    lasts: float
    flow: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """``at``: kernel receive time, Unix nanoseconds."""

    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one stream. ``sent``: Unix nanoseconds just before each of its sends, 0 where
    this host refused to send; ``late``: seconds by which each left after its time; ``failures``:
    ICMP errors in order of arrival, and once why this host refused; ``overflowed``: datagrams that
    this host itself lost, or that were too many to be kept;
    ``stepped``: the host's clock was set meanwhile, and no time of this is to be believed."""

    sent: tuple[int, ...]
    late: tuple[float, ...]
    received: tuple[Received, ...]
    failures: tuple[Failure, ...] = ()
    overflowed: int = 0
    stepped: bool = False


Watch = Callable[[Sequence[Played]], None]
"""Called about four times a second with all that was played so far."""


class Streams(Protocol):
    """Plays streams that start together."""

    async def play(
        self, streams: Sequence[Stream], source: Source, watch: Watch | None = None
    ) -> list[Played]:
        """In the order given. Raises NotMeasured when the engine has died, or cannot start."""
