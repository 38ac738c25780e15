"""How many flows a trace asks before it says that nobody acts upon them."""

from __future__ import annotations

import asyncio

import pytest

from probes.net.hops import Answer, Connections, Datagrams, Seen
from probes.trace.addresses import CLOSED
from probes.trace.common import MANY, SENDS, SURVEYED, Common, Word
from probes.trace.place import Placement, Probed, Run, Sign, Stretch
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
        (((3, LOST), (5, LOST)), 5, 2),
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


async def test_an_address_that_is_refused_on_every_second_flow_is_placed(monkeypatch):
    """Its harmless question passes on the other flows, and is refused on this one as well."""
    gate, server = 4, 7

    async def shoot(self, data, hops, wait, enough=None):
        address, port = self.sock.getpeername()
        number, far = ports.setdefault(self.sock.getsockname()[1], len(ports)), hops or 64
        self.sent += 1
        if far < gate or (far < server and number % 2):
            return Seen(expired=f"95.24.0.{far}")
        if not number % 2:
            return Seen(refused=f"95.24.0.{gate - 1}")
        return Seen(refused=address) if port == CLOSED else answer()

    async def knock(self, hops, wait):
        return Seen()

    ports: dict[int, int] = {}
    monkeypatch.setattr(Datagrams, "shoot", shoot)
    monkeypatch.setattr(Connections, "knock", knock)
    report = await Walk(words("stun"), "127.0.0.9", 3478).trace()
    assert (report.word, report.place and report.place.stretch) == (Word.FOUND, Stretch(3, 4))


async def test_false_answers_that_no_traced_flow_meets_are_not_called_nothing(monkeypatch):
    """One in eight flows goes past a forger, and none of those with low hop limits does."""

    def reply(edns: bool) -> Seen:
        return Seen(answers=[Answer(b"reply" + (b"\x00\x00\x29" if edns else b""), 60, 0.01)])

    async def shoot(self, data, hops, wait, enough=None):
        number = ports.setdefault(self.sock.getsockname()[1], len(ports))
        self.sent += 1
        if 0 < hops < 7:
            return Seen(expired=f"95.24.0.{hops}")
        return reply(edns=number != 5)

    ports: dict[int, int] = {}
    monkeypatch.setattr(Datagrams, "shoot", shoot)
    report = await Walk(words("dns", "page.example"), "127.0.0.9", 53).trace()
    assert report.word is Word.UNCLEAR


@pytest.mark.parametrize(
    ("met", "lasts", "remembers", "count"),
    [
        ("silence", 5, False, 5),
        ("silence", 14, False, 4),
        ("silence", 40, False, 2),
        ("silence", 40, True, 5),
        ("nothing", 40, False, 5),
    ],
    ids=["quick", "slow", "very slow", "a filter remembers", "none met it"],
)
def test_a_minute_is_enough_where_the_filter_was_met_twice(
    monkeypatch, met, lasts, remembers, count
):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    common = Common(words("udp"), "127.0.0.9", 3478)
    common._began, common._remembers = now, remembers
    gone = Probed(Seen(), Seen(expired="95.24.0.3"))

    async def forgotten(*_: object) -> bool:
        return True

    async def one(signs: frozenset[Sign]) -> Run:
        nonlocal now
        now += lasts
        hops = {3: gone} if met == "silence" else {}
        return Run(50000, hops, 5, bool(hops))

    monkeypatch.setattr(Common, "_forgotten", forgotten)
    runs = common._runs(frozenset({Sign.SILENCE}), one)
    with pytest.raises(StopIteration) as ended:
        runs.send(None)
    assert len(ended.value.value) == count


@pytest.mark.parametrize("silent", [True, False])
async def test_a_hello_that_was_lost_is_said_again_on_its_flow(monkeypatch, silent):
    """Every sixth connection loses it: no filter does that. One that takes them all is one."""
    monkeypatch.setattr("probes.trace.common.SPREAD", 0.01)
    said: dict[int, int] = {}

    async def say(self, before, data, hops, wait, enough=None):
        said[self.own] = said.get(self.own, 0) + 1
        self.sent += 1
        lost = silent or (len(said) % 6 == 0 and said[self.own] == 1)
        return Seen() if lost else answer()

    async def knock(self, hops, wait):
        return answer() if hops in (0, 4) else Seen(expired="95.24.0.1")

    monkeypatch.setattr(Connections, "say", say)
    monkeypatch.setattr(Connections, "knock", knock)
    report = await Walk(words("tls", "page.example"), "127.0.0.9", 443, limit=0.2).trace()
    assert (report.word is Word.NOTHING) == (not silent)


@pytest.mark.parametrize("kind", ["stun", "udp"])
@pytest.mark.parametrize(("stalls", "nothing"), [(4, True), (6, False)])
async def test_a_server_that_pauses_now_and_then_is_no_filter(monkeypatch, kind, stalls, nothing):
    """It answers the same flow a moment later. More than a few pauses are something else."""
    monkeypatch.setattr("probes.trace.common.SPREAD", 0.01)
    monkeypatch.setattr("probes.trace.walk.SPREAD", 0.01)
    asked: dict[int, int] = {}

    async def shoot(self, data, hops, wait, enough=None):
        own = self.sock.getsockname()[1]
        self.sent += 1
        if hops:
            return answer() if hops == 4 else Seen(expired="95.24.0.1")
        asked[own] = asked.get(own, 0) + 1
        paused = 4 < len(asked) <= 4 + stalls and asked[own] <= SENDS
        return Seen() if paused else answer()

    async def knock(self, hops, wait):
        return Seen()

    monkeypatch.setattr(Datagrams, "shoot", shoot)
    monkeypatch.setattr(Connections, "knock", knock)
    report = await Walk(words(kind), "127.0.0.9", 3478, limit=5).trace()
    assert (report.word is Word.NOTHING) == nothing


async def test_no_run_begins_when_the_time_is_over_before():
    common = Common(words("udp"), "127.0.0.9", 3478, limit=5)
    common._began -= 6

    async def one(signs: frozenset[Sign]) -> Run:
        raise AssertionError("a run")

    assert await common._runs(frozenset({Sign.SILENCE}), one) == []


async def test_where_a_server_is_silent_nobody_is_said_to_stand(monkeypatch):
    async def shoot(self, data, hops, wait, enough=None):
        self.sent += 1
        return Seen(expired=f"95.24.0.{hops}") if 0 < hops < 5 else Seen()

    async def knock(self, hops, wait):
        return Seen()

    monkeypatch.setattr("probes.trace.addresses.SPREAD", 0.0)
    monkeypatch.setattr(Datagrams, "shoot", shoot)
    monkeypatch.setattr(Connections, "knock", knock)
    report = await Walk(words("stun"), "127.0.0.9", 3478).trace()
    assert report.word is Word.UNCLEAR
    assert report.place is not None
    assert report.place.placement is Placement.UNKNOWN
