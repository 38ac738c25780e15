"""Whose sequence numbers are injected into: the capture's order is not the network's alone."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from probes.net.address import Source
from probes.net.hops import Connections
from probes.net.raw import Captured, Raw, RawMissing, capable

PORT, HERE, THERE = 40000, "192.0.2.1", "192.0.2.9"


def captured(number: int, out: bool, flags: str, seq: int, ack: int = 0) -> Captured:
    rest: dict[str, Any] = {
        "flags": flags,
        "seq": seq,
        "ack": ack,
        "length": 0,
        "window": 500,
        "options": [["Timestamp", [7, 0]]],
    }
    sender = HERE if out else THERE
    return Captured(number, number / 100, out, "tcp", PORT, sender, 64, rest)


def handshake(first: int, seq: int) -> list[Captured]:
    return [
        captured(first, True, "S", seq),
        captured(first + 1, False, "SA", 9000, seq + 1),
        captured(first + 2, True, "A", seq + 1, 9001),
    ]


@pytest.mark.parametrize("seq", [2000, (1 << 32) - 1], ids=["ordinary", "wraps"])
async def test_what_is_left_of_the_connection_before_is_not_taken_for_this_one(seq: int) -> None:
    """A knock on the same port ended a moment ago, and its last packets come behind the mark."""
    raw = Raw(THERE)
    _, server, acknowledged = handshake(1, 1000)
    late = [server, acknowledged, captured(4, True, "RA", 1001, 9001)]
    new = handshake(5, seq)
    new[1:] = [
        captured(6, False, "SA", 9000, (seq + 1) % (1 << 32)),
        captured(7, True, "A", (seq + 1) % (1 << 32), 9001),
    ]
    raw._heard.extend([*late, *new])
    opened = await raw._opened(1, PORT)
    assert opened is not None
    assert opened.sequence == (seq + 1) % (1 << 32)
    assert opened.rtt == pytest.approx(0.01)


async def test_without_a_whole_handshake_nothing_is_injected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("probes.net.raw._LATE", 0.1)
    raw = Raw(THERE)
    raw._heard.extend(handshake(1, 1000)[:2])
    assert await raw._opened(0, PORT) is None


@pytest.mark.skipif(not capable(), reason="needs CAP_NET_RAW")
async def test_a_process_that_was_killed_is_missed() -> None:
    async with Raw("127.0.0.9") as one:
        one._process.kill()
        await one._process.wait()
        with socket.create_server(("127.0.0.9", 0)) as server:
            port = Connections("127.0.0.9", server.getsockname()[1], Source())
            with pytest.raises(RawMissing):
                await one.say(port, b"hello", 0, 0.3)
