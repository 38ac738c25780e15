"""QUIC's invariants: the question for versions, and what may come back to a first packet."""

from __future__ import annotations

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import quic
from probes.wire.error import WireError
from probes.wire.quic import V1, V2, Ids, Seen, ids_of, ping, read

IDS = Ids(theirs=bytes(range(8)), ours=bytes(range(100, 108)))
FILLING = bytes(i & 0xFF for i in range(1200))
PING = ping(IDS, FILLING)
VERSIONS = b"\xc0" + encode_quic_version_negotiation(IDS.theirs, IDS.ours, [V1, V2])[1:]
"""As the oracle writes it, but for the first byte, of which most is random: ids change places."""


def packet(kind: int, payload: bytes = bytes(30), version: int = V1) -> bytes:
    """A long packet to us, with a token where one has its place."""
    head = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big")
    head += b"\x08" + IDS.ours + b"\x04srvr"
    if kind == (1 if version == V2 else 0):
        head += b"\x02to"
    return head + (0x4000 | len(payload)).to_bytes(2, "big") + payload


def failure(data: bytes, version: int = V1) -> Failure:
    with pytest.raises(WireError) as caught:
        read(data, IDS, version)
    return caught.value.failure


def test_the_ping_is_a_long_packet_of_a_version_for_nobody() -> None:
    assert len(PING) == quic.SMALLEST == 1200
    assert PING[1:5].hex() == "1a2a3a4a"
    assert all(int(digit, 16) & 0xF == 0xA for digit in PING[1:5].hex()[1::2])
    assert ids_of(PING) == IDS
    header = pull_quic_header(Buffer(data=PING), host_cid_length=8)
    assert header.packet_type is QuicPacketType.INITIAL
    assert (header.destination_cid, header.source_cid) == (IDS.theirs, IDS.ours)
    assert header.packet_length == 1200
    assert PING[-100:] == FILLING[-100:]


@pytest.mark.parametrize("ids", [Ids(b"", b"x" * 8), Ids(b"x" * 21, b"x"), Ids(b"x", b"")])
def test_an_id_of_no_possible_length_is_our_bug(ids: Ids) -> None:
    with pytest.raises(ValueError, match="length"):
        ping(ids, FILLING)


def test_the_list_of_versions() -> None:
    assert len(VERSIONS) == 31, "as measured of aioquic"
    assert read(VERSIONS, IDS, quic.RESERVED) == Seen(0, (V1, V2))


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("kind", range(4))
def test_packets_of_a_handshake(version: int, kind: int) -> None:
    assert read(packet(kind, version=version), IDS, version) == Seen(version)


def test_several_packets_and_padding_in_one_datagram() -> None:
    assert read(packet(0) + packet(2) + bytes(700), IDS, V1) == Seen(V1)
    assert read(packet(0) + b"\x40" + IDS.ours + bytes(50), IDS, V1) == Seen(V1)
    assert read(b"\x40" + IDS.ours + bytes(50), IDS, V1) == Seen(None)


def test_a_retry_goes_on_to_the_datagrams_end() -> None:
    made = encode_quic_retry(V1, b"srvr", IDS.ours, IDS.theirs, b"token")
    assert read(made, IDS, V1) == Seen(V1)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", Failure.TRUNCATED),
        (b"\xc0\0\0\0\1", Failure.TRUNCATED),
        (packet(0)[:18], Failure.TRUNCATED),
        (packet(0)[:-1], Failure.TRUNCATED),
        (packet(0) + packet(2)[:-1], Failure.TRUNCATED),
        (VERSIONS[:-1], Failure.TRUNCATED),
        (VERSIONS[:23], Failure.TRUNCATED),
        (VERSIONS[:23] + b"\xba\xba\xba\xba" * 65, Failure.OVERSIZED),
        (bytes(4097), Failure.OVERSIZED),
        (packet(0).replace(IDS.ours, bytes(8)), Failure.WRONG_ID),
        (VERSIONS.replace(IDS.theirs, bytes(8)) + b"\0\0\0\2", Failure.WRONG_ID),
        (VERSIONS, Failure.BAD_REPLY),  # it offers what was asked for
        (ping(IDS, FILLING, V1), Failure.BAD_REPLY),  # an echo
        (PING, Failure.BAD_REPLY),
        (packet(0, version=V2), Failure.BAD_REPLY),
        (b"\x80" + packet(0)[1:], Failure.BAD_REPLY),
        (b"\x40" + bytes(40), Failure.BAD_REPLY),
        (b"\x01\x01\0\x0c!\x12\xa4B" + bytes(24), Failure.BAD_REPLY),
        (b"\x16\xfe\xfd" + bytes(40), Failure.BAD_REPLY),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Failure.BAD_REPLY),
    ],
)
def test_each_misbehaviour_has_its_word(data: bytes, word: Failure) -> None:
    assert failure(data) is word


@given(st.binary(max_size=1500), st.sampled_from([V1, V2, quic.RESERVED]))
def test_arbitrary_bytes(data: bytes, version: int) -> None:
    with pytest.raises(WireError):
        read(data, IDS, version)


@given(st.data())
def test_damaged_packets(mutated, data) -> None:
    valid = data.draw(st.sampled_from([VERSIONS, packet(0) + packet(2), packet(3)]))
    changed = data.draw(mutated(valid))
    try:
        seen = read(changed, IDS, V1)
    except WireError:
        return
    assert seen.version in (None, 0, V1)
    assert len(seen.versions) <= quic.MOST_VERSIONS
