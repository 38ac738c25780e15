"""noise: the chain to the pinned root, and one word for each way in which a host is none."""

from __future__ import annotations

import time

import pytest

from probes.model import Failure, Observation, Step
from probes.net.environment import Environment
from probes.noise import NoiseProbe
from tests.lab.noise import DAY, ChatHost, Vault, public_of
from tests.lab.websocket import Upgraded, framed
from tests.probes.certificates import NAME, Certificate
from tests.probes.servers import (
    SHORT,
    Behaviour,
    close_after_first_bytes,
    observe,
    reset_after_first_bytes,
    say,
    say_nothing,
    tcp_server,
)
from tests.probes.talking import echoing, http, talking, without_end

VAULT = Vault()
OTHER = b"\x42" * 32
PINNED = NoiseProbe(root=VAULT.root_hex)


def host(vault: Vault = VAULT, **given: object) -> ChatHost:
    return ChatHost(vault.static, vault.chain(), **given)


async def ask(
    env: Environment, behave: Behaviour, probe: NoiseProbe = PINNED, timeout: float = 5.0
) -> Observation:
    async with tcp_server(behave) as server:
        return await observe(probe, server.port, env, timeout=timeout)


@pytest.mark.parametrize("at_once", [0, 1])
async def test_a_chat_host_answers(env: Environment, at_once: int) -> None:
    seen = await ask(env, talking(host, at_once=at_once))
    assert seen.ok, seen.failed
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.EXCHANGE]
    assert seen.facts["transport"] == "tcp"
    assert seen.facts["hello_bytes"] == 43
    assert seen.facts["hello_acked"] is seen.facts["server_spoke"] is True
    assert seen.facts["chain_not_before"] < time.time() < seen.facts["chain_not_after"]


async def test_nothing_follows_the_servers_hello(env: Environment) -> None:
    """The client's finish would be a login."""
    made: list[ChatHost] = []

    def one() -> ChatHost:
        made.append(host())
        return made[-1]

    assert (await ask(env, talking(one))).ok
    assert [it.greeted for it in made] == [True]
    assert made[0].more == b""


async def test_over_a_websocket(env: Environment, good: Certificate) -> None:
    door = Upgraded(host(), "/ws/chat")
    probe = NoiseProbe("websocket", origin=f"https://{NAME}", root=VAULT.root_hex)
    async with tcp_server(talking(lambda: door, at_once=3), tls=good.server()) as server:
        seen = await observe(probe, server.port, env, host=NAME)
    assert seen.ok, seen.failed
    assert [step.step for step in seen.steps] == [Step.CONNECT, Step.TLS, Step.EXCHANGE]
    assert seen.facts["transport"] == "websocket"
    assert door.fields["origin"] == f"https://{NAME}"


async def test_a_ping_is_answered_meanwhile(env: Environment, good: Certificate) -> None:
    heard = bytearray()

    class Pinging(Upgraded):
        def said(self, data: bytes) -> bytes:
            if self.upgraded:
                heard.extend(data)
            ping = b"" if self.upgraded else framed(b"there?", 0x89)
            return super().said(data) + ping

    probe = NoiseProbe("websocket", root=VAULT.root_hex)
    behave = talking(lambda: Pinging(host(), "/ws/chat"))
    async with tcp_server(behave, tls=good.server()) as server:
        assert (await observe(probe, server.port, env, host=NAME)).ok
    assert heard[0] == 0x8A or b"\x8a\x86" in heard


async def test_another_header_is_heard_by_its_own_hosts_only(env: Environment) -> None:
    phone = NoiseProbe(header="57410502", root=VAULT.root_hex)
    header = bytes.fromhex("57410502")
    assert (await ask(env, talking(lambda: host(header=header)), phone)).ok
    seen = await ask(env, talking(host), phone, timeout=SHORT)
    assert seen.failed.failure is Failure.TIMEOUT


CHAINS = {
    "another root": (Vault(), Failure.UNKNOWN_ISSUER),
    "forged below the root": (VAULT.but(signs_intermediate=OTHER), Failure.UNKNOWN_ISSUER),
    "a leaf by another": (VAULT.but(signs_leaf=OTHER), Failure.BAD_CERTIFICATE),
    "another host's leaf": (VAULT.but(leaf_key=public_of(OTHER)), Failure.BAD_CERTIFICATE),
    "over": (VAULT.but(leaf_days=(-9, -2)), Failure.EXPIRED),
    "not begun": (VAULT.but(intermediate_days=(2, 9)), Failure.EXPIRED),
}


@pytest.mark.parametrize(("vault", "failure"), CHAINS.values(), ids=CHAINS)
async def test_a_wrong_chain_has_its_word_and_its_dates(
    env: Environment, vault: Vault, failure: Failure
) -> None:
    seen = await ask(env, talking(lambda: host(vault)))
    assert (seen.failed.step, seen.failed.failure) == (Step.EXCHANGE, failure)
    assert not seen.works
    assert seen.facts["chain_not_after"] - time.time() == pytest.approx(
        DAY * min(vault.leaf_days[1], vault.intermediate_days[1]), abs=60
    )


async def test_the_shipped_root_is_not_the_labs(env: Environment) -> None:
    seen = await ask(env, talking(host), NoiseProbe())
    assert seen.failed.failure is Failure.UNKNOWN_ISSUER


def damaged(message: bytes) -> bytes:
    return message[:-1] + bytes([message[-1] ^ 1])


@pytest.mark.parametrize(
    ("behave", "failure", "instead"),
    [
        (say_nothing, Failure.TIMEOUT, None),
        (reset_after_first_bytes, Failure.RESET, None),
        (close_after_first_bytes, Failure.CLOSED, None),
        (echoing, Failure.BAD_REPLY, "echo"),
        (http(stays=True), Failure.BAD_REPLY, "http"),
        (http(stays=False), Failure.BAD_REPLY, "http"),
        (say(bytes.fromhex("15030100020246")), Failure.BAD_REPLY, "tls"),
        (talking(host, cut=2), Failure.TRUNCATED, None),
        (talking(host, cut=200), Failure.TRUNCATED, None),
        (talking(lambda: host(change=damaged)), Failure.BAD_REPLY, None),
        (talking(lambda: host(change=lambda message: b"")), Failure.BAD_REPLY, None),
        (talking(lambda: host(change=lambda message: message[:-9])), Failure.TRUNCATED, None),
    ],
)
async def test_each_misbehaviour_has_its_word(
    env: Environment, behave: Behaviour, failure: Failure, instead: str | None
) -> None:
    seen = await ask(env, behave, timeout=SHORT if failure is Failure.TIMEOUT else 5.0)
    assert (seen.failed.step, seen.failed.failure) == (Step.EXCHANGE, failure)
    assert not seen.works
    assert seen.facts.get("spoke_instead") == instead
    assert seen.facts["hello_acked"] is True


@pytest.mark.parametrize("length", ["ffffff", "100000"])
async def test_sixteen_megabytes_are_not_read(env: Environment, length: str) -> None:
    seen = await ask(env, without_end(bytes.fromhex(length)))
    assert seen.failed.failure is Failure.OVERSIZED
    assert env.traffic.received < 8 << 20, "what the kernel took at the most"


async def test_a_tls_server(env: Environment, good: Certificate) -> None:
    async with tcp_server(say_nothing, tls=good.server()) as server:
        seen = await observe(PINNED, server.port, env)
    assert seen.failed.failure in (Failure.BAD_REPLY, Failure.CLOSED, Failure.RESET)


async def test_a_partial_run_only_connects(env: Environment) -> None:
    async with tcp_server(say_nothing) as server:
        seen = await observe(PINNED, server.port, env, partial=True)
    assert [step.step for step in seen.steps] == [Step.CONNECT]


@pytest.mark.parametrize("root", ["", "14", "xy" * 32])
def test_a_root_is_a_key(root: str) -> None:
    with pytest.raises(ValueError, match=r"root|hexadecimal"):
        NoiseProbe(root=root)


def test_only_a_websocket_says_a_name() -> None:
    assert PINNED.subject("A.test") == ""
    assert NoiseProbe("websocket").subject("A.test") == "a.test"
