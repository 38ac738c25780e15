"""What ``callpath check`` says of interference, and of what looks like it, with the shipped
catalogue unchanged: one healthy round, then one in the other world."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.presets import preset
from tests.lab.test_agent import by_channel, checked

pytestmark = [pytest.mark.lab, pytest.mark.slow]

WEB = ("web.whatsapp.com", "*.whatsapp.net", "*.whatsapp.com", "wa.me")
SURE = ("likely", "confirmed")
INTERFERENCE = None
RESEARCH = {"profile": "research", "risks": "accepted"}


def impose(lab: Lab, rules: Iterable[Censor]) -> None:
    for rule in rules:
        lab.world.rules.add(rule)


def in_another_world(lab: Lab, directory: Path, rules: Iterable[Censor], **sections: Any) -> Any:
    """The channels of a check after a healthy one."""
    checked(lab, directory, **sections)
    impose(lab, rules)
    document = checked(lab, directory, **sections)[1]
    (directory / "found.json").write_text(json.dumps(document, indent=1))
    return by_channel(document)


def said(channel: Any) -> tuple[str, str, str]:
    return channel["status"], channel["mechanism"], channel["certainty"]


def test_relays_dropped(lab: Lab, tmp_path: Path) -> None:
    relays = lab.call_relays("telegram")["remote"]
    drop = preset("ip_drop", remote=relays, protocol="udp")
    channels = in_another_world(lab, tmp_path, drop)
    assert said(channels[("telegram", "call")]) == ("blocked", "udp_relay_block", "likely")


def test_a_name_resets(lab: Lab, tmp_path: Path) -> None:
    channels = in_another_world(lab, tmp_path, preset("sni_rewrite", sni=WEB, hop=3))
    assert said(channels[("whatsapp", "web")]) == ("blocked", "tls_sni_reset", "likely")


@pytest.mark.parametrize(
    ("kind", "fields", "channel", "expected"),
    [
        ("sni_reset", {"sni": WEB}, "web", "tls_sni_reset"),
        ("sni_drop", {"sni": WEB}, "web", "tls_sni_drop"),
        ("sni_drop_delayed", {"sni": WEB}, "web", "tls_sni_drop_delayed"),
    ],
)
def test_names(
    lab: Lab, tmp_path: Path, kind: str, fields: Any, channel: str, expected: str
) -> None:
    channels = in_another_world(lab, tmp_path, preset(kind, **fields))
    # After five to eight packets of a delayed drop a short answer may have come.
    status = ("blocked", "degraded") if kind == "sni_drop_delayed" else ("blocked",)
    found = said(channels[("whatsapp", channel)])
    assert found[0] in status
    assert found[1:] == (expected, "likely")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ip_drop", "ip_drop"), ("ip_refuse", "ip_reject"), ("ip_reject", "ip_reject")],
)
def test_addresses(lab: Lab, tmp_path: Path, kind: str, expected: str) -> None:
    remote = lab.catalogue.prefixes(messenger="telegram", channel="chat")
    web = lab.catalogue.prefixes(messenger="telegram", channel="web")
    lab.world.rules.line(Line(delay=0.050))
    rules = preset(kind, remote=[r for r in remote if r not in web], hop=3)
    channels = in_another_world(lab, tmp_path, rules)
    assert said(channels[("telegram", "chat")]) == ("blocked", expected, "likely")


def test_stun_cookie(lab: Lab, tmp_path: Path) -> None:
    relays = lab.call_relays("telegram")["remote"]
    channels = in_another_world(lab, tmp_path, preset("stun", remote=relays))
    print(channels[("telegram", "call")])
    assert said(channels[("telegram", "call")]) == ("blocked", "udp_stun_signature", "likely")


def test_stun_everywhere(lab: Lab, tmp_path: Path) -> None:
    channels = in_another_world(lab, tmp_path, preset("stun"))
    assert said(channels[("telegram", "call")]) == (
        "unreachable",
        "udp_stun_signature",
        "suspected",
    )


def test_udp_all(lab: Lab, tmp_path: Path) -> None:
    channels = in_another_world(lab, tmp_path, preset("udp_all"))
    assert said(channels[("telegram", "call")]) == ("blocked", "udp_block_all", "likely")


def test_liar(lab: Lab, tmp_path: Path) -> None:
    checked(lab, tmp_path)
    for name in lab.catalogue.names:
        if "whatsapp" in name or name == "wa.me":
            lab.servers.lie(name, "185.1.2.3")
    channels = by_channel(checked(lab, tmp_path)[1])
    assert said(channels[("whatsapp", "web")]) == ("blocked", "dns_tamper", "likely")


def test_nxdomain(lab: Lab, tmp_path: Path) -> None:
    checked(lab, tmp_path)
    for name in lab.catalogue.names:
        if "whatsapp" in name or name == "wa.me":
            lab.servers.lie(name)
    channels = by_channel(checked(lab, tmp_path)[1])
    assert said(channels[("whatsapp", "web")]) == ("blocked", "dns_tamper", "likely")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("dns_inject", "dns_injection"),
        ("dns_forge", "dns_interception"),
        ("dns_nxdomain", "dns_interception"),
    ],
)
def test_forged(lab: Lab, tmp_path: Path, kind: str, expected: str) -> None:
    channels = in_another_world(lab, tmp_path, preset(kind, dns=WEB))
    print(channels[("whatsapp", "web")])
    assert said(channels[("whatsapp", "web")]) == ("blocked", expected, "likely")


def test_mitm(lab: Lab, tmp_path: Path) -> None:
    lab.servers.intercept()
    remote = lab.catalogue.prefixes(messenger="whatsapp", channel="web")
    channels = in_another_world(lab, tmp_path, preset("mitm", remote=remote))
    assert said(channels[("whatsapp", "web")]) == ("blocked", "tls_mitm", "likely")


def innocent(channels: Any) -> None:
    for key, c in channels.items():
        assert c["status"] != "blocked", (key, c)


def test_dead_fleet(lab: Lab, tmp_path: Path) -> None:
    remote = lab.catalogue.prefixes(messenger="telegram")
    channels = in_another_world(lab, tmp_path, preset("ip_drop", remote=remote))
    innocent(channels)
    print(channels[("telegram", "call")])
    assert said(channels[("telegram", "call")])[0:2] == ("unreachable", "inconclusive")


def test_congestion(lab: Lab, tmp_path: Path) -> None:
    channels = in_another_world(
        lab,
        tmp_path,
        [
            Censor(
                match(), __import__("tests.lab.actions", fromlist=["Lose"]).Lose(Loss(0.4, seed=5))
            )
        ],
    )
    innocent(channels)
    print(channels[("telegram", "call")])


def test_portal(lab: Lab, tmp_path: Path) -> None:
    lab.servers.intercept()
    channels = in_another_world(lab, tmp_path, preset("portal"))
    innocent(channels)
    assert said(channels[("telegram", "call")])[0:2] == ("unknown", "captive_portal")


def test_mtu(lab: Lab, tmp_path: Path) -> None:
    channels = in_another_world(lab, tmp_path, preset("mtu"))
    innocent(channels)
    for k, c in channels.items():
        print(k, said(c), c["summary"])


def test_research(lab: Lab, tmp_path: Path) -> None:
    channels = in_another_world(lab, tmp_path, preset("sni_rewrite", sni=WEB, hop=3), **RESEARCH)
    print(channels[("whatsapp", "web")])
    assert channels[("whatsapp", "web")]["rule"] == "R15"
