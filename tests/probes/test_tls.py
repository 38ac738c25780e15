"""tls: one word for each way in which a handshake fails, and the certificate kept in each."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from probes.model import Failure, Step
from probes.net import stream
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from probes.net.tls import context
from probes.tls import TlsProbe
from probes.trail import Peer, StepFailed, Trail
from tests.probes.certificates import NAME, Authority, Certificate
from tests.probes.programs import firewall, in_namespace, need, running
from tests.probes.servers import (
    NASTY,
    SHORT,
    Behaviour,
    assert_clean,
    close_after_first_bytes,
    close_at_once,
    closed_port,
    observe,
    reset,
    reset_after_first_bytes,
    say,
    say_nothing,
    tcp_server,
)

ALERT_HANDSHAKE_FAILURE = b"\x15\x03\x03\0\x02\x02\x28"
ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x03\0\x02\x02\x70"
ALERT_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\0\x02\x02\x78"
ALERT_UNKNOWN_PSK_IDENTITY = b"\x15\x03\x03\0\x02\x02\x73"
WARNINGS = b"\x15\x03\x03\0\x02\x01\x5a" * 20


async def test_a_valid_chain_works(env: Environment, good: Certificate) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(TlsProbe(alpn=("http/1.1",)), server.port, env, host=NAME)
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.TLS]
    assert seen.facts["clienthello_acked"] is True
    assert seen.facts["clienthello_bytes"] > 200
    assert seen.facts["tls_version"] == "TLSv1.3"
    assert seen.facts["tls_cipher"]
    assert seen.facts["alpn"] == ""  # offered, and the server chose none
    assert seen.facts["chain_length"] == 1  # as sent: without the authority's own
    assert seen.facts["certificate_subject"] == "good"
    assert seen.facts["certificate_issuer"] == "callpath test authority"


async def test_any_name_can_be_asked_at_any_address(env: Environment, good: Certificate) -> None:
    """``server_name`` is what the server hears and what is verified, whatever the host is."""
    heard = []
    tls = good.server()
    tls.sni_callback = lambda _sock, name, _context: heard.append(name)
    async with tcp_server(say_nothing, tls=tls) as server:
        right = await observe(TlsProbe(server_name=NAME), server.port, env, host="other.test")
        wrong = await observe(TlsProbe(server_name="other.test"), server.port, env, host=NAME)
    assert heard == [NAME, "other.test"]
    assert right.ok
    assert wrong.failed.failure is Failure.WRONG_NAME


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("stem", "options", "failure"),
    [
        ("expired", {"days": (-9, -2)}, Failure.EXPIRED),
        ("future", {"days": (2, 9)}, Failure.EXPIRED),
        ("misnamed", {"names": ("other.test",)}, Failure.WRONG_NAME),
        ("self", {"self_signed": True, "key_id": False}, Failure.UNKNOWN_ISSUER),
        ("client", {"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, Failure.BAD_CERTIFICATE),
    ],
)
async def test_a_bad_certificate_has_its_own_word_and_is_kept(
    env: Environment,
    authority: Authority,
    version: ssl.TLSVersion,
    stem: str,
    options: dict[str, object],
    failure: Failure,
) -> None:
    certificate = authority.issue(stem, **options)
    tls = certificate.server()
    tls.minimum_version = tls.maximum_version = version
    async with tcp_server(say_nothing, tls=tls) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME)
    assert seen.failed.step is Step.TLS
    assert seen.failed.failure is failure
    assert not seen.works
    assert seen.facts["certificate_subject"] == stem
    assert seen.facts["certificate_issuer"] == (
        stem if stem == "self" else "callpath test authority"
    )
    assert seen.facts["certificate_names"]
    assert seen.facts["certificate_not_before"] < seen.facts["certificate_not_after"]
    assert len(seen.facts["certificate_sha256"]) == 64
    assert seen.facts["clienthello_acked"] is True


async def test_a_foreign_authority_is_an_unknown_issuer(
    env: Environment, foreign: Authority
) -> None:
    async with tcp_server(say_nothing, tls=foreign.issue("mitm").server()) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME)
    assert seen.failed.failure is Failure.UNKNOWN_ISSUER
    assert seen.facts["certificate_issuer"] == "somebody else"


async def test_an_address_is_verified_as_an_address(env: Environment, good: Certificate) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(TlsProbe(), server.port, env)
    assert seen.failed.failure is Failure.WRONG_NAME
    assert seen.facts["certificate_names"] == NAME


async def test_a_chain_without_key_ids_is_good_on_every_python(
    env: Environment, authority: Authority
) -> None:
    """Python 3.13 verifies more strictly by default than any client of a messenger does."""
    certificate = authority.issue("plain", key_id=False)
    async with tcp_server(say_nothing, tls=certificate.server()) as server:
        assert (await observe(TlsProbe(), server.port, env, host=NAME)).ok


async def test_texts_in_a_certificate_are_cleaned(env: Environment, foreign: Authority) -> None:
    certificate = foreign.issue("nasty", subject=NASTY[:5000])
    async with tcp_server(say_nothing, tls=certificate.server()) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME)
    assert_clean(seen.facts["certificate_subject"])
    assert seen.facts["certificate_subject"].startswith("redgnol<script>")
    assert len(seen.failed.detail) < 500


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (say_nothing, Failure.TIMEOUT),
        (reset_after_first_bytes, Failure.RESET),
        (close_at_once, Failure.CLOSED),
        (close_after_first_bytes, Failure.CLOSED),
        (say(b"\x16\x03\x03\x40\x00half a record"), Failure.CLOSED),
        (say(ALERT_HANDSHAKE_FAILURE), Failure.TLS_ALERT),
        (say(ALERT_UNRECOGNIZED_NAME), Failure.TLS_ALERT),
        (say(ALERT_NO_APPLICATION_PROTOCOL), Failure.TLS_ALERT),
        (say(ALERT_UNKNOWN_PSK_IDENTITY), Failure.TLS_ALERT),
        (say(b"\x15\x03\x03\0\x02\x09\x28"), Failure.BAD_REPLY),
        (say(WARNINGS), Failure.BAD_REPLY),
        (say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), Failure.BAD_REPLY),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), Failure.BAD_REPLY),
        (say(b"\0" * 4096), Failure.BAD_REPLY),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, behave: Behaviour, failure: Failure
) -> None:
    async with tcp_server(behave) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME, timeout=SHORT)
    assert seen.failed.step is Step.TLS
    assert seen.failed.failure is failure
    assert seen.works is (failure is Failure.TLS_ALERT)
    assert "certificate_subject" not in seen.facts


async def test_a_port_where_nobody_listens_is_refused(env: Environment) -> None:
    seen = await observe(TlsProbe(), closed_port(socket.SOCK_STREAM), env, host=NAME)
    assert [step.step for step in seen.steps] == [Step.CONNECT]
    assert seen.failed.failure is Failure.REFUSED
    assert "clienthello_acked" not in seen.facts


async def test_ten_megabytes_of_garbage_are_not_read(env: Environment) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.read(65536)
        while written < 10_000_000:
            writer.write(b"\0" * 65536)
            await writer.drain()
            written += 65536

    async with tcp_server(flood) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME)
    assert seen.failed.failure is Failure.BAD_REPLY
    assert written < 10_000_000


async def test_a_certificate_message_of_ten_megabytes_is_not_taken(env: Environment) -> None:
    """Well-formed TLS records without end: OpenSSL's own limit ends the handshake."""
    record = b"\x16\x03\x03\x40\x00" + bytes(16384)
    first = b"\x16\x03\x03\x40\x00\x02\x98\x96\x80" + bytes(16380)
    async with tcp_server(say(first, *[record] * 600)) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME)
    assert seen.failed.failure is Failure.BAD_REPLY
    assert seen.facts["received"] < 600


@pytest.mark.parametrize(
    ("alpn", "option"), [((), "-servername=other.test"), (("dot",), "-alpn=other")]
)
async def test_a_real_server_that_refuses_name_or_application_spoke(
    env: Environment, good: Certificate, alpn: tuple[str, ...], option: str
) -> None:
    """unrecognized_name has no "alert" in OpenSSL's word, no_application_protocol no word at all
    in Python."""
    port = closed_port(socket.SOCK_STREAM)
    pair = (str(good.chain), str(good.key))
    command = [need("openssl"), "s_server", "-port", str(port), "-quiet", *option.split("=")]
    command += ["-servername_fatal"] if not alpn else []
    command += ["-cert", pair[0], "-key", pair[1], "-cert2", pair[0], "-key2", pair[1]]
    with running(command, port):
        seen = await observe(TlsProbe(alpn=alpn), port, env, host=NAME)
    assert seen.failed.failure is Failure.TLS_ALERT
    assert seen.works


async def test_a_partial_run_stops_after_connect(env: Environment, good: Certificate) -> None:
    async with tcp_server(say_nothing) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME, partial=True)
    assert [step.step for step in seen.steps] == [Step.CONNECT]
    assert seen.ok
    assert "clienthello_bytes" not in seen.facts


def test_a_hello_that_is_dropped_is_not_acknowledged(env: Environment) -> None:
    """A filter on the way lets the connection come about and swallows what has data."""

    async def scenario() -> None:
        async with tcp_server(say_nothing, port=4433) as server:
            seen = await observe(TlsProbe(), server.port, env, host=NAME, timeout=SHORT)
        assert seen.failed.step is Step.TLS
        assert seen.failed.failure is Failure.TIMEOUT
        assert seen.facts["clienthello_bytes"] > 200
        assert seen.facts["clienthello_acked"] is False

    in_namespace(scenario, *firewall("tcp dport 4433 tcp flags & (psh|ack) == psh|ack drop"))


async def test_a_hello_that_nobody_answers_is_acknowledged(env: Environment) -> None:
    """Also by a listener that accepts nothing: its kernel does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        port = listener.getsockname()[1]
        seen = await observe(TlsProbe(), port, env, host=NAME, timeout=SHORT)
    assert seen.failed.failure is Failure.TIMEOUT
    assert seen.facts["clienthello_acked"] is True


async def test_a_reset_hello_was_acknowledged_or_answered(env: Environment) -> None:
    async with tcp_server(reset_after_first_bytes) as server:
        seen = await observe(TlsProbe(), server.port, env, host=NAME)
    assert seen.failed.failure is Failure.RESET
    assert seen.facts["clienthello_acked"] is True


async def test_the_courtesy_is_asked_by_address_and_name(
    env: Environment, good: Certificate
) -> None:
    """After connect and before the hello; a refusal ends the run without an observation."""

    class Spent:
        asked: list[tuple[str, str]] = []  # noqa: RUF012 # of this one test

        async def check(self, *_: object) -> None:
            return None

        async def handshake(self, address: str, name: str) -> None:
            self.asked.append((address, name))
            raise NotMeasured("handshake_rate")

    env.courtesy = Spent()
    async with tcp_server(say_nothing, tls=good.server()) as server:
        with pytest.raises(NotMeasured):
            await observe(TlsProbe(), server.port, env, host=NAME)
    assert Spent.asked == [("127.0.0.1", f"{NAME}:{server.port}")]
    assert server.connections == 0


def test_a_context_is_built_once_and_verifies(authority: Authority) -> None:
    made = context(("http/1.1",), str(authority.root))
    assert made is context(("http/1.1",), str(authority.root))
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT


async def test_a_write_after_a_fin_is_closed_and_not_reset(env: Environment) -> None:
    """The peer closed in order; the RST that our late bytes earn is not a filter's."""
    fin = asyncio.Event()

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        fin.set()

    async def reset_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)
        fin.set()

    async def write_late(trail: Trail, port: int) -> None:
        async with stream.connect(trail, Peer("127.0.0.1", port, "")) as tcp:
            await fin.wait()
            await asyncio.sleep(0)  # the transport closes in the loop's next turn
            async with trail.step(Step.EXCHANGE, 2.0):
                for _ in range(20):
                    await tcp.write(b"late")
                    await asyncio.sleep(0)

    for behave, failure in ((close, Failure.CLOSED), (reset_it, Failure.RESET)):
        fin.clear()
        trail = Trail(env)
        async with tcp_server(behave) as server:
            with pytest.raises(StepFailed):
                await write_late(trail, server.port)
        assert trail.steps[-1].failure is failure


async def test_an_authority_of_its_own_is_the_only_one(
    env: Environment, good: Certificate, foreign: Authority
) -> None:
    """It does for a service what no store of the system does, and the usual ones do not count."""
    own = TlsProbe(authority=foreign.root.read_text("ascii"))
    async with tcp_server(say_nothing, tls=foreign.issue("own").server()) as server:
        assert (await observe(own, server.port, env, host=NAME)).ok
    async with tcp_server(say_nothing, tls=good.server()) as server:
        assert (await observe(TlsProbe(), server.port, env, host=NAME)).ok
        seen = await observe(own, server.port, env, host=NAME)
    assert seen.failed.failure is Failure.UNKNOWN_ISSUER
