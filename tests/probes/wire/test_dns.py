import struct
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import dns as codec
from probes.wire.error import WireError

ID = 0x4D2A
NAME = "web.example."


def reply(*answers, type="A", rcode=dns.rcode.NOERROR, flags=0, question=True, edns=True):
    """The wire form of an answer; ``answers`` are (name, ttl, type, text, ...)."""
    query = dns.message.from_wire(codec.encode_query(NAME, type, ID))
    message = dns.message.make_response(query, recursion_available=True)
    message.set_rcode(rcode)
    message.flags |= flags
    if not question:
        message.question = []
    if not edns:
        message.use_edns(False)
    for name, ttl, kind, *texts in answers:
        message.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, *texts))
    return message.to_wire(max_size=65535, want_shuffle=False)


def read(data, type="A", name=NAME):
    return codec.read_answer(data, query_id=ID, name=name, type=type)


CHAINED = reply(
    (NAME, 300, "CNAME", "cdn.example."),
    ("cdn.example.", 60, "CNAME", "pop.example."),
    ("pop.example.", 120, "A", "192.0.2.1", "192.0.2.2"),
    ("other.example.", 5, "A", "203.0.113.1"),
)


# What we send


def test_query_is_recursive_with_edns():
    wire = codec.encode_query("web.example", "AAAA", ID)
    opt = bytes.fromhex("00 0029 04d0 00000000 0000")  # root, OPT, 1232 bytes, no options
    assert wire == bytes.fromhex("4d2a 0100 0001 0000 0000 0001") + (
        b"\x03web\x07example\x00" + bytes.fromhex("001c 0001") + opt
    )


@pytest.mark.parametrize(
    ("name", "type"), [("a..b", "A"), ("x" * 64 + ".example", "A"), ("web.example", "NONSENSE")]
)
def test_a_name_outside_the_dns_is_our_own_mistake(name, type):
    with pytest.raises(ValueError, match="cannot ask"):
        codec.encode_query(name, type, ID)


# What we accept


def test_follows_the_chain_in_any_order():
    for data in (CHAINED, reply(*reversed(rows()))):
        answer = read(data)
        assert answer.addresses == ("192.0.2.1", "192.0.2.2")
        assert answer.min_ttl == 60
        assert answer.records == ()
        assert answer.rcode == "NOERROR"


def rows():
    return [
        (NAME, 300, "CNAME", "cdn.example."),
        ("cdn.example.", 60, "CNAME", "pop.example."),
        ("pop.example.", 120, "A", "192.0.2.1", "192.0.2.2"),
    ]


def test_addresses_of_other_names_and_types_do_not_count():
    answer = read(
        reply(("other.example.", 5, "A", "203.0.113.1"), (NAME, 5, "AAAA", "2001:db8::1"))
    )
    assert answer.addresses == ()
    assert answer.min_ttl is None


def test_reads_ipv6():
    data = reply((NAME, 7, "AAAA", "2001:db8::1"), type="AAAA")
    assert read(data, "AAAA").addresses == ("2001:db8::1",)


def test_case_of_the_name_and_the_last_dot_do_not_count():
    for name in ("WEB.example", "web.EXAMPLE.", "web.example"):
        assert read(CHAINED, name=name).addresses
    assert read(CHAINED.replace(b"\x03web", b"\x03wEb")).addresses


def test_the_same_records_with_other_lifetimes_have_those():
    """What was read is remembered, but not how long it lives, nor under which id it came."""
    for ttl in (300, 299, 7, 300, 2**31 - 1):
        answer = read(reply((NAME, ttl, "A", "192.0.2.1", "192.0.2.2")))
        assert (answer.addresses, answer.min_ttl) == (("192.0.2.1", "192.0.2.2"), ttl)
    other = read(reply((NAME, 300, "A", "192.0.2.3")))
    assert other.addresses == ("192.0.2.3",)


def test_a_lifetime_with_the_highest_bit_set_is_none():
    """RFC 2181 section 8."""
    data = reply((NAME, 300, "A", "192.0.2.1")).replace(
        (300).to_bytes(4, "big"), (2**31 + 5).to_bytes(4, "big")
    )
    assert read(data).min_ttl == 0


def test_of_a_set_the_first_record_says_how_long():
    data = reply((NAME, 300, "A", "192.0.2.1", "192.0.2.2"))
    at = data.rindex((300).to_bytes(4, "big"))
    assert read(data[:at] + (5).to_bytes(4, "big") + data[at + 4 :]).min_ttl == 300


def test_an_alias_without_an_address_keeps_its_ttl():
    answer = read(reply((NAME, 300, "CNAME", "cdn.example.")))
    assert (answer.addresses, answer.min_ttl) == ((), 300)


def test_a_loop_of_aliases_ends():
    answer = read(reply((NAME, 300, "CNAME", "cdn.example."), ("cdn.example.", 60, "CNAME", NAME)))
    assert answer.addresses == ()


@pytest.mark.parametrize(
    ("type", "text"),
    [
        ("TXT", '"v=spf1 -all" "more"'),
        ("MX", "10 mail.example."),
        ("CNAME", "cdn.example."),
        ("SRV", "1 2 3478 turn.example."),
        ("HTTPS", '1 . alpn="h2,h3"'),
    ],
)
def test_reads_other_types_as_text(type, text):
    answer = read(reply((NAME, 9, type, text), type=type), type)
    assert answer.records == (text,)
    assert answer.addresses == ()
    assert answer.min_ttl == 9


def test_texts_are_cleaned_and_bounded():
    texts = [f'"{number} \\027[31m{"x" * 200}"' for number in range(20)]
    answer = read(reply((NAME, 9, "TXT", *texts), type="TXT"), "TXT")
    assert len(answer.records) == codec.MAX_RECORDS
    assert all(len(text) <= 120 and text.isprintable() for text in answer.records)


def test_the_number_of_addresses_is_bounded():
    addresses = [f"192.0.2.{number}" for number in range(200)]
    answer = read(reply((NAME, 9, "A", *addresses)))
    assert answer.addresses == tuple(addresses[: codec.MAX_ADDRESSES])


@pytest.mark.parametrize("field", ["truncated", "authentic", "edns"])
def test_reads_flags(field):
    flags = {"truncated": dns.flags.TC, "authentic": dns.flags.AD}.get(field, 0)
    with_it = read(reply(flags=flags, edns=field == "edns"))
    assert getattr(with_it, field) is True
    for other in {"truncated", "authentic", "edns"} - {field}:
        assert getattr(with_it, other) is False


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
def test_reads_the_rcode(rcode):
    assert read(reply(rcode=dns.rcode.from_text(rcode))).rcode == rcode


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED"])
def test_a_refusal_may_leave_out_the_question(rcode):
    data = reply(rcode=dns.rcode.from_text(rcode), question=False, edns=False)
    assert len(data) == 12
    assert read(data).rcode == rcode


# What we refuse


def patched(message, at, value):
    return message[:at] + value + message[at + len(value) :]


LOOP = struct.pack("!6H", ID, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
REFUSALS = [
    ("empty", b"", Failure.TRUNCATED),
    ("cut header", CHAINED[:11], Failure.TRUNCATED),
    ("only a header", CHAINED[:12], Failure.TRUNCATED),
    ("cut question", CHAINED[:20], Failure.TRUNCATED),
    ("cut record", CHAINED[:50], Failure.TRUNCATED),
    ("cut last byte", CHAINED[:-1], Failure.TRUNCATED),
    ("another id", patched(CHAINED, 1, b"\0"), Failure.WRONG_ID),
    ("another id, cut", b"\0\0" + CHAINED[2:40], Failure.WRONG_ID),
    ("our own query", codec.encode_query(NAME, "A", ID), Failure.BAD_REPLY),
    ("an update", patched(CHAINED, 2, b"\xa8"), Failure.BAD_REPLY),
    ("a notify", patched(CHAINED, 2, b"\xa0"), Failure.BAD_REPLY),
    ("trailing bytes", CHAINED + b"\0", Failure.BAD_REPLY),
    ("another name", CHAINED.replace(b"\x03web", b"\x03wed"), Failure.BAD_REPLY),
    ("another type", patched(CHAINED, 25, b"\0\x1c"), Failure.BAD_REPLY),
    ("another class", patched(CHAINED, 27, b"\0\x03"), Failure.BAD_REPLY),
    ("no question", reply(question=False), Failure.BAD_REPLY),
    ("no question, nxdomain", reply(question=False, rcode=dns.rcode.NXDOMAIN), Failure.BAD_REPLY),
    ("two questions", patched(CHAINED, 5, b"\2")[:29] + CHAINED[12:], Failure.BAD_REPLY),
    ("pointer to itself", LOOP, Failure.BAD_REPLY),
    ("bad label", patched(CHAINED, 12, b"\x80"), Failure.BAD_REPLY),
    ("short address", CHAINED.replace(b"\0\4\xc0\0\2\1", b"\0\3\xc0\0\2"), Failure.BAD_REPLY),
    ("too large", CHAINED + bytes(codec.MAX_MESSAGE), Failure.OVERSIZED),
]


@pytest.mark.parametrize(
    ("data", "failure"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_refuses(data, failure):
    with pytest.raises(WireError) as caught:
        read(data)
    assert caught.value.failure is failure
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_any_cut_is_truncated():
    for end in range(2, len(CHAINED)):
        with pytest.raises(WireError) as caught:
            read(CHAINED[:end])
        assert caught.value.failure is Failure.TRUNCATED


def test_a_chain_of_pointers_takes_bounded_time():
    """Every record's name walks thousands of pointers: the worst that fits into a message."""
    pointers = b"\0" + b"".join(struct.pack("!H", 0xC000 | at) for at in chain(2000))
    first = struct.pack("!HHIH", 16, 1, 0, len(pointers)) + pointers
    last = struct.pack("!H", 0xC000 | (12 + 17 + 2 + 10 + len(pointers) - 2))
    more = (last + struct.pack("!HHIH", 1, 1, 0, 4) + bytes(4)) * 200
    header = struct.pack("!6H", ID, 0x8180, 1, 201, 0, 0)
    data = header + b"\x03web\x07example\0\0\1\0\1" + b"\xc0\x0c" + first + more
    assert len(data) < codec.MAX_MESSAGE
    begin = time.process_time()
    with pytest.raises(WireError):
        read(data)
    assert time.process_time() - begin < 5


def chain(length):
    """Offsets for pointers that each lead to the one before, the first to a root label."""
    begin = 12 + 17 + 2 + 10
    return [begin, *(begin + 1 + 2 * number for number in range(length - 1))]


# Whatever comes


TYPES = ["A", "AAAA", "TXT", "MX", "CNAME", "SRV", "HTTPS", "NS", "SOA", "CAA"]
TEXTS = [
    (NAME, 9, "TXT", '"a" "b"'),
    (NAME, 9, "MX", "10 mail.example."),
    (NAME, 9, "SRV", "1 2 3478 turn.example."),
    (NAME, 9, "HTTPS", '1 . alpn="h2" ipv4hint=192.0.2.1'),
    (NAME, 9, "SOA", "ns.example. me.example. 1 2 3 4 5"),
    (NAME, 9, "CAA", '0 issue "ca.example"'),
]
VALID = [(CHAINED, "A"), *((reply(row, type=row[2]), row[2]) for row in TEXTS)]


def outcome(data, type):
    try:
        answer = read(data, type)
    except WireError:
        return
    assert len(answer.addresses) <= codec.MAX_ADDRESSES
    assert len(answer.records) <= codec.MAX_RECORDS
    assert all(len(text) <= 120 and text.isprintable() for text in answer.records)
    assert answer.min_ttl is None or 0 <= answer.min_ttl < 2**31


@given(st.binary(max_size=300), st.sampled_from(TYPES))
def test_arbitrary_bytes(data, type):
    outcome(data, type)
    outcome(struct.pack("!HH", ID, 0x8180) + data, type)


@given(st.data(), st.sampled_from(VALID))
def test_damaged_answers(mutated, data, valid):
    wire, type = valid
    # The id and the question are spared, so that most of the damage is read at all.
    outcome(wire[:29] + data.draw(mutated(wire[29:])), type)


@given(st.sampled_from(TYPES), st.binary(max_size=60))
def test_arbitrary_record_data(type, data):
    wire = reply(type=type, edns=False)
    kind = wire[25:27]
    outcome(
        patched(wire, 7, b"\1") + b"\xc0\x0c" + kind + struct.pack("!HIH", 1, 60, len(data)) + data,
        type,
    )
