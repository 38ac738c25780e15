"""The reflector's ping: the layout of the captures, and what may come back instead."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import reflector
from probes.wire.error import WireError
from probes.wire.reflector import Answer, ping, read_answer

TAG = bytes(range(16))
QUERY = bytes.fromhex("000000000000007b")  # 123, big-endian: the constant of tgcalls
CLOCK, PORT = 1_588_766_400, 40_123
ANSWER = (
    TAG
    + b"\xff" * 12
    + bytes.fromhex("c77215c0")
    + struct.pack("<I", CLOCK)
    + QUERY
    + bytes(10)
    + b"\xff\xff\xc6\x33\x64\x07"
    + struct.pack("<I", PORT)
)


def failure(data: bytes) -> Failure:
    with pytest.raises(WireError) as caught:
        read_answer(data, TAG, QUERY)
    return caught.value.failure


def test_the_ping_is_the_one_of_the_clients() -> None:
    made = ping(TAG, QUERY)
    assert made.hex() == (
        "000102030405060708090a0b0c0d0e0f" + "ff" * 12 + "feffffff" + "000000000000007b"
    )
    assert len(made) == reflector.PING == 40
    # By a run of exactly twelve such bytes nDPI knows it.
    assert [len(run) for run in re.findall(rb"\xff{4,}", made)] == [12]


@pytest.mark.parametrize(("tag", "query"), [(TAG[1:], QUERY), (TAG, QUERY + b"x")])
def test_a_ping_of_another_size_is_our_bug(tag: bytes, query: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        ping(tag, query)


def test_the_answer() -> None:
    assert len(ANSWER) == reflector.ANSWER == 64
    assert int.from_bytes(ANSWER[28:32], "little") == 0xC01572C7
    assert read_answer(ANSWER, TAG, QUERY) == Answer(CLOCK, ("198.51.100.7", PORT))
    assert reflector.answers(ANSWER, QUERY)
    assert not reflector.answers(ANSWER, QUERY[:-1] + b"\0")


def test_an_ipv6_client() -> None:
    address = bytes.fromhex("20010db8") + bytes(11) + b"\x07"
    told = read_answer(ANSWER[:44] + address + ANSWER[60:], TAG, QUERY)
    assert told.mapped[0] == "2001:db8::7"


PEER_INFO = TAG + b"\xff" * 12 + bytes.fromhex("1c37d927") + bytes(16)
"""What a ping of the other kind gets, and ours does not."""


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", Failure.TRUNCATED),
        (ANSWER[:20], Failure.TRUNCATED),
        (ANSWER[:63], Failure.TRUNCATED),
        (ANSWER + b"\0", Failure.OVERSIZED),
        (ANSWER + bytes(60_000), Failure.OVERSIZED),
        (bytes(16) + ANSWER[16:], Failure.WRONG_ID),
        (ANSWER[:36] + bytes(8) + ANSWER[44:], Failure.WRONG_ID),
        (ping(TAG, QUERY), Failure.BAD_REPLY),
        (PEER_INFO, Failure.BAD_REPLY),
        (bytes.fromhex("0101000c2112a442") + bytes(40), Failure.BAD_REPLY),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Failure.BAD_REPLY),
        (bytes(64), Failure.BAD_REPLY),
        (b"\xff" * 64, Failure.BAD_REPLY),
    ],
)
def test_each_misbehaviour_has_its_word(data: bytes, word: Failure) -> None:
    assert failure(data) is word


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(WireError):
        read_answer(data, TAG, QUERY)


@given(st.data())
def test_damaged_answers(mutated, data) -> None:
    changed = data.draw(mutated(ANSWER))
    try:
        told = read_answer(changed, TAG, QUERY)
    except WireError:
        return
    assert len(changed) == 64
    assert changed[:32] + changed[36:44] == ANSWER[:32] + ANSWER[36:44]
    assert 0 <= told.clock < 1 << 32
