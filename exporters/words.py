"""Diagnoses and observations in words, for the terminal and the page."""

from __future__ import annotations

from probes.model import Contrast, Diagnosis, Mechanism, Observation


def sentence(d: Diagnosis) -> str:
    """The summary without the channel's name before it."""
    return d.summary.partition(": ")[2] or d.summary


def mechanism(d: Diagnosis) -> str:
    """For people: nothing where nothing is wrong."""
    return "" if d.mechanism is Mechanism.NONE else str(d.mechanism).replace("_", " ")


DIFFERS = {
    "name": "a neutral name",
    "address": "its name elsewhere",
    "port": "another port",
    "length": "a shorter hello",
    "bytes": "random bytes",
    "dress": "in another form",
    "time": "the same again",
    "again": "the same once more, afterwards",
    "stun": "STUN to the same place",
    "over_tcp": "the same over TCP",
    "resolver": "a trusted resolver",
    "nowhere": "where no resolver is",
    "answer": "where a trusted resolver leads",
    "query": "another name's look-up",
    "sibling": "another server of the owner",
    "control": "a control",
    "twin": "the twin",
    "server": "a control's transfer",
    "segments": "other segments",
    "hello": "another program's hello",
    "transport": "another transport",
    "protocol": "TLS at the same port",
    "burst": "several at once",
}
"""What a contrast is, by what it differs in."""


def differs(o: Observation, contrast: Contrast) -> str:
    """What was asked instead."""
    how = o.facts.get("transport") or o.facts.get("payload")
    told = DIFFERS.get(contrast.differs, contrast.differs.replace("_", " "))  # a later version's
    return told + (f", {how}" if how else "")


def place(o: Observation) -> str:
    """Address and port that were asked."""
    if o.address is None or "port" not in o.facts:
        return o.address or "–"
    address = f"[{o.address}]" if ":" in o.address else o.address
    return f"{address}:{o.facts['port']}"


def failure(o: Observation) -> str:
    """Step and word of what failed."""
    failed = o.failed
    return f"{failed.step}: {failed.failure}".replace("_", " ") if failed else "ok"


def packets(o: Observation) -> str:
    """How much of it was answered, or how long it took."""
    if "requests" in o.facts:
        return f"{o.facts.get('answered', 0)} of {o.facts['requests']} answered"
    return f"after {o.seconds:.1f} s"


def lasted(seconds: float) -> str:
    """The two largest units of a time: "3 h 12 min"; never less than nothing, also where a clock
    was set back."""
    minutes = max(0, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 1440:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
