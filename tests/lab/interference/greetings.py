"""TLS: scenarios. S.. and sections are those of the project's notes."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.lab.actions import Drop, InjectReset, Refuse
from tests.lab.censor import Censor, match
from tests.lab.happenings import (
    CHAT,
    SLOW,
    TG_MEDIA,
    TG_WEB,
    WA_CHAT,
    WA_MEDIA,
    WEB,
    flow,
    on,
    one,
    web,
)
from tests.lab.presets import preset
from tests.lab.scenario import (
    TELEGRAM,
    WHATSAPP,
    Rules,
    Scenario,
    Stage,
    says,
)

NEUTRAL_FIRST = "one round asks the neutral name after it was remembered; the next ones before"


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


def fingerprinted(stage: Stage) -> Rules:
    from tests.lab import content
    from tests.lab.talk import client_hello

    opening = content.opening(client_hello("web.whatsapp.com"))
    assert opening is not None
    assert isinstance(opening.said, content.Hello)
    return preset("fingerprint", fingerprint=opening.said.fingerprint, remote=web(stage))


ALL = (
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
        virtual=NEUTRAL_FIRST,
    ),
    one(
        "name remembered by server",
        "silence for 60 s for whoever comes back",
        on(lambda s: [flow(match(sni=WHATSAPP), Drop(), 60.0, "2-tuple")]),
        says(WEB, "blocked", "tls_sni_drop"),
        beside=(WA_MEDIA,),
        goal=SLOW,
        virtual=NEUTRAL_FIRST,
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
    Scenario(
        "one program's hello swallowed",
        "S48: by fingerprint, at WhatsApp's addresses; only research greets otherwise",
        ((0.0, on(lambda s: fingerprinted(s))),),
        (says(WEB, "unreachable", "inconclusive"),),
        (says(WEB, "blocked|unreachable", "tls_fingerprint_block"),),
        beside=(WA_MEDIA, WA_CHAT),
    ),
    one(
        "first segment passes, half of the flows",
        "S45",
        on(lambda s: preset("first_segment", remote=web(s), ports=443)),
        says(WEB, "degraded|blocked", "flow_freeze|tls_sni_drop_delayed"),
        beside=(WA_MEDIA, WA_CHAT),
        minutes=30.0,
    ),
)
