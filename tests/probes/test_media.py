"""Media streams: what is sent when, and what comes of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from probes.media import FIRST, MediaProbe
from probes.model import Failure
from probes.net.environment import Beside, Environment
from probes.net.errors import NotMeasured
from probes.net.streams import Stream
from probes.registry import needs_research
from probes.trail import Peer, StepFailed, Trail
from probes.wire import stun
from probes.wire.quality import Quality
from tests.probes.playing import KEY, PlayedStreams

RELAY, TWIN, PUBLIC = "198.51.100.1", "203.0.113.1", "203.0.113.2"
PEER = Peer(RELAY, 3478, "")
OWN = Beside("twin", TWIN, 3478, KEY)
STRANGER = Beside("stun", PUBLIC, 3478)


def play(
    probe: MediaProbe, streams: PlayedStreams, *beside: Beside, **given: Any
) -> tuple[Trail, Failure | None]:
    env = Environment(streams=streams, beside=beside, **given)
    trail = Trail(env)

    async def run() -> None:
        await probe.run(trail, PEER)

    try:
        asyncio.run(run())
    except StepFailed:
        return trail, trail.steps[-1].failure
    return trail, None


def losing(*lost: str, every: int = 5, of: int = 1) -> Callable[[Stream, int, float], float | None]:
    """Every fifth packet to these addresses is lost."""

    def way(stream: Stream, number: int, at: float) -> float | None:
        return None if stream.address in lost and number % every < of else 0.05

    return way


SLOW, FAST = MediaProbe(), MediaProbe(profile="voip20", seconds=10, fast=True)


def by_address(streams: PlayedStreams) -> dict[str, Stream]:
    return {s.address: s for s in reversed(streams.calls[-1])}


def test_a_slow_stream_is_one_question_a_second_each_with_an_id_of_its_own():
    streams = PlayedStreams()
    trail, failure = play(SLOW, streams)
    assert failure is None
    train = streams.calls[0][0]
    assert len(train.sends) == 120
    assert all(n <= send.at < n + 1 for n, send in enumerate(train.sends))
    assert len({send.data[8:20] for send in train.sends}) == 120
    assert train.flow == ""
    assert (trail.facts["requests"], trail.facts["answered"]) == (120, 120)
    assert trail.facts["loss_ratio"] == 0
    assert trail.facts["rtt_seconds"] == pytest.approx(0.05)


def test_beside_it_a_flow_that_stays_open_asks_seldom():
    streams = PlayedStreams()
    trail, _ = play(SLOW, streams)
    (long,) = [s for s in streams.calls[0] if s.flow]
    assert len(long.sends) == 12
    assert trail.facts["long_answered"] == 12


def test_a_fast_train_asks_first_and_is_not_sent_where_nothing_answers():
    streams = PlayedStreams(way=losing(RELAY, every=1))
    trail, failure = play(FAST, streams)
    assert failure is Failure.TIMEOUT
    assert len(streams.calls) == 1
    assert sum(len(s.sends) for s in streams.calls[0]) == 2 * len(FIRST)
    assert "loss_ratio" not in trail.facts


def test_a_fast_train_has_a_voices_pace_and_size():
    streams = PlayedStreams()
    trail, _ = play(FAST, streams)
    train = streams.calls[1][0]
    assert len(train.sends) == 500
    assert {len(send.data) for send in train.sends} == {100}
    assert trail.facts["padded"] is True


def test_where_large_questions_are_not_taken_they_are_small():
    def way(stream: Stream, number: int, at: float) -> float | None:
        return 0.05 if len(stream.sends[number].data) < 100 else None

    streams = PlayedStreams(way=way)
    trail, failure = play(FAST, streams)
    assert failure is None
    assert trail.facts["padded"] is False
    assert {len(send.data) for send in streams.calls[1][0].sends} == {20}


def test_target_and_twin_take_turns_and_neither_is_always_first():
    streams = PlayedStreams(twin_address=TWIN)
    play(FAST, streams, OWN)
    ours, theirs = by_address(streams)[RELAY], by_address(streams)[TWIN]
    assert len(ours.sends) == len(theirs.sends)
    first = [a.at < b.at for a, b in zip(ours.sends, theirs.sends, strict=True)]
    assert sum(first) == len(first) / 2
    assert len({len(list(run)) for _, run in itertools.groupby(first)}) > 1


def test_what_only_the_relay_loses_makes_it_worse_than_the_twin():
    streams = PlayedStreams(way=losing(RELAY), twin_address=TWIN)
    trail, failure = play(FAST, streams, OWN)
    assert failure is Failure.LOSSY
    assert trail.facts["loss_ratio"] == pytest.approx(0.2, abs=0.01)
    assert trail.facts["twin_loss_ratio"] == 0
    assert trail.facts["twin_worse"] is True
    assert trail.facts["twin_p"] < 0.01


def test_what_both_lose_makes_nobody_worse():
    streams = PlayedStreams(way=losing(RELAY, TWIN), twin_address=TWIN)
    trail, failure = play(FAST, streams, OWN)
    assert failure is Failure.LOSSY
    assert trail.facts["twin_worse"] is False


def test_a_control_that_answers_nothing_is_none():
    streams = PlayedStreams(way=losing(TWIN, every=1), twin_address=TWIN)
    trail, failure = play(FAST, streams, OWN)
    assert failure is None
    assert trail.facts["twin_answered"] == 0
    assert "twin_worse" not in trail.facts


def test_a_stranger_is_asked_once_a_second_whatever_the_train():
    streams = PlayedStreams()
    play(FAST, streams, STRANGER)
    assert len(by_address(streams)[PUBLIC].sends) == 10


def test_a_stranger_is_asked_half_as_often_as_a_slow_train():
    streams = PlayedStreams()
    play(SLOW, streams, STRANGER)
    assert len(by_address(streams)[PUBLIC].sends) == 60


def test_without_a_twin_the_same_relay_is_asked_in_another_form():
    def way(stream: Stream, number: int, at: float) -> float | None:
        cookie = stream.sends[number].data[4:8] == stun.MAGIC_COOKIE.to_bytes(4, "big")
        return None if cookie and number % 4 == 0 and len(stream.sends) > 20 else 0.05

    trail, failure = play(FAST, PlayedStreams(way=way), STRANGER)
    assert failure is Failure.LOSSY
    assert trail.facts["dress_loss_ratio"] == 0
    assert trail.facts["dress_worse"] is True


def test_the_companion_tells_a_limit_from_a_loss():
    def way(stream: Stream, number: int, at: float) -> float | None:
        return None if len(stream.sends) == 500 and number % 3 == 0 else 0.05

    trail, failure = play(FAST, PlayedStreams(way=way, twin_address=TWIN), OWN)
    assert failure is Failure.LOSSY
    assert (trail.facts["companion_requests"], trail.facts["companion_answered"]) == (10, 10)


def test_the_twin_says_which_way_packets_were_lost():
    back = lambda stream, number: stream.address == TWIN and number % 2 == 0  # noqa: E731
    trail, _ = play(FAST, PlayedStreams(twin_address=TWIN, lost_back=back), OWN)
    assert trail.facts["twin_up_loss_ratio"] == pytest.approx(0, abs=0.02)
    assert trail.facts["twin_down_loss_ratio"] == pytest.approx(0.5, abs=0.02)
    assert trail.facts["one_way"] == "down"


def test_late_packets_are_as_good_as_lost():
    def way(stream: Stream, number: int, at: float) -> float | None:
        return 0.3 if number % 5 == 0 else 0.05

    trail, failure = play(FAST, PlayedStreams(way=way))
    assert failure is Failure.LOSSY
    assert trail.facts["loss_ratio"] == 0
    assert trail.facts["late_60ms_ratio"] == pytest.approx(0.2)


@pytest.mark.parametrize("fault", [{"late": 0.5}, {"overflowed": 1}])
def test_a_run_that_this_host_disturbed_is_none(fault):
    with pytest.raises(NotMeasured, match="probe_fault"):
        play(FAST, PlayedStreams(**fault))


def test_without_an_engine_nothing_is_measured():
    with pytest.raises(NotMeasured, match="no_engine"):
        asyncio.run(MediaProbe().run(Trail(Environment()), PEER))


def test_answers_that_are_none_of_ours_say_so():
    class Strange(PlayedStreams):
        def _answer(self, twin, stream, data, now):
            return b"\x01\x01" + bytes(30)

    _, failure = play(SLOW, Strange())
    assert failure is Failure.BAD_REPLY


def test_a_watcher_sees_figures_of_every_stream():
    shown: list[dict[str, Quality]] = []
    play(FAST, PlayedStreams(twin_address=TWIN), OWN, watch=lambda it: shown.append(dict(it)))
    assert set(shown[-1]) == {"target", "control", "companion", "long"}
    assert shown[-1]["target"].requests == 500


def test_a_watcher_sees_a_stream_that_is_held_against_nothing():
    shown: list[dict[str, Quality]] = []
    play(SLOW, PlayedStreams(), watch=lambda it: shown.append(dict(it)))
    assert set(shown[-1]) == {"target", "long"}


def test_what_leaves_our_address_in_no_fact():
    trail, _ = play(SLOW, PlayedStreams())
    assert trail.mapped == "198.51.100.7"
    assert "198.51.100.7" not in str(trail.facts)


def test_bytes_and_packets_are_counted():
    trail, _ = play(SLOW, PlayedStreams())
    assert trail.facts["sent"] == trail.facts["received"] == 132
    assert trail.env.traffic.sent == 132 * 48


@pytest.mark.parametrize("seconds", [1, 301, -1])
def test_lengths_have_bounds(seconds):
    with pytest.raises(ValueError, match="seconds"):
        MediaProbe(seconds=seconds)


@pytest.mark.parametrize("spacing", [0.01, 11, -1])
def test_paces_have_bounds(spacing):
    with pytest.raises(ValueError, match="spacing"):
        MediaProbe(spacing=spacing)


def test_a_pace_of_its_own_is_no_way_round_the_leave_for_a_voices_rate():
    with pytest.raises(ValueError, match="fast"):
        MediaProbe(spacing=0.02, fast=True)
    hurried = MediaProbe(seconds=12, spacing=0.1)
    assert hurried.stream_packets[1] == 10
    assert not needs_research(hurried)


def test_a_slow_stream_in_a_hurry_is_the_same_in_less_time():
    streams = PlayedStreams()
    trail, failure = play(MediaProbe(seconds=12, spacing=0.1), streams, STRANGER)
    assert failure is None
    train, control = (by_address(streams)[address] for address in (RELAY, PUBLIC))
    assert (len(train.sends), len(control.sends)) == (120, 60)
    assert max(send.at for send in train.sends) < 12
    assert trail.facts["requests"] == 120


def test_a_voices_pace_is_for_research_and_the_plan_knows_its_packets():
    assert not needs_research(SLOW)
    assert needs_research(FAST)
    packets, rate = FAST.stream_packets
    streams = PlayedStreams()
    play(FAST, streams)
    asked = sum(len(s.sends) for call in streams.calls for s in call if s.address == RELAY)
    assert asked <= packets
    assert rate == 50
