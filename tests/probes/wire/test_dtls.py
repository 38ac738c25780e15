import contextlib
import os
import shutil
import socket
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire import dtls
from probes.wire.dtls import Dress, client_hello, read_answer
from probes.wire.error import WireError

RANDOM = bytes(range(32))


def record(content, content_type=22, version=0xFEFD, epoch=0, number=0):
    header = struct.pack("!BHHHIH", content_type, version, epoch, 0, number, len(content))
    return header + content


def handshake(kind, body, number=0, total=None, offset=0, length=None):
    total = len(body) if total is None else total
    length = len(body) if length is None else length
    return (
        bytes([kind])
        + total.to_bytes(3, "big")
        + number.to_bytes(2, "big")
        + offset.to_bytes(3, "big")
        + length.to_bytes(3, "big")
        + body
    )


VERIFY = record(handshake(3, b"\xfe\xff\x08cookie!!"), version=0xFEFF)
HELLO_BODY = b"\xfe\xfd" + RANDOM + b"\0\xc0\x2b\0" + b"\0\5\xff\1\0\1\0"
HELLO = record(handshake(2, HELLO_BODY, number=1))
CERTIFICATE = record(handshake(11, bytes(50), number=2, total=900))
ALERT = record(b"\x02\x28", content_type=21)


# What we send


def parts(hello):
    """Ciphers and extensions of a ClientHello, after a check of all that surrounds them."""
    assert hello[:13] == bytes.fromhex("16feff 0000 000000000000") + (len(hello) - 13).to_bytes(
        2, "big"
    )
    body = hello[25:]
    length = len(body).to_bytes(3, "big")
    assert hello[13:25] == b"\x01" + length + bytes(5) + length
    assert body[:36] == b"\xfe\xfd" + RANDOM + b"\0\0"  # no session, no cookie
    ciphers, rest = body[38 : 38 + int.from_bytes(body[36:38], "big")], body[36:]
    rest = rest[2 + len(ciphers) :]
    assert rest[:2] == b"\x01\x00"
    assert int.from_bytes(rest[2:4], "big") == len(rest) - 4
    extensions, at = {}, 4
    while at < len(rest):
        kind, size = struct.unpack_from("!HH", rest, at)
        extensions[kind] = rest[at + 4 : at + 4 + size]
        at += 4 + size
    assert at == len(rest)
    return ciphers, extensions


def test_the_openssl_hello():
    hello = client_hello(Dress.OPENSSL, RANDOM)
    ciphers, extensions = parts(hello)
    assert len(hello) == 218
    assert len(ciphers) == 56
    assert list(extensions) == [11, 10, 35, 14, 22, 23, 13]
    assert extensions[10].hex(" ", 2) == "000a 001d 0017 001e 0019 0018"


def test_the_hello_of_pion():
    hello = client_hello(Dress.PION, RANDOM)
    assert hello[:3] == b"\x16\xfe\xfd"
    ciphers, extensions = parts(hello[:1] + b"\xfe\xff" + hello[3:])
    assert len(hello) == 149
    assert ciphers.hex(" ", 2) == "c02b c02f cca9 cca8 c00a c014 c02c c030"
    assert list(extensions) == [13, 0xFF01, 10, 11, 14, 23]


def test_the_browser_hello():
    hello = client_hello(Dress.BROWSER, RANDOM)
    ciphers, extensions = parts(hello)
    assert len(hello) == 157
    assert ciphers.hex(" ", 2) == "c02b c02f cca9 cca8 c009 c013 c00a c014 009c 002f 0035"
    assert list(extensions) == [23, 0xFF01, 10, 11, 35, 13, 14]
    assert extensions[14].hex() == "0006" + "0001" + "0007" + "0008" + "00"


def test_a_short_random_is_our_own_mistake():
    with pytest.raises(ValueError, match="random"):
        client_hello(Dress.OPENSSL, bytes(31))


# What we accept


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (VERIFY, ("hello_verify_request", "DTLSv1", "", b"cookie!!")),
        (HELLO, ("server_hello", "DTLSv1.2", "", b"")),
        (HELLO + CERTIFICATE, ("server_hello", "DTLSv1.2", "", b"")),
        (record(handshake(2, HELLO_BODY)), ("server_hello", "DTLSv1.2", "", b"")),
        (
            record(handshake(2, HELLO_BODY[:34], total=200)),
            ("server_hello", "DTLSv1.2", "", b""),
        ),
        (
            record(handshake(2, b"\xfe\xff" + HELLO_BODY[2:]) + handshake(11, bytes(9))),
            ("server_hello", "DTLSv1", "", b""),
        ),
        (ALERT, ("alert", "DTLSv1.2", "handshake_failure", b"")),
        (record(b"\x02\x46", 21, 0xFEFF), ("alert", "DTLSv1", "protocol_version", b"")),
        (record(b"\x01\x00", 21), ("alert", "DTLSv1.2", "close_notify", b"")),
        (record(b"\x02\xfe", 21), ("alert", "DTLSv1.2", "alert_254", b"")),
        (record(handshake(3, b"\xfe\xfd\x00")), ("hello_verify_request", "DTLSv1.2", "", b"")),
    ],
)
def test_reads(data, expected):
    answer = read_answer(data)
    assert (answer.kind, answer.version, answer.alert, answer.cookie) == expected
    assert answer.size == len(data)


# What we refuse


REFUSALS = [
    ("empty", b"", Failure.TRUNCATED),
    ("cut header", HELLO[:12], Failure.TRUNCATED),
    ("cut record", HELLO[:-1], Failure.TRUNCATED),
    ("cut second record", HELLO + CERTIFICATE[:-1], Failure.TRUNCATED),
    ("cut second header", HELLO + CERTIFICATE[:5], Failure.TRUNCATED),
    ("cut handshake header", record(bytes(11)), Failure.TRUNCATED),
    ("cut fragment", record(handshake(2, HELLO_BODY, total=99, length=99)), Failure.TRUNCATED),
    ("http", b"HTTP/1.1 400 Bad Request\r\n\r\n", Failure.BAD_REPLY),
    ("short http", b"HTTP", Failure.BAD_REPLY),
    ("stun", bytes.fromhex("010100002112a442") + bytes(12), Failure.BAD_REPLY),
    ("tls", b"\x16\x03\x03" + HELLO[3:], Failure.BAD_REPLY),
    ("dtls then tls", HELLO + b"\x16\x03\x03" + CERTIFICATE[3:], Failure.BAD_REPLY),
    ("encrypted", record(handshake(2, HELLO_BODY), epoch=1), Failure.BAD_REPLY),
    ("application data", record(handshake(2, HELLO_BODY), content_type=23), Failure.BAD_REPLY),
    ("our own hello", client_hello(Dress.BROWSER, RANDOM), Failure.BAD_REPLY),
    ("certificate first", CERTIFICATE, Failure.BAD_REPLY),
    ("later message", record(handshake(2, HELLO_BODY, number=2)), Failure.BAD_REPLY),
    ("later fragment", record(handshake(2, HELLO_BODY, total=99, offset=5)), Failure.BAD_REPLY),
    ("fragment too long", record(handshake(2, HELLO_BODY, total=9)), Failure.BAD_REPLY),
    ("hello too short", record(handshake(2, HELLO_BODY[:33])), Failure.BAD_REPLY),
    ("tls hello", record(handshake(2, b"\x03\x03" + HELLO_BODY[2:])), Failure.BAD_REPLY),
    ("cookie too short", record(handshake(3, b"\xfe\xff\x03ab")), Failure.BAD_REPLY),
    ("cookie too long", record(handshake(3, b"\xfe\xff\x01ab")), Failure.BAD_REPLY),
    ("no cookie field", record(handshake(3, b"\xfe\xff")), Failure.BAD_REPLY),
    ("cut cookie", record(handshake(3, b"\xfe\xff\x01a", total=8)), Failure.BAD_REPLY),
    ("short alert", record(b"\x02", content_type=21), Failure.BAD_REPLY),
    ("long alert", record(b"\x02\x28\x00", content_type=21), Failure.BAD_REPLY),
    ("alert level", record(b"\x03\x28", content_type=21), Failure.BAD_REPLY),
    ("huge record", HELLO[:11] + b"\xff\xff" + HELLO[13:], Failure.OVERSIZED),
    ("huge datagram", HELLO + bytes(dtls.MAX_DATAGRAM), Failure.OVERSIZED),
]


@pytest.mark.parametrize(
    ("data", "failure"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_refuses(data, failure):
    with pytest.raises(WireError) as caught:
        read_answer(data)
    assert caught.value.failure is failure
    assert 0 < len(str(caught.value)) < 200


def test_the_largest_record_passes():
    filler = record(bytes(dtls.MAX_RECORD - len(HELLO)), content_type=23)
    assert read_answer(HELLO + filler).size == dtls.MAX_DATAGRAM


# Whatever comes


def outcome(data):
    try:
        answer = read_answer(data)
    except WireError:
        return
    assert len(answer.cookie) <= 255
    assert len(answer.alert) < 40
    assert answer.size == len(data)


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data):
    outcome(data)


@given(st.sampled_from((21, 22, 23)), st.binary(max_size=100))
def test_arbitrary_content(content_type, content):
    outcome(record(content, content_type))


@given(st.data(), st.sampled_from((VERIFY, HELLO + CERTIFICATE, ALERT)))
def test_damaged_answers(mutated, data, valid):
    outcome(data.draw(mutated(valid)))


# A real OpenSSL on loopback


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None and os.environ.get("CI") != "true", reason="needs openssl"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dtls")
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = ["openssl", "req", "-x509", *curve, *files, "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return ["-key", folder / "key.pem", "-cert", folder / "cert.pem"]


@contextlib.contextmanager
def s_server(*arguments):
    """An ``openssl s_server`` for DTLS 1.2 and a socket connected to its ephemeral port."""
    command = ["openssl", "s_server", "-dtls1_2", "-accept", "127.0.0.1:0", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as server:
        try:
            said = next(line for line in server.stdout if line.startswith("ACCEPT"))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10)
                sock.connect(("127.0.0.1", int(said.rsplit(":", 1)[1])))
                yield sock
        finally:
            server.kill()


def with_cookie(hello, cookie):
    """The second hello: message and record 1, with the cookie that the server asked for."""
    body = hello[25:60] + bytes([len(cookie)]) + cookie + hello[61:]
    return record(handshake(1, body, number=1), version=0xFEFF, number=1)


def ask(sock, dress):
    """The server's answers to the hello and to the hello with its cookie."""
    sock.send(client_hello(dress, RANDOM))
    first = read_answer(sock.recv(65535))
    sock.send(with_cookie(client_hello(dress, RANDOM), first.cookie))
    return first, read_answer(sock.recv(65535))


@needs_openssl
@pytest.mark.parametrize("mode", [[], ["-listen"]], ids=["plain", "listen"])
@pytest.mark.parametrize("dress", Dress)
def test_a_real_server_answers(dress, mode, certificate):
    srtp = ["-use_srtp", "SRTP_AES128_CM_SHA1_80"]
    with s_server(*certificate, *srtp, *mode) as sock:
        first, second = ask(sock, dress)
    assert first.kind == "hello_verify_request"
    assert first.cookie
    assert (second.kind, second.version) == ("server_hello", "DTLSv1.2")


@needs_openssl
@pytest.mark.parametrize("dress", Dress)
def test_a_real_server_refuses_with_an_alert(dress, certificate):
    with s_server(*certificate, "-cipher", "PSK-AES128-CBC-SHA") as sock:
        _, second = ask(sock, dress)
    assert (second.kind, second.alert) == ("alert", "handshake_failure")


@needs_openssl
def test_our_openssl_hello_is_what_openssl_sends():
    version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        profiles = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM"
        target = f"127.0.0.1:{sock.getsockname()[1]}"
        command = ["openssl", "s_client", "-dtls1_2", "-noservername", "-use_srtp", profiles]
        null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        command += ["-connect", target]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **null) as client:
            try:
                theirs = sock.recv(65535)
            finally:
                client.kill()
    ours = client_hello(Dress.OPENSSL, theirs[27:59])
    if version.stdout.startswith("OpenSSL 3.0."):
        assert ours == theirs
    else:  # later ones add groups and signature algorithms, not ciphers
        assert ours[59:120] == theirs[59:120]


# A handshake under way


ENCRYPTED = record(bytes(40), epoch=1, number=0)


def test_records_of_a_flight_become_datagrams():
    assert dtls.split(HELLO + CERTIFICATE + ENCRYPTED) == [HELLO, CERTIFICATE, ENCRYPTED]


@pytest.mark.parametrize("data", [VERIFY, HELLO + CERTIFICATE, ENCRYPTED, record(b"\1", 20)])
def test_what_a_handshake_may_bring(data):
    assert dtls.check(data) == ""


def test_a_fatal_alert_in_the_clear_is_named():
    assert dtls.check(HELLO + ALERT) == "handshake_failure"
    assert dtls.check(record(b"\1\0", content_type=21)) == "", "a warning is none"
    assert dtls.check(record(b"\2\x28", content_type=21, epoch=1)) == "", "encrypted"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", Failure.TRUNCATED),
        (HELLO[:12], Failure.TRUNCATED),
        (HELLO[:-1], Failure.TRUNCATED),
        (HELLO + CERTIFICATE[:-1], Failure.TRUNCATED),
        (client_hello(Dress.BROWSER, RANDOM), Failure.BAD_REPLY),
        (b"\x01\x01" + bytes(30), Failure.BAD_REPLY),
        (b"\x16\x03\x03" + bytes(30), Failure.BAD_REPLY),
        (HELLO[:11] + b"\xff\xff" + bytes(99), Failure.OVERSIZED),
        (HELLO + bytes(dtls.MAX_DATAGRAM), Failure.OVERSIZED),
        (record(b"\2", content_type=21), Failure.BAD_REPLY),
    ],
)
def test_what_a_handshake_may_not_bring(data, word):
    with pytest.raises(WireError) as caught:
        dtls.check(data)
    assert caught.value.failure is word


@given(st.binary(max_size=300))
def test_arbitrary_bytes_of_a_handshake(data):
    with contextlib.suppress(WireError):
        dtls.check(data)


@given(st.data())
def test_damaged_flights(mutated, data):
    changed = data.draw(mutated(VERIFY + HELLO + CERTIFICATE + ENCRYPTED))
    with contextlib.suppress(WireError):
        dtls.check(changed)
        assert b"".join(dtls.split(changed)) == changed
