"""Interference, as scenarios: names, addresses, TLS, HTTP, flows and datagrams.

Numbers S.. and sections are those of the project's notes on interference methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.lab import interceptor
from tests.lab.actions import BlockPage, Drop, Forge, InjectReset, Lose, Refuse, Reject
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.presets import OWN_RESOLVERS, preset
from tests.lab.scenario import (
    TELEGRAM,
    WHATSAPP,
    Expected,
    Happening,
    Rules,
    Scenario,
    Stage,
    data_centres,
    names_of,
    prefixes,
    relays,
    says,
)

CALL, CHAT, TG_WEB, TG_MEDIA = "telegram call", "telegram chat", "telegram web", "telegram media"
WEB, WA_CHAT, WA_MEDIA, WA_CALL = (
    "whatsapp web",
    "whatsapp chat",
    "whatsapp media",
    "whatsapp call",
)
OTHERS = (WA_CHAT, WA_MEDIA, WA_CALL)
FAST, SLOW = 4.0, 12.0
"""Minutes within which design 6 wants a state: what every round sees, what only handshakes show."""
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


_ADDRESSES = (
    one(
        "chat addresses dropped",
        "S25: nothing comes back from the data centres",
        on(lambda s: preset("ip_drop", remote=data_centres(s))),
        says(CHAT, "blocked", "ip_drop"),
        beside=(TG_MEDIA,),
        goal=FAST,
    ),
    one(
        "chat addresses dropped on the way back",
        "one direction: what the data centres answer is lost",
        on(lambda s: preset("ip_drop", remote=data_centres(s), direction="in")),
        says(CHAT, "blocked", "ip_drop"),
        beside=(TG_MEDIA,),
        goal=FAST,
    ),
    one(
        "chat addresses refused",
        "S26: an RST for every SYN, from the second hop",
        on(lambda s: preset("ip_refuse", remote=data_centres(s))),
        says(CHAT, "blocked", "ip_reject"),
        beside=(TG_MEDIA,),
        goal=FAST,
    ),
    one(
        "chat addresses refused at the first hop",
        "the same, from the gateway",
        on(lambda s: preset("ip_refuse", remote=data_centres(s), hop=1)),
        says(CHAT, "blocked", "ip_reject"),
        beside=(TG_MEDIA,),
        goal=FAST,
    ),
    *(
        one(
            f"chat addresses prohibited, code {code}",
            "R14: a router's ICMP",
            on(lambda s, code=code: [Censor(match(remote=data_centres(s)), Reject(code))]),
            says(CHAT, "blocked", "ip_reject"),
            beside=(TG_MEDIA,),
            goal=FAST,
        )
        for code in (9, 10, 13)
    ),
    one(
        "chat addresses dropped far away",
        "S76: at the fourth hop, upstream of the provider",
        on(lambda s: preset("ip_drop", remote=data_centres(s), hop=4)),
        says(CHAT, "blocked", "ip_drop"),
        beside=(TG_MEDIA,),
        goal=FAST,
    ),
    one(
        "accelerators dropped",
        "WhatsApp's chat addresses",
        on(lambda s: preset("ip_drop", remote=accelerators(s))),
        says(WA_CHAT, "blocked", "ip_drop"),
        beside=(WEB, WA_MEDIA),
        goal=FAST,
    ),
    one(
        "media addresses dropped",
        "Telegram's media centres, captured and answering",
        on(
            lambda s: preset(
                "ip_drop",
                remote=tuple(
                    set(prefixes(s, messenger="telegram", channel="media", probe="tcp"))
                    - set(data_centres(s))
                ),
            )
        ),
        says(TG_MEDIA, "blocked|degraded", "ip_drop"),
        beside=(CHAT,),
        goal=FAST,
    ),
    one(
        "half of the data centres dropped",
        "partial: every other address",
        on(lambda s: preset("ip_drop", remote=some_centres(s))),
        says(CHAT, "degraded", "ip_drop"),
        beside=(TG_MEDIA,),
    ),
    one(
        "half of the data centres refused",
        "partial, by RST",
        on(lambda s: preset("ip_refuse", remote=some_centres(s))),
        says(CHAT, "degraded", "ip_reject"),
        beside=(TG_MEDIA,),
    ),
    one(
        "port 443 of the data centres dropped",
        "S30: one port only",
        on(lambda s: preset("port_block", remote=data_centres(s), ports=443)),
        says(CHAT, "degraded", "port_block"),
        beside=(TG_MEDIA,),
        goal=FAST,
    ),
    one(
        "port 5222 of the accelerators dropped",
        "S30: the port of the chat",
        on(lambda s: preset("port_block", remote=accelerators(s), ports=5222)),
        says(WA_CHAT, "degraded", "port_block"),
        goal=FAST,
    ),
    one(
        "IPv6 of the data centres dropped",
        "one family",
        on(lambda s: preset("ip_drop", remote=data_centres(s), family=6)),
        says(CHAT, "degraded", "ip_drop"),
        beside=(TG_MEDIA,),
        ipv6=True,
    ),
    one(
        "IPv4 of the data centres dropped",
        "the other family",
        on(lambda s: preset("ip_drop", remote=data_centres(s), family=4)),
        says(CHAT, "degraded", "ip_drop"),
        beside=(TG_MEDIA,),
        ipv6=True,
    ),
    one(
        "everything of Telegram dropped",
        "looks like an outage: nobody is named without an outside view",
        on(lambda s: preset("ip_drop", remote=prefixes(s, messenger="telegram"))),
        says(CHAT, "unreachable", "inconclusive"),
        says(CALL, "unreachable", "inconclusive"),
        goal=FAST,
    ),
    one(
        "allow-list of a few foreign sites",
        "S28: domestic sites and two foreign ones",
        on(
            lambda s: preset(
                "allowlist",
                exempt=(*domestic(s), *of_control(s, "microsoft"), *OWN_RESOLVERS),
            )
        ),
        says(CHAT, "unknown", "allowlist"),
        says(WEB, "unknown", "allowlist"),
        beside=(CALL, TG_WEB, TG_MEDIA, WA_CHAT, WA_MEDIA, WA_CALL),
    ),
    one(
        "reject of datagrams to the relays",
        "a router's ICMP for UDP",
        on(lambda s: preset("ip_reject", remote=relays(s), protocol="udp")),
        says(CALL, "blocked", "ip_reject|udp_relay_block"),
        goal=FAST,
        later="no rule reads a router's word about datagrams",
    ),
)


def of_control(stage: Stage, *names: str) -> tuple[str, ...]:
    return tuple(p for name in names for p in prefixes(stage, messenger="control", name=name))


def domestic(stage: Stage) -> tuple[str, ...]:
    targets = stage.catalogue.select(messenger="control")
    inside = {a for t in targets if t.fields.get("role") == "domestic" for a in t.addresses}
    inside |= {a for t in targets if t.owner == "NSDI" for a in t.addresses}
    return tuple(sorted(inside))


_RESOLVER = ("95.24.0.53/32", "2a02:2698:a000::53/128")

_NAMES = (
    one(
        "resolver denies WhatsApp",
        "S15: NXDOMAIN by the provider's resolver",
        lies(WHATSAPP),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "resolver gives a private address",
        "S16",
        lies(WHATSAPP, "10.10.34.34"),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "resolver gives a silent address",
        "a public address where nobody answers",
        lies(WHATSAPP, NEVER_ANSWERS),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "resolver leads to a stranger's server",
        "R03: its certificate is somebody else's",
        lies(WHATSAPP, interceptor.ADDRESS),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
        tags=frozenset({"intercept"}),
    ),
    one(
        "resolver denies Telegram's pages",
        "S15 for the other messenger",
        lies(TELEGRAM),
        says(TG_WEB, "blocked|degraded", "dns_tamper"),
        beside=(CHAT, TG_MEDIA),
        goal=SLOW,
    ),
    one(
        "false answers beside the true ones",
        "S19: an injector on the path",
        on(lambda s: preset("dns_inject", dns=WHATSAPP)),
        says(WEB, "blocked", "dns_injection"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "false answers with the query's TTL",
        "S20",
        on(lambda s: preset("dns_inject_copying", dns=WHATSAPP)),
        says(WEB, "blocked", "dns_injection"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "names denied over UDP everywhere",
        "2.6: NXDOMAIN for one name at every resolver, over UDP only",
        on(lambda s: preset("dns_nxdomain", dns=WHATSAPP)),
        says(WEB, "blocked", "dns_interception"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "names forged over UDP everywhere",
        "S16 as a forgery in the path",
        on(lambda s: preset("dns_forge", dns=WHATSAPP)),
        says(WEB, "blocked", "dns_interception|dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "names refused at the provider's resolver",
        "REFUSED, on the way to it",
        on(
            lambda s: [Censor(match(dns=WHATSAPP, protocol="udp", remote=_RESOLVER), Forge(code=5))]
        ),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "names fail at the provider's resolver",
        "SERVFAIL, on the way to it",
        on(
            lambda s: [Censor(match(dns=WHATSAPP, protocol="udp", remote=_RESOLVER), Forge(code=2))]
        ),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "names swallowed",
        "R06s: queries for the names are not answered, over UDP",
        on(lambda s: [Censor(match(dns=WHATSAPP, protocol="udp"), Drop())]),
        says(WEB, "blocked", "dns_tamper"),
        beside=OTHERS,
        goal=SLOW,
    ),
    Scenario(
        "a resolver that lies, and UDP led to it",
        "S21: national DNS in every resolver's place",
        ((0.0, lies(WHATSAPP)), (0.0, on(lambda s: preset("dns_intercept")))),
        (says(WEB, "blocked", "dns_interception"),),
        beside=OTHERS,
        goal=SLOW,
    ),
    one(
        "foreign resolvers dropped over UDP",
        "S23: the provider's own answers, so nothing is lost",
        on(lambda s: preset("dns_udp_block")),
        says(WEB, "ok"),
        says(CHAT, "ok"),
    ),
    one(
        "all UDP DNS dropped",
        "R10: the provider's resolver too",
        on(lambda s: [Censor(match(protocol="udp", ports=53), Drop())]),
        says(WEB, "blocked|unknown|unreachable", "dns_udp_block"),
        beside=(*OTHERS, TG_WEB, CHAT, TG_MEDIA, CALL),
        later="a channel of which nothing was measured has no findings",
    ),
)


def _sni(name: str, what: str, rules: str, mechanism: str, **more: Any) -> Scenario:
    status = more.pop("status", "blocked")
    hop = more.pop("hop", 2)
    return one(
        name,
        what,
        on(lambda s: preset(rules, sni=WHATSAPP, hop=hop)),
        says(WEB, status, mechanism),
        beside=(WA_MEDIA, WA_CHAT),
        goal=SLOW,
        **more,
    )


_TLS = (
    _sni("answers rewritten to resets", "SNI-I, S34", "sni_rewrite", "tls_sni_reset"),
    _sni("answers rewritten far away", "S76: hop 4", "sni_rewrite", "tls_sni_reset", hop=4),
    _sni("resets injected", "S31", "sni_reset", "tls_sni_reset"),
    _sni("resets injected to both sides", "S32", "sni_reset_both", "tls_sni_reset"),
    _sni("hellos swallowed", "SNI-IV, S36", "sni_drop", "tls_sni_drop"),
    _sni("hellos swallowed far away", "SNI-IV at hop 4", "sni_drop", "tls_sni_drop", hop=4),
    _sni(
        "silence after a few packets",
        "SNI-II",
        "sni_drop_delayed",
        "tls_sni_drop_delayed",
        status="blocked|degraded",
        later="its names wait 450 s for one another, so that three bad rounds take 15 minutes",
    ),
    one(
        "resets with the client's TTL",
        "S31, hop count copied",
        on(lambda s: [Censor(match(sni=WHATSAPP), InjectReset(ttl=None))]),
        says(WEB, "blocked", "tls_sni_reset"),
        beside=(WA_MEDIA,),
        goal=SLOW,
    ),
    one(
        "resets instead of the hello",
        "the hello itself does not pass",
        on(lambda s: [Censor(match(sni=WHATSAPP), InjectReset(genuine=False))]),
        says(WEB, "blocked", "tls_sni_reset"),
        beside=(WA_MEDIA,),
        goal=SLOW,
    ),
    one(
        "name remembered by server and port",
        "resets for 75 s for whoever comes back",
        on(lambda s: [flow(match(sni=WHATSAPP), Refuse(), 75.0, "3-tuple")]),
        says(WEB, "blocked", "tls_sni_reset"),
        beside=(WA_MEDIA,),
        goal=SLOW,
    ),
    one(
        "name remembered by server",
        "silence for 60 s for whoever comes back",
        on(lambda s: [flow(match(sni=WHATSAPP), Drop(), 60.0, "2-tuple")]),
        says(WEB, "blocked", "tls_sni_drop"),
        beside=(WA_MEDIA,),
        goal=SLOW,
    ),
    one(
        "Telegram's pages reset",
        "SNI-I for the other messenger",
        on(lambda s: preset("sni_rewrite", sni=TELEGRAM)),
        says(TG_WEB, "blocked|degraded", "tls_sni_reset"),
        beside=(TG_MEDIA, CHAT),
        goal=SLOW,
    ),
    one(
        "Telegram's pages swallowed",
        "SNI-IV for the other messenger",
        on(lambda s: preset("sni_drop", sni=TELEGRAM)),
        says(TG_WEB, "blocked|degraded", "tls_sni_drop"),
        beside=(TG_MEDIA, CHAT),
        goal=SLOW,
    ),
    one(
        "some names reset",
        "partial: three of WhatsApp's pages",
        on(
            lambda s: preset(
                "sni_rewrite", sni=("web.whatsapp.com", "www.whatsapp.com", "graph.whatsapp.com")
            )
        ),
        says(WEB, "degraded", "tls_sni_reset"),
        goal=SLOW,
    ),
    one(
        "every second flow swallowed",
        "S68: stochastic",
        on(
            lambda s: [
                dataclasses.replace(rule, probability=0.5)
                for rule in preset("sni_drop", sni=WHATSAPP)
            ]
        ),
        says(WEB, "degraded|blocked", "tls_sni_drop"),
        beside=(WA_MEDIA,),
        minutes=30.0,
        later="no rule counts chances",
    ),
    one(
        "a man in the middle",
        "S50: before WhatsApp's pages only",
        on(lambda s: preset("mitm", remote=web(s))),
        says(WEB, "blocked", "tls_mitm"),
        beside=(WA_MEDIA, WA_CHAT),
        goal=SLOW,
        tags=frozenset({"intercept"}),
    ),
    Scenario(
        "all hellos to WhatsApp swallowed",
        "whatever the name: by protocol and prefix",
        ((0.0, on(lambda s: [flow(match(hello=True, remote=web(s)), Drop())])),),
        (says(WEB, "unreachable", "inconclusive"),),
        (says(WEB, "blocked", "protocol_signature"),),
        beside=(WA_MEDIA, WA_CHAT),
    ),
    Scenario(
        "all hellos to WhatsApp reset",
        "the same by RST",
        ((0.0, on(lambda s: [flow(match(hello=True, remote=web(s)), Refuse())])),),
        (says(WEB, "unreachable", "inconclusive"),),
        (says(WEB, "blocked", "protocol_signature"),),
        beside=(WA_MEDIA, WA_CHAT),
    ),
    one(
        "one program's hello swallowed",
        "S48: by fingerprint, at WhatsApp's addresses",
        on(lambda s: fingerprinted(s)),
        says(WEB, "blocked|unreachable", "tls_fingerprint_block"),
        beside=(WA_MEDIA, WA_CHAT),
        later="no rule compares greetings",
    ),
    one(
        "first segment passes, half of the flows",
        "S45",
        on(lambda s: preset("first_segment", remote=web(s), ports=443)),
        says(WEB, "degraded|blocked", "flow_freeze|tls_sni_drop_delayed"),
        beside=(WA_MEDIA, WA_CHAT),
        minutes=30.0,
        later="no rule counts segments",
    ),
)


def fingerprinted(stage: Stage) -> Rules:
    from tests.lab import content
    from tests.lab.talk import client_hello

    opening = content.opening(client_hello("web.whatsapp.com"))
    assert opening is not None
    assert isinstance(opening.said, content.Hello)
    return preset("fingerprint", fingerprint=opening.said.fingerprint, remote=web(stage))


_FLOWS = (
    one(
        "block pages for plain requests",
        "S51: at Telegram's data centres; whatever they say to a stranger is an answer",
        on(
            lambda s: [
                flow(
                    match(
                        host=tuple(a.partition("/")[0] for a in data_centres(s)),
                    ),
                    BlockPage(location="http://blocked.provider.example/"),
                )
            ]
        ),
        says(CHAT, "ok"),
    ),
    *(
        Scenario(
            name,
            what,
            ((0.0, on(lambda s, rules=rules, more=more: preset(rules, **more))),),
            (says(TG_WEB, "ok"),),
            (says(TG_WEB, "degraded", mechanism),),
            beside=(TG_MEDIA, CHAT),
            later="no rule reads transfers",
        )
        for name, what, rules, more, mechanism in (
            (
                "frozen after 16 KiB",
                "2.4, S42: transfers alone are long enough",
                "freeze_bytes",
                {"ports": 443},
                "flow_freeze",
            ),
            ("frozen after 25 packets", "2.4", "freeze_packets", {"ports": 443}, "flow_freeze"),
            ("policed to 140 kbit/s", "S38", "twitter", {"sni": TELEGRAM}, "throttle_policed"),
            (
                "policed to 650 B/s",
                "SNI-III, S37",
                "sni_police",
                {"sni": TELEGRAM},
                "throttle_policed",
            ),
        )
    ),
    one(
        "QUIC of 2022 dropped",
        "S52: nobody here asks over QUIC yet",
        on(lambda s: preset("quic_v1")),
        says(WEB, "ok"),
        says(CALL, "ok"),
    ),
    one(
        "WireGuard dropped",
        "S61: a signature that no messenger has",
        on(lambda s: preset("wireguard")),
        says(CALL, "ok"),
        says(WEB, "ok"),
    ),
    one(
        "encrypted hellos dropped",
        "S49: none is sent",
        on(lambda s: preset("ech")),
        says(WEB, "ok"),
        says(CHAT, "ok"),
    ),
)

_DATAGRAMS = (
    one(
        "relays dropped",
        "S58",
        on(lambda s: preset("ip_drop", remote=relays(s), protocol="udp")),
        says(CALL, "blocked", "udp_relay_block"),
        goal=FAST,
    ),
    one(
        "relays dropped on the way back",
        "one direction",
        on(lambda s: preset("ip_drop", remote=relays(s), protocol="udp", direction="in")),
        says(CALL, "blocked", "udp_relay_block"),
        goal=FAST,
    ),
    one(
        "relays dropped, TCP too",
        "the addresses as such",
        on(lambda s: preset("ip_drop", remote=relays(s))),
        says(CALL, "blocked", "udp_relay_block|ip_drop"),
        goal=FAST,
    ),
    one(
        "port 1400 dropped",
        "2.7: the relays' port",
        on(lambda s: preset("port_block", ports=1400)),
        says(CALL, "blocked", "udp_relay_block"),
        goal=FAST,
    ),
    one(
        "cookie swallowed at the relays",
        "2.7, S56: STUN's mark",
        on(lambda s: preset("stun", remote=relays(s))),
        says(CALL, "blocked", "udp_stun_signature"),
        goal=FAST,
    ),
    one(
        "cookie swallowed, no memory",
        "each datagram by itself",
        on(lambda s: [Censor(match(stun=True, remote=relays(s)), Drop())]),
        says(CALL, "blocked", "udp_stun_signature"),
        goal=FAST,
    ),
    one(
        "cookie swallowed everywhere",
        "S56: may be a router at home, so it is suspected at the most",
        on(lambda s: preset("stun")),
        says(CALL, "unreachable", "udp_stun_signature"),
        beside=(WA_CALL,),
        goal=FAST,
    ),
    one(
        "all UDP dropped",
        "S55",
        on(lambda s: preset("udp_all")),
        says(CALL, "blocked", "udp_block_all"),
        says(WA_CALL, "blocked", "udp_block_all"),
        goal=FAST,
    ),
    one(
        "WhatsApp's relays dropped",
        "those that earned their trust here",
        on(lambda s: preset("ip_drop", remote=relays(s, "whatsapp"), protocol="udp")),
        says(WA_CALL, "blocked", "udp_relay_block"),
        goal=FAST,
    ),
    one(
        "WhatsApp's relays without the cookie",
        "S56 at the other messenger",
        on(lambda s: preset("stun", remote=relays(s, "whatsapp"))),
        says(WA_CALL, "blocked|degraded", "udp_stun_signature"),
        goal=FAST,
        later="two thirds of these relays never had the older form of STUN asked",
    ),
    one(
        "DTLS swallowed",
        "S57: few greetings have earned their trust after a quarter of an hour",
        on(lambda s: preset("dtls")),
        says(WA_CALL, "ok"),
        says(CALL, "ok"),
    ),
    one(
        "some relays dropped",
        "partial: the relays of one network",
        on(
            lambda s: preset(
                "ip_drop",
                remote=tuple(r for r in relays(s) if r.startswith("91.108.9.")),
                protocol="udp",
            )
        ),
        says(CALL, "degraded"),
    ),
    one(
        "datagrams of calls' size dropped",
        "S41 of the table: by size, at the relays",
        on(lambda s: [Censor(match(protocol="udp", size=(20, 40), remote=relays(s)), Drop())]),
        says(CALL, "blocked", "udp_relay_block|udp_size_rule"),
        goal=FAST,
    ),
    one(
        "two thirds of the relays' packets lost",
        "S63, worse",
        on(
            lambda s: [
                Censor(match(protocol="udp", remote=relays(s)), Lose(Loss(0.5, seed=s.seed)))
            ]
        ),
        says(CALL, "degraded|unreachable"),
        minutes=20.0,
    ),
    one(
        "every second flow to the relays dropped",
        "stochastic by flow",
        on(
            lambda s: [
                flow(
                    match(protocol="udp", remote=relays(s)),
                    Drop(),
                    600.0,
                    probability=0.5,
                )
            ]
        ),
        says(CALL, "degraded"),
        minutes=25.0,
    ),
    one(
        "flows dead after twenty packets",
        "S44: a binding has five, so nothing is lost yet",
        on(lambda s: preset("udp_after_packets")),
        says(CALL, "ok"),
    ),
    one(
        "flows dead after ten seconds",
        "S59: calls' streams would show it",
        on(lambda s: preset("udp_after_seconds")),
        says(CALL, "ok"),
    ),
)

_TOGETHER = (
    Scenario(
        "relays and pages of one messenger",
        "two mechanisms",
        (
            (0.0, on(lambda s: preset("ip_drop", remote=relays(s), protocol="udp"))),
            (0.0, on(lambda s: preset("sni_rewrite", sni=TELEGRAM))),
        ),
        (
            says(CALL, "blocked", "udp_relay_block"),
            says(TG_WEB, "blocked|degraded", "tls_sni_reset"),
        ),
        beside=(TG_MEDIA, CHAT),
        goal=SLOW,
    ),
    Scenario(
        "different censors for two messengers",
        "names of one are reset, addresses of the other dropped",
        (
            (0.0, on(lambda s: preset("sni_rewrite", sni=WHATSAPP, hop=3))),
            (0.0, on(lambda s: preset("ip_drop", remote=data_centres(s)))),
        ),
        (says(WEB, "blocked", "tls_sni_reset"), says(CHAT, "blocked", "ip_drop")),
        beside=(WA_MEDIA, WA_CHAT, TG_MEDIA),
        goal=SLOW,
    ),
    Scenario(
        "calls of one, pages of the other",
        "relays swallowed by their cookie, hellos dropped",
        (
            (0.0, on(lambda s: preset("stun", remote=relays(s)))),
            (0.0, on(lambda s: preset("sni_drop", sni=WHATSAPP, hop=3))),
        ),
        (says(CALL, "blocked", "udp_stun_signature"), says(WEB, "blocked", "tls_sni_drop")),
        beside=(WA_MEDIA, WA_CHAT),
        goal=SLOW,
    ),
    Scenario(
        "lies and swallowed hellos",
        "names are denied, and what knows the addresses is dropped",
        (
            (0.0, lies(TELEGRAM)),
            (0.0, on(lambda s: preset("ip_drop", remote=data_centres(s)))),
        ),
        (says(CHAT, "blocked", "ip_drop"), says(TG_WEB, "blocked|degraded", "dns_tamper")),
        beside=(TG_MEDIA,),
        goal=SLOW,
    ),
    Scenario(
        "drop, then reset",
        "S73: the policy changes during the run",
        (
            (0.0, on(lambda s: preset("sni_drop", sni=WHATSAPP))),
            (14.0, lambda s: s.clear()),
            (14.0, on(lambda s: preset("sni_rewrite", sni=WHATSAPP))),
        ),
        (says(WEB, "blocked", "tls_sni_reset"),),
        beside=(WA_MEDIA, WA_CHAT),
        minutes=30.0,
    ),
    Scenario(
        "relays dropped, then let through",
        "it ends: seven good rounds",
        (
            (0.0, on(lambda s: preset("ip_drop", remote=relays(s), protocol="udp"))),
            (8.0, lambda s: s.clear()),
        ),
        (says(CALL, "ok"),),
        beside=(CALL,),
        minutes=20.0,
        tags=frozenset({"at the end"}),
    ),
    Scenario(
        "addresses dropped, then refused",
        "S73 at the addresses",
        (
            (0.0, on(lambda s: preset("ip_drop", remote=data_centres(s)))),
            (7.0, lambda s: s.clear()),
            (7.0, on(lambda s: preset("ip_refuse", remote=data_centres(s)))),
        ),
        (says(CHAT, "blocked", "ip_reject"),),
        beside=(TG_MEDIA,),
        minutes=16.0,
    ),
    Scenario(
        "calls dropped by the hour",
        "ten minutes of twenty: it comes and goes",
        (
            (
                0.0,
                on(
                    lambda s: preset(
                        "ip_drop",
                        remote=relays(s),
                        protocol="udp",
                        window=(0.0, 300.0),
                        period=600.0,
                    )
                ),
            ),
        ),
        (says(CALL, "degraded|blocked"),),
        minutes=45.0,
    ),
)

_DAY = (
    one(
        "bursts punished, a day long",
        "2.5: the agent does not block itself",
        on(lambda s: preset("burst")),
        says(WEB, "ok"),
        says(TG_WEB, "ok"),
        says(CHAT, "ok"),
        says(WA_CHAT, "ok"),
        says(WA_MEDIA, "ok"),
        says(CALL, "ok"),
        says(WA_CALL, "ok"),
        minutes=1440.0,
        most=1,
        tags=frozenset({"always"}),
    ),
)

ALL = (*_ADDRESSES, *_NAMES, *_TLS, *_FLOWS, *_DATAGRAMS, *_TOGETHER, *_DAY)
