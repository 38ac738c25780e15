"""How many flows a trace asks before it says that nobody acts upon them."""

from __future__ import annotations

import pytest

from probes.net.hops import Answer, Datagrams, Seen
from probes.trace.common import MANY, Word
from probes.trace.walk import Walk
from probes.trace.words import words


@pytest.mark.parametrize("met", [0, 5])
async def test_without_a_harmless_question_as_many_flows_are_asked(monkeypatch, met):
    """The one flow of the harmless question, and later flow number ``met``, go a filtered way."""
    flows = []

    async def shoot(self, data, hops, wait, enough=None):
        flows.append(self.sock.getsockname()[1])
        number = len(dict.fromkeys(flows)) - 1
        self.sent += 1
        if number < 4 or number == 4 + met:
            return Seen(refused="95.24.0.9")
        return Seen(answers=[Answer(b"", 60, 0.01)], seconds=0.01)

    monkeypatch.setattr(Datagrams, "shoot", shoot)
    report = await Walk(words("stun"), "127.0.0.9", 3478, limit=0.01).trace()
    assert len(dict.fromkeys(flows)) >= 4 + MANY
    assert report.word is not Word.FOUND
