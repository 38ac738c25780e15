"""/probe: what may be asked, what may not, and that nothing leads around the list."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.adhoc import AdHoc, AllowList
from agent.manners import Limits, Manners
from config.loader import load
from exporters.feed import ProbeAnswer
from probes.model import Step
from probes.net import resolver
from probes.net.address import OwnAddresses
from probes.net.environment import Environment, Traffic
from tests.probes.certificates import NAME, Authority
from tests.probes.servers import answering, say, stun_answers, tcp_server, udp_server, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MOVED = (
    b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("allow", "address", "own", "named", "allowed"),
    [
        ("192.0.2.0/24", "192.0.2.7", False, False, True),
        ("192.0.2.0/24", "192.0.3.7", False, False, False),
        ("192.0.2.0/24:443", "192.0.2.7", False, False, False),
        ("192.0.2.0/24:80", "192.0.2.7", False, False, True),
        ("0.0.0.0/0", "198.51.100.1", False, False, True),
        ("0.0.0.0/0", "169.254.169.254", False, False, False),  # the cloud's metadata
        ("0.0.0.0/0", "127.0.0.1", False, False, False),
        ("0.0.0.0/0", "10.0.0.1", False, False, False),
        ("0.0.0.0/0", "100.64.0.1", False, False, False),
        ("10.0.0.0/8", "10.0.0.1", False, False, True),
        ("10.0.0.0/8", "::ffff:10.0.0.1", False, False, True),  # one address in two spellings
        ("0.0.0.0/0", "::ffff:10.0.0.1", False, False, False),
        ("::/0", "::ffff:10.0.0.1", False, False, False),
        ("::/0", "2002:7f00:1::1", False, False, False),
        ("::/0", "::ffff:0:127.0.0.1", False, False, False),
        ("0.0.0.0/0", "::ffff:100.100.100.200", False, False, False),  # another one's metadata
        ("0.0.0.0/0", "64:ff9b::6464:64c8", False, False, False),
        ("example.org", "::ffff:100.100.100.200", False, True, False),
        ("0.0.0.0/0", "192.0.0.192", False, False, False),
        ("192.0.0.192", "192.0.0.192", False, False, True),
        ("0.0.0.0/0", "168.63.129.16", False, False, False),
        ("example.org", "168.63.129.16", False, True, False),
        ("0.0.0.0/0", "240.0.0.1", False, False, False),
        ("::/0", "fec0::1", False, False, False),
        ("::/0", "64:ff9b::7f00:1", False, False, False),
        ("::/0", "64:ff9b:1::7f00:1", False, False, False),
        ("::/0", "::127.0.0.1", False, False, False),
        ("::/0", "fd00:ec2::254", False, False, False),
        ("::/0", "fe80::1", False, False, False),
        ("::/0", "2001:db8::1", False, False, True),
        ("0.0.0.0/0", "192.0.2.1", True, False, False),  # this very host
        ("192.0.2.1", "192.0.2.1", True, False, True),
        ("example.org", "192.0.2.1", False, True, True),
        ("example.org", "10.0.0.1", False, True, False),
        ("example.org", "192.0.2.1", False, False, False),
    ],
)
def test_addresses(allow, address, own, named, allowed):
    assert AllowList((allow,)).address(address, 80, own=own, named=named) is allowed


@pytest.mark.parametrize(
    ("allow", "name", "allowed"),
    [
        ("example.org", "example.org", True),
        ("example.org", "EXAMPLE.org", True),
        ("example.org", "www.example.org", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "evilexample.org", False),
        ("example.org:443", "example.org", False),
        ("0.0.0.0/0", "example.org", False),
    ],
)
def test_names(allow, name, allowed):
    assert AllowList((allow,)).name(name, 80) is allowed


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names lead nowhere but where a test says."""
    monkeypatch.setattr(resolver, "_HOSTS", tmp_path / "hosts")
    return


def made(tmp_path: Path, text: str, *, system: str = "127.0.0.1:9", ca: str = "") -> AdHoc:
    file = tmp_path / "callpath.yaml"
    file.write_text(text)
    traffic = Traffic()
    limits = Limits(60.0, 60, 1 << 30)
    own = OwnAddresses(local=frozenset())
    env = Environment(system=system, own=own, traffic=traffic, tls_ca_file=ca)
    return AdHoc(load(file), env, Manners(limits, traffic))


async def ask(door: AdHoc, target: str, module: str = "", **more: object) -> ProbeAnswer:
    return await door.answer({"module": module, "target": target, "timeout": 5.0, **more})


LOOPBACK = "probe_endpoint: {allow: [127.0.0.0/8]}"


async def test_an_allowed_address_is_asked(tmp_path):
    async with tcp_server(say(OK)) as server:
        answer = await ask(made(tmp_path, LOOPBACK), f"127.0.0.1:{server.port}/x")
    assert (answer.status, answer.kind, len(answer.observations)) == (200, "https", 1)
    assert answer.observations[0].ok
    assert answer.observations[0].facts["http_status"] == 200
    assert answer.limit == 4.5


async def test_nothing_is_allowed_by_itself(tmp_path):
    async with tcp_server(say(OK)) as server:
        answer = await ask(made(tmp_path, "{}"), f"127.0.0.1:{server.port}")
        assert (answer.status, server.connections) == (403, 0)


@pytest.mark.parametrize(
    ("target", "module", "status"),
    [
        ("", "tcp", 400),
        ("127.0.0.1:80", "icmp", 400),
        ("127.0.0.1", "tcp", 400),
        ("2130706433:80", "tcp", 400),
        ("0x7f000001:80", "tcp", 403),
        ("0177.0.0.1:80", "tcp", 400),
        ("127.1:80", "tcp", 400),
        ("[::ffff:10.0.0.1]:80", "tcp", 403),
        ("localhost:80", "tcp", 403),
        ("http://user@127.0.0.1/", "", 400),
        ("http://127.0.0.1#@evil.test/", "", 400),
        ("ftp://127.0.0.1/", "", 400),
        ("http://evil.test\\@127.0.0.1/", "", 400),
        ("10.0.0.1:80", "tcp", 403),
        ("169.254.169.254", "", 403),
        ("evil.test:80", "tcp", 403),
        ("127.0.0.1:0", "tcp", 403),
        ("127.0.0.1", "quic", 400),
        ("127.0.0.1:443", "quic", 403),  # research only
    ],
)
async def test_what_is_refused(tmp_path, target, module, status):
    answer = await ask(
        made(tmp_path, "probe_endpoint: {allow: ['127.0.0.0/8:80']}"), target, module
    )
    assert (answer.status, answer.observations) == (status, ())
    assert answer.text


async def test_an_allowed_name_that_leads_inside_is_not_followed(tmp_path, near):
    """DNS rebinding: the name is allowed, what it points at is not, and a second answer counts
    no more than the first."""
    async with tcp_server(say(OK)) as server, udp_server(answering("127.0.0.1")) as dns:
        system = f"127.0.0.1:{dns.port}"
        text = "{resolvers: {trusted: []}, probe_endpoint: {allow: [name.test]}}"
        answer = await ask(made(tmp_path, text, system=system), f"name.test:{server.port}", "tcp")
        assert server.connections == 0
        assert answer.status == 200
        assert str(answer.observations[0].failed.failure) == "bad_answer"

        text = "{resolvers: {trusted: []}, probe_endpoint: {allow: [name.test, 127.0.0.0/8]}}"
        answer = await ask(made(tmp_path, text, system=system), f"name.test:{server.port}", "tcp")
        assert answer.observations[0].ok, "named and inside: the list says so twice"


async def test_a_redirect_is_an_answer_and_leads_nowhere(tmp_path):
    async with tcp_server(say(MOVED)) as server:
        answer = await ask(made(tmp_path, LOOPBACK), f"http://127.0.0.1:{server.port}/")
    (seen,) = answer.observations
    assert (str(seen.failed.failure), seen.facts["http_status"]) == ("http_status", 302)


async def test_hostname_is_the_name_in_the_handshake(tmp_path):
    authority = Authority(tmp_path / "ca", "callpath test authority")
    good = authority.issue("good")
    door = made(tmp_path, LOOPBACK, ca=str(authority.root))
    async with tcp_server(say(OK), tls=good.server()) as server:
        target = f"https://127.0.0.1:{server.port}/"
        named = await ask(door, target, hostname=NAME)
        other = await ask(door, target, hostname="other.test")
        wrong = await ask(door, "https://name.test/", hostname=NAME)
    assert named.observations[0].ok
    assert str(other.observations[0].failed.failure) == "wrong_name"
    assert wrong.status == 400


async def test_the_same_question_is_asked_once(tmp_path):
    async with tcp_server(say(OK)) as server:
        door, target = made(tmp_path, LOOPBACK), f"127.0.0.1:{server.port}"
        first, second = await asyncio.gather(ask(door, target), ask(door, target))
        third = await ask(door, target)
        other = await ask(door, f"{target}/other")
        assert server.connections == 2
    assert first.observations == second.observations == third.observations
    assert other.observations != first.observations
    assert first.age == 0
    assert third.age > 0


async def test_budgets_hold_and_are_no_failure(tmp_path):
    """Two kinds of question to one place spend one budget; what it forbids is not measured."""
    text = """
probe_endpoint: {modules: {ice: {probe: stun, dress: ice}}, allow: [127.0.0.0/8]}
limits: {packets_per_target_per_minute: 8}
"""
    door = made(tmp_path, text)
    door._manners.limits.packets_per_target_per_minute = 8
    async with udp_server(stun_answers) as server:
        target = f"127.0.0.1:{server.port}"
        first, second = await asyncio.gather(ask(door, target, "stun"), ask(door, target, "ice"))
        assert len(server.received) <= 5
    assert {first.status, second.status} == {200, 503}
    assert "packet budget" in first.text + second.text
    door._manners.limits.bytes_per_day = 0
    spent = await ask(door, "127.0.0.1:9", "tcp")
    assert (spent.status, "byte budget" in spent.text) == (503, True)


async def test_a_probe_ends_before_its_scrape(tmp_path):
    async with tcp_server(_hang) as server:
        door = made(tmp_path, LOOPBACK)
        answer = await ask(door, f"127.0.0.1:{server.port}", timeout=0.7)
    assert (answer.status, answer.limit) == (200, pytest.approx(0.2))
    failed = [o.failed for o in answer.observations]
    assert answer.late or [f.step for f in failed] == [Step.EXCHANGE]
    nothing = await ask(door, "127.0.0.1:9", timeout=0.4)
    assert nothing.status == 400


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_who_is_in_a_hurry_spoils_no_other_answer(tmp_path):
    async def slowly(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(OK)
        await writer.drain()

    async with tcp_server(slowly) as server:
        door, target = made(tmp_path, LOOPBACK), f"127.0.0.1:{server.port}"
        hurried = await ask(door, target, timeout=0.6)
        patient = await ask(door, target)
    assert not any(o.ok for o in hurried.observations)
    assert [o.ok for o in patient.observations] == [True]


@pytest.mark.parametrize("late", [0.7, 0.8, 0.9])
async def test_waiting_for_its_turn_is_within_its_time(tmp_path, late):
    """Also where its turn comes just before its end, which is no time to fail in."""
    async with tcp_server(_hang) as server:
        door = made(tmp_path, f"{LOOPBACK}\nlimits: {{concurrency: 1}}")
        target = f"127.0.0.1:{server.port}"
        first, second = await asyncio.gather(
            ask(door, target, timeout=0.8), ask(door, f"{target}/other", timeout=late)
        )
    assert (first.status, second.status) == (200, 503)
    assert "too many" in second.text


async def test_stopped_it_asks_no_more(tmp_path):
    async with tcp_server(_hang) as server:
        door = made(tmp_path, LOOPBACK)
        asked = asyncio.create_task(ask(door, f"127.0.0.1:{server.port}", timeout=60.0))
        await until(lambda: server.connections)
        await door.stop()
        answer = await asked
    assert (answer.status, answer.text.startswith("stopped")) == (503, True)


def test_modules_of_the_file_replace_those_built_in(tmp_path):
    door = made(tmp_path, "probe_endpoint: {modules: {tcp: {probe: tls, timeout: 3s}}}")
    assert door._modules["tcp"].probe == "tls"
    assert door._modules["tcp"].timeout == 3
    assert door._modules["http_2xx"].expect_status[0] == 200
