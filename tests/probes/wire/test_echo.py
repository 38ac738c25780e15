"""The latency ping of voice servers: the bytes of the captures, and what may come back instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire.echo import ping, read_answer
from probes.wire.error import WireError

HEADER = bytes.fromhex("1337cafe")
PINGS = [ping(HEADER, counter) for counter in range(0xFFFFFFFE, 0x100000003)]


def test_the_ping_is_the_captures_and_its_counter_runs_over() -> None:
    assert ping(HEADER, 1).hex() == "1337cafe01000000"
    assert PINGS[1].hex() == "1337cafeffffffff"
    assert PINGS[2].hex() == "1337cafe00000000"


def test_each_ping_is_known_when_it_comes_back() -> None:
    assert [read_answer(sent, PINGS) for sent in PINGS] == list(range(5))


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"", Failure.TRUNCATED),
        (PINGS[3][:7], Failure.TRUNCATED),
        (PINGS[3] + b"\0", Failure.OVERSIZED),
        (ping(HEADER, 9), Failure.WRONG_ID),
        (b"\x13\x37\xca\xff" + PINGS[0][4:], Failure.BAD_REPLY),
        (b"HTTP/1.1 400", Failure.BAD_REPLY),
        (b"\xff", Failure.BAD_REPLY),
    ],
)
def test_what_else_comes_has_its_word(data: bytes, failure: Failure) -> None:
    with pytest.raises(WireError) as caught:
        read_answer(data, PINGS)
    assert caught.value.failure is failure


@given(st.binary(max_size=64) | st.binary(max_size=8).map(HEADER.__add__))
def test_whatever_comes_is_one_of_ours_or_an_error(data: bytes) -> None:
    try:
        assert PINGS[read_answer(data, PINGS)] == data
    except WireError:
        assert data not in PINGS
