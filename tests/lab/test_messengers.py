"""The opt-in messenger files in the lab: who is placed where, and what an agent makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.verdicts import PEERS, with_odds
from probes.model import Certainty, Diagnosis, Mechanism, Status
from tests.lab import catalogue, relays, voices, web
from tests.lab.actions import Drop
from tests.lab.censor import Censor, match
from tests.lab.certificates import Authority
from tests.lab.path import Line
from tests.lab.virtual.world import Agent, VirtualWorld, configuration

OPT_IN = (
    *("discord", "facebook", "facetime", "google_meet", "instagram"),
    *("signal", "teams", "viber", "zoom"),
)
THREE = ("discord", "google_meet", "signal")
HEALTHY = 12 * 60.0
"""Seconds."""


def test_every_opt_in_messenger_has_its_servers() -> None:
    loaded = catalogue.load(catalogue.shipped(messengers=OPT_IN))
    own = [t for t in loaded.targets if t.messenger in OPT_IN]
    assert {t.messenger for t in own} == set(OPT_IN)
    spoken = {place for o in relays.operators(own, ipv6=True) for place in o.places}
    spoken |= web.places(web.hosts(own))
    spoken |= {p for known in voices.places(own, ipv6=True).values() for p in known}
    for t in own:
        if t.probe not in ("tcp", "dns"):
            assert t.addresses
            assert {(a, t.port) for a in t.addresses} <= spoken, t
    realms = {o.name: o.realm for o in relays.operators(own, ipv6=True)}
    assert (realms["signal"], realms["viber"]) == ("signal.org", "viber.com")


def test_a_lab_has_an_authority_in_the_place_of_a_messengers_own(tmp_path: Path) -> None:
    lab = Authority(tmp_path).root.read_text("ascii")
    folder = catalogue.with_root(tmp_path, "00" * 32, authority=lab)
    loaded = catalogue.load([folder / "signal.yaml"])
    given = {t.fields["authority"] for t in loaded.targets if "authority" in t.fields}
    assert given == {lab.replace("\n", " ").strip()}
    assert not (folder / "discord.yaml").exists()


Shown = dict[tuple[str, str], Diagnosis]


async def watched(agent: Agent, minutes: float) -> Shown:
    """What was said last of each messenger and channel, after so many minutes more."""
    last: Shown = {}

    def after(_name: str, diagnoses: Any) -> None:
        last.update({(d.messenger, d.channel): d for d in diagnoses})

    await agent.rounds(agent.world.clock.now + 60 * minutes, after)
    return last


def played(
    directory: Path, messengers: tuple[str, ...], cut_off: str = "discord"
) -> tuple[Shown, Shown]:
    """While all is well, and a while after one's call servers were cut off."""
    with VirtualWorld(7, line=Line(delay=0.03), messengers=messengers) as world:
        agent = Agent(world, configuration("client", directory, messengers=messengers))
        well = world.run(watched(agent, HEALTHY / 60))
        calls = world.catalogue.prefixes(messenger=cut_off, channel="call")
        world.path.add(Censor(match(protocol="udp", remote=calls), Drop()), world.clock.now)
        cut = world.run(watched(agent, 8))
        world.run(agent.stop())
    return well, cut


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shown, Shown]:
    return played(tmp_path_factory.mktemp("three"), THREE)


def test_three_of_them_are_found_well(three: tuple[Shown, Shown]) -> None:
    well, _ = three
    assert {messenger for messenger, _ in well} == set(THREE)
    assert {key: d.status for key, d in well.items() if d.status is not Status.OK} == {}
    assert {("discord", "call"), ("google_meet", "call"), ("signal", "call")} <= set(well)
    assert ("signal", "media") in well


def test_one_whose_calls_are_cut_off_is_named_and_the_others_make_it_surer(
    three: tuple[Shown, Shown], tmp_path: Path
) -> None:
    _, among = three
    _, alone = played(tmp_path, ("discord",))
    call, before = among.pop(("discord", "call")), alone["discord", "call"]
    assert (call.status, before.status) == (Status.BLOCKED, Status.BLOCKED)
    assert (before.certainty, call.certainty) == (Certainty.LIKELY, Certainty.CONFIRMED)
    assert call.mechanism is before.mechanism is Mechanism.UDP_RELAY_BLOCK
    assert {key: d.status for key, d in among.items() if d.status is not Status.OK} == {}
    assert call.first is not None
    assert before.first is not None
    surer = with_odds(before.first.confidence, PEERS)
    assert call.first.confidence == pytest.approx(surer, abs=0.01)


@pytest.fixture(scope="module")
def whatsapp_alone(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    shown = played(tmp_path_factory.mktemp("alone"), ("whatsapp",), "whatsapp")[1]
    return shown["whatsapp", "call"]


@pytest.mark.parametrize("peer", ["discord", "viber"])
def test_one_opt_in_messenger_makes_it_surer_that_whatsapps_calls_are_cut_off(
    peer: str, whatsapp_alone: Diagnosis, tmp_path: Path
) -> None:
    """Discord's targets are captured; of Viber's nobody has published one, and they have proven
    themselves by then."""
    _, shown = played(tmp_path, ("whatsapp", peer), "whatsapp")
    assert shown[peer, "call"].status is Status.OK
    before, after = whatsapp_alone.first, shown["whatsapp", "call"].first
    assert before is not None
    assert after is not None
    assert before.mechanism is after.mechanism is Mechanism.UDP_RELAY_BLOCK
    assert after.confidence == pytest.approx(with_odds(before.confidence, PEERS), abs=0.01)
