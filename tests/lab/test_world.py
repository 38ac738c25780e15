"""The simulated internet itself: is it what tests take it for, and can nothing get out?"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.path import Line, Loss
from tests.lab.skipping import require_lab
from tests.lab.world import (
    CLIENT_V4,
    DIRECTORIES,
    HOPS,
    RESOLVER_V4,
    ROOT,
    LabError,
    Missing,
    World,
    remove_stale,
    require,
)

pytestmark = pytest.mark.lab

IP_RECVERR = 11  # <linux/in.h>
SO_EE_ORIGIN_ICMP = 2  # <linux/errqueue.h>
WAIT = 1.0  # far above the round trip, short enough for what stays silent

ECHO_V4, OTHER_V4, ECHO_V6 = "91.108.9.120", "91.108.13.40", "2001:67c:4e8:f002::b"
UNPLACED = "8.8.4.4"


class Echo:
    """One UDP server that returns what it gets, asked without a thread of its own."""

    def __init__(self, world: World, address: str, port: int = 1400) -> None:
        self.place = (address, port)
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        world.place([address])
        self.world = world
        self.server = world.call_server(self._bind)

    def _bind(self) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        sock.bind(self.place)
        sock.settimeout(0.5)
        return sock

    def client(self) -> socket.socket:
        sock = self.world.client_socket(self.family)
        sock.settimeout(0.5)
        sock.connect(self.place)
        return sock

    def answers(self) -> bool:
        """One datagram there and back; silence is False, an ICMP error is raised."""
        with self.client() as client:
            client.send(b"?")
            try:
                data, peer = self.server.recvfrom(64)
                self.server.sendto(data, peer)
                return client.recv(64) == b"?"
            except TimeoutError:
                client.send(b"")  # raises what an ICMP error has left behind
                return False

    def close(self) -> None:
        self.server.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_lab()
    with World(ipv6=True) as world:
        yield world


@pytest.fixture
def echo(world: World) -> Iterator[Echo]:
    world.rules.clear()
    echo = Echo(world, ECHO_V4)
    yield echo
    echo.close()


def icmp_error(world: World, place: tuple[str, int], ttl: int) -> tuple[str, int, int] | None:
    """Send one datagram and read the error queue: who complained, with which type and code?"""
    with world.client_socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.connect(place)
        sock.send(b"?")
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            try:
                _, ancillary, _, _ = sock.recvmsg(64, 512, socket.MSG_ERRQUEUE)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            for _, kind, data in ancillary:
                if kind == IP_RECVERR:
                    _, origin, icmp_type, code = struct.unpack_from("=IBBB", data)
                    assert origin == SO_EE_ORIGIN_ICMP
                    return socket.inet_ntoa(data[20:24]), icmp_type, code
    return None


# The path


def test_a_round_trip_takes_the_lines_time(echo: Echo) -> None:
    echo.world.rules.line(Line(delay=0.030))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        assert echo.answers()
        times.append(time.perf_counter() - started)
    assert 0.060 <= min(times) < 0.090


def test_every_hop_is_seen_by_its_ttl(echo: Echo) -> None:
    for ttl, (router, _) in enumerate(HOPS, start=1):
        assert icmp_error(echo.world, echo.place, ttl) == (router, 11, 0)
    assert icmp_error(echo.world, echo.place, len(HOPS) + 1) is None
    assert echo.server.recv(64) == b"?"


def test_ipv6_goes_the_same_way(world: World) -> None:
    world.rules.clear()
    echo = Echo(world, ECHO_V6)
    assert echo.answers()
    world.rules.add("drop", family=6)
    assert not echo.answers()
    echo.close()


def test_a_drop_drops_that_and_only_that(echo: Echo) -> None:
    other, port = Echo(echo.world, OTHER_V4), Echo(echo.world, ECHO_V4, 1401)
    number = echo.world.rules.add("drop", remote=(f"{ECHO_V4}/32",), ports=(1400,), protocol="udp")
    assert not echo.answers()
    assert other.answers()
    assert port.answers()
    assert echo.world.rules.hits(number) == echo.world.rules.taken(number) == 2
    echo.world.rules.remove(number)
    assert echo.answers() or echo.answers()  # the server still holds what it got before
    other.close()
    port.close()


def test_a_drop_towards_the_client_lets_the_request_through(echo: Echo) -> None:
    echo.world.rules.add("drop", direction="in")
    with echo.client() as client:
        client.send(b"one way")
        assert echo.server.recvfrom(64)[0] == b"one way"
    assert not echo.answers()


@pytest.mark.parametrize(("code", "hop"), [(3, 1), (9, 2), (10, 4), (13, 5)])
def test_a_reject_names_its_code_and_its_hop(echo: Echo, code: int, hop: int) -> None:
    echo.world.rules.add("reject", code=code, hop=hop)
    assert icmp_error(echo.world, echo.place, 64) == (HOPS[hop - 1][0], 3, code)


def test_a_closed_port_is_told_by_the_server_itself(echo: Echo) -> None:
    assert icmp_error(echo.world, (ECHO_V4, 9), 64) == (ECHO_V4, 3, 3)


def test_tcp_is_refused_reset_and_cut(world: World) -> None:
    world.rules.clear()
    world.place([ECHO_V4])
    listener = world.call_server(lambda: socket.create_server((ECHO_V4, 443)))

    def connect(port: int) -> socket.socket:
        return world.call(lambda: socket.create_connection((ECHO_V4, port), timeout=WAIT))

    with pytest.raises(ConnectionRefusedError):
        connect(444)
    opened = connect(443)
    world.rules.add("reset", protocol="tcp", ports=(443,))
    with pytest.raises(ConnectionRefusedError):
        connect(443)
    opened.send(b"hello")
    with pytest.raises(ConnectionResetError):
        opened.recv(64)
    world.rules.clear()
    world.rules.cut()
    with pytest.raises(TimeoutError):
        connect(443)
    opened.close()
    listener.close()


def test_loss_is_exact_for_a_seed(echo: Echo) -> None:
    """300 datagrams, 70 % lost on the way out: about 70 %, and the same ones every time."""

    def arrivals(seed: int) -> list[int]:
        number = echo.world.rules.add("loss", direction="out", loss=Loss(0.7, seed=seed))
        with echo.client() as client:
            for count in range(300):
                client.send(struct.pack("!H", count))
                if count % 50 == 49:
                    time.sleep(0.01)
        echo.server.settimeout(0.2)
        arrived = []
        while True:
            try:
                arrived.append(struct.unpack("!H", echo.server.recv(64))[0])
            except TimeoutError:
                break
        assert echo.world.rules.hits(number) == 300
        assert echo.world.rules.taken(number) == 300 - len(arrived)
        echo.world.rules.remove(number)
        return arrived

    first = arrivals(7)
    assert 70 <= len(first) <= 110
    assert arrivals(7) == first
    assert arrivals(8) != first


def test_the_lines_own_loss_has_bursts(echo: Echo) -> None:
    echo.world.rules.line(Line(delay=0.001, loss_out=Loss(0.3, burst=5.0, seed=4)))
    with echo.client() as client:
        for count in range(300):
            client.send(struct.pack("!H", count))
    echo.server.settimeout(0.2)
    arrived = set()
    while True:
        try:
            arrived.add(struct.unpack("!H", echo.server.recv(64))[0])
        except TimeoutError:
            break
    lost = [count not in arrived for count in range(300)]
    runs = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    assert 0.2 < sum(lost) / 300 < 0.4
    assert sum(lost) / runs > 3


def test_a_cut_line_carries_nothing(echo: Echo) -> None:
    cut = echo.world.rules.cut()
    assert not echo.answers()
    assert not echo.answers()
    echo.world.rules.remove(cut)
    with echo.client() as client:
        client.send(b"back")
        assert echo.server.recv(64) == b"back"


def test_the_log_tells_every_packet(echo: Echo) -> None:
    echo.world.start_log()
    echo.world.rules.add("drop", ports=(1401,))
    assert echo.answers()
    with echo.world.client_socket() as sock:
        sock.sendto(b"x", (ECHO_V4, 1401))
    deadline = time.monotonic() + WAIT
    while len(log := echo.world.log()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [(e.direction, e.source, e.destination, e.fate) for e in log] == [
        ("out", CLIENT_V4, ECHO_V4, "passed"),
        ("in", ECHO_V4, CLIENT_V4, "passed"),
        ("out", CLIENT_V4, ECHO_V4, log[2].fate),
    ]
    assert log[2].fate.endswith("drop")
    assert [(e.protocol, e.destination_port, e.length) for e in (log[0], log[2])] == [
        (17, 1400, 29),
        (17, 1401, 29),
    ]
    assert abs(log[0].at - time.time()) < 60


def test_the_router_refuses_nonsense_and_lives_on(echo: Echo) -> None:
    with pytest.raises(LabError, match="no hop 9"):
        echo.world.rules.add("drop", hop=9)
    with pytest.raises(LabError, match="host bits"):
        echo.world.rules.add("drop", remote=("91.108.9.120/8",))
    assert echo.answers()


def test_several_hundred_packets_a_second_cost_little(echo: Echo) -> None:
    """Half of one core at 1,000 packets a second would be too much for a machine with two."""
    pid = subprocess.run(
        ["ip", "netns", "pids", echo.world.servers_name], capture_output=True, text=True, check=True
    ).stdout.split()[0]

    def cpu_seconds() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = cpu_seconds()
    with echo.client() as client:
        for _ in range(500):
            client.send(bytes(160))
            time.sleep(0.001)
    assert cpu_seconds() - before < 0.25


# Nothing gets out


def test_no_route_leads_out(world: World) -> None:
    world.rules.clear()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", *own_addresses()):
            with pytest.raises(OSError) as caught:  # noqa: PT011 (refused inside, or silence)
                world.call(lambda a=address: socket.create_connection((a, port), timeout=0.3))
            assert isinstance(caught.value, (ConnectionRefusedError, TimeoutError))
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert icmp_error(world, (UNPLACED, 53), 64) is None
    for namespace in (world.client_name, world.servers_name):
        shown = subprocess.run(
            ["ip", "-n", namespace, "-o", "link"], capture_output=True, text=True, check=True
        ).stdout
        assert [line.split(": ")[1] for line in shown.splitlines()] == ["lo", "wan0"]


def own_addresses() -> list[str]:
    """This machine's addresses, which inside must not mean this machine."""
    shown = subprocess.run(
        ["ip", "-4", "-o", "addr", "show", "scope", "global"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [line.split()[3].split("/")[0] for line in shown.splitlines()]


def test_programs_inside_see_the_providers_resolver(world: World) -> None:
    process = world.client(["cat", "/etc/resolv.conf"], stdout=subprocess.PIPE, text=True)
    assert process.communicate(timeout=5)[0] == f"nameserver {RESOLVER_V4}\n"
    assert world.stop(process) == 0


# Nothing stays


def traces(stem: str) -> list[str]:
    """Everything on this machine that bears a world's name."""
    found = [name for name in os.listdir("/run/netns") if name.startswith(stem)]
    pid = stem.split("-")[1]
    if pid != str(os.getpid()):
        found += map(str, Path(tempfile.gettempdir()).glob(f"{DIRECTORIES}{pid}-*"))
    if Path("/etc/netns").is_dir():
        found += [name for name in os.listdir("/etc/netns") if name.startswith(stem)]
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if stem.encode() in file.read_bytes():
                found.append(str(file))
        except OSError:
            continue  # ended meanwhile
    return found


def test_nothing_stays_after_an_error() -> None:
    require_lab()
    world = World()
    started = []

    def fail_inside() -> None:
        with world:
            started.append(world.client(["sleep", "600"]))
            assert traces(world.client_name[:-2])
            raise RuntimeError("as in a test")

    with pytest.raises(RuntimeError, match="as in a test"):
        fail_inside()
    assert started[0].poll() is not None
    assert traces(world.client_name[:-2]) == []
    assert not world.directory.exists()


def test_a_world_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_lab()
    monkeypatch.setattr("tests.lab.world.MTU", -1)
    world = World()
    with pytest.raises(LabError), world:
        pass
    assert traces(world.client_name[:-2]) == []


def test_what_a_killed_run_left_is_removed() -> None:
    require_lab()
    code = (
        "import os, signal\n"
        "from tests.lab.world import World, wait_until\n"
        "world = World().__enter__()\n"
        "process = world.client(['sleep', '600'])\n"
        "running = lambda: open(f'/proc/{process.pid}/comm').read() == 'sleep\\n'\n"
        "wait_until(running, 'sleep')\n"
        "print(world.client_name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    name = done.stdout.strip()
    assert (done.returncode, name[:3]) == (-signal.SIGKILL, "cp-")
    remove_stale()
    assert traces(name[:-2]) == []


def test_missing_things_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    require_lab()
    with pytest.raises(Missing, match="no-such-program"):
        require("no-such-program")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        require_lab("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        require_lab("no-such-program")
