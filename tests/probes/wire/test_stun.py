import contextlib
import struct

import aioice.stun
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import stun
from probes.wire.error import WireError
from probes.wire.stun import Dress, read_answer

ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
SEED = bytes(range(100, 132))
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
LONG_TERM_KEY = stun.long_term_key("マトリックス", "example.org", "TheMatrIX")

# RFC 5769 sections 2.1 to 2.4. The first three pad with spaces, which our encoder does not.
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
RESPONSE_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RESPONSE_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)
LONG_TERM_ID = bytes.fromhex("78ad3433c6ad72c029da412e")
LONG_TERM = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e"
    "00060012e3839ee38388e383aae38383e382afe382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c39465354767936347341"
    "0014000b6578616d706c652e6f726700"
    "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)


def address(host="192.0.2.1", port=32853, transaction_id=ID, kind=stun.XOR_MAPPED_ADDRESS):
    pack = aioice.stun.pack_address
    if kind == stun.MAPPED_ADDRESS:
        return kind, pack((host, port))
    return kind, aioice.stun.pack_xor_address((host, port), transaction_id)


def error(code, reason):
    return stun.ERROR_CODE, struct.pack("!HBB", 0, code // 100, code % 100) + reason


def success(*attributes, **kwargs):
    return stun.encode(0x0101, ID, attributes or [address()], **kwargs)


UNAUTHORIZED = stun.encode(
    0x0113,
    ID,
    [
        error(401, b"Unauthorized"),
        (0x0015, b"0123456789abcdef"),
        (stun.REALM, b"telegram.org"),
        (stun.SOFTWARE, b"None"),
    ],
    fingerprint=True,
)


# The vectors of RFC 5769


@pytest.mark.parametrize(
    ("message", "size", "mac", "crc"),
    [
        (REQUEST, 108, "9aeaa70c", "e57a3bcf"),
        (RESPONSE_IPV4, 80, "2b91f599", "c07d4c96"),
        (RESPONSE_IPV6, 92, "a382954e", "c8fb0b4c"),
    ],
)
def test_short_term_vectors_verify(message, size, mac, crc):
    assert len(message) == size
    values = dict(stun.attributes(message))
    assert values[stun.MESSAGE_INTEGRITY].hex().startswith(mac)
    assert values[stun.FINGERPRINT].hex() == crc
    assert stun.verify_integrity(message, PASSWORD)
    assert stun.verify_fingerprint(message)
    assert not stun.verify_integrity(message, PASSWORD + b"x")
    for at in range(len(message) - 32):
        broken = bytearray(message)
        broken[at] ^= 1
        if at not in (2, 3) and at < 20:  # in the header, so that the attributes stay whole
            assert not stun.verify_integrity(bytes(broken), PASSWORD)
            assert not stun.verify_fingerprint(bytes(broken))


@pytest.mark.parametrize("message", [REQUEST, RESPONSE_IPV4, RESPONSE_IPV6])
def test_short_term_vectors_are_what_we_encode_but_for_the_padding(message):
    *attributes, _, _ = stun.attributes(message)
    kind = int.from_bytes(message[:2], "big")
    ours = stun.encode(kind, ID, attributes, integrity_key=PASSWORD, fingerprint=True)
    assert len(ours) == len(message)
    assert ours[:-32].replace(b"\0", b" ") == message[:-32].replace(b"\0", b" ")
    assert stun.verify_integrity(ours, PASSWORD)
    assert stun.verify_fingerprint(ours)


def test_long_term_vector_is_encoded_byte_for_byte():
    assert LONG_TERM_KEY.hex().startswith("e8ca7ad5")
    assert LONG_TERM_KEY.hex().endswith("b2a9")
    attributes = [
        (stun.USERNAME, "マトリックス".encode()),
        (0x0015, b"f//499k954d6OL34oL9FSTvy64sA"),
        (stun.REALM, b"example.org"),
    ]
    encoded = stun.encode(0x0001, LONG_TERM_ID, attributes, integrity_key=LONG_TERM_KEY)
    assert encoded == LONG_TERM
    assert len(encoded) == 116
    assert stun.verify_integrity(LONG_TERM, LONG_TERM_KEY)
    assert not stun.verify_fingerprint(LONG_TERM)


@pytest.mark.parametrize(
    ("message", "host"),
    [(RESPONSE_IPV4, "192.0.2.1"), (RESPONSE_IPV6, "2001:db8:1234:5678:11:2233:4455:6677")],
)
def test_vectors_are_read(message, host):
    answer = read_answer(message, ID)
    assert answer.mapped == (host, 32853)
    assert answer.software == "test vector"
    assert answer.size == len(message)
    assert answer.error_code is None


# What we send


def test_bare_is_a_header_and_nothing_else():
    request = stun.binding_request(Dress.BARE, ID, SEED)
    assert request.hex() == "00010000" + "2112a442" + ID.hex()


def test_rfc3489_has_no_cookie_even_if_chance_wants_it():
    request = stun.binding_request(Dress.RFC3489, ID, SEED)
    assert request == bytes.fromhex("00010000") + SEED[:4] + ID
    unlucky = stun.binding_request(Dress.RFC3489, ID, bytes.fromhex("2112a442") + SEED)
    assert len(unlucky) == 20
    assert unlucky[4:8] != bytes.fromhex("2112a442")
    assert unlucky[8:] == ID


def test_app_is_the_keepalive():
    request = stun.binding_request(Dress.APP, ID, SEED)
    assert request.hex() == "08010000" + "2112a442" + ID.hex()


@given(st.binary(min_size=12, max_size=12), st.binary(min_size=32, max_size=64))
def test_ice_is_a_valid_connectivity_check(transaction_id, seed):
    request = stun.binding_request(Dress.ICE, transaction_id, seed)
    assert 88 <= len(request) <= 108
    kinds = [kind for kind, _ in stun.attributes(request)]
    assert kinds == [0x0006, 0xC057, 0x802A, 0x0024, 0x0008, 0x8028]
    username = dict(stun.attributes(request))[stun.USERNAME].decode("ascii")
    assert len(username) == 9
    assert username[4] == ":"
    assert (username[:4] + username[5:]).replace("+", "a").replace("/", "a").isalnum()
    assert stun.verify_fingerprint(request)
    parsed = aioice.stun.parse_message(without(request, stun.GOOG_NETWORK_INFO))
    assert parsed.attributes["USERNAME"] == username
    assert parsed.attributes["PRIORITY"] >> 24 == 110


def without(message, kind):
    """The message less one attribute, which aioice does not know; the fingerprint made anew."""
    kept = [(k, v) for k, v in stun.attributes(message) if k not in (kind, stun.FINGERPRINT)]
    return stun.encode(int.from_bytes(message[:2], "big"), message[8:20], kept, fingerprint=True)


def test_every_random_thing_of_ice_comes_from_the_seed():
    one, same, other = (
        dict(stun.attributes(stun.binding_request(Dress.ICE, ID, seed)))
        for seed in (SEED, SEED, SEED[:31] + b"\0")
    )
    assert one == same
    for kind in (stun.USERNAME, stun.ICE_CONTROLLING, stun.MESSAGE_INTEGRITY):
        assert one[kind] != other[kind]


def test_allocate_is_as_captured():
    assert stun.allocate_request(ID).hex() == "000300082112a442" + ID.hex() + "0019000411000000"


def test_a_short_id_or_seed_is_our_own_mistake():
    with pytest.raises(ValueError, match="seed"):
        stun.binding_request(Dress.BARE, ID, bytes(31))
    with pytest.raises(ValueError, match="transaction id"):
        stun.allocate_request(bytes(16))


# aioice as the oracle


PORTS = st.integers(0, 65535)
HOSTS = st.ip_addresses().map(str)


@given(HOSTS, PORTS, st.text(max_size=40), st.booleans(), st.binary(min_size=12, max_size=12))
def test_encodes_as_aioice_does(host, port, software, integrity, transaction_id):
    theirs = aioice.stun.Message(
        aioice.stun.Method.BINDING,
        aioice.stun.Class.RESPONSE,
        transaction_id,
        {"SOFTWARE": software, "XOR-MAPPED-ADDRESS": (host, port)},
    )
    if integrity:
        theirs.add_message_integrity(b"key")
    else:
        theirs.add_fingerprint()
    attributes = [(stun.SOFTWARE, software.encode()), address(host, port, transaction_id)]
    ours = stun.encode(
        0x0101,
        transaction_id,
        attributes,
        integrity_key=b"key" if integrity else None,
        fingerprint=True,
    )
    assert ours == bytes(theirs)
    assert read_answer(bytes(theirs), transaction_id).mapped == (host, port)
    assert aioice.stun.parse_message(ours).attributes["XOR-MAPPED-ADDRESS"] == (host, port)
    assert stun.verify_integrity(ours, b"key") is integrity


@given(HOSTS, PORTS, st.integers(300, 699), st.text("abc ", max_size=40))
def test_reads_errors_as_aioice_does(host, port, code, reason):
    theirs = aioice.stun.Message(
        aioice.stun.Method.ALLOCATE,
        aioice.stun.Class.ERROR,
        ID,
        {"ERROR-CODE": (code, reason), "MAPPED-ADDRESS": (host, port)},
    )
    theirs.add_fingerprint()
    answer = read_answer(bytes(theirs), ID)
    assert answer.error_code == code
    assert answer.reason == " ".join(reason.split())
    assert answer.mapped == (host, port)


# What we accept


def test_reads_a_telegram_binding():
    """The attributes of the answers captured from 91.108.9.35 and its like: 84 bytes."""
    message = success(
        address(),
        address("192.0.2.1", 32853, kind=stun.MAPPED_ADDRESS),
        (0x802B, bytes.fromhex("000105785b6c0923")),
        (0x802C, bytes.fromhex("000105790a000001")),
        (stun.SOFTWARE, b"None"),
        fingerprint=True,
    )
    assert read_answer(message, ID) == stun.Answer(None, "", "", "None", ("192.0.2.1", 32853), 84)


def test_reads_an_unauthorized():
    answer = read_answer(UNAUTHORIZED, ID)
    assert answer == stun.Answer(401, "Unauthorized", "telegram.org", "None", None, 92)


def test_the_masked_address_goes_before_the_plain_one():
    message = success(address("10.0.0.1", 1, kind=stun.MAPPED_ADDRESS), address())
    assert read_answer(message, ID).mapped == ("192.0.2.1", 32853)


@pytest.mark.parametrize("kind", [0x0020, 0x8020, 0x0001])
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_reads_each_form_of_the_mapped_address(kind, host):
    assert read_answer(success(address(host, 7, kind=kind)), ID).mapped == (host, 7)


def test_only_the_first_of_a_kind_counts():
    message = success(address("192.0.2.9", 9), address(), (stun.SOFTWARE, b"a"), (0x8022, b"b"))
    answer = read_answer(message, ID)
    assert (answer.mapped, answer.software) == (("192.0.2.9", 9), "a")


def test_a_keepalive_and_an_allocate_need_no_address():
    assert read_answer(stun.encode(0x0802, ID, ()), ID).size == 20
    assert read_answer(stun.encode(0x0103, ID, ()), ID).mapped is None


def test_reads_an_rfc3489_answer():
    prefix = SEED[:4]
    modern = success(address(kind=stun.MAPPED_ADDRESS), address("192.0.2.7", 7))
    legacy = modern[:4] + prefix + modern[8:]
    assert read_answer(legacy, ID, legacy_prefix=prefix).mapped == ("192.0.2.1", 32853)


def test_texts_are_cleaned_and_bounded():
    message = stun.encode(
        0x0113,
        ID,
        [
            error(401, b"\x1b[31mNo\x1b[0m\nway"),
            (stun.REALM, "evil\u202e<b>".encode()),
            (stun.SOFTWARE, b"s" * 700),
        ],
    )
    answer = read_answer(message, ID)
    assert answer.reason == "No way"
    assert answer.realm == "evil<b>"
    assert answer.software == "s" * 119 + "…"


@pytest.mark.parametrize(
    ("data", "expected"),
    [(success(), True), (bytes(20), False), (b"", False), (bytes(8) + ID, True), (ID, False)],
)
def test_matches_looks_at_the_id_only(data, expected):
    assert stun.matches(data, ID) is expected


# What we refuse


def patched(message, at, value):
    return message[:at] + value + message[at + len(value) :]


BAD_FINGERPRINT = success(address(), fingerprint=True)[:-1] + b"\0"
EARLY_FINGERPRINT = (lambda m: patched(m, 2, (len(m) - 16).to_bytes(2, "big")) + b"\x80\x22\0\0")(
    success(address(), fingerprint=True)
)

REFUSALS = [
    ("empty", b"", Failure.TRUNCATED),
    ("short header", success()[:19], Failure.TRUNCATED),
    ("cut body", success()[:-1], Failure.TRUNCATED),
    ("trailing bytes", success() + b"\0", Failure.BAD_REPLY),
    ("too large", success() + bytes(2048), Failure.OVERSIZED),
    ("announces too much", patched(success(), 2, b"\xff\xfc"), Failure.OVERSIZED),
    ("top bits", patched(success(), 0, b"\x80\x01"), Failure.BAD_REPLY),
    ("one top bit", patched(success(), 0, b"\x41\x01"), Failure.BAD_REPLY),
    ("odd length", patched(success(), 2, b"\x00\x0d") + b"\0", Failure.BAD_REPLY),
    ("our own request", stun.binding_request(Dress.BARE, ID, SEED), Failure.BAD_REPLY),
    ("our own ice check", stun.binding_request(Dress.ICE, ID, SEED), Failure.BAD_REPLY),
    ("our own keepalive", stun.binding_request(Dress.APP, ID, SEED), Failure.BAD_REPLY),
    ("our own allocate", stun.allocate_request(ID), Failure.BAD_REPLY),
    ("an indication", patched(success(), 0, b"\x00\x11"), Failure.BAD_REPLY),
    ("another method", patched(success(), 0, b"\x01\x04"), Failure.BAD_REPLY),
    ("no cookie", patched(success(), 4, bytes(4)), Failure.BAD_REPLY),
    ("another id", patched(success(), 19, b"\0"), Failure.WRONG_ID),
    ("attribute overruns", patched(success(), 22, b"\x00\x09"), Failure.TRUNCATED),
    ("bad fingerprint", BAD_FINGERPRINT, Failure.BAD_REPLY),
    ("fingerprint not last", EARLY_FINGERPRINT, Failure.BAD_REPLY),
    ("short fingerprint", success(address(), (0x8028, b"\0")), Failure.BAD_REPLY),
    ("no address", success((stun.SOFTWARE, b"x")), Failure.BAD_REPLY),
    ("short address", success((0x0020, b"\0\x01\0\0")), Failure.BAD_REPLY),
    ("empty address", success((0x0020, b"")), Failure.BAD_REPLY),
    ("unknown family", success((0x0020, b"\0\x03" + bytes(6))), Failure.BAD_REPLY),
    ("v6 in 4 bytes", success((0x0020, b"\0\x02" + bytes(6))), Failure.BAD_REPLY),
    ("v4 in 16 bytes", success((0x0001, b"\0\x01" + bytes(18))), Failure.BAD_REPLY),
    ("error without code", stun.encode(0x0111, ID, ()), Failure.BAD_REPLY),
    ("short code", stun.encode(0x0111, ID, [(9, b"\0\0\4")]), Failure.BAD_REPLY),
    ("code 200", stun.encode(0x0111, ID, [error(200, b"")]), Failure.BAD_REPLY),
    ("code 700", stun.encode(0x0111, ID, [error(700, b"")]), Failure.BAD_REPLY),
    ("code 4xx", stun.encode(0x0111, ID, [(9, b"\0\0\4\x64")]), Failure.BAD_REPLY),
]


@pytest.mark.parametrize(
    ("data", "failure"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_refuses(data, failure):
    with pytest.raises(WireError) as caught:
        read_answer(data, ID)
    assert caught.value.failure is failure
    assert 0 < len(str(caught.value)) < 200


def test_shape_goes_before_id_and_id_before_attributes():
    for data, failure in [
        (patched(success(), 8, bytes(12))[:-1], Failure.TRUNCATED),
        (patched(patched(success(), 8, bytes(12)), 22, b"\xff\xff"), Failure.WRONG_ID),
    ]:
        with pytest.raises(WireError) as caught:
            read_answer(data, ID)
        assert caught.value.failure is failure


def test_a_legacy_answer_must_carry_the_whole_id():
    for prefix in (b"\0\0\0\0", stun.MAGIC_COOKIE.to_bytes(4, "big")):
        message = patched(success(address(kind=stun.MAPPED_ADDRESS)), 4, prefix)
        with pytest.raises(WireError) as caught:
            read_answer(message, ID, legacy_prefix=SEED[:4])
        assert caught.value.failure is Failure.WRONG_ID


def test_the_largest_message_passes():
    filler = (stun.SOFTWARE, bytes(2048 - 20 - 12 - 4))
    assert read_answer(success(address(), filler), ID).size == stun.MAX_MESSAGE


# On a stream


def test_frame_length_is_the_whole_message():
    assert stun.frame_length(RESPONSE_IPV4[:20]) == 80
    assert stun.frame_length(RESPONSE_IPV4) == 80
    assert stun.frame_length(b"\x01\x01\x07\xec" + bytes(16)) == 2048


@pytest.mark.parametrize(
    ("header", "failure"),
    [
        (bytes(19), Failure.TRUNCATED),
        (b"HTTP/1.1 400 Bad Req", Failure.BAD_REPLY),
        (b"\x40\x00\x00\x04" + bytes(16), Failure.BAD_REPLY),
        (b"\x01\x01\x00\x05" + bytes(16), Failure.BAD_REPLY),
        (b"\x01\x01\x07\xf0" + bytes(16), Failure.OVERSIZED),
    ],
)
def test_frame_length_refuses(header, failure):
    with pytest.raises(WireError) as caught:
        stun.frame_length(header)
    assert caught.value.failure is failure


# Whatever comes


def outcome(data, **kwargs):
    """Reads ``data`` in every way; all that may be raised is WireError."""
    for read in (
        lambda: stun.frame_length(data),
        lambda: stun.attributes(data),
        lambda: stun.verify_fingerprint(data),
        lambda: stun.verify_integrity(data, b"key"),
    ):
        with contextlib.suppress(WireError):
            read()
    try:
        answer = read_answer(data, ID, **kwargs)
    except WireError:
        return
    assert max(map(len, (answer.reason, answer.realm, answer.software))) <= 120
    assert answer.size == len(data)
    assert answer.error_code is None or 300 <= answer.error_code <= 699


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data):
    outcome(data)
    outcome(data, legacy_prefix=b"abcd")


@given(st.sampled_from((0x0101, 0x0103, 0x0111, 0x0113, 0x0802)), st.binary(max_size=100))
def test_arbitrary_attributes(kind, body):
    body += bytes(-len(body) % 4)
    outcome(stun.encode(kind, ID, ())[:2] + struct.pack("!H", len(body)) + success()[4:20] + body)


@given(st.data(), st.sampled_from((RESPONSE_IPV4, RESPONSE_IPV6, UNAUTHORIZED, success())))
def test_damaged_answers(mutated, data, valid):
    outcome(data.draw(mutated(valid)))
