"""https: what a web server may answer, over TLS and in the clear."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
from email.utils import formatdate

import pytest

from probes.https import HttpsProbe
from probes.model import Failure, Observation, Step
from probes.net.environment import Environment
from tests.probes.certificates import NAME, Authority, Certificate
from tests.probes.programs import need, running
from tests.probes.servers import (
    COUNTED,
    NASTY,
    SHORT,
    Behaviour,
    assert_clean,
    close_after_first_bytes,
    closed_port,
    observe,
    reset_after_first_bytes,
    say,
    say_nothing,
    tcp_server,
)

STEPS = [Step.CONNECT, Step.TLS, Step.EXCHANGE]


def response(status: str = "200 OK", body: bytes = b"hello", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


async def get(
    env: Environment,
    behave: Behaviour,
    tls: ssl.SSLContext | None = None,
    *,
    timeout: float = 5.0,
    **options: object,
) -> Observation:
    """Ask a server that behaves so for /path, over TLS where there is a context."""
    async with tcp_server(behave, tls=tls) as server:
        url = f"{'https' if tls else 'http'}://{NAME}:{server.port}/path?a=b"
        probe = HttpsProbe(url=url, **options)
        return await observe(probe, server.port, env, host=NAME, timeout=timeout)


async def test_an_answer_over_a_valid_chain_works(env: Environment, good: Certificate) -> None:
    seen = await get(env, say(response(Server="nginx")), good.server())
    assert seen.ok
    assert [step.step for step in seen.steps] == STEPS
    assert seen.facts["http_status"] == 200
    assert seen.facts["http_server"] == "nginx"
    assert "http_location" not in seen.facts
    assert seen.facts["certificate_subject"] == "good"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_the_request_is_the_urls(env: Environment, method: str) -> None:
    asked = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert (await get(env, note, method=method)).ok
    lines = asked[0].decode().lower().splitlines()
    assert lines[0] == f"{method.lower()} /path?a=b http/1.1"
    assert any(line.startswith(f"host: {NAME}:") for line in lines)
    assert "connection: close" in lines
    assert ("content-length: 0" in lines) is (method == "POST")
    assert not any(line.startswith(("cookie", "accept-encoding", "referer")) for line in lines)


async def test_in_the_clear_any_status_will_do_where_none_is_expected(env: Environment) -> None:
    seen = await get(env, say(response("503 Service Unavailable")))
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.EXCHANGE]
    assert "certificate_subject" not in seen.facts


@pytest.mark.parametrize("secured", [True, False])
async def test_another_status_works_over_tls_only(
    env: Environment, good: Certificate, secured: bool
) -> None:
    """Over a valid chain the server itself spoke; in the clear anybody may have."""
    tls = good.server() if secured else None
    seen = await get(env, say(response("403 Forbidden")), tls, expect_status=(200, 204))
    assert seen.failed.step is Step.EXCHANGE
    assert seen.failed.failure is Failure.HTTP_STATUS
    assert seen.facts["http_status"] == 403
    assert seen.works is secured


async def test_the_expected_status_and_body_work(env: Environment) -> None:
    seen = await get(env, say(response()), expect_status=(204, 200), expect_body="ell")
    assert seen.ok


async def test_another_body_is_a_bad_reply(env: Environment) -> None:
    seen = await get(env, say(response(body=b"portal")), expect_body="success")
    assert seen.failed.failure is Failure.BAD_REPLY
    assert seen.facts["http_status"] == 200
    assert not seen.works


async def test_the_body_is_asked_for_in_plain(env: Environment) -> None:
    """A server that compresses for who allows it must not hide the expected text."""

    async def compress(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"gzip" in asked:
            writer.write(response(body=gzip.compress(b"success"), Content_Encoding="gzip"))
        else:
            writer.write(response(body=b"success"))

    assert (await get(env, compress, expect_body="success")).ok


async def test_no_redirect_is_followed(env: Environment, good: Certificate) -> None:
    async with tcp_server(say(response())) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/blocked"
        seen = await get(env, say(response("302 Found", Location=location)), good.server())
    assert seen.ok
    assert seen.facts["http_status"] == 302
    assert seen.facts["http_location"] == location
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "location", ["http://[::1", "http://a b\x07:99999999/", "//", "http://" + "x" * 70000, "\udcff"]
)
async def test_a_location_that_is_no_url_is_a_text_like_any(
    env: Environment, location: str
) -> None:
    seen = await get(env, say(response("302 Found", Location=location)))
    assert seen.ok or seen.failed.failure is Failure.BAD_REPLY
    if seen.ok:
        assert seen.facts["http_status"] == 302


async def test_no_cookie_outlives_its_run(env: Environment) -> None:
    asked = []

    async def bake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response(Set_Cookie="id=42; Path=/"))

    async with tcp_server(bake) as server:
        probe = HttpsProbe(url=f"http://{NAME}:{server.port}/")
        for _ in range(2):
            assert (await observe(probe, server.port, env, host=NAME)).ok
    assert len(asked) == 2
    assert not any(b"cookie" in request.lower() for request in asked)


async def test_texts_from_the_server_are_cleaned(env: Environment) -> None:
    seen = await get(env, say(response(Server=NASTY)))
    assert_clean(seen.facts["http_server"])
    seen = await get(env, say(response("302 Found", Location=NASTY)))
    assert_clean(seen.facts["http_location"])


async def test_the_servers_clock_is_compared(env: Environment) -> None:
    seen = await get(env, say(response(Date=formatdate(time.time() + 3600, usegmt=True))))
    assert 3590 < seen.facts["clock_offset_seconds"] < 3610


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Xxx 9999 99:99:99 GMT"])
async def test_a_date_that_is_none_is_left_out(env: Environment, date: str) -> None:
    seen = await get(env, say(response(Date=date)))
    assert seen.ok
    assert "clock_offset_seconds" not in seen.facts


@pytest.mark.parametrize("secured", [True, False])
@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (say_nothing, Failure.TIMEOUT),
        (reset_after_first_bytes, Failure.RESET),
        (close_after_first_bytes, Failure.CLOSED),
        (say(b"HTTP/1.1 200 OK\r\nContent-Le"), Failure.TRUNCATED),
        (say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), Failure.TRUNCATED),
        (
            say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello"),
            Failure.TRUNCATED,
        ),
        (say(b"220 smtp.example ESMTP\r\n\r\n"), Failure.BAD_REPLY),
        (say(b"\x15\x03\x03\0\x02\x02\x28\r\n\r\n"), Failure.BAD_REPLY),
        (say(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"), Failure.BAD_REPLY),
        (say(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), Failure.BAD_REPLY),
        (
            say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            Failure.BAD_REPLY,
        ),
        (say(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 200_000), Failure.OVERSIZED),
        (say(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n" * 1000] * 40), Failure.OVERSIZED),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, good: Certificate, behave: Behaviour, failure: Failure, secured: bool
) -> None:
    seen = await get(env, behave, good.server() if secured else None, timeout=COUNTED)
    assert seen.failed.step is Step.EXCHANGE
    assert seen.failed.failure is failure
    assert not seen.works
    assert seen.failed.detail.isprintable()


async def test_a_port_where_nobody_listens_is_refused(env: Environment) -> None:
    port = closed_port(socket.SOCK_STREAM)
    probe = HttpsProbe(url=f"https://{NAME}:{port}/")
    assert (await observe(probe, port, env, host=NAME)).failed.failure is Failure.REFUSED


async def test_a_bad_certificate_ends_before_the_request(
    env: Environment, authority: Authority
) -> None:
    heard = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))

    misnamed = authority.issue("elsewhere", names=("elsewhere.test",))
    seen = await get(env, note, misnamed.server())
    assert seen.failed.failure is Failure.WRONG_NAME
    assert seen.facts["certificate_names"] == "elsewhere.test"
    assert not any(heard)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"])
async def test_ten_megabytes_are_not_taken(env: Environment, head: bytes) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.read(65536)
        writer.write(head)
        while written < 10_000_000:
            writer.write(b"x" * 16384)
            await writer.drain()
            written += 16384

    seen = await get(env, flood)
    assert seen.ok if head else seen.failed.failure in (Failure.BAD_REPLY, Failure.OVERSIZED)
    # What was read, and what the kernels' buffers hold beside.
    assert written < 9_000_000
    assert env.traffic.received < 9_000_000


async def test_provisional_answers_without_end_are_a_timeout(env: Environment) -> None:
    async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)

    seen = await get(env, go_on, timeout=SHORT)
    assert seen.failed.failure is Failure.TIMEOUT


async def test_a_drop_of_body_at_a_time_is_a_timeout(env: Environment) -> None:
    """The limit is for the whole exchange: a trickle does not renew it."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    seen = await get(env, trickle, timeout=SHORT)
    assert seen.failed.failure is Failure.TIMEOUT


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_partial_run_stops_after_connect(env: Environment, scheme: str) -> None:
    async with tcp_server(say_nothing) as server:
        probe = HttpsProbe(url=f"{scheme}://{NAME}:{server.port}/")
        seen = await observe(probe, server.port, env, host=NAME, partial=True)
    assert [step.step for step in seen.steps] == [Step.CONNECT]
    assert seen.ok


async def test_a_client_certificate_that_is_missed_is_an_alert(
    env: Environment, authority: Authority, good: Certificate
) -> None:
    """With TLS 1.3 the alert comes after the handshake: the server spoke all the same."""
    port = closed_port(socket.SOCK_STREAM)
    command = [need("openssl"), "s_server", "-port", str(port), "-quiet", "-Verify", "1"]
    command += ["-cert", str(good.chain), "-key", str(good.key), "-CAfile", str(authority.root)]
    with running(command, port):
        probe = HttpsProbe(url=f"https://{NAME}:{port}/")
        seen = await observe(probe, port, env, host=NAME)
    assert seen.failed.step is Step.EXCHANGE
    assert seen.failed.failure is Failure.TLS_ALERT
    assert seen.works


async def test_an_authority_of_its_own_is_the_only_one(
    env: Environment, good: Certificate, foreign: Authority
) -> None:
    own = foreign.root.read_text("ascii")
    seen = await get(env, say(response()), foreign.issue("own").server(), authority=own)
    assert seen.ok
    seen = await get(env, say(response()), good.server(), authority=own)
    assert seen.failed.failure is Failure.UNKNOWN_ISSUER
