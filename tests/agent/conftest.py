"""An agent that is driven round by round. No probe touches the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import core as core_module
from agent import learned, manners, network, rounds
from tests.agent.building import Clock
from tests.agent.line import Line


@pytest.fixture
async def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    for module in (core_module, learned, manners):
        monkeypatch.setattr(module, "time", clock.module)
    monkeypatch.setattr("probes.measure.time", clock.wall_only)
    monkeypatch.setattr(rounds, "time", clock.wall_only)
    monkeypatch.setattr(rounds, "SPREAD", 0.0)
    monkeypatch.setattr(rounds, "PER_CHECK", 0.0)
    monkeypatch.setattr(core_module, "default_route", lambda: ("eth0", ""))
    monkeypatch.setattr(core_module, "is_tunnel", lambda interface: False)
    made = Line(clock, tmp_path / "state")
    monkeypatch.setattr(network, "attachment", lambda key: made.attachment)
    yield made
    await made.core.stop()
    made.store.close()
