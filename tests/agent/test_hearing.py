"""When a call is bad, and who can be told to be to blame."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import hearing
from agent.hearing import Heard, Pair, Run, cusum, hear, is_bad, run_of
from probes.model import Mechanism
from probes.wire import chance, paired, quality
from probes.wire.quality import Packet

TARGETED = Mechanism.MEDIA_DEGRADED_TARGETED
PATH = Mechanism.PATH_DEGRADED
GENERAL = Mechanism.MEDIA_DEGRADED_GENERAL
LIMITED = Mechanism.RATE_LIMITED

FINE = Run(0, 1500, 0.02, mouth_to_ear=0.15, rtt=0.062, rtt_min=0.06)
POOR = replace(FINE, bad_ratio=0.15)


def worse(control: str, bad: float = 0.02) -> Pair:
    return Pair(control, True, 4.0, 1500, bad, 0.05, 0.049)


def twin_with_tail() -> Pair:
    return replace(worse("twin"), rtt_p95=0.06)


def alike(control: str, bad: float = 0.15) -> Pair:
    return Pair(control, False, 0.2, 1500, bad, 0.05, 0.049)


# --- one run ---


def chance_of_bad(n: int, share: float) -> float:
    """Exactly, over all counts that independent loss makes."""
    return sum(chance.binomial(k, n, share) for k in range(n + 1) if is_bad(Run(0, n, k / n)))


@pytest.mark.parametrize(
    ("n", "seen"), [(30, 0.65), (50, 0.85), (120, 0.99), (500, 0.999), (1500, 0.999)]
)
def test_fifteen_percent_are_seen_and_two_are_not(n, seen):
    assert chance_of_bad(n, 0.15) > seen
    assert chance_of_bad(n, 0.02) < 0.01
    assert chance_of_bad(n, 0.0) == 0


def test_the_counts_that_are_needed():
    needed = [next(k for k in range(n) if is_bad(Run(0, n, k / n))) for n in (30, 50, 120, 1500)]
    assert needed == [4, 5, 8, 75]


@pytest.mark.parametrize(
    ("share", "burst_ratio", "bad"),
    [
        (0.055, 1, True),
        (0.055, 15, False),  # one event of a second
        (0.09, 10, True),
        (0.2, 240, True),  # six seconds of silence are bad, whatever else they are
        (1.0, 1, True),
    ],
)
def test_runs_of_lost_packets_count_for_fewer(share, burst_ratio, bad):
    assert is_bad(Run(0, 1500, share, burst_ratio)) is bad


@pytest.mark.parametrize(
    ("delay", "share", "requests", "bad"),
    [
        (0.15, 0.0, 1500, False),
        (0.60, 0.0, 1500, True),  # delay alone
        (0.30, 0.045, 1500, False),
        (0.35, 0.045, 1500, True),  # together
        (0.35, 0.045, 66, False),  # of three lost packets nobody knows
    ],
)
def test_a_score_below_three_point_six(delay, share, requests, bad):
    assert is_bad(Run(0, requests, share, mouth_to_ear=delay)) is bad


# --- the last runs ---

WORLDS = {
    "nothing": ([FINE] * 3, None, False),
    "the other dress passes": ([replace(POOR, pairs=(worse("dress"),))] * 3, TARGETED, True),
    "TCP to the site and UDP elsewhere pass": (
        [replace(POOR, pairs=(worse("tcp"), worse("twin")))] * 3,
        TARGETED,
        True,
    ),
    "the relays have a full queue": (
        [FINE, *[replace(POOR, rtt=0.09, rtt_min=0.08, pairs=(worse("tcp"), worse("twin")))] * 3],
        PATH,
        False,
    ),
    "the relays stall now and then": (
        [replace(POOR, rtt_p95=0.3, pairs=(worse("tcp"), twin_with_tail()))] * 3,
        PATH,
        False,
    ),
    "their answers are late and not lost": (
        [replace(POOR, loss_ratio=0.05, pairs=(worse("tcp"), worse("twin")))] * 3,
        PATH,
        False,
    ),
    "all UDP is bad on this line": (
        [replace(POOR, pairs=(worse("tcp"), alike("twin")))] * 3,
        GENERAL,
        True,
    ),
    "the way to the operator is bad": (
        [replace(POOR, pairs=(alike("tcp"), worse("twin")))] * 3,
        PATH,
        True,
    ),
    "nobody asked the site over TCP": ([replace(POOR, pairs=(worse("twin"),))] * 3, PATH, False),
    "a stranger's server only": ([replace(POOR, pairs=(worse("stun"),))] * 3, PATH, False),
    "and TCP passes": ([replace(POOR, pairs=(worse("tcp"), worse("stun")))] * 3, PATH, False),
    "everything is bad": ([replace(POOR, pairs=(alike("twin"), alike("tcp")))] * 3, GENERAL, True),
    "no control": ([POOR] * 3, None, False),
}


@pytest.mark.parametrize(("runs", "mechanism", "firm"), WORLDS.values(), ids=WORLDS)
def test_what_decides(runs, mechanism, firm):
    heard = hear(runs)
    assert (heard.mechanism, heard.firm) == (mechanism, firm)
    assert heard.bad is (runs[-1] is not FINE)


@pytest.mark.parametrize(
    ("last", "targeted"),
    [("w", False), ("ww", True), ("w-w", True), ("w--w", False), ("ww--", False), ("-ww", True)],
)
def test_two_of_the_last_three(last, targeted):
    singled = replace(POOR, pairs=(worse("dress"),))
    runs = [singled if mark == "w" else FINE for mark in last]
    assert hearing.targeted(runs, 0.06) is targeted


@pytest.mark.parametrize(
    ("tcp", "targeted"),
    [
        (Pair("tcp", True, 4.0, 240, 0.02), True),
        (Pair("tcp", False, 1.0, 240, 0.02), True),  # counts, not how one run was called
        (Pair("tcp", True, 4.0, 30, 0.0), False),  # too few
        (Pair("tcp", True, 4.0, 240, 0.13), False),
        (Pair("tcp", True, 4.0, 240, 0.07), False),  # half of the links there are bad
    ],
)
def test_tcp_to_the_site_must_be_clean(tcp, targeted):
    assert hearing.targeted([replace(POOR, pairs=(tcp, worse("twin")))] * 2, 0.06) is targeted


def test_tcp_in_one_run_is_not_enough():
    runs = [
        replace(POOR, pairs=(worse("twin"),)),
        replace(POOR, pairs=(worse("tcp"), worse("twin"))),
    ]
    assert not hearing.targeted(runs, 0.06)
    assert hearing.targeted([*runs, runs[-1]], 0.06)


def test_tcp_alone_says_how_the_site_is():
    ran = replace(POOR, pairs=(worse("tcp"),))
    assert hearing.clean_over_tcp([ran, ran])
    assert not hearing.targeted([ran, ran], 0.06)
    assert not hearing.clean_over_tcp([POOR, POOR])


def test_nothing_ran():
    assert hear([]) == Heard(None)


@pytest.mark.parametrize(
    ("companions", "limited"),
    [
        ([(30, 0.0)], False),  # of thirty packets none is bad by chance in one of 130 cases
        ([(30, 0.0)] * 2, True),
        ([(30, 1 / 30)] * 3, True),
        ([(30, 0.15)] * 3, False),
        ([(30, 3 / 30)] * 3, False),
        ([(0, 0.0)] * 3, False),
    ],
)
def test_rate_limits(companions, limited):
    """The faster the worse, at the same place: and nobody is accused, whatever the pairs say."""
    runs = [
        replace(POOR, pairs=(worse("dress"),), companion_requests=n, companion_bad_ratio=share)
        for n, share in companions
    ]
    assert hearing.rate_limited(runs) is limited
    assert (hear(runs).mechanism is LIMITED) is limited


@pytest.mark.parametrize(
    ("dispersion", "limited"), [(0.05, True), (0.0, True), (0.8, False), (None, False)]
)
def test_a_fixed_number_a_second(dispersion, limited):
    pairs = (worse("tcp"), worse("twin"))
    runs = [replace(POOR, pairs=pairs, dispersion=dispersion)] * 2
    assert hearing.rate_limited(runs) is limited
    assert hear(runs).mechanism is (LIMITED if limited else TARGETED)


def test_a_slow_line_is_no_limit_of_the_server():
    runs = [replace(POOR, pairs=(alike("twin"),), dispersion=0.05)] * 3
    assert hear(runs).mechanism is GENERAL


def test_one_way():
    runs = [replace(POOR, only=only) for only in ("up", "", "up")]
    assert hear(runs).only == "up"
    assert hear([*runs, replace(POOR, only="down")]).only == ""


def test_a_slow_drift_is_found_and_chance_is_not():
    def ran(z: float) -> Run:
        return replace(
            FINE, pairs=(Pair("tcp", False, z, 1500, 0.02), Pair("twin", False, 3, 9, 0))
        )

    assert not hearing.drifting([ran(1.0)] * 19)
    assert hearing.drifting([ran(1.0)] * 21)
    assert not hearing.drifting([ran(z) for z in (2, -2, 1, -1, 0)] * 40)
    assert cusum([12, -20, 1]) == 0.5


@given(st.lists(st.floats(-6, 6), max_size=30))
def test_cusum_is_never_below_zero(differences):
    assert 0 <= cusum(differences) <= sum(abs(z) for z in differences)


# --- from an observation ---


def test_a_run_from_the_facts_of_an_observation():
    good = [Packet(n / 50, 0.05, 1, n) for n in range(1500)]
    poor = [Packet(n / 50, *((None, 0, None) if n % 7 == 0 else (0.05, 1, n))) for n in range(1500)]
    facts = {
        **quality.facts(quality.quality(poor, 0.02)),
        **quality.facts(quality.quality(good, 0.02), "twin_"),
        **paired.facts(paired.compare(poor, good, 0.02), "twin_"),
        **quality.facts(quality.quality(good[::50], 0.02), "companion_"),
        "one_way": "up",
    }
    run = run_of(7.0, facts)
    assert run is not None
    assert (run.at, run.requests, run.bad_ratio) == (7.0, 1500, pytest.approx(215 / 1500, abs=1e-5))
    assert run.mouth_to_ear == pytest.approx(0.115)
    assert (run.companion_requests, run.companion_bad_ratio, run.only) == (30, 0, "up")
    assert run.pairs == (
        Pair("twin", True, pytest.approx(5.477, abs=0.01), 1500, 0.0, 0.05, 0.05, 0.05),
    )
    assert (run.rtt, run.rtt_min) == (0.05, 0.05)
    assert is_bad(run)


@pytest.mark.parametrize("facts", [{}, {"requests": 0}, {"requests": 5}])
def test_what_says_nothing_is_no_run(facts):
    assert run_of(0, facts) is None
