"""What is asked several times: which of it, when, and what waits for patience."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import repeats
from agent.asks import Around, Fetched, Neutral
from agent.case import WINDOWS, Differs, Symptom
from agent.transfers import RUNS, TRIES
from agent.trials import IN_TURN
from probes.contrast import BurstProbe, HelloProbe, SegmentsProbe
from probes.model import Failure
from tests.agent.gradual import X1, Y, crawl, flies, freeze, once_more
from tests.agent.worlds import A1, ELSEWHERE, W1, contrast, hello

FAR = Neutral("far.test", "203.0.113.9", 443)
FETCHED = Fetched(Y, replace(flies(), facts={**flies().facts, "address": ELSEWHERE}))


def around(**given):
    return Around(
        **{
            "research": True,
            "neutral": None,
            "far": FAR,
            "trusted": (),
            "system": None,
            "fetched": FETCHED,
            **given,
        }
    )


def asked(wave, failed, *seen, **given):
    asks, left = wave([failed], seen, around(**given))
    return asks, [(one.differs, one.reason) for one in left]


# --- transfers ---------------------------------------------------------------------------------


def test_a_slow_transfer_is_asked_again_in_turn_with_the_controls():
    asks, _ = asked(repeats.transfers, crawl())
    assert [(a.differs, a.address, a.host, a.wait) for a in asks] == [
        (Differs.TIME, A1, X1.host, 0.0),
        (Differs.SERVER, ELSEWHERE, Y.host, 0.0),
    ]
    assert asks[0].probe == X1.probe


def test_patience_asks_all_of_them_apart_and_nobody_asks_more():
    asks, _ = asked(repeats.transfers, crawl(), patient=True)
    again = [a for a in asks if a.differs is Differs.TIME]
    assert [a.wait for a in again] == [repeats.APART * n for n in range(RUNS - 1)]
    of = crawl()
    enough = [once_more(of, crawl()[1]) for _ in range(RUNS - 1)]
    assert asked(repeats.transfers, of, *enough, patient=True)[0] == []
    assert asked(repeats.transfers, of, *enough)[0] == []


def test_a_frozen_one_also_in_many_segments_once():
    of = freeze()
    asks, _ = asked(repeats.transfers, of, patient=True)
    assert sum(a.differs is Differs.TIME for a in asks) == TRIES - 1
    pieces = [a.probe.pieces for a in asks if a.differs is Differs.SEGMENTS]
    assert pieces == [repeats.PIECES, 1]
    assert all(isinstance(a.probe, SegmentsProbe) for a in asks if a.differs is Differs.SEGMENTS)
    before = contrast(of, Differs.SEGMENTS, pieces=1)
    asks, _ = asked(repeats.transfers, of, before)
    assert Differs.SEGMENTS not in {a.differs for a in asks}


def test_without_a_controls_transfer_there_is_no_turn_of_it():
    asks, _ = asked(repeats.transfers, crawl(), fetched=None)
    assert [a.differs for a in asks] == [Differs.TIME]


# --- hellos ------------------------------------------------------------------------------------


def unacked():
    return hello(W1, Failure.TIMEOUT, clienthello_acked=False)


def greeted(of, failure=None):
    return contrast(of, Differs.HELLO, failure, server_spoke=failure is None)


def test_another_hello_is_asked_once_and_never_by_the_client_profile():
    of = unacked()
    (ask,), _ = asked(repeats.greeting, of)
    assert ask.differs is Differs.HELLO
    assert ask.probe == HelloProbe(W1.host, pad_to=517, other=True)
    assert asked(repeats.greeting, of, research=False) == ([], [(Differs.HELLO, "profile")])
    assert asked(repeats.greeting, of, greeted(of)) == ([], [])


@pytest.mark.parametrize(
    ("failed", "window"),
    [
        (unacked(), WINDOWS[Symptom.HELLO_UNACKED]),
        (hello(W1, Failure.RESET), WINDOWS[Symptom.HELLO_RESET]),
        (hello(W1, Failure.TIMEOUT, clienthello_acked=True), WINDOWS[Symptom.HELLO_ACKED]),
    ],
)
def test_turns_come_after_what_a_filter_may_remember(failed, window):
    asks, _ = asked(repeats.turns, failed, greeted(failed), patient=True)
    own = [a.wait for a in asks if a.differs is Differs.TIME]
    assert len(own) == IN_TURN - 1
    assert all(b - a > window for a, b in zip([0.0, *own], own, strict=False))
    assert asked(repeats.turns, failed, greeted(failed))[0] == []
    silent = greeted(failed, Failure.TIMEOUT)
    assert asked(repeats.turns, failed, silent, patient=True)[0] == []


def test_a_burst_is_asked_only_after_a_single_one_passed_after_quiet():
    of = unacked()
    silent = greeted(of, Failure.TIMEOUT)
    (single,), _ = asked(repeats.quiet, of, silent, patient=True)
    assert (single.differs, single.wait) == (Differs.TIME, repeats.QUIET)
    assert asked(repeats.quiet, of, silent) == ([], [(Differs.BURST, "residual")])
    assert asked(repeats.quiet, of, greeted(of), patient=True)[0] == [], "it is the hello then"
    passed = contrast(of, Differs.TIME, None, server_spoke=True)
    failed = contrast(of, Differs.TIME, Failure.TIMEOUT, server_spoke=False)
    assert asked(repeats.bursts, of, silent, failed, patient=True)[0] == []
    here, there = asked(repeats.bursts, of, silent, passed, patient=True)[0]
    assert (here.address, here.probe) == (A1, BurstProbe(W1.host))
    assert (there.address, there.probe) == (FAR.address, BurstProbe(FAR.name))
    assert asked(repeats.bursts, of, silent, passed)[0] == [], "never in a round of the schedule"


def test_the_client_profile_sends_none_of_it():
    for of in (unacked(), hello(W1, Failure.RESET)):
        for wave in repeats.WAVES[1:]:
            assert asked(wave, of, research=False, patient=True)[0] == []
