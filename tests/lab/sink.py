"""Servers that accept a TCP connection and read it in silence, as a raw chat host does.

What a stranger sends gets no answer and no reset; the host waits for a valid first message and
hangs up after half a minute. A program of its own, with "address port" lines on standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

PATIENCE = 30.0


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while await reader.read(65536):
                pass
    writer.close()


async def main(places: list[tuple[str, int]]) -> None:
    servers = [await asyncio.start_server(swallow, address, port) for address, port in places]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    lines = [line.split() for line in sys.stdin if line.strip()]
    asyncio.run(main([(address, int(port)) for address, port in lines]))
