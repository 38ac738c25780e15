"""The pure half of the router: packets checked by scapy, paths by arithmetic."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import packet as packets
from tests.lab.actions import IN, OUT
from tests.lab.censor import plain
from tests.lab.path import Line, Loss, Path, from_json
from tests.lab.world import HOPS

CLIENT, SERVER = socket.inet_aton("95.24.112.7"), socket.inet_aton("91.108.9.113")
CLIENT6 = socket.inet_pton(socket.AF_INET6, "2a02:2698:8c21:7::2")
SERVER6 = socket.inet_pton(socket.AF_INET6, "2001:67c:4e8:f002::a")
ROUTER, ROUTER6 = (
    socket.inet_aton(HOPS[1][0]),
    socket.inet_pton(socket.AF_INET6, HOPS[1][1]),
)
ROUTERS = [(socket.inet_aton(v4), socket.inet_pton(socket.AF_INET6, v6)) for v4, v6 in HOPS]


def datagram(
    source: bytes = CLIENT,
    destination: bytes = SERVER,
    *,
    port: int = 1400,
    payload: bytes = b"hello",
    ttl: int = 64,
) -> packets.Packet:
    segment = packets.udp(source, 40000, destination, port, payload)
    return packets.parse(packets.ip(source, destination, packets.UDP, segment, ttl))


def segment(
    source: bytes = CLIENT,
    destination: bytes = SERVER,
    *,
    flags: int = packets.SYN,
    payload: bytes = b"",
) -> packets.Packet:
    numbers = (1000, 2000 if flags & packets.ACK else 0)
    head = struct.pack("!HHIIBBHHH", 40000, 443, *numbers, 5 << 4, flags, 65535, 0, 0)
    return packets.parse(packets.ip(source, destination, packets.TCP, head + payload))


def assert_checksums(data: bytes) -> None:
    """scapy computes them anew from the fields; a difference is our error."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    layer = (IP if data[0] >> 4 == 4 else IPv6)(data)
    copy = layer.copy()
    part: Any = copy
    while part and part.name not in ("IP in ICMP", "IPv6 in ICMPv6", "Raw", "NoPayload"):
        for field in ("chksum", "cksum"):
            if field in part.fields:
                delattr(part, field)
        part = part.payload
    assert bytes(copy) == data


def test_fields_of_both_families() -> None:
    for source, destination, version in ((CLIENT, SERVER, 4), (CLIENT6, SERVER6, 6)):
        parsed = datagram(source, destination, payload=b"x" * 33)
        assert (parsed.version, parsed.source, parsed.destination) == (version, source, destination)
        assert (parsed.protocol, parsed.source_port, parsed.destination_port) == (17, 40000, 1400)
        assert parsed.payload == b"x" * 33
        assert parsed.ttl == 64
        assert_checksums(parsed.data)


def test_tcp_payload_follows_the_options() -> None:
    head = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 6 << 4, packets.ACK, 5, 0, 0) + b"\1\1\1\1"
    parsed = packets.parse(packets.ip(CLIENT, SERVER, packets.TCP, head + b"data"))
    assert parsed.payload == b"data"
    assert parsed.tcp_flags == packets.ACK


def test_v6_extension_headers_and_fragments() -> None:
    inner = packets.udp(CLIENT6, 1, SERVER6, 2, b"abcdefgh")
    hop_by_hop = bytes((packets.UDP, 0)) + bytes(6)
    parsed = packets.parse(packets.ip(CLIENT6, SERVER6, 0, hop_by_hop + inner))
    assert (parsed.protocol, parsed.destination_port, parsed.header) == (packets.UDP, 2, 48)
    for offset, first in ((0, True), (8, False)):
        fragment = struct.pack("!BBHI", packets.UDP, 0, offset | 1, 7)
        parsed = packets.parse(packets.ip(CLIENT6, SERVER6, 44, fragment + inner))
        assert parsed.first_fragment is first
        assert parsed.destination_port == (2 if first else 0)


@given(st.binary(max_size=120))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    try:
        parsed = packets.parse(data)
    except packets.PacketError:
        return
    assert len(parsed.payload) <= len(data)


@given(st.binary(max_size=80), st.booleans(), st.integers(0, 79))
def test_no_body_crashes_parser_or_answers(body: bytes, v6: bool, kind: int) -> None:
    """Whole packets with arbitrary bodies: what the parser accepts, the builders can quote."""
    source, destination, router = (CLIENT6, SERVER6, ROUTER6) if v6 else (CLIENT, SERVER, ROUTER)
    try:
        parsed = packets.parse(packets.ip(source, destination, kind, body))
    except packets.PacketError:
        return
    packets.may_be_answered(parsed)
    assert packets.parse(packets.time_exceeded(parsed, router)).destination == source
    if parsed.protocol == packets.TCP and parsed.first_fragment:
        assert packets.parse(packets.reset(parsed)).tcp_flags & packets.RST


@given(st.integers(1, 255), st.integers(0, 65535), st.binary(max_size=20))
def test_ttl_keeps_the_checksum_right(ttl: int, port: int, payload: bytes) -> None:
    before = datagram(port=port, payload=payload, ttl=ttl)
    after = packets.with_ttl(before, ttl - 1)
    assert packets.checksum(after[:20]) == 0
    assert after == datagram(port=port, payload=payload, ttl=ttl - 1).data


@pytest.mark.parametrize("v6", [False, True])
def test_icmp_errors_quote_the_packet(v6: bool) -> None:
    parsed = datagram(*(CLIENT6, SERVER6) if v6 else (CLIENT, SERVER), payload=bytes(1400))
    router = ROUTER6 if v6 else ROUTER
    for built, kind, code in (
        (packets.time_exceeded(parsed, router), 3 if v6 else 11, 0),
        (packets.unreachable(parsed, router, 13), 1 if v6 else 3, 13),
    ):
        answer = packets.parse(built)
        assert answer.destination == parsed.source
        assert answer.source == router
        assert (answer.payload[0], answer.payload[1]) == (kind, code)
        assert parsed.data.startswith(answer.payload[8:])
        assert len(built) == (1280 if v6 else 576)
        assert not packets.may_be_answered(answer)
        assert_checksums(built)


@pytest.mark.parametrize("ends", [(CLIENT, SERVER), (CLIENT6, SERVER6)])
@pytest.mark.parametrize(
    ("flags", "payload", "sequence", "acknowledged"),
    [
        (packets.SYN, b"", 0, 1001),
        (packets.ACK, b"hello", 2000, 1005),
        (packets.ACK | packets.FIN, b"", 2000, 1001),
    ],
)
def test_reset_numbers(
    ends: tuple[bytes, bytes], flags: int, payload: bytes, sequence: int, acknowledged: int
) -> None:
    built = packets.reset(segment(*ends, flags=flags, payload=payload))
    answer = packets.parse(built)
    numbers = struct.unpack_from("!II", built, answer.header + 4)
    assert (answer.source, answer.destination) == (ends[1], ends[0])
    assert (answer.source_port, answer.destination_port) == (443, 40000)
    assert numbers == (sequence, acknowledged)
    assert answer.tcp_flags == packets.RST | packets.ACK
    assert_checksums(built)


# The path


def test_every_hop_answers_an_expired_packet() -> None:
    path = Path(ROUTERS, Line(delay=0.012))
    for hop, (router, _) in enumerate(ROUTERS, start=1):
        fate = path.carry(datagram(ttl=hop), OUT, 100.0)
        assert fate.arrival is not None
        assert packets.parse(fate.arrival.data).source == router
        assert fate.arrival.direction == IN
        assert fate.arrival.due == pytest.approx(100 + 2 * 0.012 * hop / 6)
    fate = path.carry(datagram(ttl=6), OUT, 100.0)
    assert fate.arrival is not None
    assert fate.arrival.direction == OUT
    assert fate.arrival.data[8] == 1
    assert fate.arrival.due == pytest.approx(100.012)


def test_packets_from_the_servers_meet_the_hops_in_reverse() -> None:
    path = Path(ROUTERS)
    fate = path.carry(datagram(SERVER, CLIENT, ttl=1), IN, 0.0)
    assert fate.arrival is not None
    assert packets.parse(fate.arrival.data).source == ROUTERS[-1][0]


@pytest.mark.parametrize(
    ("fields", "hit"),
    [
        ({}, True),
        ({"remote": ("91.108.8.0/22",)}, True),
        ({"remote": ("91.108.9.113/32", "10.0.0.0/8")}, True),
        ({"remote": ("91.108.12.0/22",)}, False),
        ({"remote": ("2001:67c::/32",)}, False),
        ({"remote": ("91.108.8.0/22",), "exempt": ("91.108.9.113/32",)}, False),
        ({"ports": (1400, 1401)}, True),
        ({"ports": (443,)}, False),
        ({"protocol": "udp"}, True),
        ({"protocol": "tcp"}, False),
        ({"protocol": "icmp"}, False),
        ({"family": 4}, True),
        ({"family": 6}, False),
        ({"direction": "out"}, True),
        ({"direction": "in"}, False),
        ({"hop": 5}, True),
    ],
)
def test_what_a_rule_matches(fields: dict[str, Any], hit: bool) -> None:
    path = Path(ROUTERS)
    number = path.add(plain("drop", **fields))
    fate = path.carry(datagram(), OUT, 0.0)
    assert (fate.arrival is None) is hit
    assert path.rules[number].hits == hit


def test_remote_names_the_servers_end_both_ways() -> None:
    path = Path(ROUTERS)
    path.add(plain("drop", remote=("91.108.9.113/32",)))
    answer = packets.udp(SERVER, 1400, CLIENT, 40000, b"")
    back = packets.parse(packets.ip(SERVER, CLIENT, packets.UDP, answer))
    assert path.carry(back, IN, 0.0).arrival is None
    assert path.carry(datagram(), OUT, 0.0).arrival is None


def test_a_packet_that_expires_at_the_filter_is_still_answered() -> None:
    path = Path(ROUTERS)
    path.add(plain("drop", hop=3))
    assert path.carry(datagram(ttl=3), OUT, 0.0).word == "expired 3"
    assert path.carry(datagram(ttl=4), OUT, 0.0).word == "rule 1 drop"


def test_reject_and_reset_answer_the_sender() -> None:
    path = Path(ROUTERS)
    path.add(plain("reset", protocol="any", ports=(443,)))
    path.add(plain("reject", code=packets.HOST_PROHIBITED))
    refused = path.carry(segment(), OUT, 0.0).arrival
    rejected = path.carry(datagram(), OUT, 0.0).arrival
    assert refused is not None
    assert rejected is not None
    assert packets.parse(refused.data).tcp_flags & packets.RST
    assert packets.parse(refused.data).source == SERVER
    assert packets.parse(rejected.data).payload[:2] == bytes((3, 10))
    assert packets.parse(rejected.data).source == ROUTERS[1][0]
    # A reset is for TCP; the datagram to the same port goes on to the next rule.
    assert path.carry(datagram(port=443), OUT, 0.0).word == "rule 2 reject"


@pytest.mark.parametrize("loss", [Loss(0.7, seed=3), Loss(0.3, burst=4.0, seed=5), Loss(0.05)])
def test_loss_has_its_share_and_its_bursts(loss: Loss) -> None:
    fates, lost = [], False
    for count in range(50_000):
        lost = loss.takes(count, lost)
        fates.append(lost)
    runs = sum(now and not before for before, now in zip([False, *fates], fates, strict=False))
    burst = loss.burst or 1 / (1 - loss.share)
    assert sum(fates) / len(fates) == pytest.approx(loss.share, abs=0.015)
    assert sum(fates) / runs == pytest.approx(burst, rel=0.05)


def test_the_same_seed_loses_the_same_packets() -> None:
    def fates(seed: int) -> list[bool]:
        path = Path(ROUTERS)
        path.add(plain("loss", loss=Loss(0.7, seed=seed)))
        return [path.carry(datagram(), OUT, 0.0).arrival is None for _ in range(300)]

    assert fates(1) == fates(1) != fates(2)


def test_jitter_delays_without_reordering() -> None:
    path = Path(ROUTERS, Line(delay=0.010, jitter=0.030))
    dues = []
    for count in range(200):
        arrival = path.carry(datagram(), OUT, count * 0.02).arrival
        assert arrival is not None
        dues.append(arrival.due)
        assert 0.0099 <= arrival.due - count * 0.02 <= 0.0401
    assert dues == sorted(dues)
    assert len({round(due - count * 0.02, 4) for count, due in enumerate(dues)}) > 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"is": "Eat"},
        {"is": "Match", "protocol": "sctp"},
        {"is": "Match", "direction": "up"},
        {"is": "Match", "family": 5},
        {"is": "Match", "remote": ["91.108.9.113/20"]},
        {"is": "Match", "payload": [[0, "no hex"]]},
        {"is": "Match", "colour": "red"},
        {"is": "Loss", "share": 1.5},
        {"is": "Loss", "share": 0.9, "burst": 2},
        {"is": "Forge", "addresses": ["somewhere"]},
    ],
)
def test_wrong_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        from_json(dict(wrong))


def test_a_rule_needs_an_existing_hop() -> None:
    with pytest.raises(ValueError, match="no hop 6"):
        Path(ROUTERS).add(plain("drop", hop=6))
