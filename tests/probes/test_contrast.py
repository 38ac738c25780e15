"""The probes of contrasts: what they count as an answer, against servers that misbehave."""

from __future__ import annotations

import asyncio
import socket

import pytest

from probes.contrast import BurstProbe, BytesProbe, HelloProbe, PacedQuery, SegmentsProbe
from probes.model import Failure, Step
from probes.net.environment import Environment
from tests.probes.certificates import NAME, Certificate
from tests.probes.servers import (
    COUNTED,
    SHORT,
    answering,
    close_after_first_bytes,
    closed_port,
    dns_reply,
    observe,
    reset_after_first_bytes,
    say,
    say_nothing,
    silent,
    tcp_server,
    udp_server,
)

ALERT = b"\x15\x03\x03\0\x02\x02\x28"


async def test_any_certificate_will_do(env: Environment, good: Certificate) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(HelloProbe("neutral.test"), server.port, env)
    assert seen.ok
    assert seen.facts["server_spoke"] is True
    assert seen.facts["certificate_subject"] == "good"


@pytest.mark.parametrize(
    ("behave", "failure", "spoke"),
    [
        (say(ALERT), Failure.TLS_ALERT, True),
        (reset_after_first_bytes, Failure.RESET, False),
        (close_after_first_bytes, Failure.CLOSED, False),
        (say_nothing, Failure.TIMEOUT, False),
    ],
)
async def test_it_is_told_whether_the_server_said_anything(env, behave, failure, spoke) -> None:
    async with tcp_server(behave) as server:
        seen = await observe(HelloProbe("neutral.test"), server.port, env, timeout=COUNTED)
    assert seen.failed.step is Step.TLS
    assert seen.failed.failure is failure
    assert seen.facts["server_spoke"] is spoke


@pytest.mark.parametrize("size", [0, 517, 518, 600, 1000, 1500, 3000])
async def test_a_hello_is_padded_to_the_length_asked_for(env, good, size) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(HelloProbe("n.test", pad_to=size), server.port, env)
    assert seen.ok, "the padding is no reason for a server to refuse"
    assert size <= seen.facts["clienthello_bytes"] <= max(size + 300, 520)


async def test_a_short_hello_is_shorter(env: Environment, good: Certificate) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        short = await observe(HelloProbe(NAME, short=True), server.port, env)
        plain = await observe(HelloProbe(NAME), server.port, env)
    assert short.ok
    assert short.facts["tls_version"] == "TLSv1.2"
    assert short.facts["clienthello_bytes"] < plain.facts["clienthello_bytes"]


async def test_a_url_carries_it_on_to_the_exchange(env: Environment, good: Certificate) -> None:
    answers = say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    async with tcp_server(answers, tls=good.server()) as server:
        seen = await observe(HelloProbe("n.test", url="https://n.test/"), server.port, env)
    assert seen.ok
    assert seen.facts["http_status"] == 404
    async with tcp_server(say_nothing, tls=good.server()) as server:
        probe = HelloProbe("n.test", url="https://n.test/")
        seen = await observe(probe, server.port, env, timeout=0.5)
    assert (seen.failed.step, seen.failed.failure) == (Step.EXCHANGE, Failure.TIMEOUT)


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (say_nothing, None),
        (say(ALERT), None),
        (close_after_first_bytes, None),
        (reset_after_first_bytes, Failure.RESET),
    ],
)
async def test_random_bytes_pass_when_the_connection_stands(env, behave, failure) -> None:
    async with tcp_server(behave) as server:
        seen = await observe(BytesProbe(517), server.port, env, timeout=SHORT)
    assert (seen.failed.failure if seen.failed else None) is failure


async def test_random_bytes_look_like_nothing_known(env: Environment) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(517))

    async with tcp_server(listen) as server:
        await observe(BytesProbe(517), server.port, env, timeout=SHORT)
        await observe(BytesProbe(517), server.port, env, timeout=SHORT)
    assert {data[:1] for data in heard} == {b"\xff"}
    assert heard[0] != heard[1]


async def test_nobody_there_is_no_matter_of_bytes(env: Environment) -> None:
    seen = await observe(BytesProbe(10), closed_port(socket.SOCK_STREAM), env)
    assert (seen.failed.step, seen.failed.failure) == (Step.CONNECT, Failure.REFUSED)


async def test_paced_queries_are_counted_one_by_one(env: Environment) -> None:
    async with udp_server(answering("192.0.2.1")) as server:
        seen = await observe(PacedQuery("name.test"), server.port, env, timeout=0.5)
    assert seen.ok
    assert seen.facts["answered"] == seen.facts["requests"] == 5
    assert len({peer[1] for peer in server.peers}) == 5, "each from a port of its own"


async def test_a_refusal_is_an_answer_and_silence_is_none(env: Environment) -> None:
    async with udp_server(answering(rcode="REFUSED")) as server:
        seen = await observe(PacedQuery("name.test"), server.port, env, timeout=0.5)
    assert seen.facts["answered"] == 5
    async with udp_server(silent) as server:
        seen = await observe(PacedQuery("name.test"), server.port, env, timeout=SHORT)
    assert seen.facts["answered"] == 0
    assert seen.failed.failure is Failure.TIMEOUT


async def test_answers_to_other_questions_do_not_count(env: Environment) -> None:
    def stray(_number: int, data: bytes) -> list[bytes]:
        return [b"\xff\xff" + dns_reply(data, "192.0.2.1")[2:]]

    async with udp_server(stray) as server:
        seen = await observe(PacedQuery("name.test"), server.port, env, timeout=SHORT)
    assert seen.facts["answered"] == 0


@pytest.mark.parametrize("size", [0, 517, 600, 1500])
async def test_another_programs_hello_is_no_shorter(env, good, size) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(HelloProbe(NAME, pad_to=size, other=True), server.port, env)
        plain = await observe(HelloProbe(NAME, pad_to=size), server.port, env)
    assert seen.ok
    assert seen.facts["clienthello_bytes"] >= size
    assert seen.facts["tls_version"] == "TLSv1.2"
    assert plain.facts["tls_version"] != "TLSv1.2"


async def reads_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a request with the number of pieces in which it came."""
    data, pieces = b"", 0
    while b"\r\n\r\n" not in data:
        data += await reader.read(4096)
        pieces += 1
    writer.write(b"HTTP/1.1 200 OK\r\nServer: %d\r\nContent-Length: 0\r\n\r\n" % pieces)
    await writer.drain()
    PIECES.append(pieces)


PIECES: list[int] = []


@pytest.mark.parametrize(("asked", "least", "most"), [(1, 1, 2), (16, 10, 16)])
async def test_a_request_goes_out_in_pieces(env, asked, least, most) -> None:
    PIECES.clear()
    async with tcp_server(reads_pieces) as server:
        url = f"http://{NAME}:{server.port}/"
        seen = await observe(SegmentsProbe(url, asked), server.port, env, host=NAME)
    assert seen.ok
    assert seen.facts["pieces"] == asked
    assert least <= PIECES[0] <= most


async def test_pieces_that_take_longer_than_an_answer_may_are_no_freeze(env) -> None:
    async with tcp_server(reads_pieces) as server:
        url = f"http://{NAME}:{server.port}/"
        probe = SegmentsProbe(url, 16)
        seen = await observe(probe, server.port, env, host=NAME, timeout=SHORT)
    assert seen.ok, "what the pieces take comes on top of the limit"


class Freezing:
    """Answers so many hellos with an alert, and reads no further ones."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.hellos = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        self.hellos += 1
        if self.hellos <= self.answers:
            writer.write(ALERT)
            await writer.drain()
        else:
            await asyncio.sleep(5)


@pytest.mark.parametrize(("answers", "works"), [(6, True), (2, True), (0, False)])
async def test_a_burst_counts_what_came_of_each(env, answers, works) -> None:
    server_side = Freezing(answers)
    async with tcp_server(server_side) as server:
        seen = await observe(BurstProbe(NAME), server.port, env, timeout=COUNTED)
    assert seen.ok is works
    assert server_side.hellos == seen.facts["handshakes"] == 6
    assert seen.facts["answered"] == answers
    # They were acknowledged: a server that hangs is no filter that swallows.
    assert seen.facts["frozen"] == 0
    assert seen.facts["sent"] >= 6 * 3
