"""One SYN to a host, and how long it took until it said anything: for losses, not for services."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

from probes.net.address import Source
from probes.net.stream import connected

PATIENCE = 0.95
"""Seconds: the kernel repeats a SYN after one, and then nobody knows which of them was answered."""
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: no FIN, and nothing left in TIME_WAIT


async def knock(address: str, port: int, source: Source, limit: float = PATIENCE) -> float | None:
    """Seconds until the host took or refused the connection; None when it did neither in ``limit``
    seconds. Raises OSError for what this host itself refuses."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        source.bind(sock, stream=True)
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                await connected(sock, (address, port))
        except ConnectionRefusedError:
            pass
        except TimeoutError:
            return None
        return time.monotonic() - began
    finally:
        sock.close()
