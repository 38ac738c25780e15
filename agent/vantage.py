"""What the controls say about the place that measures. Pure.

Judged before any messenger: a channel is never called broken by a line that is broken itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from agent.facts import number
from config.model import TargetConfig
from probes.model import Failure, Family, Observation, Role, Step, VantageStatus

CLOCK_LIMIT = 60.0
CLOCK_OPERATORS = 3
LATENESS_LIMIT = 0.5
"""Seconds by which our own sending may be late at the median; beyond, nothing is believed."""
_INITIAL_TTLS = (64, 128, 255)
_CERTIFICATE = (Failure.UNKNOWN_ISSUER, Failure.BAD_CERTIFICATE, Failure.WRONG_NAME)


@dataclass(frozen=True, slots=True)
class ControlResult:
    """The newest evidence about one control. ``proven`` as for targets: an unproven control's
    silence says nothing. ``heard``: has it answered in the last rounds at all?"""

    config: TargetConfig
    observations: tuple[Observation, ...]
    proven: bool
    heard: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host itself tells: is the default route a tunnel device, do STUN operators see one
    address of ours, how late does our own sending run (seconds, median)."""

    tunnel_route: bool = False
    mapped_differ: bool = False
    lateness: float = 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """``families``: those in which a control works. ``names``: does the system resolver work?
    ``abroad``: does any of the foreign world answer? ``share``: of control attempts answered.
    ``controls``: was any measured at all? Without one nothing is said of the line."""

    status: VantageStatus
    reason: str
    families: frozenset[Family]
    names: bool
    abroad: bool
    share: float
    notes: tuple[str, ...] = ()
    controls: bool = True

    @property
    def masks(self) -> bool:
        """Is every channel unknown under this status?"""
        return self.status in MASKING


MASKING = (
    VantageStatus.OFFLINE,
    VantageStatus.PORTAL,
    VantageStatus.TUNNELLED,
    VantageStatus.FAULTY,
)
CALM = frozenset({str(VantageStatus.ONLINE), str(VantageStatus.RESTRICTED)})
"""Told at once; any other status has to be seen twice."""


def judge(results: Sequence[ControlResult], around: Surroundings) -> Judgement:
    """The vantage's status in this round, from all its controls together."""
    # An answer is an answer; the silence of a control that was never heard says nothing.
    known = [r for r in results if r.observations and (r.proven or _works(r))]
    measured = [r for r in known if r.config.role is not Role.AD]
    controls = bool(measured)
    names = _names_work(measured)
    if not names:
        measured = [r for r in measured if not _only_resolve_failed(r)]
    working = [r for r in measured if _works(r)]
    families = frozenset(
        Family(o.family) for r in working for o in r.observations if o.works and o.family
    )
    # A control that has long been dead would keep the share below any line for ever.
    counted = [r for r in measured if r.config.role is not Role.PORTAL and r.heard]
    share = sum(_works(r) for r in counted) / len(counted) if counted else 0.0
    foreign = _of(measured, Role.FOREIGN)
    if _passes_border(measured):
        # Of names that are denied here the resolver is to be asked, and not the border.
        foreign = [r for r in foreign if not _only_resolve_failed(r)]
    # One operator's trouble is not the world's: fewer than two foreign operators say nothing.
    enough = len({_owner(r) for r in foreign}) >= 2
    answering = sum(map(_works, foreign))
    # A few allow-listed hosts do not make a living world, but STUN operators beside them do.
    few = answering * 3 <= len(foreign) and not any(map(_works, _of(measured, Role.STUN)))
    abroad = not enough or (answering > 0 and not few)

    def say(status: VantageStatus, reason: str) -> Judgement:
        notes = _notes(results) if controls else ()
        return Judgement(status, reason, families, names, abroad, share, notes, controls)

    if _portal(measured):
        return say(VantageStatus.PORTAL, "a captive portal answers instead of the internet")
    if controls and not working:
        return say(VantageStatus.OFFLINE, "no control answers")
    faulty = _fault(results, around)
    if faulty:
        return say(VantageStatus.FAULTY, faulty)
    if _tunnelled(results, around):
        return say(VantageStatus.TUNNELLED, "the line leads through a tunnel")
    dead = _dead_classes(measured, families, names, abroad)
    if dead:
        return say(VantageStatus.RESTRICTED, "; ".join(dead))
    return say(VantageStatus.ONLINE, "controls answer" if controls else "no control was measured")


def _works(result: ControlResult) -> bool:
    return any(o.works for o in result.observations)


def _of(results: Sequence[ControlResult], *roles: Role) -> list[ControlResult]:
    return [r for r in results if r.config.role in roles]


def _passes_border(results: Sequence[ControlResult]) -> bool:
    """Does anything else answer that stands abroad? The host's own resolver need not."""
    resolvers = [r for r in _of(results, Role.RESOLVER) if not _is_own_resolver(r)]
    return any(map(_works, [*_of(results, Role.STUN), *resolvers]))


def _is_own_resolver(result: ControlResult) -> bool:
    return getattr(result.config.probe, "resolver", "system") == "system"


def _only_resolve_failed(result: ControlResult) -> bool:
    """Or asked the host's own resolver and nothing else, and failed."""
    return all(
        o.failed is not None and (o.failed.step is Step.RESOLVE or _asks_system(o))
        for o in result.observations
    )


def _names_work(results: Sequence[ControlResult]) -> bool:
    """Did any name resolve? True as well when no control has a name to resolve."""
    seen = [o for r in results for o in r.observations if o.steps]
    looked_up = [o.steps[0].failure is None for o in seen if o.steps[0].step is Step.RESOLVE]
    looked_up += [o.works for o in seen if _asks_system(o)]
    return not looked_up or any(looked_up)


def _asks_system(observation: Observation) -> bool:
    return observation.facts.get("resolver") == "system"


def _portal(results: Sequence[ControlResult]) -> bool:
    """A wrong answer to the portal check, and the web beyond it mostly closed.

    A wrong answer alone may be the checked server's own trouble.
    """
    checks = _of(results, Role.PORTAL)
    if any(_works(r) for r in checks):
        return False
    wrong = any(
        o.failed is not None and "http_status" in o.facts  # HTTP, but not what was expected
        for r in checks
        for o in r.observations
    )
    web = _of(results, Role.FOREIGN, Role.DOMESTIC)
    return wrong and 2 * sum(map(_works, web)) < max(1, len(web))


def _fault(results: Sequence[ControlResult], around: Surroundings) -> str:
    web = _of(results, Role.FOREIGN, Role.DOMESTIC)
    offsets: dict[str, float] = {}
    for result in web:
        for o in result.observations:
            offset = number(o, "clock_offset_seconds")
            if offset is not None:
                offsets[_owner(result)] = offset
    if len(offsets) >= CLOCK_OPERATORS:
        off = statistics.median(offsets.values())
        if abs(off) > CLOCK_LIMIT:
            return f"this host's clock is off by {abs(off):.0f} s"
    expired = {_owner(r) for r in web if _failed_with(r, Failure.EXPIRED)}
    if len(expired) >= CLOCK_OPERATORS and 2 * len(expired) > len(web):
        return "certificates of unrelated operators look out of date: this host's clock is off"
    issuers: dict[str, set[str]] = {}
    for result in web:
        for o in result.observations:
            if o.failed and o.failed.failure in _CERTIFICATE:
                issuer = str(
                    o.facts.get("certificate_issuer") or o.facts.get("certificate_sha256", "")
                )
                issuers.setdefault(issuer, set()).add(_owner(result))
    if any(issuer and len(owners) >= 2 for issuer, owners in issuers.items()):
        return "the same stranger's certificate stands before unrelated operators"
    if around.lateness > LATENESS_LIMIT:
        return f"this host is overloaded: sending runs {around.lateness:.1f} s late"
    return ""


def _failed_with(result: ControlResult, failure: Failure) -> bool:
    return any(o.failed and o.failed.failure is failure for o in result.observations)


def _owner(result: ControlResult) -> str:
    return result.config.owner or result.config.target.name


def _tunnelled(results: Sequence[ControlResult], around: Surroundings) -> bool:
    """Two of three signs; a tunnel device alone is only a fact."""
    no_hops = {
        _owner(r)
        for r in _of(results, Role.STUN)
        for o in r.observations
        if o.facts.get("received_ttl") in _INITIAL_TTLS
    }
    signs = (around.tunnel_route, around.mapped_differ, len(no_hops) >= 2)
    return sum(signs) >= 2


def _dead_classes(
    measured: Sequence[ControlResult], families: frozenset[Family], names: bool, abroad: bool
) -> list[str]:
    dead = []
    if not names:
        dead.append("names: no name resolves at the system resolver")
    if not abroad:
        domestic = any(map(_works, _of(measured, Role.DOMESTIC)))
        some = any(map(_works, _of(measured, Role.FOREIGN)))
        words = "hardly any foreign host answers" if some else "no foreign host answers"
        dead.append(f"abroad: {words}, domestic ones do" if domestic else words)
    stun = _of(measured, Role.STUN)
    udp = [r for r in stun if _over_udp(r)]
    if len({_owner(r) for r in udp}) >= 2 and not any(map(_works, udp)):
        dead.append("udp: no STUN operator answers")
    if families == {Family.IPV6}:
        dead.append("ipv4: no control answers over it")
    return dead


def _over_udp(result: ControlResult) -> bool:
    return getattr(result.config.probe, "transport", "udp") == "udp"


def _notes(results: Sequence[ControlResult]) -> tuple[str, ...]:
    """What the configured controls cannot tell."""
    owners = {
        role: {_owner(r) for r in _of(results, role)}
        for role in (Role.DOMESTIC, Role.FOREIGN, Role.STUN)
    }
    notes = []
    if not owners[Role.DOMESTIC]:
        notes.append("no domestic control: nothing is said about the country's border")
    if len(owners[Role.FOREIGN]) < 2:
        notes.append("fewer than two foreign https controls")
    if len(owners[Role.STUN]) < 2:
        notes.append("fewer than two STUN operators")
    return tuple(notes)
