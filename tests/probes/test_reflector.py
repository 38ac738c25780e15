"""reflector: five pings for one tag, and what may come back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest

from probes.model import Failure, Step
from probes.net.environment import Environment
from probes.reflector import ReflectorProbe
from tests.probes.servers import (
    COUNTED,
    SHORT,
    Answer,
    Reply,
    closed_port,
    echo,
    observe,
    silent,
    stun_answers,
    udp_server,
)


def info(ping: bytes, *, ahead: int = 0) -> bytes:
    """What a reflector says to a ping; its clock is ``ahead``."""
    clock = struct.pack("<I", int(time.time()) + ahead)
    head = ping[:28] + bytes.fromhex("c77215c0") + clock + ping[32:40]
    return head + bytes(10) + b"\xff\xff\x7f\0\0\1" + struct.pack("<I", 4242)


def answering(change: Callable[[bytes], bytes] = bytes) -> Answer:
    return lambda _number, data: [change(info(data))]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_five_pings_for_one_random_tag(env: Environment, host: str) -> None:
    tags = set()
    for _ in range(2):
        async with udp_server(lambda n, data: [info(data, ahead=30)], host) as server:
            seen = await observe(ReflectorProbe(), server.port, env, address=host, timeout=COUNTED)
        assert seen.ok, seen.failed
        assert [step.step for step in seen.steps] == [Step.EXCHANGE]
        assert len(server.received) == 5
        assert len(set(server.peers)) == 1
        assert len({data[32:] for data in server.received}) == 5, "ids of their own"
        (tag,) = {data[:16] for data in server.received}
        tags.add(tag)
        assert seen.facts["requests"] == seen.facts["answered"] == 5
        assert seen.facts["rtt_seconds"] > 0
        assert abs(seen.facts["clock_offset_seconds"] - 30) <= 1
    assert len(tags) == 2, "a tag of its own in every run"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (echo, Failure.BAD_REPLY),
        (stun_answers, Failure.BAD_REPLY),
        (lambda n, data: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], Failure.BAD_REPLY),
        (answering(lambda a: bytes(16) + a[16:]), Failure.WRONG_ID),
        (answering(lambda a: a[:36] + bytes(8) + a[44:]), Failure.WRONG_ID),
        (answering(lambda a: a[:-1]), Failure.TRUNCATED),
        (lambda n, data: [b""], Failure.TRUNCATED),
        (answering(lambda a: a + bytes(1400)), Failure.OVERSIZED),
        (lambda n, data: [info(data)] if n < 2 else [], Failure.LOSSY),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    async with udp_server(answer) as server:
        seen = await observe(ReflectorProbe(), server.port, env, timeout=COUNTED)
    assert seen.failed is not None
    assert seen.failed.failure is failure
    assert not seen.works


async def test_an_answer_counts_once_and_for_its_own_ping(env: Environment) -> None:
    """A server that repeats the first answer to all has answered one."""
    first: list[bytes] = []

    def repeat(_number: int, data: bytes) -> Reply:
        first.append(info(data))
        return [first[0]]

    async with udp_server(repeat) as server:
        seen = await observe(ReflectorProbe(), server.port, env, timeout=COUNTED)
    assert seen.failed.failure is Failure.LOSSY
    assert seen.facts["answered"] == 1
    assert seen.facts["duplicates"] == 4


async def test_a_closed_port_is_refused(env: Environment) -> None:
    port = closed_port(socket.SOCK_DGRAM)
    seen = await observe(ReflectorProbe(), port, env, timeout=SHORT)
    assert seen.failed.failure is Failure.REFUSED


async def test_our_address_in_the_answer_stays_in_the_datagram(env: Environment) -> None:
    async with udp_server(answering()) as server:
        seen = await observe(ReflectorProbe(), server.port, env, timeout=COUNTED)
    assert not any("127.0.0.1" in str(fact) for fact in seen.facts.values())
