"""The form in which history keeps observations, and evidence carries them: JSON, packed.

What goes in comes out again, but for the exception's own words of a step, which are for logs.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable
from typing import Any

from probes.model import Contrast, Failure, Observation, Step, StepResult, Target

MOST = 64 * 1024 * 1024
"""Bytes that a packed value may have when unpacked; what is larger was not written by us."""

PIECE = 16
"""Observations that are written at one go."""


def pack(value: Any) -> bytes:
    """A JSON value, compressed."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)


def unpack(data: bytes) -> Any:
    """Raises ValueError for what ``pack`` did not make."""
    try:
        opened = zlib.decompressobj()
        text = opened.decompress(data, MOST)
    except zlib.error as error:
        raise ValueError(f"not packed: {error}") from error
    if not opened.eof:
        raise ValueError("cut off, or too large")
    return json.loads(text)


def to_record(o: Observation) -> dict[str, Any]:
    """As ``from_record`` reads it."""
    t = o.target
    made: dict[str, Any] = {
        "id": o.id,
        "target": [t.messenger, t.channel, t.name, t.probe],
        "at": o.at,
        "steps": [[s.step, round(s.seconds, 6), s.failure] for s in o.steps],
        "facts": dict(o.facts),
    }
    if o.partial:
        made["partial"] = True
    if o.contrast is not None:
        made["contrast"] = [o.contrast.of, o.contrast.differs]
    return made


def from_record(record: dict[str, Any]) -> Observation:
    """Raises ValueError, KeyError or TypeError for what ``to_record`` did not make."""
    of = record.get("contrast")
    return Observation(
        id=str(record["id"]),
        target=Target(*map(str, record["target"])),
        at=float(record["at"]),
        steps=tuple(
            StepResult(Step(step), float(seconds), Failure(failure) if failure else None)
            for step, seconds, failure in record["steps"]
        ),
        facts={k: tuple(v) if isinstance(v, list) else v for k, v in record["facts"].items()},
        partial=bool(record.get("partial", False)),
        contrast=Contrast(str(of[0]), str(of[1])) if of else None,
    )


def pack_observations(observations: Iterable[Observation]) -> bytes | None:
    """None for none of them. In small pieces, between which other threads may run: one that waits
    for a packet must not wait for this."""
    texts = []
    for number, o in enumerate(observations):
        texts.append(json.dumps(to_record(o), separators=(",", ":")))
        if number % PIECE == PIECE - 1:
            time.sleep(0)
    return zlib.compress(f"[{','.join(texts)}]".encode(), 6) if texts else None


def unpack_observations(data: bytes | None) -> tuple[Observation, ...]:
    """Raises ValueError for what cannot be read."""
    if data is None:
        return ()
    try:
        return tuple(map(from_record, unpack(data)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no observations: {error}") from error
