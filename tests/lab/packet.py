"""Raw IP packets: bytes in, values and bytes out.

A TUN device hands over whole packets with correct checksums, so a router needs no more than this:
read the few fields that routers and filters look at, lower the hop count, and build the two kinds
of packet that a path adds of its own accord, ICMP errors (RFC 792, 4443) and TCP resets (RFC 9293).
What a filter forges or rewrites is built here too: segments, datagrams, other addresses.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

HOST_UNREACHABLE, PORT_UNREACHABLE = 1, 3
NET_PROHIBITED, HOST_PROHIBITED, ADMIN_PROHIBITED = 9, 10, 13  # RFC 1812 section 5.2.7.1
V6_ADMIN_PROHIBITED, V6_PORT_UNREACHABLE = 1, 4  # RFC 4443 section 3.1

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
SEQUENCE = 0xFFFFFFFF  # TCP's numbers wrap

QUOTE_V4 = 576  # RFC 1812 section 4.3.2.3: as much as fits without exceeding this
QUOTE_V6 = 1280  # RFC 4443 section 3.1: the minimum IPv6 MTU

_V6_EXTENSIONS = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
_V6_FRAGMENT = 44
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})


class PacketError(ValueError):
    """The bytes are not a complete IP packet."""


class Packet(NamedTuple):
    """What a router or a filter wants to know. Ports are 0 where the protocol has none."""

    data: bytes
    version: int
    source: bytes
    destination: bytes
    protocol: int
    ttl: int
    header: int  # length of everything before the transport header
    source_port: int
    destination_port: int
    first_fragment: bool

    @property
    def payload(self) -> bytes:
        """What follows the TCP or UDP header; for other protocols, what follows the IP header."""
        body = self.data[self.header :]
        if self.protocol == TCP and len(body) >= 20:
            return body[(body[12] >> 4) * 4 :]
        return body[8:] if self.protocol == UDP else body

    @property
    def tcp_flags(self) -> int:
        return self.data[self.header + 13] if self.protocol == TCP else 0

    @property
    def sequence(self) -> int:
        return int.from_bytes(self.data[self.header + 4 : self.header + 8], "big")

    @property
    def acknowledged(self) -> int:
        return int.from_bytes(self.data[self.header + 8 : self.header + 12], "big")

    @property
    def identification(self) -> int:
        return int.from_bytes(self.data[4:6], "big") if self.version == 4 else 0

    @property
    def span(self) -> int:
        """How many sequence numbers a TCP segment takes."""
        flags = self.tcp_flags
        return len(self.payload) + bool(flags & SYN) + bool(flags & FIN)


def text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def parse(data: bytes) -> Packet:
    """Raises PacketError for anything but one whole IPv4 or IPv6 packet."""
    version = data[0] >> 4 if data else 0
    if version == 4:
        return _parse_v4(data)
    if version == 6:
        return _parse_v6(data)
    raise PacketError(f"IP version {version}")


def _parse_v4(data: bytes) -> Packet:
    header = (data[0] & 0x0F) * 4
    if header < 20 or len(data) < header or int.from_bytes(data[2:4], "big") != len(data):
        raise PacketError("IPv4 length")
    first = int.from_bytes(data[6:8], "big") & 0x1FFF == 0
    ports = _ports(data, header, data[9]) if first else (0, 0)
    return Packet(data, 4, data[12:16], data[16:20], data[9], data[8], header, *ports, first)


def _parse_v6(data: bytes) -> Packet:
    if len(data) < 40 or int.from_bytes(data[4:6], "big") + 40 != len(data):
        raise PacketError("IPv6 length")
    protocol, header, first = data[6], 40, True
    while protocol in _V6_EXTENSIONS or protocol == _V6_FRAGMENT:
        if len(data) < header + 8:
            raise PacketError("IPv6 extension header")
        if protocol == _V6_FRAGMENT:
            first = int.from_bytes(data[header + 2 : header + 4], "big") & 0xFFF8 == 0
            length = 8
        else:
            length = (data[header + 1] + 1) * 8
        protocol, header = data[header], header + length
        if not first:
            break
    if header > len(data):
        raise PacketError("IPv6 extension header")
    ports = _ports(data, header, protocol) if first else (0, 0)
    return Packet(data, 6, data[8:24], data[24:40], protocol, data[7], header, *ports, first)


def _ports(data: bytes, header: int, protocol: int) -> tuple[int, int]:
    if protocol not in (TCP, UDP):
        return 0, 0
    if len(data) < header + (20 if protocol == TCP else 8):
        raise PacketError("transport header cut short")
    source, destination = struct.unpack_from("!HH", data, header)
    return source, destination


def with_ttl(packet: Packet, ttl: int) -> bytes:
    """The same packet with another hop count; the checksum is updated, not computed (RFC 1624)."""
    data = bytearray(packet.data)
    if packet.version == 6:
        data[7] = ttl
        return bytes(data)
    before = bytes(data[8:10])
    data[8] = ttl
    _amend(data, 10, before, bytes(data[8:10]))
    return bytes(data)


def with_end(packet: Packet, place: tuple[bytes, int], *, source: bool) -> Packet:
    """The same packet from or to another address and port of the same family, checksums updated."""
    address, port = place
    data = bytearray(packet.data)
    v4 = packet.version == 4
    start = (12 if v4 else 8) + (0 if source else len(address))
    before, after = bytes(data[start : start + len(address)]), address
    data[start : start + len(address)] = address
    if v4:
        _amend(data, 10, before, after)
    field = {TCP: 16, UDP: 6}.get(packet.protocol)
    if field is not None and packet.first_fragment:
        number = packet.header + (0 if source else 2)
        before += bytes(data[number : number + 2])
        after += port.to_bytes(2, "big")
        data[number : number + 2] = port.to_bytes(2, "big")
        if len(data) >= packet.header + field + 2:
            _amend(data, packet.header + field, before, after)
    return parse(bytes(data))


def _amend(data: bytearray, field: int, before: bytes, after: bytes) -> None:
    """Update the checksum at ``field`` for words that changed (RFC 1624, equation 3)."""
    total = ~int.from_bytes(data[field : field + 2], "big") & 0xFFFF
    for word in struct.unpack(f"!{len(before) // 2}H", before):
        total += ~word & 0xFFFF
    total += sum(struct.unpack(f"!{len(after) // 2}H", after))
    data[field : field + 2] = (~_fold(total) & 0xFFFF).to_bytes(2, "big")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    return ~_fold(sum(struct.unpack(f"!{len(data) // 2}H", data))) & 0xFFFF


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def may_be_answered(packet: Packet) -> bool:
    """No ICMP error about an ICMP error or about a later fragment (RFC 1122 section 3.2.2)."""
    if not packet.first_fragment:
        return False
    kind = packet.data[packet.header] if len(packet.data) > packet.header else 0
    if packet.protocol == ICMP:
        return kind not in _ICMP_ERRORS
    return not (packet.protocol == ICMPV6 and kind < 128)


def time_exceeded(packet: Packet, router: bytes) -> bytes:
    """What the router where the hop count ran out sends back to the sender."""
    return _icmp_error(packet, router, 11 if packet.version == 4 else 3, 0)


def unreachable(packet: Packet, router: bytes, code: int) -> bytes:
    """Destination unreachable; ``code`` is that of the packet's own family."""
    return _icmp_error(packet, router, 3 if packet.version == 4 else 1, code)


def _icmp_error(packet: Packet, router: bytes, kind: int, code: int) -> bytes:
    if packet.version == 4:
        body = bytes((kind, code, 0, 0, 0, 0, 0, 0)) + packet.data[: QUOTE_V4 - 28]
        body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
        return ip(router, packet.source, ICMP, body)
    body = bytes((kind, code, 0, 0, 0, 0, 0, 0)) + packet.data[: QUOTE_V6 - 48]
    total = checksum(_pseudo_header(router, packet.source, ICMPV6, len(body)) + body)
    return ip(router, packet.source, ICMPV6, body[:2] + total.to_bytes(2, "big") + body[4:])


def reset(packet: Packet) -> bytes:
    """The RST|ACK that answers a TCP segment, as if its destination had sent it.

    Sequence numbers as RFC 9293 section 3.10.7.1 wants them, so that a client in SYN-SENT and one
    with an open connection both believe it.
    """
    flags = packet.tcp_flags
    number = packet.acknowledged if flags & ACK else 0
    body = tcp(backward(packet), number, packet.sequence + packet.span, RST | ACK)
    return ip(packet.destination, packet.source, TCP, body)


def cut_to_reset(packet: Packet) -> Packet:
    """A TCP segment with everything cut off and RST|ACK for flags; the IP header stays its own."""
    body = tcp(forward(packet), packet.sequence, packet.acknowledged, RST | ACK)
    ends = packet.source, packet.destination
    return parse(ip(*ends, TCP, body, packet.ttl, packet.identification))


Ends = tuple[bytes, int, bytes, int]  # source, its port, destination, its port


def forward(packet: Packet) -> Ends:
    return packet.source, packet.source_port, packet.destination, packet.destination_port


def backward(packet: Packet) -> Ends:
    return packet.destination, packet.destination_port, packet.source, packet.source_port


def ip(
    source: bytes,
    destination: bytes,
    protocol: int,
    body: bytes,
    ttl: int = 64,
    identification: int = 0,
) -> bytes:
    """An IP packet around a finished transport segment; IPv6 has no identification."""
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, ttl) + source + destination + body
    fields = (0x45, 0, 20 + len(body), identification, 0, ttl, protocol)
    header = struct.pack("!BBHHHBBH", *fields, 0) + source + destination
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + body


def tcp(
    ends: Ends,
    sequence: int,
    acknowledged: int,
    flags: int,
    payload: bytes = b"",
    window: int = 0,
) -> bytes:
    """A TCP segment without options and with its checksum, to go into ``ip``."""
    source, source_port, destination, destination_port = ends
    numbers = (sequence & SEQUENCE, acknowledged & SEQUENCE)
    head = (source_port, destination_port, *numbers, 5 << 4, flags, window, 0, 0)
    segment = struct.pack("!HHIIBBHHH", *head) + payload
    total = checksum(_pseudo_header(source, destination, TCP, len(segment)) + segment)
    return segment[:16] + total.to_bytes(2, "big") + segment[18:]


def udp(
    source: bytes, source_port: int, destination: bytes, destination_port: int, payload: bytes
) -> bytes:
    """A UDP segment with its checksum, to go into ``ip``."""
    length = 8 + len(payload)
    segment = struct.pack("!HHHH", source_port, destination_port, length, 0) + payload
    total = checksum(_pseudo_header(source, destination, UDP, length) + segment)
    return segment[:6] + (total or 0xFFFF).to_bytes(2, "big") + segment[8:]  # RFC 768: 0 is "none"


def _pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!II", length, protocol)
