"""tcp: one word for each way in which a connection does not come about."""

from __future__ import annotations

import asyncio
import socket

import pytest

from probes.model import Failure, Step
from probes.net.address import Source
from probes.net.environment import Environment
from probes.tcp import TcpProbe
from tests.probes.programs import firewall, in_namespace
from tests.probes.servers import SHORT, close_at_once, closed_port, observe, say_nothing, tcp_server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_open_port_works_with_the_kernels_figures(env: Environment, host: str) -> None:
    async with tcp_server(say_nothing, host=host) as server:
        seen = await observe(TcpProbe(), server.port, env, address=host)
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.CONNECT]
    assert 0 < seen.facts["rtt_seconds"] <= seen.seconds
    assert seen.facts["retransmissions"] == 0
    assert seen.facts["sent"] >= 2
    assert seen.facts["received"] >= 1
    assert env.traffic.sent >= 104
    assert env.traffic.received >= 52


async def test_a_server_that_closes_at_once_is_connected_all_the_same(env: Environment) -> None:
    async with tcp_server(close_at_once) as server:
        assert (await observe(TcpProbe(), server.port, env)).ok


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_is_refused(env: Environment, host: str) -> None:
    seen = await observe(TcpProbe(), closed_port(socket.SOCK_STREAM, host), env, address=host)
    assert seen.failed.failure is Failure.REFUSED
    assert not seen.works


async def test_a_full_backlog_is_a_timeout(env: Environment) -> None:
    """A listener that accepts nobody: the kernel drops the SYN as a filter would."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.socket() as first, socket.socket() as second:
            for sock in (first, second):
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            seen = await observe(TcpProbe(), port, env, timeout=SHORT)
    assert seen.failed.failure is Failure.TIMEOUT


async def test_an_address_without_a_route_is_unreachable(env: Environment) -> None:
    """A link-local address without its interface: the kernel knows no way, and sends nothing."""
    seen = await observe(TcpProbe(), 9, env, address="fe80::1")
    assert seen.failed.failure is Failure.UNREACHABLE


def test_no_route_at_all_is_unreachable(env: Environment) -> None:
    async def scenario() -> None:
        for address in ("198.51.100.1", "2001:db8::1"):
            seen = await observe(TcpProbe(), 9, env, address=address)
            assert seen.failed.failure is Failure.UNREACHABLE

    in_namespace(scenario)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("icmp type admin-prohibited", Failure.PROHIBITED),
        ("icmp type host-prohibited", Failure.PROHIBITED),
        ("icmp type net-prohibited", Failure.PROHIBITED),
        ("icmp type host-unreachable", Failure.UNREACHABLE),
        ("icmp type net-unreachable", Failure.UNREACHABLE),
        ("icmp type port-unreachable", Failure.REFUSED),
        ("tcp reset", Failure.REFUSED),
    ],
)
def test_a_rejecting_filter_is_known_by_its_code(
    env: Environment, code: str, failure: Failure
) -> None:
    async def scenario() -> None:
        seen = await observe(TcpProbe(), 9, env)
        assert seen.failed.failure is failure

    in_namespace(scenario, *firewall(f"ip protocol tcp tcp dport 9 reject with {code}"))


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("icmpv6 type admin-prohibited", Failure.PROHIBITED),
        ("icmpv6 type no-route", Failure.UNREACHABLE),
        ("icmpv6 type port-unreachable", Failure.REFUSED),
    ],
)
def test_a_rejecting_filter_is_known_by_its_code_on_ipv6(
    env: Environment, code: str, failure: Failure
) -> None:
    async def scenario() -> None:
        seen = await observe(TcpProbe(), 9, env, address="::1")
        assert seen.failed.failure is failure

    in_namespace(scenario, *firewall(f"ip6 nexthdr tcp tcp dport 9 reject with {code}"))


def test_a_route_that_this_host_prohibits_is_blocked_locally(env: Environment) -> None:
    async def scenario() -> None:
        seen = await observe(TcpProbe(), 9, env, address="198.51.100.1")
        assert seen.failed.failure is Failure.BLOCKED_LOCALLY

    in_namespace(scenario, "ip route add prohibit 198.51.100.1")


def test_lost_syns_are_counted(env: Environment) -> None:
    """The kernel repeats a SYN after a second; the first is dropped by a counter in nft."""

    async def scenario() -> None:
        async with tcp_server(say_nothing, port=4321) as server:
            seen = await observe(TcpProbe(), server.port, env)
        assert seen.ok
        assert seen.facts["retransmissions"] == 1

    in_namespace(scenario, *firewall("tcp dport 4321 tcp flags syn numgen inc mod 2 0 drop"))


async def test_it_leaves_from_the_source_address(env: Environment) -> None:
    env.source = Source(address="127.0.0.2")
    came_from = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came_from.append(writer.get_extra_info("peername")[0])
        await reader.read()

    async with tcp_server(note) as server:
        assert (await observe(TcpProbe(), server.port, env)).ok
        await asyncio.sleep(0.01)
    assert came_from == ["127.0.0.2"]


async def test_an_ipv6_target_ignores_an_ipv4_source_address(env: Environment) -> None:
    env.source = Source(address="127.0.0.2")
    async with tcp_server(say_nothing, host="::1") as server:
        assert (await observe(TcpProbe(), server.port, env, address="::1")).ok
