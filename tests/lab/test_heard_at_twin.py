"""Streams beside the operator's own server, on the virtual clock: sorting is told from trouble.

The same worlds for real take half an hour each; ``test_streams.py`` and ``test_august.py`` play
what is quickest of them.
"""

from __future__ import annotations

import pytest

from tests.lab.actions import Delay, Lose
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.happenings import on, one
from tests.lab.innocent import at_the_servers, telegram, world
from tests.lab.scenario import Rules, Scenario, Stage, relays, says
from tests.lab.trials import SCENARIOS, groups, played

CALL = "telegram call"
SORTED = says(CALL, "degraded", "media_degraded_targeted")


def lose(s: Stage, share: float, *remote: str, hop: int = 2, **wanted: str) -> Rules:
    what = match(remote=remote, **wanted)
    return [Censor(what, Lose(Loss(share, seed=s.seed)), hop=hop)]


def full_queue(s: Stage) -> Rules:
    """What passes waits forty milliseconds."""
    what = match(remote=relays(s), protocol="udp")
    return [Censor(what, Delay(0.04)), *lose(s, 0.15, *relays(s), protocol="udp")]


WORLDS: tuple[Scenario, ...] = (
    one(
        "a voice to the relays is thinned",
        "15 % of the datagrams to and from Telegram's relays",
        on(lambda s: lose(s, 0.15, *relays(s), protocol="udp")),
        SORTED,
        minutes=20.0,
    ),
    one(
        "all that goes to the relays is thinned",
        "S63: TCP too",
        on(lambda s: lose(s, 0.15, *relays(s))),
        SORTED,
        minutes=20.0,
    ),
    world(
        "the way to all of Telegram is bad",
        "15 %, each way, over TCP as well",
        on(lambda s: lose(s, 0.15, *telegram(s), hop=4)),
        minutes=20.0,
    ),
    world("relays with too much to do", "a full queue", at_the_servers(full_queue), minutes=20.0),
    world("the line is bad", "15 %, all", on(lambda s: lose(s, 0.15, hop=1)), minutes=12.0),
)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", WORLDS, ids=lambda scenario: scenario.name)
def test_a_twin_tells_sorting_from_trouble(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCENARIOS, scenario.name, scenario)
    for found in played(groups([scenario], "twin", (2,), 1), 1):
        assert found.right, found
        assert found.last.get(CALL, "").startswith("degraded"), "it is heard"
