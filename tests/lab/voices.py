"""Voice servers, which send latency pings back, and answer nothing else.

A program of its own, with "address port" lines on standard input; the header of a ping is its first
argument, in hexadecimal.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from tests.lab.catalogue import Target
from tests.lab.web import Place

COUNTER = 4


def places(targets: Iterable[Target], *, ipv6: bool) -> dict[str, list[Place]]:
    """Where the voice servers among these are, by the header that they know."""
    found: dict[str, set[Place]] = {}
    for target in targets:
        if target.probe == "echo":
            known = found.setdefault(target.fields["header"], set())
            known.update((a, target.port) for a in target.addresses if ipv6 or ":" not in a)
    return {header: sorted(known) for header, known in found.items()}


def answer(data: bytes, header: bytes) -> list[bytes]:
    return [data] if data.startswith(header) and len(data) == len(header) + COUNTER else []


class Voice(asyncio.DatagramProtocol):
    def __init__(self, header: bytes) -> None:
        self.header = header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        for said in answer(data, self.header):
            self.transport.sendto(said, peer)  # type: ignore[attr-defined] # a DatagramTransport


async def main(header: bytes, places: list[Place]) -> None:
    loop = asyncio.get_running_loop()
    for place in places:
        await loop.create_datagram_endpoint(lambda: Voice(header), local_addr=place)
    await asyncio.Event().wait()


if __name__ == "__main__":
    lines = [line.split() for line in sys.stdin if line.strip()]
    where = [(address, int(port)) for address, port in lines]
    asyncio.run(main(bytes.fromhex(sys.argv[1]), where))
