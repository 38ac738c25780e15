"""Telegram's reflectors: each answers the ping of whatever peer, and nothing else.

The project's mock of them answers any tag; the real ones may not. A program of its own, with
"address port" lines on standard input.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable

from probes.wire import reflector
from tests.lab.catalogue import Target
from tests.lab.web import Place

PING = b"\xff" * 12 + b"\xfe\xff\xff\xff"


def places(targets: Iterable[Target], *, ipv6: bool) -> list[Place]:
    """Where the reflectors among these are."""
    found = {
        (address, target.port)
        for target in targets
        if target.probe == "reflector"
        for address in target.addresses
        if ipv6 or ":" not in address
    }
    return sorted(found)


def answer(data: bytes, address: str, port: int, now: float) -> list[bytes]:
    """To a datagram from there at that Unix time."""
    if len(data) != reflector.PING or data[16:32] != PING:
        return []
    seen = ipaddress.ip_address(address)
    packed = seen.packed if seen.version == 6 else bytes(10) + b"\xff\xff" + seen.packed
    clock = struct.pack("<I", int(now))
    return [data[:28] + b"\xc7\x72\x15\xc0" + clock + data[32:] + packed + struct.pack("<I", port)]


def serve(sock: socket.socket) -> Callable[[], None]:
    def readable() -> None:
        data, peer = sock.recvfrom(2048)
        for said in answer(data, peer[0], peer[1], time.time()):
            sock.sendto(said, peer)

    return readable


async def main(places: list[Place]) -> None:
    loop = asyncio.get_running_loop()
    for address, port in places:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((address, port))
        loop.add_reader(sock, serve(sock))
    await asyncio.Event().wait()


if __name__ == "__main__":
    lines = [line.split() for line in sys.stdin if line.strip()]
    asyncio.run(main([(address, int(port)) for address, port in lines]))
