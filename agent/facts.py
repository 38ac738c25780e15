"""Numbers among the facts of an observation. Pure; a fact that is no number was not measured."""

from __future__ import annotations

from probes.model import Observation


def count(o: Observation, fact: str, otherwise: int = 0) -> int:
    value = o.facts.get(fact)
    return value if isinstance(value, int) else otherwise


def number(o: Observation, fact: str) -> float | None:
    value = o.facts.get(fact)
    return float(value) if isinstance(value, int | float) else None


def transmissions(o: Observation) -> int:
    """Packets sent until there was an answer, or none: requests, or one with its
    retransmissions."""
    return count(o, "requests") or 1 + count(o, "retransmissions")
