"""When a sign holds for a group of failures, and which observations say so. Pure.

Each function answers with a Sighting, or with None when nothing was measured that could tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from agent import (
    again,
    calls,
    datagrams,
    flows,
    naming,
    share,
    streamsigns,
    transfers,
    trials,
    words,
)
from agent.case import (
    UDP,
    Case,
    Differs,
    Group,
    Symptom,
    answered,
    of_role,
    operators,
    symptom_of,
)
from agent.companion import Payload
from agent.facts import count, number, transmissions
from agent.sighting import (
    ENOUGH,
    SOONER,
    Sighting,
    Sign,
    connects,
    holds_of,
    ids,
    ids_of,
    of_results,
    of_targets,
    over_tcp,
    stun,
    timed_out,
    two_operators,
    web,
)
from agent.vantage import ControlResult
from probes.model import Failure, Observation, Role, VantageStatus
from probes.net.address import prefix_of

ANSWERING = 0.8
"""Share of what this round's controls sent that must be answered for silence elsewhere to be full
evidence: on a lossy line a control works too, at its third try."""
ORDINARY = (443, 3478)
LOSSY, LOST = 0.05, 3
"""Share and number of packets lost to an owner's answering servers from which silence of others
may be loss on the way to that operator."""
VERY_LOSSY = 0.2
"""Share from which it may be whatever their number: few answer then at all."""


def see(sign: Sign, case: Case, group: Group) -> Sighting | None:
    return _SIGNS[sign](case, group)


# --- the line ----------------------------------------------------------------------------------


def _status(status: VantageStatus) -> Callable[[Case, Group], Sighting | None]:
    return lambda case, _: Sighting(case.judgement.status is status)


def _offline_locally(case: Case, _: Group) -> Sighting | None:
    failed = [
        o.failed.failure
        for r in case.known.controls
        for o in r.observations
        if o.failed is not None
    ]
    no_way = (Failure.UNREACHABLE, Failure.BLOCKED_LOCALLY)
    return Sighting(all(f in no_way for f in failed)) if failed else None


def _domestic(case: Case, _: Group) -> Sighting | None:
    return of_results(of_role(case, Role.DOMESTIC))


def _no_foreign(case: Case, _: Group) -> Sighting | None:
    foreign = of_role(case, Role.FOREIGN)
    return Sighting(not any(map(answered, foreign)), ids(foreign)) if foreign else None


def _few_foreign(case: Case, group: Group) -> Sighting | None:
    none = _no_foreign(case, group)
    few = none is not None and not none.holds and not case.judgement.abroad
    return None if none is None else Sighting(few, none.evidence)


def _no_portal(case: Case, _: Group) -> Sighting | None:
    return of_results(of_role(case, Role.PORTAL))


# --- controls of the same kind -----------------------------------------------------------------


def alike(case: Case, group: Group) -> list[ControlResult]:
    """The controls of the kind that failed."""
    partly = group.symptom is Symptom.PARTLY_SILENT and not over_tcp(group.observations)
    return stun(case) if partly or group.symptom in UDP else web(case)


def _stun_ok(case: Case, _: Group) -> Sighting | None:
    return two_operators(stun(case))


def _stun_silent(case: Case, _: Group) -> Sighting | None:
    """Silence of all, not their refusal, nor that their names do not resolve."""
    asked = [r for r in stun(case) if r.heard and any(map(_is_silent, r.observations))]
    if len(operators(asked)) < 2:
        return None if len(operators(stun(case))) < 2 else Sighting(False)
    return Sighting(not any(map(answered, stun(case))), ids(asked))


def _other_udp_ok(case: Case, group: Group) -> Sighting | None:
    """Where two STUN operators are silent too, it is not for names that datagrams are dropped."""
    silent = _stun_silent(case, group)
    return Sighting(silent is None or not silent.holds)


def _is_silent(o: Observation) -> bool:
    return symptom_of(o) is Symptom.UDP_SILENT


def _udp_dns(case: Case) -> list[ControlResult]:
    return [r for r in of_role(case, Role.RESOLVER) if naming.is_trusted(r, "udp")]


def _udp_dns_ok(case: Case, _: Group) -> Sighting | None:
    return of_results(_udp_dns(case))


def _udp_dns_silent(case: Case, _: Group) -> Sighting | None:
    asked = _udp_dns(case)
    silent = all(timed_out(o) for r in asked for o in r.observations)
    return Sighting(silent, ids(asked)) if asked else None


def _tcp_dns_ok(case: Case, _: Group) -> Sighting | None:
    streams = ("tcp", "tls", "https")
    return of_results(
        [r for r in of_role(case, Role.RESOLVER) if any(naming.is_trusted(r, t) for t in streams)]
    )


def _tcp_ok(case: Case, _: Group) -> Sighting | None:
    return of_results(web(case))


def _controls_lossy(case: Case, _: Group) -> Sighting | None:
    """Of two operators, or of all that their servers were sent more than is bearable."""
    asked = [r for r in stun(case) if r.heard]
    if len(operators(asked)) < 2:
        return None
    losing = [r for r in asked if any(map(_lost_some, r.observations))]
    lossy = [r for r in losing if any(symptom_of(o) is Symptom.LOSSY for o in r.observations)]
    much = _share_answered(asked) < ANSWERING
    return Sighting(
        len(operators(lossy)) >= 2 or (much and len(operators(losing)) >= 2), ids(losing)
    )


def _lost_some(o: Observation) -> bool:
    return 0 < count(o, "answered") < count(o, "requests")


def _full_evidence(case: Case, group: Group) -> Sighting | None:
    """Kernel retransmissions and datagrams count alike, those to several ports together."""
    controls = [r for r in alike(case, group) if r.heard]
    if not controls:
        return None
    silent = _stun_silent(case, group)
    if group.symptom is Symptom.UDP_SILENT and silent is not None and silent.holds:
        controls = web(case)  # these are the evidence then, and not what it is held against
    lost = sum(map(transmissions, group.observations))
    again = [o for o in case.contrasts(Differs.PORT) if o.address in group.addresses]
    lost += sum(transmissions(o) for o in again if not o.works)
    enough = lost >= ENOUGH and _share_answered(controls) >= ANSWERING
    heard = enough and not _way_is_lossy(case, group) and _six_works(case, group)
    return Sighting(heard, ids(controls))


def _six_works(case: Case, group: Group) -> bool:
    """Where nothing but IPv6 fails, did a control answer over it after the failure? It breaks on
    many a line."""
    if {o.family for o in group.observations} != {"ipv6"}:
        return True
    return any(
        o.works and o.family == "ipv6" and o.at >= group.since
        for r in case.known.controls
        for o in r.observations
    )


def _way_is_lossy(case: Case, group: Group) -> bool:
    """Do the owner's servers that answer lose packets too? A transfer's many segments are left out:
    some are lost on any line, and it may be hours ago."""
    others = (
        o
        for o in _owners(case)
        if o.ok and o.id not in group.members and o.target.probe != "transfer"
    )
    # Where neither was counted, that nothing was lost is not known.
    counted = [o for o in others if {"requests", "retransmissions"} & o.facts.keys()]
    sent, lost = _tally(counted, transmissions)
    return (lost >= LOST and lost > LOSSY * sent) or lost > VERY_LOSSY * sent


def _share_answered(controls: Iterable[ControlResult]) -> float:
    sent, lost = _tally([o for r in controls for o in r.observations], _packets)
    return (sent - lost) / max(1, sent)


def _packets(o: Observation) -> int:
    """Requests, or all segments of a connection."""
    return count(o, "requests") or max(count(o, "sent"), transmissions(o))


def _tally(seen: Sequence[Observation], packets: Callable[[Observation], int]) -> tuple[int, int]:
    """How many were sent, and lost: requests without an answer, segments that the kernel had to
    send again, and all of what does not work."""
    lost = 0
    for o in seen:
        sent = packets(o)
        if not o.works:
            lost += sent
        elif requests := count(o, "requests"):
            lost += requests - count(o, "answered", requests)
        else:
            lost += count(o, "retransmissions")
    return sum(map(packets, seen)), lost


# --- is the server up? -------------------------------------------------------------------------


def _up(case: Case, group: Group) -> Sighting | None:
    """Known from outside, or inferred: controls of the same kind answer, so does something else of
    the owner, and the target answered here lately (design 6)."""
    outside = of_targets(case.known.outside, group)
    if outside:
        return Sighting(any(outside), group.ids)
    elsewhere = flows.name_fails_elsewhere(case, group)
    if elsewhere is not None and elsewhere.holds:
        return Sighting(True, elsewhere.evidence, inferred=True)
    same_kind = [r for r in alike(case, group) if r.heard]
    abroad = [r for r in same_kind if r.config.role is not Role.DOMESTIC]
    controls = of_results(same_kind) if len(operators(abroad)) >= 2 else None
    owner = _owner_answers(case, group)
    if controls is None or owner is None:
        return None
    verified = any(o.target.name in case.known.verified for o in group.observations)
    return Sighting(
        controls.holds and owner.holds and verified,
        (*owner.evidence, *controls.evidence),
        inferred=True,
    )


def _down_outside(case: Case, group: Group) -> Sighting | None:
    outside = of_targets(case.known.outside, group)
    return Sighting(not any(outside), group.ids) if outside else None


def _owner_answers(case: Case, group: Group) -> Sighting | None:
    """Something of the owner's beside what failed: a sibling, another port or protocol, and not
    before it failed: an owner may go down during a round. A name at a resolver is not the owner's
    server."""
    others = [o for o in _owners(case) if o.id not in group.members]
    return holds_of(others, lambda o: o.works and o.at >= group.since)


def _owners(case: Case) -> list[Observation]:
    asked = [o for _, seen in case.seen for o in seen if o.target.probe != "dns"]
    return [*asked, *case.contrasts(Differs.PORT), *case.contrasts(Differs.SIBLING)]


def _owner_tcp(case: Case, group: Group) -> Sighting | None:
    return holds_of(over_tcp(_owners(case)), lambda o: connects(o) and o.at >= group.since)


# --- addresses ---------------------------------------------------------------------------------


def _neighbour_ok(case: Case, group: Group) -> Sighting | None:
    there = [o for o in over_tcp(_owners(case)) if o.address not in group.addresses]
    near = holds_of(there, connects)
    if near is not None and near.holds:
        return near
    foreign = [r for r in of_role(case, Role.FOREIGN) if r in web(case)]
    return of_results(foreign) or near


def _everything(case: Case) -> list[Observation]:
    return [*(o for _, seen in case.seen for o in seen), *case.contrasts(Differs.PORT)]


def _other_ports_silent(case: Case, group: Group) -> Sighting | None:
    """At every address that was asked at a second port, and at one such at least."""
    ports: dict[str, set[int]] = {}
    evidence: list[str] = []
    for o in over_tcp(_everything(case)):
        if o.address in group.addresses and o.address:
            ports.setdefault(o.address, set()).add(case.port_of(o))
            evidence.append(o.id)
    several = any(len(asked) >= 2 for asked in ports.values())
    return Sighting(True, tuple(evidence)) if several else None  # one that answers is PORT_SILENT


def _other_port_ok(case: Case, group: Group) -> Sighting | None:
    at = over_tcp(_everything(case))
    there = [o for o in at if o.address in group.addresses and o.id not in group.members]
    silent = {address: _first(group, address) for address in group.addresses}

    def answers(o: Observation) -> bool:
        heard = connects(o) or symptom_of(o) is Symptom.CONNECT_REFUSED
        return heard and o.at >= silent[o.address or ""]

    return holds_of(there, answers)


def _first(group: Group, address: str) -> float:
    return min(o.at for o in group.observations if o.address == address)


def _answered_before(case: Case, group: Group) -> Sighting | None:
    before = [a for a in group.addresses if a in case.known.nearest]
    return Sighting(2 * len(before) >= len(group.addresses), group.ids) if before else None


def _several_prefixes(case: Case, group: Group) -> Sighting | None:
    return Sighting(len(set(map(prefix_of, group.addresses))) >= 2, group.ids)


def _early(case: Case, group: Group) -> Sighting | None:
    timed = [
        (o, o.failed.seconds < SOONER * rtt)
        for o in group.observations
        if o.failed is not None and (rtt := _least_rtt(case, o)) is not None
    ]
    if not timed:
        return None
    early = [o for o, sooner in timed if sooner]
    return Sighting(2 * len(early) > len(timed), ids_of(early))


def _least_rtt(case: Case, o: Observation) -> float | None:
    """Seconds; this connection's own, where it was the shorter: a path may have become so."""
    known = case.known.least.get(o.address or "")
    own = number(o, "rtt_seconds")
    return min(known, own) if known is not None and own is not None else known


def _icmp_from_path(case: Case, group: Group) -> Sighting | None:
    told = [o for o in group.observations if "icmp_from_target" in o.facts]
    return holds_of(told, lambda o: o.facts["icmp_from_target"] is False)


def _odd_port(case: Case, group: Group) -> Sighting | None:
    """Does a firewall close odd ports to everyone? TCP and UDP each for themselves."""
    ports = {case.port_of(o) for o in group.observations}
    said = group.symptom is Symptom.CONNECT_PROHIBITED and ports & set(ORDINARY)
    if ports <= set(ORDINARY) or said:
        return Sighting(True, group.ids)
    if group.symptom in UDP:
        echoes = flows.at_twin(case, Payload.STUN, Payload.DTLS, Payload.RANDOM)
        heard = [c for c in echoes if c.works and case.port_of(c) not in ORDINARY]
        if heard:
            return Sighting(True, ids_of(heard))
        there = [r for r in stun(case) if r.config.port not in ORDINARY]
        same = [o for o in over_tcp(_owners(case)) if case.port_of(o) in ports]
        tcp = holds_of(same, connects)
        if tcp is not None and tcp.holds:
            return tcp
    else:
        streams = ("tcp", "tls")
        there = [
            r
            for r in of_role(case, Role.RESOLVER, Role.FOREIGN, Role.DOMESTIC)
            if r.config.port not in (53, 80, *ORDINARY)
            and (any(naming.is_trusted(r, t) for t in streams) or r in web(case))
        ]
    return of_results(there)


_SIGNS: dict[Sign, Callable[[Case, Group], Sighting | None]] = {
    Sign.DOMESTIC: _domestic,
    Sign.NO_FOREIGN: _no_foreign,
    Sign.FEW_FOREIGN: _few_foreign,
    Sign.OTHER_PORTS_SILENT: _other_ports_silent,
    Sign.OTHER_PORT_OK: _other_port_ok,
    Sign.NEIGHBOUR_OK: _neighbour_ok,
    Sign.UP: _up,
    Sign.DOWN_OUTSIDE: _down_outside,
    Sign.ANSWERED_BEFORE: _answered_before,
    Sign.SEVERAL_PREFIXES: _several_prefixes,
    Sign.EARLY: _early,
    Sign.ICMP_FROM_PATH: _icmp_from_path,
    Sign.OTHER_UDP_OK: _other_udp_ok,
    Sign.STUN_OK: _stun_ok,
    Sign.STUN_SILENT: _stun_silent,
    Sign.UDP_DNS_OK: _udp_dns_ok,
    Sign.UDP_DNS_SILENT: _udp_dns_silent,
    Sign.TCP_DNS_OK: _tcp_dns_ok,
    Sign.TCP_OK: _tcp_ok,
    Sign.OWNER_TCP: _owner_tcp,
    Sign.OTHER_ODD_PORT: _odd_port,
    Sign.FULL_EVIDENCE: _full_evidence,
    Sign.CONTROLS_LOSSY: _controls_lossy,
    Sign.NO_PORTAL: _no_portal,
    Sign.OFFLINE_LOCALLY: _offline_locally,
    Sign.OFFLINE: _status(VantageStatus.OFFLINE),
    Sign.PORTAL: _status(VantageStatus.PORTAL),
    Sign.TUNNEL: _status(VantageStatus.TUNNELLED),
    Sign.FAULTY: _status(VantageStatus.FAULTY),
    **naming.SIGNS,
    **flows.SIGNS,
    **words.SIGNS,
    **share.SIGNS,
    **transfers.SIGNS,
    **trials.SIGNS,
    **again.SIGNS,
    **streamsigns.SIGNS,
    **calls.SIGNS,
    **datagrams.SIGNS,
}
