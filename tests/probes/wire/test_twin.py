"""The twin's codec: only what a holder of the key said, in this minute, is read."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import dtls, stun, twin
from probes.wire.error import WireError
from probes.wire.twin import Request

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
NOW = 1_795_516_000.25
SEED = bytes(range(100, 132))

flows = st.integers(0, (1 << 24) - 1)
numbers = st.integers(0, 0xFFFF)
shapes = st.binary(min_size=39, max_size=twin.MAX_SIZE)
offsets = st.sampled_from(twin.OFFSETS)


def sealed(size: int = 64, *, number: int = 3, flow: int = 77, at: float = NOW) -> bytes:
    request = Request(flow, number, twin.IN_STUN)
    return twin.sealed_request(bytes(size), twin.IN_STUN, KEY, request, at)


@given(shapes, offsets, flows, numbers, st.floats(-twin.WINDOW + 2, twin.WINDOW - 2))
def test_what_is_sealed_is_read(shape, offset, flow, number, skew):
    request = Request(flow, number, offset)
    data = twin.sealed_request(shape, offset, KEY, request, NOW)
    assert len(data) == len(shape)
    assert data[:offset] == shape[:offset]
    assert data[offset + twin.TAG_SIZE :] == shape[offset + twin.TAG_SIZE :]
    assert twin.read_request(data, KEY, NOW + skew) == request
    assert twin.read_request(data, OTHER, NOW + skew) is None


@pytest.mark.parametrize("skew", [92, 166, 256, 512, 65536, 86400 * 365])
@pytest.mark.parametrize("sign", [1, -1])
def test_another_minute_is_refused_however_far_away(skew, sign):
    """Only eight bits of the time travel: 256 seconds later they are the same."""
    assert twin.read_request(sealed(), KEY, NOW + sign * skew) is None


@given(st.data())
def test_a_damaged_tag_or_length_is_refused(mutated, data):
    valid = sealed()
    changed = data.draw(mutated(valid))
    read = twin.read_request(changed, KEY, NOW)
    untouched = changed[8:20] == valid[8:20] and len(changed) == len(valid)
    assert (read is not None) == untouched


@given(st.binary(max_size=1500))
@example(b"")
def test_random_bytes_are_nobodys(data):
    assert twin.read_request(data, KEY, NOW) is None


@pytest.mark.parametrize("size", [0, 19, 1401])
def test_sizes_that_nobody_sends(size):
    with pytest.raises(ValueError, match="bytes"):
        twin.sealed_request(bytes(size), 8, KEY, Request(1, 1, 8), NOW)


def test_a_request_in_a_dress_is_that_message():
    """Byte for byte what the probe of that kind sends, but for the id's twelve random bytes."""
    for dress in stun.Dress:
        size = len(stun.binding_request(dress, bytes(12), SEED))
        tag = twin.tag(KEY, Request(5, 0, 8), size, NOW)
        message = stun.binding_request(dress, tag, SEED)
        assert twin.read_request(message, KEY, NOW) == Request(5, 0, 8)
    assert stun.verify_fingerprint(
        stun.binding_request(stun.Dress.ICE, twin.tag(KEY, Request(5, 0, 8), 96, NOW), SEED)
    )
    for hello in dtls.Dress:
        request = Request(5, 0, twin.IN_DTLS)
        message = twin.sealed_request(dtls.client_hello(hello, SEED), 27, KEY, request, NOW)
        assert twin.read_request(message, KEY, NOW) == request
        tag = message[27:39]
        assert message == dtls.client_hello(hello, tag + SEED[12:])


@given(shapes, offsets, flows, numbers, st.integers(0, 70_000), st.floats(-600, 600))
def test_an_answer_tells_what_the_twin_counted_and_when(shape, offset, flow, number, got, skew):
    request = Request(flow, number, offset)
    data = twin.sealed_request(shape, offset, KEY, request, NOW)
    answer = twin.sealed_answer(data, request, KEY, got, NOW + skew)
    assert len(answer) == len(data)
    read = twin.read_answer(answer, KEY, flow, offset, NOW)
    assert (read.number, read.received) == (number, min(got, 0xFFFF))
    assert read.at == pytest.approx(NOW + skew, abs=2e-4)


@given(st.data())
def test_an_answer_holds_as_a_whole_or_not_at_all(mutated, data):
    request = Request(77, 3, 8)
    valid = twin.sealed_answer(sealed(), request, KEY, 4, NOW)
    changed = data.draw(mutated(valid))
    if changed == valid:
        return
    with pytest.raises(WireError):
        twin.read_answer(changed, KEY, 77, 8, NOW)


def test_an_answer_is_bound_to_key_flow_and_place():
    valid = twin.sealed_answer(sealed(), Request(77, 3, 8), KEY, 4, NOW)
    for key, flow, offset in ((OTHER, 77, 8), (KEY, 78, 8), (KEY, 77, 27)):
        with pytest.raises(WireError) as caught:
            twin.read_answer(valid, key, flow, offset, NOW)
        assert caught.value.failure is Failure.BAD_REPLY
    with pytest.raises(WireError) as caught:
        twin.read_answer(sealed(), KEY, 77, 8, NOW)  # our own request, sent back
    assert caught.value.failure is Failure.BAD_REPLY
    for data, failure in ((bytes(19), Failure.TRUNCATED), (bytes(1401), Failure.OVERSIZED)):
        with pytest.raises(WireError) as caught:
            twin.read_answer(data, KEY, 77, 8, NOW)
        assert caught.value.failure is failure


@pytest.mark.parametrize(
    ("dress", "kind"),
    [("bare", 0x0101), ("ice", 0x0101), ("rfc3489", 0x0101), ("app", 0x0802)],
)
def test_the_answer_to_a_stun_shape_has_the_shape_of_a_stun_answer(dress, kind):
    tag_of = Request(5, 0, 8)
    size = len(stun.binding_request(stun.Dress(dress), bytes(12), SEED))
    request = stun.binding_request(stun.Dress(dress), twin.tag(KEY, tag_of, size, NOW), SEED)
    answer = twin.sealed_answer(request, tag_of, KEY, 1, NOW)
    assert answer[:2] == kind.to_bytes(2, "big")
    assert answer[2:8] == request[2:8]
    assert answer[20:] == request[20:]


# --- what strangers may ask ------------------------------------------------------------------


@pytest.mark.parametrize("dress", [stun.Dress.BARE, stun.Dress.ICE, stun.Dress.RFC3489])
@given(
    address=st.ip_addresses(),
    port=st.integers(1, 65535),
    seed=st.binary(min_size=32, max_size=32),
)
def test_a_binding_answer_is_the_mapped_address_and_nothing_else(dress, address, port, seed):
    request = stun.binding_request(dress, seed[:12], seed)
    assert twin.is_binding_request(request)
    answer = twin.mapped_answer(request, str(address), port)
    assert len(answer) == (32 if address.version == 4 else 44)
    legacy = request[4:8] if dress is stun.Dress.RFC3489 else b""
    read = stun.read_answer(answer, request[8:20], legacy_prefix=legacy)
    assert read.mapped == (str(ipaddress.ip_address(str(address))), port)
    assert (read.software, read.realm, read.error_code) == ("", "", None)
    assert [kind for kind, _ in stun.attributes(answer)] == [stun.XOR_MAPPED_ADDRESS]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(20),
        stun.allocate_request(bytes(12)),
        stun.binding_request(stun.Dress.APP, bytes(12), SEED),
        stun.binding_request(stun.Dress.BARE, bytes(12), SEED) + b"more",
        stun.binding_request(stun.Dress.ICE, bytes(12), SEED)[:-1],
        b"\0\1\0\2" + bytes(18),
    ],
)
def test_nothing_else_is_a_binding_request(data):
    assert not twin.is_binding_request(data)


@pytest.mark.parametrize("text", ["", "secret", "00" * 31, "00" * 33, "zz" * 32])
def test_a_key_that_is_none_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match="64 hexadecimal digits") as caught:
        twin.parse_key(text)
    assert not text or text not in str(caught.value)


def test_a_key():
    assert twin.parse_key(f"{KEY.hex()}\n") == KEY
