"""Whose calls get through beside a messenger's own."""

from __future__ import annotations

from agent.peers import peers
from tests.agent.line import RELAYS


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
