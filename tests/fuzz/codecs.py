"""What reads bytes from the network, with valid samples of each: what a fuzzing run takes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import dns.message
import dns.rrset

from probes.wire import (
    certificate,
    dtls,
    echo,
    foreign,
    mtproto,
    noise,
    protobuf,
    published,
    quic,
    reflector,
    stun,
    text,
    twin,
    websocket,
)
from probes.wire import dns as names
from probes.wire.mtproto import Transport
from tests.lab.mtproto import DataCentre, res_pq
from tests.lab.noise import ChatHost, Vault
from tests.lab.websocket import framed

NOW = 1_795_000_000.0
NONCE, ID, SECRET = bytes(range(16)), bytes(range(12)), bytes(range(32))
PREFIXES = b"91.108.4.0/22\n2a0a:f280::/32\n"
SERVERS = b"""# force_probability 10 10
default 2;
proxy_for 1 149.154.175.50:8888;
proxy_for -4 149.154.165.250:8888;
proxy_for 1 [2001:b28:f23d:f001::d]:8888;
"""
PIECE = 97
"""Bytes that come at a time, where a reader collects them."""


@dataclass(frozen=True, slots=True)
class Codec:
    """``read`` takes any bytes and raises nothing but WireError."""

    name: str
    read: Callable[[bytes], object]
    samples: tuple[bytes, ...]


def in_pieces(feed: Callable[[bytes], object], data: bytes) -> None:
    for at in range(0, len(data), PIECE):
        if feed(data[at : at + PIECE]) is not None:
            return


def _frames(data: bytes) -> None:
    """A WebSocket's reader goes on after its first answer."""
    reader = websocket.Reader()
    for at in range(0, len(data), PIECE):
        reader.feed(data[at : at + PIECE])
        assert len(reader._data) <= websocket.MAX_FRAME + PIECE + 10


def _dns(name: str, *addresses: str) -> bytes:
    query = dns.message.from_wire(names.encode_query(name, "A", 7))
    answer = dns.message.make_response(query)
    if addresses:
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *addresses))
    return answer.to_wire()


def _stun() -> tuple[bytes, ...]:
    mapped = (stun.XOR_MAPPED_ADDRESS, b"\0\1\x11\x22\x33\x44\x55\x66")
    error = (stun.ERROR_CODE, b"\0\0\4\1Unauthorized")
    return (
        stun.encode(stun.BINDING_SUCCESS, ID, [mapped, (stun.SOFTWARE, b"x")], fingerprint=True),
        stun.encode(stun.ALLOCATE_ERROR, ID, [error, (stun.REALM, b"telegram.org")]),
    )


def _dtls() -> tuple[bytes, ...]:
    verify = b"\xfe\xff\x08cookie!!"
    length = len(verify).to_bytes(3, "big")
    shake = b"\3" + length + bytes(5) + length + verify
    return (
        struct.pack("!BHQH", 22, 0xFEFF, 0, len(shake)) + shake,
        struct.pack("!BHQH", 21, 0xFEFD, 0, 2) + b"\x02\x28",
        dtls.client_hello(dtls.Dress.BROWSER, SECRET),
    )


def _certificates() -> tuple[bytes, ...]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from probes.net.selfsigned import _make

    pem = _make()
    leaf = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])
    return (leaf.public_bytes(Encoding.DER),)


def _mtproto(transport: Transport) -> Codec:
    """Whatever is hidden, is hidden from a mutation as well: it is opened first."""
    server = DataCentre()
    server.framing = str(transport.framing)
    keys = ("d09d1d85de64fd85", "c3b42b026ce86b21", "0123456789abcdef")
    samples = [res_pq(NONCE, keys, now=NOW), res_pq(NONCE, now=NOW), bytes.fromhex("53feffff")]
    return Codec(
        f"mtproto {transport}",
        lambda data: in_pieces(mtproto.Reader(transport, NONCE).feed, data),
        tuple(server.framed(sample) for sample in samples),
    )


def _noise() -> tuple[Codec, ...]:
    vault = Vault()
    chain = vault.chain()
    shake = noise.Handshake(b"WA\6\3", SECRET)
    frame = ChatHost(vault.static, chain).said(shake.hello())
    static = ChatHost(vault.static, chain).static

    def hello(data: bytes) -> None:
        noise.Handshake(b"WA\6\3", SECRET).read(data)

    def verified(data: bytes) -> None:
        found = noise.read_chain(data)
        noise.verify(found, static, bytes.fromhex(vault.root_hex), NOW)

    return (
        Codec("noise frame", lambda data: in_pieces(noise.Reader().feed, data), (frame,)),
        Codec("noise hello", hello, (frame[3:],)),
        Codec("noise chain", verified, (chain,)),
    )


def _twin(data: bytes) -> None:
    twin.read_request(data, SECRET, NOW)
    twin.read_answer(data, SECRET, 1, twin.IN_STUN, NOW)


def _twin_samples() -> tuple[bytes, ...]:
    asked = twin.Request(1, 3, twin.IN_STUN)
    request = twin.sealed_request(
        stun.binding_request(stun.Dress.BARE, ID, SECRET), 8, SECRET, asked, NOW
    )
    return request, twin.sealed_answer(request, asked, SECRET, 4, NOW)


def _stun_all(data: bytes) -> None:
    stun.matches(data, ID)
    stun.verify_fingerprint(data)
    stun.read_answer(data, ID)
    stun.attributes(data)


def _dtls_all(data: bytes) -> None:
    dtls.check(data)
    assert b"".join(dtls.split(data)) == data
    dtls.read_answer(data)


ECHOES = [echo.ping(b"\x13\x37\xca\xfe", number) for number in range(5)]
IDS = quic.Ids(ID[:8], ID[4:])


def _quic() -> tuple[bytes, ...]:
    """A list of versions, and two packets in one datagram."""
    heads = [first + b"\0\0\0\1\x08" + IDS.ours + b"\x04srvr" for first in (b"\xc0", b"\xe0")]
    packets = heads[0] + b"\0\x40\x28" + bytes(40) + heads[1] + b"\x40\x28" + bytes(40)
    versions = b"\xc0" + bytes(4) + b"\x08" + IDS.ours + b"\x08" + IDS.theirs
    return versions + b"\x6b\x33\x43\xcf\xff\0\0\x1d", packets


def _reflected() -> bytes:
    head = reflector.ping(NONCE, ID[:8])[:28] + b"\xc7\x72\x15\xc0\0\x11\x22\x33" + ID[:8]
    return head + bytes(10) + b"\xff\xff\xc6\x33\x64\x07" + b"\1\2\0\0"


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nrest"


def codecs() -> tuple[Codec, ...]:
    """All of them; samples are made anew each time, so that a run makes them once."""
    return (
        Codec("certificate", lambda data: certificate.facts([data]), _certificates()),
        Codec(
            "dns",
            lambda data: names.read_answer(data, query_id=7, name="a.test", type="A"),
            (_dns("a.test", "192.0.2.1", "192.0.2.2"), _dns("a.test")),
        ),
        Codec("dtls", _dtls_all, _dtls()),
        Codec("echo", lambda data: echo.read_answer(data, ECHOES), (ECHOES[1], ECHOES[4])),
        Codec("foreign", lambda data: foreign.spoken(data, b"what we said"), (b"HTTP/1.1 200",)),
        *(_mtproto(transport) for transport in Transport),
        *_noise(),
        Codec("protobuf", protobuf.message, (bytes.fromhex("089601120774657374696e67"),)),
        Codec("published servers", published.parse_servers, (SERVERS,)),
        Codec(
            "published prefixes", published.parse_prefixes, (b"91.108.4.0/22\n2a0a:f280::/32\n",)
        ),
        Codec("quic", lambda data: quic.read(data, IDS, quic.V1), _quic()),
        Codec(
            "reflector",
            lambda data: reflector.read_answer(data, NONCE, ID[:8]),
            (_reflected(),),
        ),
        Codec("stun", _stun_all, _stun()),
        Codec("text", text.clean, (b"plain", "\x1b[31mred\u202e".encode())),
        Codec("twin", _twin, _twin_samples()),
        Codec("websocket head", lambda data: in_pieces(websocket.Head().feed, data), (HEAD,)),
        Codec("websocket", _frames, (framed(b"x" * 200) + framed(b"hi", 0x89) + framed(b"y"),)),
    )
