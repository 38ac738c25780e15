"""dtls: five first flights from five ports, and what may come back."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL

from agent.case import symptom_of
from probes.dtls import DtlsProbe
from probes.model import Failure, Observation, Step, Target
from probes.net.environment import Environment
from probes.registry import needs_research
from probes.wire import dtls
from probes.wire.dtls import Dress
from tests.probes.certificates import NAME, Certificate
from tests.probes.conftest import Relay
from tests.probes.programs import in_namespace, need
from tests.probes.servers import (
    COUNTED,
    SHORT,
    Answer,
    Reply,
    clients_of,
    closed_port,
    echo,
    observe,
    silent,
    udp_server,
    until,
)


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes([kind]) + b"\xfe\xff" + bytes(8) + len(content).to_bytes(2, "big") + content


def handshake(kind: int, body: bytes) -> bytes:
    length = len(body).to_bytes(3, "big")
    return record(bytes([kind]) + length + bytes(5) + length + body)


HELLO_VERIFY = handshake(3, b"\xfe\xff\x04cook")
SERVER_HELLO = handshake(2, b"\xfe\xfd" + bytes(32) + b"\0\xc0\x2b\0")
ALERT = record(b"\x02\x28", kind=21)


def verify(_number: int, _data: bytes) -> Reply:
    return [HELLO_VERIFY]


async def ask(env: Environment, answer: Answer, timeout: float = COUNTED) -> Observation:
    async with udp_server(answer) as server:
        return await observe(DtlsProbe(), server.port, env, timeout=timeout)


@pytest.mark.parametrize("dress", Dress)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_five_hellos_from_five_ports(env: Environment, dress: Dress, host: str) -> None:
    async with udp_server(verify, host) as server:
        seen = await observe(
            DtlsProbe(dress=dress), server.port, env, address=host, timeout=COUNTED
        )
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.EXCHANGE]
    assert len(server.received) == len(set(server.peers)) == 5
    assert len({data[27:59] for data in server.received}) == 5  # the hellos' random bytes
    assert seen.facts["requests"] == seen.facts["answered"] == seen.facts["sent"] == 5
    assert seen.facts["rtt_seconds"] > 0
    assert seen.facts["dtls_answer"] == "hello_verify_request"
    assert seen.facts["dtls_version"] == "DTLSv1"


async def test_a_server_hello_counts_as_well(env: Environment) -> None:
    seen = await ask(env, lambda n, data: [SERVER_HELLO, record(b"more")])
    assert seen.ok
    assert seen.facts["dtls_answer"] == "server_hello"
    assert seen.facts["dtls_version"] == "DTLSv1.2"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (lambda n, data: [HELLO_VERIFY] if n in (1, 3) else [], Failure.LOSSY),
        (lambda n, data: [ALERT], Failure.TLS_ALERT),
        (echo, Failure.BAD_REPLY),
        (lambda n, data: [b"\x01\x01 garbage"], Failure.BAD_REPLY),
        (lambda n, data: [HELLO_VERIFY[:-2]], Failure.TRUNCATED),
        (lambda n, data: [HELLO_VERIFY[:5]], Failure.TRUNCATED),
        (lambda n, data: [b""], Failure.TRUNCATED),
        (lambda n, data: [HELLO_VERIFY[:11] + b"\xff\xff" + bytes(99)], Failure.OVERSIZED),
        (lambda n, data: [HELLO_VERIFY + bytes(60_000)], Failure.OVERSIZED),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    seen = await ask(env, answer, COUNTED)
    assert seen.failed.step is Step.EXCHANGE
    assert seen.failed.failure is failure
    assert seen.works is (failure is Failure.TLS_ALERT)


async def test_an_alert_is_named(env: Environment) -> None:
    seen = await ask(env, lambda n, data: [ALERT])
    assert seen.facts["dtls_alert"] == "handshake_failure"
    assert seen.facts["answered"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_is_refused_before_the_deadline(env: Environment, host: str) -> None:
    port = closed_port(socket.SOCK_DGRAM, host)
    seen = await observe(DtlsProbe(), port, env, address=host, timeout=1.0)
    assert seen.failed.failure is Failure.REFUSED
    assert seen.facts["icmp_errors"] == 5
    assert seen.seconds < 0.95


@pytest.mark.parametrize(
    ("rule", "failure"),
    [
        ("hook input ; reject with icmp type admin-prohibited", Failure.PROHIBITED),
        ("hook input ; reject with icmp type net-unreachable", Failure.UNREACHABLE),
        ("hook output ; drop", Failure.BLOCKED_LOCALLY),
    ],
)
def test_a_filter_is_known_by_its_answer(env: Environment, rule: str, failure: Failure) -> None:
    async def scenario() -> None:
        seen = await observe(DtlsProbe(), 9, env, timeout=SHORT)
        assert seen.failed.failure is failure

    hook, verdict = rule.split(" ; ")
    in_namespace(
        scenario,
        "nft add table inet test",
        f"nft 'add chain inet test c {{ type filter {hook} priority 0 ; }}'",
        f"nft 'add rule inet test c ip protocol udp udp dport 9 {verdict}'",
    )


async def test_answers_to_hellos_not_yet_sent_do_not_count(env: Environment) -> None:
    """A server that answers all five ports at the first hello answered one."""

    def spray(number: int, _data: bytes) -> Reply:
        if number == 0:
            for port in clients_of(server.port):
                server._send(HELLO_VERIFY, ("127.0.0.1", port))
        return []

    async with udp_server(spray) as server:
        seen = await observe(DtlsProbe(), server.port, env, timeout=COUNTED)
    assert seen.failed.failure is Failure.LOSSY
    assert seen.facts["answered"] == 1
    assert seen.facts["unexpected"] == 4


@pytest.mark.parametrize("dress", Dress)
async def test_coturn_answers(env: Environment, relay: Relay, dress: Dress) -> None:
    seen = await observe(DtlsProbe(dress=dress), relay.port, env, timeout=1.0)
    assert seen.ok, seen.failed
    assert seen.facts["dtls_answer"] == "hello_verify_request"


async def test_openssl_answers(env: Environment, good: Certificate) -> None:
    """Without cookies: it goes straight to ServerHello. It serves one client at a time, which
    never goes on, so that one of five is answered: lossy, and not silent."""
    port = closed_port(socket.SOCK_DGRAM)
    command = [need("openssl"), "s_server", "-dtls1_2", "-port", str(port), "-quiet"]
    command += ["-cert", str(good.chain), "-key", str(good.key)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: is_bound(port))
        seen = await observe(DtlsProbe(), port, env, host=NAME, timeout=COUNTED)
    finally:
        process.kill()
        await process.communicate()
    assert seen.facts["answered"] >= 1
    assert seen.facts["dtls_answer"] in ("server_hello", "hello_verify_request")


def is_bound(port: int) -> bool:
    rows = [r for t in ("udp", "udp6") for r in Path(f"/proc/net/{t}").read_text().splitlines()]
    return any(f":{port:04X}" in row.split()[1] for row in rows)


# A whole handshake, to the certificate


def sha256(certificate: Certificate) -> str:
    pem = certificate.chain.read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


class Server:
    """A DTLS server on OpenSSL between memory BIOs, one session for each client."""

    def __init__(self, certificate: Certificate, cipher: bytes = b"") -> None:
        self.context = SSL.Context(SSL.DTLS_SERVER_METHOD)
        self.context.use_certificate_chain_file(str(certificate.chain))
        self.context.use_privatekey_file(str(certificate.key))
        if cipher:
            self.context.set_cipher_list(cipher)
        self.session: SSL.Connection | None = None
        self.finished = False

    def __call__(self, _number: int, data: bytes) -> Reply:
        if self.session is None:
            self.session = SSL.Connection(self.context, None)
            self.session.set_accept_state()
            self.session.set_ciphertext_mtu(1200)
        self.session.bio_write(data)
        try:
            if self.finished:
                self.session.recv(100)
            self.session.do_handshake()
            self.finished = True
        except SSL.Error:
            pass
        try:
            return dtls.split(self.session.bio_read(65536))
        except SSL.WantReadError:
            return []


@pytest.mark.parametrize("dress", Dress)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_whole_handshake(
    env: Environment, good: Certificate, dress: Dress, host: str
) -> None:
    answer = Server(good)
    probe = DtlsProbe(dress, fingerprint=sha256(good))
    async with udp_server(answer, host) as server:
        seen = await observe(probe, server.port, env, address=host, timeout=COUNTED)
    assert seen.ok, seen.failed
    assert [step.step for step in seen.steps] == [Step.EXCHANGE]
    assert answer.finished, "the server has seen our Finished"
    assert len(set(server.peers)) == 1
    assert seen.facts["fingerprint_matches"] is True
    assert seen.facts["certificate_sha256"] == sha256(good)
    assert seen.facts["certificate_names"] == NAME
    assert seen.facts["dtls_version"] == "DTLSv1.2"
    assert seen.facts["dtls_cipher"]
    assert seen.facts["rtt_seconds"] > 0
    assert seen.facts["retransmissions"] == 0


async def test_another_certificate_than_the_pinned_one(env: Environment, good: Certificate) -> None:
    probe = DtlsProbe(fingerprint="00" * 32)
    async with udp_server(Server(good)) as server:
        seen = await observe(probe, server.port, env, timeout=COUNTED)
    assert seen.failed.failure is Failure.BAD_CERTIFICATE
    assert seen.facts["fingerprint_matches"] is False
    assert seen.facts["certificate_sha256"] == sha256(good)
    assert not seen.works


async def test_a_whole_handshake_without_a_pin(env: Environment, good: Certificate) -> None:
    async with udp_server(Server(good)) as server:
        seen = await observe(DtlsProbe(whole=True), server.port, env, timeout=COUNTED)
    assert seen.ok
    assert "fingerprint_matches" not in seen.facts


class HalfWay(Server):
    """Falls silent after its first flight."""

    def __call__(self, number: int, data: bytes) -> Reply:
        return super().__call__(number, data) if number == 0 else []


async def test_a_handshake_that_stops_half_way_is_no_silence(
    env: Environment, good: Certificate
) -> None:
    async with udp_server(HalfWay(good)) as server:
        seen = await observe(DtlsProbe(whole=True), server.port, env, timeout=0.4)
    assert seen.failed.failure is Failure.TIMEOUT
    assert seen.facts["dtls_version"] == "DTLSv1.2"
    assert symptom_of(replace(seen, target=Target("m", "call", "d", "dtls"))) is None


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (echo, Failure.BAD_REPLY),
        (lambda n, data: [ALERT], Failure.TLS_ALERT),
        (lambda n, data: [b"\x01\x01 garbage"], Failure.BAD_REPLY),
        (lambda n, data: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], Failure.BAD_REPLY),
        (lambda n, data: [HELLO_VERIFY[:-2]], Failure.TRUNCATED),
        (lambda n, data: [b""], Failure.TRUNCATED),
        (lambda n, data: [HELLO_VERIFY[:11] + b"\xff\xff" + bytes(99)], Failure.OVERSIZED),
        (lambda n, data: [HELLO_VERIFY + bytes(60_000)], Failure.OVERSIZED),
        (lambda n, data: [SERVER_HELLO], Failure.BAD_REPLY),  # of which no library makes anything
    ],
)
async def test_each_misbehaviour_of_a_whole_handshake_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    async with udp_server(answer) as server:
        seen = await observe(DtlsProbe(whole=True), server.port, env, timeout=0.3)
    assert seen.failed is not None
    assert seen.failed.failure is failure
    assert seen.works is (failure is Failure.TLS_ALERT)


async def test_no_suite_in_common_is_the_servers_alert(env: Environment, good: Certificate) -> None:
    async with udp_server(Server(good, b"ECDHE-RSA-AES128-SHA256")) as server:
        seen = await observe(DtlsProbe(whole=True), server.port, env, timeout=COUNTED)
    assert seen.failed.failure is Failure.TLS_ALERT
    assert seen.facts["dtls_alert"] == "handshake_failure"


async def test_a_whole_handshake_with_a_closed_port(env: Environment) -> None:
    port = closed_port(socket.SOCK_DGRAM)
    seen = await observe(DtlsProbe(whole=True), port, env, timeout=SHORT)
    assert seen.failed.failure is Failure.REFUSED


@pytest.mark.parametrize("dress", Dress)
async def test_a_whole_handshake_with_coturn(
    env: Environment, relay: Relay, good: Certificate, dress: Dress
) -> None:
    """It asks for a cookie first."""
    probe = DtlsProbe(dress, fingerprint=sha256(good))
    seen = await observe(probe, relay.port, env, timeout=3.0)
    assert seen.ok, seen.failed
    assert seen.facts["fingerprint_matches"] is True


def test_only_a_whole_handshake_is_research() -> None:
    assert not needs_research(DtlsProbe(Dress.PION))
    assert needs_research(DtlsProbe(whole=True))
    assert needs_research(DtlsProbe(fingerprint="00" * 32))
    assert DtlsProbe().subject("h") != DtlsProbe(whole=True).subject("h")
