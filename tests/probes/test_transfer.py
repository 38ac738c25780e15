"""transfer: how far a download and an upload get, against servers and paths that stop them."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from itertools import pairwise

import pytest

from probes import transfer
from probes.model import Failure, Observation, Step
from probes.net.environment import Environment
from probes.transfer import MOST, UPLOAD, TransferProbe
from tests.probes.certificates import NAME, Certificate
from tests.probes.servers import (
    SHORT,
    Behaviour,
    close_after_first_bytes,
    closed_port,
    observe,
    reset,
    reset_after_first_bytes,
    say,
    say_nothing,
    tcp_server,
)

SIZE = 200_000
RANGE = re.compile(rb"Range: bytes=0-(\d+)\r\n", re.IGNORECASE)


class Server:
    """Serves ``size`` bytes; ``after_head`` writes the body, ``upload`` handles a POST."""

    def __init__(self, size: int = SIZE, *, ranges: bool = True, stays: bool = True) -> None:
        self.size, self.ranges, self.stays = size, ranges, stays
        self.requests: list[bytes] = []
        self.uploaded = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(request)
        size, status = self.size, "200 OK"
        asked = RANGE.search(request)
        if self.ranges and asked:
            size, status = min(size, int(asked[1]) + 1), "206 Partial Content"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n"
        head += "" if self.stays else "Connection: close\r\n"
        writer.write(f"{head}\r\n".encode())
        await self.body(writer, size)
        if self.stays:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.post(reader, writer)

    async def body(self, writer: asyncio.StreamWriter, size: int) -> None:
        writer.write(b"x" * size)
        await writer.drain()

    async def post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.uploaded += len(data)


async def fetch(
    env: Environment,
    behave: Behaviour,
    certificate: Certificate | None = None,
    *,
    max_bytes: int = SIZE,
    timeout: float = 5.0,
    partial: bool = False,
) -> Observation:
    tls = certificate.server() if certificate else None
    async with tcp_server(behave, tls=tls) as server:
        url = f"{'https' if tls else 'http'}://{NAME}:{server.port}/object?a=b"
        probe = TransferProbe(url=url, max_bytes=max_bytes)
        return await observe(probe, server.port, env, host=NAME, timeout=timeout, partial=partial)


def number(seen: Observation, fact: str) -> float:
    value = seen.facts[fact]
    assert isinstance(value, int | float)
    return value


def series(seen: Observation) -> list[int]:
    value = seen.facts["series"]
    assert isinstance(value, tuple)
    return list(map(int, value))


@pytest.mark.parametrize("secured", [True, False])
async def test_an_object_is_fetched_as_far_as_allowed_and_bytes_are_sent_back(
    env: Environment, good: Certificate, secured: bool
) -> None:
    server = Server(size=10_000_000)
    seen = await fetch(env, server, good if secured else None)
    assert seen.ok
    steps = [Step.CONNECT, *([Step.TLS] if secured else []), Step.EXCHANGE, Step.STREAM]
    assert [s.step for s in seen.steps] == steps
    facts = seen.facts
    assert (facts["http_status"], facts["body_bytes"], facts["stopped"]) == (206, SIZE, "end")
    assert SIZE < number(seen, "received_bytes") < SIZE * 1.03
    # A machine that is busy elsewhere makes a stall of its own.
    assert (facts["stalls"] == 0) is (number(seen, "longest_gap_seconds") < 1)
    assert number(seen, "throughput_bits_per_second") > 1e6
    assert facts["upload_stopped"] == "end"
    assert UPLOAD < number(seen, "upload_bytes") < UPLOAD * 1.03
    assert server.uploaded == UPLOAD
    assert 0 < number(seen, "min_rtt_seconds") <= number(seen, "rtt_seconds") * 10
    assert number(seen, "segments_in") > 3
    post = server.requests[1]
    assert post.startswith(b"POST /object?a=b HTTP/1.1\r\n")
    assert f"Host: {NAME}".encode() in post


async def test_never_more_than_a_megabyte(env: Environment) -> None:
    for wrong in (0, MOST + 1):
        with pytest.raises(ValueError, match="max_bytes"):
            TransferProbe(url=f"http://{NAME}/", max_bytes=wrong)
    # A server that does not know ranges, and one that promises a range and sends without end.
    for ranges in (False, True):
        server = Server(50_000_000, ranges=ranges, stays=False)
        if ranges:
            server.size = 50_000_000

            async def endless(writer: asyncio.StreamWriter, _size: int) -> None:
                for _ in range(3000):
                    writer.write(b"x" * 16384)
                    await writer.drain()

            server.body = endless  # type: ignore[method-assign]
        before = env.traffic.received
        seen = await fetch(env, server, max_bytes=100_000)
        assert env.traffic.received - before < 8_000_000  # the kernels' buffers
        assert seen.facts["body_bytes"] == 100_000
        if not ranges:
            assert (seen.ok, seen.facts["stopped"]) == (True, "limit")
    assert "upload_stopped" not in seen.facts


@pytest.mark.parametrize("most", [1, 300, 70_000])
@pytest.mark.parametrize("secured", [True, False])
async def test_no_byte_more_than_allowed_is_read(
    env: Environment, good: Certificate, most: int, secured: bool
) -> None:
    server = Server(ranges=False)
    seen = await fetch(env, server, good if secured else None, max_bytes=most)
    assert (seen.ok, seen.facts["stopped"], seen.facts["body_bytes"]) == (True, "limit", most)


async def test_a_small_object_is_an_end(env: Environment) -> None:
    seen = await fetch(env, Server(1000, stays=False))
    assert (seen.ok, seen.facts["stopped"], seen.facts["body_bytes"]) == (True, "end", 1000)
    assert "upload_stopped" not in seen.facts


@pytest.mark.parametrize("secured", [True, False])
async def test_a_freeze_after_sixteen_kibibytes_is_a_timeout_and_says_where(
    env: Environment, good: Certificate, secured: bool
) -> None:
    """Even inside of a TLS record, of which the upper layer sees nothing."""

    class Freezing(Server):
        async def body(self, writer: asyncio.StreamWriter, size: int) -> None:
            writer.write(b"x" * 16_000)
            await writer.drain()
            await asyncio.sleep(3)

    seen = await fetch(env, Freezing(), good if secured else None, timeout=0.5)
    assert seen.failed.step is Step.STREAM
    assert seen.failed.failure is Failure.TIMEOUT
    assert not seen.works
    assert seen.facts["stopped"] == "timeout"
    assert 16_000 < number(seen, "received_bytes") < 17_500
    assert seen.facts["longest_gap_after_bytes"] == seen.facts["received_bytes"]
    assert number(seen, "longest_gap_seconds") >= 0.5
    assert series(seen)[-1] == series(seen)[-2] == seen.facts["received_bytes"]


async def test_a_policed_transfer_shows_its_bursts_and_gaps(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "STALL", 0.25)
    monkeypatch.setattr(transfer, "SLOT", 0.05)

    class Policed(Server):
        async def body(self, writer: asyncio.StreamWriter, size: int) -> None:
            for _ in range(4):
                writer.write(b"x" * (size // 4))
                await writer.drain()
                await asyncio.sleep(0.3)

    seen = await fetch(env, Policed(stays=False), timeout=5)
    assert seen.ok
    assert seen.facts["stalls"] == 3
    assert 0.25 <= number(seen, "longest_gap_seconds") < 5
    steps = series(seen)
    assert all(a <= b for a, b in pairwise(steps))
    assert len(set(steps)) >= 4
    assert steps.count(steps[len(steps) // 2]) >= 3  # a plateau
    assert steps[-1] == seen.facts["received_bytes"]
    assert number(seen, "throughput_bits_per_second") < 8 * SIZE / 0.75


async def test_a_slow_transfer_ends_with_its_time_and_is_no_failure(env: Environment) -> None:
    class Slow(Server):
        async def body(self, writer: asyncio.StreamWriter, size: int) -> None:
            for _ in range(size // 1000):
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0.02)

    started = time.monotonic()
    seen = await fetch(env, Slow(), timeout=0.5)
    assert (seen.ok, seen.facts["stopped"]) == (True, "time")
    assert 1000 < number(seen, "body_bytes") < SIZE
    assert time.monotonic() - started >= 0.5
    assert "upload_stopped" not in seen.facts


def cut(how: str) -> Server:
    class Cut(Server):
        async def body(self, writer: asyncio.StreamWriter, size: int) -> None:
            writer.write(b"x" * 10_000)
            await writer.drain()
            await asyncio.sleep(0.05)
            if how == "reset":
                reset(writer)

    return Cut(stays=False)


@pytest.mark.parametrize(
    ("behave", "step", "failure"),
    [
        (cut("close"), Step.STREAM, Failure.TRUNCATED),
        (cut("reset"), Step.STREAM, Failure.RESET),
        (say_nothing, Step.EXCHANGE, Failure.TIMEOUT),
        (reset_after_first_bytes, Step.EXCHANGE, Failure.RESET),
        (close_after_first_bytes, Step.EXCHANGE, Failure.CLOSED),
        (say(b"220 smtp.example ESMTP\r\n\r\n"), Step.EXCHANGE, Failure.BAD_REPLY),
        (
            say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
            Step.EXCHANGE,
            Failure.HTTP_STATUS,
        ),
        (
            say(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
            Step.EXCHANGE,
            Failure.HTTP_STATUS,
        ),
        (
            say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            Step.STREAM,
            Failure.BAD_REPLY,
        ),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, behave: Behaviour, step: Step, failure: Failure
) -> None:
    seen = await fetch(env, behave, timeout=SHORT if behave is say_nothing else 5.0)
    assert (seen.failed.step, seen.failed.failure) == (step, failure)
    assert not seen.works
    if step is Step.STREAM:
        assert seen.facts["stopped"] == failure


async def test_a_port_where_nobody_listens_is_refused(env: Environment) -> None:
    port = closed_port(socket.SOCK_STREAM)
    probe = TransferProbe(url=f"http://{NAME}:{port}/")
    assert (await observe(probe, port, env, host=NAME)).failed.failure is Failure.REFUSED


async def test_a_partial_run_stops_after_connect(env: Environment) -> None:
    seen = await fetch(env, say_nothing, partial=True)
    assert ([s.step for s in seen.steps], seen.ok) == ([Step.CONNECT], True)


# --- the way back ----------------------------------------------------------------------------


class Refusing(Server):
    async def post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(3)


class HangingUp(Server):
    async def post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await asyncio.sleep(3)


class Resetting(Server):
    async def post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)


@pytest.mark.parametrize(
    ("server", "word"),
    [(Refusing(1000), "answered"), (HangingUp(1000), "closed"), (Resetting(1000), "reset")],
    ids=["answers", "hangs-up", "resets"],
)
async def test_a_server_may_refuse_an_upload(
    env: Environment, monkeypatch: pytest.MonkeyPatch, server: Server, word: str
) -> None:
    """It says so, hangs up or resets; the transfer that was asked about has worked."""
    monkeypatch.setattr(transfer, "UPLOAD", 900_000)  # more than the kernels' buffers take
    seen = await fetch(env, server, max_bytes=1_000_000)
    assert seen.ok
    assert seen.facts["upload_stopped"] == word
    assert seen.facts["stopped"] == "end"


async def test_a_server_that_does_not_read_is_no_freeze(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel goes on to acknowledge, and then shuts the window: nothing is lost on the way."""
    monkeypatch.setattr(transfer, "UPLOAD", 900_000)

    class Deaf(Server):
        async def post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3)

    seen = await fetch(env, Deaf(1000), timeout=0.5, max_bytes=1_000_000)
    assert seen.ok
    assert seen.facts["upload_stopped"] == "unread"


async def test_an_upload_that_does_not_move_is_a_timeout(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a path that swallows segments looks like to the sender's kernel: nothing is
    acknowledged. Loopback loses nothing, so its figures are made up here."""
    real = transfer.Metered.info
    stuck: list[object] = []

    def info(self: transfer.Metered) -> object:
        made = real(self)
        if made.bytes_acked > 1000:
            stuck.append(made)
            from dataclasses import replace

            return replace(made, bytes_acked=1000, unacked=12, retransmissions=3)
        return made

    monkeypatch.setattr(transfer.Metered, "info", info)
    seen = await fetch(env, Server(1000), timeout=0.4)
    assert stuck
    assert (seen.failed.step, seen.failed.failure) == (Step.STREAM, Failure.TIMEOUT)
    assert (seen.facts["stopped"], seen.facts["upload_stopped"]) == ("end", "timeout")
    assert seen.facts["upload_retransmissions"] == 3
