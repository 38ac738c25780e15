"""How much of a time nothing is known of: what was not measured is no good news.

A channel is not known where its status was ``unknown``, and where the agent did not run. Times are
Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from exporters.history import History
from exporters.words import lasted
from probes.model import Status

Channel = tuple[str, str]
"""Messenger and channel."""
_LEAST = 30.0
"""Seconds that are worth a word."""


def not_known(
    history: History, channels: Iterable[Channel], since: float, until: float
) -> dict[Channel, float]:
    """Seconds of each channel, also of one that is not remembered; 0 where all is known."""
    return {
        channel: sum(
            s.until - s.since
            for s in history.segments(*channel, since, until)
            if s.status is Status.UNKNOWN
        )
        for channel in sorted(channels)
    }


def is_nothing_known(unknown: Mapping[Channel, float], length: float) -> bool:
    """Of no channel, of ``length`` seconds."""
    return all(seconds > length - _LEAST for seconds in unknown.values())


def in_words(unknown: Mapping[Channel, float], length: float) -> list[str]:
    """A sentence for all channels of which as much is not known, the most first."""
    alike: dict[str, list[str]] = {}
    for (messenger, channel), seconds in sorted(unknown.items(), key=lambda it: -it[1]):
        if seconds >= _LEAST:
            what = f"{messenger} {channel}"
            alike.setdefault("" if seconds > length - _LEAST else lasted(seconds), []).append(what)
    return [
        f"Not known for {time} of it: {', '.join(names)}."
        if time
        else f"Nothing is known of that time: {', '.join(names)}."
        for time, names in alike.items()
    ]


def listed(unknown: Mapping[Channel, float]) -> Sequence[dict[str, Any]]:
    """For documents: only channels of which something is not known."""
    return [
        {"messenger": m, "channel": c, "seconds": round(seconds, 3)}
        for (m, c), seconds in unknown.items()
        if seconds > 0
    ]
