"""The worlds of calls that are cut off, as ``worlds.py``: one run of the call probe is one flow and
what ran beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.case import Case
from probes.call import CallProbe
from probes.model import Failure, Observation, Step
from tests.agent.building import seen, target
from tests.agent.worlds import A1, A2, A3, Failed, case

FLOWS = tuple(
    target(f"flow{n}", probe=CallProbe(), host=address, port=1400)
    for n, address in enumerate((A1, A2, A3))
)
SECONDS, CANARIES, PACKETS = 21.0, 22, 358
"""Of a run of twenty seconds: when it ends, a flow's canaries, and a call's packets."""
PER_SECOND = {"call": 17.7, "random": 17.7, "twin": 17.7, "canary": 1.0, "control": 1.0}
"""Packets a second of each arm, after the five that it begins with (two without a call)."""
SIZES = ("20", "60", "100", "250", "500", "1000")


def lives(arm: str) -> dict[str, Any]:
    packets = PACKETS if PER_SECOND[arm] > 1 else CANARIES
    return {
        f"{arm}_canaries": CANARIES,
        f"{arm}_canaries_answered": CANARIES,
        f"{arm}_packets": packets,
        f"{arm}_answers": CANARIES + 3 * (arm == "call"),
        f"{arm}_first_answered": True,
    }


def dies(arm: str, seconds: float) -> dict[str, Any]:
    """After so many seconds; its canaries leave at 1.8, 2.8 and so on."""
    answered = 2 + max(0, int(seconds - 0.8))
    last, first = answered - 0.2, answered + 0.8
    return _dead(arm, answered, last, first, *(sent_by(arm, at) for at in (last, first)))


def dies_after(arm: str, packets: int) -> dict[str, Any]:
    """After so many packets of its own; it lives where it does not have as many."""
    canaries = [n for n in range(CANARIES - 2) if sent_by(arm, n + 1.8) <= packets]
    if len(canaries) + 5 >= CANARIES - 2:
        return lives(arm)
    at = len(canaries) + 1.8
    before = (sent_by(arm, at - 1), at - 1) if canaries else (2, 0.3)
    return _dead(arm, 2 + len(canaries), before[1], at, before[0], sent_by(arm, at))


def sent_by(arm: str, seconds: float) -> int:
    talked = max(0.0, seconds - 1.3)
    return round((5 if PER_SECOND[arm] > 1 else 2) + PER_SECOND[arm] * talked)


def _dead(
    arm: str, answered: int, last: float, first: float, passed: int, stopped: int
) -> dict[str, Any]:
    return {
        **lives(arm),
        f"{arm}_canaries_answered": answered,
        f"{arm}_answers": answered + 3 * (arm == "call"),
        f"{arm}_silent_after_seconds": last,
        f"{arm}_silent_after_packets": passed,
        f"{arm}_dead_from_seconds": first,
        f"{arm}_dead_from_packets": stopped,
    }


def run(
    *arms: dict[str, Any], of: int = 0, at: float = 0.0, failure: Failure | None = None, **more: Any
) -> Failed:
    """One run; arms that are not given are not in it."""
    config, facts = FLOWS[of], {"sizes_answered": SIZES, "sizes_silent": ()}
    for arm in arms:
        facts |= arm
    facts |= {"requests": CANARIES, "answered": facts.get("call_canaries_answered", 0), **more}
    return config, seen(config, failure, Step.STREAM, at=at, address=config.host, **facts)


CUT = (dies("call", 3.0), lives("canary"), lives("random"))


def cut(*beside: dict[str, Any], runs: int = 3, arms: Any = CUT, **given: Any) -> Case:
    """At so many relays."""
    failed = [run(*arms, *beside, of=n, failure=Failure.LOSSY) for n in range(runs)]
    return case(failed, channel="call", **given)


def ends(*beside: dict[str, Any], packets: int = 40, runs: int = 3, **given: Any) -> Case:
    arms = tuple(dies_after(arm, packets) for arm in ("call", "random", "canary"))
    return cut(*beside, runs=runs, arms=arms, **given)


def sized(
    silent: tuple[str, ...],
    twin_silent: tuple[str, ...] | None = (),
    *,
    runs: int = 3,
    **given: Any,
) -> Case:
    told: dict[str, Any] = {
        "sizes_answered": tuple(s for s in SIZES if s not in silent),
        "sizes_silent": silent,
    }
    if twin_silent is not None:
        told["twin_sizes_answered"] = tuple(s for s in SIZES if s not in twin_silent)
        told["twin_sizes_silent"] = twin_silent
    arms = [lives(arm) for arm in ("call", "canary", "random", "twin")]
    failed = [run(*arms, of=n, **told) for n in range(runs)]
    return case(failed, channel="call", **given)


LARGE = ("250", "500", "1000")

# --- media streams, which say the same of one flow ---------------------------------------------

MEDIA = target("media-r0", probe=CallProbe(), kind="media", host=A1, port=1400, informative=True)


def stream(at: float, after: int | None, control_after: int | None = None) -> Failed:
    """One packet a second for a minute; it falls silent after so many."""
    facts: dict[str, Any] = {"requests": 60, "stun_requests": 60}
    for named, count in (("", after), ("stun_", control_after)):
        facts[f"{named}answered"] = 60 if count is None else count
        if count is not None:
            facts |= {
                f"{named}silent_after_seconds": float(count - 1),
                f"{named}silent_after_packets": count,
            }
    failure = None if after is None else Failure.LOSSY
    return MEDIA, seen(MEDIA, failure, Step.STREAM, at=at, address=A1, **facts)


def kept(*runs: Failed) -> dict[str, tuple[Observation, ...]]:
    return {MEDIA.target.name: tuple(o for _, o in runs)}


def streams_end(*others: Failed, control_after: int | None = None, **given: Any) -> Case:
    newest = stream(3000.0, 10, control_after)
    return case([newest], channel="call", streams=kept(*others, newest), **given)


CALLING: dict[str, Callable[[], Case]] = {
    "R55": lambda: cut(lives("twin")),
    "R55t": lambda: cut(dies("twin", 3.0)),
    "R55s": cut,
    "R40": lambda: streams_end(
        *(stream(1000.0, 10), stream(2000.0, 10)), outside={MEDIA.target: True}
    ),
    "R40e": lambda: ends(dies_after("twin", 40)),
    "R41": lambda: sized(("20", "60")),
    "R41t": lambda: sized(LARGE, LARGE),
}


def without(made: Case, *words: str) -> Case:
    """The same case, where nothing was measured whose fact begins so."""
    seen_of = tuple(
        (
            e,
            tuple(
                replace(o, facts={k: v for k, v in o.facts.items() if not k.startswith(words)})
                for o in its
            ),
        )
        for e, its in made.seen
    )
    return replace(made, seen=seen_of)
