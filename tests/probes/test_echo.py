"""echo: five pings that must come back as they are."""

from __future__ import annotations

import socket

import pytest

from probes.echo import EchoProbe
from probes.model import Failure, Step
from probes.net.environment import Environment
from tests.probes.servers import (
    COUNTED,
    SHORT,
    Answer,
    closed_port,
    echo,
    observe,
    silent,
    udp_server,
)

PROBE = EchoProbe(header="1337cafe")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_five_pings_with_counters_of_their_own(env: Environment, host: str) -> None:
    first = set()
    for _ in range(2):
        async with udp_server(echo, host) as server:
            seen = await observe(PROBE, server.port, env, address=host, timeout=COUNTED)
        assert seen.ok, seen.failed
        assert [step.step for step in seen.steps] == [Step.EXCHANGE]
        assert {(len(data), data[:4].hex()) for data in server.received} == {(8, "1337cafe")}
        counters = [int.from_bytes(data[4:], "little") for data in server.received]
        assert [(c - counters[0]) % (1 << 32) for c in counters] == [0, 1, 2, 3, 4]
        assert seen.facts["requests"] == seen.facts["answered"] == 5
        first.add(counters[0])
    assert len(first) == 2, "no canned answer will do"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (lambda n, data: [b"\1\1\0\0\x21\x12\xa4\x42" + bytes(12)], Failure.BAD_REPLY),
        (lambda n, data: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], Failure.BAD_REPLY),
        (lambda n, data: [data[:4] + bytes(4)], Failure.WRONG_ID),
        (lambda n, data: [data[:-1]], Failure.TRUNCATED),
        (lambda n, data: [data + bytes(1400)], Failure.OVERSIZED),
        (lambda n, data: [data] if n < 2 else [], Failure.LOSSY),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    async with udp_server(answer) as server:
        seen = await observe(PROBE, server.port, env, timeout=COUNTED)
    assert seen.failed is not None
    assert seen.failed.failure is failure
    assert not seen.works


async def test_a_closed_port_is_refused(env: Environment) -> None:
    seen = await observe(PROBE, closed_port(socket.SOCK_DGRAM), env, timeout=SHORT)
    assert seen.failed.failure is Failure.REFUSED
