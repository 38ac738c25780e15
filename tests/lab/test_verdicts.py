"""What ``callpath check`` says of interference, and of what looks like it, with the shipped
catalogue unchanged: one healthy round, then one in another world."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.model import SURE, Mechanism
from tests.lab import interceptor
from tests.lab.actions import Lose
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.presets import preset
from tests.lab.test_agent import by_channel, checked, everything_answers
from tests.lab.twins import TWIN, running_twin

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NAMES = ("web.whatsapp.com", "*.whatsapp.net", "*.whatsapp.com", "wa.me")
RESEARCH = {"profile": "research", "risks": "accepted"}
RTT = Line(delay=0.050)
"""Far enough away for an answer that comes too soon to be told."""

Channels = dict[tuple[str, str], Any]
Rules = tuple[Censor, ...]


def after_a_healthy_round(lab: Lab, directory: Path, *rules: Censor, **sections: Any) -> Channels:
    checked(lab, directory, **sections)
    for rule in rules:
        lab.world.rules.add(rule)
    document = checked(lab, directory, **sections)[1]
    cites_what_it_saw(document)
    return by_channel(document)


def cites_what_it_saw(document: Any) -> None:
    """Evidence and contrasts point at observations of this very document."""
    ids = {o["id"] for o in document["observations"]}
    for channel in document["channels"]:
        for finding in channel["findings"]:
            assert set(finding["evidence"]) <= ids
    marked = [o for o in document["observations"] if o["contrast"]]
    assert {o["contrast"]["of"] for o in marked} <= ids


def said(channel: Any) -> tuple[str, str, str]:
    return channel["status"], channel["mechanism"], channel["certainty"]


def accused(channels: Channels) -> list[tuple[str, str]]:
    """Channels of which something is said at likely or better that is somebody's doing."""
    return [
        key
        for key, c in channels.items()
        if c["status"] == "blocked"
        or any(
            f["certainty"] in SURE and Mechanism(f["mechanism"]).interference for f in c["findings"]
        )
    ]


def relays(lab: Lab) -> tuple[str, ...]:
    return tuple(lab.call_relays("telegram")["remote"])


def web(lab: Lab) -> tuple[str, ...]:
    return lab.catalogue.prefixes(messenger="whatsapp", channel="web")


def chat(lab: Lab) -> tuple[str, ...]:
    pages = lab.catalogue.prefixes(messenger="telegram", channel="web")
    data_centres = lab.catalogue.prefixes(messenger="telegram", channel="chat")
    return tuple(p for p in data_centres if p not in pages)


CALL, CHAT, WEB = ("telegram", "call"), ("telegram", "chat"), ("whatsapp", "web")
INTERFERENCE: dict[str, tuple[Callable[[Lab], Rules], tuple[str, str], str]] = {
    "relays": (
        lambda lab: preset("ip_drop", remote=relays(lab), protocol="udp"),
        CALL,
        "udp_relay_block",
    ),
    "cookie": (lambda lab: preset("stun", remote=relays(lab)), CALL, "udp_stun_signature"),
    "all UDP": (lambda lab: preset("udp_all"), CALL, "udp_block_all"),
    "addresses": (lambda lab: preset("ip_drop", remote=chat(lab)), CHAT, "ip_drop"),
    "refused": (lambda lab: preset("ip_refuse", remote=chat(lab)), CHAT, "ip_reject"),
    "prohibited": (lambda lab: preset("ip_reject", remote=chat(lab)), CHAT, "ip_reject"),
    "relays prohibited": (
        lambda lab: preset("ip_reject", remote=relays(lab), protocol="udp"),
        CALL,
        "ip_reject",
    ),
    "rewritten": (lambda lab: preset("sni_rewrite", sni=NAMES, hop=3), WEB, "tls_sni_reset"),
    "injected": (lambda lab: preset("sni_reset", sni=NAMES), WEB, "tls_sni_reset"),
    "swallowed": (lambda lab: preset("sni_drop", sni=NAMES), WEB, "tls_sni_drop"),
    "beside": (lambda lab: preset("dns_inject", dns=NAMES), WEB, "dns_injection"),
    "over UDP": (lambda lab: preset("dns_nxdomain", dns=NAMES), WEB, "dns_interception"),
}


ALWAYS = ("relays", "cookie", "all UDP", "addresses", "swallowed", "over UDP")
"""Of these a real run in every run of the tests; of the others in `make lab`, and in the virtual
world always."""


@pytest.mark.parametrize(
    "world",
    [pytest.param(w, marks=[] if w in ALWAYS else [pytest.mark.long]) for w in INTERFERENCE],
)
def test_a_complete_block_is_likely_after_one_healthy_round(
    lab: Lab, tmp_path: Path, world: str
) -> None:
    rules, channel, mechanism = INTERFERENCE[world]
    lab.world.rules.line(RTT)
    channels = after_a_healthy_round(lab, tmp_path, *rules(lab))
    assert said(channels[channel]) == ("blocked", mechanism, "likely")


def test_a_delayed_drop_is_named_whether_or_not_some_answers_come_first(
    lab: Lab, tmp_path: Path
) -> None:
    channels = after_a_healthy_round(lab, tmp_path, *preset("sni_drop_delayed", sni=NAMES))
    status, mechanism, certainty = said(channels[WEB])
    assert status in ("blocked", "degraded")
    assert (mechanism, certainty) == ("tls_sni_drop_delayed", "likely")


@pytest.mark.parametrize("lie", [["185.1.2.3"], []], ids=["another", "denied"])
def test_a_lying_resolver(lab: Lab, tmp_path: Path, lie: list[str]) -> None:
    checked(lab, tmp_path)
    for name in lab.catalogue.names:
        if "whatsapp" in name or name == "wa.me":
            lab.servers.lie(name, *lie)
    channels = by_channel(checked(lab, tmp_path)[1])
    assert said(channels[WEB]) == ("blocked", "dns_tamper", "likely")


def test_a_man_in_the_middle(lab: Lab, tmp_path: Path) -> None:
    lab.servers.intercept()
    channels = after_a_healthy_round(lab, tmp_path, *preset("mitm", remote=web(lab)))
    assert said(channels[WEB]) == ("blocked", "tls_mitm", "likely")


@pytest.mark.long
def test_research_asks_the_name_at_a_control_and_is_surer(lab: Lab, tmp_path: Path) -> None:
    rules = preset("sni_rewrite", sni=NAMES, hop=3)
    channels = after_a_healthy_round(lab, tmp_path, *rules, **RESEARCH)
    assert channels[WEB]["rule"] == "R15"
    assert channels[WEB]["confidence"] == 0.95


def test_stun_that_is_swallowed_everywhere_may_be_the_router_at_home(
    lab: Lab, tmp_path: Path
) -> None:
    channels = after_a_healthy_round(lab, tmp_path, *preset("stun"))
    assert said(channels[CALL]) == ("unreachable", "udp_stun_signature", "suspected")


# --- with an outside view, with a twin ---------------------------------------------------------


@pytest.mark.long
def test_an_outside_view_tells_a_silenced_owner_from_one_that_is_down(
    lab: Lab, tmp_path: Path
) -> None:
    """What nobody can tell from inside alone (see the innocent worlds below)."""
    everything = lab.catalogue.prefixes(messenger="telegram")
    view = tmp_path / "outside.json"
    document = checked(lab, tmp_path)[1]
    view.write_text(json.dumps(document))
    for rule in preset("ip_drop", remote=everything):
        lab.world.rules.add(rule)
    channels = by_channel(checked(lab, tmp_path, outside={"file": str(view)})[1])
    assert said(channels[CHAT]) == ("blocked", "ip_drop", "likely")
    down = json.loads(view.read_text())
    for channel in down["channels"]:
        for state in channel["target_states"]:
            state["works"] = channel["messenger"] != "telegram"
    view.write_text(json.dumps(down))
    channels = by_channel(checked(lab, tmp_path, outside={"file": str(view)})[1])
    assert accused(channels) == []
    assert said(channels[CHAT])[:2] == ("unreachable", "server_outage")
    assert said(channels[CALL])[:2] == ("unreachable", "server_outage")


@pytest.fixture
def twin(lab: Lab, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The section by which an agent finds the twin among the servers."""
    with running_twin(lab, tmp_path) as section:
        yield section


AT_TWIN: dict[str, tuple[Callable[[Lab], Rules], dict[str, str], str, str]] = {
    "relays": (
        lambda lab: preset("ip_drop", remote=relays(lab), protocol="udp"),
        {},
        "udp_relay_block",
        "R38",
    ),
    "stun": (lambda lab: preset("stun"), RESEARCH, "udp_stun_signature", "R37"),
    "all UDP": (lambda lab: preset("udp_all"), RESEARCH, "udp_block_all", "R36"),
}


@pytest.mark.parametrize("world", AT_TWIN)
def test_the_twin_tells_relays_their_words_and_all_of_udp_apart(
    lab: Lab, tmp_path: Path, twin: dict[str, Any], world: str
) -> None:
    rules, profile, mechanism, rule = AT_TWIN[world]
    channels = after_a_healthy_round(lab, tmp_path, *rules(lab), twin=twin, **profile)
    assert said(channels[CALL]) == ("blocked", mechanism, "likely")
    assert channels[CALL]["rule"] == rule


def test_the_targets_name_is_asked_at_the_twin_and_not_at_a_strangers(
    lab: Lab, tmp_path: Path, twin: dict[str, Any]
) -> None:
    sections = {"twin": twin, **RESEARCH}
    checked(lab, tmp_path, **sections)
    for rule in preset("sni_rewrite", sni=NAMES, hop=3):
        lab.world.rules.add(rule)
    document = checked(lab, tmp_path, **sections)[1]
    cites_what_it_saw(document)
    assert by_channel(document)[WEB]["rule"] == "R15"
    elsewhere = [
        o["facts"]["address"]
        for o in document["observations"]
        if o["contrast"] and o["contrast"]["differs"] == "address"
    ]
    assert set(elsewhere) == {TWIN}


# --- innocent worlds ---------------------------------------------------------------------------


def test_a_silent_owner_is_unreachable_and_nobody_is_accused(lab: Lab, tmp_path: Path) -> None:
    everything = lab.catalogue.prefixes(messenger="telegram")
    channels = after_a_healthy_round(lab, tmp_path, *preset("ip_drop", remote=everything))
    assert accused(channels) == []
    assert said(channels[CALL])[:2] == ("unreachable", "inconclusive")


def test_relays_that_never_answered_here_are_not_blocked(lab: Lab, tmp_path: Path) -> None:
    """Dead for long: what an old calibration says of them proves nothing."""
    calibration = everything_answers(lab, "telegram")
    calibration["at"] = "2026-01-01T00:00:00Z"
    file = tmp_path / "old.json"
    file.write_text(json.dumps(calibration))
    for rule in preset("ip_drop", remote=relays(lab), protocol="udp"):
        lab.world.rules.add(rule)
    channels = by_channel(checked(lab, tmp_path, calibration=[str(file)])[1])
    assert said(channels[CALL])[0] == "unreachable"
    assert accused(channels) == []


def test_congestion_on_everything(lab: Lab, tmp_path: Path) -> None:
    lossy = Censor(match(), Lose(Loss(0.4, seed=5)))
    assert accused(after_a_healthy_round(lab, tmp_path, lossy)) == []


def test_a_captive_portal(lab: Lab, tmp_path: Path) -> None:
    lab.servers.intercept()
    channels = after_a_healthy_round(lab, tmp_path, *preset("portal"))
    assert accused(channels) == []
    assert said(channels[CALL])[:2] == ("unknown", "captive_portal")


def test_a_line_for_small_packets_only(lab: Lab, tmp_path: Path) -> None:
    assert accused(after_a_healthy_round(lab, tmp_path, *preset("mtu"))) == []


def test_an_interceptor_for_everyone_is_a_matter_of_this_host(lab: Lab, tmp_path: Path) -> None:
    lab.servers.intercept()
    channels = after_a_healthy_round(lab, tmp_path, *preset("mitm"))
    assert accused(channels) == []
    assert channels[WEB]["mechanism"] == "probe_fault"


# --- words -------------------------------------------------------------------------------------


def test_the_table_says_it_in_words(lab: Lab, tmp_path: Path) -> None:
    checked(lab, tmp_path)
    for rule in preset("sni_rewrite", sni=NAMES, hop=3):
        lab.world.rules.add(rule)
    file = lab.configuration(tmp_path)
    process = lab.agent(
        ["check", "whatsapp", "--config", str(file)], stdout=subprocess.PIPE, text=True
    )
    out, _ = process.communicate(timeout=100)
    assert "whatsapp web: tls sni reset, likely (80%, rule R16)" in out
    assert "What decided: the same address answers a neutral name" in out
    assert "another address: profile: client does not ask it" in out
    assert interceptor.ADDRESS not in out
