"""What a channel is said to be, as against what the last round saw."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.state import SEVERITY, WINDOW, ChannelState, Policy, Steady, Vote, fold, resumed
from probes.model import Status

POLICY = Policy(enter=3, leave=7, spacing=50)
LETTERS = {
    "o": Status.OK,
    "d": Status.DEGRADED,
    "b": Status.BLOCKED,
    "u": Status.UNREACHABLE,
    "?": Status.UNKNOWN,  # not measured
    "!": Status.UNKNOWN,  # the vantage was offline
}


def run(rounds: str, state: ChannelState | None = None, *, start=0.0, step=60.0, controls=1.0):
    """The state after these rounds, one letter each."""
    state = state or ChannelState()
    for number, letter in enumerate(rounds):
        at = start + number * step
        state = fold(state, LETTERS[letter], at, controls, POLICY, spoiled=letter == "!")
    return state


@pytest.mark.parametrize(
    ("rounds", "confirmed"),
    [
        ("", None),
        ("o", "ok"),  # the first good round is believed at once
        ("u", None),  # a bad start is not
        ("uu", None),
        ("uuu", "unreachable"),
        ("uuo", "ok"),
        ("ou", "ok"),
        ("ouu", "ok"),
        ("ouuu", "unreachable"),
        ("ouuouu", "ok"),
        ("ouuouuu", "unreachable"),
        ("oudu", "degraded"),  # the mildest of the three
        ("ouduuu", "unreachable"),
        ("oubu", "unreachable"),
        ("oddd", "degraded"),
        ("oddduu", "degraded"),
        ("oddduuu", "unreachable"),
        ("uuuoooooo", "unreachable"),
        ("uuuooooooo", "ok"),
        ("uuuoooooou", "unreachable"),
        ("uuuooooooudoooooo", "degraded"),
        ("uuuoooddoo", "degraded"),  # the worst of the seven
        ("uuuddddddd", "degraded"),
        ("uuuoooddoooooo", "degraded"),
        ("uuuoooddooooooo", "ok"),  # seven good ones, wherever "degraded" was entered among them
        ("uuudoooooo", "degraded"),
        ("uuudooooooo", "ok"),
        ("uuudoooooodoooooo", "degraded"),
        ("ou?u?u", "unreachable"),  # a round that said nothing is no good round
        ("ouu!u", "ok"),  # without controls the count begins anew
        ("ouu!uuu", "unreachable"),
        ("o!!!!!", "ok"),
    ],
)
def test_rounds_to_status(rounds, confirmed):
    state = run(rounds)
    assert (state.confirmed and str(state.confirmed)) == confirmed


def test_since_is_when_the_change_began():
    assert run("ooouuu").since == 180
    assert run("uuu" + "o" * 7).since == 180
    assert run("o").since == 0


def test_rounds_closer_than_the_spacing_count_once():
    assert run("ouuuuuuuuu", step=10).confirmed is Status.OK
    assert run("o" + "u" * 16, step=10).confirmed is Status.UNREACHABLE
    assert len(run("o" * 5, step=10).window) == 1


def test_a_clock_that_was_set_back_does_not_stop_the_counting():
    state = run("ooo", start=1_000_000)
    assert run("uuu", state, start=500).confirmed is Status.UNREACHABLE


def test_what_rests_on_earlier_rounds_has_had_its_vote():
    state = run("o")
    for number in range(1, 20):
        news = number == 1
        state = fold(state, Status.UNREACHABLE, number * 60.0, 1.0, POLICY, news=news)
    assert state.confirmed is Status.OK
    assert state.undecided()


def test_a_state_that_nothing_measures_is_soon_not_shown():
    state = run("oo?")
    assert state.shown is Status.OK
    state = run("oo??")
    assert (state.shown, state.confirmed) == (Status.UNKNOWN, Status.OK)
    assert run("oo??o").shown is Status.OK


@pytest.mark.parametrize(
    ("rounds", "undecided"),
    [("", True), ("u", True), ("o", False), ("ou", True), ("ouo", False), ("ouuu", False)],
)
def test_undecided_while_a_change_is_under_way(rounds, undecided):
    assert run(rounds).undecided() is undecided


# --- coming and going ------------------------------------------------------------------------


def test_alternating_rounds_are_degraded_intermittent():
    state = run("ou" * 10)
    assert (state.confirmed, state.intermittent) == (Status.DEGRADED, True)
    assert run("ou" * 9).confirmed is Status.OK


def test_alternating_rounds_while_controls_fail_are_nobodys_fault():
    assert run("ou" * 10, controls=0.97).confirmed is Status.OK


def test_one_outage_and_its_recovery_are_not_intermittent():
    for bad in range(3, 18):
        state = run("o" * 20 + "u" * bad + "o" * 30)
        assert (state.confirmed, state.intermittent) == (Status.OK, False)


def test_two_bad_rounds_of_twenty_are_not_coming_and_going():
    for good in range(25):
        state = run("o" * 9 + "uu" + "o" * good)
        assert (state.confirmed, state.intermittent) == (Status.OK, False)


def test_what_came_and_went_is_ok_again_when_nine_tenths_are():
    state = run("ou" * 10 + "o" * 16)
    assert state.intermittent
    state = run("ou" * 10 + "o" * 20)
    assert (state.confirmed, state.intermittent) == (Status.OK, False)


def test_what_came_and_went_and_stays_away_is_not_intermittent_any_more():
    state = run("ou" * 10 + "uuu")
    assert (state.confirmed, state.intermittent) == (Status.UNREACHABLE, False)
    state = run("od" * 10 + "d" * 20)
    assert (state.confirmed, state.intermittent) == (Status.DEGRADED, False)


def test_success_ratio_is_of_the_last_twenty():
    assert ChannelState().success_ratio is None
    assert run("o" * 30 + "u" * 5).success_ratio == 0.75


# --- long sequences --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [0, 20, 40])
def test_a_flap_of_half_a_minute_changes_nothing(phase):
    """Once in an hour the line is away for 30 s: at most one round is bad."""
    state = run("o")
    shown = set()
    for number in range(1, 600):
        at = number * 60.0
        away = (at + phase) % 3600 < 30
        state = fold(state, Status.UNREACHABLE if away else Status.OK, at, 1.0, POLICY)
        shown.add(state.shown)
    assert shown == {Status.OK}


@pytest.mark.parametrize("seed", range(20))
def test_seventy_percent_loss_is_never_ok(seed):
    """Nine relays, five packets each, three must come through at 30 %: never eight of nine."""
    rng = random.Random(seed)
    state = ChannelState()
    for number in range(1000):
        runs = [sum(rng.random() < 0.3 for _ in range(5)) for _ in range(9)]
        working = sum(answered >= 3 for answered in runs)
        status = Status.OK if working >= 7.2 else Status.DEGRADED
        state = fold(state, status, number * 60.0, 1.0, POLICY)
        assert state.shown is not Status.OK
    assert state.confirmed is Status.DEGRADED


@given(st.text(alphabet="odu?!", max_size=200))
def test_whatever_comes_rules_hold(rounds):
    state = ChannelState()
    for number, letter in enumerate(rounds):
        before = state
        seen = LETTERS[letter]
        state = fold(state, seen, number * 60.0, 1.0, POLICY, spoiled=letter == "!")
        assert len(state.votes) <= WINDOW
        assert len(state.window) <= WINDOW
        if seen is Status.UNKNOWN:
            assert state.confirmed is before.confirmed
        if state.confirmed is not before.confirmed:
            assert (state.since or 0) <= number * 60.0
            if not state.intermittent and state.confirmed is not Status.OK:
                # Nothing is entered that no counted round saw.
                assert state.confirmed in {v.status for v in state.window}
        if before.confirmed is not None:
            assert state.confirmed is not None


@given(st.text(alphabet="odu", max_size=60), st.integers(0, 60))
def test_a_restart_in_between_changes_nothing(rounds, cut):
    whole = run(rounds)
    cut = min(cut, len(rounds))
    first = resumed(run(rounds[:cut]), cut * 60.0, 240)
    assert run(rounds[cut:], first, start=cut * 60.0) == whole


def test_after_a_long_pause_bad_rounds_are_no_more_in_a_row():
    state = run("oouu")
    assert resumed(state, 3 * 60 + 240, 240) == state
    later = resumed(state, 86_400.0, 240)
    assert run("u", later, start=86_400).confirmed is Status.OK
    assert run("uuu", later, start=86_400).since == 86_400
    settled = run("ooo")
    assert resumed(settled, 86_400.0, 240) == settled


def test_severity_orders_every_status_that_can_be_confirmed():
    assert set(SEVERITY) == set(Status) - {Status.UNKNOWN}


# --- the vantage's word ----------------------------------------------------------------------

CALM = frozenset({"online", "restricted"})


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        (["offline"], "offline"),  # the very first word
        (["online", "offline"], "online"),
        (["online", "offline", "offline"], "offline"),
        (["online", "offline", "portal"], "online"),
        (["online", "offline", "online", "offline"], "online"),
        (["online", "offline", "offline", "online"], "online"),
        (["online", "restricted"], "restricted"),
        (["online", "offline", "portal", "portal"], "portal"),
    ],
)
def test_the_vantage_changes_after_two_rounds(seen, shown):
    steady = Steady()
    for word in seen:
        steady = steady.step(word, CALM)
    assert steady.shown == shown


def test_a_vote_is_a_value():
    vote = Vote(1.0, Status.OK, 1.0)
    assert replace(vote, at=2.0) != vote
