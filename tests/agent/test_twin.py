"""What the twin answers to whom, and that no flood makes it grow."""

from __future__ import annotations

import os
import sys

import pytest

from agent import twin as server
from agent.twin import Allowance, Twin, source_of
from probes.wire import stun, twin
from probes.wire.twin import Request

KEY, OTHER = bytes(32), bytes(31) + b"\1"
NOW = 1_795_516_000.0
ME, STRANGER = "192.0.2.1", "198.51.100.9"


def request(
    number: int = 0, flow: int = 1, *, key: bytes = KEY, at: float = NOW, size: int = 20
) -> bytes:
    return twin.sealed_request(os.urandom(size), 8, key, Request(flow, number, 8), at)


def binding() -> bytes:
    return stun.binding_request(stun.Dress.BARE, os.urandom(12), bytes(32))


def received(answer: bytes | None, flow: int = 1) -> int:
    assert answer is not None
    return twin.read_answer(answer, KEY, flow, 8, NOW).received


@pytest.fixture
def desk() -> Twin:
    return Twin(KEY)


def test_requests_are_counted_and_answered_with_the_count(desk):
    counts = [received(desk.answer(request(n), ME, 1, NOW + n)) for n in (0, 2, 1)]
    assert counts == [1, 2, 3]
    assert received(desk.answer(request(0, flow=2), ME, 1, NOW), 2) == 1


@pytest.mark.parametrize("size", [20, 21, 96, 548, 1400])
def test_no_answer_is_larger_than_its_request(desk, size):
    answer = desk.answer(request(size=size), ME, 1, NOW)
    assert answer is not None
    assert len(answer) == size


def test_a_request_is_answered_once(desk):
    captured = request(5)
    assert desk.answer(captured, ME, 1, NOW)
    assert desk.answer(captured, ME, 1, NOW + 1) is None
    assert desk.answer(captured, STRANGER, 9, NOW + 2) is None
    assert received(desk.answer(request(6), ME, 1, NOW + 3)) == 2
    assert desk.counts == {"echo": 2, "replayed": 2}


def test_a_captured_request_never_holds_again(desk):
    """Neither while its flow is remembered nor after it was forgotten."""
    captured = request(5)
    assert desk.answer(captured, ME, 1, NOW)
    for later in range(1, 1200, 7):
        desk.answer(request(0, flow=1000 + later, at=NOW + later), ME, 1, NOW + later)
        assert desk.answer(captured, ME, 1, NOW + later) is None
    assert 1 not in desk.flows


def test_a_request_from_the_edge_of_the_window_is_not_answered_twice(desk):
    """Its flow is remembered for as long as it would hold."""
    ahead = request(5, at=NOW + twin.WINDOW - 1)
    assert desk.answer(ahead, ME, 1, NOW)
    for later in range(0, 2 * twin.WINDOW + 10):
        desk.answer(request(0, flow=7000 + later, at=NOW + later), ME, 1, NOW + later)
        assert desk.answer(ahead, ME, 1, NOW + later) is None


def test_a_flow_is_remembered_for_as_long_as_its_requests_hold(desk):
    """Nobody touches it in between, and others come, which is when old ones are forgotten."""
    ahead = request(5, at=NOW + twin.WINDOW - 1)
    assert desk.answer(ahead, ME, 1, NOW)
    later = NOW + 2 * twin.WINDOW - 2
    assert desk.answer(request(0, flow=2, at=later), ME, 1, later)
    assert desk.answer(ahead, ME, 1, later) is None
    assert desk.counts["replayed"] == 1
    much_later = NOW + 2 * twin.WINDOW + 1
    assert desk.answer(request(0, flow=3, at=much_later), ME, 1, much_later)


@pytest.mark.parametrize("skew", [-60, -30, 30, 60])
def test_a_clock_that_is_not_quite_right_will_do(desk, skew):
    assert desk.answer(request(at=NOW + skew), ME, 1, NOW)


@pytest.mark.parametrize("skew", [-3600, -100, 100, 3600])
def test_a_clock_that_is_wrong_is_silence(desk, skew):
    assert desk.answer(request(at=NOW + skew), ME, 1, NOW) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        bytes(20),
        os.urandom(20),
        os.urandom(1400),
        os.urandom(1401),
        os.urandom(65507),
        stun.allocate_request(bytes(12)),
        stun.binding_request(stun.Dress.APP, bytes(12), bytes(32)),
        request(key=OTHER),
        request(8192),
        request(twin.TALLY),
        request()[:-1],
        request() + b"\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1",  # a DNS query
    ],
    ids=range(16),
)
def test_strangers_hear_nothing(desk, data):
    assert desk.answer(data, STRANGER, 1, NOW) is None
    assert desk.counts == {"strange": 1}


def test_a_stranger_gets_one_binding_answer_a_second(desk):
    answered = [
        n for n in range(100) if desk.answer(binding(), STRANGER, n, NOW + n / 20) is not None
    ]
    assert answered == [0, 20, 40, 60, 80]
    assert desk.answer(binding(), "203.0.113.7", 1, NOW + 4.9)


def test_one_subscriber_is_one_source():
    assert source_of("2001:db8:1:2:3::4") == source_of("2001:db8:1:2::ffff")
    assert source_of("2001:db8:1:2::") != source_of("2001:db8:1:3::")
    assert source_of("fe80::1%eth0") == "fe80::/64"
    assert source_of("192.0.2.1") != source_of("192.0.2.2")


def test_holders_of_the_key_have_a_limit_too(desk):
    answers = [desk.answer(request(n), ME, 1, NOW) for n in range(400)]
    assert sum(a is not None for a in answers) == 200
    assert desk.answer(request(0, flow=9), "203.0.113.7", 1, NOW)
    assert desk.answer(request(401), ME, 1, NOW + 1)


def test_a_clock_that_is_set_back_stops_nobody(desk):
    allowance = Allowance(1.0, 1.0)
    assert allowance.take("a", NOW)
    assert not allowance.take("a", NOW - 3600)
    assert allowance.take("a", NOW - 3598)


def test_a_tally_tells_how_many_came(desk):
    question = request(twin.TALLY, size=32)
    for n in range(3):
        desk.answer(request(n), ME, 1, NOW)
    assert received(desk.tally(question, NOW)) == 3
    assert received(desk.tally(request(twin.TALLY, flow=9, size=32), NOW), 9) == 0
    assert desk.tally(request(0, size=32), NOW) is None
    assert desk.tally(os.urandom(32), NOW) is None


# --- floods ----------------------------------------------------------------------------------


def footprint(desk: Twin) -> int:
    """Bytes of all that it remembers."""
    flows = sum(sys.getsizeof(f) + sys.getsizeof(f.seen) for f in desk.flows.values())
    tables = (desk.stun._left, desk.echo._left, desk.flows, desk.counts)
    keys = sum(sys.getsizeof(k) + 100 for t in tables for k in t)  # type: ignore[attr-defined] # dicts, of several kinds
    return flows + keys + sum(map(sys.getsizeof, tables))


def test_floods_of_strangers_leave_its_memory_flat(desk, monkeypatch):
    monkeypatch.setattr(desk.stun, "size", 256)
    genuine = [request(n) for n in range(50)]
    for datagram in genuine:
        desk.answer(datagram, ME, 1, NOW)
    kinds = (
        binding,
        lambda: os.urandom(64),
        lambda: request(key=OTHER),
        lambda: os.urandom(1401),
        lambda: genuine[7],
        lambda: b"",
    )

    def flood(start: int) -> None:
        for n in range(start, start + 6000):
            source = f"{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}.1"
            desk.answer(kinds[n % len(kinds)](), source, n % 65536, NOW + n / 1e6)

    flood(0)
    flood(6000)
    before, flows = footprint(desk), len(desk.flows)
    flood(12_000)
    flood(18_000)
    assert (len(desk.stun), len(desk.flows)) == (256, flows)
    assert footprint(desk) <= before * 1.02
    # Whoever holds the key is answered all the same.
    assert received(desk.answer(request(60), ME, 1, NOW + 1)) == 51


def test_replays_neither_fill_a_table_nor_use_up_an_allowance(desk):
    captured = request()
    assert desk.answer(captured, ME, 1, NOW)
    for n in range(1000):
        assert desk.answer(captured, f"203.0.{n >> 8}.{n & 255}", 1, NOW) is None
        assert desk.answer(captured, ME, 1, NOW) is None
    assert (len(desk.echo), len(desk.flows)) == (1, 1)
    assert desk.answer(request(1), ME, 1, NOW)


def test_even_the_key_fills_only_a_table_of_a_known_size(desk, monkeypatch):
    monkeypatch.setattr(server, "FLOWS", 100)
    for n in range(500):
        desk.answer(request(0, flow=n), f"203.0.{n >> 8}.{n & 255}", 1, NOW)
    assert len(desk.flows) == 100
    assert desk.counts["full"] == 400
    # What came before the flood is still not answered twice, and the table empties with time.
    assert desk.answer(request(0, flow=1), ME, 1, NOW) is None
    later = NOW + server.KEPT + 1
    assert desk.answer(request(0, flow=9999, at=later), ME, 1, later)
    assert len(desk.flows) == 1


def test_a_flow_is_small_however_its_numbers_are_chosen(desk):
    for n in (twin.MAX_NUMBER, 0, 4096):
        assert desk.answer(request(n), ME, 1, NOW)
    assert sys.getsizeof(desk.flows[1].seen) < 1200


def test_the_key_is_in_no_text(desk):
    assert repr(KEY) not in repr(desk)
