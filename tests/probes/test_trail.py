"""One place turns errors into words; a bug or a cancellation never becomes one."""

from __future__ import annotations

import asyncio
import errno
import ssl

import pytest

from probes.model import Failure, Observation, Step, StepResult
from probes.net.environment import Environment
from probes.net.errors import NotMeasured, Refusal
from probes.trail import StepFailed, Trail, classify
from probes.wire.error import WireError
from tests.probes.servers import TARGET


def ssl_error(reason: str | None, text: str = "") -> ssl.SSLError:
    error = ssl.SSLError(1, text or f"[SSL: {reason}] (_ssl.c:1)")
    error.reason = reason
    return error


def verify_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (TimeoutError(), Failure.TIMEOUT),
        (OSError(errno.ETIMEDOUT, ""), Failure.TIMEOUT),
        (OSError(errno.ECONNREFUSED, ""), Failure.REFUSED),
        (OSError(errno.ECONNRESET, ""), Failure.RESET),
        (OSError(errno.ECONNABORTED, ""), Failure.RESET),
        (OSError(errno.EPIPE, ""), Failure.CLOSED),
        (EOFError(), Failure.CLOSED),
        (ssl.SSLEOFError(8, ""), Failure.CLOSED),
        (ssl.SSLZeroReturnError(6, ""), Failure.CLOSED),
        (OSError(errno.EHOSTUNREACH, ""), Failure.UNREACHABLE),
        (OSError(errno.ENETUNREACH, ""), Failure.UNREACHABLE),
        (OSError(errno.ENETDOWN, ""), Failure.UNREACHABLE),
        (OSError(errno.EADDRNOTAVAIL, ""), Failure.UNREACHABLE),
        (OSError(errno.EINVAL, ""), Failure.UNREACHABLE),
        (OSError(errno.EPERM, ""), Failure.BLOCKED_LOCALLY),
        (OSError(errno.EACCES, ""), Failure.BLOCKED_LOCALLY),
        (OSError(errno.EMFILE, ""), Failure.OTHER),
        (OSError("no number"), Failure.OTHER),
        (WireError(Failure.WRONG_ID, ""), Failure.WRONG_ID),
        (Refusal(Failure.PROHIBITED, ""), Failure.PROHIBITED),
        (verify_error(9), Failure.EXPIRED),
        (verify_error(10), Failure.EXPIRED),
        (verify_error(62), Failure.WRONG_NAME),
        (verify_error(64), Failure.WRONG_NAME),
        (verify_error(2), Failure.UNKNOWN_ISSUER),
        (verify_error(18), Failure.UNKNOWN_ISSUER),
        (verify_error(19), Failure.UNKNOWN_ISSUER),
        (verify_error(20), Failure.UNKNOWN_ISSUER),
        (verify_error(21), Failure.UNKNOWN_ISSUER),
        (verify_error(23), Failure.BAD_CERTIFICATE),
        (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), Failure.TLS_ALERT),
        (ssl_error("TLSV1_ALERT_PROTOCOL_VERSION"), Failure.TLS_ALERT),
        (ssl_error("TLSV1_UNRECOGNIZED_NAME"), Failure.TLS_ALERT),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Failure.TLS_ALERT),
        (ssl_error(None, "[SSL] tlsv1 alert no application protocol"), Failure.TLS_ALERT),
        (ssl_error(None, "[SSL] unknown error"), Failure.BAD_REPLY),
        (ssl_error("WRONG_VERSION_NUMBER"), Failure.BAD_REPLY),
        (ssl_error("HTTP_REQUEST"), Failure.BAD_REPLY),
        (ssl_error("UNKNOWN_ALERT_TYPE"), Failure.BAD_REPLY),
        (ssl_error("INVALID_ALERT"), Failure.BAD_REPLY),
        (ssl_error("TOO_MANY_WARN_ALERTS"), Failure.BAD_REPLY),
        (KeyError("a bug"), Failure.OTHER),
    ],
    ids=repr,
)
def test_each_error_has_its_word(error: BaseException, failure: Failure) -> None:
    assert classify(error) is failure


# All of OpenSSL's words for alerts that it received (sslerr.h, SSL_AD_REASON_OFFSET) which do not
# begin as the others do.
@pytest.mark.parametrize(
    "word",
    [
        "UNSUPPORTED_EXTENSION",
        "CERTIFICATE_UNOBTAINABLE",
        "UNRECOGNIZED_NAME",
        "BAD_CERTIFICATE_STATUS_RESPONSE",
        "BAD_CERTIFICATE_HASH_VALUE",
    ],
)
def test_every_alert_that_openssl_names_is_an_alert(word: str) -> None:
    assert classify(ssl_error(f"TLSV1_{word}")) is Failure.TLS_ALERT


async def test_a_step_is_timed_and_kept(env: Environment) -> None:
    trail = Trail(env)
    async with trail.step(Step.CONNECT, 1.0):
        await asyncio.sleep(0.01)
    assert [(s.step, s.failure) for s in trail.steps] == [(Step.CONNECT, None)]
    assert trail.steps[0].seconds >= 0.01


async def test_a_step_over_its_limit_is_a_timeout(env: Environment) -> None:
    trail = Trail(env)
    with pytest.raises(StepFailed):
        async with trail.step(Step.TLS, 0.01):
            await asyncio.sleep(5)
    assert trail.steps[0].failure is Failure.TIMEOUT
    assert 0.01 <= trail.steps[0].seconds < 5


async def test_a_network_error_ends_the_run_with_its_cause(env: Environment) -> None:
    trail = Trail(env)
    with pytest.raises(StepFailed) as caught:
        async with trail.step(Step.EXCHANGE, 1.0):
            raise ConnectionResetError(errno.ECONNRESET, "their words")
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert trail.steps[0].failure is Failure.RESET
    assert "their words" in trail.steps[0].detail


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), ValueError("x"), AssertionError("x"), NotMeasured("x")]
)
async def test_a_bug_escapes_and_leaves_no_step(env: Environment, error: Exception) -> None:
    trail = Trail(env)
    with pytest.raises(type(error)):
        async with trail.step(Step.EXCHANGE, 1.0):
            raise error
    assert trail.steps == []


async def test_a_cancelled_step_is_no_step(env: Environment) -> None:
    trail = Trail(env)

    async def run() -> None:
        async with trail.step(Step.EXCHANGE, 5.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trail.steps == []


def test_packets_and_bytes_add_up(env: Environment) -> None:
    trail = Trail(env)
    trail.count(1, 2, 30, 40)
    trail.count(10, 20, 300, 400)
    assert (trail.facts["sent"], trail.facts["received"]) == (11, 22)
    assert (env.traffic.sent, env.traffic.received) == (330, 440)


@pytest.mark.parametrize(
    ("steps", "works"),
    [
        ([(Step.CONNECT, None), (Step.TLS, None), (Step.EXCHANGE, None)], True),
        ([(Step.CONNECT, None), (Step.TLS, Failure.TLS_ALERT)], True),
        ([(Step.TLS, None), (Step.EXCHANGE, Failure.HTTP_STATUS)], True),
        ([(Step.CONNECT, None), (Step.EXCHANGE, Failure.HTTP_STATUS)], False),
        ([(Step.CONNECT, None), (Step.TLS, Failure.WRONG_NAME)], False),
        ([(Step.EXCHANGE, Failure.LOSSY)], False),
        ([(Step.RESOLVE, Failure.BAD_ANSWER)], False),
    ],
)
def test_a_target_works_when_its_server_spoke(
    steps: list[tuple[Step, Failure | None]], works: bool
) -> None:
    results = tuple(StepResult(step, 0.1, failure) for step, failure in steps)
    seen = Observation("", TARGET, 0.0, results, {})
    assert seen.works is works
    assert seen.ok is (steps[-1][1] is None)
