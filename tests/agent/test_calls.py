"""Calls that are cut off: what is accused, and what must not be."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from agent import callflow
from agent.callflow import alike, cut, is_cut, is_split, small_fail
from agent.diagnosis import diagnose
from agent.state import is_news
from agent.streams import kept as remembered
from agent.verdicts import find
from probes.call import CallProbe
from probes.measure import Check, measure
from probes.model import SURE, Certainty, Failure, Mechanism, Status
from probes.net.environment import Beside, Environment
from tests.agent.building import judgement, seen, target
from tests.agent.calling import (
    CALLING,
    CUT,
    FLOWS,
    LARGE,
    MEDIA,
    SIZES,
    dies,
    dies_after,
    ends,
    lives,
    run,
    sized,
    stream,
    streams_end,
    without,
)
from tests.agent.calling import cut as cut_calls
from tests.agent.worlds import MESSENGER, TWIN, case
from tests.probes.playing import KEY
from tests.probes.test_call import Played as PlayedCalls


def rules(made):
    return {f.rule for f in find(made)}


def first(made):
    return next(iter(find(made)), None)


# --- one run -----------------------------------------------------------------------------------


def test_what_lives_and_what_dies():
    _, o = run(*CUT, lives("twin"))
    assert callflow.died(o, "call")
    assert callflow.lives(o, "call") is False
    assert callflow.lives(o, "random") is True
    assert callflow.lives(o, "control") is None, "it was not asked"
    assert (callflow.beside(o), callflow.at_twin(o)) == ("twin", "twin")


def test_a_flow_that_loses_a_fifth_did_neither():
    lossy = {**lives("canary"), "canary_canaries_answered": 16}
    _, o = run(dies("call", 3.0), lossy, lives("random"))
    assert callflow.lives(o, "canary") is False
    assert callflow.died(o, "canary") is False


def test_silent_from_the_beginning_is_no_death():
    silent = {
        f"call_{word}": value
        for word, value in {
            "canaries": 22,
            "canaries_answered": 0,
            "silent_after_seconds": 0.0,
            "silent_after_packets": 0,
            "dead_from_seconds": 0.0,
            "dead_from_packets": 1,
        }.items()
    }
    _, o = run(silent, lives("canary"), lives("random"))
    assert callflow.died(o, "call") is False


@pytest.mark.parametrize("packets", [12, 25, 60, 200])
def test_flows_that_end_after_as_many_packets_end_alike(packets):
    _, o = run(*(dies_after(arm, packets) for arm in ("call", "random", "canary")))
    assert alike([o])


@pytest.mark.parametrize("seconds", [4.0, 10.0, 14.0])
def test_flows_that_end_after_as_many_seconds_end_alike(seconds):
    _, o = run(*(dies(arm, seconds) for arm in ("call", "random", "canary")))
    assert alike([o])
    _, other = run(*(dies(arm, seconds + 6) for arm in ("call", "random", "canary")))
    assert not alike([o, other])


def test_what_lived_longer_than_others_died_after_contradicts():
    _, o = run(dies_after("call", 40), dies("random", 3.0), dies("canary", 10.0))
    assert not alike([o]), "ten seconds, and twelve packets: not what ended the others"
    _, o = run(*(dies(arm, 10.0) for arm in ("call", "random", "canary")), lives("twin"))
    assert alike([o])
    assert not alike([o], "twin"), "it outlasted ten seconds, and their packets"
    _, o = run(dies("call", 10.0), dies("random", 10.0), lives("canary"))
    _, short = run(dies("call", 4.0), dies("random", 4.0), lives("canary"))
    assert not alike([o, short])


def test_sizes():
    def of(answered, silent):
        return run(sizes_answered=answered, sizes_silent=silent)[1]

    assert is_split(of(SIZES[:3], LARGE))
    assert not small_fail(of(SIZES[:3], LARGE))
    assert small_fail(of(LARGE, SIZES[:3]))
    assert not is_split(of(("20", "500"), ("100", "1000"))), "no one size parts them"
    assert not is_split(of(SIZES, ()))
    assert not is_split(of((), SIZES))


# --- by shape ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["canary_", "random_"])
@pytest.mark.parametrize("rule", ["R55", "R55s", "R55t"])
def test_without_one_of_the_contrasts_nothing_is_said(rule, arm):
    assert find(without(CALLING[rule](), arm)) == ()


@pytest.mark.parametrize("arm", ["canary", "random"])
def test_where_another_arm_dies_too_it_is_not_the_shape(arm):
    arms = [
        dies("call", 3.0),
        *(dies(a, 3.0) if a == arm else lives(a) for a in ("canary", "random")),
    ]
    assert Mechanism.CALL_FLOW_BLOCK not in {
        f.mechanism for f in find(cut_calls(lives("twin"), arms=arms))
    }


def test_without_another_server_it_is_suspected():
    made = without(CALLING["R55"](), "twin_")
    assert rules(made) == {"R55s"}
    assert first(made).certainty is Certainty.SUSPECTED


def test_a_public_server_will_do():
    assert first(cut_calls(lives("control"))).rule == "R55"
    assert first(cut_calls(dies("control", 3.0))).rule == "R55s"


@pytest.mark.parametrize(("runs", "certainty"), [(1, "suspected"), (2, "suspected"), (3, "likely")])
def test_three_runs_must_have_ended_so(runs, certainty):
    assert first(cut_calls(lives("twin"), runs=runs)).certainty == certainty
    assert first(cut_calls(dies("twin", 3.0), runs=runs)).certainty == certainty


def test_runs_of_one_relay_count_when_they_are_apart():
    def made(gap):
        past = [run(*CUT, lives("twin"), at=n * gap, failure=Failure.LOSSY) for n in range(3)]
        return case([past[-1]], channel="call", streams={"flow0": tuple(o for _, o in past)})

    assert first(made(60.0)).certainty is Certainty.LIKELY
    assert first(made(10.0)).certainty is Certainty.SUSPECTED


@pytest.mark.parametrize(
    "other",
    [
        (lives("call"), lives("canary"), lives("random")),
        (dies("call", 3.0), dies("canary", 3.0), lives("random")),
    ],
)
def test_one_way_of_several_that_is_bad_cuts_other_flows_another_time(other):
    past = [
        run(*arms, lives("twin"), at=n * 60.0, failure=Failure.LOSSY)
        for n, arms in enumerate((CUT, CUT, other, CUT))
    ]
    made = case([past[-1]], channel="call", streams={"flow0": tuple(o for _, o in past)})
    assert first(made).certainty is Certainty.SUSPECTED


def test_a_relay_that_may_do_it_itself_is_suspected():
    unknown = cut_calls(lives("twin"), verified=frozenset())
    assert first(unknown).certainty is Certainty.SUSPECTED
    there = {t.target: True for t in FLOWS}
    assert (
        first(cut_calls(lives("twin"), verified=frozenset(), outside=there)).certainty == "likely"
    )
    _, before = run(lives("call"), lives("canary"), lives("random"), at=-600.0)
    kept = {"flow0": (before,)}
    assert first(cut_calls(lives("twin"), verified=frozenset(), streams=kept)).certainty == "likely"


def test_a_relay_that_does_it_to_an_open_network_too_is_not_accused():
    there = {t.target: False for t in FLOWS}
    assert find(cut_calls(lives("twin"), outside=there)) == ()


# --- after so much -----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["random_", "twin_"])
def test_without_random_bytes_or_another_server_no_end_is_named(arm):
    assert "udp_after_n" in {f.mechanism for f in find(ends(lives("twin")))}
    assert find(without(ends(lives("twin")), arm)) == ()


def test_an_end_that_is_another_each_time_is_no_rule():
    arms = [tuple(dies(a, 4.0 + 4 * n) for a in ("call", "random", "canary")) for n in range(3)]
    failed = [run(*its, lives("twin"), of=n, failure=Failure.LOSSY) for n, its in enumerate(arms)]
    assert find(case(failed, channel="call")) == ()


def called_targets(made):
    return {o.target for _, seen in made.of_channel() for o in seen}


@pytest.mark.parametrize(("runs", "certainty"), [(1, "suspected"), (3, "likely")])
def test_one_end_may_be_an_outage(runs, certainty):
    there = dict.fromkeys(called_targets(ends(lives("twin"), runs=runs)), True)
    finding = first(ends(lives("twin"), runs=runs, outside=there))
    assert (finding.rule, finding.certainty) == ("R40", certainty)


def test_an_end_to_everyone_may_be_the_lines():
    finding = first(ends(dies_after("twin", 40)))
    assert (finding.rule, finding.certainty) == ("R40e", Certainty.SUSPECTED)
    assert find(ends(dies("twin", 15.0))) == (), "it ends, and elsewhere"


def test_a_media_stream_that_ends_at_the_same_place_each_time():
    alike_thrice = [stream(n * 1000.0, 10) for n in range(3)]
    assert first(streams_end(*alike_thrice[:1])).certainty is Certainty.SUSPECTED
    never = first(streams_end(*alike_thrice))
    assert (never.rule, never.certainty) == ("R40", "suspected"), "its relay never bore more"
    once = first(streams_end(stream(-500.0, None), *alike_thrice))
    assert (once.rule, once.certainty) == ("R40", "suspected"), "a server may begin to limit us"
    there = first(streams_end(*alike_thrice, outside={MEDIA.target: True}))
    assert (there.rule, there.certainty) == ("R40", "likely")
    elsewhere = (stream(-500.0, None), stream(1000.0, 30), stream(2000.0, 10))
    found = first(streams_end(*elsewhere, outside={MEDIA.target: True}))
    assert found.certainty is Certainty.SUSPECTED


def test_a_media_stream_beside_which_another_ends_too():
    finding = first(streams_end(control_after=10))
    assert (finding.rule, finding.certainty) == ("R40e", Certainty.SUSPECTED)
    assert find(streams_end(control_after=40)) == ()


def test_a_media_stream_that_was_silent_from_the_beginning_is_no_end():
    newest = stream(0.0, 0)
    made = case([newest], channel="call", streams={MEDIA.target.name: (newest[1],)})
    assert "R40" not in rules(made)


# --- by size -----------------------------------------------------------------------------------


def test_sizes_that_a_server_may_refuse_are_suspected():
    finding = first(sized(LARGE))
    assert (finding.rule, finding.certainty) == ("R41", Certainty.SUSPECTED)


@pytest.mark.parametrize("twin", [None, SIZES])
def test_without_the_twins_word_no_size_is_named(twin):
    assert find(sized(LARGE, twin)) == ()
    assert find(sized(("20", "60"), twin)) == ()


@pytest.mark.parametrize(("runs", "certainty"), [(1, "suspected"), (3, "likely")])
def test_one_size_may_have_had_a_bad_way(runs, certainty):
    assert first(sized(LARGE, LARGE, runs=runs)).certainty == certainty
    assert first(sized(("20", "60"), runs=runs)).certainty == certainty


def test_other_sizes_each_time_are_no_rule():
    several = [
        sized(silent, runs=3).seen[n] for n, silent in enumerate((("20",), ("20", "60"), ("20",)))
    ]
    failed = [(e.config, o) for e, its in several for o in its]
    assert first(case(failed, channel="call")).certainty is Certainty.SUSPECTED


def test_where_the_twin_ends_at_another_size_nothing_is_named():
    assert find(sized(LARGE, ("1000",))) == ()


# --- the channel -------------------------------------------------------------------------------


def works(config=FLOWS[0], **facts):
    return config, seen(config, None, **facts)


def judged(*made):
    found = case([], channel="call", beside=made)
    evidence = [e for e, _ in found.seen]
    raw = diagnose(MESSENGER, evidence, judgement())
    return cut(raw, MESSENGER, evidence, judgement())


RELAYS = [target(f"r{n}", host=f"198.51.100.{n}") for n in range(20, 30)]


def test_a_channel_whose_calls_are_cut_off_is_degraded():
    answering = [works(r) for r in RELAYS]
    (d,) = judged(*answering, run(*CUT, failure=Failure.LOSSY))
    assert (d.status, d.reason) == (Status.DEGRADED, "cut_off")
    assert is_news(d, Status.OK, frozenset({"flow0"}))
    assert not is_news(d, Status.OK, frozenset({"r20"})), "the same run has one vote"
    (d,) = judged(
        *answering,
        run(*CUT, failure=Failure.LOSSY),
        *(run(lives("call"), lives("canary"), lives("random"), of=n) for n in (1, 2)),
    )
    assert d.status is Status.OK, "one of three"


def test_a_server_that_takes_no_padding_degrades_nothing():
    assert not is_cut(sized(LARGE).seen[0][1][0])
    assert is_cut(sized(LARGE, LARGE).seen[0][1][0])
    assert is_cut(sized(("20",)).seen[0][1][0])


def test_runs_are_remembered():
    old = run(*CUT, at=0.0)[1]
    new = run(*CUT, at=600.0)[1]
    assert remembered((old,), (new, old), 700.0) == (old, new)
    other = replace(new, target=RELAYS[0].target, id="x")
    assert remembered((), (other,), 700.0) == ()


# --- innocent ways, through the real probe -----------------------------------------------------


def lossy(share, bursts, numbers):
    """Lost both ways together, in bursts of about so many packets of a flow."""
    bad: dict[int, bool] = {}

    def way(flow, number, at):
        leaves, enters = 1 / bursts, share / (1 - share) / bursts
        was = bad.get(id(flow), False)
        bad[id(flow)] = numbers.random() >= leaves if was else numbers.random() < enters
        return None if bad[id(flow)] else 0.05

    return way


def outage(numbers):
    """Everything is silent from some moment on."""
    moment = numbers.uniform(2.0, 16.0)
    return lambda flow, number, at: None if at > moment else 0.05


def bad_paths(numbers):
    """One flow of three takes a path that dies."""
    dead: dict[int, bool] = {}

    def way(flow, number, at):
        return None if dead.setdefault(id(flow), numbers.random() < 1 / 3) and at > 1.0 else 0.05

    return way


def served(numbers):
    """The relay answers so many packets of an address and port, and then no more: of those that
    go fast."""
    most = numbers.randint(20, 60)
    return lambda flow, number, at: None if flow.address != TWIN and number > most else 0.05


WAYS = {
    "loss": lambda numbers: lossy(0.25, 1, numbers),
    "bursts": lambda numbers: lossy(0.2, 8, numbers),
    "outage": outage,
    "bad paths": bad_paths,
    "limits of the relay": served,
}


async def three_runs(way, numbers):
    made = []
    for n, config in enumerate(FLOWS):
        streams = PlayedCalls(way(numbers), TWIN)
        env = Environment(streams=streams, beside=(Beside("twin", TWIN, 3478, KEY),))
        check = Check(config.target, CallProbe(profile="voip120"), config.host, 1400)
        (o,) = (await measure(check, env)).observations
        made.append((config, replace(o, at=60.0 * n)))
    return made


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_is_accused_of_what_lines_and_servers_do(way):
    for seed in range(8):
        runs = await three_runs(WAYS[way], random.Random(seed))
        # A relay that limits flows has never borne a whole call.
        known = {"verified": frozenset()} if WAYS[way] is served else {}
        found = find(case(runs, channel="call", **known))
        sure = [f for f in found if f.certainty in SURE and f.mechanism.interference]
        assert sure == [], (seed, [o.facts for _, o in runs])
