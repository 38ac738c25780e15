"""From runs to figures, and over the pipe."""

from __future__ import annotations

import asyncio
import pickle
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.feed import DURATION_BUCKETS, TargetFigures, Update, record
from exporters.framing import read_frame, write_frame
from exporters.histogram import Histogram
from exporters.mirror import Mirror
from probes.model import Failure, Status, Step, StepResult
from tests.exporters.building import AT, RELAY, diagnosis, observation, report, update


def figures() -> TargetFigures:
    return TargetFigures(RELAY, "", "captured")


def test_a_run_with_two_addresses_is_one_run_and_two_observations():
    of = figures()
    bad = observation(failure=Failure.TIMEOUT, sent=5, received=0)
    good = replace(observation(sent=5, received=5, rtt_seconds=0.03, family="ipv6"), at=AT + 3)
    record(of, (bad, good), good)
    assert (of.runs, of.sent, of.received) == (1, 10, 5)
    assert of.failures == {(Step.EXCHANGE, Failure.TIMEOUT): 1}
    assert (of.family, of.rtt, of.last_run) == ("ipv6", 0.03, AT + 3)
    assert of.steps == {Step.CONNECT: 0.01, Step.EXCHANGE: 0.0234567}


def test_packets_that_another_target_asked_for_count_there():
    of = figures()
    shared = observation(sent=5, received=5, shared=True)
    record(of, (shared,), shared)
    assert (of.runs, of.sent, of.received) == (1, 0, 0)


def test_an_rtt_that_was_not_measured_is_none():
    of = figures()
    record(of, (observation(rtt_seconds=0.03),), observation(rtt_seconds=0.03))
    record(of, (observation(),), observation())
    assert of.rtt is None


def handshake(seconds: float, failure: Failure | None = None, *, partial: bool = False):
    steps = [StepResult(Step.CONNECT, seconds)]
    if not partial:
        steps.append(StepResult(Step.TLS, seconds, failure))
    return replace(observation(), steps=tuple(steps), partial=partial)


def test_between_handshakes_the_last_handshakes_step_stands():
    of = figures()
    for seen in (handshake(1.0), handshake(2.0, partial=True)):
        record(of, (seen,), seen)
    assert of.steps == {Step.CONNECT: 2.0, Step.TLS: 1.0}
    dead = replace(
        handshake(3.0, partial=True),
        steps=(StepResult(Step.CONNECT, 10.0, Failure.TIMEOUT),),
    )
    record(of, (dead,), dead)
    assert of.steps == {Step.CONNECT: 10.0}


def test_the_certificates_end_is_kept_also_when_the_handshake_failed_on_it():
    of = figures()
    expired = observation(failure=Failure.EXPIRED, certificate_not_after=AT - 1)
    record(of, (expired,), expired)
    assert of.certificate_expiry == AT - 1


@given(st.lists(st.floats(0, 100), max_size=30))
def test_histograms_count_everything_once(values):
    of = Histogram(DURATION_BUCKETS)
    for value in values:
        of.observe(value)
    assert sum(of.counts) == len(values)
    assert of.total == pytest.approx(sum(values))
    for index, bound in enumerate(DURATION_BUCKETS):
        assert sum(of.counts[: index + 1]) == sum(value <= bound for value in values)


def test_the_mirror_keeps_what_an_update_leaves_out():
    mirror = Mirror()
    mirror.apply(update(), 1.0)
    mirror.apply(Update(update().agent), 2.0)
    assert mirror.report is not None
    assert len(mirror.targets) == 3
    assert mirror.titles == {"m": "Messy"}
    assert (mirror.changed, mirror.heard) == (2, 2.0)
    assert not mirror.ready


def test_a_report_of_some_channels_leaves_the_others_as_they_were():
    mirror = Mirror()
    mirror.apply(update(), 1.0)
    before = {(d.messenger, d.channel): d for d in mirror.diagnoses}
    assert len(before) == 2
    changed = diagnosis(status=Status.OK)
    key = (changed.messenger, changed.channel)
    mirror.apply(Update(update().agent, report=report(changed)), 2.0)
    assert {(d.messenger, d.channel): d for d in mirror.diagnoses} == {**before, key: changed}
    mirror.apply(Update(update().agent, report=replace(report(), diagnoses=())), 3.0)
    assert len(mirror.diagnoses) == 2, "a heartbeat has none"


def test_after_a_reset_only_what_came_with_it_is_there():
    mirror = Mirror()
    mirror.apply(update(), 1.0)
    mirror.apply(update(report=report(diagnosis(channel="web")), targets={}), 2.0)
    assert [d.channel for d in mirror.diagnoses] == ["web"]
    assert mirror.targets == {}


# --- frames ----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_frames_arrive_as_they_were_sent_however_they_are_cut(frames, size):
    class Writer:
        data = b""

        def write(self, data: bytes) -> None:
            self.data += data

    writer = Writer()
    for frame in frames:
        write_frame(writer, frame)  # type: ignore[arg-type]

    async def read() -> list[bytes | None]:
        reader = asyncio.StreamReader()
        for start in range(0, len(writer.data), size):
            reader.feed_data(writer.data[start : start + size])
        reader.feed_eof()
        return [await read_frame(reader) for _ in range(len(frames) + 1)]

    assert asyncio.run(read()) == [*frames, None]


async def test_a_frame_that_is_cut_off_is_none():
    for data in (b"", b"\x00\x00", b"\x00\x00\x00\x05abc"):
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        assert await read_frame(reader) is None


async def test_a_whole_state_goes_over_a_socket_pair():
    ours, theirs = socket.socketpair()
    (_, writer), (reader, other) = [await asyncio.open_connection(sock=s) for s in (ours, theirs)]
    sent = update()
    write_frame(writer, pickle.dumps(sent))
    frame = await read_frame(reader)
    assert frame is not None
    assert pickle.loads(frame) == sent
    for one in (writer, other):
        one.close()
        await one.wait_closed()
