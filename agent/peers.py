"""Other messengers' calls beside a failing one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent.rounds import Runner

CALL = "call"


def peers(runners: Mapping[str, Runner], name: str, since: float) -> tuple[str, ...]:
    """The messengers but ``name`` of whose call servers any answered since then, Unix seconds."""
    return tuple(m for m, its in runners.items() if m != name and _calls(its, since))


def _calls(runner: Runner, since: float) -> bool:
    return any(
        o.works and o.at >= since and o.target.channel == CALL
        for seen in runner.seen.values()
        for o in seen.conclusive
    )
