"""Filters on a protocol's first bytes, on addresses, and both at once, on the virtual clock: what
one check by hand says of each. And that nobody is accused where the servers are mute themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.check import one_round
from config.model import Config, TargetConfig
from probes.model import Certainty, Diagnosis, Proof
from probes.mtproto import MtprotoProbe
from probes.wire.mtproto import Transport
from tests.lab.actions import Action, Drop, InjectReset
from tests.lab.censor import Censor, match
from tests.lab.interference.words import FIRST_BYTES, everything, filtered
from tests.lab.path import Line
from tests.lab.presets import preset
from tests.lab.scenario import data_centres
from tests.lab.trial import VirtualStage
from tests.lab.virtual.world import Agent, VirtualWorld, configuration

LINE = Line(delay=0.03)
ANSWERS = {"direction": "in", "protocol": "tcp", "size": (1, 65_535)}
TRANSPORTS = ("abridged", "intermediate", "padded", "obfuscated")


def deciding(config: Config, change: Callable[[TargetConfig], TargetConfig]) -> Config:
    """The shipped catalogue with other targets for first words."""
    messengers = tuple(
        replace(m, targets=tuple(change(t) for t in m.targets)) for m in config.messengers
    )
    return replace(config, messengers=messengers)


def by_transport(name: str) -> Callable[[TargetConfig], TargetConfig]:
    """Data centres are asked in this one, and chat hosts decide once they have answered."""

    def change(t: TargetConfig) -> TargetConfig:
        if t.target.probe == "noise":
            return replace(t, proof=Proof.CAPTURED)
        if isinstance(t.probe, MtprotoProbe) and not t.informative:
            return replace(t, probe=replace(t.probe, transport=Transport(name)))
        return t

    return change


def told(
    tmp_path: Path,
    rules: Callable[[Any], Sequence[Censor]],
    *,
    transport: str = "abridged",
    profile: str = "client",
) -> dict[str, Diagnosis]:
    """By one check after a healthy one."""
    with VirtualWorld(1, line=LINE) as world:
        config = deciding(configuration(profile, tmp_path), by_transport(transport))
        agent = Agent(world, config)
        names = tuple(agent.core.messengers)

        async def twice() -> Any:
            healthy = await one_round(agent.core, names)
            assert all(o.ok for o in healthy.observations if o.target.probe in ("mtproto", "noise"))
            await agent.stop_asking()
            await asyncio.sleep(120)
            stage = VirtualStage(world, agent, 1)
            stage.add(rules(stage))
            return await one_round(agent.core, names)

        report = world.run(twice())
        world.run(agent.stop())
    return {f"{d.messenger} {d.channel}": d for d in report.diagnoses}


def mechanisms(d: Diagnosis) -> dict[str, Certainty]:
    return {str(f.mechanism): f.certainty for f in d.findings}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_filter_on_one_transport(tmp_path: Path, transport: str) -> None:
    """Research, since obfuscation in the clear is; what decides is in the client profile too."""
    found = told(
        tmp_path, lambda _: [filtered(transport, Drop())], transport=transport, profile="research"
    )
    chat = found["telegram chat"]
    assert chat.status == "degraded"
    assert mechanisms(chat) == {"protocol_signature": Certainty.LIKELY}
    assert "the same question in another transport is answered there" in chat.findings[0].decided
    assert found["whatsapp chat"].status == "ok"


def test_a_reset_that_comes_too_soon(tmp_path: Path) -> None:
    chat = told(tmp_path, lambda _: [filtered("abridged", InjectReset())])["telegram chat"]
    assert mechanisms(chat) == {"protocol_signature": Certainty.LIKELY}
    assert chat.findings[0].rule in ("R49e", "R49t")


@pytest.mark.parametrize("action", [Drop(), InjectReset()], ids=["drop", "reset"])
def test_a_filter_on_noise(tmp_path: Path, action: Action) -> None:
    """All names of chat hosts lead to where nothing answers but the kernel."""
    found = told(tmp_path, lambda _: [filtered("noise", action)])
    chat = found["whatsapp chat"]
    assert chat.status in ("blocked", "degraded")
    assert chat.working < 0.2 * chat.measured
    assert mechanisms(chat) == {"protocol_signature": Certainty.LIKELY}
    assert found["telegram chat"].status == "ok"


def test_a_filter_on_every_transport_that_has_a_mark(tmp_path: Path) -> None:
    """No other transport is left to hold against it; TLS on the same port is."""
    found = told(tmp_path, lambda _: [filtered(p, Drop()) for p in FIRST_BYTES])
    for place in ("telegram chat", "whatsapp chat"):
        assert mechanisms(found[place]) == {"protocol_signature": Certainty.LIKELY}
        assert "TLS with a neutral name passes" in found[place].findings[0].decided[0]


def test_addresses_are_addresses(tmp_path: Path) -> None:
    found = told(tmp_path, lambda s: preset("ip_drop", remote=data_centres(s)))
    assert mechanisms(found["telegram chat"]) == {"ip_drop": Certainty.LIKELY}


def test_both_at_once_are_told_from_either(tmp_path: Path) -> None:
    found = told(tmp_path, everything)
    assert mechanisms(found["telegram chat"]) == {
        "ip_drop": Certainty.LIKELY,
        "protocol_signature": Certainty.LIKELY,
    }


@pytest.mark.parametrize("profile", ["client", pytest.param("research", marks=pytest.mark.long)])
def test_servers_that_take_everything_and_answer_nothing_accuse_nobody(
    tmp_path: Path, profile: str
) -> None:
    """Answers are lost behind the last hop, and the kernels still acknowledge."""
    found = told(
        tmp_path,
        lambda s: [Censor(match(remote=data_centres(s), **ANSWERS), Drop(), hop=4)],
        profile=profile,
    )
    assert found["telegram chat"].status != "ok"
    assert not found["telegram chat"].interference
