"""What ``callpath check`` says of interference, and of what looks like it, with the shipped
catalogue unchanged: one healthy round, then one in the other world."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import interceptor
from tests.lab.actions import BlockPage
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.presets import preset
from tests.lab.test_agent import by_channel, checked, everything_answers

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
