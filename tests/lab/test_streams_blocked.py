"""Calls that are cut off, for real: relays of the shipped catalogue behind a filter, each kind of
filter before three relays of its own, all of them called at the same time."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent.verdicts import find
from probes.call import CallProbe
from probes.media import MediaProbe
from probes.model import Finding, Observation
from probes.net.environment import Beside
from probes.wire.twin import parse_key
from tests.agent.building import target
from tests.agent.worlds import case
from tests.lab.actions import Lose
from tests.lab.calling import Order
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.presets import preset
from tests.lab.world import ROOT

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CALL = CallProbe(profile="voip120", seconds=7.0, fast=True)
VOICE = MediaProbe(profile="voip120", seconds=7.0, fast=True)
TWIN, CENSORED_TWIN, STRANGER = "203.0.113.77", "203.0.113.78", ""
RELAYS = 3

Rules = tuple[Censor, ...]
Places = Iterator[tuple[str, int]]


def before(name: str, *, twin: bool = False, **fields: Any) -> Callable[[tuple[str, ...]], Rules]:
    """The preset at the relays, and at the censored twin if so."""

    def rules(addresses: tuple[str, ...]) -> Rules:
        remote = (*addresses, *([f"{CENSORED_TWIN}/32"] if twin else []))
        return preset(name, remote=remote, **fields)

    return rules


def after_three_seconds(addresses: tuple[str, ...]) -> Rules:
    """Ten, at the pace of these tests."""
    return tuple(
        replace(rule, match=replace(rule.match, age_over=3.0))
        for rule in preset("udp_after_seconds", remote=addresses)
    )


def small(addresses: tuple[str, ...]) -> Rules:
    return preset("udp_large", remote=addresses, size=(20, 90), direction="out")


@dataclass(frozen=True, slots=True)
class Filter:
    """``said``: mechanism, certainty and rule of what comes first, None for nothing at all;
    ``beside``: what the calls are held against. A twin answers one line 200 times a second."""

    rules: Callable[[tuple[str, ...]], Rules]
    said: tuple[str, str, str] | None
    beside: str = STRANGER


# Without an open network's view nobody knows whether a server limits its flows itself.
FILTERS = {
    "nothing": Filter(lambda _: (), None, TWIN),
    "the shape of a call": Filter(before("call_shape"), ("call_flow_block", "likely", "R55")),
    "the first packets": Filter(before("udp_first_packets"), ("udp_after_n", "suspected", "R40")),
    "twenty packets": Filter(before("udp_after_packets"), ("udp_after_n", "suspected", "R40")),
    "ten seconds": Filter(after_three_seconds, ("udp_after_n", "suspected", "R40")),
    "what is short": Filter(small, ("udp_size_rule", "likely", "R41"), TWIN),
    # The same twin is behind both: what is cut off there as a call is not so for its size.
    "the shape of a call, to the twin too": Filter(
        before("call_shape", twin=True), ("call_flow_block", "likely", "R55t"), CENSORED_TWIN
    ),
    "what is long, to the twin too": Filter(
        before("udp_large", twin=True), ("udp_size_rule", "likely", "R41t"), CENSORED_TWIN
    ),
}


@pytest.fixture
def twins(lab: Lab, tmp_path: Path) -> Iterator[dict[str, Beside]]:
    lab.world.place([TWIN, CENSORED_TWIN])
    key = tmp_path / "twin.key"
    command = [sys.executable, "-m", "agent.cli", "twin", "--key-file", str(key)]
    for address in (TWIN, CENSORED_TWIN):
        command += ["--listen", address]
    process = lab.world.server(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        own = parse_key(key.read_text())
        pin = told.rpartition(" ")[2].strip()
        yield {a: Beside("twin", a, 3478, own, 443, pin) for a in (TWIN, CENSORED_TWIN)}
    finally:
        process.terminate()
        process.communicate(timeout=30)


def relays(lab: Lab) -> list[tuple[str, int]]:
    """Those that coturn stands for, of all messengers."""
    found = {
        (address, t.port)
        for t in lab.catalogue.targets
        if t.channel == "call" and t.probe in ("stun", "turn")
        for address in t.addresses
        if ":" not in address
    }
    return list({address: (address, port) for address, port in sorted(found)}.values())


def stranger(lab: Lab) -> Beside:
    """A public STUN server of the catalogue."""
    control = next(t for t in lab.catalogue.targets if t.channel == "" and t.probe == "stun")
    return Beside("stun", control.addresses[0], control.port)


def called(lab: Lab, orders: list[Order]) -> list[Observation]:
    command = [sys.executable, "-m", "tests.lab.calling"]
    process = lab.world.client(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate(pickle.dumps(orders), timeout=90)
    assert process.returncode == 0, err.decode()
    return [o for (o,) in pickle.loads(out)]


def named(seen: list[tuple[Order, Observation]], verified: bool = True) -> tuple[Finding, ...]:
    """What the rules say of one filter's three runs, on a line whose controls answer."""
    failed = [
        (target(order.target.name, probe=CallProbe(), host=order.address, port=order.port), o)
        for order, o in seen
    ]
    known: dict[str, Any] = {} if verified else {"verified": frozenset()}
    return find(case(failed, channel="call", **known))


def behind(lab: Lab, one: Filter, name: str, beside: Beside, places: Places) -> list[Order]:
    """Set the filter before the next relays, and say how to call them."""
    theirs = list(itertools.islice(places, RELAYS))
    assert len(theirs) == RELAYS
    for rule in one.rules(tuple(f"{address}/32" for address, _ in theirs)):
        lab.world.rules.add(rule)
    return [
        Order(target(f"{name} {n}", probe=CALL).target, address, port, CALL, (beside,))
        for n, (address, port) in enumerate(theirs)
    ]


def test_each_filter_is_named(lab: Lab, twins: dict[str, Beside]) -> None:
    places, known = iter(relays(lab)), {**twins, STRANGER: stranger(lab)}
    orders = {
        name: behind(lab, one, name, known[one.beside], places) for name, one in FILTERS.items()
    }
    seen: dict[Order, Observation] = {}
    for batch in (list(orders.values())[:5], list(orders.values())[5:]):
        flat = [order for its in batch for order in its]
        seen |= zip(flat, called(lab, flat), strict=True)
    told = {}
    for name, its in orders.items():
        findings = named([(order, seen[order]) for order in its])
        told[name] = (
            (findings[0].mechanism, findings[0].certainty, findings[0].rule) if findings else None
        )
    assert told == {name: one.said for name, one in FILTERS.items()}, [
        o.facts for o in seen.values()
    ]
    healthy = seen[orders["nothing"][0]].facts
    assert healthy["allocate_error_code"] == 401
    assert healthy["twin_answers"] == healthy["twin_packets"] == healthy["twin_received"]


@pytest.mark.parametrize("direction", ["in", "out"])
def test_packets_that_pass_one_way_only(lab: Lab, twins: dict[str, Beside], direction: str) -> None:
    """Nine of ten are dropped on the way there, or on the way back, to the twin as well. Now and
    then no first question is answered: that run plays no stream."""
    (address, port), voice = relays(lab)[0], target("voice", probe=VOICE)
    remote = (f"{address}/32", f"{CENSORED_TWIN}/32")
    lost = Lose(Loss(0.9, seed=3))
    lab.world.rules.add(Censor(match(remote=remote, protocol="udp", direction=direction), lost))
    order = Order(voice.target, address, port, VOICE, (twins[CENSORED_TWIN],))
    seen = [o for o in called(lab, [order] * 8) if "twin_up_loss_ratio" in o.facts][-3:]
    assert seen, "not one of eight runs played"
    streams = {voice.target.name: tuple(seen)}
    of = replace(voice, host=address, port=port)
    (first, *_) = find(case([(of, seen[-1])], channel="call", streams=streams))
    assert (first.mechanism, first.rule) == ("media_one_way", "R50"), [o.facts for o in seen]
