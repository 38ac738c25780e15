"""``callpath check`` of what is a matter of degree, of parts, or of several attempts: real packets,
the shipped catalogue unchanged, one healthy round and then one in another world.

What takes several attempts is asked with ``--patient``, where a minute is six seconds.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from probes.net import tls
from tests.lab import content
from tests.lab.actions import Lose, Shape
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.presets import preset
from tests.lab.test_agent import by_channel, checked
from tests.lab.test_verdicts import CALL, RESEARCH, RTT, WEB, accused, cites_what_it_saw, said, web

pytestmark = [pytest.mark.lab, pytest.mark.slow]

FACTOR = 10
OBJECTS = ("telegram", "web")
"""Where the transfers are."""
CHAT = ("whatsapp", "chat")


def patiently(lab: Lab, directory: Path, messenger: str, *rules: Censor, **sections: Any) -> Any:
    """The channels after one healthy round and one with ``rules``; contrasts are waited for."""

    def once(*arguments: str) -> Any:
        file = lab.configuration(directory, 60 / FACTOR, **{**RESEARCH, **sections})
        process = lab.agent(
            ["check", messenger, "--json", "--config", str(file), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = process.communicate(timeout=400)
        assert "Traceback" not in err, err
        return json.loads(out)

    once()
    for rule in rules:
        lab.world.rules.add(rule)
    document = once("--patient")
    cites_what_it_saw(document)
    return by_channel(document)


def objects(lab: Lab) -> str:
    """The address of the servers that the transfers come from."""
    (address,) = (a for a in lab.catalogue.names["core.telegram.org"] if ":" not in a)
    return f"{address}/32"


def outside(directory: Path, **state: Any) -> dict[str, Any]:
    """The section for an outside view that knows of one transfer."""
    now = datetime.now(UTC).isoformat()
    seen = {"target": "transfer-page", "probe": "transfer", "works": True, "last_run": now}
    channel = {"messenger": "telegram", "target_states": [{**seen, **state}]}
    document = {"version": 1, "at": now, "vantage": {"status": "online"}, "channels": [channel]}
    file = directory / "outside.json"
    file.write_text(json.dumps(document))
    return {"file": str(file), "max_age": "6h"}


# --- transfers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["outside view", "alone"])
def test_a_freeze_after_so_many_bytes(lab: Lab, tmp_path: Path, known: bool) -> None:
    rules = preset("freeze_bytes", remote=objects(lab))
    view = {"outside": outside(tmp_path)} if known else {}
    channel = patiently(lab, tmp_path, "telegram", *rules, **view)[OBJECTS]
    assert said(channel) == ("degraded", "flow_freeze", "likely" if known else "suspected")
    assert channel["findings"][0]["variant"] == "flow_freeze_bytes"


@pytest.mark.long
def test_a_freeze_after_so_many_packets(lab: Lab, tmp_path: Path) -> None:
    rules = preset("freeze_packets", remote=objects(lab))
    channel = patiently(lab, tmp_path, "telegram", *rules)[OBJECTS]
    assert said(channel) == ("degraded", "flow_freeze", "likely")
    assert channel["findings"][0]["variant"] == "flow_freeze_packets"


@pytest.mark.long
def test_policing_as_in_2021(lab: Lab, tmp_path: Path) -> None:
    rules = preset("twitter", sni=("*.telegram.org",))
    channel = patiently(lab, tmp_path, "telegram", *rules)[OBJECTS]
    assert said(channel) == ("degraded", "throttle_policed", "likely")


@pytest.mark.long
@pytest.mark.parametrize("known", [True, False], ids=["outside view", "alone"])
def test_shaping(lab: Lab, tmp_path: Path, known: bool) -> None:
    lab.world.rules.line(RTT)
    shape = Censor(match(remote=objects(lab)), Shape(32_000, 64_000))
    view = {"outside": outside(tmp_path, slow=False)} if known else {}
    channel = patiently(lab, tmp_path, "telegram", shape, **view)[OBJECTS]
    assert said(channel) == ("degraded", "throttle_shaped", "likely" if known else "suspected")


@pytest.mark.long
def test_one_round_suspects_and_says_what_it_did_not_ask(lab: Lab, tmp_path: Path) -> None:
    for rule in preset("twitter", sni=("*.telegram.org",)):
        lab.world.rules.add(rule)
    file = lab.configuration(tmp_path, **RESEARCH)
    process = lab.agent(
        ["check", "telegram", "--config", str(file)], stdout=subprocess.PIPE, text=True
    )
    out, _ = process.communicate(timeout=100)
    assert "throttle policed, suspected" in out
    assert "handshake rate" in out


@pytest.mark.long
def test_a_slow_line_for_everyone_accuses_nobody(lab: Lab, tmp_path: Path) -> None:
    lab.world.rules.line(RTT)
    everything = Censor(match(protocol="tcp", ports=443), Shape(32_000, 64_000))
    channels = patiently(lab, tmp_path, "telegram", everything)
    assert accused(channels) == []


@pytest.mark.long
def test_loss_for_everyone_accuses_nobody(lab: Lab, tmp_path: Path) -> None:
    lossy = Censor(match(), Lose(Loss(0.3, seed=5)))
    assert accused(patiently(lab, tmp_path, "telegram", lossy)) == []


# --- hellos ------------------------------------------------------------------------------------


def fingerprint(alpn: tuple[str, ...] = ()) -> str:
    """Of this program's hello, as a filter reads it."""
    written = ssl.MemoryBIO()
    session = tls.context(alpn, "").wrap_bio(ssl.MemoryBIO(), written, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    opening = content.opening(written.read())
    assert opening is not None
    assert isinstance(opening.said, content.Hello)
    return opening.said.fingerprint


@pytest.mark.long
def test_one_programs_hello_is_cut_off(lab: Lab, tmp_path: Path) -> None:
    ours = {fingerprint(), fingerprint(("http/1.1",))}
    rules = preset("fingerprint", fingerprint=tuple(ours), remote=web(lab))
    channels = patiently(lab, tmp_path, "whatsapp", *rules)
    assert said(channels[WEB]) == ("blocked", "tls_fingerprint_block", "likely")


@pytest.mark.long
def test_a_name_that_is_swallowed_is_not_taken_for_a_fingerprint(lab: Lab, tmp_path: Path) -> None:
    rules = preset("sni_drop", sni=("web.whatsapp.com", "*.whatsapp.net", "*.whatsapp.com"))
    channel = patiently(lab, tmp_path, "whatsapp", *rules)[WEB]
    assert said(channel)[1] == "tls_sni_drop"
    assert {f["mechanism"] for f in channel["findings"]} == {"tls_sni_drop"}


def somebodys_burst(address: str) -> None:
    """What another program on the line does: four handshakes without a pause."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(4):
        with socket.create_connection((address, 443), 5) as sock:
            sock.settimeout(0.25)
            try:
                context.wrap_socket(sock, server_hostname="web.whatsapp.com").close()
            except TimeoutError:
                return


def test_bursts_are_frozen_and_single_handshakes_are_not(lab: Lab, tmp_path: Path) -> None:
    """The rule's minutes are of six seconds too."""
    (rule,) = preset("burst")
    shorter = dataclasses.replace(rule.match, burst_seconds=60 / FACTOR)
    quick = dataclasses.replace(rule, match=shorter, seconds=160 / FACTOR)
    addresses = [prefix.partition("/")[0] for prefix in web(lab) if ":" not in prefix]
    checked(lab, tmp_path, "whatsapp", **RESEARCH)
    lab.world.rules.add(quick)
    for address in addresses:
        lab.world.call(somebodys_burst, address)
    file = lab.configuration(tmp_path, 60 / FACTOR, **RESEARCH)
    process = lab.agent(
        ["check", "whatsapp", "--patient", "--json", "--config", str(file)],
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=400)
    channel = by_channel(json.loads(out))[WEB]
    assert said(channel)[1:] == ("tls_burst_policing", "likely")


# --- parts -------------------------------------------------------------------------------------


def test_some_addresses_of_servers_that_have_several(lab: Lab, tmp_path: Path) -> None:
    """Each of WhatsApp's chat servers keeps one."""
    checked(lab, tmp_path, "whatsapp")
    for rule in preset("ip_drop", remote=("3.33.221.48/32", "15.197.210.208/32")):
        lab.world.rules.add(rule)
    channels = by_channel(checked(lab, tmp_path, "whatsapp")[1])
    assert said(channels[CHAT]) == ("degraded", "partial_block", "suspected")
    assert channels[CHAT]["reason"] == "addresses"
    assert accused(channels) == []


@pytest.mark.long
def test_one_family_of_an_owners_addresses(tmp_path: Path) -> None:
    with Lab(ipv6=True) as lab:
        checked(lab, tmp_path, "telegram")
        theirs = lab.catalogue.prefixes(messenger="telegram", channel="web")
        for rule in preset("ip_drop", remote=tuple(p for p in theirs if ":" in p)):
            lab.world.rules.add(rule)
        channels = by_channel(checked(lab, tmp_path, "telegram")[1])
    assert said(channels[OBJECTS]) == ("degraded", "partial_block", "suspected")
    assert channels[OBJECTS]["findings"][0]["variant"] == "one_family_block"
    assert accused(channels) == []


def test_a_bad_way_to_one_operator(lab: Lab, tmp_path: Path) -> None:
    lab.world.rules.line(Line(delay=0.020))
    theirs = lab.catalogue.prefixes(messenger="telegram")
    checked(lab, tmp_path, "telegram")
    lab.world.rules.add(Censor(match(remote=theirs), Lose(Loss(0.45, seed=7))))
    channels = by_channel(checked(lab, tmp_path, "telegram")[1])
    assert accused(channels) == []
    assert said(channels[CALL]) == ("degraded", "path_degraded", "suspected")
