"""stun over TCP and TLS: one request, and one word for each way of not being answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from probes.model import Failure, Step
from probes.net.environment import Environment
from probes.stun import StunProbe
from tests.probes.certificates import NAME, Authority, Certificate
from tests.probes.servers import (
    COUNTED,
    Behaviour,
    close_after_first_bytes,
    close_at_once,
    closed_port,
    observe,
    reset_after_first_bytes,
    say_nothing,
    stun_refusal,
    stun_reply,
    tcp_server,
)


def answering(change: Callable[[bytes], bytes] = stun_reply) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(change(await reader.readexactly(20)))
        await writer.drain()

    return behave


async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The answer one byte at a time, then bytes of a next message."""
    for byte in stun_reply(await reader.readexactly(20)) + b"\x01":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    await reader.read()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(20)
    for _ in range(160):
        writer.write(b"\0" * 65536)
        await writer.drain()


STREAM_CASES = [
    (answering(), None),
    (dribble, None),
    (answering(lambda data: stun_refusal(data, 500)), None),
    (say_nothing, Failure.TIMEOUT),
    (reset_after_first_bytes, Failure.RESET),
    (close_after_first_bytes, Failure.CLOSED),
    (answering(lambda data: stun_reply(data)[:10]), Failure.TRUNCATED),
    (answering(lambda data: stun_reply(data)[:-1]), Failure.TRUNCATED),
    (answering(lambda data: stun_reply(data[:8] + bytes(12))), Failure.WRONG_ID),
    (answering(lambda data: data), Failure.BAD_REPLY),
    (answering(lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n"), Failure.BAD_REPLY),
    (answering(lambda data: b"\x01\x01\xff\xfc" + data[4:]), Failure.OVERSIZED),
    (endless, Failure.BAD_REPLY),
]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize(("behave", "failure"), STREAM_CASES)
async def test_each_misbehaviour_of_a_stream_has_its_word(
    env: Environment,
    good: Certificate,
    transport: str,
    behave: Behaviour,
    failure: Failure | None,
) -> None:
    tls = good.server() if transport == "tls" else None
    async with tcp_server(behave, tls=tls) as server:
        probe = StunProbe(transport=transport)
        seen = await observe(probe, server.port, env, host=NAME, timeout=COUNTED)
    assert seen.steps[-1].step is Step.EXCHANGE
    assert len(seen.steps) == (3 if tls else 2)
    assert (seen.failed and seen.failed.failure) == failure
    assert seen.works is (failure is None)
    assert env.traffic.received < 2_000_000


async def test_a_stream_closed_before_the_request_is_closed(env: Environment) -> None:
    async with tcp_server(close_at_once) as server:
        seen = await observe(StunProbe(transport="tcp"), server.port, env)
    assert seen.failed.failure is Failure.CLOSED


async def test_a_closed_tcp_port_is_refused(env: Environment) -> None:
    port = closed_port(socket.SOCK_STREAM)
    seen = await observe(StunProbe(transport="tcp"), port, env)
    assert seen.failed.step is Step.CONNECT
    assert seen.failed.failure is Failure.REFUSED


async def test_over_tls_the_certificate_is_verified_for_the_server_name(
    env: Environment, authority: Authority, good: Certificate
) -> None:
    async with tcp_server(answering(), tls=good.server()) as server:
        probe = StunProbe(transport="tls", server_name=NAME)
        assert (await observe(probe, server.port, env, host="other.test")).ok
        seen = await observe(StunProbe(transport="tls"), server.port, env, host="other.test")
    assert seen.failed.step is Step.TLS
    assert seen.failed.failure is Failure.WRONG_NAME
    assert seen.facts["certificate_names"] == NAME


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_partial_run_stops_after_connect(env: Environment, transport: str) -> None:
    async with tcp_server(say_nothing) as server:
        seen = await observe(StunProbe(transport=transport), server.port, env, partial=True)
    assert [step.step for step in seen.steps] == [Step.CONNECT]
