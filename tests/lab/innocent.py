"""Worlds in which nobody interferes, and in which nobody may be accused (design 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.lab import interceptor
from tests.lab.actions import Allow, Delay, Drop, Lose, Police, Refuse
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.happenings import data_centres, domestic, on
from tests.lab.path import Line
from tests.lab.presets import OWN_RESOLVERS, preset
from tests.lab.scenario import (
    LAST_HOP,
    TELEGRAM,
    WHATSAPP,
    Happening,
    Rules,
    Scenario,
    Stage,
    names_of,
    prefixes,
    relays,
)

CACHE = "95.165.12.34"


def world(name: str, what: str, *happens: Happening, **more: Any) -> Scenario:
    begins = tuple((0.0, happen) for happen in happens)
    return Scenario(name, what, begins, innocent=True, **{"minutes": 4.5, **more})


def at_the_servers(make: Callable[[Stage], Rules]) -> Happening:
    return on(lambda s: [dataclasses.replace(rule, hop=LAST_HOP) for rule in make(s)])


def lossy(share: float, burst: float = 0.0, **wanted: Any) -> Happening:
    return on(lambda s: [Censor(match(**wanted), Lose(Loss(share, burst, seed=s.seed)))])


def telegram(stage: Stage, **wanted: str) -> tuple[str, ...]:
    return prefixes(stage, messenger="telegram", **wanted)


def whatsapp(stage: Stage, **wanted: str) -> tuple[str, ...]:
    return prefixes(stage, messenger="whatsapp", **wanted)


def flapping(stage: Any) -> None:
    stage.add([Censor(match(window=(0.0, 30.0), period=100_000.0), Drop(), hop=1)])


def other_machines(stage: Stage) -> None:
    """Every name leads to another of its owner's servers that has the same certificate."""
    for patterns in (WHATSAPP, TELEGRAM):
        names = names_of(stage, patterns)
        places = [
            (n, stage.catalogue.names[n])
            for n in names
            if any(t.host == n and t.probe in ("https", "tls") for t in stage.catalogue.targets)
        ]
        for (name, _), (_, addresses) in zip(places, [*places[1:], *places[:1]], strict=True):
            stage.lie(name, *addresses)


def filtering(stage: Stage, *addresses: str) -> None:
    stage.lie("ad.doubleclick.net", *addresses)
    for name in names_of(stage, WHATSAPP):
        stage.lie(name, *addresses)


def own_cache(stage: Any) -> None:
    """Names of the owner's lead to its cache at the provider, outside of its prefixes."""
    stage.cache(CACHE, names_of(stage, WHATSAPP))


def dns64(stage: Stage) -> None:
    for name in names_of(stage, WHATSAPP):
        four = [a for a in stage.catalogue.names[name] if ":" not in a]
        stage.lie(name, *four, *(f"64:ff9b::{a}" for a in four))


def evening(stage: Stage) -> None:
    share = 0.15 + 0.1 * (stage.seed % 4)
    remote = telegram(stage)
    stage.add([Censor(match(remote=remote), Lose(Loss(share, 4, seed=stage.seed)), hop=4)])


def stall(stage: Any) -> None:
    """Something else on this host takes the processor for more than a second at a time."""
    stage.stall(1.6, every=2.0)


def suspend(stage: Any) -> None:
    stage.suspend(900.0)


ALL = (
    world("healthy", "nothing happens"),
    world("a little loss", "one packet in a hundred", lossy(0.01)),
    world(
        "the cable is pulled",
        "S02, S03: nothing beyond this host",
        on(lambda s: [Censor(match(), Drop(), hop=1)]),
    ),
    world(
        "the provider is down",
        "S04: nothing beyond the gateway",
        on(lambda s: [Censor(match(), Drop(), hop=2)]),
    ),
    world(
        "the border is down",
        "domestic sites answer, nothing else does",
        on(lambda s: preset("allowlist", exempt=(*domestic(s), *OWN_RESOLVERS), hop=4)),
    ),
    world("a portal", "S06", on(lambda s: preset("portal")), tags=frozenset({"intercept"})),
    world("congestion", "S12: a third of all packets", lossy(0.33)),
    world("heavy congestion", "half of all packets", lossy(0.5)),
    world("bursts of loss", "on everything, eight packets at a time", lossy(0.25, 8.0)),
    world(
        "an evening's trouble on the way to one operator",
        "loss on the transit to Telegram",
        evening,
        minutes=7.0,
    ),
    world(
        "heavy trouble on the way to one operator",
        "half of the packets to Telegram are lost",
        on(lambda s: [Censor(match(remote=telegram(s)), Lose(Loss(0.5, 3, seed=s.seed)), hop=4)]),
        minutes=7.0,
    ),
    world(
        "an owner's servers are down",
        "S08: nothing of Telegram answers",
        at_the_servers(lambda s: preset("ip_drop", remote=telegram(s))),
    ),
    world(
        "an owner's servers refuse",
        "S07: programs stopped, the hosts answer RST",
        at_the_servers(lambda s: preset("ip_refuse", remote=telegram(s))),
    ),
    world(
        "one channel's servers refuse",
        "programs stopped at the data centres only",
        at_the_servers(lambda s: preset("ip_refuse", remote=data_centres(s))),
    ),
    world(
        "one machine is down",
        "one of the data centres",
        at_the_servers(lambda s: preset("ip_drop", remote=data_centres(s)[:1])),
    ),
    world(
        "servers hang",
        "S09: they take every hello and say nothing, whatever the name",
        at_the_servers(
            lambda s: [
                Censor(
                    match(
                        remote=whatsapp(s, channel="web"),
                        direction="in",
                        protocol="tcp",
                        size=(1, 65_535),
                    ),
                    Drop(),
                )
            ]
        ),
        minutes=7.0,
    ),
    world(
        "servers close",
        "they hang up on every hello, whatever the name",
        at_the_servers(
            lambda s: [
                Censor(
                    match(remote=whatsapp(s, channel="web"), hello=True),
                    Refuse(),
                    residual="4-tuple",
                    seconds=60.0,
                )
            ]
        ),
        minutes=7.0,
    ),
    world(
        "servers are slow",
        "nine seconds to every answer",
        at_the_servers(
            lambda s: [
                Censor(
                    match(
                        remote=whatsapp(s, channel="web"),
                        direction="in",
                        protocol="tcp",
                        size=(1, 65_535),
                    ),
                    Delay(9.0, 3.0),
                )
            ]
        ),
        minutes=7.0,
    ),
    world(
        "relays retired",
        "they never answered here, and do not answer now",
        at_the_servers(lambda s: preset("ip_drop", remote=relays(s), protocol="udp")),
        cold=True,
    ),
    world(
        "relays allow one question a second",
        "our being rate-limited",
        at_the_servers(
            lambda s: [
                Censor(match(remote=(relay,), direction="in", protocol="udp"), Police(110.0, 220.0))
                for relay in relays(s)
            ]
        ),
    ),
    *(
        world(
            f"relays take a question in {milliseconds} ms, {burst} at once",
            "our being rate-limited",
            at_the_servers(
                lambda s, seconds=milliseconds / 1000, burst=burst: [
                    Censor(
                        match(remote=(relay,), direction="in", protocol="udp"),
                        Allow(seconds, burst),
                    )
                    for relay in relays(s)
                ]
            ),
        )
        for milliseconds, burst in ((150, 1), (1000, 3), (2000, 8))
    ),
    world("other machines of the same owner", "answers of a CDN that differ", other_machines),
    world(
        "a resolver that filters advertising",
        "0.0.0.0 for it, and for WhatsApp",
        lambda s: filtering(s, "0.0.0.0"),
    ),
    world(
        "a resolver that leads advertising to its page",
        "OpenDNS, for it and for WhatsApp",
        lambda s: filtering(s, interceptor.ADDRESS),
        tags=frozenset({"intercept"}),
    ),
    world(
        "a resolver that denies advertising",
        "NXDOMAIN for it, and for WhatsApp",
        lambda s: filtering(s),
    ),
    Scenario(
        "the owner's cache at the provider goes down",
        "it has shown the owner's certificate before",
        (
            (0.0, own_cache),
            (7.0, at_the_servers(lambda s: preset("ip_drop", remote=(f"{CACHE}/32",)))),
        ),
        innocent=True,
        minutes=15.0,
        virtual="nobody stands there in the namespaces",
    ),
    world(
        "an owner is down behind DNS64",
        "its IPv4 addresses are in IPv6 ones of the resolver's making",
        dns64,
        at_the_servers(lambda s: preset("ip_drop", remote=whatsapp(s))),
        ipv6=True,
    ),
    world(
        "a proxy that reads everything",
        "antivirus, company",
        on(lambda s: preset("mitm")),
        tags=frozenset({"intercept"}),
    ),
    world("a router that mangles STUN", "at home or at work", on(lambda s: preset("stun"))),
    world(
        "a tunnel",
        "a VPN on this host",
        lambda s: s.tunnel(),
        virtual="the namespaces have no tunnel device",
    ),
    world("large packets lost", "S14: an MTU black hole", on(lambda s: preset("mtu"))),
    world(
        "large packets lost within", "S14, behind the provider", on(lambda s: preset("mtu", hop=3))
    ),
    world("broken IPv6", "S72", on(lambda s: [Censor(match(family=6), Drop(), hop=1)]), ipv6=True),
    world(
        "broken IPv6 abroad",
        "behind the border",
        on(lambda s: [Censor(match(family=6), Drop(), hop=4)]),
        ipv6=True,
    ),
    world(
        "a carrier's NAT runs out of ports",
        "a third of all new flows never gets through",
        on(
            lambda s: [
                Censor(
                    match(exempt=OWN_RESOLVERS),
                    Drop(),
                    residual="4-tuple",
                    seconds=300.0,
                    probability=0.33,
                    hop=2,
                )
            ]
        ),
    ),
    world(
        "a wrong clock",
        "an hour off",
        lambda s: s.skew(3600.0),
        virtual="a namespace has no clock of its own",
    ),
    world("an overloaded host", "S79", stall, virtual="it would disturb everybody else here"),
    world(
        "a suspend",
        "a quarter of an hour's sleep",
        suspend,
        virtual="this machine cannot be sent to sleep",
    ),
    world("half a minute's flap of everything", "S74", flapping),
    world(
        "the resolver is dead",
        "no name resolves",
        on(lambda s: [Censor(match(protocol="udp", ports=53, remote=OWN_RESOLVERS), Drop())]),
    ),
    world(
        "a name that is gone",
        "retired: no resolver knows it",
        lambda s: s.retire("graph.whatsapp.net", "wa.me", "static.whatsapp.net"),
        virtual="only the provider's resolver can be told",
    ),
    world(
        "a longer way",
        "the path changes: forty milliseconds more",
        lambda s: s.line(Line(delay=0.09, jitter=0.01)),
    ),
    world("a shorter way", "a third of the delay", lambda s: s.line(Line(delay=0.008))),
    world("jitter", "up to a fifth of a second", lambda s: s.line(Line(delay=0.03, jitter=0.2))),
)
