"""measure: one observation per address; what is not measured is not reported as failed."""

from __future__ import annotations

import asyncio
import socket

import pytest

from probes.dns import DnsProbe
from probes.dtls import DtlsProbe
from probes.https import HttpsProbe
from probes.measure import Memo, measure
from probes.model import Failure, Family, Step
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from probes.turn import TurnProbe
from probes.wire import stun
from tests.probes.certificates import NAME, Certificate
from tests.probes.checks import HERE, PINNED, V4, Courtesy, check, everywhere, names
from tests.probes.programs import in_namespace
from tests.probes.servers import (
    MAPPED,
    TARGET,
    answering,
    closed_port,
    dns_reply,
    say,
    say_nothing,
    silent,
    stun_answers,
    stun_refusal,
    stun_reply,
    tcp_server,
    udp_server,
)

# --- addresses ---


async def test_a_literal_host_is_one_observation_without_a_resolve_step(env: Environment) -> None:
    async with everywhere() as server:
        measured = await measure(check(TcpProbe(), server.port, HERE), env)
    (seen,) = measured.observations
    assert seen.ok
    assert [step.step for step in seen.steps] == [Step.CONNECT]
    assert seen.address == HERE
    assert seen.family == "ipv4"
    assert seen.target is TARGET
    assert not seen.partial
    assert measured.skipped == ()


async def test_every_address_of_a_name_is_one_observation(env: Environment) -> None:
    """Both are pinned, since they are loopback."""
    async with everywhere() as server, names(env, answering(*PINNED)):
        measured = await measure(check(TcpProbe(), server.port, NAME, pinned=PINNED), env)
    assert sorted(seen.address for seen in measured.observations) == list(PINNED)
    for seen in measured.observations:
        assert [step.step for step in seen.steps] == [Step.RESOLVE, Step.CONNECT]
    assert len({seen.id for seen in measured.observations}) == 2
    assert server.connections == 2


async def test_pinned_addresses_are_asked_beside_the_resolved(env: Environment) -> None:
    async with everywhere() as server, names(env, answering(HERE)):
        measured = await measure(check(TcpProbe(), server.port, NAME, pinned=PINNED), env)
    by_address = {seen.address: seen for seen in measured.observations}
    assert set(by_address) == set(PINNED)
    assert by_address[HERE].steps[0].step is Step.RESOLVE
    assert by_address["127.0.0.2"].steps[0].step is Step.CONNECT


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "SERVFAIL", "REFUSED", "NOERROR"])
async def test_pinned_addresses_stay_measurable_when_the_name_is_gone(
    env: Environment, rcode: str
) -> None:
    async with everywhere() as server, names(env, answering(rcode=rcode)):
        measured = await measure(check(TcpProbe(), server.port, NAME, pinned=(HERE,)), env)
    failed, pinned = measured.observations
    assert failed.failed.step is Step.RESOLVE
    assert failed.failed.failure is Failure.NO_ADDRESS
    assert failed.facts["rcode"] == rcode
    assert failed.address is None
    assert pinned.ok
    assert pinned.address == HERE


async def test_one_address_works_and_the_other_does_not(env: Environment) -> None:
    async with tcp_server(say_nothing, host="127.0.0.2") as server:
        measured = await measure(check(TcpProbe(), server.port, pinned=PINNED), env)
    first, second = measured.observations
    assert first.failed.failure is Failure.REFUSED
    assert second.ok


LIES = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::ffff:127.0.0.1", "169.254.169.254"]


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_never_connected_to(env: Environment, lie: str) -> None:
    async with everywhere() as server, names(env, answering(lie)):
        measured = await measure(check(TcpProbe(), server.port, NAME), env)
    (seen,) = measured.observations
    assert seen.failed.step is Step.RESOLVE
    assert seen.failed.failure is Failure.BAD_ANSWER
    assert seen.address == lie
    assert server.connections == 0
    assert "sent" not in seen.facts


def test_a_lie_about_any_address_of_this_host_is_never_connected_to(env: Environment) -> None:
    """The same with the addresses really there, in a namespace; the pinned one is asked."""
    lies = ["10.1.1.1", "169.254.169.254", "192.168.7.7", "198.51.100.4", "fc00::7", "2001:db8::4"]

    async def scenario() -> None:
        env.own.local = frozenset({"198.51.100.4", "2001:db8::4"})
        async with (
            tcp_server(say_nothing, host="0.0.0.0", port=443) as four,
            tcp_server(say_nothing, host="::1", port=443) as six,
            names(env, answering(*lies, "198.51.100.9")),
        ):
            measured = await measure(check(TcpProbe(), 443, NAME, pinned=("10.1.1.1",)), env)
            assert four.connections == 2
            assert six.connections == 0
        works = {seen.address for seen in measured.observations if seen.ok}
        assert works == {"10.1.1.1", "198.51.100.9"}
        lied = [s for s in measured.observations if not s.ok]
        assert all(seen.failed.failure is Failure.BAD_ANSWER for seen in lied)
        assert len(lied) == 5
        # This host's own addresses are no facts, also when a resolver names them.
        assert {s.address for s in lied} == {"169.254.169.254", "192.168.7.7", "fc00::7", None}

    addresses = [*lies, "198.51.100.9"]
    in_namespace(scenario, *(f"ip address add {a} dev lo nodad" for a in addresses))


async def test_pins_of_one_target_do_not_vouch_for_another(env: Environment) -> None:
    """Both ask for one name in one round; only the first file names the loopback address."""
    async with everywhere() as server, names(env, answering(HERE)):
        memo = Memo()
        pinned = check(TcpProbe(), server.port, NAME, pinned=(HERE,))
        assert (await measure(pinned, env, memo=memo)).observations[0].ok
        (seen,) = (await measure(check(TcpProbe(), server.port, NAME), env, memo=memo)).observations
    assert seen.failed.failure is Failure.BAD_ANSWER
    assert server.connections == 1


# --- families ---


async def test_a_family_that_is_not_wanted_is_not_measured(env: Environment) -> None:
    async with tcp_server(say_nothing, host="::1") as server:
        both = check(TcpProbe(), server.port, pinned=("::1", HERE))
        everything = await measure(both, env)
        measured = await measure(both, env, families=V4)
        only = await measure(
            check(TcpProbe(), server.port, pinned=("::1", HERE), family=Family.IPV6), env
        )
    assert [seen.family for seen in everything.observations] == ["ipv6", "ipv4"]
    assert [seen.family for seen in measured.observations] == ["ipv4"]
    assert [seen.family for seen in only.observations] == ["ipv6"]
    assert only.observations[0].ok
    assert measured.skipped == ()


def test_ipv6_without_a_route_is_not_measured(env: Environment) -> None:
    async def scenario() -> None:
        measured = await measure(check(TcpProbe(), 443, pinned=("2001:db8::1", HERE)), env)
        assert [seen.address for seen in measured.observations] == [HERE]

    in_namespace(scenario)


# --- manners ---


async def test_what_manners_forbid_is_skipped_with_its_reason(env: Environment) -> None:
    env.courtesy = Courtesy(refuse={"127.0.0.2": "min_interval"})
    async with everywhere() as server:
        measured = await measure(check(TcpProbe(), server.port, pinned=PINNED), env)
    assert [seen.address for seen in measured.observations] == [HERE]
    assert measured.skipped == ("min_interval",)
    assert server.connections == 1


async def test_manners_are_asked_with_what_will_be_sent(env: Environment) -> None:
    env.courtesy = courtesy = Courtesy()
    async with udp_server(stun_answers) as server:
        await measure(check(StunProbe(), server.port, HERE, timeout=0.3), env)
        assert courtesy.asked == [(HERE, server.port, "stun", 5)]
    async with everywhere() as tcp:
        await measure(check(TlsProbe(), tcp.port, HERE), env, partial=True)
    assert courtesy.asked[1:] == [(HERE, tcp.port, "tcp", 1)]


async def test_a_handshake_that_manners_forbid_is_skipped(env: Environment) -> None:
    class Spent(Courtesy):
        async def handshake(self, address: str, name: str) -> None:
            raise NotMeasured("handshake_rate")

    env.courtesy = Spent()
    async with everywhere() as server:
        measured = await measure(check(TlsProbe(), server.port, HERE), env)
    assert measured.observations == ()
    assert measured.skipped == ("handshake_rate",)


# --- our own addresses ---

LEAKS = [
    MAPPED,
    f"your address is {MAPPED}:4242",
    f"<{MAPPED}>",
    f"ip:{MAPPED}",
    f"::ffff:{MAPPED}",
]


@pytest.mark.parametrize("text", LEAKS)
async def test_the_mapped_address_is_no_fact_from_the_first_run_on(
    env: Environment, text: str
) -> None:
    """A server that tells us where we are: in the answer's field, and in its free texts."""
    extra = (stun.SOFTWARE, text.encode()), (stun.REALM, text.encode())
    async with udp_server(lambda n, data: [stun_reply(data, *extra)]) as server:
        measured = await measure(check(StunProbe(), server.port, HERE, timeout=0.3), env)
    (seen,) = measured.observations
    assert seen.ok
    assert measured.mapped == {MAPPED}
    assert "[vantage]" in seen.facts["software"]
    assert MAPPED not in str(seen)


async def test_known_addresses_are_in_no_fact_and_no_detail(
    env: Environment, good: Certificate
) -> None:
    env.own.mapped.add(MAPPED)
    env.own.local = frozenset({"192.0.2.44"})
    seen = []
    text = f"{MAPPED} 192.0.2.44:80".encode()
    realm = (stun.REALM, text)

    async def challenge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(stun_refusal(await reader.readexactly(28), 401, realm))

    async with tcp_server(challenge) as relay:
        probe = TurnProbe(transport="tcp", realm="relay.test")
        seen.append(await measure(check(probe, relay.port, HERE), env))
    assert "[vantage]" in seen[0].observations[0].failed.detail
    page = f"HTTP/1.1 302 Found\r\nLocation: http://block/?ip={MAPPED}&x=192.0.2.44\r\n"
    page += f"Server: proxy at 192.0.2.44:80 for {MAPPED}:99\r\nContent-Length: 0\r\n\r\n"
    async with tcp_server(say(page.encode())) as tcp:
        url = f"http://{HERE}:{tcp.port}/"
        seen.append(await measure(check(HttpsProbe(url=url), tcp.port, HERE), env))
    async with udp_server(answering(MAPPED, f"::ffff:{MAPPED}")) as server:
        for kind in ("A", "AAAA"):
            probe = DnsProbe(query=NAME, type=kind, resolver=HERE)
            seen.append(await measure(check(probe, server.port, HERE, timeout=0.3), env))
    texts = (f'"from {MAPPED}"',)
    async with udp_server(lambda n, data: [dns_reply(data, texts=texts)]) as server:
        probe = DnsProbe(query=NAME, type="TXT", resolver=HERE)
        seen.append(await measure(check(probe, server.port, HERE, timeout=0.3), env))
    for measured in seen:
        assert len(measured.observations) == 1
        assert "[vantage]" in str(measured.observations)
        assert MAPPED not in str(measured.observations)
        assert "192.0.2.44" not in str(measured.observations)


# --- limits ---


async def test_the_timeout_of_a_check_is_that_of_its_steps(env: Environment) -> None:
    port = closed_port(socket.SOCK_DGRAM)
    async with udp_server(silent) as server:
        quick, refused = await asyncio.gather(
            measure(check(DtlsProbe(), server.port, HERE, timeout=0.3), env),
            measure(check(DtlsProbe(), port, HERE, timeout=0.3), env),
        )
    assert quick.observations[0].failed.failure is Failure.TIMEOUT
    assert quick.observations[0].seconds < 2
    assert refused.observations[0].failed.failure is Failure.REFUSED
