"""What a media stream is held against: the operator's own server, else a public STUN server; and
the owner's other servers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.case import took
from agent.companion import Companion
from agent.diagnosis import Evidence
from config.model import TargetConfig
from probes.model import Observation, Role, Step
from probes.net.environment import Beside

SITES = 8
"""Servers of the owner that a stream is held against; each is asked less than once a second."""
SILENT_FOR = 1800.0
"""Seconds for which a twin that answered nothing of a stream comes last."""


def besides(
    twin: Companion | None,
    controls: Sequence[Evidence],
    twin_silent: float | None,
    turn: int,
    now: float,
) -> tuple[Beside, ...]:
    """The best first. ``twin_silent``: when the twin last left a whole stream unanswered, Unix
    seconds; ``turn`` moves on with every round, so that no operator gets all streams."""
    public = [Beside("stun", o.address, port) for o, port in _public(controls) if o.address]
    public = public[turn % len(public) :] + public[: turn % len(public)] if public else []
    if twin is None:
        return tuple(public)
    own = Beside("twin", twin.address, twin.udp_ports[0], twin.key, twin.tls_port, twin.tls_sha256)
    silent = twin_silent is not None and 0 <= now - twin_silent < SILENT_FOR
    return (*public, own) if silent else (own, *public)


def _public(controls: Iterable[Evidence]) -> list[tuple[Observation, int]]:
    """The STUN servers that answer, one address of each family, in the order of their targets."""
    return [
        (o, e.config.port)
        for e in controls
        if e.config.role is Role.STUN and e.fresh and over_udp(e.config)
        for o in {o.family: o for o in reversed(e.observations) if o.ok}.values()
    ]


def sites(
    stream: TargetConfig, targets: Iterable[TargetConfig], seen: Iterable[Observation]
) -> tuple[tuple[str, int], ...]:
    """The owner's servers that answered over TCP when last ``seen``, address and port. Not those of
    the stream's own channel: whoever strikes a relay may do it over TCP too."""
    ports = {t.target.name: t.port for t in targets if t.target.channel != stream.target.channel}
    places = {
        o.address: ports[o.target.name]
        for o in seen
        if o.address and o.target.name in ports and o.ok and took(o, Step.CONNECT)
    }
    return tuple(places.items())[:SITES]


def over_udp(config: TargetConfig) -> bool:
    return str(getattr(config.probe, "transport", "udp")) == "udp"


def left_unanswered(seen: Iterable[Observation]) -> bool:
    """Did the twin answer nothing of a stream?"""
    theirs = [o for o in seen if "twin_requests" in o.facts]
    return bool(theirs) and not any(o.facts.get("twin_answered") for o in theirs)
