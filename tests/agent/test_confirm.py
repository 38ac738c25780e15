"""Findings over rounds, and the states that they lead to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.confirm import recount, settled
from agent.present import present
from agent.state import ChannelState, Policy, fold, noted
from agent.store import Store
from probes.model import Certainty, Diagnosis, Finding, Mechanism, Status, VantageStatus

POLICY = Policy(3, 7, 50.0)
FOUND = Finding(
    Mechanism.TLS_SNI_RESET,
    Certainty.LIKELY,
    0.95,
    "R15",
    "tls_sni_reset",
    ("o1", "o2"),
    told="connections are cut",
    decided=("a neutral name passes",),
    controls=("C3", "C4"),
)
RAW = Diagnosis(
    messenger="m",
    channel="web",
    status=Status.BLOCKED,
    reason="interference",
    summary="Messy web pages: blocked, none of 2 servers answers; 2 failed.",
    working=0,
    measured=2,
    deciding=2,
    total=2,
    findings=(FOUND,),
)


def after(*times: float, finding: Finding = FOUND):
    named = ()
    for at in times:
        named = recount(named, [finding], at, 50.0)
    return named


def test_three_spaced_rounds_and_two_controls_confirm():
    assert settled([FOUND], after(0, 60))[0].certainty is Certainty.LIKELY
    assert settled([FOUND], after(0, 60, 120))[0].certainty is Certainty.CONFIRMED


def test_rounds_in_a_hurry_count_once():
    assert settled([FOUND], after(0, 10, 20, 30, 40))[0].certainty is Certainty.LIKELY
    assert settled([FOUND], after(0, 60, 70, 80, 130))[0].certainty is Certainty.CONFIRMED


@pytest.mark.parametrize(
    "given",
    [
        {"controls": ("C3",)},
        {"confidence": 0.85},
        {"certainty": Certainty.SUSPECTED, "confidence": 0.74},
    ],
)
def test_less_is_not_enough(given):
    weaker = replace(FOUND, **given)
    found = settled([weaker], after(0, 60, 120, finding=weaker))
    assert found[0].certainty is weaker.certainty


def test_the_controls_of_all_rounds_count_together():
    one, other = replace(FOUND, controls=("C3",)), replace(FOUND, controls=("C14",))
    named = recount(recount(after(0, 60, finding=one), [other], 120, 50), [one], 180, 50)
    assert settled([one], named)[0].certainty is Certainty.CONFIRMED


def test_one_rule_grows_over_three_rounds():
    paired = replace(FOUND, rule="R37a", confidence=0.80)
    assert settled([paired], after(0, 60, finding=paired))[0].confidence == 0.80
    grown = settled([paired], after(0, 60, 120, finding=paired))[0]
    assert (grown.confidence, grown.certainty) == (0.90, Certainty.CONFIRMED)


def rounds(*statuses: Status, state: ChannelState | None = None) -> ChannelState:
    state = state or ChannelState(confirmed=Status.OK, since=0.0)
    for i, status in enumerate(statuses):
        state = fold(state, status, 1000.0 + 60 * i, 1.0, POLICY)
    return state


BLOCKED, UNREACHABLE = Status.BLOCKED, Status.UNREACHABLE


@pytest.mark.parametrize(
    ("statuses", "entered"),
    [
        ((BLOCKED,) * 3, BLOCKED),
        ((UNREACHABLE, BLOCKED, BLOCKED), BLOCKED),
        ((BLOCKED, UNREACHABLE, UNREACHABLE), UNREACHABLE),
        ((UNREACHABLE,) * 3, UNREACHABLE),
        ((BLOCKED, BLOCKED, Status.DEGRADED), Status.DEGRADED),
        ((BLOCKED, BLOCKED), Status.OK),
    ],
)
def test_what_most_rounds_said_is_entered(statuses, entered):
    assert rounds(*statuses).confirmed is entered


def test_unreachable_turns_into_blocked_soon_and_back_slowly():
    state = rounds(*[UNREACHABLE] * 3)
    assert rounds(*[BLOCKED] * 2, state=state).confirmed is UNREACHABLE
    blocked = rounds(*[BLOCKED] * 3, state=state)
    assert blocked.confirmed is BLOCKED
    assert rounds(*[UNREACHABLE] * 6, state=blocked).confirmed is BLOCKED
    assert rounds(*[UNREACHABLE] * 7, state=blocked).confirmed is UNREACHABLE


def test_what_is_ok_again_is_forgotten():
    state = noted(rounds(*[BLOCKED] * 3), RAW, 0.0, POLICY, counts=True)
    assert state.named
    assert noted(state, RAW, 60.0, POLICY, counts=False) is state
    fine = replace(RAW, status=Status.OK, findings=())
    back = noted(replace(state, confirmed=Status.OK), fine, 60.0, POLICY, counts=True)
    assert back.named == ()


def shown(raw: Diagnosis, confirmed: Status, **given) -> Diagnosis:
    state = ChannelState(confirmed=confirmed, since=50.0, **given)
    return present(raw, state, VantageStatus.ONLINE, quiet=False)


def test_a_block_is_shown_with_its_mechanism_in_words():
    d = shown(RAW, BLOCKED, named=after(0, 60, 120))
    assert (d.mechanism, d.certainty) == (Mechanism.TLS_SNI_RESET, Certainty.CONFIRMED)
    assert d.summary.endswith("2 failed. Confirmed: connections are cut.")


def test_nothing_is_found_in_what_is_ok_or_not_decided():
    assert shown(RAW, Status.OK).findings == ()
    assert shown(RAW, Status.OK).mechanism is Mechanism.NONE
    unknown = present(RAW, ChannelState(), VantageStatus.ONLINE, quiet=False)
    assert (unknown.status, unknown.findings) == (Status.UNKNOWN, ())


def test_a_round_without_its_contrast_leaves_a_block_its_mechanism():
    bare = replace(RAW, status=UNREACHABLE, findings=())
    d = shown(bare, BLOCKED, named=after(0, 60))
    assert (d.status, d.mechanism) == (BLOCKED, Mechanism.TLS_SNI_RESET)


LINE = replace(FOUND, mechanism=Mechanism.PROBE_FAULT, confidence=1.0, told="this host is at fault")


def test_a_fault_of_the_line_in_between_does_not_take_the_place_of_what_was_named():
    state = noted(rounds(*[BLOCKED] * 3), RAW, 0.0, POLICY, counts=True)
    hidden = replace(RAW, status=Status.UNKNOWN, reason="faulty", findings=(LINE,))
    assert noted(state, hidden, 60.0, POLICY, counts=True) is state


def test_a_block_is_explained_by_interference_alone():
    bare = replace(RAW, status=UNREACHABLE, findings=())
    d = shown(bare, BLOCKED, named=(*after(0, 60), *after(120, finding=LINE)))
    assert d.mechanism is Mechanism.TLS_SNI_RESET
    assert "at fault" not in d.summary


def test_masks_show_what_is_found_of_the_line():
    portal = replace(FOUND, mechanism=Mechanism.CAPTIVE_PORTAL)
    raw = replace(RAW, status=Status.UNKNOWN, findings=(portal,))
    d = present(raw, ChannelState(), VantageStatus.PORTAL, quiet=False)
    assert d.mechanism is Mechanism.CAPTIVE_PORTAL
    accused = present(RAW, ChannelState(confirmed=BLOCKED), VantageStatus.PORTAL, quiet=False)
    assert accused.findings == ()


def test_what_was_named_survives_a_restart(tmp_path):
    store = Store(tmp_path)
    state = noted(rounds(*[BLOCKED] * 3), RAW, 0.0, POLICY, counts=True)
    store.save_round("n", states={("m", "web"): state})
    store.close()
    again = Store(tmp_path)
    kept = again.states("n")[("m", "web")]
    assert kept.named == state.named
    assert kept.named[0].finding.mechanism is Mechanism.TLS_SNI_RESET
    again.close()
