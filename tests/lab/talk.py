"""Conversations as packets, for rules on a virtual clock: what each side says, numbered right."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from probes.net.quic import Handshake
from probes.wire import quic
from tests.lab import packet as packets
from tests.lab.actions import IN, OUT
from tests.lab.censor import Censor, match
from tests.lab.packet import ACK, PSH, SYN, Packet
from tests.lab.path import Fate, Path
from tests.lab.world import CLIENT_V4, CLIENT_V6, HOPS

ROUTERS = [(socket.inet_aton(v4), socket.inet_pton(socket.AF_INET6, v6)) for v4, v6 in HOPS]
SERVER = "91.108.9.113"
HEADERS = 40  # of an IPv4 TCP segment


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def client_hello(name: str, *, ciphers: str = "", long: bool = False) -> bytes:
    """The record that OpenSSL sends first; a long one does not fit into one segment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if ciphers:
        context.set_ciphers(ciphers)
    if long:
        context.set_alpn_protocols([f"protocol-{number:0200d}" for number in range(10)])
    written = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), written, server_hostname=name or None)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return written.read()
    raise AssertionError("a handshake without a server")


def dns_query(name: str, kind: int = 1, number: int = 0x1234) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + bytes((0, kind, 0, 1))


STUN_REQUEST = bytes.fromhex("000100002112a442") + bytes(range(12))


def dtls_hello(
    suites: Sequence[int] = (0xC02B, 0xC02F), extensions: Mapping[int, bytes] = {}
) -> bytes:
    listed = b"".join(suite.to_bytes(2, "big") for suite in suites)
    body = b"\xfe\xfd" + bytes(32) + b"\0" + b"\0" + len(listed).to_bytes(2, "big") + listed
    block = b"".join(struct.pack("!HH", k, len(v)) + v for k, v in extensions.items())
    body += b"\1\0" + len(block).to_bytes(2, "big") + block
    length = len(body).to_bytes(3, "big")
    handshake = b"\1" + length + b"\0\0" + b"\0\0\0" + length + body
    return b"\x16\xfe\xff" + bytes(8) + len(handshake).to_bytes(2, "big") + handshake


def quic_hello(name: str, version: int = quic.V1) -> bytes:
    """The first packet of a QUIC client."""
    return Handshake(name, version, ("h3",)).start(0.0)[0]


class Talk:
    """One flow between the client and a server, carried over a path at the times given."""

    def __init__(
        self,
        path: Path,
        *,
        port: int = 40000,
        server: str = SERVER,
        server_port: int = 443,
        isn: int = 1000,
        ttl: int = 64,
    ) -> None:
        self.path, self.ttl = path, ttl
        client = address(CLIENT_V6 if ":" in server else CLIENT_V4)
        self.ends = {
            OUT: (client, port, address(server), server_port),
            IN: (address(server), server_port, client, port),
        }
        self.next = {OUT: isn, IN: 0xFFFFFFF0}  # the server's numbers wrap soon

    def tcp(self, side: str, payload: bytes, flags: int, sequence: int, ack: int) -> Packet:
        ends = self.ends[side]
        body = packets.tcp(ends, sequence, ack, flags, payload)
        return packets.parse(packets.ip(ends[0], ends[2], packets.TCP, body, self.ttl))

    def says(
        self, side: str, payload: bytes = b"", now: float = 0.0, flags: int = PSH | ACK
    ) -> Fate:
        """One TCP segment, the next of its side."""
        other = IN if side == OUT else OUT
        segment = self.tcp(side, payload, flags, self.next[side], self.next[other])
        self.next[side] = (self.next[side] + segment.span) & packets.SEQUENCE
        return self.path.carry(segment, side, now)

    def opens(self, now: float = 0.0) -> Fate:
        """The handshake of TCP; what became of the SYN."""
        fate = self.says(OUT, b"", now, SYN)
        self.says(IN, b"", now, SYN | ACK)
        self.says(OUT, b"", now, ACK)
        return fate

    def repeats(self, payload: bytes, now: float = 0.0) -> Fate:
        """The client's last segment once more."""
        sequence = (self.next[OUT] - len(payload)) & packets.SEQUENCE
        segment = self.tcp(OUT, payload, PSH | ACK, sequence, self.next[IN])
        return self.path.carry(segment, OUT, now)

    def sends(self, side: str, payload: bytes = b"", now: float = 0.0) -> Fate:
        """One UDP datagram."""
        ends = self.ends[side]
        body = packets.udp(*ends, payload)
        datagram = packets.ip(ends[0], ends[2], packets.UDP, body, self.ttl)
        return self.path.carry(packets.parse(datagram), side, now)


def passed(fate: Fate, side: str) -> bool:
    """Does the packet itself, not only what is forged, leave on its side?"""
    return any(arrival.direction == side for arrival in fate.arrivals)


def path(*rules: Censor) -> Path:
    carried = Path(ROUTERS)
    for rule in rules:
        carried.add(rule)
    return carried


def opened(*rules: Censor, **ends: Any) -> Talk:
    talk = Talk(path(*rules), **ends)
    talk.opens()
    return talk


def arrivals(fate: Fate, side: str) -> list[packets.Packet]:
    return [packets.parse(a.data) for a in fate.arrivals if a.direction == side]


# What the tests of the censor say: a blocked name, an innocent one, one in more than one segment.
HELLO = client_hello("web.whatsapp.net")
NEUTRAL = client_hello("example.org")
LONG = client_hello("web.whatsapp.net", long=True)
BLOCKED = match(sni="*.whatsapp.net")
REQUEST = b"GET / HTTP/1.1\r\nUser-Agent: x\r\nHost: Blocked.Example:80\r\n\r\n"
