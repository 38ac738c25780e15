"""measure, several times in a round: what is asked once for all, and how runs end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from probes.https import HttpsProbe
from probes.measure import Check, Memo, measure
from probes.model import Step
from probes.net.environment import Environment
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from probes.trail import Peer, Trail
from probes.wire import stun
from tests.probes.certificates import NAME, Certificate
from tests.probes.checks import HERE, PINNED, Courtesy, check, everywhere, names
from tests.probes.servers import (
    answering,
    our_tasks,
    say_nothing,
    silent,
    stun_answers,
    tcp_server,
    udp_server,
    until,
)

# --- partial runs, sharing ---


async def test_a_partial_run_says_so(env: Environment) -> None:
    async with everywhere() as server:
        measured = await measure(check(TlsProbe(), server.port, HERE), env, partial=True)
    (seen,) = measured.observations
    assert seen.partial
    assert [step.step for step in seen.steps] == [Step.CONNECT]


async def shared(
    env: Environment, *checks: Check, partial: bool = False
) -> list[tuple[bool, bool]]:
    """Whether each check's only observation is ok, and whether it is another's."""
    memo = Memo()
    measured = await asyncio.gather(*(measure(c, env, memo=memo, partial=partial) for c in checks))
    pairs = [(m.observations[0].ok, "shared" in m.observations[0].facts) for m in measured]
    ids = {m.observations[0].id for m in measured}
    assert len(ids) == len(checks)
    return pairs


async def test_two_names_at_one_address_are_one_connection(env: Environment) -> None:
    env.courtesy = courtesy = Courtesy()
    async with everywhere() as server, names(env, answering(HERE)):
        one = check(TcpProbe(), server.port, "one.test", pinned=(HERE,))
        two = check(TcpProbe(), server.port, "two.test", pinned=(HERE,))
        assert await shared(env, one, two) == [(True, False), (True, True)]
    assert server.connections == 1
    assert len(courtesy.asked) == 1


async def test_two_names_at_one_relay_are_one_run(env: Environment) -> None:
    """Over UDP nothing that is sent knows the name; a second run would only spend the manners."""
    async with udp_server(stun_answers) as server, names(env, answering(HERE)):
        checks = [
            check(StunProbe(), server.port, name, pinned=(HERE,), timeout=0.3)
            for name in ("one.test", "two.test")
        ]
        assert await shared(env, *checks) == [(True, False), (True, True)]
        assert len(server.received) == 5


async def test_partial_runs_share_a_connection_whatever_they_lead_to(env: Environment) -> None:
    async with everywhere() as server, names(env, answering(HERE)):
        checks = [
            check(TlsProbe(), server.port, "one.test", pinned=(HERE,)),
            check(HttpsProbe(url="https://two.test/"), server.port, "two.test", pinned=(HERE,)),
        ]
        pairs = await shared(env, *checks, partial=True)
    assert pairs == [(True, False), (True, True)]
    assert server.connections == 1


async def test_two_names_over_tls_are_two_handshakes(env: Environment, good: Certificate) -> None:
    """The name is part of the question."""
    heard = []
    tls = good.server()
    tls.sni_callback = lambda _sock, name, _context: heard.append(name)
    async with tcp_server(say_nothing, tls=tls) as server, names(env, answering(HERE)):
        checks = [
            check(TlsProbe(), server.port, name, pinned=(HERE,)) for name in (NAME, "other.test")
        ]
        assert await shared(env, *checks) == [(True, False), (False, False)]
    assert sorted(heard) == [NAME, "other.test"]


async def test_other_options_are_another_question(env: Environment) -> None:
    async with udp_server(stun_answers) as server:
        checks = [
            check(StunProbe(dress=dress), server.port, HERE, timeout=0.3)
            for dress in (stun.Dress.BARE, stun.Dress.ICE)
        ]
        assert await shared(env, *checks) == [(True, False), (True, False)]
        assert len(server.received) == 10


async def test_one_name_is_asked_for_once_in_a_round(env: Environment) -> None:
    async with everywhere() as server, names(env, answering(HERE)) as queries:
        checks = [
            check(probe, server.port, host, pinned=(HERE,))
            for probe, host in ((TcpProbe(), NAME), (TlsProbe(), NAME.upper()))
        ]
        memo = Memo()
        await asyncio.gather(*(measure(c, env, memo=memo, partial=True) for c in checks))
        assert len(queries) == 2  # A and AAAA


# --- endings ---


async def test_a_cancelled_run_reports_nothing_and_stops_sending(env: Environment) -> None:
    async with udp_server(silent) as server:
        task = asyncio.create_task(measure(check(StunProbe(), server.port, HERE, timeout=0.4), env))
        await until(lambda: server.received)
        task.cancel()
        await ends_at_once(task, server.received)


async def ends_at_once(task: asyncio.Task[Any], received: Sequence[bytes]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task
    sent = len(received)
    await asyncio.sleep(0.4)
    assert len(received) == sent < 5
    assert not our_tasks()


async def test_a_cancelled_lookup_stops_sending(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.net.nameserver.RESEND", (0.0, 0.1, 0.2, 0.3))
    async with names(env, silent) as queries:
        task = asyncio.create_task(measure(check(TcpProbe(), 9, NAME), env))
        await until(lambda: len(queries) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.25)
        assert len(queries) == 2
    assert not our_tasks()


async def test_a_cancelled_memo_ends_every_run_of_the_round(env: Environment) -> None:
    memo = Memo()
    async with udp_server(silent) as server:
        work = measure(check(StunProbe(), server.port, HERE, timeout=0.4), env, memo=memo)
        task = asyncio.create_task(work)
        await until(lambda: server.received)
        memo.cancel()
        await ends_at_once(task, server.received)


async def test_nobody_begins_anew_what_a_cancelled_memo_ended(env: Environment) -> None:
    memo = Memo()
    async with udp_server(silent) as server:
        question = check(StunProbe(), server.port, HERE, timeout=0.4)
        first, second = (asyncio.create_task(measure(question, env, memo=memo)) for _ in "ab")
        await until(lambda: server.received)
        memo.cancel()
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done)
        sent = len(server.received)
        await asyncio.sleep(0.4)
        assert len(server.received) == sent
    assert not our_tasks()


async def test_one_cancelled_target_leaves_a_shared_run_to_the_others(env: Environment) -> None:
    memo = Memo()
    async with udp_server(stun_answers) as server:
        question = check(StunProbe(), server.port, HERE, timeout=0.3)
        first = asyncio.create_task(measure(question, env, memo=memo))
        second = asyncio.create_task(measure(question, env, memo=memo))
        await until(lambda: server.received)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).observations[0].ok


@dataclass(frozen=True, slots=True)
class Buggy:
    """A probe with a bug of ours in it."""

    kind: ClassVar[str] = "buggy"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = False
    bytes_per_run: ClassVar[int] = 1

    def subject(self, host: str) -> str:
        return ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with trail.step(Step.EXCHANGE, 1.0):
            raise KeyError("ours")


async def test_a_bug_escapes(env: Environment) -> None:
    with pytest.raises(KeyError, match="ours"):
        await measure(check(Buggy(), 9, pinned=PINNED), env)
    assert not our_tasks()
