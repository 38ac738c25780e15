"""What would explain a failure: checks that differ from it in exactly one attribute. Pure.

In three waves: what can be asked at once, what makes sense after that was answered, and last the
target's name at a control's address, since that may leave something behind there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent import datagrams, words
from agent.asks import (
    Around,
    Failed,
    FollowUp,
    LeftOut,
    Plan,
    hellos,
    is_late,
    is_varied,
    sample,
    with_symptom,
)
from agent.case import (
    HELLO,
    NAMES,
    WORDS,
    Differs,
    Symptom,
    differs_in,
    symptom_of,
    within,
)
from agent.companion import Companion, Payload
from agent.facts import count
from agent.flows import MSS
from agent.sighting import spoke
from config.model import MessengerConfig, TargetConfig
from probes.contrast import BytesProbe, HelloProbe, PacedQuery
from probes.dns import DnsProbe
from probes.dtls import DtlsProbe
from probes.measure import Check
from probes.model import Fact, Observation, Step
from probes.net.address import is_bogon
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from probes.twin import Dress, size_of
from probes.wire import dtls, stun

PORTS = (443, 80, 5222)
AGAIN = 5
"""Addresses, of each symptom, at which it is asked once more."""
AGAIN_AFTER = 3.0
"""Seconds after which what failed is asked once more: what answers at all has answered by then."""
RELAYS = 2
NAMES_ASKED = 2
_SILENT_OR_CUT = (
    *HELLO,
    *WORDS,
    Symptom.ADDRESS_SILENT,
    Symptom.CONNECT_REFUSED,
    Symptom.CONNECT_PROHIBITED,
    Symptom.UDP_SILENT,
    Symptom.UDP_PROHIBITED,
    Symptom.DTLS_SILENT,
    Symptom.QUIC_SILENT,
)


# --- the first wave ----------------------------------------------------------------------------


def first(messenger: MessengerConfig, failed: Failed, around: Around) -> Plan:
    """``failed``: observations of the deciding targets that do not work, of ailing channels."""
    channels = dict.fromkeys(config.target.channel for config, _ in failed)
    asks: list[FollowUp] = []
    left: list[LeftOut] = []
    named: list[tuple[TargetConfig, Observation]] = []
    for channel in channels:
        of_it = [(c, o) for c, o in failed if c.target.channel == channel]
        asks += before(hellos(of_it), around)
        if around.neutral is None:
            left += [LeftOut(o, Differs.NAME, "no_control") for _, o in hellos(of_it)]
        spoken, unsaid = words.first(of_it, around)
        asks, left = asks + spoken, left + unsaid
        asks += _ports(sample(with_symptom(of_it, Symptom.ADDRESS_SILENT)), around)
        asks += _dresses(with_symptom(of_it, Symptom.UDP_SILENT, Symptom.DTLS_SILENT), around)
        asks += _again(of_it)
        asks += datagrams.beside_quic(of_it)
        named += _by_name(messenger, of_it)
    asks += _matrix(named, around)
    if named and not around.trusted:
        left.append(LeftOut(named[0][1], Differs.RESOLVER, "no_resolver"))
    asks += _interleaved(_named_silence(failed), around)
    asks += _nowhere(named, around)
    calls = with_symptom(failed, Symptom.UDP_SILENT, Symptom.DTLS_SILENT)
    asks += _sibling(failed, around)
    asks += _control(failed, around)
    if around.twin is not None and calls:
        asks += _echoes(calls, around.twin, research=around.research)
        if not around.research:
            left.append(LeftOut(calls[0][1], Differs.TWIN, "profile"))
    return list({(a.address, a.port, a.differs, a.probe): a for a in asks}.values()), left


def _named_silence(failed: Failed) -> Failed:
    return [(c, o) for c, o in failed if symptom_of(o) is Symptom.NAME_SILENT and is_varied(c)]


def before(said: Failed, around: Around) -> list[FollowUp]:
    """The neutral name at each address, as long as the target's and as far as what failed."""
    neutral = around.neutral
    if neutral is None:
        return []
    asks: dict[tuple[str, int], FollowUp] = {}
    for config, o in said:
        assert o.address is not None
        probe = HelloProbe(
            neutral.name,
            pad_to=count(o, "clienthello_bytes"),
            url=f"https://{neutral.name}/" if is_late(o) else "",
        )
        follow = FollowUp(o, config, Differs.NAME, probe, o.address, config.port)
        asks.setdefault((o.address, config.port), follow)
    return list(asks.values())


def _again(failed: Failed) -> list[FollowUp]:
    """Contrasts that pass tell nothing when the failure was over by then (1.3 in the project's
    notes)."""
    connections = [
        _once_more(config, o, TcpProbe(), "")
        for symptom in (Symptom.ADDRESS_SILENT, Symptom.CONNECT_REFUSED)
        for config, o in sample(with_symptom(failed, symptom), AGAIN)
    ]
    said = sample(with_symptom(failed, *WORDS), AGAIN)
    said += sample(with_symptom(failed, Symptom.QUIC_SILENT), AGAIN)
    return connections + [_once_more(config, o, config.probe, config.host) for config, o in said]


def _once_more(config: TargetConfig, o: Observation, probe: Any, host: str) -> FollowUp:
    return FollowUp(
        o, config, Differs.AGAIN, probe, str(o.address), config.port, host, wait=AGAIN_AFTER
    )


def _ports(silent: Failed, around: Around) -> list[FollowUp]:
    return [
        FollowUp(o, config, Differs.PORT, TcpProbe(), str(o.address), port)
        for config, o in silent
        for port in PORTS
        if (str(o.address), port) not in around.heard and port != config.port
    ]


def _dresses(silent: Failed, around: Around) -> list[FollowUp]:
    """The same relay in another dress, and again in its own: the two together are interleaved."""
    asked = list(silent)
    # A dress that is known to be answered here tells most, and of STUN more than of others.
    asked.sort(
        key=lambda it: (it[0].target.name not in around.verified, it[0].target.probe != "stun")
    )
    asks = []
    for config, o in sample(asked, RELAYS):
        address, port = str(o.address), config.port
        asks.append(_once_more(config, o, config.probe, config.host))
        if symptom_of(o) is Symptom.DTLS_SILENT:
            asks.append(datagrams.beside_dtls(config, o))
        other, cookie = _other_dress(config.probe)
        facts: dict[str, Fact] = {"cookie": cookie, "said": other.kind}
        if isinstance(config.probe, StunProbe) and not cookie:
            # The marked one first: what a limit of the server's leaves over goes to it, so that
            # a limit cannot look like a filter on the mark.
            asks.append(FollowUp(o, config, Differs.TIME, config.probe, address, port))
        asks.append(FollowUp(o, config, Differs.DRESS, other, address, port, facts=facts))
    for address, port in around.public[:RELAYS] if asked else ():
        config, o = asked[0]
        bare = StunProbe(dress=stun.Dress.RFC3489)
        asks.append(
            FollowUp(o, config, Differs.DRESS, bare, address, port, facts={"cookie": False})
        )
    return asks


def _other_dress(probe: Any) -> tuple[Any, bool]:
    """And whether it carries STUN's cookie."""
    if isinstance(probe, DtlsProbe):
        browser = probe.dress is dtls.Dress.BROWSER
        return DtlsProbe(dtls.Dress.OPENSSL if browser else dtls.Dress.BROWSER), True
    if isinstance(probe, StunProbe) and probe.dress is stun.Dress.RFC3489:
        return StunProbe(dress=stun.Dress.BARE), True
    return StunProbe(dress=stun.Dress.RFC3489), False


def _by_name(messenger: MessengerConfig, failed: Failed) -> list[tuple[TargetConfig, Observation]]:
    """Names that did not resolve, or led to where nothing of the owner's is known to be."""
    found: dict[str, tuple[TargetConfig, Observation]] = {}
    for config, o in failed:
        if not o.steps or o.steps[0].step is not Step.RESOLVE or not is_varied(config):
            continue
        if symptom_of(o) in NAMES or not _owned(messenger, o):
            found.setdefault(config.host, (config, o))
    return list(found.values())[:NAMES_ASKED]


def _owned(messenger: MessengerConfig, o: Observation) -> bool:
    return o.address is not None and within(o.address, messenger.owner_prefixes)


def _matrix(named: Failed, around: Around) -> list[FollowUp]:
    """One operator over its transports. Encrypted ones are dealt out, one to a channel's first
    name, since handshakes are few a minute."""
    asks = []
    channels: dict[str, int] = {}
    for config, o in named:
        channel = config.target.channel
        first_of_it = channel not in channels
        turn = channels.setdefault(channel, len(channels))
        for trusted in around.trusted[:1]:
            secured = [t for t in trusted.transports if t in ("tls", "https")]
            dealt = secured[turn : turn + 1] if first_of_it else []
            for transport in [t for t in trusted.transports if t not in secured] + dealt:
                probe = DnsProbe(config.host, resolver=f"{trusted.name}/{transport}")
                follow = FollowUp(
                    o, config, Differs.RESOLVER, probe, trusted.address, trusted.ports[transport]
                )
                asks.append(replace(follow, facts={"query": config.host, "transport": transport}))
    return asks


def _nowhere(named: Failed, around: Around) -> list[FollowUp]:
    """One name at a web site's address: who answers for it there does so for every address."""
    if not around.research or around.far is None:
        return []
    address = around.far.address
    return [
        FollowUp(o, config, Differs.NOWHERE, DnsProbe(config.host, resolver=address), address, 53)
        for config, o in list(named)[:1]
    ]


def _sibling(failed: Failed, around: Around) -> list[FollowUp]:
    """One of the owner's servers that answered in the round, once more: what answered before the
    failure says nothing of an owner that went down in between."""
    silent = [
        (config, o) for config, o in failed if symptom_of(o) in _SILENT_OR_CUT and is_varied(config)
    ]
    addresses = {o.address for _, o in silent}
    others = [place for place in around.siblings if place[0] not in addresses]
    if not silent or not others:
        return []
    (config, o), (address, port) = silent[0], others[-1]
    return [FollowUp(o, config, Differs.SIBLING, TcpProbe(), address, port)]


def _control(failed: Failed, around: Around) -> list[FollowUp]:
    """A control once more: what reads everything may have begun after the round's were asked."""
    strange = with_symptom(failed, Symptom.STRANGE_CERTIFICATE)
    if not strange or around.neutral is None:
        return []
    (config, o), at = strange[0], around.neutral
    return [FollowUp(o, config, Differs.CONTROL, TlsProbe(at.name), at.address, at.port)]


def _interleaved(silent: Failed, around: Around) -> list[FollowUp]:
    """One name of each channel, and one of a control's beside them all."""
    if around.system is None or around.neutral is None or not silent:
        return []
    address, port = around.system
    asks: dict[str, FollowUp] = {}
    for config, o in silent:
        facts: dict[str, Fact] = {"query": config.host}
        probe = PacedQuery(config.host)
        ask = FollowUp(o, config, Differs.TIME, probe, address, port, facts=facts)
        asks.setdefault(config.target.channel, ask)
    (config, o), name = silent[0], around.neutral.name
    probe = PacedQuery(name)
    beside = FollowUp(o, config, Differs.QUERY, probe, address, port, facts={"query": name})
    return [*asks.values(), beside]


def _echoes(silent: Failed, twin: Companion, *, research: bool) -> list[FollowUp]:
    """The same bytes to the operator's own server, once per payload, all at one port: a failed one
    where that is among its own. STUN is always among them: what else fails there is held against
    it."""
    found: dict[Payload, tuple[TargetConfig, Observation, Dress]] = {}
    for config, o in silent:
        payload, dress = _dress_at_twin(config.probe)
        found.setdefault(payload, (config, o, dress))
    config, o, dress = next(iter(found.values()))
    found.setdefault(Payload.STUN, (config, o, Dress.STUN_BARE))
    if research:
        found[Payload.RANDOM] = (config, o, Dress.RANDOM)
    port = next((c.port for c, _ in silent if c.port in twin.udp_ports), twin.udp_ports[0])
    asks = []
    for payload, (its, of, worn) in found.items():
        check = twin.udp(its.target, worn, port=port, size=size_of(dress))
        asks.append(_to_twin(of, its, Differs.TWIN, check, payload))
    return asks


def _dress_at_twin(probe: Any) -> tuple[Payload, Dress]:
    if isinstance(probe, DtlsProbe):
        return Payload.DTLS, Dress(f"dtls_{probe.dress}")
    if isinstance(probe, StunProbe):
        return Payload.STUN, Dress(f"stun_{probe.dress}")
    return Payload.STUN, Dress.STUN_BARE  # TURN's first request has the same head


def _to_twin(
    of: Observation, config: TargetConfig, differs: Differs, check: Check, payload: Payload
) -> FollowUp:
    facts: dict[str, Fact] = {"payload": str(payload)}
    return FollowUp(of, config, differs, check.probe, check.host, check.port, facts=facts)


# --- the second wave ---------------------------------------------------------------------------


def second(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """What the answers of the first wave ask for."""
    asks = _answers(failed, seen) + _at_resolvers(failed, seen, around)
    left: list[LeftOut] = []
    silent = {
        (c.address, c.facts.get("port"))
        for c in seen
        if differs_in(c, Differs.NAME) and not spoke(c)
    }
    for config, o in sample(with_symptom(failed, Symptom.HELLO_RESET, Symptom.HELLO_UNACKED)):
        if (o.address, config.port) not in silent:
            continue
        size = count(o, "clienthello_bytes")
        # A neutral name as long failed too: the short hello is no trigger of a rule about names.
        if size > MSS:
            probe = HelloProbe(config.probe.subject(config.host), short=True)
            asks.append(FollowUp(o, config, Differs.LENGTH, probe, str(o.address), config.port))
        if not around.research:
            left.append(LeftOut(o, Differs.BYTES, "profile"))
        else:
            random = BytesProbe(size)
            asks.append(FollowUp(o, config, Differs.BYTES, random, str(o.address), config.port))
    neutral = _neutral_passed(seen)
    for channel in dict.fromkeys(config.target.channel for config, _ in failed):
        said = [(c, o) for c, o in failed if c.target.channel == channel]
        said = [(c, o) for c, o in with_symptom(said, *HELLO) if (o.address, c.port) in neutral]
        asks += [_once_more(c, o, c.probe, c.host) for c, o in sample(said, AGAIN)]
    for config, o in _passed(failed, seen)[:1]:
        if around.twin is not None and around.research and around.neutral and not is_late(o):
            check = around.twin.tls(config.target, around.neutral.name)
            asks.append(_to_twin(o, config, Differs.TWIN, check, Payload.TLS))
    return asks, left


def _at_resolvers(failed: Failed, seen: Sequence[Observation], around: Around) -> list[FollowUp]:
    """A neutral name at a trusted resolver that takes no hello with its own."""
    configs = {o.id: config for config, o in failed}
    asks: dict[str, FollowUp] = {}
    for c in seen:
        config = configs.get(c.contrast.of) if c.contrast is not None else None
        refused = symptom_of(c) in HELLO and differs_in(c, Differs.RESOLVER)
        port = c.facts.get("port")
        if config is None or not refused or around.neutral is None or not isinstance(port, int):
            continue
        probe = HelloProbe(around.neutral.name, pad_to=count(c, "clienthello_bytes"))
        address = str(c.address)
        asks.setdefault(address, FollowUp(c, config, Differs.NAME, probe, address, port))
    return list(asks.values())


def _answers(failed: Failed, seen: Sequence[Observation]) -> list[FollowUp]:
    """The target itself at an address that a trusted resolver named."""
    asks = []
    configs = {o.id: (config, o) for config, o in failed}
    done: set[str] = set()
    for c in seen:
        if c.contrast is None or not differs_in(c, Differs.RESOLVER) or not c.works:
            continue
        answers, transport = c.facts.get("answers"), c.facts.get("transport")
        found = configs.get(c.contrast.of)
        if found is None or transport == "udp" or not isinstance(answers, tuple):
            continue
        config, o = found
        address = next((a for a in answers if not is_bogon(a)), None)
        if address and config.probe.handshake and config.host not in done:
            done.add(config.host)
            follow = FollowUp(o, config, Differs.ANSWER, config.probe, address, config.port)
            asks.append(replace(follow, host=config.host))
    return asks


# --- the last wave -----------------------------------------------------------------------------


def last(failed: Failed, seen: Sequence[Observation], around: Around) -> Plan:
    """One target's name at a stranger's address, where the neutral name passed at its own: at the
    twin where that takes a neutral name, else at a control's."""
    said = _passed(failed, seen)
    if not said:
        return [], []
    config, o = said[0]
    if not around.research:
        return [], [LeftOut(o, Differs.ADDRESS, "profile")]
    name = config.probe.subject(config.host)
    if around.twin is not None and not is_late(o) and any(map(_greets, seen)):
        check = around.twin.tls(config.target, name)
        return [_to_twin(o, config, Differs.ADDRESS, check, Payload.TLS)], []
    if around.far is None:
        return [], [LeftOut(o, Differs.ADDRESS, "residual")]
    probe = HelloProbe(name, url=f"https://{name}/" if is_late(o) else "")
    follow = FollowUp(o, config, Differs.ADDRESS, probe, around.far.address, around.far.port)
    return [follow], []


def _passed(failed: Failed, seen: Sequence[Observation]) -> Failed:
    """The failed hellos at whose address a neutral name passes."""
    passed = _neutral_passed(seen)
    return [(config, o) for config, o in hellos(failed) if (o.address, config.port) in passed]


def _neutral_passed(seen: Sequence[Observation]) -> set[tuple[str | None, Fact | None]]:
    """Addresses and ports."""
    return {
        (c.address, c.facts.get("port")) for c in seen if differs_in(c, Differs.NAME) and spoke(c)
    }


def _greets(c: Observation) -> bool:
    return differs_in(c, Differs.TWIN) and c.works and c.facts.get("payload") == Payload.TLS
