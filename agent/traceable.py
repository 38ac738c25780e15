"""Which failure of a channel may be traced, and how: the tracer's order for it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.diagnosis import Evidence, works
from agent.tracedoor import Order
from config.model import TargetConfig
from probes.model import Diagnosis, Finding, Mechanism, Observation, Role, Step, Target
from probes.net.address import is_bogon, parse, prefix_of

SURE_OF = frozenset(
    {
        Mechanism.DNS_TAMPER,
        Mechanism.DNS_INJECTION,
        Mechanism.IP_DROP,
        Mechanism.IP_REJECT,
        Mechanism.PORT_BLOCK,
        Mechanism.ALLOWLIST,
        Mechanism.TLS_SNI_RESET,
        Mechanism.TLS_SNI_DROP,
        Mechanism.TLS_SNI_DROP_DELAYED,
        Mechanism.PROTOCOL_SIGNATURE,
        Mechanism.UDP_BLOCK_ALL,
        Mechanism.UDP_STUN_SIGNATURE,
        Mechanism.UDP_DTLS_SIGNATURE,
        Mechanism.UDP_RELAY_BLOCK,
        Mechanism.QUIC_BLOCK,
        Mechanism.PARTIAL_BLOCK,
    }
)
"""What is done to single packets, or first words: a trace says nothing of a pace, or a stream."""
_BY_NAME = (Mechanism.DNS_TAMPER, Mechanism.DNS_INJECTION)
_KINDS = {
    "stun": "stun",
    "turn": "turn",
    "dtls": "dtls",
    "quic": "quic",
    "reflector": "reflector",
    "tcp": "tcp",
    "tls": "tls",
    "https": "tls",
    "mtproto": "mtproto",
    "noise": "noise",
    "dns": "dns",
}
"""How the tracer says what a probe says."""
_DATAGRAMS = ("stun", "turn", "dtls", "quic", "reflector", "dns")
_MORE = ("header", "transport", "dress")
_DNS_PORT = 53
_MOST_CONTROLS = 6


@dataclass(frozen=True, slots=True)
class Choice:
    """``seen``: the failure that is traced."""

    target: Target
    seen: Observation
    order: Order


def finding(d: Diagnosis) -> Finding | None:
    """The most certain one that is interference at likely or better, and may be placed."""
    if not d.interference:
        return None
    sure = next(f for f in d.findings if f.mechanism.interference)
    return sure if sure.mechanism in SURE_OF else None


def choose(
    d: Diagnosis,
    evidence: Sequence[Evidence],
    controls: Sequence[Evidence],
    servers: Sequence[tuple[str, int]],
    may: Callable[[Target], bool],
) -> Choice | None:
    """A failing target that decides the channel, of the finding's own evidence if there is one.

    ``servers``: the host's resolvers; ``may``: may this target be traced now?
    """
    found = finding(d)
    if found is None:
        return None
    failed = [
        (e, o)
        for e in evidence
        if e.config.target.channel == d.channel and e.fresh and e.proven
        if not e.config.informative
        for o in e.observations
        if not o.works
    ]
    failed.sort(key=lambda each: each[1].id not in found.evidence)
    for e, seen in failed:
        if not may(e.config.target):
            continue
        order = _order(found, e.config, seen, evidence, controls, servers)
        if order is not None:
            return Choice(e.config.target, seen, order)
    return None


def _order(
    found: Finding,
    config: TargetConfig,
    seen: Observation,
    evidence: Sequence[Evidence],
    controls: Sequence[Evidence],
    servers: Sequence[tuple[str, int]],
) -> Order | None:
    """None where the tracer has no words for it, or cannot get there."""
    neutral = next(_neutrals(controls), "")
    if found.mechanism in _BY_NAME and config.target.probe != "dns":
        if not servers or is_bogon(servers[0][0]) or parse(config.host):
            return None  # a resolver at home is no way that a filter stands on
        return Order("dns", *servers[0], name=config.host, neutral=neutral)
    kind = _kind(config)
    if not kind or seen.address is None or is_bogon(seen.address):
        return None
    if seen.failed is not None and seen.failed.step is Step.RESOLVE:
        return None
    name = ""
    if kind == "dns":
        name = config.probe.query
    elif kind in ("tls", "quic"):
        name = getattr(config.probe, "server_name", "") or config.host
        if parse(name):
            kind, name = "tcp", ""
    return Order(
        kind,
        seen.address,
        config.port or _DNS_PORT,
        name,
        neutral,
        {f: str(v) for f in _MORE if (v := getattr(config.probe, f, None))},
        _controls(kind, seen.address, evidence, controls),
    )


def _kind(config: TargetConfig) -> str:
    probe = config.target.probe
    transport = str(getattr(config.probe, "transport", ""))
    if probe == "dns":  # a trusted resolver's other transports are somebody else's words
        return "" if "/" in config.probe.resolver else "dns"
    if transport in ("tcp", "tls") and probe in ("stun", "turn"):
        return transport
    if transport == "websocket":
        return "tls"
    if config.url.startswith("http:"):
        return "tcp"
    return _KINDS.get(probe, "")


def _controls(
    kind: str, address: str, evidence: Sequence[Evidence], controls: Sequence[Evidence]
) -> tuple[tuple[str, int, bool], ...]:
    """Who answers such packets, of the same family: the address's neighbours, then strangers."""
    wanted = ("stun",) if kind in _DATAGRAMS else ("tls", "tcp", "https", "mtproto", "noise")
    found = [
        (o.address, e.config.port, prefix_of(o.address) == prefix_of(address))
        for probe in wanted
        for e in (*evidence, *controls)
        if e.config.target.probe == probe and e.fresh and e.config.port
        if str(getattr(e.config.probe, "transport", "")) not in ("tcp", "tls") or probe != "stun"
        for o in e.observations
        if o.works and o.address and o.address != address
        if (":" in o.address) == (":" in address)
        if e in controls or prefix_of(o.address) == prefix_of(address)
    ]
    found.sort(key=lambda each: not each[2])
    return tuple(dict.fromkeys(found))[:_MOST_CONTROLS]


def _neutrals(controls: Sequence[Evidence]) -> Iterator[str]:
    """Names of foreign sites that answer."""
    for e in controls:
        site = e.config.role is Role.FOREIGN and e.config.target.probe == "https"
        if site and e.fresh and parse(e.config.host) is None and works(e.observations):
            yield e.config.host
