"""Figures of streams: standards' own examples, and whatever a path may do."""

from __future__ import annotations

import math
import random
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.wire import quality as q
from probes.wire.quality import Packet, facts, quality

RTT = 0.05


def stream(marks: str, interval: float = 0.02, rtt: float = RTT) -> list[Packet]:
    """``1`` answered, ``0`` lost, ``X`` answered too late; in order of sending."""
    packets, rank = [], 0
    for n, mark in enumerate(marks):
        if mark == "0":
            packets.append(Packet(n * interval, None, 0, None))
            continue
        packets.append(Packet(n * interval, rtt + (0.3 if mark == "X" else 0.0), 1, rank))
        rank += 1
    return packets


def arriving(order: list[int], rtts: dict[int, float] | None = None) -> list[Packet]:
    """Answers in this order of their requests' numbers."""
    return [
        Packet(n * 0.02, (rtts or {}).get(n, RTT), 1, order.index(n)) for n in range(len(order))
    ]


# --- loss, lateness ---


def test_lost_and_late():
    seen = quality(stream("11X0111111"), 0.02)
    assert (seen.requests, seen.answered, seen.bad_packets) == (10, 9, 2)
    assert (seen.lost, seen.bad, seen.late) == (0.1, 0.2, (0.1, 0.1, 0.1))
    assert (seen.first_loss, seen.last_answered) == (pytest.approx(0.06), pytest.approx(0.18))


@pytest.mark.parametrize(
    ("excess", "late"),
    [(0.039, (0, 0, 0)), (0.041, (1, 0, 0)), (0.061, (1, 1, 0)), (0.201, (1, 1, 1))],
)
def test_buffers(excess, late):
    packets = [Packet(0, RTT, 1, 0), Packet(0.02, RTT + excess, 1, 1)]
    assert quality(packets, 0.02).late == tuple(x / 2 for x in late)


def test_copies_are_counted_by_packet():
    packets = [Packet(0, RTT, 3, 0), Packet(0.02, RTT, 1, 1), Packet(0.04, None, 0, None)]
    assert quality(packets, 0.02).duplicated == 0.5


# --- order: RFC 4737 ---


@pytest.mark.parametrize(
    ("order", "late", "extent"),
    [
        ([0, 1, 2, 3], 0, 0),
        ([0, 2, 1, 3], 1, 1),
        # Section 4.2.2's kind of example: 4 comes three places after 5, which overtook it.
        ([0, 1, 2, 4, 5, 6, 3, 7], 1, 3),
        ([3, 2, 1, 0], 3, 3),
    ],
)
def test_reordering(order, late, extent):
    seen = quality(arriving(order), 0.02)
    assert (seen.reordered, seen.reorder_extent) == (late / len(order), extent)


def test_reordering_after_a_loss():
    packets = [Packet(0, 0.3, 1, 1), Packet(0.02, None, 0, None), Packet(0.04, RTT, 1, 0)]
    assert quality(packets, 0.02).reordered == 0.5


# --- RTT ---


def test_round_trips():
    packets = arriving(list(range(100)), {n: (n + 1) / 1000 for n in range(100)})
    seen = quality(packets, 0.02)
    assert seen.rtt_min == 0.001
    assert seen.rtt_median == pytest.approx(0.0505)
    assert (seen.rtt_p95, seen.rtt_p99) == (0.095, 0.099)
    assert seen.rtt_mean == pytest.approx(0.0505)
    assert seen.pdv == pytest.approx(0.094)


def test_jitter_is_that_of_rfc_3550():
    """Of a difference that stays at d it comes to d: after n to 1 - (15/16)**n of it."""
    packets = arriving(list(range(33)), {n: RTT + 0.016 * (n % 2) for n in range(33)})
    assert quality(packets, 0.02).jitter == pytest.approx(0.016 * (1 - (15 / 16) ** 32))


# --- bursts: RFC 3611 ---

EXAMPLE = "11110111111111111111111X111X1011110111111111111111111X111111111"
"""Section 4.7.2's: a burst of the twelve packets from the first late one to the last lost one."""


def test_the_example_of_rfc_3611():
    bursts = quality(stream(EXAMPLE, 0.010), 0.01).bursts
    assert bursts is not None
    assert bursts.burst_seconds == pytest.approx(0.120)
    assert bursts.burst_density == pytest.approx(0.33, abs=0.005)
    assert bursts.gap_seconds == pytest.approx((0.230 + 0.280) / 2)
    assert bursts.gap_density == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize(
    ("marks", "density"),
    [
        ("0" + "1" * 15 + "0" + "1" * 20, 2 / 17),  # 15 good ones between do not end a burst
        ("0" + "1" * 16 + "0" + "1" * 20, 0.0),  # 16 do: two losses in one gap
        ("1" * 20 + "0", 0.0),  # the end stands for good packets
        ("1" * 40, 0.0),
        ("00", 1.0),
    ],
)
def test_gmin(marks, density):
    bursts = quality(stream(marks), 0.02).bursts
    assert bursts is not None
    assert bursts.burst_density == pytest.approx(density)
    assert (bursts.gap_density is None) == (marks == "00")


def test_burst_ratio():
    assert quality(stream("1" * 16 + "0000"), 0.02).burst_ratio == pytest.approx(4 * 0.8)
    assert quality(stream("1" * 20), 0.02).burst_ratio == 1.0
    rng = random.Random(1)
    marks = "".join("01"[rng.random() > 0.1] for _ in range(20_000))
    assert quality(stream(marks), 0.02).burst_ratio == pytest.approx(1, abs=0.05)


def test_worst_200_ms():
    assert quality(stream("1" * 20 + "0011000" + "1" * 20), 0.02).worst == 0.5
    assert quality(stream("1" * 20 + "00" + "1" * 20, 0.06), 0.06).worst == pytest.approx(2 / 3)
    assert quality(stream("1" * 20 + "00" + "1" * 20, 1.0), 0.06).worst is None


# --- silence ---


def test_longest_gap():
    assert quality(stream("11110000111"), 0.02).longest_gap == pytest.approx(0.1)
    assert quality(stream("1111" + "0" * 50), 0.02).longest_gap == pytest.approx(0.95)
    assert quality(stream("0" * 50 + "1111"), 0.02).longest_gap == pytest.approx(1.0)
    assert quality(stream("0" * 51), 0.02).longest_gap == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("marks", "interval", "packets"),
    [
        ("1" * 20 + "0" * 10, 1.0, 20),  # after twenty packets, of a keepalive as in check
        ("1" * 10 + "0" * 20, 1.0, 10),  # after ten seconds
        ("1" + "0" * 29, 1.0, 1),
        ("1" * 500 + "0" * 1000, 0.02, 500),
        ("11101110111110111111" + "0" * 10, 1.0, 20),  # and single ones before
        ("1" * 27 + "0" * 3, 1.0, None),  # three in a row may be anything
        ("1" * 1400 + "0" * 100, 0.02, None),  # two seconds: a phone changes its cell
        ("1" * 20 + ("0" * 12 + "1" * 20) * 3 + "0" * 13, 1.0, None),  # it comes and goes
        ("0" * 30, 1.0, None),  # it never spoke
        ("1" * 30, 1.0, None),
    ],
)
def test_silent_after(marks, interval, packets):
    seen = quality(stream(marks, interval), 0.02)
    assert seen.silent_after_packets == packets
    assert seen.silent_after == (None if packets is None else (packets - 1) * interval)


@pytest.mark.parametrize(
    ("interval", "share", "run", "at_most"),
    [
        (1.0, 0.15, 1, 0),
        (1.0, 0.5, 1, 1),
        (1.0, 0.3, 3, 4),
        # Outages of ten seconds look like an end when none came before: rules ask for it again.
        (1.0, 0.15, 10, 20),
        (0.02, 0.15, 1, 0),
        (0.02, 0.5, 1, 0),
        (0.02, 0.15, 10, 0),
        (0.02, 0.15, 40, 1),
    ],
)
def test_random_loss_is_not_silence(interval, share, run, at_most):
    """Gilbert's two states; streams of two minutes, or of thirty seconds."""
    rng = random.Random(7)
    silent = 0
    for _ in range(400 if interval == 1.0 else 50):
        lost, marks = False, []
        for _ in range(120 if interval == 1.0 else 1500):
            enter = share / (run * (1 - share)) if run > 1 else share
            lost = rng.random() < ((1 - 1 / run) if lost and run > 1 else enter)
            marks.append("0" if lost else "1")
        silent += quality(stream("".join(marks), interval), 0.02).silent_after is not None
    assert silent <= at_most


@pytest.mark.parametrize(
    ("marks", "low", "high"),
    [
        ("".join(random.Random(2).choices("01", (1, 4), k=1500)), 0.6, 1.5),
        ("01111" * 300, 0, 0.01),  # a limit: ten of fifty, every second
        ("1" * 500 + "01111" * 200, 0, 0.01),  # one that lets a beginner pass for a while
        (("0" * 50 + "1" * 200) * 6, 20, 60),
    ],
)
def test_dispersion(marks, low, high):
    assert low <= quality(stream(marks), 0.02).dispersion <= high


def test_dispersion_of_few_packets_is_not_known():
    assert quality(stream("01111" * 20, 1.0), 0.02).dispersion is None
    assert quality(stream("1" * 1500), 0.02).dispersion is None


# --- MOS ---


def test_mos_of_a_good_line():
    seen = quality(stream("1" * 500), 0.02)
    assert seen.mouth_to_ear == pytest.approx(0.025 + 0.02 + 0.07)
    assert (seen.loss_one_way, seen.burst_ratio) == (0, 1)
    assert seen.mos_g711 == pytest.approx(4.41, abs=0.01)
    assert seen.mos_opus == pytest.approx(4.23, abs=0.01)


def test_mos_of_one_direction_is_worse_than_of_two():
    packets = stream(("1" * 9 + "0") * 50)
    both, one = quality(packets, 0.02), quality(packets, 0.02, round_trip=False)
    assert both.loss_one_way == pytest.approx(0.0513, abs=1e-4)
    assert one.loss_one_way == pytest.approx(0.1)
    assert both.mos_g711 > one.mos_g711 == pytest.approx(3.41, abs=0.02)


def test_nothing_answered_has_no_mos():
    named = facts(quality(stream("0" * 30), 0.02))
    assert (named["loss_ratio"], named["bad_ratio"]) == (1, 1)
    assert not {n for n in named if n.startswith(("mos", "rtt", "jitter", "mouth", "late"))}


# --- whatever comes ---

seconds = st.floats(0, 1e6, allow_nan=False)
packets = st.builds(
    Packet,
    sent=st.floats(-1e6, 1e6, allow_nan=False),
    rtt=st.none() | seconds,
    copies=st.integers(0, 9),
    rank=st.none() | st.integers(0, 50),
)
lists = st.lists(packets, max_size=40)


@given(lists, st.floats(0, 1), st.booleans())
def test_any_list_has_figures_within_their_bounds(given_packets, ptime, round_trip):
    seen = quality(given_packets, ptime, round_trip=round_trip)
    named = facts(seen)
    for name, value in named.items():
        assert (math.isfinite(value) and value >= 0) or name in PLACES, name
        if (name.endswith("_ratio") and name != "burst_ratio") or name.endswith("_density"):
            assert 0 <= value <= 1, name
        if name.startswith("mos"):
            assert 1 <= value <= 4.5
    assert seen.answered + round((seen.lost or 0) * seen.requests) == seen.requests
    if seen.late is not None:
        late, bad = seen.late, seen.bad or 0
        assert late[0] >= late[1] >= late[2]
        assert bad == pytest.approx((seen.lost or 0) + late[1])
        assert seen.rtt_min <= seen.rtt_median <= seen.rtt_p99
    assert (seen.mos_g711 is None) == (seen.answered == 0)


PLACES = {"first_loss_seconds", "last_answered_seconds", "silent_after_seconds"}
"""When something was sent, which may be anywhere on the clock."""


@given(lists)
def test_facts_name_what_is_known(given_packets):
    seen = quality(given_packets, 0.02)
    named = facts(seen, "control_")
    assert all(name.startswith("control_") for name in named)
    unknown = sum(v is None for k, v in asdict(seen).items() if k != "late") and not given_packets
    assert named == {"control_requests": 0, "control_answered": 0} if unknown else named


def test_no_packets():
    assert facts(quality([], 0.02)) == {"requests": 0, "answered": 0}


def test_the_names_of_the_facts():
    assert set(facts(quality(stream("1" * 20 + "0" * 30 + "1" * 9), 0.02))) == {
        *("requests", "answered", "loss_ratio", "bad_ratio"),
        *("late_40ms_ratio", "late_60ms_ratio", "late_200ms_ratio"),
        *("duplicate_ratio", "reordered_ratio", "rtt_seconds", "rtt_min_seconds"),
        *("rtt_p95_seconds", "rtt_p99_seconds", "jitter_seconds", "pdv_seconds"),
        *("longest_gap_seconds", "first_loss_seconds", "last_answered_seconds"),
        *("burst_density", "gap_density", "burst_seconds", "gap_seconds", "burst_ratio"),
        *("worst_200ms_ratio", "mos_g711", "mos_opus"),
        *("mouth_to_ear_seconds", "loss_percent_one_way"),
    }


def test_late_answers_do_not_count_as_first_losses():
    assert quality(stream("1X11"), 0.02).first_loss is None
    assert q.bad_marks(stream("1X01")) == [False, True, True, False]
