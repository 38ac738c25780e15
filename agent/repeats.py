"""What must be asked several times to be told: transfers, hellos in turn, bursts. Pure.

Within a round only what manners allow; the rest comes with the rounds that follow, or in
``callpath check --patient``, which waits. For ``profile: research``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent import pace
from agent.asks import Around, Failed, FollowUp, LeftOut, Plan, hellos, window_of
from agent.case import WINDOWS, Differs, Symptom, differs_in, symptom_of
from agent.facts import count
from agent.sighting import spoke
from agent.transfers import RUNS, TRIES
from agent.trials import IN_TURN
from config.model import TargetConfig
from probes.contrast import BurstProbe, HelloProbe, SegmentsProbe
from probes.model import Observation

PIECES = 32
"""Segments of a request in pieces: with their acknowledgements more than any counter lets by."""
APART = 60.0
"""Seconds between two transfers of one object."""
QUIET = 180.0
"""Seconds after a freeze before one attempt says that it is over (5.2 in the project's notes)."""
BEFORE_BURST = 25.0
BETWEEN = 3.0
LONGEST = (RUNS + 1) * APART + (IN_TURN - 1) * (max(WINDOWS.values()) + BETWEEN) + 2 * BEFORE_BURST
"""Seconds that the slowest of these takes when it is waited for."""


def asked_of(o: Observation, seen: Sequence[Observation], differs: Differs) -> int:
    asked = (c.contrast for c in seen if c.contrast is not None and differs_in(c, differs))
    return sum(contrast.of == o.id for contrast in asked)


def transfers(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """One that froze or crawled again, in turn with a control's; and few bytes in many segments."""
    asks: list[FollowUp] = []
    for config, o in failed:
        if not pace.is_transfer(o) or not o.address:
            continue
        frozen = pace.froze(o)
        missing = (TRIES if frozen else RUNS) - 1 - asked_of(o, seen, Differs.TIME)
        for n in range(missing if around.patient else min(1, missing)):
            again = FollowUp(o, config, Differs.TIME, config.probe, o.address, config.port)
            pair = [_named(again, config.host, n)]
            if around.fetched is not None and around.fetched.seen.address:
                other, address = around.fetched.config, around.fetched.seen.address
                follow = FollowUp(o, config, Differs.SERVER, other.probe, address, other.port)
                pair.append(_named(follow, other.host, n))
            asks += pair
        if frozen and not asked_of(o, seen, Differs.SEGMENTS):
            for pieces in (PIECES, 1):
                probe = SegmentsProbe(config.probe.url, pieces)
                segments = FollowUp(o, config, Differs.SEGMENTS, probe, o.address, config.port)
                asks.append(_named(segments, config.host))
    return asks, []


def _named(follow: FollowUp, host: str, turn: int = 0) -> FollowUp:
    return replace(follow, host=host, wait=APART * turn)


# --- hellos: each wave asks only what the one before leaves open -------------------------------


def greeting(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """One failed hello as another program says it."""
    said = hellos(failed)
    if not said or any(asked_of(o, seen, Differs.HELLO) for _, o in said):
        return [], []
    config, o = said[0]
    if not around.research:
        return [], [LeftOut(o, Differs.HELLO, "profile")]
    return [_hello(config, o, Differs.HELLO, _other(config, o))], []


def turns(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """Where that was answered, both again in turn, each time after what a filter may remember."""
    asks: list[FollowUp] = []
    for config, o in _greeted(failed, seen, answered=True):
        if not around.patient:
            continue  # rounds to come have turns of their own
        for turn in range(1, IN_TURN):
            wait = turn * (window_of(o) + BETWEEN)
            asks.append(_hello(config, o, Differs.TIME, config.probe, wait))
            asks.append(_hello(config, o, Differs.HELLO, _other(config, o), wait + BETWEEN))
    return asks, []


def quiet(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """Where it was not answered either: a single hello after a time without any."""
    silent = [
        (config, o)
        for config, o in _greeted(failed, seen, answered=False)
        if symptom_of(o) is Symptom.HELLO_UNACKED
    ]
    if not around.patient:
        return [], [LeftOut(o, Differs.BURST, "residual") for _, o in silent]
    return [
        _hello(config, o, Differs.TIME, HelloProbe(_name(config)), QUIET) for config, o in silent
    ], []


def bursts(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """Several at once, where a single one is answered now; and at another owner's server."""
    asks: list[FollowUp] = []
    singles = {c.contrast.of for c in seen if c.contrast and _is_single(c) and spoke(c)}
    for config, o in hellos(failed):
        if o.id not in singles or not around.patient:
            continue
        asks.append(_hello(config, o, Differs.BURST, BurstProbe(_name(config)), BEFORE_BURST))
        if around.far is not None:
            far = around.far
            there = _hello(config, o, Differs.BURST, BurstProbe(far.name), BEFORE_BURST)
            asks.append(replace(there, address=far.address, port=far.port, host=far.name))
    return asks, []


def _is_single(c: Observation) -> bool:
    return differs_in(c, Differs.TIME) and "server_spoke" in c.facts


def _greeted(failed: Failed, seen: Sequence[Observation], *, answered: bool) -> Failed:
    """The failed hellos that another program said too, and whether that was answered."""
    other = {
        c.contrast.of: spoke(c)
        for c in seen
        if c.contrast is not None and differs_in(c, Differs.HELLO)
    }
    return [(config, o) for config, o in hellos(failed) if other.get(o.id) is answered]


def _hello(
    config: TargetConfig, o: Observation, differs: Differs, probe: Any, wait: float = 0.0
) -> FollowUp:
    follow = FollowUp(o, config, differs, probe, str(o.address), config.port)
    return replace(follow, host=config.host, wait=wait)


def _other(config: TargetConfig, o: Observation) -> HelloProbe:
    return HelloProbe(_name(config), pad_to=count(o, "clienthello_bytes"), other=True)


def _name(config: TargetConfig) -> str:
    return str(config.probe.subject(config.host))


WAVES = (transfers, greeting, turns, quiet, bursts)
"""In this order."""
