"""Flows: the error queue is emptied, no send is lost, and every figure is the kernel's."""

from __future__ import annotations

import asyncio
import errno
import socket
import time

import pytest

from probes.model import Failure
from probes.net.address import Source
from probes.net.environment import Environment
from probes.net.udp import Flow, open_flow
from probes.stun import StunProbe
from tests.probes.servers import Reply, closed_port, observe, stun_reply, udp_server, udp_socket

ANYWHERE = Source()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_icmp_error_does_not_swallow_the_next_send(host: str) -> None:
    """On loopback the error is there before ``send`` returns, and nothing reads it in between."""
    port = closed_port(socket.SOCK_DGRAM, host)
    with open_flow(host, port, ANYWHERE) as flow:
        flow.send(b"into the void")
        with udp_socket(host, port) as server:
            flow.send(b"heard")
            assert server.recv(100) == b"heard"
        assert flow.errors == [Failure.REFUSED]
        assert flow.sent == 2


async def test_an_icmp_error_wakes_the_waiting_once() -> None:
    """A queue that is not emptied would make the socket readable for ever."""
    with open_flow("127.0.0.1", closed_port(socket.SOCK_DGRAM), ANYWHERE) as flow:
        wakeups = count_wakeups(flow)
        flow.send(b"one")
        assert await flow.wait(2.0)
        assert flow.errors == [Failure.REFUSED]
        assert not await flow.wait(0.05)
        assert wakeups == [1]


def count_wakeups(flow: Flow) -> list[int]:
    """How often the loop calls for this socket; the count is the list's only item."""
    count = [0]
    loop = asyncio.get_running_loop()

    def readable() -> None:
        count[0] += 1
        flow._readable()

    loop.add_reader(flow.sock, readable)
    return count


async def test_the_receive_time_is_the_kernels() -> None:
    async with udp_server(lambda n, data: [data]) as server:
        with open_flow("127.0.0.1", server.port, ANYWHERE) as flow:
            before = flow.send(b"now")
            server._readable()  # answers at once
            time.sleep(0.02)  # noqa: ASYNC251 # the loop is late on purpose
            late = time.time_ns()
            assert await flow.wait(2.0)
    datagram = flow.datagrams[0]
    assert before <= datagram.at < late - 10_000_000
    assert datagram.ttl == 64


async def test_what_came_before_the_waiting_is_not_missed() -> None:
    """``wait`` forgets old news, so that whoever waits has read all before."""
    async with udp_server(lambda n, data: [data]) as server:
        with open_flow("127.0.0.1", server.port, ANYWHERE) as flow:
            flow.send(b"x")
            server._readable()
            assert await flow.wait(2.0)
            assert not await flow.wait(0.0)
            assert len(flow.datagrams) == 1


async def test_an_empty_datagram_is_a_datagram() -> None:
    async with udp_server(lambda n, data: [b""]) as server:
        with open_flow("127.0.0.1", server.port, ANYWHERE) as flow:
            flow.send(b"x")
            assert await flow.wait(2.0)
            assert [d.data for d in flow.datagrams] == [b""]
            assert flow.bytes_received == 28


async def test_strangers_are_not_heard() -> None:
    """The socket is connected: only the peer's own address and port get through."""
    async with udp_server(lambda n, data: []) as server:
        with open_flow("127.0.0.1", server.port, ANYWHERE) as flow, udp_socket() as stranger:
            stranger.sendto(b"psst", flow.sock.getsockname())
            assert not await flow.wait(0.05)
            assert flow.received == 0


async def test_it_leaves_from_the_source_address() -> None:
    async with udp_server(lambda n, data: [data]) as server:
        with open_flow("127.0.0.1", server.port, Source(address="127.0.0.3")) as flow:
            flow.send(b"x")
            assert await flow.wait(2.0)
    assert server.peers[0][0] == "127.0.0.3"


async def test_a_source_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        with open_flow("127.0.0.1", 9, Source(address="203.0.113.1")):
            pass
    assert caught.value.errno == errno.EADDRNOTAVAIL


async def test_answers_that_came_in_time_count_though_the_loop_was_late(env: Environment) -> None:
    """Overload here is not loss on the path."""

    def answer_and_block(number: int, data: bytes) -> Reply:
        if number == 4:
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        return [stun_reply(data)]

    async with udp_server(lambda n, d: answer_and_block(n, d) if n > 1 else []) as server:
        seen = await observe(StunProbe(), server.port, env, timeout=0.4)
    assert len(server.received) == 5
    assert seen.facts["answered"] == 3
    assert seen.ok


async def test_one_waits_and_a_second_is_told_so() -> None:
    async with udp_server(lambda n, data: []) as server:
        with open_flow("127.0.0.1", server.port, ANYWHERE) as flow:
            first = asyncio.create_task(flow.wait(0.1))
            await asyncio.sleep(0)
            with pytest.raises(AssertionError, match="one waits"):
                await flow.wait(0.1)
            assert not await first
