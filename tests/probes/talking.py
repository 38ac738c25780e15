"""Servers whose side of a conversation is bytes in, bytes out; and what they may do instead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.lab.websocket import Talk
from tests.probes.servers import Behaviour


def talking(make: Callable[[], Talk], *, at_once: int = 0, cut: int | None = None) -> Behaviour:
    """One ``make()`` for each connection. ``at_once``: bytes of an answer in one segment, 0 for all
    of it; ``cut``: bytes after which it hangs up."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = make()
        while data := await reader.read(65536):
            answer = talk.said(data)[:cut]
            step = at_once or len(answer) or 1
            for at in range(0, len(answer), step):
                writer.write(answer[at : at + step])
                await writer.drain()
                await asyncio.sleep(0)
            if getattr(talk, "hangs_up", False) or (cut is not None and answer):
                return

    return behave


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


def http(*, stays: bool) -> Behaviour:
    """A web server that is told nonsense."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        if stays:
            await reader.read()

    return behave


def without_end(beginning: bytes) -> Behaviour:
    """``beginning``, and then 64 MiB of nothing, as fast as they are read."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(beginning)
        for _ in range(1024):
            writer.write(bytes(65536))
            await writer.drain()

    return behave
