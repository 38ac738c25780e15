import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import websocket
from probes.wire.error import WireError
from probes.wire.websocket import CLOSE, PING, PONG, Frame, Reader
from tests.lab.websocket import Upgraded, framed

KEY = b"the sample nonce"
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def test_the_samples_of_the_rfc():
    assert b"dGhlIHNhbXBsZSBub25jZQ==" in websocket.request("a.test", "/chat", KEY)
    assert websocket.accept_of(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # section 1.3
    masked = websocket.frame(b"Hello", bytes.fromhex("37fa213d"))
    assert masked.hex() == "82" + "85" + "37fa213d" + "7f9f4d5158"  # section 5.7, as binary


def test_the_request():
    lines = websocket.request(
        "a.test", "/ws", KEY, origin="https://a.test", protocol="binary"
    ).decode()
    assert lines.startswith("GET /ws HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n")
    assert "Origin: https://a.test\r\n" in lines
    assert lines.endswith("Sec-WebSocket-Protocol: binary\r\n\r\n")
    assert b"Origin" not in websocket.request("a.test", "/ws", KEY)


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8280"), (125, "82fd"), (126, "82fe007e"), (65536, "82ff" + "0" * 11 + "10000")],
)
def test_lengths_of_what_we_send(size, head):
    made = websocket.frame(bytes(size), bytes(4))
    assert made.hex().startswith(head)
    assert len(made) == len(head) // 2 + 4 + size


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_nothing(payload, mask):
    assert websocket.masked(websocket.masked(payload, mask), mask) == payload


class Shouting:
    def said(self, data):
        return data.upper()


@pytest.mark.parametrize("size", [3, 126, 5000])
def test_what_we_send_is_read_by_another_server(size):
    server = Upgraded(Shouting(), "/ws", "binary")
    head = server.said(websocket.request("a.test", "/ws", KEY, protocol="binary"))
    status, fields, rest = websocket.Head().feed(head)
    assert (status, rest) == (101, b"")
    websocket.check_upgrade(fields, KEY, "binary")
    answer = server.said(websocket.frame(b"x" * size, b"mask"))
    assert Reader().feed(answer) == [Frame(0, b"X" * size)]


# The handshake's answer


@pytest.mark.parametrize("cut", [1, 10, 1000])
def test_a_head_in_pieces(cut):
    head, found = websocket.Head(), None
    data = ACCEPTED + b"behind"
    for at in range(0, len(data), cut):
        found = head.feed(data[at : at + cut])
        if found is not None:
            break
    assert found[:2] == (101, {"upgrade": "websocket"})
    assert b"behind".startswith(found[2])


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"\x16\x03\x03", Failure.BAD_REPLY),
        (b"HTTP/2 ", Failure.BAD_REPLY),
        (b"HTTP/1.1 abc\r\n\r\n", Failure.BAD_REPLY),
        (b"HTTP/1.1 \r\n\r\n", Failure.BAD_REPLY),
        (b"HTTP/1.1 101 x\r\nno colon\r\n\r\n", Failure.BAD_REPLY),
        (b"HTTP/1.1 200 " + b"x" * 9000, Failure.OVERSIZED),
        (b"HTTP/1.1 200 " + b"x" * 9000 + b"\r\n\r\n", Failure.OVERSIZED),
    ],
)
def test_a_head_that_is_none(data, failure):
    with pytest.raises(WireError) as caught:
        websocket.Head().feed(data)
    assert caught.value.failure is failure


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"upgrade": "h2c"}, Failure.BAD_REPLY),
        ({"sec-websocket-accept": websocket.accept_of(bytes(16))}, Failure.WRONG_ID),
        ({"sec-websocket-protocol": "chat"}, Failure.BAD_REPLY),
    ],
)
def test_an_upgrade_to_something_else(change, failure):
    right = {"upgrade": "WebSocket", "sec-websocket-accept": websocket.accept_of(KEY)}
    websocket.check_upgrade(right, KEY, "binary")
    with pytest.raises(WireError) as caught:
        websocket.check_upgrade(right | change, KEY, "binary")
    assert caught.value.failure is failure


# Frames


@pytest.mark.parametrize("cut", [1, 2, 7, 1000])
def test_frames_in_pieces(cut):
    data = framed(b"one") + framed(b"hi", 0x89) + framed(b"a" * 300, 0x02) + framed(b"", 0x80)
    data += framed(b"\x03\xe8", 0x88)
    reader, frames = Reader(), []
    for at in range(0, len(data), cut):
        frames += reader.feed(data[at : at + cut])
    assert frames == [
        Frame(0, b"one"),
        Frame(PING, b"hi"),
        Frame(0, b"a" * 300),
        Frame(0, b""),
        Frame(CLOSE, b"\x03\xe8"),
    ]


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        ("8180", Failure.BAD_REPLY),  # masked
        ("8105", Failure.BAD_REPLY),  # text
        ("8305", Failure.BAD_REPLY),  # reserved
        ("c205", Failure.BAD_REPLY),  # an extension's bit
        ("897e007e", Failure.BAD_REPLY),  # a long ping
        ("0900", Failure.BAD_REPLY),  # a ping in pieces
        ("827f0000000001000000", Failure.OVERSIZED),  # 16 MiB
        ("827fffffffffffffffff", Failure.OVERSIZED),
    ],
)
def test_frames_that_are_refused_by_their_heads(data, failure):
    with pytest.raises(WireError) as caught:
        Reader().feed(bytes.fromhex(data))
    assert caught.value.failure is failure


@given(st.data())
def test_damaged_frames(mutated, data):
    feed(data.draw(mutated(framed(b"x" * 200) + framed(b"", 0x8A) + framed(b"y" * 20))))


@given(st.binary(max_size=400))
def test_any_bytes(data):
    feed(data)
    try:
        websocket.Head().feed(data)
        websocket.Head().feed(b"HTTP/1.1 " + data + b"\r\n\r\n")
    except WireError:
        return


def feed(data):
    reader = Reader()
    for at in range(0, len(data), 30):
        try:
            frames = reader.feed(data[at : at + 30])
        except WireError:
            return
        assert all(f.control in (0, CLOSE, PING, PONG) for f in frames)
        assert len(reader._data) <= websocket.MAX_FRAME + 40
