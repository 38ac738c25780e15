"""dns: what resolvers say, over every transport, and what follows behind the first answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import dns.flags
import pytest

from probes.dns import DnsProbe
from probes.model import Failure, Observation, Step
from probes.net.environment import Environment, TrustedResolver
from tests.probes.certificates import NAME, Authority, Certificate
from tests.probes.programs import in_namespace
from tests.probes.servers import (
    NASTY,
    Answer,
    Behaviour,
    Later,
    answering,
    closed_port,
    dns_reply,
    echo,
    observe,
    reset_after_first_bytes,
    say_nothing,
    silent,
    tcp_server,
    udp_server,
)

PUBLIC, OTHER = "198.51.100.7", "203.0.113.9"
ASK = DnsProbe(query="known.test", resolver="127.0.0.1")


async def ask(
    env: Environment, answer: Answer, probe: DnsProbe = ASK, timeout: float = 0.1
) -> Observation:
    async with udp_server(answer) as server:
        return await observe(probe, server.port, env, timeout=timeout)


def trust(env: Environment, transport: str, port: int) -> DnsProbe:
    """Make a server on loopback the trusted resolver "ours", and a probe that asks it."""
    env.trusted = (
        TrustedResolver("ours", "127.0.0.1", NAME, "/dns-query", (transport,), {transport: port}),
    )
    return DnsProbe(query="known.test", resolver=f"ours/{transport}")


# --- UDP ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer_works(env: Environment, host: str) -> None:
    async with udp_server(answering(PUBLIC, "2001:db8::7"), host) as server:
        seen = await observe(ASK, server.port, env, address=host, timeout=0.1)
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.EXCHANGE]
    assert seen.facts["rcode"] == "NOERROR"
    assert seen.facts["answers"] == (PUBLIC,)
    assert seen.facts["answer_ttl_seconds"] == 60
    assert seen.facts["transport"] == "udp"
    assert seen.facts["sent"] == seen.facts["requests"] == seen.facts["received"] == 1
    assert seen.facts["rtt_seconds"] > 0
    assert "late_answers" not in seen.facts
    assert env.traffic.sent == len(server.received[0]) + (48 if ":" in host else 28)


def forge_id(_number: int, data: bytes) -> list[bytes]:
    return [bytes([data[0] ^ 1]) + dns_reply(data, PUBLIC)[1:]]


def answer_another_question(_number: int, data: bytes) -> list[bytes]:
    return [dns_reply(data.replace(b"\x05known", b"\x05other"), PUBLIC)]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (answering(rcode="NXDOMAIN"), Failure.NO_ADDRESS),
        (answering(rcode="SERVFAIL"), Failure.NO_ADDRESS),
        (answering(rcode="REFUSED"), Failure.NO_ADDRESS),
        (answering(), Failure.NO_ADDRESS),
        (answering("127.0.0.1", "10.0.0.1"), Failure.BAD_ANSWER),
        (answering("0.0.0.0"), Failure.BAD_ANSWER),
        (forge_id, Failure.WRONG_ID),
        (answer_another_question, Failure.BAD_REPLY),
        (echo, Failure.BAD_REPLY),
        (lambda n, data: [data[:2] + b"garbage, garbage"], Failure.BAD_REPLY),
        (lambda n, data: [dns_reply(data, PUBLIC)[:-3]], Failure.TRUNCATED),
        (lambda n, data: [b""], Failure.TRUNCATED),
        (lambda n, data: [dns_reply(data, flags=dns.flags.TC)], Failure.TRUNCATED),
        (lambda n, data: [dns_reply(data, PUBLIC) + bytes(60_000)], Failure.OVERSIZED),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure
) -> None:
    seen = await ask(env, answer)
    assert seen.failed.step is Step.EXCHANGE
    assert seen.failed.failure is failure
    assert not seen.works


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
async def test_the_rcode_is_a_fact_also_of_a_failure(env: Environment, rcode: str) -> None:
    seen = await ask(env, answering(rcode=rcode))
    assert seen.facts["rcode"] == rcode
    assert seen.facts["answers"] == ()


async def test_a_lie_among_true_addresses_is_told_by_the_facts(env: Environment) -> None:
    seen = await ask(env, answering("10.0.0.1", PUBLIC))
    assert seen.ok
    assert set(seen.facts["answers"]) == {"10.0.0.1", PUBLIC}


async def test_strays_are_counted_and_the_answer_behind_them_is_taken(env: Environment) -> None:
    seen = await ask(env, lambda n, data: [b"stray", *forge_id(n, data), dns_reply(data, PUBLIC)])
    assert seen.ok
    assert seen.facts["unexpected"] == 2
    assert seen.facts["received"] == 3


async def test_it_asks_again_with_new_id_and_port(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.net.nameserver.RESEND", (0.0, 0.1, 0.2))
    async with udp_server(lambda n, d: [dns_reply(d, PUBLIC)] if n == 2 else []) as server:
        seen = await observe(ASK, server.port, env, timeout=0.4)
    assert seen.ok
    assert len(server.received) == seen.facts["requests"] == 3
    assert len(set(server.peers)) == 3
    assert len({data[:2] for data in server.received}) == 3
    assert len({data[2:] for data in server.received}) == 1


async def test_an_answer_to_an_earlier_try_counts_with_its_own_rtt(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.net.nameserver.RESEND", (0.0, 0.1))
    async with udp_server(
        lambda n, data: [Later(0.2, dns_reply(data, PUBLIC))] if n == 0 else []
    ) as server:
        seen = await observe(ASK, server.port, env, timeout=0.5)
    assert seen.ok
    assert len(server.received) == 2
    assert seen.facts["rtt_seconds"] >= 0.2


@pytest.mark.parametrize("lie", ["10.1.1.1", OTHER, "NXDOMAIN", "empty"])
async def test_the_true_answer_behind_an_injected_one_is_kept(env: Environment, lie: str) -> None:
    """The injector on the way is faster; the resolver's own answer comes 200 ms later."""

    def inject(_number: int, data: bytes) -> list[bytes | Later]:
        if lie == "NXDOMAIN":
            first = dns_reply(data, rcode=lie)
        else:
            first = dns_reply(data, *([] if lie == "empty" else [lie]))
        return [first, Later(0.2, dns_reply(data, PUBLIC))]

    seen = await ask(env, inject, timeout=0.4)
    assert seen.facts["late_answers"] == 1
    assert seen.facts["late_differs"] is True
    assert seen.facts["late_addresses"] == (PUBLIC,)
    assert seen.facts["answers"] != (PUBLIC,)
    assert seen.facts["received"] == 2
    failures = {"10.1.1.1": Failure.BAD_ANSWER, OTHER: None}
    assert (seen.failed and seen.failed.failure) == failures.get(lie, Failure.NO_ADDRESS)


async def test_a_repeated_answer_does_not_differ(env: Environment) -> None:
    """Also in another order: resolvers rotate."""

    def twice(_number: int, data: bytes) -> list[bytes | Later]:
        return [
            dns_reply(data, PUBLIC, OTHER),
            Later(0.05, dns_reply(data, OTHER, PUBLIC)),
        ]

    seen = await ask(env, twice, timeout=0.2)
    assert seen.facts["late_answers"] == 1
    assert seen.facts["late_differs"] is False


async def test_texts_of_records_are_cleaned(env: Environment) -> None:
    text = NASTY.encode()[:120]
    record = '"' + "".join(f"\\{byte:03d}" for byte in text) + '"'
    probe = DnsProbe(query="known.test", type="TXT", resolver="127.0.0.1")
    seen = await ask(env, lambda n, data: [dns_reply(data, texts=(record,) * 20)], probe)
    assert seen.ok
    assert len(seen.facts["answers"]) <= 8
    for answer in seen.facts["answers"]:
        assert answer.isprintable()
        assert len(answer) <= 120


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_is_refused_before_the_deadline(env: Environment, host: str) -> None:
    port = closed_port(socket.SOCK_DGRAM, host)
    seen = await observe(ASK, port, env, address=host, timeout=5.0)
    assert seen.failed.failure is Failure.REFUSED
    assert seen.seconds < 2
    assert seen.facts["requests"] == 1


@pytest.mark.parametrize(
    ("rule", "failure", "sent"),
    [
        ("hook input ; reject with icmp type admin-prohibited", Failure.PROHIBITED, 1),
        ("hook input ; reject with icmp type host-unreachable", Failure.UNREACHABLE, 1),
        ("hook output ; drop", Failure.BLOCKED_LOCALLY, 0),
    ],
)
def test_a_filter_is_known_by_its_answer(
    env: Environment, rule: str, failure: Failure, sent: int
) -> None:
    async def scenario() -> None:
        seen = await observe(ASK, 53, env, timeout=0.1)
        assert seen.failed.failure is failure
        assert seen.facts["sent"] == sent

    hook, verdict = rule.split(" ; ")
    in_namespace(
        scenario,
        "nft add table inet test",
        f"nft 'add chain inet test c {{ type filter {hook} priority 0 ; }}'",
        f"nft 'add rule inet test c ip protocol udp udp dport 53 {verdict}'",
    )


def test_no_route_is_unreachable(env: Environment) -> None:
    async def scenario() -> None:
        seen = await observe(ASK, 53, env, address="198.51.100.1", timeout=0.2)
        assert seen.failed.failure is Failure.UNREACHABLE

    in_namespace(scenario)


# --- streams ---


def framed(change: Callable[[bytes], bytes]) -> Behaviour:
    """Reads one query (RFC 7766 framing) and writes what ``change`` makes of it."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(change(await reader.readexactly(length)))
        await writer.drain()

    return behave


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = int.from_bytes(await reader.readexactly(2), "big")
    for byte in frame(dns_reply(await reader.readexactly(length), PUBLIC)):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    await reader.read()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (framed(lambda q: frame(dns_reply(q, PUBLIC))), None),
        (dribble, None),
        (framed(lambda q: frame(dns_reply(q, "127.0.0.1"))), Failure.BAD_ANSWER),
        (framed(lambda q: frame(dns_reply(q, rcode="NXDOMAIN"))), Failure.NO_ADDRESS),
        (framed(lambda q: frame(dns_reply(b"\0\1" + q[2:], PUBLIC))), Failure.WRONG_ID),
        (framed(lambda q: frame(q)), Failure.BAD_REPLY),
        (framed(lambda q: frame(dns_reply(q, PUBLIC))[:-4]), Failure.TRUNCATED),
        (framed(lambda q: b"\0"), Failure.TRUNCATED),
        (framed(lambda q: frame(dns_reply(q, PUBLIC)[:-4])), Failure.TRUNCATED),
        (framed(lambda q: b"\xff\xff" + bytes(70_000)), Failure.OVERSIZED),
        (framed(lambda q: b""), Failure.CLOSED),
        (say_nothing, Failure.TIMEOUT),
        (reset_after_first_bytes, Failure.RESET),
    ],
)
async def test_each_misbehaviour_of_a_stream_has_its_word(
    env: Environment,
    good: Certificate,
    transport: str,
    behave: Behaviour,
    failure: Failure | None,
) -> None:
    tls = good.server() if transport == "tls" else None
    async with tcp_server(behave, tls=tls) as server:
        probe = trust(env, transport, server.port)
        seen = await observe(probe, server.port, env, timeout=0.3)
    assert seen.steps[-1].step is Step.EXCHANGE
    assert len(seen.steps) == (3 if tls else 2)
    assert (seen.failed and seen.failed.failure) == failure
    assert seen.works is (failure is None)
    assert seen.facts["transport"] == transport


@pytest.mark.parametrize("transport", ["tcp", "tls", "https"])
async def test_a_closed_tcp_port_is_refused(env: Environment, transport: str) -> None:
    port = closed_port(socket.SOCK_STREAM)
    seen = await observe(trust(env, transport, port), port, env)
    assert seen.failed.step is Step.CONNECT
    assert seen.failed.failure is Failure.REFUSED


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_a_resolver_is_verified_by_its_name(
    env: Environment, authority: Authority, transport: str
) -> None:
    misnamed = authority.issue(f"resolver-{transport}", names=("resolver.test",))
    async with tcp_server(say_nothing, tls=misnamed.server()) as server:
        seen = await observe(trust(env, transport, server.port), server.port, env)
    assert seen.failed.step is Step.TLS
    assert seen.failed.failure is Failure.WRONG_NAME
    assert seen.facts["certificate_names"] == "resolver.test"


# --- HTTPS ---


def posted(change: Callable[[bytes], bytes], status: str = "200 OK") -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"post /dns-query http/1.1\r\n")
        assert b"content-type: application/dns-message\r\n" in head
        assert b"accept: application/dns-message\r\n" in head
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = change(await reader.readexactly(length))
        lines = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(lines.encode() + body)
        await writer.drain()

    return behave


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (posted(lambda q: dns_reply(q, PUBLIC)), None),
        (posted(lambda q: dns_reply(q, rcode="SERVFAIL")), Failure.NO_ADDRESS),
        (posted(lambda q: b"", status="403 Forbidden"), Failure.HTTP_STATUS),
        (posted(lambda q: dns_reply(q, PUBLIC), status="500 Oops"), Failure.HTTP_STATUS),
        (posted(lambda q: b"<html>blocked</html>"), Failure.WRONG_ID),
        (posted(lambda q: b""), Failure.TRUNCATED),
        (posted(lambda q: bytes(20_000)), Failure.OVERSIZED),
        (posted(lambda q: q), Failure.BAD_REPLY),
        (say_nothing, Failure.TIMEOUT),
        (reset_after_first_bytes, Failure.RESET),
    ],
)
async def test_each_misbehaviour_over_https_has_its_word(
    env: Environment, good: Certificate, behave: Behaviour, failure: Failure | None
) -> None:
    async with tcp_server(behave, tls=good.server()) as server:
        seen = await observe(trust(env, "https", server.port), server.port, env, timeout=0.3)
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.TLS, Step.EXCHANGE]
    assert (seen.failed and seen.failed.failure) == failure
    assert seen.works is (failure in (None, Failure.HTTP_STATUS))


async def test_the_id_over_https_is_zero(env: Environment, good: Certificate) -> None:
    """RFC 8484 section 4.1, so that caches on the way serve."""
    ids = []

    def note(query: bytes) -> bytes:
        ids.append(query[:2])
        return dns_reply(query, PUBLIC)

    async with tcp_server(posted(note), tls=good.server()) as server:
        assert (await observe(trust(env, "https", server.port), server.port, env)).ok
    assert ids == [b"\0\0"]


# --- a real resolver ---


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_unbound_answers(
    env: Environment, monkeypatch: pytest.MonkeyPatch, unbound: int, transport: str
) -> None:
    monkeypatch.setattr("probes.dns.LINGER", 0.05)
    port = unbound + (transport == "tls")
    trust(env, transport, port)

    async def ask_for(name: str, kind: str) -> Observation:
        probe = DnsProbe(query=name, type=kind, resolver=f"ours/{transport}")
        return await observe(probe, port, env)

    seen = await ask_for("known.test", "A")
    assert seen.ok, seen.failed
    assert set(seen.facts["answers"]) == {"198.51.100.7", "198.51.100.8"}
    assert seen.facts["answer_ttl_seconds"] == 300
    assert (await ask_for("known.test", "AAAA")).facts["answers"] == ("2001:db8::7",)
    assert (await ask_for("text.test", "TXT")).facts["answers"] == ('"hello"',)
    assert (await ask_for("text.test", "A")).failed.failure is Failure.NO_ADDRESS
    missing = await ask_for("missing.test", "A")
    assert missing.facts["rcode"] == "NXDOMAIN"
    assert missing.failed.failure is Failure.NO_ADDRESS
    assert (await ask_for("example.com", "A")).facts["rcode"] == "REFUSED"
    assert (await ask_for("private.test", "A")).failed.failure is Failure.BAD_ANSWER
