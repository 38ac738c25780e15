"""Whose calls get through beside a messenger's own."""

from __future__ import annotations

from dataclasses import replace

from agent.peers import peers
from probes.model import Target
from tests.agent.building import FakeStun, FakeTls, messenger, target
from tests.agent.line import CHAT, RELAYS


async def test_messengers_whose_relays_answer_lately_and_never_oneself(line):
    line.core = line.make(line.messenger("m"), line.messenger("other"))
    runners = line.core.runners
    assert peers(runners, "m", 0.0) == ()
    await line.round(name="other", seconds=0.0)
    now = line.clock.wall
    assert peers(runners, "m", now - 60) == ("other",)
    assert peers(runners, "other", now - 60) == ()
    assert peers(runners, "m", now + 60) == ()


async def test_who_chats_only_or_is_silent_is_none(line):
    line.core = line.make(line.messenger("m"), line.messenger("other"))
    line.world.silent |= set(RELAYS)
    await line.round(name="other", seconds=0.0)
    assert peers(line.core.runners, "m", 0.0) == ()


async def test_a_front_over_tcp_and_a_name_that_resolves_are_no_way_for_a_call(line):
    """What answers must be asked in datagrams, as a call is."""
    name = target("name", messenger="other", host=RELAYS[0], probe=FakeStun(line.world))
    fronts = (
        target("front", messenger="other", host=CHAT, probe=FakeTls(line.world)),
        replace(name, target=Target("other", "call", "name", "dns")),
    )
    line.core = line.make(line.messenger("m"), messenger(*fronts, name="other"))
    await line.round(name="other", seconds=0.0)
    assert all(o.works for s in line.core.runners["other"].seen.values() for o in s.conclusive)
    assert peers(line.core.runners, "m", 0.0) == ()
