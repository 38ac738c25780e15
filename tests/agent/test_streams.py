"""Media streams in the judging: whether a channel sounds, and to whom a bad one is put down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.diagnosis import Evidence, diagnose
from agent.state import is_news
from agent.streams import HEARD, heard
from agent.verdicts import find
from probes.model import Certainty, Failure, Mechanism, Status
from tests.agent.building import judgement, messenger, seen, target
from tests.agent.streaming import (
    COMPANION,
    M1,
    M2,
    POOR,
    STREAMS,
    TCP,
    TWIN,
    held,
    one_way,
    run,
    streamed,
    without_facts,
)
from tests.agent.worlds import R1, R2

NEAREST = {of.host: 0.06 for of in (M1, M2)}
TALKS = messenger(R1, R2, M1, M2)


def channel(*streams: tuple[object, object], fresh: bool = True, proven: bool = True):
    evidence = [Evidence(r, (seen(r),), 0.0, True, True) for r in (R1, R2)]
    evidence += [
        Evidence(replace(of, informative=True), (o,), 0.0, fresh, proven) for of, o in streams
    ]
    (d,) = heard(diagnose(TALKS, evidence, judgement()), TALKS, evidence, judgement())
    return d


GOOD1, GOOD2 = (run(of, failure=None, bad_ratio=0.0, loss_ratio=0.0) for of in (M1, M2))


def test_a_channel_whose_relays_answer_and_whose_streams_do_not_sound_is_degraded():
    d = channel(run(M1), run(M2))
    assert (d.status, d.reason) == (Status.DEGRADED, HEARD)
    assert "15%" in d.summary
    assert "2.6" in d.summary


@pytest.mark.parametrize(
    ("streams", "status"),
    [
        ((GOOD1, GOOD2), Status.OK),
        ((run(M1), GOOD2), Status.DEGRADED),
        ((GOOD1, run(M2, failure=Failure.TIMEOUT, loss_ratio=1.0)), Status.DEGRADED),
        ((GOOD1, run(M2, failure=Failure.BLOCKED_LOCALLY)), Status.OK),
        ((), Status.OK),
    ],
)
def test_half_of_the_streams_decide(streams, status):
    assert channel(*streams).status is status


def test_one_bad_stream_of_three_is_one_relays_own_matter():
    third = target("media-3", channel="call", probe=M1.probe, host="198.51.100.9")
    assert channel(run(M1), GOOD2, run(third, failure=None)).status is Status.OK


@pytest.mark.parametrize("given", [{"fresh": False}, {"proven": False}])
def test_what_is_old_or_not_trusted_says_nothing(given):
    assert channel(run(M1), run(M2), **given).status is Status.OK


def test_late_packets_are_said_to_be_late():
    late = {"loss_ratio": 0.0, "late_60ms_ratio": 0.2, "bad_ratio": 0.2}
    assert "too late" in channel(run(M1, **late), run(M2, **late)).summary


def test_only_a_stream_gives_a_vote_to_what_streams_say():
    d = channel(run(M1), run(M2))
    assert is_news(d, Status.OK, frozenset({M1.target.name}))
    assert not is_news(d, Status.OK, frozenset({R1.target.name}))


def told(case) -> list[tuple[str, Mechanism, Certainty]]:
    return [(f.rule, f.mechanism, f.certainty) for f in find(case)]


def test_a_stranger_beside_it_accuses_nobody():
    ((rule, mechanism, certainty),) = told(streamed(held("stun", requests=30)))
    assert (rule, mechanism) == ("R45s", Mechanism.PATH_DEGRADED)
    assert certainty is Certainty.SUSPECTED


def test_a_twin_alone_accuses_nobody():
    """Trouble on the way to one operator looks just so."""
    assert told(without_facts(streamed(TWIN, TCP), "tcp_")) == [
        ("R45t", Mechanism.PATH_DEGRADED, Certainty.SUSPECTED)
    ]


def test_where_the_owners_other_servers_fare_as_badly_it_is_the_path():
    bad = streamed(TWIN, held("tcp", worse=False, bad=0.15, requests=180))
    assert told(bad) == [("R45p", Mechanism.PATH_DEGRADED, Certainty.LIKELY)]


def test_where_they_fare_less_badly_and_worse_than_the_twin_it_is_still_the_path():
    some = streamed(TWIN, held("tcp", worse=True, bad=0.06, requests=180))
    assert not any(m.interference for _, m, _ in told(some))


def test_a_queue_is_nobodys_sorting():
    """An overloaded relay, or a full link to it, loses packets and delays the others."""
    slow = streamed(TWIN, TCP, {"rtt_seconds": 0.1, "rtt_min_seconds": 0.09}, nearest=NEAREST)
    assert told(slow) == [("R45t", Mechanism.PATH_DEGRADED, Certainty.SUSPECTED)]


def test_a_queue_on_the_line_is_the_twins_too():
    late = {"rtt_seconds": 0.1, "twin_rtt_seconds": 0.089}
    found = told(streamed(TWIN, TCP, late, nearest=NEAREST))
    assert ("R45", Mechanism.MEDIA_DEGRADED_TARGETED, Certainty.LIKELY) in found


@pytest.mark.parametrize("controls", [(TWIN, TCP), (held("dress"),)])
def test_what_is_as_bad_on_an_open_network_is_nobodys_doing(controls):
    there = {M1.target: False, M2.target: False}
    found = told(streamed(*controls, outside=there))
    assert ("R45o", Mechanism.SERVER_SLOW, Certainty.LIKELY) in found
    assert not any(m.interference for _, m, _ in found)
    found = told(streamed(*controls, outside=dict.fromkeys(there, True)))
    assert any(m.interference for _, m, _ in found)


def test_of_relays_that_answer_nothing_an_outside_view_says_no_sound():
    silent = {"answered": 0, "loss_ratio": 1.0, "bad_ratio": 1.0}
    found = told(streamed(TWIN, TCP, silent, outside={M1.target: False, M2.target: False}))
    assert not any(rule == "R45o" or m.interference for rule, m, _ in found)


@pytest.mark.parametrize("answers", [True, False])
def test_a_stream_to_a_relay_that_answers_nothing_is_explained_as_the_relay_is(answers):
    """Or everything dropped of an owner would be a bad way to it."""
    voice = replace(M1, relay=R1.target, informative=True)
    silent = {"answered": 0, "loss_ratio": 1.0, "bad_ratio": 1.0}
    made = streamed(TWIN, silent, targets=(voice,))
    relay = seen(R1, None if answers else Failure.TIMEOUT, address=R1.host)
    evidence = Evidence(R1, (relay,), 0.0, True, True)
    made = replace(made, by_target={**made.by_target, R1.target: evidence})
    found = {rule for rule, _, _ in told(made)}
    assert ("R45t" in found) is answers


def test_one_run_that_is_worse_is_no_pattern():
    assert told(streamed(TWIN, TCP, count=1)) == []


@pytest.mark.parametrize("name", ["R45", "R45d", "R45s", "R45t"])
def test_a_limit_of_the_pace_is_not_put_down_to_the_place(name):
    made = STREAMS[name]()
    limited = {n: tuple(map(_limited, runs)) for n, runs in made.known.streams.items()}
    found = told(replace(made, known=replace(made.known, streams=limited)))
    assert [f for f in found if f[0] == "R53s"]
    assert not [f for f in found if f[0] == name]


def _limited(o):
    return replace(o, facts={**o.facts, **COMPANION})


@pytest.mark.parametrize("ways", [(0.3, 0.0), (0.95, 0.3), (0.0, 0.4)])
def test_a_line_that_is_full_one_way_is_no_one_way_block(ways):
    assert "R50" not in {rule for rule, _, _ in told(one_way(*ways))}


def test_what_passes_one_way_only_is_not_put_down_to_the_line():
    mostly = {**held("twin", worse=False, bad=0.9), "bad_ratio": 0.9, "answered": 150}
    mostly["loss_ratio"] = 0.9
    ways = {"twin_up_loss_ratio": 0.0, "twin_down_loss_ratio": 0.9}
    assert [rule for rule, _, _ in told(streamed(mostly, ways))] == ["R50"]
    both = {"twin_up_loss_ratio": 0.6, "twin_down_loss_ratio": 0.75}
    assert [rule for rule, _, _ in told(streamed(mostly, both))] == ["R46"]


@pytest.mark.parametrize(
    "facts",
    [
        {"twin_silent_after_seconds": 12.0},  # cut both ways: the twin hears nothing, and says so
        {"bad_ratio": 0.15, "loss_ratio": 0.15, "answered": 1275},  # the twin's own trouble
        COMPANION,  # a limit of the pace
    ],
)
def test_what_only_looks_like_one_way(facts):
    assert "R50" not in {rule for rule, _, _ in told(streamed_one_way(facts))}


def streamed_one_way(facts):
    made = one_way(0.95, 0.0)
    runs = {
        n: tuple(replace(o, facts={**o.facts, **facts}) for o in its)
        for n, its in made.known.streams.items()
    }
    return replace(made, known=replace(made.known, streams=runs))


def test_one_relay_alone_is_suspected_at_the_most():
    ((rule, mechanism, certainty), *_) = told(streamed(TWIN, TCP, targets=(M1,)))
    assert (rule, mechanism) == ("R45", Mechanism.MEDIA_DEGRADED_TARGETED)
    assert certainty is Certainty.SUSPECTED


def test_a_stream_that_ends_for_good_is_not_thinned():
    """A relay that bans us lets nothing through from some packet on."""
    banned = streamed(TWIN, TCP, {"silent_after_seconds": 4.0, "silent_after_packets": 200})
    assert not any(rule in ("R45", "R45t") for rule, _, _ in told(banned))


def test_a_way_that_has_become_longer_is_no_queue():
    """Its good runs say how long it is."""
    far = {"rtt_seconds": 0.1, "rtt_min_seconds": 0.098}
    made = streamed(TWIN, TCP, far, nearest=NEAREST)
    good = {"bad_ratio": 0.0, "loss_ratio": 0.0, "answered": 1500, "twin_worse": False}
    runs = {
        n: (replace(its[0], id=f"g{n}", facts={**its[0].facts, **good}), *its)
        for n, its in made.known.streams.items()
    }
    made = replace(made, known=replace(made.known, streams=runs))
    assert ("R45", Mechanism.MEDIA_DEGRADED_TARGETED, Certainty.LIKELY) in told(made)


def test_two_ways():
    assert ("R50", Mechanism.MEDIA_ONE_WAY, Certainty.LIKELY) in told(one_way(0.0, 0.97))


@pytest.mark.parametrize(
    ("rule", "prefix"),
    [
        ("R46", "twin_"),
        ("R45", "rtt_"),
        ("R45", "twin_rtt_"),
        ("R53s", "companion_"),
        ("R45", "tcp_"),
        ("R45p", "tcp_"),
        ("R50", "twin_"),
    ],
)
def test_a_rule_is_silent_without_what_ran_beside(rule, prefix):
    assert rule not in {name for name, _, _ in told(without_facts(STREAMS[rule](), prefix))}


def test_nothing_is_said_of_a_single_bad_stream_without_controls():
    bare = streamed({})
    assert told(bare) == []
    assert POOR["bad_ratio"] == 0.15


def test_a_relay_that_does_not_answer_at_all_has_no_sound():
    """It counts in the quorum; its stream makes no channel degraded that works."""
    streamed_to = replace(M1, relay=R1.target, informative=True)
    silent = run(streamed_to, failure=Failure.TIMEOUT, loss_ratio=1.0)[1]
    others = [replace(R2, target=replace(R2.target, name=f"x{n}")) for n in range(9)]
    evidence = [
        Evidence(R1, (seen(R1, Failure.TIMEOUT),), 0.0, True, True),
        *(Evidence(other, (seen(other),), 0.0, True, True) for other in others),
        Evidence(streamed_to, (silent,), 0.0, True, True),
    ]
    (d,) = heard(diagnose(TALKS, evidence, judgement()), TALKS, evidence, judgement())
    assert d.status is Status.OK
