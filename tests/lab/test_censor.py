"""The censor without root, on a virtual clock: what triggers, what stays, what holds for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab import actions
from tests.lab import packet as packets
from tests.lab.actions import (
    IN,
    OUT,
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
from tests.lab.censor import Censor, match, plain
from tests.lab.chance import Loss
from tests.lab.packet import SYN
from tests.lab.path import Fate, Line, Path, from_json, to_json
from tests.lab.talk import (
    BLOCKED,
    HELLO,
    LONG,
    NEUTRAL,
    REQUEST,
    SERVER,
    STUN_REQUEST,
    Talk,
    address,
    arrivals,
    dns_query,
    dtls_hello,
    opened,
    passed,
    path,
    quic_hello,
)
from tests.lab.world import CLIENT_V4, HOPS

# Datagrams, headers, counts, time


QUIC_INITIAL = b"\xc3\0\0\0\1" + bytes(1195)


@pytest.mark.parametrize(
    ("fields", "payload", "hit"),
    [
        ({"stun": True}, STUN_REQUEST, True),
        ({"stun": True}, STUN_REQUEST[:4] + bytes(16), False),
        ({"stun": True}, b"\x80" + STUN_REQUEST[1:], False),
        ({"dtls": True}, dtls_hello(), True),
        ({"dtls": True}, STUN_REQUEST, False),
        ({"quic": True}, QUIC_INITIAL, False),
        ({"dns": "*.example"}, dns_query("blocked.example"), True),
        ({"dns": "*.example"}, dns_query("blocked.test"), False),
        ({"dns": "blocked.example"}, dns_query("BLOCKED.example"), True),
        ({"dns": "*"}, b"", False),
        ({"size": (20, 20)}, STUN_REQUEST, True),
        ({"size": (21, 1500)}, STUN_REQUEST, False),
        ({"payload": ((1, "00000001"),), "size": (1001, 1500)}, QUIC_INITIAL, True),
        ({"payload": ((1, "00000001"),), "size": (1001, 1500)}, b"\xc3\xba" + bytes(1198), False),
        ({"protocol": "udp", "ports": (443, 3478)}, b"x", True),
        ({"protocol": "tcp"}, b"x", False),
        ({"remote": "91.108.8.0/22", "direction": "out"}, b"x", True),
        ({"remote": "91.108.8.0/22", "exempt": f"{SERVER}/32"}, b"x", False),
        ({"direction": "in"}, b"x", False),
        ({"family": 6}, b"x", False),
    ],
)
def test_what_a_datagram_shows(fields: dict[str, Any], payload: bytes, hit: bool) -> None:
    talk = Talk(path(Censor(match(**fields), Drop())), server_port=3478)
    assert passed(talk.sends(OUT, payload), OUT) is not hit


@pytest.mark.parametrize(
    ("fields", "name", "hit"),
    [
        ({"quic": True, "sni": "*.example"}, "blocked.example", True),
        ({"quic": True, "sni": "*.example"}, "other.test", False),
        ({"quic": True}, "other.test", True),
        ({"sni": "*.example"}, "blocked.example", False),
    ],
)
def test_what_a_first_packet_of_quic_shows(fields: dict[str, Any], name: str, hit: bool) -> None:
    talk = Talk(path(Censor(match(**fields), Drop())))
    assert passed(talk.sends(OUT, quic_hello(name)), OUT) is not hit
    assert passed(talk.sends(IN, quic_hello(name)), IN), "a server says no hello"


@pytest.mark.parametrize(
    ("fields", "first_dropped"),
    [
        ({"packets_over": 20}, 21),
        ({"packets_over": 20, "direction": "out"}, 21),
        ({"packets_over": 20, "counting": "out"}, 41),
        ({"packets_over": 20, "counting": "in"}, 42),
        ({"bytes_over": 128 * 10}, 11),  # 100 bytes and 28 of headers each
        ({"bytes_over": 128 * 10, "counting": "out"}, 21),
        ({"age_over": 2.95}, 31),  # ten packets a second
        ({"window": (1.0, 2.0)}, 10),
    ],
)
def test_counts_and_time(fields: dict[str, Any], first_dropped: int) -> None:
    talk = Talk(path(Censor(match(protocol="udp", **fields), Drop())), server_port=3478)
    fates = [talk.sends(OUT if n % 2 else IN, bytes(100), n / 10) for n in range(1, 50)]
    alive = [bool(fate.arrivals) for fate in fates]
    assert alive.index(False) + 1 == first_dropped


def test_windows_return() -> None:
    talk = Talk(path(Censor(match(window=(2, 4), period=10), Drop())))
    lost = [second for second in range(30) if not talk.sends(OUT, b"", second).arrivals]
    assert lost == [2, 3, 12, 13, 22, 23]


def test_segments_are_counted_and_not_bytes() -> None:
    """64 bytes in small segments freeze, the same in one do not (2.4)."""
    rule = Censor(match(segments_over=20), Drop(), residual="4-tuple")
    talk = opened(rule)
    assert [passed(talk.says(OUT, b"xx"), OUT) for _ in range(32)] == [True] * 20 + [False] * 12
    assert passed(opened(rule).says(OUT, bytes(64)), OUT)


# Bursts


def handshake(carried: Path, port: int, now: float, hello: bytes = HELLO, **ends: Any) -> bool:
    talk = Talk(carried, port=port, **ends)
    talk.opens(now)
    return passed(talk.says(OUT, hello, now), OUT)


def test_one_handshake_too_many_freezes_the_next_hellos_until_the_window_ends() -> None:
    rule = Censor(
        match(hello=True, burst_over=3, burst_gap=0.45),
        Drop(),
        residual="2-tuple",
        seconds=120,
        acts="matching",
    )
    carried = path(rule)
    starts = [handshake(carried, 40000 + n, n * 0.4) for n in range(5)]
    assert starts == [True, True, True, False, False]
    syn = Talk(carried, port=41000)
    assert passed(syn.opens(60), OUT)  # TCP still connects
    assert not handshake(carried, 41001, 100)
    assert handshake(carried, 41002, 100, server="91.108.9.114")
    assert handshake(carried, 41003, 122)


@pytest.mark.parametrize("apart", [0.5, 31.0])
def test_handshakes_that_are_spaced_are_no_burst(apart: float) -> None:
    carried = path(Censor(match(hello=True, burst_over=3, burst_gap=0.45), Drop()))
    assert all(handshake(carried, 40000 + n, n * apart) for n in range(10))


def test_bursts_are_counted_per_destination_and_name() -> None:
    carried = path(Censor(match(hello=True, burst_over=3), Drop()))
    assert all(handshake(carried, n, n * 0.1) for n in (1, 2, 3))
    assert handshake(carried, 4, 0.4, NEUTRAL)
    assert handshake(carried, 5, 0.5, server="91.108.9.114")
    assert not handshake(carried, 6, 0.6)


def test_new_flows_are_a_burst_too_and_retransmissions_none() -> None:
    carried = path(Censor(match(protocol="tcp", burst_over=2, burst_seconds=60), Drop()))
    talk = Talk(carried, port=1)
    syn = talk.tcp(OUT, b"", SYN, 5, 0)
    assert all(passed(carried.carry(syn, OUT, n), OUT) for n in range(5))
    assert passed(Talk(carried, port=2).says(OUT, flags=SYN), OUT)
    assert not passed(Talk(carried, port=3).says(OUT, flags=SYN), OUT)
    assert passed(Talk(carried, port=4).says(OUT, flags=SYN, now=100.0), OUT)


def test_new_flows_of_datagrams_are_told_from_answers_and_further_ones() -> None:
    carried = path(Censor(match(protocol="udp", burst_over=1), Drop()))
    talk = Talk(carried, port=1)
    assert all(talk.sends(side, b"x", 0.1).arrivals for side in (OUT, IN, OUT, IN))
    excess = Talk(carried, port=2)
    assert not excess.sends(OUT, b"x", 0.2).arrivals
    assert excess.sends(IN, b"x", 0.3).arrivals


# What stays


@pytest.mark.parametrize(
    ("residual", "same", "other_port", "other_service", "udp"),
    [
        ("", True, True, True, True),
        ("4-tuple", False, True, True, True),
        ("3-tuple", False, False, True, True),
        ("2-tuple", False, False, False, False),
    ],
)
def test_residual_scopes(
    residual: str, same: bool, other_port: bool, other_service: bool, udp: bool
) -> None:
    kept = {"residual": residual, "seconds": 60.0} if residual else {}
    carried = path(Censor(BLOCKED, Drop(), **kept))
    talk = Talk(carried)
    talk.opens()
    assert not passed(talk.says(OUT, HELLO), OUT)
    for now, marked in ((59.9, True), (60.1, False)):
        assert passed(talk.says(IN, b"x", now), IN) is (same or not marked)
        assert passed(Talk(carried, port=2).opens(now), OUT) is (other_port or not marked)
        service = Talk(carried, port=3, server_port=5222)
        assert passed(service.opens(now), OUT) is (other_service or not marked)
        assert passed(service.sends(OUT, b"x", now), OUT) is (udp or not marked)
        assert passed(Talk(carried, server="91.108.9.114").opens(now), OUT)


def test_traffic_restarts_the_timer_only_where_declared() -> None:
    for restart, alive in ((True, False), (False, True)):
        rule = Censor(match(stun=True), Drop(), residual="4-tuple", seconds=60, restart=restart)
        talk = Talk(path(rule), server_port=3478)
        talk.sends(OUT, STUN_REQUEST)
        talk.sends(OUT, b"x", 50)
        assert passed(talk.sends(OUT, b"x", 100), OUT) is alive


def test_acts_on_one_direction() -> None:
    talk = Talk(path(Censor(match(stun=True), Drop(), residual="4-tuple", acts="in")))
    assert passed(talk.sends(OUT, STUN_REQUEST), OUT)
    assert not talk.sends(IN, b"x").arrivals
    assert passed(talk.sends(OUT, b"x"), OUT)


def test_a_share_of_the_flows_is_chosen_by_seed_and_stays_chosen() -> None:
    def chosen(seed: int) -> list[bool]:
        rule = Censor(BLOCKED, Drop(), probability=0.5, seed=seed)
        carried = path(rule)
        return [handshake(carried, port, 0.0) for port in range(40000, 40200)]

    first = chosen(1)
    assert 70 < sum(first) < 130
    assert chosen(1) == first != chosen(2)
    talk = opened(Censor(BLOCKED, Drop(), probability=0.5, seed=1))
    fates = {passed(talk.says(OUT, HELLO), OUT)} | {
        passed(talk.repeats(HELLO), OUT) for _ in range(5)
    }
    assert fates == {first[0]}


def test_a_share_of_the_packets() -> None:
    talk = Talk(path(Censor(match(stun=True), Drop(), per_packet=0.3)))
    alive = sum(passed(talk.sends(OUT, STUN_REQUEST), OUT) for _ in range(1000))
    assert 640 < alive < 760


# Several rules, positions, declarations


def test_rules_stack_along_the_path() -> None:
    redirect = Censor(match(ports=53, direction="out"), Redirect("95.24.0.80"), hop=2)
    beyond = Censor(match(remote="95.24.0.80/32"), Drop(), hop=3)
    before = Censor(match(remote="95.24.0.80/32"), Drop(), hop=1)
    for rule, alive in ((beyond, False), (before, True)):
        talk = Talk(path(rule, redirect), server_port=53)
        assert passed(talk.sends(OUT, b"x"), OUT) is alive
    talk = Talk(path(Censor(match(), Delay(0.1)), Censor(match(), Delay(0.2), hop=4)))
    assert talk.sends(OUT, b"x").arrivals[0].due == pytest.approx(0.31)


@pytest.mark.parametrize(("ttl", "hears"), [(2, False), (3, False), (4, True)])
def test_a_trigger_must_reach_the_filter_and_need_not_pass_it_far(ttl: int, hears: bool) -> None:
    """At its own hop count's end the router answers; one more and the filter does."""
    talk = opened(Censor(BLOCKED, InjectReset(), hop=3))
    talk.ttl = ttl
    heard = arrivals(talk.says(OUT, HELLO), IN)
    assert any(p.protocol == packets.TCP for p in heard) is hears
    assert any(p.protocol == packets.ICMP for p in heard)


EVERY_ACTION = [
    Drop(),
    Lose(Loss(0.5)),
    Reject(),
    Refuse(),
    InjectReset(both=True, count=3, ttl=None),
    RewriteToReset(),
    Forge(("10.0.0.1", "::1"), beside=True),
    BlockPage(),
    Redirect("95.24.0.80", 53),
    Police(1e4, 1e4),
    Shape(1e4, 1e4),
    Delay(0.1, 0.1),
    Reorder(0.5, 0.1),
    Duplicate(0.5),
]


def censors() -> list[Censor]:
    everything = match(dns="*", sni="*", host="*")
    made = []
    for action in EVERY_ACTION:
        kept = {} if isinstance(action, Redirect) else {"residual": "2-tuple", "seconds": 5.0}
        made.append(Censor(match(), action, hop=1, **kept))
        if not isinstance(action, Redirect):
            made.append(Censor(everything, action, hop=2, **kept))
    return made


def test_the_router_knows_every_action() -> None:
    acting = {
        kind
        for kind in vars(actions).values()
        if isinstance(kind, type) and kind.__module__ == actions.__name__ and hasattr(kind, "apply")
    }
    acting.discard(actions.Action)
    assert acting == set(actions.ALL)


def test_declarations_survive_the_way_to_the_router() -> None:
    for censor in (*censors(), plain("loss", loss=Loss(0.3, 2.0)), plain("drop", family=6)):
        assert from_json(json.loads(json.dumps(to_json(censor)))) == censor
    assert from_json(to_json(Line(loss_in=Loss(0.1)))) == Line(loss_in=Loss(0.1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Censor(BLOCKED, RewriteToReset()), "needs a residual"),
        (lambda: Censor(BLOCKED, Drop(after_packets=3)), "needs a residual"),
        (lambda: Censor(BLOCKED, Drop(), seconds=60), "nothing is marked without a residual"),
        (lambda: Censor(BLOCKED, Drop(), restart=True), "nothing is marked without a residual"),
        (lambda: Censor(BLOCKED, Drop(), residual="5-tuple"), "unknown residual"),
        (lambda: Censor(BLOCKED, Drop(), probability=1.2), "probability or seconds out of range"),
        (lambda: Censor(BLOCKED, Redirect("95.24.0.80")), "from its first packet on"),
        (lambda: match(protocol="sctp"), "unknown protocol"),
        (lambda: match(remote="91.108.9.113/8"), "has host bits set"),
        (lambda: plain("eat"), "unknown action"),
    ],
)
def test_nonsense_is_refused_where_it_is_written(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wrong()


# Whatever the bytes


SOURCES = st.sampled_from([CLIENT_V4, SERVER, HOPS[2][0], "2001:67c:4e8:f002::a"])
STARTS = st.sampled_from(
    [b"", HELLO[:60], LONG[:300], REQUEST, dns_query("a.example"), STUN_REQUEST, dtls_hello()]
)


@settings(deadline=None)  # a hello of QUIC is decrypted, on a busy machine
@given(
    st.lists(
        st.tuples(
            SOURCES,
            st.sampled_from([packets.TCP, packets.UDP, packets.ICMP, packets.ICMPV6, 44, 0, 41]),
            STARTS,
            st.binary(max_size=80),
            st.integers(0, 255),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_no_bytes_crash_the_censor(sent: list[Any]) -> None:
    """Each rule alone, so that none hides behind a drop; what leaves is whole packets."""
    seen = []
    for source, protocol, start, noise, ttl, headed, outward in sent:
        v6 = ":" in source
        destination = address("2a02:2698:8c21:7::2" if v6 else CLIENT_V4)
        body = start + noise
        if headed and protocol in (packets.TCP, packets.UDP):
            ends = (address(source), 443, destination, 40000)
            body = (
                packets.tcp(ends, 1, 1, ttl & 0x3F, body)
                if protocol == packets.TCP
                else packets.udp(*ends, body)
            )
        data = packets.ip(address(source), destination, protocol, body, ttl)
        try:
            seen.append((packets.parse(data), OUT if outward else IN))
        except packets.PacketError:
            continue
    for censor in censors():
        carried = path(censor)
        for now, (packet, direction) in enumerate(seen):
            for arrival in carried.carry(packet, direction, float(now)).arrivals:
                packets.parse(arrival.data)


def test_the_same_seed_and_packets_meet_the_same_fates() -> None:
    def fates() -> list[Fate]:
        rules = [Censor(match(), Lose(Loss(0.3))), Censor(match(), Delay(0.1, 0.1), seed=4)]
        talk = Talk(path(*rules, Censor(match(), Duplicate(0.5), hop=5)))
        return [talk.sends(OUT, b"x", n / 10) for n in range(300)]

    assert fates() == fates()
