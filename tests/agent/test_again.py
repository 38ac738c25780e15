"""What failed must fail once more, and not come and go, before anybody is accused of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.again import IN_A_ROW, LATELY
from agent.case import Case, Differs
from agent.verdicts import HELD_BACK, find
from probes.model import Contrast, Failure, Observation, Step
from tests.agent.building import seen
from tests.agent.worlds import A1, WORLDS, hello, neutral
from tests.agent.worlds import W1 as WEB
from tests.agent.worlds import case as world

FIRM = ("R12", "R13", "R14a", "R15", "R16", "R17", "R18", "R19", "R37a", "R38", "R38a")


def with_again(whole: Case, made: list[Observation]) -> Case:
    kept = [c for c in whole.known.contrasts if c.contrast and c.contrast.differs != "again"]
    return replace(whole, known=replace(whole.known, contrasts=(*kept, *made)))


def agains(whole: Case) -> list[Observation]:
    return whole.contrasts(Differs.AGAIN)


@pytest.mark.parametrize("rule", FIRM)
def test_without_a_second_failure_it_is_suspected_at_most(rule: str) -> None:
    whole = WORLDS[rule]()
    assert find(whole)[0].confidence > HELD_BACK
    confidence = {f.rule: f.confidence for f in find(with_again(whole, []))}
    assert confidence.get(rule, 0) <= HELD_BACK


@pytest.mark.parametrize("rule", FIRM)
def test_when_any_of_them_answers_the_second_time_it_was_a_passing_trouble(rule: str) -> None:
    whole = WORLDS[rule]()
    first, *rest = agains(whole)
    steps = tuple(replace(step, failure=None) for step in first.steps)
    healed = replace(first, steps=steps)
    confidence = {f.rule: f.confidence for f in find(with_again(whole, [healed, *rest]))}
    assert confidence.get(rule, 0) <= HELD_BACK


def history(outcomes: str, since: float = -300.0) -> Case:
    """One name that is cut, asked every minute before: F for cut, P for passed, p for connected."""
    failed = hello(WEB, Failure.RESET)
    past = []
    for number, outcome in enumerate(outcomes):
        cut = Failure.RESET if outcome == "F" else None
        steps, partial = (Step.RESOLVE, Step.CONNECT), outcome == "p"
        o = seen(WEB, cut, Step.TLS, before=steps, at=since + number, partial=partial)
        past.append(replace(o, facts=failed[1].facts))
    return world(
        [failed], contrasts=[neutral(failed)], past=tuple(past), by_hand=False, nearest={A1: 0.01}
    )


@pytest.mark.parametrize(
    ("outcomes", "likely"),
    [
        ("", False),  # one more failure beside the first: any machine of two may be down
        ("F" * (IN_A_ROW - 2), False),
        ("F" * (IN_A_ROW - 1), True),
        ("FpFpF", True),  # connections in between tell nothing of names
        ("FFFPF", False),
        ("FFFPPPFFF", True),  # lifted, and set again
        ("FFFPPP", False),
    ],
)
def test_between_rounds_it_must_have_failed_every_time(outcomes: str, likely: bool) -> None:
    found = find(history(outcomes))
    assert found[0].rule == "R16"
    assert (found[0].confidence > HELD_BACK) is likely


def test_what_came_and_went_is_forgotten() -> None:
    assert find(history("FPFFFF"))[0].confidence == HELD_BACK
    before = history("FPF", since=-LATELY - 100)
    later = history("FFFF")
    past = (*before.known.past, *later.known.past)
    assert find(replace(later, known=replace(later.known, past=past)))[0].confidence > HELD_BACK


def test_one_observation_counts_once() -> None:
    """What was not asked in this round is in the memory of earlier ones, too."""
    whole = history("FF")
    (failed,) = (o for _, its in whole.seen for o in its if not o.works)
    copies = (failed,) * IN_A_ROW
    known = replace(whole.known, past=(*whole.known.past, *copies))
    assert find(replace(whole, known=known))[0].confidence == HELD_BACK


def test_what_was_asked_again_counts_once_though_it_is_remembered() -> None:
    """Where the target itself had to wait since."""
    whole = history("FF")
    known = replace(whole.known, past=(*whole.known.past, *agains(whole)))
    assert find(replace(whole, known=known))[0].confidence == HELD_BACK


def test_of_another_round_it_is_an_earlier_attempt() -> None:
    whole = history("FF")
    earlier = replace(
        agains(whole)[0], id="earlier", at=-250.0, contrast=Contrast("gone", Differs.AGAIN)
    )
    known = replace(whole.known, past=(*whole.known.past, earlier))
    assert find(replace(whole, known=known))[0].confidence > HELD_BACK
