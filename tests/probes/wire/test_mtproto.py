import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.mtproto import FINGERPRINTS
from probes.wire import mtproto
from probes.wire.error import WireError
from probes.wire.mtproto import Obfuscation, Reader, ResPQ, Transport, TransportError
from tests.lab.mtproto import PQ, PRODUCTION, DataCentre, res_pq

NONCE = bytes(range(16))
NOW = 1_795_000_000
PLAIN = (Transport.ABRIDGED, Transport.INTERMEDIATE, Transport.PADDED)
HEADER = bytes(range(1, 65))
OLDER = "c3b42b026ce86b21"
THREE = (PRODUCTION, OLDER, "0123456789abcdef")


def answer(**given):
    return res_pq(NONCE, now=NOW, **given)


# What we send


def test_the_request_byte_by_byte():
    payload = mtproto.request(0x0102030405060708, NONCE)
    assert payload.hex() == (
        "0000000000000000" + "0807060504030201" + "14000000" + "f18e7ebe" + NONCE.hex()
    )
    abridged = mtproto.start(Transport.ABRIDGED) + mtproto.frame(Transport.ABRIDGED, payload)
    assert (len(abridged), abridged[:2].hex()) == (42, "ef0a")
    middle = mtproto.start(Transport.INTERMEDIATE) + mtproto.frame(Transport.INTERMEDIATE, payload)
    assert (len(middle), middle[:8].hex()) == (48, "eeeeeeee28000000")
    padded = mtproto.start(Transport.PADDED) + mtproto.frame(Transport.PADDED, payload, b"xyz")
    assert (len(padded), padded[:8].hex()) == (51, "dddddddd2b000000")
    assert abridged[2:] == middle[8:] == padded[8:48] == payload


def test_only_padded_frames_are_padded():
    payload = bytes(40)
    assert mtproto.frame(Transport.ABRIDGED, payload, b"xyz") == b"\x0a" + payload
    assert mtproto.frame(Transport.INTERMEDIATE, payload, b"xyz") == b"\x28\0\0\0" + payload


def test_long_abridged_frames_have_three_more_bytes_of_length():
    assert mtproto.frame(Transport.ABRIDGED, bytes(4 * 0x7E))[:2].hex() == "7e00"
    assert mtproto.frame(Transport.ABRIDGED, bytes(4 * 0x7F))[:4].hex() == "7f7f0000"


def test_message_ids_are_the_time_and_divisible_by_four():
    made = mtproto.message_id(NOW * 10**9 + 500_000_000)
    assert made >> 32 == NOW
    assert made & 0xFFFFFFFF == 1 << 31
    assert all(mtproto.message_id(NOW * 10**9 + n) % 4 == 0 for n in range(100))
    assert mtproto.request(mtproto.message_id(2**32 * 10**9 - 1), NONCE)


def test_a_short_nonce_is_our_own_mistake():
    with pytest.raises(ValueError, match="nonce"):
        mtproto.request(4, bytes(15))


# Obfuscation


def test_the_obfuscated_header():
    made = Obfuscation(HEADER, dc=2)
    assert made.start[:56] == HEADER[:56]
    assert len(made.start) == 64
    server = DataCentre(lambda nonce: res_pq(nonce, now=NOW))
    reply = server.said(made.start + made.seal(mtproto.frame(Transport.OBFUSCATED, bytes(40))))
    assert reply == b""  # the frame holds no request
    assert (server.framing, server.number) == ("abridged", 2)


@pytest.mark.parametrize(("dc", "number"), [(5, 5), (-2, -2), (10001, 10001), (0, 0x3E3D)])
def test_the_number_of_the_data_centre(dc, number):
    server = DataCentre()
    server.said(Obfuscation(HEADER, dc).start)
    assert server.number == number, "0 leaves the random bytes as they are"


@pytest.mark.parametrize("cut", [1, 7, 64, 1000])
def test_an_obfuscated_exchange(cut):
    made, server = Obfuscation(HEADER), DataCentre(lambda nonce: res_pq(nonce, now=NOW))
    said = made.start + made.seal(mtproto.frame(Transport.OBFUSCATED, mtproto.request(4, NONCE)))
    heard = b"".join(server.said(said[at : at + cut]) for at in range(0, len(said), cut))
    reader, found = Reader(Transport.OBFUSCATED, NONCE), None
    for at in range(0, len(heard), cut):
        assert found is None
        found = reader.feed(made.open(heard[at : at + cut]))
    assert found == ResPQ(NOW, (PRODUCTION,))


@pytest.mark.parametrize(
    "start",
    [
        b"\xef",
        b"HEAD",
        b"POST",
        b"GET ",
        b"OPTI",
        b"\xdd" * 4,
        b"\xee" * 4,
        b"\x16\x03\x01\x02",
        b"abcd\0\0\0\0",
    ],
)
def test_headers_that_look_like_something_else(start):
    header = start + HEADER[len(start) :]
    assert not mtproto.is_header(header)
    with pytest.raises(ValueError, match="obfuscated"):
        Obfuscation(header)


def test_other_headers_will_do():
    assert mtproto.is_header(HEADER)
    assert not mtproto.is_header(HEADER[:63])


# What we accept


@pytest.mark.parametrize(("keys", "size", "first"), [((PRODUCTION,), 84, 0x15), (THREE, 100, 0x19)])
def test_the_answer_byte_by_byte(keys, size, first):
    payload = answer(fingerprints=keys)
    assert len(payload) == size
    assert payload[20:24].hex() == "63241605"
    assert payload[56] == 8
    assert payload[68:72].hex() == "15c4b51c"
    assert payload[76:84].hex() == "85fd64de851d9dd0"
    assert mtproto.frame(Transport.ABRIDGED, payload)[0] == first
    assert mtproto.read_answer(payload, NONCE) == ResPQ(NOW, keys)


@pytest.mark.parametrize(
    ("number", "wire"),
    [
        ("d09d1d85de64fd85", "85fd64de851d9dd0"),
        ("b25898df208d2603", "03268d20df9858b2"),
        ("0bc35f3509f7b7a5", "a5b7f709355fc30b"),
        ("c3b42b026ce86b21", "216be86c022bb4c3"),
    ],
)
def test_the_known_fingerprints_on_the_wire(number, wire):
    assert number in FINGERPRINTS
    payload = answer()[:76] + bytes.fromhex(wire)
    found = mtproto.read_answer(payload, NONCE)
    assert found.fingerprints == (number,)
    mtproto.check_keys(found, FINGERPRINTS)


def test_ten_keys_are_known():
    assert len(set(FINGERPRINTS)) == 10


def test_one_known_key_among_others_will_do():
    mtproto.check_keys(ResPQ(NOW, THREE), FINGERPRINTS)
    with pytest.raises(WireError) as caught:
        mtproto.check_keys(ResPQ(NOW, THREE[2:]), FINGERPRINTS)
    assert caught.value.failure is Failure.UNKNOWN_ISSUER


@pytest.mark.parametrize("transport", PLAIN)
@pytest.mark.parametrize("cut", [1, 3, 84, 1000])
def test_frames_may_be_cut_anywhere(transport, cut):
    server = DataCentre()
    server.framing = str(transport)
    data = server.framed(answer(fingerprints=THREE))
    reader, found = Reader(transport, NONCE), None
    for at in range(0, len(data), cut):
        assert found is None
        found = reader.feed(data[at : at + cut])
    assert found == ResPQ(NOW, THREE)


@pytest.mark.parametrize("transport", PLAIN)
@pytest.mark.parametrize(
    ("code", "wire"), [(-404, "6cfeffff"), (-429, "53feffff"), (-444, "44feffff")]
)
def test_transport_errors(transport, code, wire):
    data = mtproto.frame(transport, bytes.fromhex(wire), b"four")
    assert Reader(transport, NONCE).feed(data) == TransportError(code)


@pytest.mark.parametrize("wire", ["ffffffff", "6bfeffff", "00000000", "94010000"])
def test_other_numbers_are_no_transport_errors(wire):
    with pytest.raises(WireError) as caught:
        mtproto.read_answer(bytes.fromhex(wire), NONCE)
    assert caught.value.failure is Failure.BAD_REPLY


# What we refuse


def patched(at, new, **given):
    payload = answer(**given)
    return payload[:at] + new + payload[at + len(new) :]


PRIMES = (0x494C553B, 0x53911073, 2**61 - 1, 9223372036854775783)
REFUSALS = [
    ("a key", patched(0, b"\1"), Failure.BAD_REPLY),
    ("a client's message id", patched(8, b"\0"), Failure.BAD_REPLY),
    ("a notification's message id", patched(8, b"\3"), Failure.BAD_REPLY),
    ("another length", patched(16, b"\x41"), Failure.BAD_REPLY),
    ("another constructor", patched(20, b"\x64"), Failure.BAD_REPLY),
    ("another nonce", patched(24, b"\xff"), Failure.WRONG_ID),
    ("no vector", patched(68, b"\0"), Failure.BAD_REPLY),
    ("no fingerprint", answer(fingerprints=()), Failure.BAD_REPLY),
    ("nine fingerprints", answer(fingerprints=THREE * 3), Failure.BAD_REPLY),
    ("more fingerprints than there are", patched(72, b"\2"), Failure.BAD_REPLY),
    ("2^32 fingerprints", patched(72, b"\xff\xff\xff\xff"), Failure.BAD_REPLY),
    ("a pq of seven bytes", patched(56, b"\7"), Failure.BAD_REPLY),
    ("a pq with dirt behind it", patched(67, b"\1"), Failure.BAD_REPLY),
    ("a pq beyond 2^63", answer(pq=PQ | 1 << 63), Failure.BAD_REPLY),
    ("no pq", answer(pq=0), Failure.BAD_REPLY),
    ("bytes behind it", answer() + b"xxxx", Failure.BAD_REPLY),
    ("cut", answer()[:-1], Failure.BAD_REPLY),
    ("cut short", answer()[:70], Failure.TRUNCATED),
    ("nothing", b"", Failure.TRUNCATED),
    *((f"a prime for pq, {prime}", answer(pq=prime), Failure.BAD_REPLY) for prime in PRIMES),
]


@pytest.mark.parametrize(
    ("payload", "failure"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_refuses(payload, failure):
    with pytest.raises(WireError) as caught:
        mtproto.read_answer(payload, NONCE)
    assert caught.value.failure is failure


@pytest.mark.parametrize("size", range(16))
def test_padding_of_up_to_fifteen_bytes(size):
    padded = answer() + bytes(size)
    assert mtproto.read_answer(padded, NONCE, padded=True) == ResPQ(NOW, (PRODUCTION,))
    with pytest.raises(WireError, match="beside"):
        mtproto.read_answer(answer() + bytes(16), NONCE, padded=True)


@pytest.mark.parametrize(
    ("transport", "data", "failure"),
    [
        (Transport.INTERMEDIATE, struct.pack("<I", 1 << 24), Failure.OVERSIZED),
        (Transport.INTERMEDIATE, b"\xff" * 4, Failure.OVERSIZED),
        (Transport.PADDED, struct.pack("<I", 1 << 24), Failure.OVERSIZED),
        (Transport.ABRIDGED, b"\x7f\0\0\x40", Failure.OVERSIZED),
        (Transport.ABRIDGED, b"\x7f\xff\xff\xff", Failure.OVERSIZED),
        (Transport.ABRIDGED, b"\x80", Failure.BAD_REPLY),
        (Transport.ABRIDGED, b"\0", Failure.BAD_REPLY),
        (Transport.ABRIDGED, b"\x02", Failure.BAD_REPLY),
        (Transport.ABRIDGED, b"\x15\0\0\1", Failure.BAD_REPLY),
        (Transport.ABRIDGED, b"HT", Failure.BAD_REPLY),
    ],
)
def test_refused_as_soon_as_it_shows(transport, data, failure):
    with pytest.raises(WireError) as caught:
        Reader(transport, NONCE).feed(data)
    assert caught.value.failure is failure


# Products and primes


@pytest.mark.parametrize("number", [2, 3, 37, 41, 97, 2**31 - 1, *PRIMES])
def test_primes(number):
    assert mtproto.is_prime(number)


@pytest.mark.parametrize(
    "number",
    [0, 1, 4, 1681, 561, 3215031751, 3825123056546413051, PQ, (2**31 - 1) ** 2, 2**62],
)
def test_products(number):
    """Carmichael numbers and strong pseudoprimes among them."""
    assert not mtproto.is_prime(number)


def test_small_numbers_as_by_division():
    sieve = {n for n in range(2, 3000) if all(n % d for d in range(2, int(n**0.5) + 1))}
    assert {n for n in range(3000) if mtproto.is_prime(n)} == sieve


# Whatever comes


FRAMES = {t: mtproto.frame(t, answer(fingerprints=THREE), b"fifteen bytes..") for t in PLAIN}


@given(st.data(), st.sampled_from(PLAIN))
def test_damaged_frames(mutated, data, transport):
    read(transport, data.draw(mutated(FRAMES[transport])))


@given(st.binary(max_size=700), st.sampled_from(Transport))
def test_any_bytes(data, transport):
    read(transport, data)


def read(transport, data):
    reader = Reader(transport, NONCE)
    for at in range(0, len(data), 50):
        try:
            found = reader.feed(data[at : at + 50])
        except WireError:
            return
        assert len(reader._data) <= mtproto.MAX_FRAME + 54
        if found is not None:
            assert isinstance(found, TransportError) or 1 <= len(found.fingerprints) <= 8
            return
