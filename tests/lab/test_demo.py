"""The parts of ``make demo`` that need no agent: its words, and its way into the namespace."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.lab import demo, servers
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab


def binds(lab: Lab, messenger: str) -> bool:
    target = lab.catalogue.select(messenger=messenger, probe="stun", transport="udp")[0]
    try:
        return lab.world.call(servers.binds, (target.addresses[0], target.port))
    except TimeoutError:
        return False


def test_the_words_play_the_scenarios(lab: Lab) -> None:
    assert binds(lab, "telegram")
    assert "telegram" in demo.obey(lab, "drop telegram")
    assert (binds(lab, "telegram"), binds(lab, "whatsapp")) == (False, True)
    demo.obey(lab, "lift")
    assert binds(lab, "telegram")
    demo.obey(lab, "cut")
    assert not binds(lab, "whatsapp")
    demo.obey(lab, "lift")
    demo.obey(lab, "lose whatsapp")
    answers = [binds(lab, "whatsapp") for _ in range(20)]
    assert 0 < sum(answers) < 14
    for nonsense in ("drop everything", "help", "drop"):
        assert demo.obey(lab, nonsense) == demo.HELP
    assert demo.obey(lab, "\n") == ""


async def test_the_relay_leads_into_the_namespace(lab: Lab) -> None:
    """Bytes go both ways, and the end of a stream does too."""
    inside = lab.world.call(socket.create_server, (demo.HOST, 0))
    port = inside.getsockname()[1]
    inside.setblocking(False)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    agent = await asyncio.start_server(shout, sock=inside)
    relay = await demo.start_relay(lab.world, port)
    reader, writer = await asyncio.open_connection(demo.HOST, port)
    writer.write(b"hello" * 100_000)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read() == b"HELLO" * 100_000
    writer.close()
    await writer.wait_closed()
    relay.close()
    agent.close()


async def test_nobody_inside_means_a_closed_connection(lab: Lab) -> None:
    free = socket.create_server((demo.HOST, 0))
    port = free.getsockname()[1]
    free.close()
    relay = await demo.start_relay(lab.world, port)
    reader, writer = await asyncio.open_connection(demo.HOST, port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    relay.close()
