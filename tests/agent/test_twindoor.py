"""The twin on loopback: real sockets, the probes that ask it, strangers, and floods."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import companion as companion_module
from agent import twindoor, twinrun
from agent.cli import app
from agent.companion import Companion, advice, ask_by_hand, companion
from agent.twin import Twin
from agent.twindoor import TwinDoor, load_key
from config.model import Config
from probes import twin as twin_probes
from probes.measure import measure
from probes.model import Failure, Observation, Step, Target
from probes.net.environment import Environment
from probes.net.selfsigned import Identity, identity
from probes.registry import needs_research
from probes.twin import Dress, TwinUdpProbe, size_of
from probes.wire import stun, twin
from probes.wire.twin import Request
from tests.agent.building import configuration, environment, until
from tests.probes.servers import SHORT, UdpServer, observe, udp_server

KEY = bytes(range(32))
OF = Target("m", "call", "t", "stun")
QUICK = 0.4
"""Timeout of a probe whose requests are all answered: its schedule is scaled by it."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("twin") / "k.tls.pem")


@pytest.fixture
async def door(own: Identity) -> AsyncIterator[TwinDoor]:
    made = TwinDoor(Twin(KEY), own.context)
    made.open(("127.0.0.1",), (0, 0), 0)
    yield made
    await made.close()


@pytest.fixture
def known(door: TwinDoor, own: Identity) -> Companion:
    return Companion("127.0.0.1", tuple(door.udp_ports), door.tls_port, KEY, own.sha256)


@pytest.fixture
def env() -> Environment:
    return environment()


async def ask(known: Companion, dress: Dress, env: Environment, **given: int) -> Observation:
    check = known.udp(OF, dress, **given)
    return await observe(check.probe, check.port, env, timeout=QUICK)


@pytest.mark.parametrize("dress", Dress)
async def test_every_dress_is_answered_and_counted(known: Companion, env: Environment, dress):
    seen = await ask(known, dress, env)
    assert seen.ok
    assert (seen.facts["answered"], seen.facts["received_by_peer"]) == (5, 5)
    assert abs(float(seen.facts["received_by_peer_at"]) - time.time()) < 60  # type: ignore[arg-type] # ours: a float
    assert [s.step for s in seen.steps] == [Step.EXCHANGE]


async def test_every_port_answers(known: Companion, env: Environment):
    for port in known.udp_ports:
        assert (await ask(known, Dress.RANDOM, env, port=port, size=200)).ok


async def test_the_dresses_differ_in_nothing_but_their_shape(env: Environment):
    """Same size, same schedule; the random one is no STUN, the others are what stun sends."""
    sent: dict[Dress, list[bytes]] = {}
    for dress, size in ((Dress.STUN_ICE, 0), (Dress.RANDOM, size_of(Dress.STUN_ICE))):
        async with udp_server(lambda _n, _d: []) as server:
            probe = TwinUdpProbe(KEY, dress, size)
            await observe(probe, server.port, env, timeout=SHORT)
            await until(lambda: len(server.received) == 5)
            sent[dress] = list(server.received)
    assert {len(d) for ds in sent.values() for d in ds} == {96}
    assert all(stun.frame_length(d[:20]) == 96 for d in sent[Dress.STUN_ICE])
    assert not any(twin.is_binding_request(d) for d in sent[Dress.RANDOM])
    assert len({d[8:20] for ds in sent.values() for d in ds}) == 10


def silence(_number: int, _data: bytes) -> list[bytes]:
    return []


def forged(_number: int, data: bytes) -> list[bytes]:
    """As whoever has not the key would answer, and the request as it came."""
    request = Request(1, 0, 8)
    return [twin.sealed_answer(data, request, bytes(32), 5, time.time()), data, b"", data[:10]]


@pytest.mark.parametrize(
    ("answer", "failure"), [(silence, Failure.TIMEOUT), (forged, Failure.BAD_REPLY)]
)
async def test_what_is_not_the_twins_answer_is_none(env: Environment, answer, failure):
    async with udp_server(answer) as server:
        seen = await observe(TwinUdpProbe(KEY, Dress.STUN_BARE), server.port, env, timeout=SHORT)
    assert seen.failed.failure is failure
    assert "received_by_peer" not in seen.facts


async def test_answers_lost_on_the_way_back_are_told_from_requests_lost_on_the_way_there(
    door: TwinDoor, known: Companion, env: Environment
):
    """Nothing comes back by UDP; over TLS the twin says how many came."""
    async with _one_way(door, drop_back=lambda n: True, drop_there=lambda n: False) as port:
        seen = await ask(known, Dress.STUN_BARE, env, port=port)
    assert seen.failed.failure is Failure.TIMEOUT
    assert (seen.facts["answered"], seen.facts["received_by_peer"]) == (0, 5)
    async with _one_way(door, drop_back=lambda n: False, drop_there=lambda n: n > 1) as port:
        seen = await ask(known, Dress.STUN_BARE, env, port=port)
    assert seen.failed.failure is Failure.LOSSY
    assert (seen.facts["answered"], seen.facts["received_by_peer"]) == (2, 2)


@contextlib.asynccontextmanager
async def _one_way(door: TwinDoor, drop_there, drop_back) -> AsyncIterator[int]:  # type: ignore[no-untyped-def] # two tests of a datagram
    """A path in front of the twin that loses what it is told to."""
    loop = asyncio.get_running_loop()
    back = 0

    def forward(number: int, data: bytes) -> list[bytes]:
        if not drop_there(number):
            behind.send(data)
        return []

    def backward() -> None:
        nonlocal back
        data = behind.recv(2048)
        if not drop_back(back):
            server.sock.sendto(data, server.peers[-1])
        back += 1

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as behind:
        behind.setblocking(False)
        behind.connect(("127.0.0.1", door.udp_ports[0]))
        server: UdpServer
        async with udp_server(forward) as server:
            loop.add_reader(behind, backward)
            yield server.port
            loop.remove_reader(behind)


async def test_a_clock_that_is_wrong_here_is_silence_and_the_advice_says_so(
    known: Companion, env: Environment, monkeypatch: pytest.MonkeyPatch
):
    class Wrong:
        time = staticmethod(lambda: time.time() - 300)

    monkeypatch.setattr(twin_probes, "time", Wrong)
    stun_seen = await ask(known, Dress.STUN_BARE, env)
    assert stun_seen.failed.failure is Failure.BAD_REPLY  # what a stranger is answered
    seen = await ask(known, Dress.RANDOM, env)
    assert seen.failed.failure is Failure.TIMEOUT
    assert "received_by_peer" not in {*seen.facts, *stun_seen.facts}
    tls = await observe(known.tls(OF).probe, known.tls_port, env)
    assert tls.ok
    assert "clocks" in advice([seen, tls])


async def test_tls_for_any_name_by_the_pinned_certificate(known: Companion, env: Environment):
    for name in ("", "web.example.org", "x" * 60 + ".test"):
        seen = await observe(known.tls(OF, name).probe, known.tls_port, env)
        assert seen.ok
        assert seen.facts["certificate_sha256"] == known.tls_sha256


async def test_another_certificate_is_not_the_twins(
    known: Companion, env: Environment, tmp_path: Path
):
    other = identity(tmp_path / "other.pem")
    impostor = TwinDoor(Twin(KEY), other.context)
    impostor.open(("127.0.0.1",), (0,), 0)
    try:
        seen = await observe(known.tls(OF, "a.test").probe, impostor.tls_port, env)
    finally:
        await impostor.close()
    assert seen.failed.step is Step.TLS
    assert seen.failed.failure is Failure.BAD_CERTIFICATE
    assert seen.facts["certificate_sha256"] == other.sha256


async def test_a_stranger_may_ask_by_plain_stun(known: Companion, env: Environment):
    check = known.stun(OF)
    measured = await measure(check, env)
    assert measured.observations[0].facts["answered"] == 3  # at 0, 1.5 and 3 s
    assert measured.observations[0].works
    assert measured.mapped == {"127.0.0.1"}


async def test_strangers_hear_nothing_else(door: TwinDoor):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", door.udp_ports[0]))
        for data in (b"", b"x", os.urandom(20), os.urandom(1400), os.urandom(9000)):
            sock.send(data)
        sock.send(stun.binding_request(stun.Dress.BARE, bytes(12), bytes(32)))
        answer = await asyncio.wait_for(loop.sock_recv(sock, 2048), 5)
        assert len(answer) == 32
        with pytest.raises(BlockingIOError):
            sock.recv(2048)
    assert door.twin.counts == {"strange": 5, "stun": 1}


async def test_over_tls_a_stranger_hears_nothing_and_is_let_go(
    door: TwinDoor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(twindoor, "IDLE_LIMIT", SHORT)
    for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(64)):
        reader, writer = await _tls(door)
        writer.write(said)
        assert await _read_all(reader) == b""
        writer.close()
    await until(lambda: not door._open)


async def test_connections_without_a_handshake_are_few_and_are_let_go(
    door: TwinDoor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(twindoor, "HANDSHAKE_LIMIT", 0.5)
    monkeypatch.setattr(twindoor, "TLS_AT_ONCE", 3)
    socks = []
    for _ in range(9):
        sock = socket.create_connection(("127.0.0.1", door.tls_port))
        sock.setblocking(False)
        socks.append(sock)
    await until(lambda: door.twin.counts["tls_limited"] == 6)
    assert door._open == {"127.0.0.1": 3}
    await until(lambda: not door._open)
    for sock in socks:
        sock.close()
    _, writer = await _tls(door)
    writer.close()


async def test_new_connections_have_a_rate(door: TwinDoor):
    door._allowance.burst = 2.0
    for _ in range(5):
        with contextlib.suppress(OSError):
            _, writer = await _tls(door)
            writer.close()
    await until(lambda: door.twin.counts["tls_limited"] >= 2)


async def test_a_flood_leaves_the_key_holder_answered(
    door: TwinDoor, known: Companion, env: Environment
):
    """Forged, replayed, random and oversized datagrams, as fast as loopback carries them."""
    captured = twin.sealed_request(os.urandom(40), 8, KEY, Request(9, 0, 8), time.time())
    alien = twin.sealed_request(os.urandom(40), 8, bytes(32), Request(9, 0, 8), time.time())
    stopped = asyncio.Event()

    async def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", door.udp_ports[1]))
            while not stopped.is_set():
                for data in (captured, alien, os.urandom(300), os.urandom(3000)):
                    with contextlib.suppress(OSError):
                        sock.send(data)
                await asyncio.sleep(0)

    task = asyncio.create_task(flood())
    seen = await ask(known, Dress.STUN_BARE, env)
    stopped.set()
    await task
    assert seen.ok
    assert door.twin.counts["strange"] > 100
    assert len(door.twin.flows) == 2


async def test_an_address_that_is_taken_leaves_nothing_open(door: TwinDoor, own: Identity):
    second = TwinDoor(Twin(KEY), own.context)
    with pytest.raises(OSError, match="in use"):
        second.open(("127.0.0.1",), (0,), door.tls_port)
    assert (second._udp, second._listeners) == ([], [])
    second.open(("127.0.0.1",), (0,), 0)
    await second.close()


async def _tls(door: TwinDoor) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection(
        "127.0.0.1", door.tls_port, ssl=context, server_hostname="any.test"
    )


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(OSError):
        async with asyncio.timeout(5):
            return await reader.read()
    return b""


# --- files and the command -------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_key_and_certificate_are_made_once_and_for_their_owner_only(tmp_path: Path):
    file, pem = tmp_path / "deep" / "k", tmp_path / "deep" / "c"
    old = os.umask(0)
    try:
        key, made = load_key(file), identity(pem)
    finally:
        os.umask(old)
    assert (mode(file), mode(pem), mode(file.parent)) == (0o600, 0o600, 0o700)
    assert load_key(file) == key
    assert identity(pem).sha256 == made.sha256
    assert sorted(p.name for p in file.parent.iterdir()) == ["c", "k"]
    assert load_key(tmp_path / "another") != key


@pytest.mark.parametrize("text", ["", "not a key", "00" * 31])
def test_a_file_that_holds_no_key_is_not_written_over(tmp_path: Path, text: str):
    file = tmp_path / "k"
    file.write_text(text)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        load_key(file)
    assert file.read_text() == text


def configured(known: Companion, folder: Path, profile: str = "client") -> Config:
    file = folder / "k"
    file.write_text(known.key.hex())
    twin_section = {
        "address": known.address,
        "udp_ports": list(known.udp_ports),
        "tls_port": known.tls_port,
        "key_file": str(file),
        "tls_sha256": known.tls_sha256,
    }
    return configuration((), (), twin=twin_section, profile=profile)


async def test_the_configured_twin_is_asked_by_hand(known: Companion, tmp_path: Path):
    config = configured(known, tmp_path)
    found = companion(config)
    assert found == known
    assert found is not None
    assert known.key.hex() not in repr(found)
    assert companion(configuration((), ())) is None
    seen = await ask_by_hand(config, found)
    assert [o.works for o in seen] == [True] * 3
    assert not any("random" in o.target.name for o in seen)
    assert advice(seen) == ""
    seen = await ask_by_hand(configured(known, tmp_path, "research"), found)
    assert [o.works for o in seen] == [True] * 5
    assert needs_research(known.udp(OF, Dress.RANDOM).probe)
    assert not needs_research(known.udp(OF, Dress.STUN_ICE).probe)
    assert companion_module.BY_HAND.probe == "twin"


async def test_the_command_serves_until_it_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    config = configuration((), (), state_dir=str(tmp_path))
    given = twinrun.Given(("127.0.0.1",), (0,), 0, None)
    task = asyncio.create_task(twinrun.serve(config, given, told.append))
    await until(lambda: told)
    assert str(tmp_path / "twin.key") in told[0]
    assert identity(tmp_path / "twin.key.tls.pem").sha256 in told[0]
    assert load_key(tmp_path / "twin.key").hex() not in told[0]
    os.kill(os.getpid(), 15)
    await asyncio.wait_for(task, 10)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (twinrun.Given(("a.example",), (0,), 0, None), "not an address"),
        (twinrun.Given(("127.0.0.1",), (3478, 3478), 0, None), "twice"),
        (twinrun.Given(("127.0.0.1",), (70000,), 0, None), "no port 70000"),
        (twinrun.Given(("192.0.2.1",), (0,), 0, None), "cannot listen on 192.0.2.1, UDP port 0: "),
    ],
)
async def test_what_cannot_be_served_is_said(tmp_path: Path, given, reason):
    config = configuration((), (), state_dir=str(tmp_path))
    with pytest.raises(twinrun.CannotServe, match=reason):
        await twinrun.serve(config, given, lambda text: None)


async def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        given = twinrun.Given(("127.0.0.1",), (0,), port, None)
        with pytest.raises(twinrun.CannotServe, match=f"127.0.0.1, TCP port {port}: "):
            await twinrun.serve(configuration((), (), state_dir=str(tmp_path)), given, print)


async def test_a_key_that_others_can_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("WARNING")
    key_file = tmp_path / "twin.key"
    load_key(key_file)
    key_file.chmod(0o640)
    given = twinrun.Given(("192.0.2.1",), (0,), 0, None)
    with pytest.raises(twinrun.CannotServe, match="cannot listen"):
        await twinrun.serve(configuration((), (), state_dir=str(tmp_path)), given, print)
    assert caplog.messages == [f"{key_file} has mode 0640: others can read the key, make it 0600"]


async def test_without_a_twin_there_is_nothing_to_check():
    with pytest.raises(twinrun.CannotServe, match="names no twin"):
        await twinrun.check(configuration((), ()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["twin", "--check"], "names no twin"),
        (["twin", "--listen", "here"], "not an address"),
        (["probe", "transfer", "https://a.example/x"], "profile: research"),
    ],
)
def test_on_the_command_line_a_sentence_and_exit_2(tmp_path: Path, arguments: list[str], said: str):
    file = tmp_path / "callpath.yaml"
    file.write_text(f"state_dir: {tmp_path}\n")
    done = CliRunner().invoke(app, [*arguments, "--config", str(file)])
    assert done.exit_code == 2
    assert said in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["callpath.yaml"]


def test_probes_of_the_twin_are_hashable_and_keep_the_key_to_themselves():
    """Rounds remember what they asked by the probe; logs may show it."""
    probe = TwinUdpProbe(KEY, Dress.STUN_BARE)
    assert hash(probe) == hash(TwinUdpProbe(KEY, Dress.STUN_BARE))
    assert repr(KEY) not in repr(probe)
    assert probe.subject("x") != TwinUdpProbe(KEY, Dress.RANDOM).subject("x")
    assert size_of(Dress.STUN_BARE) == 20
    assert size_of(Dress.STUN_ICE) == 96
