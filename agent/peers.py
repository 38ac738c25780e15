"""Other messengers' calls beside a failing one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent.case import took
from agent.rounds import Runner
from probes.model import Observation, Step

CALL = "call"
_HEARD = (Step.EXCHANGE, Step.STREAM)


def peers(runners: Mapping[str, Runner], name: str, since: float) -> tuple[str, ...]:
    """The messengers but ``name`` of whose call servers any answered since then, Unix seconds.

    Answered a datagram: a name that resolves, or a server's front over TCP, is no way for a call.
    """
    return tuple(m for m, its in runners.items() if m != name and _calls(its, since))


def _calls(runner: Runner, since: float) -> bool:
    return any(
        o.works and o.at >= since and o.target.channel == CALL and _by_datagrams(o)
        for seen in runner.seen.values()
        for o in seen.conclusive
    )


def _by_datagrams(o: Observation) -> bool:
    heard = any(s.step in _HEARD for s in o.steps) and not took(o, Step.CONNECT)
    return heard and o.target.probe != "dns"
