"""How many flows a trace asks before it says that nobody acts upon them."""

from __future__ import annotations

import asyncio

import pytest

from probes.net.hops import Answer, Datagrams, Seen
from probes.trace.common import MANY, SURVEYED, Common, Word
from probes.trace.walk import Walk
from probes.trace.words import words

LOST, REFUSED = Seen(), Seen(refused="95.24.0.9")


def answer() -> Seen:
    return Seen(answers=[Answer(b"", 60, 0.01)], seconds=0.01)


def surveyed(*met: tuple[int, Seen]) -> list[Seen]:
    """All flows pass but those of these numbers."""
    asked = 0

    async def ask() -> Seen:
        nonlocal asked
        asked += 1
        return dict(met).get(asked, answer())

    survey = Common(words("udp"), "127.0.0.9", 3478)._survey(
        ask, lambda seen: bool(seen.answers), lambda seen: bool(seen.refused)
    )
    return asyncio.run(survey)


@pytest.mark.parametrize(
    ("met", "asked", "failed"),
    [
        ((), MANY, 0),
        (((3, LOST),), 2 * MANY - 1, 0),
        (((3, REFUSED),), MANY, 1),
        (((3, LOST), (5, LOST)), MANY, 2),
        (((3, LOST), (MANY + 5, LOST)), 2 * MANY, 2),
        ([(n, LOST) for n in range(1, SURVEYED + 1)], SURVEYED, SURVEYED),
    ],
    ids=["none", "one lost", "one refused", "two lost", "another later", "the first all"],
)
def test_a_single_lost_one_is_chance_and_a_refused_one_is_not(met, asked, failed):
    found = surveyed(*met)
    assert (len(found), sum(not seen.answers for seen in found)) == (asked, failed)


@pytest.mark.parametrize("refused", [1, SURVEYED])
async def test_a_flow_of_the_harmless_question_that_is_refused_counts(monkeypatch, refused):
    """All later ones pass, and it is not said that nobody acts upon them."""
    flows = []

    async def shoot(self, data, hops, wait, enough=None):
        flows.append(self.sock.getsockname()[1])
        self.sent += 1
        return REFUSED if len(dict.fromkeys(flows)) <= refused else answer()

    monkeypatch.setattr(Datagrams, "shoot", shoot)
    report = await Walk(words("stun"), "127.0.0.9", 3478, limit=0.2).trace()
    assert len(dict.fromkeys(flows)) >= refused + MANY
    assert report.word is Word.UNCLEAR
