"""What the censor reads out of the first bytes of a conversation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from aioquic.quic.crypto import CipherSuite, CryptoPair, derive_key_iv_hp
from hypothesis import given
from hypothesis import strategies as st

from probes.wire import quic
from tests.lab import content
from tests.lab.actions import IN, OUT, Drop
from tests.lab.censor import Censor, match
from tests.lab.packet import ACK, PSH
from tests.lab.talk import (
    BLOCKED,
    HELLO,
    LONG,
    NEUTRAL,
    REQUEST,
    STUN_REQUEST,
    Talk,
    client_hello,
    dns_query,
    dtls_hello,
    opened,
    passed,
    path,
    quic_hello,
)


@pytest.mark.parametrize(
    ("fields", "said", "hit"),
    [
        ({"sni": "*.whatsapp.net"}, HELLO, True),
        ({"sni": "*.whatsapp.net"}, LONG, True),
        ({"sni": "*.whatsapp.net"}, NEUTRAL, False),
        ({"sni": "*.net"}, HELLO, True),
        ({"sni": "whatsapp.net"}, HELLO, False),
        ({"sni": "*.sapp.net"}, HELLO, False),
        ({"sni": ("example.com", "web.whatsapp.net")}, HELLO, True),
        ({"sni": "*"}, NEUTRAL, True),
        ({"sni": "*"}, client_hello(""), False),
        ({"hello": True}, client_hello(""), True),
        ({"hello": True}, REQUEST, False),
        ({"sni": "*", "exempt_names": "*.whatsapp.net"}, HELLO, False),
        ({"sni": "*", "exempt_names": "*.whatsapp.net"}, NEUTRAL, True),
        ({"host": "blocked.example"}, REQUEST, True),
        ({"host": "blocked.example"}, REQUEST.replace(b"Blocked", b"other"), False),
        ({"host": "*"}, HELLO, False),
        ({"dns": "blocked.example"}, b"\0\x21" + dns_query("blocked.example"), True),
        ({"dns": "blocked.example"}, b"\0\x21" + dns_query("another.example"), False),
        ({"extension": content.SERVER_NAME}, HELLO, True),
        ({"extension": content.ENCRYPTED_CLIENT_HELLO}, HELLO, False),
        ({"sni": "*", "ports": 8443}, HELLO, False),
    ],
)
@pytest.mark.parametrize("cut", [(), (1,), (3, 90), (700,), tuple(range(1, 24))])
def test_what_a_client_says_first_is_read_across_segments(
    fields: dict[str, Any], said: bytes, hit: bool, cut: tuple[int, ...]
) -> None:
    """Only the segment that completes it triggers, and so does the same segment once more."""
    talk = opened(Censor(match(**fields), Drop()))
    edges = [0, *(edge for edge in cut if edge < len(said)), len(said)]
    parts = [said[start:end] for start, end in itertools.pairwise(edges)]
    fates = [passed(talk.says(OUT, part), OUT) for part in parts]
    if said.startswith(b"GET") and hit:
        assert False in fates
    else:
        assert fates == [True] * (len(parts) - 1) + [not hit]
        assert passed(talk.repeats(parts[-1]), OUT) is not hit
    assert passed(talk.says(OUT, b"later"), OUT)
    assert passed(talk.says(IN, b"answer"), IN)


def test_a_hello_is_read_from_segments_out_of_order_and_over_several_records() -> None:
    body = HELLO[5:]
    records = b"".join(
        b"\x16\3\1" + len(part).to_bytes(2, "big") + part for part in (body[:40], body[40:])
    )
    for said in (HELLO, records):
        talk = opened(Censor(BLOCKED, Drop()))
        start = talk.next[OUT]
        late = talk.tcp(OUT, said[100:], PSH | ACK, start + 100, talk.next[IN])
        first = talk.tcp(OUT, said[:100], PSH | ACK, start, talk.next[IN])
        assert passed(talk.path.carry(late, OUT, 0), OUT)  # nothing can be read yet
        talk.path.carry(first, OUT, 0)
        assert not passed(talk.path.carry(late, OUT, 0), OUT)


def test_retransmissions_may_be_cut_anew() -> None:
    talk = opened(Censor(BLOCKED, Drop()))
    start, end = talk.next[OUT], len(HELLO)
    for first, last, alive in ((0, 100, True), (0, 200, True), (150, end, False), (0, end, False)):
        part = talk.tcp(OUT, HELLO[first:last], PSH | ACK, start + first, talk.next[IN])
        assert passed(talk.path.carry(part, OUT, 0), OUT) is alive


def test_a_port_that_is_used_again_is_another_flow() -> None:
    rules = (Censor(BLOCKED, Drop()), Censor(match(segments_over=2), Drop()))
    first = opened(*rules)
    assert passed(first.says(OUT, NEUTRAL), OUT)
    first.says(OUT, b"more")
    assert not passed(first.says(OUT, b"too many"), OUT)
    second = Talk(first.path, isn=77_000)
    second.opens()
    assert not passed(second.says(OUT, HELLO), OUT)
    assert passed(second.says(OUT, b"second segment"), OUT)


def test_fingerprints_tell_client_profiles_and_not_names() -> None:
    def fingerprint(hello: bytes) -> str:
        read = content.opening(hello)
        assert read is not None
        assert isinstance(read.said, content.Hello)
        return read.said.fingerprint

    other = client_hello("web.whatsapp.net", ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    assert fingerprint(HELLO) == fingerprint(NEUTRAL) != fingerprint(other)
    rule = Censor(match(fingerprint=fingerprint(other)), Drop())
    assert passed(opened(rule).says(OUT, HELLO), OUT)
    assert not passed(opened(rule).says(OUT, other), OUT)


def test_a_dtls_hello_has_a_fingerprint_too() -> None:
    read = content.dtls_hello(dtls_hello())
    assert read is not None
    assert read.fingerprint
    rule = Censor(match(dtls=True, fingerprint=read.fingerprint), Drop())
    talk = Talk(path(rule), server_port=3478)
    assert not passed(talk.sends(OUT, dtls_hello()), OUT)
    assert passed(talk.sends(OUT, dtls_hello((0x1301,))), OUT)
    assert passed(talk.sends(IN, dtls_hello()), IN)


def test_the_keys_of_a_first_packet_are_those_of_the_rfc() -> None:
    """RFC 9001 appendix A.1: what anyone on the path derives from the id in the clear."""
    pair = CryptoPair()
    pair.setup_initial(cid=bytes.fromhex("8394c8f03e515708"), is_client=True, version=quic.V1)
    keys = derive_key_iv_hp(
        cipher_suite=CipherSuite.AES_128_GCM_SHA256, secret=pair.send.secret, version=quic.V1
    )
    assert [key.hex() for key in keys] == [
        "1f369613dd76d5467730efcbe3b1a22d",
        "fa044b2f42a3fd3b46fb255c",
        "9f50449e04a0e810283a1e9933adedd2",
    ]


def test_a_name_is_read_out_of_quic() -> None:
    hello = quic_hello("web.whatsapp.com")
    read = content.quic_hello(hello)
    assert read is not None
    assert read.name == "web.whatsapp.com"
    assert read.fingerprint
    assert content.quic_hello(quic_hello("web.whatsapp.com", quic.V2)) is None
    assert content.quic_hello(hello[:1199]) is None
    changed = hello[:100] + bytes([hello[100] ^ 1]) + hello[101:]
    assert content.quic_hello(changed) is None
    assert content.quic_hello(b"\xc3\0\0\0\1" + bytes(1195)) is None


@pytest.mark.parametrize(
    ("stream", "said", "end"),
    [
        (b"", "more", 0),
        (HELLO, content.Hello, len(HELLO)),
        (HELLO[:-1], "more", 0),
        # Another message in the same record does not move the end of the hello.
        (b"\x16\3\1" + (len(HELLO) - 5 + 4).to_bytes(2, "big") + HELLO[5:] + bytes(4),
         content.Hello, len(HELLO)),
        (b"\x16\2\0" + HELLO[3:], None, 0),
        (b"\x16\3\3\0\4\2\0\0\0", None, 0),  # a server's hello
        (b"SSH-2.0-x\r\n", "more", 0),  # might be a length, until there is too much of it
        (bytes(10), None, 0),
        (b"GE", "more", 0),
        (b"GET / HTTP/1.0\r\n\r\n", content.Request, 18),
        (b"X" * (content.LONGEST_OPENING + 1), None, 0),
    ],
)  # fmt: skip
def test_openings(stream: bytes, said: Any, end: int) -> None:
    read = content.opening(stream)
    if said == "more":
        assert read is None
        return
    assert read is not None
    assert read.end == end
    assert read.said is None if said is None else isinstance(read.said, said)


def test_only_whole_queries_are_questions() -> None:
    query = dns_query("a.example")
    assert content.question(query) == content.Question("a.example", 1, len(query))
    assert content.question(query[:2] + b"\x81" + query[3:]) is None  # an answer
    assert content.question(query[:12] + b"\xc0" + bytes(200)) is None  # a pointer
    assert content.question(query[:-1]) is None


@pytest.mark.parametrize("ignored", [0x0A0A, 0xFAFA, content.SERVER_NAME, content.ALPN])
def test_fingerprints_leave_out_what_differs_between_hellos_of_one_library(ignored: int) -> None:
    def fingerprint(*suites: int, **extensions: bytes) -> str:
        kinds = {int(key[1:]): value for key, value in extensions.items()}
        read = content.dtls_hello(dtls_hello(suites, kinds))
        assert read is not None
        assert read.extensions == kinds.keys()
        return read.fingerprint

    plain = fingerprint(0xC02B, 0xC02F, _23=b"")
    name = {f"_{ignored}": b"\0\4\0\0\1a"}
    assert fingerprint(0xC02F, 0x0A0A, 0xC02B, _23=b"", **name) == plain
    assert fingerprint(0xC02B, 0xC02F, _23=b"", _43=b"") != plain
    assert fingerprint(0xC02B, _23=b"") != plain


STARTS = st.sampled_from(
    [b"", HELLO[:60], LONG[:300], REQUEST, dns_query("a.example"), STUN_REQUEST, dtls_hello()]
)


@given(st.binary(max_size=300), STARTS)
def test_no_bytes_crash_the_readers(noise: bytes, start: bytes) -> None:
    for data in (noise, start + noise, start[: len(noise)]):
        content.opening(data)
        content.question(data)
        content.dtls_hello(data)
        content.quic_hello((b"\xc3\0\0\0\1" + data).ljust(1200, b"\0"))
        content.is_stun(data)
