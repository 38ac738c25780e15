"""turn: the 401 of a relay and its realm."""

from __future__ import annotations

import asyncio
import socket

import pytest

from probes.model import Failure, Step
from probes.net.environment import Environment
from probes.turn import TurnProbe
from probes.wire import stun
from tests.probes.certificates import NAME, Certificate
from tests.probes.conftest import Relay
from tests.probes.servers import (
    COUNTED,
    NASTY,
    SHORT,
    Answer,
    Reply,
    assert_clean,
    closed_port,
    echo,
    observe,
    silent,
    stun_refusal,
    tcp_server,
    udp_server,
)


def challenge(_number: int, data: bytes) -> Reply:
    return [stun_refusal(data, 401, (stun.REALM, b"relay.test"), (stun.SOFTWARE, b"soft"))]


async def test_it_sends_allocate_without_credentials(env: Environment) -> None:
    async with udp_server(challenge) as server:
        seen = await observe(TurnProbe(), server.port, env, timeout=COUNTED)
    assert seen.ok
    assert len(server.received) == 5
    for data in server.received:
        assert data[:2] == b"\0\x03"
        assert [kind for kind, _ in stun.attributes(data)] == [stun.REQUESTED_TRANSPORT]
    assert seen.facts["error_code"] == 401
    assert seen.facts["realm"] == "relay.test"
    assert seen.facts["software"] == "soft"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (echo, Failure.BAD_REPLY),
        (lambda n, data: [stun_refusal(data, 401)], Failure.BAD_REPLY),  # no realm
        (lambda n, data: [stun_refusal(data, 401, (stun.REALM, b"other"))], Failure.BAD_REPLY),
        (lambda n, data: [stun_refusal(data[:8] + bytes(12), 401)], Failure.WRONG_ID),
        (lambda n, data: [stun_refusal(data, 401)[:-2]], Failure.TRUNCATED),
        (lambda n, data: [stun_refusal(data, 401, (stun.REALM, b"r" * 3000))], Failure.OVERSIZED),
        (lambda n, data: list(challenge(n, data)) if n < 2 else [], Failure.LOSSY),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    async with udp_server(answer) as server:
        probe = TurnProbe(realm="relay.test")
        seen = await observe(probe, server.port, env, timeout=COUNTED)
    assert seen.failed.step is Step.EXCHANGE
    assert seen.failed.failure is failure
    assert not seen.works


async def test_another_realm_is_kept_as_a_fact(env: Environment) -> None:
    async with udp_server(challenge) as server:
        seen = await observe(TurnProbe(realm="mine.test"), server.port, env, timeout=COUNTED)
    assert seen.failed.failure is Failure.BAD_REPLY
    assert seen.facts["realm"] == "relay.test"
    assert seen.facts["unexpected"] >= 1
    assert seen.facts["answered"] == 0


async def test_any_code_counts_where_no_realm_is_expected(env: Environment) -> None:
    async with udp_server(lambda n, data: [stun_refusal(data, 486)]) as server:
        seen = await observe(TurnProbe(), server.port, env, timeout=COUNTED)
    assert seen.ok
    assert seen.facts["error_code"] == 486
    assert "realm" not in seen.facts


async def test_a_nasty_realm_is_cleaned_in_fact_and_detail(env: Environment) -> None:
    realm = NASTY.encode()[:1500]
    async with udp_server(lambda n, data: [stun_refusal(data, 401, (stun.REALM, realm))]) as server:
        seen = await observe(TurnProbe(realm="relay.test"), server.port, env, timeout=COUNTED)
    assert_clean(seen.facts["realm"])
    assert seen.failed.detail.isprintable()
    assert len(seen.failed.detail) < 200


async def test_over_a_stream_another_realm_is_a_bad_reply(env: Environment) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(28)
        writer.write(stun_refusal(data, 401, (stun.REALM, b"other")))

    async with tcp_server(answer) as server:
        probe = TurnProbe(transport="tcp", realm="relay.test")
        seen = await observe(probe, server.port, env)
    assert seen.failed.failure is Failure.BAD_REPLY
    assert seen.facts["realm"] == "other"


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_closed_port_is_refused(env: Environment, transport: str) -> None:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    seen = await observe(TurnProbe(transport=transport), closed_port(kind), env, timeout=SHORT)
    assert seen.failed.failure is Failure.REFUSED


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_coturn_challenges_with_its_realm(
    env: Environment, good: Certificate, relay: Relay, transport: str
) -> None:
    port = relay.tls_port if transport == "tls" else relay.port
    limit = COUNTED if transport == "udp" else 5.0
    probe = TurnProbe(transport=transport, realm=relay.realm)
    seen = await observe(probe, port, env, host=NAME, timeout=limit)
    assert seen.ok, seen.failed
    assert seen.facts["error_code"] == 401
    assert seen.facts["realm"] == relay.realm
    assert "oturn" in seen.facts["software"]
    other = TurnProbe(transport=transport, realm="other.test")
    seen = await observe(other, port, env, host=NAME, timeout=limit)
    assert seen.failed.failure is Failure.BAD_REPLY
