"""Pages, transfers and datagrams: scenarios. S.. and sections are those of the project's notes."""

from __future__ import annotations

from typing import Any

from tests.lab.actions import BlockPage, Drop, Lose
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.happenings import (
    CALL,
    CHAT,
    DEGRADED,
    FAST,
    TG_MEDIA,
    TG_WEB,
    WA_CALL,
    WEB,
    flow,
    on,
    one,
)
from tests.lab.presets import preset
from tests.lab.scenario import (
    TELEGRAM,
    Scenario,
    Stage,
    data_centres,
    prefixes,
    relays,
    says,
)


def on_pages(stage: Stage) -> dict[str, Any]:
    """What a rule needs to match Telegram's pages, by address."""
    return {"remote": prefixes(stage, messenger="telegram", channel="web")}


def by_name(_: Stage) -> dict[str, Any]:
    return {"sni": TELEGRAM}


_NO_PLATEAU = (
    "the virtual TCP recovers by timeouts alone, so that no plateau shows; with the kernel's"
    " TCP it is named (tests/lab/test_gradual.py)"
)
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
            ((0.0, on(lambda s, rules=rules, more=more: preset(rules, **more(s)))),),
            (says(TG_WEB, "ok"),),
            (says(TG_WEB, "degraded", mechanism),),
            beside=(TG_MEDIA, CHAT),
            minutes=60.0,
            transfers=15.0,
            later=_NO_PLATEAU if mechanism == "throttle_policed" else "",
        )
        for name, what, rules, more, mechanism in (
            (
                "frozen after 16 KiB",
                "2.4, S42: transfers alone are long enough",
                "freeze_bytes",
                on_pages,
                "flow_freeze",
            ),
            ("frozen after 25 packets", "2.4", "freeze_packets", on_pages, "flow_freeze"),
            ("policed to 140 kbit/s", "S38", "twitter", by_name, "throttle_policed"),
            (
                "policed to 650 B/s",
                "SNI-III, S37",
                "sni_police",
                by_name,
                "throttle_policed",
            ),
        )
    ),
    one(
        "QUIC of 2022 dropped",
        "S52: no page is lost to who asks over TCP",
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
        "August 2025",
        "S63: 15 % of the packets to and from the relays; single questions are still answered",
        on(lambda s: [Censor(match(remote=relays(s)), Lose(Loss(0.15, seed=s.seed)))]),
        says(CALL, "degraded", "path_degraded"),
        minutes=20.0,
        goal=DEGRADED,
        virtual="one round by hand has half a minute of it",
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
        "S44: a binding has five, a stream more",
        on(lambda s: preset("udp_after_packets")),
        says(CALL, "degraded", "udp_after_n"),
        beside=(WA_CALL,),
        minutes=25.0,
    ),
    one(
        "flows dead after ten seconds",
        "S59: streams show it",
        on(lambda s: preset("udp_after_seconds")),
        says(CALL, "degraded", "udp_after_n"),
        beside=(WA_CALL,),
        minutes=25.0,
    ),
)


ALL = (*_FLOWS, *_DATAGRAMS)
