"""mtproto: every transport, and one word for each way in which a data centre is none."""

from __future__ import annotations

import time

import pytest

from probes.model import Failure, Step
from probes.mtproto import MtprotoProbe
from probes.net.environment import Environment
from probes.registry import needs_research
from probes.wire.mtproto import Transport
from tests.lab.mtproto import PRODUCTION, DataCentre, res_pq
from tests.lab.websocket import Upgraded, framed
from tests.probes.certificates import NAME, Certificate
from tests.probes.servers import (
    SHORT,
    Behaviour,
    close_after_first_bytes,
    observe,
    reset_after_first_bytes,
    say,
    say_nothing,
    tcp_server,
)
from tests.probes.talking import echoing, http, talking, without_end

SIXTEEN_MEBIBYTES = bytes.fromhex("827f0000000001000000")


class Rude(Upgraded):
    """Takes the handshake, and answers the first message with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(DataCentre(), "/apiws", "binary")
        self.answer = answer

    def said(self, data: bytes) -> bytes:
        return self.answer if self.upgraded else super().said(data)


OVER_TCP = [t for t in Transport if t is not Transport.WEBSOCKET]


async def ask(env: Environment, behave: Behaviour, transport=Transport.ABRIDGED, timeout=5.0):
    async with tcp_server(behave) as server:
        return await observe(MtprotoProbe(transport), server.port, env, timeout=timeout)


@pytest.mark.parametrize("transport", OVER_TCP)
@pytest.mark.parametrize("at_once", [0, 1])
async def test_a_data_centre_answers(env: Environment, transport: Transport, at_once: int) -> None:
    seen = await ask(env, talking(DataCentre, at_once=at_once), transport)
    assert seen.ok, seen.failed
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.EXCHANGE]
    assert seen.facts["transport"] == transport
    assert seen.facts["keys"] == 1
    assert abs(seen.facts["clock_offset_seconds"]) < 5
    assert seen.facts["hello_acked"] is seen.facts["server_spoke"] is True
    assert "transport_error" not in seen.facts


@pytest.mark.parametrize(
    ("transport", "sizes"),
    [
        (Transport.ABRIDGED, {42}),
        (Transport.INTERMEDIATE, {48}),
        (Transport.PADDED, set(range(48, 64))),
        (Transport.OBFUSCATED, {64 + 41}),
    ],
)
async def test_how_many_bytes_go_out(env: Environment, transport, sizes) -> None:
    seen = await ask(env, talking(DataCentre), transport)
    assert seen.facts["hello_bytes"] in sizes


async def test_over_a_websocket(env: Environment, good: Certificate) -> None:
    centre = DataCentre()
    door = Upgraded(centre, "/apiws", "binary")
    async with tcp_server(talking(lambda: door), tls=good.server()) as server:
        probe = MtprotoProbe(Transport.WEBSOCKET, dc=4)
        seen = await observe(probe, server.port, env, host=NAME)
    assert seen.ok, seen.failed
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.TLS, Step.EXCHANGE]
    assert seen.facts["http_status"] == 101
    assert (centre.framing, centre.number) == ("abridged", 4)
    assert door.fields["host"] == f"{NAME}:{server.port}"
    assert "hello_acked" not in seen.facts, "TLS hides what of it was acknowledged"


async def test_a_websocket_that_is_refused(env: Environment, good: Certificate) -> None:
    def closed() -> Upgraded:
        return Upgraded(DataCentre(), "/elsewhere", "binary")

    async with tcp_server(talking(closed), tls=good.server()) as server:
        seen = await observe(MtprotoProbe(Transport.WEBSOCKET), server.port, env, host=NAME)
    assert seen.failed.failure is Failure.HTTP_STATUS
    assert seen.facts["http_status"] == 400
    assert seen.works, "the server spoke behind its own certificate"


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (say_nothing, Failure.TIMEOUT),
        (say(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Failure.BAD_REPLY),
        (say(b"HTTP/1.1 1"), Failure.TRUNCATED),
        (say(b""), Failure.CLOSED),
        (say(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 9000), Failure.OVERSIZED),
        (talking(lambda: Rude(SIXTEEN_MEBIBYTES)), Failure.OVERSIZED),
        (talking(lambda: Rude(framed(b"\x03\xe8", 0x88))), Failure.CLOSED),
        (talking(lambda: Rude(framed(b"text", 0x81))), Failure.BAD_REPLY),
        (talking(lambda: Rude(framed(b"HTTP/1.1 400 no"))), Failure.BAD_REPLY),
    ],
)
async def test_misbehaviour_behind_tls_has_its_word(
    env: Environment, good: Certificate, behave: Behaviour, failure: Failure
) -> None:
    probe = MtprotoProbe(Transport.WEBSOCKET)
    async with tcp_server(behave, tls=good.server()) as server:
        timeout = SHORT * 4 if failure is Failure.TIMEOUT else 5.0
        seen = await observe(probe, server.port, env, host=NAME, timeout=timeout)
    assert (seen.failed.step, seen.failed.failure) == (Step.EXCHANGE, failure)


def wrong_nonce(nonce: bytes) -> bytes:
    return res_pq(nonce[::-1])


def strange_key(nonce: bytes) -> bytes:
    return res_pq(nonce, ("0123456789abcdef",))


def refusing(code: int):
    return lambda: DataCentre(lambda nonce: code.to_bytes(4, "little", signed=True))


@pytest.mark.parametrize("transport", OVER_TCP)
@pytest.mark.parametrize(
    ("behave", "failure", "instead"),
    [
        (say_nothing, Failure.TIMEOUT, None),
        (reset_after_first_bytes, Failure.RESET, None),
        (close_after_first_bytes, Failure.CLOSED, None),
        (echoing, Failure.BAD_REPLY, "echo"),
        (http(stays=True), Failure.BAD_REPLY, "http"),
        (http(stays=False), Failure.BAD_REPLY, "http"),
        (talking(lambda: DataCentre(wrong_nonce)), Failure.WRONG_ID, None),
        (talking(lambda: DataCentre(strange_key)), Failure.UNKNOWN_ISSUER, None),
        (talking(DataCentre, cut=1), Failure.TRUNCATED, None),
        (talking(DataCentre, cut=50), Failure.TRUNCATED, None),
        (talking(DataCentre, cut=80), Failure.TRUNCATED, None),
        (talking(refusing(-1)), Failure.BAD_REPLY, None),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, transport: Transport, behave: Behaviour, failure: Failure, instead: str | None
) -> None:
    timeout = SHORT if failure is Failure.TIMEOUT else 5.0
    seen = await ask(env, behave, transport, timeout)
    assert (seen.failed.step, seen.failed.failure) == (Step.EXCHANGE, failure)
    assert not seen.works
    assert seen.facts.get("spoke_instead") == instead
    assert seen.facts["server_spoke"] is (
        failure not in (Failure.TIMEOUT, Failure.RESET, Failure.CLOSED)
    )
    assert seen.facts["hello_acked"] is True


@pytest.mark.parametrize("transport", OVER_TCP)
async def test_a_tls_server(env: Environment, good: Certificate, transport: Transport) -> None:
    """It answers what is no hello with an alert, or hangs up."""
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(MtprotoProbe(transport), server.port, env)
    assert seen.failed.failure in (Failure.BAD_REPLY, Failure.CLOSED, Failure.RESET)
    assert seen.facts.get("spoke_instead") in ("tls", None)


async def test_an_alert_is_told_from_a_short_answer(env: Environment) -> None:
    """Both begin with 0x15 in the abridged transport."""
    seen = await ask(env, say(bytes.fromhex("15030100020246")))
    assert seen.failed.failure is Failure.BAD_REPLY
    assert seen.facts["spoke_instead"] == "tls"


@pytest.mark.parametrize(
    ("transport", "length"),
    [
        (Transport.ABRIDGED, bytes.fromhex("7f000040")),
        (Transport.INTERMEDIATE, (1 << 24).to_bytes(4, "little")),
        (Transport.PADDED, (1 << 24).to_bytes(4, "little")),
    ],
)
async def test_sixteen_megabytes_are_not_read(
    env: Environment, transport: Transport, length: bytes
) -> None:
    seen = await ask(env, without_end(length), transport)
    assert seen.failed.failure is Failure.OVERSIZED
    assert env.traffic.received < 8 << 20, "what the kernel took at the most"


@pytest.mark.parametrize("transport", OVER_TCP)
@pytest.mark.parametrize("code", [-404, -429, -444])
async def test_a_transport_error_is_a_live_server(
    env: Environment, transport: Transport, code: int
) -> None:
    seen = await ask(env, talking(refusing(code)), transport)
    assert seen.ok
    assert seen.facts["transport_error"] == code
    assert seen.facts["rate_limited"] is (code == -429)


async def test_the_servers_clock_is_a_fact(env: Environment) -> None:
    def late(nonce: bytes) -> bytes:
        return res_pq(nonce, now=time.time() - 3600)

    seen = await ask(env, talking(lambda: DataCentre(late)))
    assert seen.ok
    assert seen.facts["clock_offset_seconds"] == pytest.approx(-3600, abs=5)


async def test_other_keys_may_be_named(env: Environment) -> None:
    async with tcp_server(talking(lambda: DataCentre(strange_key))) as server:
        probe = MtprotoProbe(fingerprints=(PRODUCTION, "0123456789abcdef"))
        seen = await observe(probe, server.port, env)
    assert seen.ok


async def test_a_partial_run_only_connects(env: Environment) -> None:
    heard: list[bytes] = []

    class Listening:
        def said(self, data: bytes) -> bytes:
            heard.append(data)
            return b""

    async with tcp_server(talking(Listening)) as server:
        seen = await observe(MtprotoProbe(), server.port, env, partial=True)
    assert [step.step for step in seen.steps] == [Step.CONNECT]
    assert heard == []


async def test_nothing_follows_the_answer(env: Environment) -> None:
    heard = bytearray()

    class Listening(DataCentre):
        def said(self, data: bytes) -> bytes:
            heard.extend(data)
            return super().said(data)

    seen = await ask(env, talking(Listening))
    assert seen.ok
    assert len(heard) == 42


def test_only_obfuscation_in_the_clear_is_for_research() -> None:
    kept = [t for t in Transport if needs_research(MtprotoProbe(t))]
    assert kept == [Transport.OBFUSCATED]


def test_only_a_websocket_says_a_name() -> None:
    assert MtprotoProbe().subject("A.test") == ""
    assert MtprotoProbe(Transport.WEBSOCKET).subject("A.test") == "a.test"
