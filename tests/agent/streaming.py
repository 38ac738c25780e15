"""Worlds of media streams; as ``worlds.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.case import Case
from probes.media import MediaProbe
from probes.model import Failure, Observation, Step
from tests.agent.building import seen, target
from tests.agent.worlds import R1, R2, case

M1 = target("media-1", channel="call", probe=MediaProbe(profile="voip20", fast=True), host=R1.host)
M2 = target("media-2", channel="call", probe=MediaProbe(profile="voip20", fast=True), host=R2.host)

Facts = dict[str, Any]
POOR: Facts = {
    "requests": 1500,
    "answered": 1275,
    "bad_ratio": 0.15,
    "loss_ratio": 0.15,
    "burst_ratio": 1.0,
    "loss_dispersion": 1.0,
    "mouth_to_ear_seconds": 0.12,
    "rtt_seconds": 0.062,
    "rtt_min_seconds": 0.06,
    "mos_opus": 2.6,
}


def held(name: str, *, worse: bool = True, bad: float = 0.0, requests: int = 1500) -> Facts:
    """What a control's stream says beside the target's."""
    return {
        f"{name}_requests": requests,
        f"{name}_answered": round(requests * (1 - bad)),
        f"{name}_bad_ratio": bad,
        f"{name}_loss_ratio": bad,
        f"{name}_rtt_seconds": 0.05,
        f"{name}_rtt_min_seconds": 0.049,
        f"{name}_worse": worse,
        f"{name}_z": 5.0 if worse else 0.1,
    }


TWIN = held("twin")
TCP = held("tcp", requests=180)


def run(
    of: Any = M1, at: float = 0.0, failure: Failure | None = Failure.LOSSY, **facts: Any
) -> Any:
    made = seen(of, failure, Step.STREAM, at=at, **{"address": of.host, **POOR, **facts})
    return of, made


def streamed(
    *of_each: Facts, count: int = 3, targets: tuple[Any, ...] = (M1, M2), **known: Any
) -> Case:
    """``count`` runs of each target, ten minutes apart, all alike."""
    facts = {key: value for one in of_each for key, value in one.items()}
    runs: dict[str, tuple[Observation, ...]] = {}
    newest = []
    for of in targets:
        its = [run(of, 600.0 * n, **facts) for n in range(count)]
        newest.append(its[-1])
        runs[of.target.name] = tuple(o for _, o in its)
    return case(newest, channel="call", comes_and_goes=True, streams=runs, **known)


def one_way(up: float = 1.0, down: float = 0.0) -> Case:
    ways = {"twin_requests": 1500, "twin_answered": 0, "twin_bad_ratio": 1.0}
    ways |= {"bad_ratio": 0.9, "loss_ratio": 0.9, "answered": 150}
    return streamed(ways, {"twin_up_loss_ratio": up, "twin_down_loss_ratio": down})


COMPANION: Facts = {"companion_requests": 30, "companion_answered": 30, "companion_bad_ratio": 0.0}

STREAMS: dict[str, Callable[[], Case]] = {
    "R45": lambda: streamed(TWIN, TCP),
    "R45d": lambda: streamed(held("dress")),
    "R45o": lambda: streamed(TWIN, TCP, outside={of.target: False for of in (M1, M2)}),
    "R45p": lambda: streamed(TWIN, held("tcp", worse=False, bad=0.15, requests=180)),
    "R45s": lambda: streamed(held("stun", requests=30)),
    "R45t": lambda: streamed(TWIN),
    "R46": lambda: streamed(held("twin", worse=False, bad=0.15)),
    "R53s": lambda: streamed(COMPANION),
    "R50": one_way,
}


def without_facts(made: Case, *prefixes: str) -> Case:
    """The same runs, but what begins so was not measured."""

    def bare(o: Observation) -> Observation:
        kept = {k: v for k, v in o.facts.items() if not k.startswith(prefixes)}
        return replace(o, facts=kept)

    streams = {name: tuple(map(bare, runs)) for name, runs in made.known.streams.items()}
    kept = tuple((e, tuple(map(bare, seen))) for e, seen in made.seen)
    return replace(made, known=replace(made.known, streams=streams), seen=kept)
