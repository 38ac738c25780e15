"""A messenger's own first words that get no answer over a connection that was taken: what to hold
them against, and what that tells. Pure.

A filter that knows a protocol by its first bytes lets others pass at the same address and port: the
same question in another transport, TLS with a neutral name, random bytes as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.asks import Around, Failed, FollowUp, LeftOut, Plan, sample, with_symptom
from agent.case import WORDS, Case, Differs, Group
from agent.facts import count
from agent.sighting import Sighting, Sign, holds_of, marked, spoke
from probes.contrast import BytesProbe, HelloProbe
from probes.model import Failure, Observation
from probes.mtproto import MtprotoProbe
from probes.wire.mtproto import Transport


def first(failed: Failed, around: Around) -> Plan:
    """What can be asked in the round of the failure."""
    asks: list[FollowUp] = []
    left: list[LeftOut] = []
    for config, o in sample(with_symptom(failed, *WORDS)):
        address = str(o.address)
        if isinstance(config.probe, MtprotoProbe):
            plainly = config.probe.transport is Transport.ABRIDGED
            other = Transport.INTERMEDIATE if plainly else Transport.ABRIDGED
            probe = replace(config.probe, transport=other)
            asks.append(FollowUp(o, config, Differs.TRANSPORT, probe, address, config.port))
        if around.neutral is not None:
            hello = HelloProbe(around.neutral.name)
            asks.append(FollowUp(o, config, Differs.PROTOCOL, hello, address, config.port))
        else:
            left.append(LeftOut(o, Differs.PROTOCOL, "no_control"))
        if around.research:
            random = BytesProbe(count(o, "hello_bytes"))
            asks.append(FollowUp(o, config, Differs.BYTES, random, address, config.port))
        else:
            left.append(LeftOut(o, Differs.BYTES, "profile"))
    return asks, left


def _other_transport_ok(case: Case, group: Group) -> Sighting | None:
    return holds_of(marked(case, group, Differs.TRANSPORT), lambda c: c.ok)


def _tls_passes(case: Case, group: Group) -> Sighting | None:
    """A server that speaks no TLS may stay silent or hang up: it is the path that is asked."""

    def passes(c: Observation) -> bool:
        cut = c.failed is not None and c.failed.failure is Failure.RESET
        return spoke(c) or (c.facts.get("clienthello_acked") is True and not cut)

    return holds_of(marked(case, group, Differs.PROTOCOL), passes)


SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.OTHER_TRANSPORT_OK: _other_transport_ok,
    Sign.TLS_PASSES: _tls_passes,
}
