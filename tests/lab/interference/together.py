"""Several at once, and what changes with time: scenarios."""

from __future__ import annotations

from tests.lab.happenings import (
    CALL,
    CHAT,
    SLOW,
    TG_MEDIA,
    TG_WEB,
    WA_CALL,
    WA_CHAT,
    WA_MEDIA,
    WEB,
    lies,
    on,
    one,
)
from tests.lab.presets import preset
from tests.lab.scenario import (
    TELEGRAM,
    WHATSAPP,
    Scenario,
    data_centres,
    relays,
    says,
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


ALL = (*_TOGETHER, *_DAY)
