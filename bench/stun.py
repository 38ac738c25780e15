"""A STUN server for the benches: answers a Binding request from the address that was asked."""

from __future__ import annotations

import ipaddress
import socket
import struct

from bench.loopback import STUN

IP_PKTINFO = 8
_COOKIE = 0x2112A442
_HEADER = struct.Struct("!HHI12s")


def answer(request: bytes, source: tuple[str, int]) -> bytes:
    """A Binding success with XOR-MAPPED-ADDRESS (RFC 8489, 14.2)."""
    _, _, _, transaction = _HEADER.unpack_from(request)
    mapped = int(ipaddress.IPv4Address(source[0])) ^ _COOKIE
    port = source[1] ^ (_COOKIE >> 16)
    attribute = struct.pack("!HHBBHI", 0x0020, 8, 0, 1, port, mapped)
    return _HEADER.pack(0x0101, len(attribute), _COOKIE, transaction) + attribute


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("0.0.0.0", STUN))
        while True:
            data, ancillary, _, source = sock.recvmsg(2048, 64)
            _, asked, _ = struct.unpack("=i4s4s", ancillary[0][2])
            info = struct.pack("=i4s4s", 0, asked, b"\0" * 4)
            sock.sendmsg([answer(data, source)], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, source)


if __name__ == "__main__":
    main()
