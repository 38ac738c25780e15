"""Addresses and ports: scenarios. S.. and sections are those of the project's notes."""

from __future__ import annotations

from tests.lab.actions import Reject
from tests.lab.censor import Censor, match
from tests.lab.happenings import (
    CALL,
    CHAT,
    FAST,
    TG_MEDIA,
    TG_WEB,
    WA_CALL,
    WA_CHAT,
    WA_MEDIA,
    WEB,
    accelerators,
    domestic,
    of_control,
    on,
    one,
    some_centres,
)
from tests.lab.presets import OWN_RESOLVERS, preset
from tests.lab.scenario import (
    data_centres,
    prefixes,
    relays,
    says,
)

ALL = (
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
    ),
)
