"""What takes several attempts or is a matter of degree: the arithmetic, and where rules stop."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import pace
from agent.case import Differs, Known, Symptom, groups
from agent.chance import fisher, rank_sum
from agent.diagnosis import Evidence, diagnose, paced
from agent.sighting import Sign
from agent.signs import see
from agent.state import is_news
from agent.verdicts import explain, find
from probes.model import Certainty, Failure, Mechanism, Status, Step
from tests.agent.building import judgement, seen
from tests.agent.gradual import (
    PACE,
    QUEUED,
    SIX,
    X1,
    at_random,
    bad_path,
    burst,
    crawl,
    flies,
    freeze,
    frozen,
    hellos_in_turn,
    once_more,
    over_six,
    parted,
    throttled,
)
from tests.agent.worlds import A1, A2, MESSENGER, RTT, T1, W1, case, hello, neutral, syn

# --- chance ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "p"),
    [
        ((0, 5, 5, 0), 1 / 252),
        ((10, 10, 20, 0), 0.000218),
        ((20, 0, 20, 0), 1.0),
        ((3, 1, 1, 3), 0.986),
        ((1, 3, 3, 1), 0.243),
    ],
)
def test_fisher(table, p):
    assert fisher(*table) == pytest.approx(p, abs=0.001)


@pytest.mark.parametrize(("n", "p"), [(3, 1 / 20), (4, 1 / 70), (5, 1 / 252)])
def test_complete_separation_reaches_what_the_notes_say(n, p):
    low, high = list(range(n)), list(range(100, 100 + n))
    assert rank_sum(low, high) == pytest.approx(p)
    assert rank_sum(high, low) == pytest.approx(1.0)


def test_ties_and_nothing_are_no_difference():
    assert rank_sum([1, 1, 1], [1, 1, 1]) == pytest.approx(1.0)
    assert rank_sum([], [1]) == 1.0


@given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), max_size=6))
def test_a_probability_is_one(low, high):
    assert 0 < rank_sum(low, high) <= 1 + 1e-9
    assert 0 < fisher(len(low), 3, len(high), 2) <= 1 + 1e-9


# --- one transfer ------------------------------------------------------------------------------


def test_a_pace_is_that_of_the_plateau():
    _, o = crawl()
    assert pace.pace(o) == pytest.approx(PACE, rel=0.01)
    assert pace.is_slow(o)
    assert pace.is_steady(o)
    assert len(pace.blocks(o)) == 30 - pace.SETTLED
    assert not pace.is_steady(crawl(unsteady=0.4)[1])


def test_what_was_short_is_not_slow_however_slow_it_was():
    facts = {"series": ("1", "2", "3"), "series_slot_seconds": 0.25}
    short = seen(X1, None, Step.STREAM, throughput_bits_per_second=1000, **facts)
    assert pace.blocks(short) == []
    assert not pace.is_slow(short)
    assert pace.pace(short) == 1000


@pytest.mark.parametrize("series", [(), ("x",), None])
def test_a_transfer_without_a_series_has_no_pace(series):
    o = seen(X1, None, Step.STREAM, **({"series": series} if series else {}))
    assert pace.pace(o) is None
    assert not pace.is_bad(o)


def test_loss_and_queue_are_told_apart():
    assert pace.lost(crawl()[1])
    assert not pace.queued(crawl()[1])
    assert pace.queued(crawl(**QUEUED)[1])
    assert not pace.lost(crawl(**QUEUED)[1])


@pytest.mark.parametrize(
    ("step", "failure", "received", "froze"),
    [
        (Step.STREAM, Failure.TIMEOUT, 1, True),
        (Step.STREAM, Failure.TIMEOUT, 0, False),
        (Step.STREAM, Failure.RESET, 9000, False),
        (Step.EXCHANGE, Failure.TIMEOUT, 9000, True),
        (Step.EXCHANGE, Failure.TIMEOUT, 500, False),  # a session ticket is no answer
        (Step.CONNECT, Failure.TIMEOUT, 0, False),
    ],
)
def test_a_freeze_is_silence_after_something_came(step, failure, received, froze):
    o = seen(X1, failure, step, received_bytes=received)
    assert pace.froze(o) is froze


# --- transfers in turn -------------------------------------------------------------------------


def first(made):
    return next(iter(find(made)), None)


@pytest.mark.parametrize(("more", "confidence"), [(0, 0.74), (1, 0.74), (2, 0.95)])
def test_three_of_three_must_have_frozen(more, confidence):
    assert first(frozen(more=more)).confidence == confidence


def test_a_freeze_at_another_place_each_time_stays_suspected():
    whole = frozen()
    moved = [
        replace(o, facts={**o.facts, "received_bytes": 40_000, "segments_in": 80})
        if o.contrast.differs == "time"
        else o
        for o in whole.known.contrasts
    ]
    made = replace(whole, known=replace(whole.known, contrasts=tuple(moved)))
    assert first(made).certainty is Certainty.SUSPECTED


def test_where_one_segment_fails_too_many_prove_nothing():
    whole = frozen()
    failing = [
        replace(o, steps=(*o.steps[:-1], replace(o.steps[-1], failure=Failure.TIMEOUT)))
        if o.facts.get("pieces") == 1
        else o
        for o in whole.known.contrasts
    ]
    assert find(replace(whole, known=replace(whole.known, contrasts=tuple(failing)))) == ()


def test_a_server_that_stops_is_only_suspected_until_another_network_gets_the_whole():
    assert first(frozen(None)).certainty is Certainty.SUSPECTED
    assert first(frozen(None, outside={X1.target: True})).certainty is Certainty.LIKELY


@pytest.mark.parametrize(("more", "certainty"), [(0, "suspected"), (3, "suspected"), (4, "likely")])
def test_five_slow_ones_in_turn_with_a_controls(more, certainty):
    assert first(throttled(more)).certainty == certainty


def test_a_control_must_be_more_than_twice_as_fast():
    assert first(throttled(bits=2.5 * PACE)).mechanism is Mechanism.THROTTLE_POLICED
    near = first(throttled(bits=1.9 * PACE))
    assert near is None or near.mechanism is Mechanism.CONGESTION


def test_what_waits_in_a_queue_may_be_the_servers_own_pace():
    assert first(throttled(**QUEUED)).certainty is Certainty.SUSPECTED


def test_a_channel_whose_transfers_crawl_is_degraded_until_the_newest_one_does_not():
    works = (T1, seen(T1, None, Step.CONNECT, address=A1))
    web = replace(X1, target=replace(X1.target, channel="chat"))
    slow = replace(crawl()[1], target=web.target)
    evidence = [
        Evidence(config, (o,), 0.0, True, True) for config, o in ((works[0], works[1]), (web, slow))
    ]
    raw = diagnose(MESSENGER, evidence, judgement())
    (now,) = paced(raw, MESSENGER, evidence, judgement(), ())
    assert (now.status, now.reason) == (Status.DEGRADED, "slow")
    assert is_news(now, Status.OK, frozenset({"x1"}))
    assert not is_news(now, Status.OK, frozenset({"t0"})), "the same transfer has one vote"
    better = once_more((web, slow), replace(flies(10.0), target=web.target))
    (then,) = paced(raw, MESSENGER, evidence, judgement(), (better,))
    assert then.status is Status.OK


# --- hellos in turn, and bursts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "certainty"), [(1, "suspected"), (2, "suspected"), (3, "likely")]
)
def test_three_hellos_of_each_in_turn(times, certainty):
    assert first(hellos_in_turn(times)).certainty == certainty


@pytest.mark.parametrize(
    ("failure", "again", "certainty"),
    [
        (Failure.TIMEOUT, 0, "suspected"),
        (Failure.TIMEOUT, 1, "likely"),
        (Failure.RESET, 0, "likely"),
    ],
)
def test_silence_takes_five_packets(failure, again, certainty):
    assert first(hellos_in_turn(3, failure, again)).certainty == certainty


def test_a_hello_of_ours_that_passes_in_between_is_no_matter_of_its_form():
    whole = hellos_in_turn()
    passed = replace(whole.known.past[0], id="p", at=250.0)
    passed = replace(passed, steps=(*passed.steps[:-1], replace(passed.steps[-1], failure=None)))
    made = replace(whole, known=replace(whole.known, past=(*whole.known.past, passed)))
    (finding,) = find(made)
    assert finding.certainty is Certainty.SUSPECTED


def test_a_burst_that_only_one_server_freezes_may_be_its_own_doing():
    assert first(burst()).certainty is Certainty.LIKELY
    assert first(burst(far=0)).certainty is Certainty.SUSPECTED
    assert first(burst(stuck=1)) is None
    assert first(burst(answered=0)) is None
    assert first(burst(recovers=False)) is None


def test_a_name_that_passes_a_while_later_did_not_fail_for_the_name():
    f = hello(W1, Failure.RESET)
    again = replace(neutral(f), id="again")
    again = replace(again, contrast=replace(again.contrast, differs="time"))
    near = {A1: 0.01}
    assert first(case([f], contrasts=[neutral(f)], nearest=near)).rule == "R16"
    assert first(case([f], contrasts=[neutral(f), again], nearest=near)) is None


# --- at random ---------------------------------------------------------------------------------


def test_what_is_at_random_is_flagged_on_the_family_that_is_named_anyway():
    whole = at_random()
    named = neutral(next((e.config, o) for e, seen in whole.seen for o in seen if not o.works))
    names = frozenset({"w1"})
    known = replace(whole.known, contrasts=(named,), verified=names)
    finding = first(replace(whole, known=known))
    assert (finding.mechanism, finding.variant) == ("tls_sni_reset", "tls_sni_reset_stochastic")


@pytest.mark.parametrize(
    "given",
    [
        {"times": 19},
        {"every": 12},  # a tenth of the attempts succeeds
        {"neutral_fails": 4},
        {"spaced": 10.0},  # one and the same attempt, as it were
    ],
)
def test_less_than_that_is_no_chance(given):
    assert first(at_random(**given)) is None


# --- parts -------------------------------------------------------------------------------------


def explained(made):
    evidence = [e for e, _ in made.seen]
    raw = diagnose(MESSENGER, evidence, judgement())
    known: Known = made.known
    (chat,) = [
        d for d in explain(raw, MESSENGER, evidence, judgement(), known) if d.channel == "chat"
    ]
    return chat


def test_a_channel_that_answers_at_some_addresses_only_is_degraded_when_a_rule_says_why():
    d = explained(parted())
    assert (d.status, d.reason, d.mechanism) == (Status.DEGRADED, "addresses", "partial_block")
    assert not d.interference
    for harmless in (
        parted((A1,)),
        parted(nearest={}),
        parted(nearest={A1: RTT}),
    ):
        assert explained(harmless).status is Status.OK


def test_a_family_is_said_to_be_blocked_only_where_controls_answer_over_it():
    d = explained(parted(SIX, (A1, A2), held_against=over_six()))
    assert (d.status, d.findings[0].variant) == (Status.DEGRADED, "one_family_block")
    assert explained(parted(SIX, (A1, A2))).status is Status.OK


def test_loss_on_the_way_to_one_operator_is_its_path_and_suspected_at_the_most():
    finding = first(bad_path())
    assert (finding.mechanism, finding.certainty) == ("path_degraded", "suspected")
    assert first(bad_path(again=0)) is None


def test_an_address_is_not_called_silent_while_a_filter_may_remember_a_hello():
    cut = hello(W1, Failure.RESET)[1]
    for before, symptom in ((80.0, Symptom.IN_WINDOW), (100.0, Symptom.ADDRESS_SILENT)):
        f = syn(T1)
        late = (T1, replace(f[1], at=cut.at + before))
        made = case([late], channel="chat", past=(cut,))
        assert [g.symptom for g in groups(made)] == [symptom]


def test_a_frozen_transfer_is_a_failure_of_its_own_kind():
    (group,) = groups(case([freeze()]))
    assert group.symptom is Symptom.FLOW_FROZEN
    assert see(Sign.CONTROL_WENT_ON, case([freeze()]), group) is None
    assert Differs.SERVER == "server"


# --- where each of them stops ------------------------------------------------------------------


def changed(made, contrast, **facts):
    """The same case, with other facts in the contrasts that ``contrast`` holds of."""
    asked = [
        replace(c, facts={**c.facts, **facts}) if contrast(c) else c for c in made.known.contrasts
    ]
    return replace(made, known=replace(made.known, contrasts=tuple(asked)))


def test_one_transfer_that_came_through_makes_a_freeze_suspected():
    whole = frozen()
    asked = list(whole.known.contrasts)
    asked[0] = replace(asked[0], steps=(replace(asked[0].steps[-1], failure=None),))
    finding = first(replace(whole, known=replace(whole.known, contrasts=tuple(asked))))
    assert (finding.rule, finding.certainty) == ("R28", Certainty.SUSPECTED)


def test_a_controls_transfer_must_get_further_than_where_the_others_stop():
    short = replace(flies(), facts={**flies().facts, "received_bytes": 17_000})
    whole = frozen(transfers=(short,))
    assert first(
        changed(whole, lambda c: c.contrast.differs == "server", received_bytes=17_000)
    ) is (None)
    assert first(whole) is None


def test_what_is_lost_is_not_said_to_wait():
    made = throttled(out_of_order=100, receive_rtt_seconds=0.9)
    assert {f.mechanism for f in find(made)} == {Mechanism.THROTTLE_POLICED}


def test_a_neutral_name_that_fails_once_in_twenty_is_no_control():
    assert first(at_random()).rule == "R47"
    assert first(at_random(neutral_fails=1)) is None


def test_a_single_handshake_before_the_failure_is_no_recovery():
    whole = burst()
    early = [
        replace(c, at=1.0) if c.contrast.differs == "time" else c for c in whole.known.contrasts
    ]
    assert first(replace(whole, known=replace(whole.known, contrasts=tuple(early)))) is None


def test_three_hellos_of_each_one_after_the_other_are_not_in_turn():
    whole = hellos_in_turn()
    past = tuple(
        replace(o, at=o.at + 1000) if o.contrast is not None else o for o in whole.known.past
    )
    assert first(replace(whole, known=replace(whole.known, past=past))).certainty == "suspected"


def test_two_addresses_of_many_are_not_a_part_worth_a_word():
    many = tuple(f"198.51.{n}.9" for n in range(1, 14))
    known = dict.fromkeys((A1, A2, *many), RTT)
    assert explained(parted((A1, A2), many[:8], nearest=known)).status is Status.DEGRADED
    assert explained(parted((A1, A2), many, nearest=known)).status is Status.OK
    assert explained(parted((A1, "198.51.100.77"), (A2,))).status is Status.OK, "one network"


def test_an_address_that_never_answered_here_is_not_missed():
    assert [g.symptom for g in groups(parted((A1, A2)))] == [Symptom.PARTLY_SILENT]
    assert groups(parted((A1, A2), nearest={})) == []


def test_a_family_is_not_named_while_the_other_fails_too():
    both = parted((*SIX, "198.51.100.3"), (A1, A2), held_against=over_six())
    assert "one_family_block" not in {f.variant for f in find(both)}


@pytest.mark.parametrize("again", [0, 2])
def test_a_line_that_loses_everywhere_is_no_matter_of_one_path(again):
    held = tuple(
        replace(
            r,
            observations=tuple(
                replace(o, facts={**o.facts, "retransmissions": again}) for o in r.observations
            ),
        )
        for r in over_six()
    )
    found = first(bad_path(held_against=held))
    assert (found is None) is bool(again)
