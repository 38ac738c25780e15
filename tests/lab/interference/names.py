"""Names: scenarios. S.. and sections are those of the project's notes."""

from __future__ import annotations

from tests.lab import interceptor
from tests.lab.actions import Drop, Forge
from tests.lab.censor import Censor, match
from tests.lab.happenings import (
    CALL,
    CHAT,
    NEVER_ANSWERS,
    OTHERS,
    SLOW,
    TG_MEDIA,
    TG_WEB,
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
    says,
)

_RESOLVER = ("95.24.0.53/32", "2a02:2698:a000::53/128")

ALL = (
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
    ),
)
