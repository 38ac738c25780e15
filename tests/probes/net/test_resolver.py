"""Resolving as a client does, against resolvers that are slow, silent, cut short or lie."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import dns.flags
import pytest

from probes.model import Failure, Family, Step
from probes.net import resolver
from probes.net.environment import Environment, TrustedResolver
from probes.net.errors import NotMeasured
from probes.net.nameserver import UdpQuery
from tests.probes.certificates import NAME, Certificate
from tests.probes.programs import in_namespace
from tests.probes.servers import (
    Answer,
    Behaviour,
    Later,
    answering,
    closed_port,
    dns_reply,
    our_tasks,
    silent,
    tcp_server,
    udp_server,
)

V4, V6 = "198.51.100.7", "2001:db8::7"
QUERY_TYPE = slice(-15, -13)  # before class and the eleven bytes of EDNS
A, AAAA = b"\0\x01", b"\0\x1c"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same schedule, five times as fast, where silence is the outcome."""
    monkeypatch.setattr("probes.net.nameserver.RESEND", (0.0, 0.1, 0.2, 0.4, 0.8))
    monkeypatch.setattr(resolver, "STRAGGLER", 0.2)


async def look_up(
    env: Environment, answer: Answer, family: Family = Family.ANY, pinned: tuple[str, ...] = ()
) -> resolver.Resolution:
    async with udp_server(answer) as server:
        env.system = f"127.0.0.1:{server.port}"
        found = await resolver.lookup(env, "name.test", family, pinned)
        assert not our_tasks(), "a lookup leaves a task behind"
        return found


@pytest.mark.parametrize(
    ("family", "addresses", "types"),
    [
        (Family.ANY, (V4, V6), {A, AAAA}),
        (Family.IPV4, (V4,), {A}),
        (Family.IPV6, (V6,), {AAAA}),
    ],
)
async def test_it_asks_for_the_families_that_are_wanted(
    env: Environment, family: Family, addresses: tuple[str, ...], types: set[bytes]
) -> None:
    async with udp_server(answering(V4, V6)) as server:
        env.system = f"127.0.0.1:{server.port}"
        found = await resolver.lookup(env, "name.test", family)
    assert found.addresses == addresses
    assert found.distrusted == ()
    assert found.step.step is Step.RESOLVE
    assert found.step.failure is None
    assert {data[QUERY_TYPE] for data in server.received} == types
    assert len(server.received) == len(types)


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "SERVFAIL", "REFUSED", "NOERROR"])
async def test_a_name_without_address(env: Environment, rcode: str) -> None:
    found = await look_up(env, answering(rcode=rcode))
    assert found.step.failure is Failure.NO_ADDRESS
    assert found.facts["rcode"] == rcode
    assert found.addresses == found.distrusted == ()


async def test_a_silent_resolver_is_asked_five_times_for_each_family(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "DEADLINE", 1.0)
    async with udp_server(silent) as server:
        env.system = f"127.0.0.1:{server.port}"
        found = await resolver.lookup(env, "name.test", Family.ANY)
    assert found.step.failure is Failure.TIMEOUT
    for kind in (A, AAAA):
        tries = [data for data in server.received if data[QUERY_TYPE] == kind]
        assert len(tries) == 5
    assert len(set(server.peers)) == 10


async def test_an_answer_to_a_later_try_is_enough(env: Environment) -> None:
    """Two of three tries are lost: a client gets there, and so do we."""
    lost = {A: 2, AAAA: 2}

    def lose(_number: int, data: bytes) -> list[bytes]:
        lost[data[QUERY_TYPE]] -= 1
        return [] if lost[data[QUERY_TYPE]] >= 0 else [dns_reply(data, V4, V6)]

    found = await look_up(env, lose)
    assert set(found.addresses) == {V4, V6}


async def test_one_silent_family_does_not_take_the_other_with_it(env: Environment) -> None:
    """A is answered, AAAA is not: the straggler is waited for a little, and left."""
    found = await look_up(env, lambda n, d: [dns_reply(d, V4)] if d[QUERY_TYPE] == A else [])
    assert found.addresses == (V4,)
    assert found.step.failure is None
    assert 0.2 <= found.step.seconds < 0.8


async def test_a_late_second_family_is_waited_for_a_little(env: Environment) -> None:
    found = await look_up(
        env,
        lambda n, d: [dns_reply(d, V4) if d[QUERY_TYPE] == A else Later(0.1, dns_reply(d, V6))],
    )
    assert set(found.addresses) == {V4, V6}


async def test_silence_beside_an_empty_answer_is_silence(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most names have no AAAA: that says nothing about the A that never came."""
    monkeypatch.setattr(resolver, "DEADLINE", 0.5)
    found = await look_up(env, lambda n, d: [dns_reply(d)] if d[QUERY_TYPE] == AAAA else [])
    assert found.step.failure is Failure.TIMEOUT


async def test_silence_beside_nxdomain_is_no_address(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NXDOMAIN is about the name, whatever the type."""
    monkeypatch.setattr(resolver, "DEADLINE", 0.5)
    nxdomain = answering(rcode="NXDOMAIN")
    found = await look_up(env, lambda n, d: nxdomain(n, d) if d[QUERY_TYPE] == AAAA else [])
    assert found.step.failure is Failure.NO_ADDRESS


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        (lambda d: b"\0\0" + dns_reply(d, V4)[2:], Failure.WRONG_ID),
        (lambda d: dns_reply(d, V4, V6)[:-3], Failure.TRUNCATED),
        (lambda d: d, Failure.BAD_REPLY),
        (lambda d: bytes(30_000), Failure.OVERSIZED),
    ],
)
async def test_what_is_no_answer_has_its_word(
    env: Environment, monkeypatch: pytest.MonkeyPatch, change: object, failure: Failure
) -> None:
    monkeypatch.setattr(resolver, "DEADLINE", 0.3)
    found = await look_up(env, lambda n, d: [change(d)])
    assert found.step.failure is failure


async def test_a_closed_port_is_refused(env: Environment) -> None:
    env.system = f"127.0.0.1:{closed_port(socket.SOCK_DGRAM)}"
    found = await resolver.lookup(env, "name.test", Family.ANY)
    assert found.step.failure is Failure.REFUSED
    assert found.step.seconds < 2


async def test_without_a_name_server_it_is_unreachable(env: Environment) -> None:
    env.system = ""
    found = await resolver.lookup(env, "name.test", Family.ANY)
    assert found.step.failure is Failure.UNREACHABLE


async def test_too_many_addresses_are_cut(env: Environment) -> None:
    found = await look_up(env, answering(*(f"198.51.100.{n}" for n in range(40))), Family.IPV4)
    assert len(found.addresses) == resolver.MAX_ADDRESSES == 32
    assert found.facts["addresses_left_out"] == 8


# --- truncation ---


def over_tcp(*addresses: str) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        message = dns_reply(await reader.readexactly(length), *addresses)
        writer.write(len(message).to_bytes(2, "big") + message)
        await writer.drain()

    return behave


def cut(_number: int, data: bytes) -> list[bytes]:
    return [dns_reply(data, flags=dns.flags.TC)]


async def test_a_cut_answer_is_asked_for_over_tcp(env: Environment) -> None:
    async with udp_server(cut) as server, tcp_server(over_tcp(V4, V6), port=server.port) as tcp:
        env.system = f"127.0.0.1:{server.port}"
        found = await resolver.lookup(env, "name.test", Family.ANY)
    assert set(found.addresses) == {V4, V6}
    assert tcp.connections == 2


async def test_a_cut_answer_without_tcp_is_truncated(env: Environment) -> None:
    found = await look_up(env, cut)
    assert found.step.failure is Failure.TRUNCATED


# --- several name servers ---


async def test_the_next_server_is_asked_when_the_first_is_silent(env: Environment) -> None:
    async with udp_server(silent) as first, udp_server(answering(V4)) as second:
        servers = [("127.0.0.1", first.port), ("127.0.0.1", second.port)]
        with UdpQuery(env, servers, "name.test", "A", 1.0) as query:
            assert (await query.first()).addresses == (V4,)
        assert len(first.received) == len(second.received) == 1


async def test_a_server_that_this_host_cannot_reach_is_passed_over(env: Environment) -> None:
    """An IPv6 name server on a host without IPv6, say. (This address has no scope: no route.)"""
    async with udp_server(answering(V4)) as second:
        servers = [("fe80::1", 53), ("127.0.0.1", second.port)]
        with UdpQuery(env, servers, "name.test", "A", 1.0) as query:
            assert (await query.first()).addresses == (V4,)


async def test_the_first_servers_word_stands_when_all_are_out_of_reach(env: Environment) -> None:
    with UdpQuery(env, [("fe80::1", 53), ("fe80::2", 53)], "name.test", "A", 1.0) as query:
        with pytest.raises(OSError, match="argument"):
            await query.first()


def test_resolv_conf_names_the_servers_in_order(env: Environment, tmp_path: Path) -> None:
    """The first is silent, the second cuts its answer, and that one is asked over TCP."""
    (tmp_path / "resolv.conf").write_text(
        "# comment\nsearch test\nnameserver 127.0.0.2\nnameserver\nnameserver nonsense\n"
        "nameserver 127.0.0.3\nnameserver ::1\nnameserver 127.0.0.4\n"
    )
    env.system = ""
    assert [address for address, _ in resolver.nameservers(env)] == [
        "127.0.0.2",
        "127.0.0.3",
        "::1",
    ]

    async def scenario() -> None:
        async with (
            udp_server(silent, "127.0.0.2", 53) as first,
            udp_server(cut, "127.0.0.3", 53) as second,
            tcp_server(over_tcp(V4), host="127.0.0.3", port=53) as tcp,
        ):
            found = await resolver.lookup(env, "name.test", Family.IPV4)
        assert len(first.received) == len(second.received) == tcp.connections == 1
        assert found.addresses == (V4,)

    in_namespace(scenario)


# --- /etc/hosts ---


@pytest.mark.parametrize(
    ("name", "family", "addresses"),
    [
        ("name.test", Family.ANY, (V4, V6)),
        ("NAME.test.", Family.IPV6, (V6,)),
        ("alias.test", Family.ANY, (V4,)),
    ],
)
async def test_the_hosts_file_comes_first(
    env: Environment, tmp_path: Path, name: str, family: Family, addresses: tuple[str, ...]
) -> None:
    (tmp_path / "hosts").write_text(
        f"# {V4} comment.test\n\n{V4}\tName.TEST alias.test # and so on\n{V6} name.test\n"
        "nonsense name.test\n"
    )
    env.system = ""
    assert (await resolver.lookup(env, name, family)).addresses == addresses
    missing = await resolver.lookup(env, "comment.test", family)
    assert missing.step.failure is Failure.UNREACHABLE  # there is no name server either


async def test_the_hosts_file_is_not_asked_beside_a_resolver_of_choice(
    env: Environment, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("203.0.113.1 name.test\n")
    assert (await look_up(env, answering(V4))).addresses == (V4,)


# --- lies ---

LIES = [
    "127.0.0.1",
    "127.8.9.1",
    "169.254.169.254",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "fe80::1",
    "fc00::1",
]


@pytest.mark.parametrize("lie", LIES)
async def test_an_address_that_no_public_name_has_is_distrusted(env: Environment, lie: str) -> None:
    found = await look_up(env, answering(lie))
    assert found.step.failure is Failure.BAD_ANSWER
    assert found.addresses == ()
    assert found.distrusted == (lie,)


@pytest.mark.parametrize(
    "own", ["198.51.100.44", "::ffff:198.51.100.44", "2001:db8::44", "203.0.113.44"]
)
async def test_this_hosts_own_addresses_are_distrusted(env: Environment, own: str) -> None:
    """Those of its interfaces, however they are written, and that which STUN servers saw."""
    env.own.local = frozenset({"198.51.100.44", "2001:db8::44"})
    env.own.mapped.add("203.0.113.44")
    found = await look_up(env, answering(own, V4, V6))
    assert found.distrusted == (own,)
    assert set(found.addresses) == {V4, V6}
    assert found.step.failure is None


@pytest.mark.parametrize(
    ("lie", "pin"), [("10.0.0.1", "10.0.0.1"), ("::1", "0:0:0:0:0:0:0:1"), ("fc00::1", "FC00::1")]
)
async def test_a_pinned_address_is_believed(env: Environment, lie: str, pin: str) -> None:
    assert (await look_up(env, answering(lie), pinned=(pin,))).addresses == (lie,)
    assert (await look_up(env, answering(lie), pinned=(V4,))).distrusted == (lie,)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("backed", [True, False])
async def test_a_trusted_resolver_can_back_an_answer(
    env: Environment, good: Certificate, transport: str, backed: bool
) -> None:
    truth = "10.0.0.1" if backed else V4
    tls = good.server() if transport == "tls" else None
    async with udp_server(answering(truth)) as server:
        async with tcp_server(over_tcp(truth), port=server.port, tls=tls):
            env.trusted = (trusted(transport, server.port),)
            found = await look_up(env, answering("10.0.0.1"))
    assert found.addresses == (("10.0.0.1",) if backed else ())
    assert found.distrusted == (() if backed else ("10.0.0.1",))


def trusted(transport: str, port: int, name: str = "ours") -> TrustedResolver:
    return TrustedResolver(name, "127.0.0.1", NAME, "/dns-query", (transport,), {transport: port})


async def test_a_trusted_resolver_is_asked_only_about_what_is_suspect(env: Environment) -> None:
    async with udp_server(answering(V4)) as server:
        env.trusted = (trusted("udp", server.port),)
        await look_up(env, answering(V4, V6))
        assert server.received == []


async def test_the_next_trusted_resolver_is_asked_when_one_is_out_of_reach(
    env: Environment,
) -> None:
    async with udp_server(answering("10.0.0.1")) as server:
        dead = trusted("tls", closed_port(socket.SOCK_STREAM), "dead")
        env.trusted = (dead, trusted("udp", server.port))
        assert (await look_up(env, answering("10.0.0.1"))).addresses == ("10.0.0.1",)


async def test_half_an_answer_of_a_trusted_resolver_counts(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the address, and its AAAA is never answered."""
    half = answering("10.0.0.1")
    async with udp_server(lambda n, d: half(n, d) if d[QUERY_TYPE] == A else []) as server:
        env.trusted = (trusted("udp", server.port),)
        assert (await look_up(env, answering("10.0.0.1"))).addresses == ("10.0.0.1",)


async def test_manners_that_forbid_the_trusted_question_leave_the_answer_distrusted(
    env: Environment, good: Certificate
) -> None:
    """Not an exception: the check itself goes on with what it has."""

    class Spent:
        async def check(self, *_: object) -> None:
            return None

        async def handshake(self, *_: object) -> None:
            raise NotMeasured("handshake_rate")

    env.courtesy = Spent()
    async with tcp_server(over_tcp("10.0.0.1"), tls=good.server()) as server:
        env.trusted = (trusted("tls", server.port),)
        found = await look_up(env, answering("10.0.0.1", V4))
    assert found.distrusted == ("10.0.0.1",)
    assert found.addresses == (V4,)


# --- what a probe's "resolver" means ---


def test_a_probes_resolver_is_system_a_trusted_one_or_an_address(env: Environment) -> None:
    env.system = "192.0.2.1:5353"
    env.trusted = (
        TrustedResolver("quad", "192.0.2.9", NAME, "/q", ("tls", "udp"), {"udp": 53, "tls": 853}),
    )
    assert resolver.endpoint(env, "system") == ("192.0.2.1", 5353)
    assert resolver.endpoint(env, "quad") == ("192.0.2.9", 853)
    assert resolver.endpoint(env, "quad/udp") == ("192.0.2.9", 53)
    assert resolver.endpoint(env, "192.0.2.2") == ("192.0.2.2", 53)
    assert resolver.endpoint(env, "192.0.2.2:54") == ("192.0.2.2", 54)
    assert resolver.endpoint(env, "[2001:db8::1]:54") == ("2001:db8::1", 54)
    assert resolver.endpoint(env, "2001:db8::1") == ("2001:db8::1", 53)
    for wrong in ("nonsense", "1.2.3", "192.0.2.2:port", "dns.test:53"):
        with pytest.raises(ValueError, match=r"."):
            resolver.endpoint(env, wrong)
