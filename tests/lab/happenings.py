"""What scenarios are made of: places, and things that happen there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.lab.censor import Censor
from tests.lab.scenario import (
    Expected,
    Happening,
    Rules,
    Scenario,
    Stage,
    data_centres,
    names_of,
    prefixes,
)

CALL, CHAT, TG_WEB, TG_MEDIA = "telegram call", "telegram chat", "telegram web", "telegram media"
WEB, WA_CHAT, WA_MEDIA, WA_CALL = (
    "whatsapp web",
    "whatsapp chat",
    "whatsapp media",
    "whatsapp call",
)
OTHERS = (WA_CHAT, WA_MEDIA, WA_CALL)
FAST, SLOW, DEGRADED = 4.0, 12.0, 15.0
"""Minutes within which design 6 wants a state: what every round sees, what only handshakes show,
and what is heard badly."""
NEVER_ANSWERS = "185.1.2.3"


def on(make: Callable[[Stage], Rules]) -> Happening:
    """Add rules, seeded by the run."""

    def happen(stage: Stage) -> None:
        stage.add([dataclasses.replace(rule, seed=stage.seed) for rule in make(stage)])

    return happen


def flow(rule: Any, action: Any, seconds: float = 60.0, scope: str = "4-tuple", **more: Any) -> Any:
    return Censor(rule, action, residual=scope, seconds=seconds, **more)


def lies(patterns: tuple[str, ...], *addresses: str) -> Happening:
    def happen(stage: Stage) -> None:
        for name in names_of(stage, patterns):
            stage.lie(name, *addresses)

    return happen


def one(
    name: str,
    what: str,
    happen: Happening,
    *client: Expected,
    goal: float | None = None,
    **more: Any,
) -> Scenario:
    return Scenario(name, what, ((0.0, happen),), client, goal=goal, **more)


def web(stage: Stage) -> tuple[str, ...]:
    return prefixes(stage, messenger="whatsapp", channel="web")


def accelerators(stage: Stage) -> tuple[str, ...]:
    return prefixes(stage, messenger="whatsapp", channel="chat")


def some_centres(stage: Stage, share: float = 0.5) -> tuple[str, ...]:
    found = data_centres(stage)
    return found[: max(2, round(len(found) * share))]


def of_control(stage: Stage, *names: str) -> tuple[str, ...]:
    return tuple(p for name in names for p in prefixes(stage, messenger="control", name=name))


def domestic(stage: Stage) -> tuple[str, ...]:
    targets = stage.catalogue.select(messenger="control")
    inside = {a for t in targets if t.fields.get("role") == "domestic" for a in t.addresses}
    inside |= {a for t in targets if t.owner == "NSDI" for a in t.addresses}
    return tuple(sorted(inside))
