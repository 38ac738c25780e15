"""Interference that has been seen, as declarations with their sources.

``preset("sni_rewrite", sni="*.whatsapp.net", hop=3)`` gives the rules to add, in this order.
Section and scenario numbers are those of the project's notes on interference methods (November
2026), which name papers and reports; where those give a range, the figure here is inside it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tests.lab import content, interceptor
from tests.lab import packet as packets
from tests.lab.actions import (
    BlockPage,
    Drop,
    Forge,
    InjectReset,
    Lose,
    Police,
    Redirect,
    Refuse,
    Reject,
    RewriteToReset,
    Shape,
)
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.world import RESOLVER_V4, RESOLVER_V6

OWN_RESOLVERS = (f"{RESOLVER_V4}/32", f"{RESOLVER_V6}/128")
LARGEST = 65_535


@dataclass(frozen=True, slots=True)
class Preset:
    """``needs`` are the fields of Match without which it would hit everything."""

    source: str
    needs: tuple[str, ...]
    rules: tuple[Censor, ...]


def preset(name: str, *, hop: int = 2, seed: int = 1, **fields: Any) -> tuple[Censor, ...]:
    """The rules of a preset for the names, prefixes and other fields of Match given here."""
    chosen = PRESETS[name]
    if missing := set(chosen.needs) - set(fields):
        raise ValueError(f"{name} needs {', '.join(sorted(missing))}")
    given = match(**fields)
    narrowed = {key: getattr(given, key) for key in fields}
    return tuple(
        dataclasses.replace(
            rule,
            match=dataclasses.replace(rule.match, **narrowed),
            hop=hop,
            seed=seed,
            name=name,
        )
        for rule in chosen.rules
    )


def _flow(seconds: float, *, restart: bool = False) -> dict[str, Any]:
    return {"residual": "4-tuple", "seconds": seconds, "restart": restart}


_UNTIL_IDLE = _flow(600, restart=True)  # released after about ten idle minutes (2.3)

PRESETS: dict[str, Preset] = {
    # TLS
    "sni_rewrite": Preset(
        "2.2 SNI-I, S34", ("sni",), (Censor(match(), RewriteToReset(), **_flow(75)),)
    ),
    "sni_drop_delayed": Preset(
        "2.2 SNI-II, 5-8 packets",
        ("sni",),
        (Censor(match(), Drop(after_packets=5, spread=3), **_flow(420)),),
    ),
    "sni_police": Preset(
        "2.2 SNI-III, S37", ("sni",), (Censor(match(), Police(650, 4096), **_UNTIL_IDLE),)
    ),
    "sni_drop": Preset("2.2 SNI-IV, S36", ("sni",), (Censor(match(), Drop(), **_flow(40)),)),
    "sni_reset": Preset(
        "S31, 3.6: injected beside the path, constant IP-ID",
        ("sni",),
        (Censor(match(), InjectReset(ttl=128, identification=1)),),
    ),
    "sni_reset_both": Preset(
        "S32: three resets to both sides",
        ("sni",),
        (Censor(match(), InjectReset(both=True, count=3, ttl=200)),),
    ),
    "ech": Preset(
        "2.2 ECH, S49",
        (),
        (
            Censor(
                match(sni="cloudflare-ech.com", extension=content.ENCRYPTED_CLIENT_HELLO),
                Drop(),
                **_flow(40),
            ),
        ),
    ),
    "fingerprint": Preset("S48", ("fingerprint",), (Censor(match(), Drop(), **_flow(40)),)),
    "burst": Preset(
        "2.5, S46: more than 3 near-parallel handshakes, 60-120 s",
        (),
        (
            Censor(
                match(hello=True, burst_over=3, burst_seconds=60, burst_gap=0.45),
                Drop(),
                residual="2-tuple",
                seconds=120,
                acts="matching",
            ),
        ),
    ),
    "mitm": Preset(
        "S50",
        (),
        (
            Censor(
                match(protocol="tcp", ports=443),
                Redirect(interceptor.ADDRESS, interceptor.TLS_PORT),
            ),
        ),
    ),
    # Addresses and ports
    "ip_drop": Preset("2.2 IP, S25", ("remote",), (Censor(match(), Drop()),)),
    "ip_refuse": Preset("S26", ("remote",), (Censor(match(protocol="tcp"), Refuse()),)),
    "ip_reject": Preset(
        "1.4, R14", ("remote",), (Censor(match(), Reject(packets.ADMIN_PROHIBITED)),)
    ),
    "port_block": Preset("S30", ("ports",), (Censor(match(), Drop()),)),
    "allowlist": Preset("S28; exempt is the list", ("exempt",), (Censor(match(), Drop()),)),
    "allowlist_names": Preset(
        "S29, with the above: prefix and name must both be listed",
        ("exempt_names",),
        (Censor(match(hello=True), Drop(), **_flow(40)),),
    ),
    # Volume
    "twitter": Preset(
        "2.3, S38: 140 kbit/s each way",
        ("sni",),
        (Censor(match(), Police(17_500, 16_384), **_UNTIL_IDLE),),
    ),
    "shape": Preset("S39", (), (Censor(match(), Shape(64_000, 64_000)),)),
    "freeze_bytes": Preset(
        "2.4, S42", (), (Censor(match(protocol="tcp", bytes_over=16_384), Drop(), **_UNTIL_IDLE),)
    ),
    "freeze_packets": Preset(
        "2.4: about 25 packets in both directions together",
        (),
        (Censor(match(protocol="tcp", packets_over=25), Drop(), **_UNTIL_IDLE),),
    ),
    "first_segment": Preset(
        "2.2 MTProto-like, S45: half of the flows",
        (),
        (Censor(match(protocol="tcp", segments_over=1), Drop(), probability=0.5, **_UNTIL_IDLE),),
    ),
    "mtu": Preset("S14, innocent", (), (Censor(match(size=(1261, LARGEST)), Drop()),)),
    # UDP
    "udp_all": Preset(
        "S55; the provider's own resolver answers",
        (),
        (Censor(match(protocol="udp", exempt=OWN_RESOLVERS), Drop()),),
    ),
    "udp_after_packets": Preset(
        "2.4, S44", (), (Censor(match(protocol="udp", packets_over=20), Drop()),)
    ),
    "udp_after_seconds": Preset("S59", (), (Censor(match(protocol="udp", age_over=10), Drop()),)),
    "call_shape": Preset(
        "5.2 of the notes on infrastructure: a second rule, on flows that carry a call",
        (),
        (Censor(match(protocol="udp", voice_over=30), Drop(), **_flow(60, restart=True)),),
    ),
    "udp_first_packets": Preset(
        "5.4 of the notes on infrastructure: classified at the start of a flow",
        (),
        (Censor(match(protocol="udp", packets_over=4), Drop()),),
    ),
    "udp_large": Preset(
        "R41: nothing above a bare question",
        (),
        (Censor(match(protocol="udp", size=(200, LARGEST)), Drop()),),
    ),
    "stun": Preset("2.7, S56", (), (Censor(match(stun=True), Drop(), **_flow(60, restart=True)),)),
    "dtls": Preset("2.2 DTLS, S57", (), (Censor(match(dtls=True), Drop()),)),
    "quic_v1": Preset(
        "2.2 QUIC 2022, S52",
        (),
        (
            Censor(
                match(
                    protocol="udp",
                    ports=443,
                    direction="out",
                    size=(1001, LARGEST),
                    payload=((1, "00000001"),),
                ),
                Drop(),
                **_flow(420),
            ),
        ),
    ),
    "quic_sni": Preset(
        "2.2 QUIC 2026, S53: every port, version 1 only, and whatever comes later restarts it",
        ("sni",),
        (
            Censor(
                match(protocol="udp", direction="out", quic=True),
                Drop(),
                **_flow(420, restart=True),
            ),
        ),
    ),
    "wireguard": Preset(
        "2.2 WireGuard, S61: after more than two data packets",
        (),
        (
            Censor(
                match(protocol="udp", size=(148, 148), payload=((0, "01000000"),)),
                Drop(after_packets=4),  # the answer to it, a keepalive and two of data
                **_flow(60, restart=True),
            ),
        ),
    ),
    "calls_lossy": Preset(
        "S63, August 2025", ("remote",), (Censor(match(protocol="udp"), Lose(Loss(0.15))),)
    ),
    # Names and pages
    "dns_nxdomain": Preset(
        "2.6: over UDP only",
        ("dns",),
        (Censor(match(protocol="udp"), Forge(code=3)),),
    ),
    "dns_forge": Preset(
        "S16 as a forgery in the path",
        ("dns",),
        (Censor(match(protocol="udp"), Forge(("10.10.34.34",))),),
    ),
    "dns_inject": Preset(
        "S19: beside the path, the true answer follows",
        ("dns",),
        (Censor(match(protocol="udp"), Forge(("10.10.34.34",), beside=True, ttl=200)),),
    ),
    "dns_inject_copying": Preset(
        "S20: with the query's own TTL",
        ("dns",),
        (Censor(match(protocol="udp"), Forge(("10.10.34.34",), beside=True, ttl=None)),),
    ),
    "dns_intercept": Preset(
        "2.6, S21",
        (),
        (Censor(match(protocol="udp", ports=53, exempt=OWN_RESOLVERS), Redirect(RESOLVER_V4)),),
    ),
    "dns_udp_block": Preset(
        "S23", (), (Censor(match(protocol="udp", ports=53, exempt=OWN_RESOLVERS), Drop()),)
    ),
    "http_blockpage": Preset(
        "S51",
        ("host",),
        (
            Censor(
                match(),
                BlockPage(location="http://blocked.provider.example/"),
                residual="4-tuple",
                seconds=60,
            ),
        ),
    ),
    "portal": Preset(
        "S06: the provider's resolver and the portal, nothing else",
        (),
        (
            Censor(
                match(protocol="tcp", ports=80),
                Redirect(interceptor.ADDRESS, interceptor.HTTP_PORT),
            ),
            Censor(match(exempt=(f"{interceptor.ADDRESS}/32", *OWN_RESOLVERS)), Drop()),
        ),
    ),
}
