"""The first words of QUIC and of DTLS: what to compare their silence with, and what it shows. Pure.

A run of quic brings contrasts of its own, rung by rung (probes/quic.py); over TLS the same name is
asked beside it. A greeting of DTLS is held against another program's, and against STUN at the same
place.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.asks import Failed, FollowUp, sample, with_symptom
from agent.case import Case, Differs, Group, Symptom, took
from agent.facts import count
from agent.sighting import OF_FIVE, Sighting, Sign, holds_of, ids_of, marked, spoke, timed_out
from config.model import TargetConfig
from probes.model import Observation, Step
from probes.stun import StunProbe
from probes.tls import TlsProbe

SPOKE = ("ok", "tls_alert", "no_version", "closed")
"""Words for a rung of which the server has read the hello."""
V1 = "00000001"


def beside_quic(failed: Failed) -> list[FollowUp]:
    """TCP beside UDP: the same name over TLS, at the same address and port."""
    return [
        FollowUp(
            o,
            config,
            Differs.OVER_TCP,
            TlsProbe(config.probe.subject(config.host)),
            str(o.address),
            config.port,
        )
        for config, o in sample(with_symptom(failed, Symptom.QUIC_SILENT))
    ]


def beside_dtls(config: TargetConfig, o: Observation) -> FollowUp:
    """Another protocol of calls, to the same place."""
    return FollowUp(o, config, Differs.STUN, StunProbe(), str(o.address), config.port)


def _rung(name: str, *words: str) -> Callable[[Observation], bool]:
    return lambda o: o.facts.get(f"quic_{name}") in words


def _ping_ok(case: Case, group: Group) -> Sighting | None:
    """A server that lists no version 1 has no HTTP/3 of it either."""

    def holds(o: Observation) -> bool:
        versions = o.facts.get("quic_versions")
        return _rung("ping", "ok")(o) and isinstance(versions, tuple) and V1 in versions

    return _everywhere(group, holds)


def _neutral_ok(case: Case, group: Group) -> Sighting | None:
    return holds_of(group.observations, _rung("neutral", *SPOKE))


def _neutral_silent(case: Case, group: Group) -> Sighting | None:
    return _everywhere(group, _rung("neutral", "timeout"))


def _everywhere(group: Group, holds: Callable[[Observation], bool]) -> Sighting | None:
    return Sighting(all(map(holds, group.observations)), group.ids)


def _tls_here_ok(case: Case, group: Group) -> Sighting | None:
    return holds_of(marked(case, group, Differs.OVER_TCP), spoke)


def _stun_here_ok(case: Case, group: Group) -> Sighting | None:
    """Asked as a contrast, or for itself and not before the greetings."""
    places = {(o.address, case.port_of(o)) for o in group.observations}
    beside = [
        o
        for _, seen in case.seen
        for o in seen
        if o.target.probe in ("stun", "turn")
        and not took(o, Step.CONNECT)
        and (o.address, case.port_of(o)) in places
        and o.at >= group.since
    ]
    asked = [*marked(case, group, Differs.STUN), *beside]
    return holds_of(asked, lambda o: count(o, "answered") >= OF_FIVE)


def _others_hellos(case: Case, group: Group) -> list[Observation]:
    dressed = marked(case, group, Differs.DRESS)
    return [c for c in dressed if c.target.probe == "dtls" and c.address in group.addresses]


def _other_dtls_ok(case: Case, group: Group) -> Sighting | None:
    return holds_of(_others_hellos(case, group), lambda c: count(c, "answered") >= OF_FIVE)


def _other_dtls_silent(case: Case, group: Group) -> Sighting | None:
    asked = _others_hellos(case, group)
    return Sighting(all(map(timed_out, asked)), ids_of(asked)) if asked else None


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.QUIC_PING_OK: _ping_ok,
    Sign.QUIC_NEUTRAL_OK: _neutral_ok,
    Sign.QUIC_NEUTRAL_SILENT: _neutral_silent,
    Sign.TLS_HERE_OK: _tls_here_ok,
    Sign.STUN_HERE_OK: _stun_here_ok,
    Sign.OTHER_DTLS_OK: _other_dtls_ok,
    Sign.OTHER_DTLS_SILENT: _other_dtls_silent,
}
