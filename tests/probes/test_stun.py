"""stun: five requests, each counted, and one word for each way of not being answered."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time

import pytest

from probes.model import Failure, Observation, Step
from probes.net.environment import Environment
from probes.stun import StunProbe
from probes.transaction import DEADLINE, OFFSETS, RFC_OFFSETS
from probes.wire import stun
from probes.wire.stun import Dress
from tests.probes.certificates import NAME
from tests.probes.conftest import Relay
from tests.probes.programs import firewall, in_namespace
from tests.probes.servers import (
    COUNTED,
    MAPPED,
    NASTY,
    SHORT,
    Answer,
    Later,
    Reply,
    assert_clean,
    clients_of,
    closed_port,
    echo,
    observe,
    silent,
    stun_answers,
    stun_refusal,
    stun_reply,
    udp_server,
    udp_socket,
    until,
)


async def ask(
    env: Environment, answer: Answer, timeout: float = COUNTED, **options: object
) -> Observation:
    async with udp_server(answer) as server:
        return await observe(StunProbe(**options), server.port, env, timeout=timeout)


# --- the requests ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("dress", Dress)
async def test_five_requests_with_ids_of_their_own(
    env: Environment, dress: Dress, host: str
) -> None:
    async with udp_server(stun_answers if dress is not Dress.APP else app_answers, host) as server:
        probe = StunProbe(dress=dress)
        seen = await observe(probe, server.port, env, address=host, timeout=COUNTED)
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.EXCHANGE]
    assert len(server.received) == 5
    assert len({data[4:20] for data in server.received}) == 5
    assert len(set(server.peers)) == 1
    assert seen.facts["requests"] == seen.facts["answered"] == 5
    assert seen.facts["sent"] == seen.facts["received"] == 5
    assert 0 < seen.facts["rtt_min_seconds"] <= seen.facts["rtt_seconds"] < seen.seconds
    assert seen.facts["received_ttl"] == 64
    headers = 48 if ":" in host else 28
    assert env.traffic.sent == sum(len(data) + headers for data in server.received)


def app_answers(_number: int, data: bytes) -> Reply:
    return [stun.encode(stun.APP_KEEPALIVE_ANSWER, data[8:20], [])]


async def test_the_schedule_is_scaled_as_a_whole(env: Environment) -> None:
    came: list[float] = []

    def note(_number: int, data: bytes) -> Reply:
        came.append(time.monotonic())
        return []

    timeout = 1.0
    async with udp_server(note) as server:
        seen = await observe(StunProbe(), server.port, env, timeout=timeout)
    gaps = [later - came[0] for later in came]
    for gap, offset in zip(gaps, OFFSETS, strict=True):
        assert gap == pytest.approx(offset * timeout / DEADLINE, abs=0.2)
    assert gaps == sorted(gaps)
    assert gaps[3] - gaps[2] > 2 * (gaps[2] - gaps[0])  # 0.4 to 1.5, after 0 to 0.4
    assert timeout <= seen.seconds < 2 * timeout
    assert seen.facts["send_lateness_seconds"] < 0.2


async def test_it_ends_when_all_is_answered(env: Environment) -> None:
    """The last request leaves at three quarters of the timeout, and nothing is waited for then."""
    async with udp_server(stun_answers) as server:
        seen = await observe(StunProbe(), server.port, env, timeout=1.0)
    assert seen.seconds < 0.95


# --- the count ---


@pytest.mark.parametrize(
    ("answered", "failure"),
    [
        ((), Failure.TIMEOUT),
        ((0,), Failure.LOSSY),
        ((1, 4), Failure.LOSSY),
        ((0, 2, 4), None),
        ((0, 1, 2, 3), None),
    ],
)
async def test_three_of_five_must_be_answered(
    env: Environment, answered: tuple[int, ...], failure: Failure | None
) -> None:
    seen = await ask(env, lambda n, data: [stun_reply(data)] if n in answered else [])
    assert seen.facts["requests"] == 5
    assert seen.facts["answered"] == len(answered)
    assert seen.facts["sent"] == 5
    assert seen.facts["received"] == len(answered)
    some = 0 < len(answered) < 5
    assert seen.facts.get("answered_first") == (
        answered == tuple(range(len(answered))) if some else None
    )
    assert (seen.failed and seen.failed.failure) == failure
    assert seen.works is (failure is None)
    assert ("rtt_seconds" in seen.facts) is bool(answered)


async def test_duplicates_do_not_make_up_for_losses(env: Environment) -> None:
    seen = await ask(env, lambda n, data: [stun_reply(data)] * 3 if n < 2 else [])
    assert seen.failed.failure is Failure.LOSSY
    assert seen.facts["answered"] == 2
    assert seen.facts["duplicates"] == 4
    assert seen.facts["received"] == 6


async def test_strays_are_counted_beside_the_answers(env: Environment) -> None:
    seen = await ask(env, lambda n, data: [b"stray", stun_reply(data), data])
    assert seen.ok
    assert seen.facts["unexpected"] == 10
    assert seen.facts["received"] == 15


async def test_late_answers_and_reordering_are_matched_by_id(env: Environment) -> None:
    """The first answer is overtaken by the second: each RTT is that of its own request."""
    delays = itertools.chain([COUNTED / 16], itertools.repeat(0.0))
    seen = await ask(env, lambda n, data: [Later(next(delays), stun_reply(data))])
    assert seen.ok
    assert seen.facts["answered"] == 5
    assert seen.facts["rtt_min_seconds"] < COUNTED / 16


async def test_the_rtt_is_the_kernels(env: Environment) -> None:
    """A loop that is busy when the answers arrive does not make the path slower."""
    busy = 0.05

    def answer_and_block(_number: int, data: bytes) -> Reply:
        asyncio.get_running_loop().call_soon(time.sleep, busy)
        return [stun_reply(data)]

    async with udp_server(answer_and_block) as server:
        seen = await observe(StunProbe(), server.port, env, timeout=1.6)
    assert seen.ok
    assert seen.facts["rtt_seconds"] < busy / 2


async def test_an_error_with_our_id_is_an_answer(env: Environment) -> None:
    seen = await ask(env, lambda n, data: [stun_refusal(data, 420, (stun.REALM, b"r.test"))])
    assert seen.ok
    assert seen.facts["error_code"] == 420
    assert seen.facts["realm"] == "r.test"


async def test_rfc_timers_repeat_one_request_until_one_answer(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.transaction.RFC_OFFSETS", tuple(o / 10 for o in RFC_OFFSETS))
    async with udp_server(lambda n, data: [stun_reply(data)] if n == 2 else []) as server:
        seen = await observe(StunProbe(), server.port, env, rfc_timers=True)
    assert seen.ok
    assert len(server.received) == 3
    assert len(set(server.received)) == 1
    assert seen.facts["requests"] == 3
    assert seen.facts["answered"] == 1
    assert "rtt_seconds" not in seen.facts  # which of the three was answered is not to be known
    assert seen.seconds < RFC_OFFSETS[3] / 10  # it waits for nothing more


async def test_rfc_timers_time_an_answer_to_the_first_request(env: Environment) -> None:
    async with udp_server(stun_answers) as server:
        seen = await observe(StunProbe(), server.port, env, rfc_timers=True)
    assert len(server.received) == 1
    assert seen.facts["rtt_seconds"] < seen.seconds


async def test_rfc_timers_give_up_after_seven(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.transaction.RFC_OFFSETS", tuple(o / 200 for o in RFC_OFFSETS))
    monkeypatch.setattr("probes.transaction.RFC_DEADLINE", 0.2)
    async with udp_server(silent) as server:
        seen = await observe(StunProbe(), server.port, env, rfc_timers=True)
    assert seen.failed.failure is Failure.TIMEOUT
    assert len(server.received) == 7


# --- the words, UDP ---


def truncate(_number: int, data: bytes) -> Reply:
    return [stun_reply(data)[:-3]]


def announce_too_much(_number: int, data: bytes) -> Reply:
    reply = stun_reply(data)
    return [reply[:2] + b"\xff\xfc" + reply[4:]]


def grow(_number: int, data: bytes) -> Reply:
    return [stun_reply(data, (stun.SOFTWARE, b"x" * 60_000))]


def forge_id(_number: int, data: bytes) -> Reply:
    return [stun_reply(data[:8] + bytes(12))]


def omit_address(_number: int, data: bytes) -> Reply:
    return [stun.encode(stun.BINDING_SUCCESS, data[8:20], [])]


@pytest.mark.parametrize("dress", [Dress.BARE, Dress.RFC3489])
@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (silent, Failure.TIMEOUT),
        (echo, Failure.BAD_REPLY),
        (lambda n, data: [b"garbage " * 9], Failure.BAD_REPLY),
        (omit_address, Failure.BAD_REPLY),
        (forge_id, Failure.WRONG_ID),
        (truncate, Failure.TRUNCATED),
        (lambda n, data: [b""], Failure.TRUNCATED),
        (announce_too_much, Failure.OVERSIZED),
        (grow, Failure.OVERSIZED),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, answer: Answer, failure: Failure, dress: Dress
) -> None:
    seen = await ask(env, answer, COUNTED, dress=dress)
    assert seen.failed.step is Step.EXCHANGE
    if dress is Dress.RFC3489 and answer is omit_address:
        failure = Failure.WRONG_ID  # it answers with a cookie that was not in the request's id
    assert seen.failed.failure is failure
    assert not seen.works
    assert seen.facts["answered"] == 0
    assert seen.facts["requests"] == 5
    assert ("unexpected" in seen.facts) is (answer is not silent)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_closed_port_is_refused_before_the_deadline(env: Environment, host: str) -> None:
    port = closed_port(socket.SOCK_DGRAM, host)
    seen = await observe(StunProbe(), port, env, address=host, timeout=1.0)
    assert seen.failed.failure is Failure.REFUSED
    assert seen.facts["requests"] == seen.facts["icmp_errors"] == 5
    assert seen.failed.detail == "5 ICMP errors came to 5 requests"
    assert seen.facts["icmp_from_target"] is True
    assert seen.seconds < 0.95


async def test_an_icmp_error_does_not_swallow_the_next_request(env: Environment) -> None:
    """The socket reports the error in place of the next send: that one is sent all the same."""
    port = closed_port(socket.SOCK_DGRAM)
    received = []

    async def open_late() -> None:
        await until(lambda: clients_of(port))
        with udp_socket(port=port) as sock:
            while len(received) < 4:
                received.append(await asyncio.get_running_loop().sock_recv(sock, 2048))

    task = asyncio.create_task(open_late())
    seen = await observe(StunProbe(), port, env, timeout=1.0)
    await task
    assert seen.facts["requests"] == 5
    assert seen.facts["icmp_errors"] == 1
    assert len({data[4:20] for data in received}) == 4


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("icmp type admin-prohibited", Failure.PROHIBITED),
        ("icmp type host-unreachable", Failure.UNREACHABLE),
        ("icmp type port-unreachable", Failure.REFUSED),
    ],
)
def test_a_rejecting_filter_is_known_by_its_code(
    env: Environment, code: str, failure: Failure
) -> None:
    """The filter is on the way in, so that the host's own send succeeds."""

    async def scenario() -> None:
        seen = await observe(StunProbe(), 9, env, timeout=SHORT)
        assert seen.failed.failure is failure
        assert seen.facts["icmp_errors"] == 5

    rule = f"add rule inet test in ip protocol udp udp dport 9 reject with {code}"
    chain = "add chain inet test in { type filter hook input priority 0 ; }"
    in_namespace(scenario, "nft add table inet test", f"nft '{chain}'", f"nft '{rule}'")


def test_the_hosts_own_firewall_is_blocked_locally(env: Environment) -> None:
    async def scenario() -> None:
        seen = await observe(StunProbe(), 9, env, timeout=SHORT)
        assert seen.failed.failure is Failure.BLOCKED_LOCALLY
        assert seen.facts["requests"] == 0
        assert seen.facts["sent"] == 0

    in_namespace(scenario, *firewall("udp dport 9 drop"))


def test_no_route_is_unreachable(env: Environment) -> None:
    async def scenario() -> None:
        for address in ("198.51.100.1", "2001:db8::1"):
            seen = await observe(StunProbe(), 9, env, address=address, timeout=SHORT)
            assert seen.failed.failure is Failure.UNREACHABLE

    in_namespace(scenario)


def test_datagrams_lost_in_a_filter_are_lossy(env: Environment) -> None:
    async def scenario() -> None:
        async with udp_server(stun_answers, port=3478) as server:
            seen = await observe(StunProbe(), server.port, env, timeout=COUNTED)
        assert seen.failed.failure is Failure.LOSSY
        assert seen.facts["answered"] == len(server.received) == 1

    chain = "add chain inet test in { type filter hook input priority 0 ; }"
    rule = "add rule inet test in udp dport 3478 numgen inc mod 5 != 2 drop"
    in_namespace(scenario, "nft add table inet test", f"nft '{chain}'", f"nft '{rule}'")


async def test_a_flood_of_datagrams_is_bounded(env: Environment) -> None:
    """Nobody makes us keep what we did not ask for: the rest is counted and dropped."""
    sent = 0

    async def flood(port: int) -> None:
        nonlocal sent
        await until(lambda: clients_of(port))
        client = ("127.0.0.1", clients_of(port)[0])
        while sent < 2000:
            server._send(b"x" * 20_000, client)
            sent += 1
            await asyncio.sleep(0)

    async with udp_server(silent) as server:
        task = asyncio.create_task(flood(server.port))
        seen = await observe(StunProbe(), server.port, env, timeout=1.0)
        await task
    assert seen.failed.failure is Failure.OVERSIZED
    assert seen.facts["received"] > 500
    assert seen.facts["unexpected"] <= 256
    assert env.traffic.received > 500 * 20_000


# --- texts ---


async def test_texts_are_cleaned_and_our_address_is_no_fact(env: Environment) -> None:
    nasty = NASTY.encode()[:700]
    extra = [
        (stun.ERROR_CODE, b"\0\0\x04\x01" + nasty),
        (stun.REALM, nasty),
        (stun.SOFTWARE, nasty),
    ]
    seen = await ask(env, lambda n, data: [stun_refusal(data, 401, *extra[1:])])
    assert seen.ok
    assert_clean(seen.facts["realm"])
    assert_clean(seen.facts["software"])
    seen = await ask(env, stun_answers)
    assert not any(MAPPED in str(fact) for fact in seen.facts.values())


# --- a real server ---


@pytest.mark.parametrize(
    ("transport", "dress"),
    [
        # coturn finds a message on a stream by its cookie, which RFC 3489 has not.
        ("udp", Dress.RFC3489),
        *itertools.product(("udp", "tcp", "tls"), (Dress.BARE, Dress.ICE)),
    ],
)
async def test_coturn_answers(env: Environment, relay: Relay, dress: Dress, transport: str) -> None:
    port = relay.tls_port if transport == "tls" else relay.port
    probe = StunProbe(transport=transport, dress=dress)
    seen = await observe(
        probe, port, env, host=NAME, timeout=COUNTED if transport == "udp" else 5.0
    )
    assert seen.ok, seen.failed
