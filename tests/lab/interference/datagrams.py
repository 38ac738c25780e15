"""The first words of DTLS and QUIC: scenarios, with messenger files in which these decide. S.. and
sections are those of the project's notes."""

from __future__ import annotations

from typing import Any

from probes.wire import dtls
from tests.lab import content
from tests.lab.actions import Drop
from tests.lab.censor import Censor, match
from tests.lab.happenings import SLOW, WA_CALL, WA_CHAT, WA_MEDIA, WEB, on, one, web
from tests.lab.presets import preset
from tests.lab.scenario import WHATSAPP, Expected, Rules, Scenario, Stage, relays, says

DTLS, QUIC = ("dtls",), ("quic",)


def fingerprinted(stage: Stage) -> Rules:
    hello = content.dtls_hello(dtls.client_hello(dtls.Dress.BROWSER, bytes(32)))
    assert hello is not None
    return [Censor(match(dtls=True, fingerprint=hello.fingerprint), Drop())]


def _quic(name: str, what: str, make: Any, research: Expected, **more: Any) -> Scenario:
    """The client profile asks nothing over QUIC."""
    return Scenario(
        name,
        what,
        ((0.0, on(make)),),
        more.pop("client", (says(WEB, "ok"),)),
        (research,),
        decides=QUIC,
        goal=more.pop("goal", None),
        **more,
    )


ALL = (
    one(
        "DTLS swallowed, whoever says it",
        "S57; STUN passes to the same relays",
        on(lambda s: preset("dtls")),
        says(WA_CALL, "degraded", "udp_dtls_signature"),
        decides=DTLS,
        goal=SLOW,
    ),
    one(
        "one program's DTLS swallowed",
        "2.2 DTLS: by fingerprint, a browser's; OpenSSL's passes",
        on(fingerprinted),
        says(WA_CALL, "degraded", "udp_dtls_signature"),
        decides=DTLS,
        goal=SLOW,
    ),
    one(
        "relays that greet in DTLS, dropped",
        "by address: no signature",
        on(lambda s: preset("ip_drop", remote=relays(s, "whatsapp"), protocol="udp")),
        says(WA_CALL, "blocked", "udp_relay_block"),
        decides=DTLS,
        goal=SLOW,
    ),
    _quic(
        "QUIC with WhatsApp's names swallowed",
        "2.2 QUIC 2026, S53",
        lambda s: preset("quic_sni", sni=WHATSAPP),
        says(WEB, "degraded", "quic_block"),
    ),
    _quic(
        "QUIC's version 1 swallowed",
        "2.2 QUIC 2022, S52",
        lambda s: preset("quic_v1"),
        says(WEB, "degraded", "quic_block"),
    ),
    _quic(
        "QUIC and TLS with WhatsApp's names swallowed",
        "both at once",
        lambda s: (*preset("quic_sni", sni=WHATSAPP), *preset("sni_drop", sni=WHATSAPP)),
        says(WEB, "blocked", "tls_sni_drop|quic_block"),
        client=(says(WEB, "blocked", "tls_sni_drop"),),
        beside=(WA_MEDIA, WA_CHAT),
    ),
    _quic(
        "servers of QUIC dropped",
        "by address: no signature",
        lambda s: preset("ip_drop", remote=web(s)),
        says(WEB, "blocked", "ip_drop"),
        client=(says(WEB, "blocked", "ip_drop"),),
        beside=(WA_MEDIA,),
    ),
)
