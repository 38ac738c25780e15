"""The media streams that need no entry of their own: to some of each messenger's call relays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from config.model import TargetConfig
from config.schema import Settings
from probes.model import Channel, Family, Proof, Target
from probes.net.address import parse, prefix_of

KIND = "media"
PREFIX = "media-"
FIELD_INTERVAL = 600.0
SLOW = "keepalive"
FASTEST = 0.02
"""Seconds between packets."""
SHARE = 0.2
"""Of the seconds between two streams, one lasts so many."""
_RELAYS = ("stun", "turn")


def with_streams(
    targets: Sequence[TargetConfig], probe: Any, settings: Settings
) -> tuple[TargetConfig, ...]:
    """``targets`` and streams to ``media.targets`` of the relays among them: those surest to
    answer, in different networks. A file that has streams of its own is left as it is.

    A voice's rate goes only to where ``limits.fast_prefixes`` allow it; elsewhere the stream is
    slow. Where streams are closer together than in the field they are shorter, and a slow one has
    as many packets all the same, if it goes to where rates do not matter. They decide nothing of
    the quorum, and are trusted when their relay is.
    """
    media, prefixes = settings.media, tuple(map(str, settings.limits.fast_prefixes))
    between = settings.schedule.media_interval
    seconds = seconds_of(between)
    if any(t.target.probe == KIND for t in targets):
        return tuple(targets)
    names = {t.target.name for t in targets}
    made = []
    for relay in _chosen([t for t in targets if _is_relay(t)], media.targets):
        name = PREFIX + relay.target.name
        if name in names:
            continue
        options: dict[str, Any] = {"seconds": seconds}
        if _is_fast(relay, prefixes):
            options["profile"] = media.profile
            if media.profile == SLOW and seconds:
                options["spacing"] = max(FASTEST, round(between / FIELD_INTERVAL, 3))
        if "dress" in {field.name for field in dataclasses.fields(relay.probe)}:
            options["dress"] = relay.probe.dress
        made.append(
            dataclasses.replace(
                relay,
                target=Target(relay.target.messenger, relay.target.channel, name, KIND),
                probe=probe(**options),
                timeout=None,
                interval=None,
                informative=True,
                relay=relay.target,
            )
        )
    return (*targets, *made)


def seconds_of(interval: float) -> float:
    """Of a stream where they are closer together than in the field; 0 where they are not."""
    return 0.0 if interval >= FIELD_INTERVAL else max(2.0, round(interval * SHARE, 1))


def _is_relay(target: TargetConfig) -> bool:
    return (
        target.target.channel == Channel.CALL
        and target.target.probe in _RELAYS
        and target.probe.transport == "udp"
        and not target.informative
        and target.family is not Family.IPV6
        and ":" not in target.host
    )


def _chosen(relays: Sequence[TargetConfig], count: int) -> list[TargetConfig]:
    """The surest first; one of each network before a second of any; no place twice."""
    sure = sorted(relays, key=lambda t: list(Proof).index(t.proof))
    chosen: list[TargetConfig] = []
    places: set[tuple[str, int]] = set()
    networks: set[str] = set()
    for other in (True, False):
        for relay in sure:
            network = prefix_of(relay.host) if parse(relay.host) else relay.host
            place = (relay.host, relay.port)
            if len(chosen) < count and place not in places and (network not in networks) is other:
                chosen.append(relay)
                places.add(place)
                networks.add(network)
    return chosen


def _is_fast(relay: TargetConfig, prefixes: Sequence[str]) -> bool:
    addresses = [relay.host] if parse(relay.host) else list(relay.addresses)
    return bool(addresses) and all(
        any(ip_address(one) in ip_network(prefix) for prefix in prefixes) for one in addresses
    )
