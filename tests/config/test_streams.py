"""The streams that every messenger gets by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config import streams
from config.model import TargetConfig
from config.schema import Settings
from probes.media import MediaProbe
from probes.model import Family, Proof, Target
from probes.stun import StunProbe
from probes.turn import TurnProbe
from probes.wire.stun import Dress


def relay(name: str, host: str, probe: Any = None, **given: Any) -> TargetConfig:
    probe = probe or StunProbe()
    known: dict[str, Any] = {
        "addresses": (),
        "family": Family.ANY,
        "timeout": None,
        "proof": Proof.DOCUMENTED,
        "interval": None,
        "informative": False,
        **given,
    }
    channel = known.pop("channel", "call")
    return TargetConfig(Target("m", channel, name, probe.kind), probe, host, 3478, **known)


def made(*targets: TargetConfig, **sections: Any) -> list[TargetConfig]:
    settings = Settings.model_validate_json(json.dumps(sections))
    return [
        t
        for t in streams.with_streams(targets, MediaProbe, settings)
        if t.target.probe == "media" and t not in targets
    ]


def names(*targets: TargetConfig, **sections: Any) -> list[str]:
    return [t.target.name for t in made(*targets, **sections)]


FLEET = (
    relay("a1", "192.0.2.1"),
    relay("a2", "192.0.2.2"),
    relay("b1", "198.51.100.1"),
    relay("c1", "203.0.113.1"),
)


def test_two_relays_of_two_networks_get_one():
    assert names(*FLEET) == ["media-a1", "media-b1"]


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (0, []),
        (1, ["media-a1"]),
        (4, ["media-a1", "media-b1", "media-c1", "media-a2"]),
        (9, ["media-a1", "media-b1", "media-c1", "media-a2"]),
    ],
)
def test_as_many_as_are_wanted(count, wanted):
    assert names(*FLEET, media={"targets": count}) == wanted


def test_those_that_surely_answer_come_first():
    sure = relay("d1", "192.0.2.9", proof=Proof.DOCUMENTED)
    unsure = [relay(f"u{n}", f"198.51.{n}.1", proof=Proof.UNPROVEN) for n in range(3)]
    assert names(*unsure, sure)[0] == "media-d1"


@pytest.mark.parametrize(
    "other",
    [
        relay("x", "192.0.2.1", channel="chat"),
        relay("x", "192.0.2.1", StunProbe(transport="tcp")),
        relay("x", "192.0.2.1", informative=True),
        relay("x", "2001:db8::1"),
        relay("x", "x.example", family=Family.IPV6),
    ],
)
def test_what_is_no_relay_over_udp_gets_none(other):
    assert names(other) == []


def test_two_ways_to_ask_one_server_are_one_server():
    assert names(relay("s", "192.0.2.1"), relay("t", "192.0.2.1", TurnProbe())) == ["media-s"]


def test_a_file_with_streams_of_its_own_is_left_alone():
    own = relay("own", "192.0.2.5", MediaProbe())
    assert names(*FLEET, own) == []


def test_it_is_asked_as_its_relay_is_and_shares_its_trust():
    (stream,) = made(relay("a", "192.0.2.1", StunProbe(dress=Dress.APP), proof=Proof.CAPTURED))
    assert stream.probe.dress is Dress.APP
    assert (stream.proof, stream.informative) == (Proof.CAPTURED, True)
    assert stream.relay == Target("m", "call", "a", "stun")


FAST = {
    "profile": "research",
    "risks": "accepted",
    "media": {"profile": "voip20"},
    "limits": {"fast_prefixes": ["192.0.2.0/24"]},
}


def test_a_voices_rate_goes_only_where_it_is_allowed():
    profiles = {t.target.name: t.probe.profile for t in made(*FLEET, **FAST)}
    assert profiles == {"media-a1": "voip20", "media-b1": "keepalive"}


@pytest.mark.parametrize(("interval", "seconds"), [("10m", 0), ("1h", 0), ("1m", 12), ("5s", 2)])
def test_where_streams_are_closer_together_they_are_shorter(interval, seconds):
    (stream, _) = made(*FLEET, schedule={"media_interval": interval, "interval": "1s"})
    assert stream.probe.seconds == seconds


def test_as_many_packets_in_a_shorter_stream_where_rates_do_not_matter():
    laboratory = {"limits": {"fast_prefixes": ["192.0.2.0/24"]}}
    shorter = {"schedule": {"media_interval": "1m", "interval": "6s"}}
    here, there = made(*FLEET, **laboratory, **shorter)
    assert here.probe.length / here.probe.pace.interval == MediaProbe().length
    assert there.probe.spacing == 0
    assert {t.probe.spacing for t in made(*FLEET, **laboratory)} == {0}
    quick = {"schedule": {"media_interval": "5s", "interval": "1s"}}
    assert made(*FLEET, **laboratory, **quick)[0].probe.spacing == streams.FASTEST
    voices = made(*FLEET, **FAST, **shorter)
    assert {t.probe.spacing for t in voices} == {0}
