"""Paced streams on loopback, played by the engine's own process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agent import engine as engine_module
from agent import enginedoor, engineflows
from agent.enginedoor import EngineDoor
from agent.engineflows import Flows
from agent.engineframes import Gathering, Part, Play, decode_order, encode_play
from probes.model import Failure
from probes.net.address import Source
from probes.net.errors import NotMeasured
from probes.net.streams import Played, Send, Stream
from tests.agent.building import until
from tests.probes.servers import closed_port, echo, silent, udp_server, udp_socket

PACE = 0.01
ANYWHERE = Source()


@pytest.fixture
async def door() -> AsyncIterator[EngineDoor]:
    async with EngineDoor() as door:
        yield door


def sends(
    count: int, label: bytes = b"", *, pace: float = PACE, first: float = 0.0
) -> tuple[Send, ...]:
    return tuple(Send(first + n * pace, bytes([n & 0xFF]) + label) for n in range(count))


def to(port: int, of: Sequence[Send], flow: str = "", host: str = "127.0.0.1") -> Stream:
    return Stream(host, port, tuple(of), max(send.at for send in of) + 0.2, flow)


def numbers(played: Played) -> list[int]:
    return [answer.data[0] for answer in played.received]


def gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- what is sent, and what comes back ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_every_answer_comes_back_with_times_in_order(door: EngineDoor, host: str) -> None:
    async with udp_server(echo, host) as server:
        began = time.time_ns()
        (played,) = await door.play([to(server.port, sends(10), host=host)], ANYWHERE)
    assert numbers(played) == list(range(10))
    assert began < played.sent[0]
    assert list(played.sent) == sorted(set(played.sent))
    for answer in played.received:
        assert played.sent[answer.data[0]] < answer.at < time.time_ns()
    assert len(played.late) == 10
    assert min(played.late) >= 0.0
    assert (played.failures, played.overflowed, played.stepped) == ((), 0, False)


async def test_the_pace_is_kept_however_late_one_packet_is(door: EngineDoor) -> None:
    """Each is due at its own time after the start: what each left late does not add up."""
    async with udp_server(silent) as server:
        (played,) = await door.play([to(server.port, sends(20))], ANYWHERE)
    planned = [at - late * 1e9 for at, late in zip(played.sent, played.late, strict=True)]
    starts = [at - n * PACE * 1e9 for n, at in enumerate(planned)]
    spread = (max(starts) - min(starts)) / 1e9
    assert spread < PACE


async def test_lost_doubled_and_overtaken_answers_are_told_as_they_came(door: EngineDoor) -> None:
    held: list[bytes] = []

    def answer(n: int, data: bytes) -> list[bytes]:
        match data[0]:
            case 2:
                return []
            case 4:
                return [data, data]
            case 6:
                held.append(data)
                return []
            case 7:
                return [data, *held]
        return [data]

    async with udp_server(answer) as server:
        (played,) = await door.play([to(server.port, sends(10))], ANYWHERE)
    assert numbers(played) == [0, 1, 3, 4, 4, 5, 7, 6, 8, 9]


async def test_an_answer_after_the_streams_time_is_not_waited_for(door: EngineDoor) -> None:
    """Here the time is over before the last datagram is sent."""
    async with udp_server(echo) as server:
        stream = Stream("127.0.0.1", server.port, sends(4, pace=0.1), lasts=0.25)
        (played,) = await door.play([stream], ANYWHERE)
        assert numbers(played) == [0, 1, 2]
        assert [at > 0 for at in played.sent] == [True, True, True, False]


async def test_sends_out_of_order_are_sent_in_times_order_and_told_as_given(
    door: EngineDoor,
) -> None:
    given = (Send(0.02, b"\2"), Send(0.0, b"\0"), Send(0.01, b"\1"))
    async with udp_server(echo) as server:
        (played,) = await door.play([to(server.port, given)], ANYWHERE)
    assert numbers(played) == [0, 1, 2]
    assert played.sent[1] < played.sent[2] < played.sent[0]


async def test_two_streams_are_sent_packet_by_packet(door: EngineDoor) -> None:
    """Interleaved as their times are, and those of one instant in the order of the streams."""
    heard: list[bytes] = []

    def note(n: int, data: bytes) -> list[bytes]:
        heard.append(data[1:])
        return [data]

    async with udp_server(note) as server:
        a, b, c = sends(10, b"a"), sends(10, b"b", first=PACE / 2), sends(10, b"c")
        played = await door.play([to(server.port, s) for s in (a, b, c)], ANYWHERE)
    assert b"".join(heard) == b"acb" * 10
    assert [numbers(p) for p in played] == [list(range(10))] * 3


async def test_plays_go_on_beside_each_other(door: EngineDoor) -> None:
    async with udp_server(echo) as server:
        streams = [to(server.port, sends(10, label)) for label in (b"x", b"y", b"z")]
        played = await asyncio.gather(*(door.play([s], ANYWHERE) for s in streams))
    for label, (of,) in zip((b"x", b"y", b"z"), played, strict=True):
        assert {a.data[1:] for a in of.received} == {label}
        assert numbers(of) == list(range(10))
    spans = [(of.sent[0], of.sent[-1]) for (of,) in played]
    assert max(first for first, _ in spans) < min(last for _, last in spans)


async def test_whoever_watches_sees_it_grow(door: EngineDoor) -> None:
    seen: list[tuple[int, int]] = []

    def watch(so_far: Sequence[Played]) -> None:
        seen.append((len(so_far[0].received), sum(at > 0 for at in so_far[0].sent)))

    async with udp_server(echo) as server:
        (played,) = await door.play([to(server.port, sends(80))], ANYWHERE, watch)
    assert len(seen) >= 2
    assert seen == sorted(seen)
    assert 0 < seen[0][0] < 80
    assert len(played.received) == 80


async def test_a_bug_in_the_watcher_is_its_own(door: EngineDoor) -> None:
    def watch(so_far: Sequence[Played]) -> None:
        raise ZeroDivisionError

    async with udp_server(echo) as server:
        with pytest.raises(ZeroDivisionError):
            await door.play([to(server.port, sends(60))], ANYWHERE, watch)
        (played,) = await door.play([to(server.port, sends(3))], ANYWHERE)
        assert numbers(played) == [0, 1, 2]


# --- refusals ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_refuses_every_datagram_and_all_are_sent(
    door: EngineDoor, host: str
) -> None:
    port = closed_port(socket.SOCK_DGRAM, host)
    async with udp_server(echo, host) as server:
        streams = [to(where, sends(5), host=host) for where in (port, server.port)]
        shut, open_ = await door.play(streams, ANYWHERE)
    assert shut.failures == (Failure.REFUSED,) * 5
    assert all(shut.sent)
    assert (numbers(open_), open_.failures) == ([0, 1, 2, 3, 4], ())


async def test_what_this_host_refuses_was_not_sent(door: EngineDoor) -> None:
    """A source address that is not ours, and a datagram that is larger than UDP's largest."""
    async with udp_server(echo) as server:
        (played,) = await door.play([to(server.port, sends(3))], Source(address="192.0.2.1"))
        assert (played.sent, played.failures) == ((0, 0, 0), (Failure.UNREACHABLE,))
        large = (Send(0.0, b"\0" * 65530), Send(0.01, b"\1"), Send(0.02, b"\0" * 65530))
        (played,) = await door.play([to(server.port, large)], ANYWHERE)
        assert [at > 0 for at in played.sent] == [False, True, False]
        assert (numbers(played), played.failures) == ([1], (Failure.OTHER,))


async def test_the_source_is_where_it_was_told_to_be(door: EngineDoor) -> None:
    async with udp_server(echo) as server:
        await door.play([to(server.port, sends(1))], Source(address="127.0.0.9"))
        assert {peer[0] for peer in server.peers} == {"127.0.0.9"}


# --- flows ---


async def test_a_named_flow_goes_on_and_an_unnamed_is_fresh(door: EngineDoor) -> None:
    async with udp_server(echo) as server, udp_server(echo) as other:
        for _ in range(3):
            long = [to(s.port, sends(1), "long") for s in (server, other)]
            await door.play([*long, to(server.port, sends(1))], ANYWHERE)
        used = Counter(peer[1] for peer in server.peers)
        assert sorted(used.values()) == [1, 1, 1, 3]
        assert len({peer[1] for peer in other.peers}) == 1


async def test_two_at_once_do_not_share_a_named_flow(door: EngineDoor) -> None:
    async with udp_server(echo) as server:
        named = to(server.port, sends(5), "long")
        both = await door.play([named, named], ANYWHERE)
        assert [numbers(p) for p in both] == [[0, 1, 2, 3, 4]] * 2
        assert len({peer[1] for peer in server.peers}) == 2


async def test_what_came_between_two_plays_answers_nothing(door: EngineDoor) -> None:
    async with udp_server(echo) as server:
        named = to(server.port, sends(2), "long")
        await door.play([named], ANYWHERE)
        for _ in range(20):
            server.sock.sendto(b"\xff late", server.peers[-1])
        (played,) = await door.play([named], ANYWHERE)
        assert numbers(played) == [0, 1]


def part(port: int, flow: str) -> Part:
    order = decode_order(encode_play(1, [to(port, sends(1), flow)], ANYWHERE, False))
    assert isinstance(order, Play)
    return order.parts[0]


def test_of_many_named_flows_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engineflows, "NAMED", 2)
    flows = Flows()
    with udp_socket() as server:
        port = server.getsockname()[1]

        def use(name: str) -> int:
            flow = flows.take(part(port, name), ANYWHERE, lambda flow: None)
            flow.give_back(good=True)
            return flow.sock.getsockname()[1]

        first = {name: use(name) for name in "ab"}
        assert use("a") == first["a"]
        use("c")
        assert use("a") == first["a"]
        assert use("b") != first["b"]
        for flow in list(flows._named.values()):
            flows.drop(flow)


def test_an_unused_named_flow_is_closed_and_a_used_one_is_not() -> None:
    flows = Flows()
    with udp_socket() as server:
        port = server.getsockname()[1]
        flow = flows.take(part(port, "long"), ANYWHERE, lambda flow: None)
        flow.give_back(good=True)
        early = flow.expiry
        assert early is not None
        again = flows.take(part(port, "long"), ANYWHERE, lambda flow: None)
        assert again is flow
        early.act(0)  # the hour of the first use is over while the second lasts
        assert flow.sock.fileno() >= 0
        flow.give_back(good=True)
        early.act(0)
        assert flow.sock.fileno() >= 0
        assert flow.expiry is not None
        flow.expiry.act(0)
        assert flow.sock.fileno() < 0


def test_a_named_flow_on_which_nothing_could_be_sent_is_not_kept() -> None:
    flows = Flows()
    with udp_socket() as server:
        flow = flows.take(part(server.getsockname()[1], "long"), ANYWHERE, lambda flow: None)
        flow.give_back(good=False)
        assert flow.sock.fileno() < 0


# --- bounds ---


async def test_a_flood_of_answers_is_counted_and_not_kept(door: EngineDoor) -> None:
    """One datagram asks, and 600 large ones come; the figures say that not all are here."""
    async with udp_server(lambda n, data: [data + b"\0" * 3000] * 600) as server:
        (played,) = await door.play([to(server.port, sends(1))], ANYWHERE)
    assert len(played.received) == engine_module.KEPT_PER_SEND + engine_module.KEPT_BESIDE
    assert len(played.received) + played.overflowed == 600
    assert {len(answer.data) for answer in played.received} == {1500}


def test_what_had_come_and_was_not_read_yet_came_in_time() -> None:
    """The loop may be behind: the receive times are the kernel's all the same."""
    told: list[bytes] = []
    with udp_socket() as server:
        stream = to(server.getsockname()[1], sends(1))
        order = decode_order(encode_play(7, [stream], ANYWHERE, False))
        assert isinstance(order, Play)
        run = engine_module.Run(order, told.append)
        flow = Flows().take(order.parts[0], ANYWHERE, lambda flow: None)
        one = engine_module.Stream(run, 0, order.parts[0], flow)
        one.act(time.monotonic_ns())
        _, peer = server.recvfrom(10)
        for n in range(100):
            server.sendto(bytes([n]), peer)
        one.finish()
        run.finish()
    gathering = Gathering([stream])
    assert gathering.add(told[0])
    (played,) = gathering.played()
    assert numbers(played) == list(range(engine_module.KEPT_PER_SEND + engine_module.KEPT_BESIDE))
    assert len(played.received) + played.overflowed == 100


def test_what_was_due_long_ago_is_not_made_up_for() -> None:
    """A process that was stopped for a while must not send all at once what it missed."""
    told: list[bytes] = []
    with udp_socket() as server:
        stream = to(server.getsockname()[1], sends(3))
        order = decode_order(encode_play(7, [stream], ANYWHERE, False))
        assert isinstance(order, Play)
        run = engine_module.Run(order, told.append)
        flow = Flows().take(order.parts[0], ANYWHERE, lambda flow: None)
        one = engine_module.Stream(run, 0, order.parts[0], flow)
        for ago in (2.0, engine_module.TOO_LATE + 0.1, 0.0):
            one.act(time.monotonic_ns() - round(ago * 1e9))
        one.finish()
        run.finish()
        assert server.recv(10) == b"\2"
        with pytest.raises(BlockingIOError):
            server.recv(10)
    gathering = Gathering([stream])
    assert gathering.add(told[0])
    (played,) = gathering.played()
    assert [at > 0 for at in played.sent] == [False, False, True]
    assert played.late[0] > played.late[1] > played.late[2]


def test_a_clock_that_is_set_makes_the_times_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bytes] = []
    order = decode_order(encode_play(7, [to(9, sends(1))], ANYWHERE, True))
    assert isinstance(order, Play)
    ahead = 0
    monkeypatch.setattr(engine_module, "clock_offset", lambda: ahead)
    run = engine_module.Run(order, told.append)
    run.streams = [engine_module.Stream(run, 0, order.parts[0], None)]
    run.act(0)
    assert told == []
    ahead = 20_000_000
    run.act(0)
    run.finish()
    gathering = Gathering([to(9, sends(1))])
    assert [gathering.add(frame) for frame in told] == [False, True]
    assert gathering.played()[0].stepped


# --- the process ---


async def test_no_process_before_the_first_play_and_none_after_the_end() -> None:
    async with EngineDoor() as door:
        assert door.pid is None
        assert await door.play([], ANYWHERE) == []
        assert door.pid is None
        async with udp_server(echo) as server:
            await door.play([to(server.port, sends(1))], ANYWHERE)
        pid = door.pid
        assert pid
    assert gone(pid)


async def test_an_engine_that_died_alone_costs_one_play(
    door: EngineDoor, caplog: pytest.LogCaptureFixture
) -> None:
    async with udp_server(echo) as server:
        for _ in range(2):
            playing = asyncio.create_task(door.play([to(server.port, sends(250))], ANYWHERE))
            heard = len(server.peers)
            await until(lambda heard=heard: len(server.peers) > heard)
            pid = door.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(NotMeasured, match="engine_died"):
                await playing
            (played,) = await door.play([to(server.port, sends(3))], ANYWHERE)
            assert numbers(played) == [0, 1, 2]
            assert door.pid != pid
    assert "ended in the middle" in caplog.text


async def test_an_engine_that_died_while_nothing_played_costs_none(door: EngineDoor) -> None:
    async with udp_server(echo) as server:
        await door.play([to(server.port, sends(1))], ANYWHERE)
        pid = door.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: door.pid is None)
        (played,) = await door.play([to(server.port, sends(3))], ANYWHERE)
        assert numbers(played) == [0, 1, 2]


async def test_an_engine_that_hangs_is_ended(
    door: EngineDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginedoor, "OVERDUE", 0.3)
    async with udp_server(echo) as server:
        with contextlib.suppress(NotMeasured):  # a slow start may be taken for it
            await door.play([to(server.port, sends(1))], ANYWHERE)
        await until(lambda: door.pid is not None)
        hanging = door.pid
        assert hanging
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(NotMeasured, match="engine_died"):
            await door.play([to(server.port, sends(1))], ANYWHERE)
        await until(lambda: gone(hanging))


async def test_a_process_that_cannot_be_had_is_not_measured(
    door: EngineDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enginedoor.sys, "executable", "/nowhere/python")
    with pytest.raises(NotMeasured, match="engine_died"):
        await door.play([to(9, sends(1))], ANYWHERE)


async def test_a_cancelled_play_sends_no_more_and_the_others_go_on(door: EngineDoor) -> None:
    async with udp_server(silent) as stopped, udp_server(echo) as other:
        beside = asyncio.create_task(door.play([to(other.port, sends(60))], ANYWHERE))
        playing = asyncio.create_task(door.play([to(stopped.port, sends(250), "long")], ANYWHERE))
        await until(lambda: len(stopped.peers) > 5)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        assert playing.cancelled()
        at_once = len(stopped.peers)
        (played,) = await beside
        assert len(stopped.peers) - at_once < 15  # of 244 that were still to come
        assert numbers(played) == list(range(60))
        first = stopped.peers[0]
        (played,) = await door.play([to(stopped.port, sends(3), "long")], ANYWHERE)
        assert stopped.peers[-1] == first
        assert all(played.sent)


AGENT = """
import asyncio, sys
from agent.enginedoor import EngineDoor
from probes.net.address import Source
from probes.net.streams import Send, Stream

async def main():
    door = EngineDoor()
    sends = tuple(Send(n / 100, b"x") for n in range(3000))
    stream = Stream("127.0.0.1", int(sys.argv[1]), sends, 30)
    playing = asyncio.create_task(door.play([stream], Source()))
    while door.pid is None:
        await asyncio.sleep(0.01)
    print(door.pid, flush=True)
    await playing

asyncio.run(main())
"""


async def test_the_engine_dies_with_a_killed_agent() -> None:
    async with udp_server(silent) as server:
        command = [sys.executable, "-c", AGENT, str(server.port)]
        agent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert agent.stdout
        pid = int(await agent.stdout.readline())
        await until(lambda: len(server.peers) > 3)
        agent.kill()
        await agent.wait()
        await until(lambda: gone(pid))
        heard = len(server.peers)
        await asyncio.sleep(0.1)
        assert len(server.peers) == heard


async def test_the_process_stays_small() -> None:
    """What it needs not is what the agent has in memory: no event loop, no schema, no HTTP."""
    command = [sys.executable, "-c", "import sys, agent.engine; print(*sys.modules)"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    modules = set((await process.communicate())[0].decode().split())
    assert "agent.engine" in modules
    assert not modules & {"asyncio", "ssl", "pydantic", "httpx", "dns", "cryptography", "logging"}
