"""What sweeps of the hop limit say, and what they must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.net.hops import Answer, Seen
from probes.trace.place import (
    ENOUGH,
    MOST,
    Placement,
    Probed,
    Run,
    Sign,
    Stretch,
    is_last,
    place,
    settled,
    stretch,
)

DROP, RESET, CUT = frozenset({Sign.SILENCE}), frozenset({Sign.RESET}), frozenset({Sign.CUT})
FORGED = frozenset({Sign.FORGED})
SERVER = 6


def router(k: int, path: str = "a") -> str:
    return f"192.0.2.{k}{'' if path == 'a' else '0'}"


def answer(ttl: int | None = None) -> Seen:
    return Seen(answers=[Answer(b"x", ttl, 0.1)])


def ran(
    filter_hop: int,
    kind: frozenset[Sign],
    *,
    silent: tuple[int, ...] = (),
    path: str = "a",
    port: int = 1,
    last: int = SERVER,
) -> Run:
    """One flow past a filter behind that hop; ``silent`` routers say nothing of what ran out."""
    hops = {}
    for k in range(1, last + 1):
        arrives = answer() if k == SERVER else Seen(expired="" if k in silent else router(k, path))
        trigger, alive = arrives, None
        if Sign.CUT in kind:
            alive = k <= filter_hop
        if k > filter_hop:
            trigger = Seen(reset=True) if kind == RESET else Seen()
        hops[k] = Probed(trigger, arrives, alive)
    return Run(port, hops, SERVER, True)


@pytest.mark.parametrize("hop", range(1, SERVER))
@pytest.mark.parametrize("kind", [DROP, RESET, CUT], ids=["drop", "reset", "cut"])
def test_the_stretch_is_exact_behind_every_hop(hop, kind):
    assert stretch(ran(hop, kind), kind) == Stretch(hop, hop + 1)


@pytest.mark.parametrize("silent", [(1,), (2,), (3,), (4,), (2, 3), (3, 4), (1, 2, 3, 4, 5)])
def test_silent_routers_widen_it_and_never_move_it(silent):
    found = stretch(ran(3, DROP, silent=silent), DROP)
    assert found is not None
    assert found.low <= 3
    assert found.high is None or found.high >= 4


def test_where_flows_live_or_are_reset_silent_routers_do_not_matter():
    everything = (1, 2, 3, 4, 5)
    assert stretch(ran(3, CUT, silent=everything), CUT) == Stretch(3, 4)
    assert stretch(ran(3, RESET, silent=everything), RESET) == Stretch(3, 4)


def test_a_control_that_is_silent_too_proves_no_filter():
    run = ran(3, DROP)
    hops = {k: Probed(p.trigger, Seen()) for k, p in run.hops.items()}
    assert stretch(Run(1, hops, None, True), DROP) == Stretch(3, None)


def test_a_run_that_contradicts_itself_tells_nothing():
    run = ran(3, DROP)
    hops = {**run.hops, 2: Probed(Seen(), run.hops[2].control)}
    assert stretch(Run(1, hops, SERVER, True), DROP) is None


def test_runs_narrow_each_other_or_cover_what_they_disagree_about():
    wide, narrow = ran(3, DROP, silent=(3,)), ran(3, DROP)
    assert place([wide, narrow], DROP).stretch == Stretch(3, 4)
    two = place([ran(2, DROP), ran(4, DROP)], DROP)
    assert two.stretch == Stretch(2, 5)
    assert (two.agree, two.runs) == (0, 2), "nobody found all of that"
    assert place([wide, wide, narrow], DROP).agree == 3, "the wide ones allow it"


def test_flows_that_nobody_acts_upon_take_other_paths():
    free = Run(2, {k: Probed(p.control, p.control) for k, p in ran(3, DROP).hops.items()}, 6, False)
    found = place([ran(3, DROP), free, ran(3, DROP, path="b")], DROP)
    assert (found.stretch, found.caught, found.flows, found.paths) == (Stretch(3, 4), 2, 3, 2)


def test_at_the_server_nobody_can_tell_who_it_was():
    assert place([ran(5, DROP)], DROP).placement is Placement.ENDPOINT
    assert place([ran(4, DROP)], DROP).placement is Placement.IN_PATH


def test_nobody_behind_is_told_by_the_control_and_by_nothing_else():
    assert is_last([ran(5, DROP)], 5)
    assert not is_last([ran(4, DROP)], 4), "the control's packets ran out at hop 5"
    assert is_last([ran(4, DROP, silent=(5,))], 4)
    assert not is_last([ran(4, DROP, silent=(5,)), ran(4, DROP)], 4)
    assert not is_last([Run(1, {}, None, True, {3: Seen(expired=router(3))})], 2)


def forging(hop: int, *, copies: bool, beside: bool) -> Run:
    """Answers to what passes the filter; those that copy have what was left of the hop limit."""
    hops = {}
    for k in range(1, SERVER + 3):
        seen = Seen(expired=router(k)) if k < SERVER else answer(59)
        ttl = k - hop - (hop - 1) if copies else 64 - hop + 1
        if k > hop and k >= SERVER and ttl > 0:
            seen.answers.insert(0, Answer(b"lie", ttl, 0.01))
        elif k > hop and k < SERVER:
            seen = Seen(expired=router(k) if beside else "")
            if ttl > 0:
                seen.answers.append(Answer(b"lie", ttl, 0.01))
        control = Seen(expired=router(k)) if k < SERVER else Seen()
        hops[k] = Probed(seen, control, forged=len(seen.answers) > 1)
    return Run(1, hops, SERVER, True)


def test_who_forges_answers_is_where_they_begin():
    found = place([forging(2, copies=False, beside=True)], FORGED)
    assert (found.stretch, found.placement) == (Stretch(2, 3), Placement.ON_PATH)
    found = place([forging(2, copies=False, beside=False)], FORGED)
    assert (found.stretch, found.placement) == (Stretch(2, 3), Placement.IN_PATH)


def test_a_forger_that_copies_the_hop_limit_is_half_as_far_as_it_looks():
    for hop in (1, 2, 3):
        found = place([forging(hop, copies=True, beside=True)], FORGED)
        assert found.stretch == Stretch(hop, hop + 1)


def test_five_that_agree_are_enough_and_eleven_the_most():
    runs = [ran(3, DROP)] * (ENOUGH - 1)
    assert not settled(runs, DROP)
    assert settled([*runs, ran(3, DROP)], DROP)
    mixed = [ran(n % 4 + 1, DROP) for n in range(MOST)]
    assert not settled(mixed[:-1], DROP)
    assert settled(mixed, DROP)
    free = Run(1, {}, SERVER, False)
    assert not settled([free] * (ENOUGH - 1), DROP)
    assert settled([free] * ENOUGH, DROP)


@given(
    st.integers(1, 5),
    st.sampled_from([DROP, RESET, CUT]),
    st.lists(st.sets(st.integers(1, 5)), min_size=1, max_size=11),
)
def test_whatever_routers_keep_to_themselves_the_filter_is_within(hop, kind, silent):
    found = place([ran(hop, kind, silent=tuple(quiet)) for quiet in silent], kind).stretch
    assert found is not None
    assert found.low <= hop
    assert found.high is None or found.high > hop


def test_a_few_flows_that_pass_say_little_where_others_do_not():
    passed = [Run(port, {}, SERVER, False) for port in range(ENOUGH)]
    assert settled(passed, DROP)
    assert not settled(passed, DROP, mixed=True)
    assert settled([*passed, *passed, *passed], DROP, mixed=True)
