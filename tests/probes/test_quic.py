"""quic: four rungs, each with a port of its own, and what may stop each."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from probes.model import Failure, Observation, Step
from probes.net.environment import Environment
from probes.quic import QuicProbe, verdict
from probes.wire import quic
from tests.lab import content
from tests.lab.quicserver import Sent, Server, Serving, Source
from tests.probes.certificates import NAME, Authority, Certificate
from tests.probes.servers import (
    COUNTED,
    SHORT,
    Answer,
    closed_port,
    echo,
    observe,
    silent,
    stun_answers,
    udp_server,
    udp_socket,
)

PROBE = QuicProbe(server_name=NAME, neutral="neutral.test")
RUNGS = ("quic_ping", "quic_neutral", "quic_name", "quic_v2")


class Filtered(Server):
    """Takes no notice of what ``swallows`` holds of, and notes whence each hello came."""

    def __init__(self, swallows: Callable[[bytes], bool], *given: object, **options: object):
        super().__init__(*given, **options)  # type: ignore[arg-type]
        self.swallows = swallows
        self.seen: list[tuple[int, str]] = []

    def datagram(self, data: bytes, source: Source, now: float) -> list[Sent]:
        self.seen.append((source[1], named(data) or f"{int.from_bytes(data[1:5], 'big'):x}"))
        return [] if self.swallows(data) else super().datagram(data, source, now)


@asynccontextmanager
async def serving(
    certificate: Certificate,
    host: str = "127.0.0.1",
    *,
    swallows: Callable[[bytes], bool] = lambda data: False,
    change: Callable[[bytes], bytes] = bytes,
    **options: object,
) -> AsyncIterator[Serving]:
    server = Filtered(swallows, certificate.chain, certificate.key, **options)
    with udp_socket(host) as sock:
        at = Serving(server, sock, change=change)
        at.start()
        try:
            yield at
        finally:
            at.stop()


def port_of(at: Serving) -> int:
    port: int = at.sock.getsockname()[1]
    return port


def rungs(seen: Observation) -> list[object]:
    return [seen.facts[name] for name in RUNGS]


def named(data: bytes) -> str:
    hello = content.quic_hello(data)
    return hello.name if hello else ""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_server_that_speaks_both_versions(
    env: Environment, good: Certificate, host: str
) -> None:
    async with serving(good, host) as at:
        seen = await observe(PROBE, port_of(at), env, address=host, timeout=COUNTED)
    assert seen.ok, seen.failed
    assert [step.step for step in seen.steps] == [Step.EXCHANGE]
    assert rungs(seen) == ["ok"] * 4
    assert seen.facts["quic_ladder"] == "open"
    assert seen.facts["quic_versions"] == ("00000001", "6b3343cf")
    assert seen.facts["quic_heard"] is True
    assert seen.facts["retransmissions"] == 0
    assert seen.facts["rtt_seconds"] > 0
    assert seen.facts["certificate_names"] == NAME
    assert seen.facts["chain_length"] == 1
    assert {NAME, "neutral.test"} <= {said for _, said in at.server.seen}


async def test_ports_of_their_own_and_the_neutral_name_first(
    env: Environment, good: Certificate
) -> None:
    async with serving(good) as at:
        await observe(PROBE, port_of(at), env, timeout=COUNTED)
    ports = at.server.seen
    firsts = {said: port for port, said in reversed(ports)}
    assert len({firsts[s] for s in ("1a2a3a4a", "neutral.test", NAME, "6b3343cf")}) == 4
    order = [said for _, said in ports]
    assert order.index("neutral.test") < order.index(NAME) < order.index("6b3343cf")


async def test_a_server_of_one_version_only(env: Environment, good: Certificate) -> None:
    async with serving(good, versions=(quic.V1,)) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=COUNTED)
    assert seen.ok
    assert rungs(seen) == ["ok", "ok", "ok", "no_version"]


async def test_a_server_that_speaks_none_of_ours(env: Environment, good: Certificate) -> None:
    async with serving(good, versions=(quic.V2,)) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=COUNTED)
    assert seen.failed.failure is Failure.BAD_REPLY
    assert rungs(seen) == ["ok", "no_version", "no_version", "ok"]
    assert seen.facts["quic_ladder"] == "answered"


def is_v1(data: bytes) -> bool:
    return bool(data[0] & 0x80) and data[1:5] == b"\0\0\0\1"


@pytest.mark.parametrize(
    ("swallows", "expected", "word"),
    [
        (lambda d: named(d) == NAME, ["ok", "ok", "timeout", "ok"], "name_v1"),
        (
            lambda d: named(d) == NAME or d[1:5] == b"\x6b\x33\x43\xcf",
            ["ok", "ok", "timeout", "timeout"],
            "name",
        ),
        (is_v1, ["ok", "timeout", "timeout", "ok"], "v1"),
        (lambda d: True, ["timeout"] * 4, "all"),
    ],
)
async def test_the_first_rung_that_is_not_climbed_names_the_rule(
    env: Environment,
    good: Certificate,
    swallows: Callable[[bytes], bool],
    expected: list[str],
    word: str,
) -> None:
    async with serving(good, swallows=swallows) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=0.6)
    assert seen.failed.failure is Failure.TIMEOUT
    assert rungs(seen) == expected
    assert seen.facts["quic_ladder"] == word
    assert seen.facts["quic_heard"] is False
    assert seen.facts["retransmissions"] >= 1


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (echo, Failure.BAD_REPLY),
        (stun_answers, Failure.BAD_REPLY),
        (lambda n, data: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], Failure.BAD_REPLY),
        (lambda n, data: [b""], Failure.TRUNCATED),
        (lambda n, data: [data[:9]], Failure.TRUNCATED),
        (lambda n, data: [bytes(5000)], Failure.OVERSIZED),
        (lambda n, data: [data[:5] + b"\4mine\4your" + bytes(40)], Failure.WRONG_ID),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    async with udp_server(answer) as server:
        seen = await observe(PROBE, server.port, env, timeout=SHORT)
    assert seen.failed.failure is failure
    assert not seen.works
    assert rungs(seen) == [failure] * 4
    assert seen.facts["quic_ladder"] == ("all" if failure is Failure.TIMEOUT else "answered")


async def test_a_closed_port_is_refused(env: Environment) -> None:
    port = closed_port(socket.SOCK_DGRAM)
    seen = await observe(PROBE, port, env, timeout=SHORT)
    assert seen.failed.failure is Failure.REFUSED


async def test_answers_cut_or_lengthened_on_the_way(env: Environment, good: Certificate) -> None:
    async with serving(good, change=lambda data: data[: len(data) // 2]) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=SHORT)
    assert seen.facts["quic_name"] == Failure.TRUNCATED
    async with serving(good, change=lambda data: data + bytes(4097)) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=SHORT)
    assert seen.facts["quic_name"] == Failure.OVERSIZED


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        ({"names": ("other.test",)}, Failure.WRONG_NAME),
        ({"days": (-30, -1)}, Failure.EXPIRED),
        ({"days": (1, 30)}, Failure.EXPIRED),
        ({"self_signed": True}, Failure.UNKNOWN_ISSUER),
    ],
)
async def test_a_strangers_certificate(
    env: Environment, authority: Authority, options: dict, failure: Failure
) -> None:
    certificate = authority.issue(f"quic-{failure}", **options)
    async with serving(certificate) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=COUNTED)
    assert seen.failed.failure is failure
    assert seen.facts["quic_neutral"] == "ok", "whose name nobody verifies"
    assert seen.facts["certificate_sha256"]


async def test_an_authority_that_nobody_trusts(env: Environment, foreign: Authority) -> None:
    async with serving(foreign.issue("quic")) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=COUNTED)
    assert seen.failed.failure is Failure.UNKNOWN_ISSUER


async def test_an_alert_is_the_servers_word(env: Environment, good: Certificate) -> None:
    """It speaks nothing of ours above QUIC, and says so."""
    async with serving(good, alpn=("other",)) as at:
        seen = await observe(PROBE, port_of(at), env, timeout=COUNTED)
    assert seen.failed.failure is Failure.TLS_ALERT
    assert seen.works
    assert seen.facts["quic_heard"] is True


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ok", "ok", "ok", "ok"), "open"),
        (("timeout", "timeout", "ok", "timeout"), "open"),
        (("timeout", "ok", "timeout", "no_version"), "name"),
        (("timeout", "ok", "timeout", "ok"), "name_v1"),
        (("ok", "timeout", "timeout", "ok"), "v1"),
        (("timeout", "timeout", "timeout", "ok"), "all"),
        (("ok", "tls_alert", "timeout", "ok"), "answered"),
        (("ok", "ok", "unknown_issuer", "ok"), "answered"),
        (("bad_reply", "timeout", "timeout", "timeout"), "answered"),
    ],
)
def test_the_words_of_a_ladder(words: tuple[str, str, str, str], expected: str) -> None:
    assert verdict(*words) == expected
