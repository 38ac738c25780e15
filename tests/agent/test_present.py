"""What is shown, of what was seen and what is confirmed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.present import present, present_vantage
from agent.state import ChannelState
from agent.vantage import MASKING
from probes.model import Diagnosis, Status, VantageStatus
from tests.agent.building import judgement

ONLINE = VantageStatus.ONLINE
RAW = Diagnosis(
    messenger="m",
    channel="call",
    status=Status.UNREACHABLE,
    reason="exchange:timeout",
    summary="Messy calls: unreachable, none of 2 servers answers; 2 failed.",
    working=0,
    measured=2,
    deciding=2,
    total=2,
)


def state(confirmed=Status.OK, **given):
    return ChannelState(confirmed=confirmed, since=50.0, **given)


def test_what_is_not_confirmed_yet_is_not_shown():
    shown = present(RAW, state(), ONLINE, quiet=False)
    assert (shown.status, shown.reason, shown.since) == (Status.OK, "confirmed_ok", 50.0)
    assert shown.summary == (
        "Messy calls: ok, as confirmed over several rounds; the last round:"
        " unreachable, none of 2 servers answers; 2 failed."
    )
    # The figures are those of the round.
    assert (shown.working, shown.measured) == (0, 2)


def test_what_is_confirmed_is_shown_as_it_was_seen():
    shown = present(RAW, state(Status.UNREACHABLE), ONLINE, quiet=False)
    assert shown == replace(RAW, since=50.0)


def test_a_bad_start_is_settling():
    shown = present(RAW, ChannelState(), ONLINE, quiet=False)
    assert (shown.status, shown.reason, shown.since) == (Status.UNKNOWN, "settling", None)
    assert "unreachable" in shown.summary


def test_coming_and_going_is_said():
    shown = present(RAW, state(Status.DEGRADED, intermittent=True), ONLINE, quiet=False)
    assert (shown.status, shown.reason) == (Status.DEGRADED, "intermittent")
    assert shown.intermittent
    assert "comes and goes" in shown.summary


def test_one_unmeasured_round_leaves_the_confirmed_status_and_two_do_not():
    raw = replace(RAW, status=Status.UNKNOWN, reason="not_measured", summary="Messy calls: no.")
    once = present(raw, state(unmeasured=1), ONLINE, quiet=False)
    assert (once.status, once.reason) == (Status.OK, "confirmed_ok")
    twice = present(raw, state(unmeasured=2, intermittent=True), ONLINE, quiet=False)
    assert (twice.status, twice.reason) == (Status.UNKNOWN, "not_measured")
    assert (twice.since, twice.intermittent) == (None, False)


def test_uncalibrated_is_shown_at_once():
    raw = replace(RAW, status=Status.UNKNOWN, reason="uncalibrated", summary="Messy calls: blind.")
    shown = present(raw, state(), ONLINE, quiet=False)
    assert (shown.status, shown.reason, shown.since) == (Status.UNKNOWN, "uncalibrated", None)


@pytest.mark.parametrize("vantage", MASKING)
def test_a_broken_line_hides_everything(vantage):
    shown = present(RAW, state(Status.UNREACHABLE), vantage, quiet=False)
    assert (shown.status, shown.reason) == (Status.UNKNOWN, str(vantage))
    assert "unreachable" not in shown.summary


def test_a_new_network_is_quiet():
    shown = present(RAW, state(), ONLINE, quiet=True)
    assert (shown.status, shown.reason) == (Status.UNKNOWN, "network_changed")


def test_the_vantage_says_what_it_lacks_and_what_the_last_round_saw():
    assert present_vantage("x", ONLINE, None).reason == "no round has ended yet"
    noted = judgement(notes=("fewer than two STUN operators",))
    assert present_vantage("x", ONLINE, noted).reason == (
        "controls answer; fewer than two STUN operators"
    )
    cut = judgement(VantageStatus.OFFLINE, reason="no control answers")
    assert present_vantage("x", ONLINE, cut).reason == "the last round: no control answers"
    assert present_vantage("x", VantageStatus.OFFLINE, cut).reason == "no control answers"
