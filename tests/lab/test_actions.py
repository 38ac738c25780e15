"""What each of the censor's actions does to packets, on a virtual clock."""

from __future__ import annotations

import dataclasses
import itertools
import struct
from typing import Any

import dns.message
import dns.rcode
import pytest

from tests.lab import packet as packets
from tests.lab.actions import (
    IN,
    OUT,
    Allow,
    BlockPage,
    Delay,
    Drop,
    Duplicate,
    Forge,
    InjectReset,
    Lose,
    Police,
    Redirect,
    Refuse,
    Reject,
    Reorder,
    RewriteToReset,
    Shape,
)
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.packet import ACK, FIN, PSH, RST, SYN
from tests.lab.path import Fate
from tests.lab.talk import (
    HEADERS,
    ROUTERS,
    SERVER,
    STUN_REQUEST,
    Talk,
    address,
    arrivals,
    client_hello,
    dns_query,
    opened,
    passed,
    path,
)

HELLO = client_hello("web.whatsapp.net")
BLOCKED = match(sni="*.whatsapp.net")
REQUEST = b"GET / HTTP/1.1\r\nUser-Agent: x\r\nHost: Blocked.Example:80\r\n\r\n"


def test_a_delayed_drop_lets_some_packets_and_seconds_pass() -> None:
    rule = Censor(BLOCKED, Drop(after_packets=5, spread=3), residual="4-tuple", seconds=420)
    counts = set()
    for port in range(40000, 40040):
        talk = opened(rule, port=port)
        assert passed(talk.says(OUT, HELLO), OUT)
        alive = [bool(talk.says(IN, b"x").arrivals) for _ in range(12)]
        counts.add(alive.index(False))
        assert not any(alive[alive.index(False) :])
    assert counts == {5, 6, 7, 8}
    timed = Talk(path(Censor(match(stun=True), Drop(after_seconds=10), residual="4-tuple")))
    alive = [passed(timed.sends(OUT, STUN_REQUEST, n), OUT) for n in range(20)]
    assert alive == [True] * 10 + [False] * 10


def tcp_fields(segment: packets.Packet) -> tuple[int, int, int]:
    return segment.tcp_flags, segment.sequence, segment.acknowledged


@pytest.mark.parametrize("genuine", [True, False])
def test_resets_are_injected_with_numbers_that_fit(genuine: bool) -> None:
    action = InjectReset(both=True, count=3, ttl=200, identification=7, genuine=genuine)
    talk = opened(Censor(BLOCKED, action, hop=3))
    start, expected = talk.next[OUT], talk.next[IN]
    fate = talk.says(OUT, HELLO, 5.0)
    end = start + len(HELLO)
    client = arrivals(fate, IN)
    assert [tcp_fields(s) for s in client] == [
        (RST | ACK, (expected + step) & packets.SEQUENCE, end) for step in (0, 1460, 4380)
    ]
    assert {(s.ttl, s.identification) for s in client} == {(198, 7)}  # two routers nearer
    server = arrivals(fate, OUT)
    assert (len(server) == 4) is genuine
    assert [tcp_fields(s)[1] for s in server if s.tcp_flags & RST] == [
        (end if genuine else start) + step for step in (0, 1460, 4380)
    ]
    forged = [a for a in fate.arrivals if packets.parse(a.data).tcp_flags & RST]
    # The client hears it before a round trip is over.
    assert forged[0].due - 5.0 == pytest.approx(2 * 0.010 * 3 / 6)
    weak = opened(Censor(BLOCKED, InjectReset(ttl=2), hop=3)).says(OUT, HELLO)
    assert not arrivals(weak, IN)  # its hop count ends on the way
    copied = opened(Censor(BLOCKED, InjectReset(ttl=None), hop=3)).says(OUT, HELLO)
    assert [s.ttl for s in arrivals(copied, IN)] == [64 - 3 - 2]


def test_an_answer_is_rewritten_with_its_own_ttl_and_numbers() -> None:
    rule = Censor(BLOCKED, RewriteToReset(), residual="4-tuple", seconds=75, hop=3)
    talk = opened(rule)
    assert arrivals(talk.says(OUT, HELLO), OUT)[0].payload == HELLO
    number, ack = talk.next[IN], talk.next[OUT]
    ends = talk.ends[IN]
    body = packets.tcp(ends, number, ack, PSH | ACK, b"server hello")
    answer = packets.parse(packets.ip(ends[0], ends[2], packets.TCP, body, 57, 777))
    fate = talk.path.carry(answer, IN, 0.0)
    (segment,) = arrivals(fate, IN)
    assert tcp_fields(segment) == (RST | ACK, number, ack)
    assert (len(segment.data), segment.ttl, segment.identification) == (HEADERS, 57 - 5, 777)
    assert fate.word == "rule 1 rewrite"
    assert arrivals(talk.says(OUT, b"still passes"), OUT)[0].payload == b"still passes"
    assert arrivals(talk.says(IN, b"x", 76.0), IN)[0].payload == b"x"


@pytest.mark.parametrize(
    ("action", "kind", "asked", "code", "given"),
    [
        (Forge(("10.10.34.34",)), "A", "blocked.example", 0, ["10.10.34.34"]),
        (Forge(("10.10.34.34", "::1")), "AAAA", "blocked.example", 0, ["::1"]),
        (Forge(("10.10.34.34",)), "TXT", "blocked.example", 0, []),
        (Forge(), "A", "blocked.example", 0, []),
        (Forge(code=3), "A", "blocked.example", 3, []),
        (Forge(("10.10.34.34",), code=3), "A", "blocked.example", 3, []),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_forged_answers(
    action: Forge, kind: str, asked: str, code: int, given: list[str], beside: bool
) -> None:
    action = dataclasses.replace(action, beside=beside, seconds=11, ttl=100)
    talk = Talk(path(Censor(match(dns=asked), action)), server_port=53)
    query = dns.message.make_query(asked, kind)
    fate = talk.sends(OUT, query.to_wire())
    (forged,) = arrivals(fate, IN)
    answer = dns.message.from_wire(forged.payload)
    assert query.is_response(answer)
    assert answer.rcode() == code
    assert [rdata.to_text() for rrset in answer.answer for rdata in rrset] == given
    assert all(rrset.ttl == 11 for rrset in answer.answer)
    assert (forged.ttl, packets.checksum(forged.data[:20])) == (99, 0)
    assert passed(fate, OUT) is beside


def test_a_block_page_ends_the_connection_for_both() -> None:
    page = BlockPage(location="http://portal.example/")
    talk = opened(Censor(match(host="*"), page, residual="4-tuple"), server_port=80)
    number = talk.next[IN]
    fate = talk.says(OUT, REQUEST)
    told, ended = arrivals(fate, IN)
    assert told.payload.startswith(b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n")
    assert (told.sequence, told.acknowledged) == (number, talk.next[OUT])
    assert tcp_fields(ended)[:2] == (FIN | ACK, (number + len(told.payload)) & packets.SEQUENCE)
    (cut,) = arrivals(fate, OUT)
    assert cut.tcp_flags & RST
    assert not talk.says(OUT, b"", flags=ACK).arrivals
    beside = Censor(match(host="*"), dataclasses.replace(page, genuine=True), residual="4-tuple")
    fate = opened(beside, server_port=80).says(OUT, REQUEST)
    assert arrivals(fate, OUT)[0].payload == REQUEST


@pytest.mark.parametrize("tcp", [False, True])
def test_a_redirect_goes_there_and_comes_back_in_the_others_name(tcp: bool) -> None:
    carried = path(Censor(match(ports=53, direction="out"), Redirect("95.24.0.80", 5353)))
    talk = Talk(carried, server_port=53)
    fate = talk.opens() if tcp else talk.sends(OUT, dns_query("a.example"))
    (there,) = arrivals(fate, OUT)
    assert (there.destination, there.destination_port) == (address("95.24.0.80"), 5353)
    assert_transport_checksum(there)
    back = Talk(carried, server="95.24.0.80", server_port=5353)
    fate = back.says(IN, b"", flags=SYN | ACK) if tcp else back.sends(IN, b"answer")
    (answer,) = arrivals(fate, IN)
    assert (answer.source, answer.source_port) == (address(SERVER), 53)
    assert_transport_checksum(answer)
    stranger = Talk(carried, port=7, server="95.24.0.80", server_port=5353).sends(IN, b"x")
    assert arrivals(stranger, IN)[0].source == address("95.24.0.80")


def assert_transport_checksum(packet: packets.Packet) -> None:
    body = packet.data[packet.header :]
    pseudo = packet.source + packet.destination + struct.pack("!II", len(body), packet.protocol)
    if packet.version == 4:
        assert packets.checksum(packet.data[: packet.header]) == 0
    assert packets.checksum(pseudo + body) == 0


def test_ipv6_is_torn_down_and_lied_to_in_the_same_way() -> None:
    server, other = "2001:67c:4e8:f002::a", "2a02:2698:a000::80"
    talk = opened(Censor(BLOCKED, InjectReset(ttl=200), hop=3), server=server)
    expected = talk.next[IN]
    (reset,) = arrivals(talk.says(OUT, HELLO), IN)
    assert (reset.version, reset.ttl, reset.sequence) == (6, 198, expected)
    talk = opened(Censor(BLOCKED, RewriteToReset(), residual="4-tuple"), server=server)
    talk.says(OUT, HELLO)
    (rewritten,) = arrivals(talk.says(IN, b"x"), IN)
    assert (rewritten.tcp_flags, rewritten.payload) == (RST | ACK, b"")
    asking = Talk(path(Censor(match(dns="*"), Forge(("::1",)))), server=server, server_port=53)
    (forged,) = arrivals(asking.sends(OUT, dns_query("a.example", 28)), IN)
    assert dns.message.from_wire(forged.payload).answer[0][0].to_text() == "::1"
    moved = path(Censor(match(), Redirect("95.24.0.80")), Censor(match(), Redirect(other)))
    (there,) = arrivals(Talk(moved, server=server).sends(OUT, b"x"), OUT)
    assert there.destination == address(other)
    (back,) = arrivals(Talk(moved, server=other).sends(IN, b"x"), IN)
    assert back.source == address(server)
    for segment in (reset, rewritten, forged, there, back):
        assert_transport_checksum(segment)


def test_policing_loses_and_shaping_delays() -> None:
    def stream(action: Any) -> list[Fate]:
        """Ten seconds of 20 packets of 1,000 bytes each: 20,000 bytes a second."""
        talk = Talk(path(Censor(match(protocol="udp"), action)))
        return [talk.sends(OUT, bytes(972), n / 20) for n in range(200)]

    policed = stream(Police(rate=10_000, burst=5_000))
    alive = [bool(fate.arrivals) for fate in policed]
    assert all(alive[:9])  # twice the rate: the burst lasts for about its double
    assert sum(alive) == pytest.approx((10_000 * 10 + 5_000) / 1_000, abs=2)
    assert {round(f.arrivals[0].due - n / 20, 6) for n, f in enumerate(policed) if alive[n]} == {
        0.01
    }
    idle = Talk(path(Censor(match(), Police(rate=10_000, burst=5_000))))
    for now in (0.0, 1_000.0):  # however long it was idle, a burst is a burst
        assert sum(bool(idle.sends(OUT, bytes(972), now).arrivals) for _ in range(9)) == 5
    limited = Talk(path(Censor(match(), Allow(seconds=0.5, burst=2))))
    passed = [bool(limited.sends(OUT, bytes(size), 0.0).arrivals) for size in (900, 20, 20)]
    assert passed == [True, True, False]  # packets are counted, whatever their size
    assert not limited.sends(OUT, b"x", 0.4).arrivals
    assert limited.sends(OUT, b"x", 0.5).arrivals
    shaped = stream(Shape(rate=10_000, depth=5_000))
    waits = [f.arrivals[0].due - n / 20 for n, f in enumerate(shaped) if f.arrivals]
    assert len(waits) == pytest.approx(105, abs=2)
    assert waits[0] == pytest.approx(0.110)
    assert max(waits) == pytest.approx(0.510, abs=0.06)
    dues = [f.arrivals[0].due for f in shaped if f.arrivals]
    assert dues == sorted(dues)


def test_delay_jitter_reordering_and_duplicates() -> None:
    def dues(action: Any) -> list[float]:
        talk = Talk(path(Censor(match(), action)))
        fates = [talk.sends(OUT, b"x", n / 100) for n in range(500)]
        return [a.due for fate in fates for a in fate.arrivals]

    waits = [due - n / 100 for n, due in enumerate(dues(Delay(0.2, jitter=0.1)))]
    assert 0.21 <= min(waits) < 0.25
    assert 0.30 < max(waits) <= 0.3101
    assert dues(Delay(0.2, jitter=0.1)) == sorted(dues(Delay(0.2, jitter=0.1)))
    mixed = dues(Reorder(0.1, 0.025))
    assert 30 < sum(b < a for a, b in itertools.pairwise(mixed)) < 75
    assert 80 < len(dues(Duplicate(0.2))) - 500 < 120


def test_loss_has_bursts_within_each_scope() -> None:
    rule = Censor(match(stun=True), Lose(Loss(0.3, burst=5, seed=3)), residual="4-tuple")
    talk = Talk(path(rule))
    lost = [not talk.sends(OUT, STUN_REQUEST).arrivals for _ in range(2000)]
    runs = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    assert 0.2 < sum(lost) / 2000 < 0.4
    assert sum(lost) / runs == pytest.approx(5, rel=0.2)


@pytest.mark.parametrize(("code", "v6"), [(13, 1), (10, 1), (3, 4), (1, 0)])
def test_rejects_say_it_in_the_packets_family(code: int, v6: int) -> None:
    carried = path(Censor(match(), Reject(code), hop=4))
    for server, told in ((SERVER, (3, code)), ("2001:67c:4e8:f002::a", (1, v6))):
        (answer,) = arrivals(Talk(carried, server=server).sends(OUT, b"x"), IN)
        assert answer.payload[:2] == bytes(told)
        assert answer.source == ROUTERS[3][answer.version == 6]


def test_a_refusal_at_syn_and_no_answer_to_a_reset() -> None:
    talk = Talk(path(Censor(match(ports=443), Refuse())))
    (answer,) = arrivals(talk.says(OUT, flags=SYN), IN)
    assert tcp_fields(answer) == (RST | ACK, 0, 1001)
    assert talk.says(OUT, flags=RST).arrivals == ()
