"""The history of an agent in the virtual world, with the shipped catalogue: what it kept is enough
to come to every verdict again."""

from __future__ import annotations

import pytest

from agent.history import History
from agent.replay import Counted, replay
from agent.store import Store
from agent.trimming import Limits
from exporters import history as asked
from tests.lab.presets import preset
from tests.lab.virtual.world import Agent, VirtualWorld, configuration

MINUTE = 60.0


@pytest.mark.parametrize("profile", ["client", pytest.param("research", marks=pytest.mark.long)])
def test_every_verdict_is_come_to_again(tmp_path, profile):
    with VirtualWorld(7) as world:
        clock = world.clock
        store = Store(tmp_path / "state")
        versions = {"rules": "x", "catalogue": "y"}
        kept = History(
            store, Limits(30 * 86400.0, 2**30), 60.0, lambda: versions, lambda: clock.now
        )
        config = configuration(profile, tmp_path)
        agent = Agent(world, config, store, history=kept)
        world.run(agent.rounds(clock.now + 12 * MINUTE))
        for rules in (
            preset("sni_rewrite", sni="*.whatsapp.net"),
            preset("ip_drop", remote="91.108.0.0/16"),
        ):
            for rule in rules:
                world.path.add(rule, clock.now)
            world.run(agent.rounds(clock.now + 7 * MINUTE))
        world.path.clear()
        world.run(agent.rounds(clock.now + 12 * MINUTE))
        now = clock.wall()
        world.run(agent.stop())
    history = asked.History(tmp_path / "state")
    counted, found = Counted(), []
    for messenger in config.messengers:
        rows = history.rows(messenger.name, 0.0, now)
        found += replay(rows, 0.0, messenger, config.controls, counted)
    outages = history.outages(0.0, now)
    history.close()
    assert counted.left == {}
    assert counted.judged > 60
    assert [one.differs for one in found if one.differs] == []
    said = {d["mechanism"] for one in found for d in one.before}
    assert {"tls_sni_reset", "none"} < said
    assert {o.mechanism for o in outages} >= {"tls_sni_reset"}
