"""What agent and engine tell each other: nothing is lost on the way, and nonsense is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import engineframes as frames
from agent.engineframes import Gathering, Play, Stop, decode_order, encode_play, encode_stop
from probes.model import Failure
from probes.net.address import Source
from probes.net.streams import Received, Send, Stream

SENDS = st.lists(st.builds(Send, st.floats(0, 1000), st.binary(max_size=40)), max_size=8).map(tuple)
STREAMS = st.lists(
    st.builds(
        Stream,
        st.sampled_from(["192.0.2.1", "2001:db8::1"]),
        st.integers(1, 65535),
        SENDS,
        st.floats(0, 1000),
        st.text(max_size=5),
    ),
    max_size=4,
)


@given(STREAMS, st.booleans(), st.sampled_from([Source(), Source("192.0.2.9"), Source("", "eth0")]))
def test_an_order_arrives_as_it_was_given(
    streams: list[Stream], watched: bool, source: Source
) -> None:
    play = decode_order(encode_play(77, streams, source, watched))
    assert isinstance(play, Play)
    assert (play.number, play.source, play.watched) == (77, source, watched)
    for part, stream in zip(play.parts, streams, strict=True):
        assert (part.address, part.port) == (stream.address, stream.port)
        assert (part.lasts, part.flow) == (stream.lasts, stream.flow)
        in_time = sorted(stream.sends, key=lambda send: send.at)
        assert list(part.ats) == [send.at for send in in_time]
        assert list(part.sizes) == [len(send.data) for send in in_time]
        assert part.data == b"".join(send.data for send in in_time)


def test_a_stop_is_no_play() -> None:
    assert decode_order(encode_stop(5)) == Stop(5)


def test_records_come_together_whatever_frames_they_are_in() -> None:
    """Sent in time's order, told in the order in which they were given."""
    later, sooner = Send(0.5, b"l"), Send(0.1, b"s")
    records = [
        frames.sent(1, 0, 111, 0.25),
        frames.received(1, 115, b"answer"),
        frames.failed(0, Failure.PROHIBITED),
        frames.sent(1, 1, 555, 0.5),
        frames.received(1, 560, b""),
        frames.over(1, 3),
        frames.STEPPED,
        frames.END,
    ]
    streams = [Stream("192.0.2.1", 1, (), 1.0), Stream("192.0.2.1", 2, (later, sooner), 1.0)]
    for cut in range(len(records)):
        gathering = Gathering(streams)
        for chunk in (records[:cut], records[cut:]):
            frame = bytes(frames.records_of(9)) + b"".join(chunk)
            assert frames.number_of(frame) == 9
            over = gathering.add(frame)
        assert over
        empty, full = gathering.played()
        assert empty.failures == (Failure.PROHIBITED,)
        assert (full.sent, full.late) == ((555, 111), (0.5, 0.25))
        assert full.received == (Received(115, b"answer"), Received(560, b""))
        assert (full.overflowed, full.stepped, empty.stepped) == (3, True, True)


@pytest.mark.parametrize(
    "records",
    [b"\x09", frames.sent(0, 0, 1, 0.0)[:-1], frames.sent(3, 0, 1, 0.0), frames.sent(0, 3, 1, 0.0)],
)
def test_nonsense_is_refused(records: bytes) -> None:
    gathering = Gathering([Stream("192.0.2.1", 1, (Send(0.0, b"x"),), 1.0)])
    with pytest.raises((ValueError, IndexError, struct.error)):
        gathering.add(bytes(frames.records_of(1)) + records)
