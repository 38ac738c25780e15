"""Frames between the agent and its processes: four bytes of length, then the bytes."""

from __future__ import annotations

import asyncio
import struct

RELOAD = b"reload"
"""What the web process may ask of the agent: this, or a probe, as JSON (exporters/web.py)."""
_LENGTH = struct.Struct("!I")


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame; None when the other side has closed."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def write_frame(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(_LENGTH.pack(len(data)) + data)
