"""Two network namespaces with a simulated internet between them, and nothing else.

The client's namespace is a subscriber's line: one public-looking address, one uplink, the
provider's resolver. The servers' namespace holds the rest of the world: every address that is
placed there belongs to it. Between them is the router process (``router.py``). Neither namespace
has a device that leads to the host, so no packet can leave, whatever a program in it does.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from tests.lab import netns
from tests.lab.censor import Censor, plain
from tests.lab.path import Line, to_json
from tests.lab.router import DEVICE, MTU
from tests.lab.topology import Topology, routers

ROOT = Path(__file__).resolve().parents[2]

# Addresses that look like a real provider's, since the agent treats special-purpose ones with
# suspicion. None of them is ever used outside the two namespaces.
CLIENT_V4 = "95.24.112.7"
CLIENT_V6 = "2a02:2698:8c21:7::2"
RESOLVER_V4 = "95.24.0.53"
RESOLVER_V6 = "2a02:2698:a000::53"
HOPS = routers(5)

DIRECTORIES = "callpath-lab-"

START_SECONDS = 10.0

T = TypeVar("T")


class Missing(Exception):
    """Something that the lab needs is not on this machine."""


class LabError(Exception):
    """A part of the lab did not come up or did not obey."""


class Crossing(NamedTuple):
    """A packet that the router took from a device (``came``) or gave to one (``left``)."""

    at: float
    event: str
    direction: str
    head: bytes


class LogEntry(NamedTuple):
    """One packet as the router saw it come in; ``fate`` says what became of it."""

    at: float
    direction: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    protocol: int
    length: int
    fate: str


def program(name: str) -> str:
    """Where a program is; raises Missing. Debian keeps servers off an ordinary user's PATH."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise Missing(name)
    return found


def require(*programs: str) -> None:
    """Raise Missing for the first thing that a lab with these programs would lack."""
    if os.geteuid():
        raise Missing("root")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise Missing("/dev/net/tun")
    for name in ("ip", "setpriv", *programs):
        program(name)


def wait_until(happened: Callable[[], T], what: str, seconds: float = START_SECONDS) -> T:
    """Call until the result is true; refusals and time-outs of sockets count as "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := happened():
                return result
            reason: object = "not yet"
        except OSError as error:
            reason = error
        if time.monotonic() > deadline:
            raise LabError(f"{what}: {reason} after {seconds:g} s")
        time.sleep(0.02)


class Rules:
    """The router's control socket: what it does to packets, and what it has done."""

    def __init__(self, control: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(control))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rwb", buffering=0)

    def add(self, rule: Censor | str, **fields: Any) -> int:
        """Install a rule, or one of those that ``censor.plain`` makes; returns its number."""
        if isinstance(rule, str):
            try:
                rule = plain(rule, **fields)
            except ValueError as error:
                raise LabError(str(error)) from error
        return int(self._ask(do="add", rule=to_json(rule)))

    def cut(self) -> int:
        """Cut the uplink: nothing passes, in neither direction, and nobody says so."""
        return self.add("drop", name="cut", hop=1)

    def remove(self, number: int) -> None:
        self._ask(do="remove", number=number)

    def clear(self) -> None:
        """Back to one honest row of routers without rules, and the line it started with."""
        self._ask(do="clear")
        self.topology(Topology())
        self.line(Line())

    def line(self, line: Line) -> None:
        """Delay, jitter and loss of the path itself."""
        self._ask(do="line", line=to_json(line))

    def topology(self, topology: Topology) -> None:
        """Which routers answer, where the path branches, how long the way back is."""
        self._ask(do="topology", topology=to_json(topology))

    def hits(self, number: int) -> int:
        """Packets that matched a rule."""
        return int(self._counts(number)["hits"])

    def taken(self, number: int) -> int:
        """Packets that a rule did not let pass."""
        return int(self._counts(number)["taken"])

    def packets(self) -> int:
        """Packets that have entered the path from either side."""
        return int(self._ask(do="counts")["packets"])

    def log_to(self, file: Path | None, crossings: Path | None = None) -> None:
        self._ask(do="log", file=str(file or ""), crossings=str(crossings or ""))

    def _counts(self, number: int) -> dict[str, Any]:
        for rule in self._ask(do="counts")["rules"]:
            if rule["number"] == number:
                return dict(rule)
        raise KeyError(number)

    def _ask(self, **request: Any) -> Any:
        self._file.write(json.dumps(request).encode() + b"\n")
        line = self._file.readline()
        if not line:
            raise LabError("the router is gone")
        reply = json.loads(line)
        if "error" in reply:
            raise LabError(reply["error"])
        return reply["ok"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class World:
    """``with World() as world:``; everything it made is gone afterwards, also after an error."""

    _numbers = itertools.count()

    def __init__(self, *, ipv6: bool = False, hops: int = len(HOPS)) -> None:
        self.ipv6 = ipv6
        self.hops = routers(hops)
        stem = f"cp-{os.getpid()}-{next(self._numbers)}"
        self.client_name, self.servers_name = f"{stem}-c", f"{stem}-s"
        self.directory = Path()
        self.rules: Rules
        self.router: subprocess.Popen[Any]
        self._placed: set[str] = set()
        self._processes: list[subprocess.Popen[Any]] = []
        self._cleanup = ExitStack()

    def __enter__(self) -> World:
        require()
        remove_stale()
        with ExitStack() as undo:
            self.directory = Path(tempfile.mkdtemp(prefix=f"{DIRECTORIES}{os.getpid()}-"))
            undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
            for name in (self.client_name, self.servers_name):
                _ip("netns", "add", name)
                undo.callback(_ip, "netns", "delete", name)
            undo.callback(self._stop_all)
            self._write_client_files(undo)
            self._start_router(undo)
            self._configure()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    # What tests use

    def client(self, command: Sequence[str | Path], **popen: Any) -> subprocess.Popen[Any]:
        """Start a program on the subscriber's line. It dies with the thread that started it."""
        return self._start(self.client_name, command, popen)

    def server(self, command: Sequence[str | Path], **popen: Any) -> subprocess.Popen[Any]:
        """Start a program in the servers' namespace. It dies with the thread that started it."""
        return self._start(self.servers_name, command, popen)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a Python function on the subscriber's line, see ``netns.call_in``."""
        return netns.call_in(self.client_name, function, *args)

    def client_socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM
    ) -> socket.socket:
        """A socket on the subscriber's line, usable from here."""
        return self.call(socket.socket, family, kind)

    def call_server(self, function: Callable[..., T], *args: Any) -> T:
        """Run a Python function in the servers' namespace, see ``netns.call_in``."""
        return netns.call_in(self.servers_name, function, *args)

    def place(self, addresses: Iterable[str]) -> None:
        """Give addresses to the servers' namespace; those of an absent family are left out."""
        new = {
            address
            for address in addresses
            if address not in self._placed and (self.ipv6 or ":" not in address)
        }
        lines = [
            f"addr add {address}/{128 if ':' in address else 32} dev lo"
            + (" nodad" if ":" in address else "")
            for address in sorted(new)
        ]
        _ip_batch(self.servers_name, lines)
        self._placed |= new

    def start_log(self) -> None:
        """From now on the router writes down every packet; see ``log``."""
        self.rules.log_to(self.directory / "packets.tsv")

    def log(self) -> list[LogEntry]:
        lines = (self.directory / "packets.tsv").read_text(encoding="ascii").splitlines()
        return [_log_entry(line) for line in lines]

    def start_crossings(self) -> None:
        """From now on the router writes down when every packet came and left; see ``crossings``."""
        self.rules.log_to(None, self.directory / "crossings.tsv")

    def crossings(self) -> list[Crossing]:
        """What was written since the start; nothing more is."""
        self.rules.log_to(None)
        file = self.directory / "crossings.tsv"
        rows = [line.split("\t") for line in file.read_text(encoding="ascii").splitlines()]
        file.unlink()
        return [Crossing(float(at), e, d, bytes.fromhex(head)) for at, e, d, head in rows]

    def stop(self, process: subprocess.Popen[Any], seconds: float = 5.0) -> int:
        """End a program that was started here; returns its exit code."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        self._processes.remove(process)
        return process.wait()

    # How it is made

    def _start(
        self, namespace: str, command: Sequence[str | Path], popen: dict[str, Any]
    ) -> subprocess.Popen[Any]:
        # ip-netns(8) replaces itself by the program, so the process is the program's own.
        inside = (program("ip"), "netns", "exec", namespace, *map(str, command))
        return self._spawn(inside, popen)

    def _spawn(self, command: Sequence[str], popen: dict[str, Any]) -> subprocess.Popen[Any]:
        # Even a killed test run leaves no process behind. A group of its own: Ctrl-C is for whoever
        # started the lab, which then ends things in order.
        lasting = (program("setpriv"), "--pdeathsig", "KILL", *command)
        process = subprocess.Popen(lasting, **{"process_group": 0, **popen})
        self._processes.append(process)
        return process

    def _write_client_files(self, undo: ExitStack) -> None:
        """What ip-netns(8) puts over the host's files for programs in the client's namespace."""
        files = Path("/etc/netns") / self.client_name
        files.mkdir(parents=True)
        undo.callback(shutil.rmtree, files, ignore_errors=True)
        (files / "resolv.conf").write_text(f"nameserver {RESOLVER_V4}\n", encoding="ascii")
        (files / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n", encoding="ascii")
        (files / "nsswitch.conf").write_text("hosts: files dns\n", encoding="ascii")

    def _start_router(self, undo: ExitStack) -> None:
        control = self.directory / "router.sock"
        names = ("--client", self.client_name, "--servers", self.servers_name)
        hops = [part for pair in self.hops for part in ("--hop", ",".join(pair))]
        command = (
            sys.executable,
            "-m",
            "tests.lab.router",
            *names,
            "--control",
            str(control),
            *hops,
        )
        log = self.directory / "router.log"
        with log.open("wb") as output:
            process = self.router = self._spawn(command, {"cwd": ROOT, "stderr": output})

        def connected() -> Rules:
            if process.poll() is not None:
                raise LabError(f"the router ended: {log.read_text()}")
            return Rules(control)

        self.rules = wait_until(connected, "router")
        undo.callback(self.rules.close)

    def _configure(self) -> None:
        for namespace in (self.client_name, self.servers_name):
            _sysctl(namespace, self._settings())
            _ip_batch(namespace, ["link set lo up", f"link set {DEVICE} mtu {MTU} up"])
        gateway_v4, gateway_v6 = self.hops[0]
        client = [
            f"addr add {CLIENT_V4}/24 dev {DEVICE}",
            f"route add default via {gateway_v4} dev {DEVICE}",
        ]
        servers = [f"route add default dev {DEVICE}"]
        if self.ipv6:
            client += [
                f"addr add {CLIENT_V6}/64 dev {DEVICE} nodad",
                f"route add ::/0 via {gateway_v6} dev {DEVICE}",
            ]
            servers += [f"route add ::/0 dev {DEVICE}"]
        _ip_batch(self.client_name, client)
        _ip_batch(self.servers_name, servers)
        self.place((RESOLVER_V4, RESOLVER_V6))

    def _settings(self) -> dict[str, str]:
        """Kernels limit their ICMP errors, which would hide packets that a test counts."""
        return {
            "net/ipv4/icmp_ratelimit": "0",
            "net/ipv4/icmp_msgs_per_sec": "100000",
            "net/ipv4/icmp_msgs_burst": "100000",
            "net/ipv6/icmp/ratelimit": "0",
            "net/ipv4/conf/all/rp_filter": "0",
            "net/ipv4/conf/default/rp_filter": "0",
            "net/ipv4/ip_unprivileged_port_start": "0",
            "net/ipv4/ping_group_range": "0 2147483647",
            f"net/ipv6/conf/{DEVICE}/disable_ipv6": str(int(not self.ipv6)),
        }

    def _stop_all(self) -> None:
        """All at once, then wait: only processes from our own list, which we have not reaped."""
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + 3
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


def remove_stale() -> None:
    """Remove what a run that was killed has left."""
    for name in _namespaces():
        parts = name.split("-")
        if (
            len(parts) == 4
            and parts[0] == "cp"
            and parts[1].isdigit()
            and not _alive(int(parts[1]))
        ):
            _remove_namespace(name)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
    for directory in Path(tempfile.gettempdir()).glob(f"{DIRECTORIES}*"):
        pid = directory.name.removeprefix(DIRECTORIES).split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(directory, ignore_errors=True)


def _remove_namespace(name: str) -> None:
    """Its processes died with the run, except one that was just being started."""
    shown = subprocess.run(
        [program("ip"), "netns", "pids", name], capture_output=True, text=True, check=False
    )
    for pid in shown.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    with suppress(LabError):  # another run that starts at this moment was quicker
        _ip("netns", "delete", name)


def _namespaces() -> list[str]:
    return sorted(os.listdir(netns.NAMED)) if netns.NAMED.is_dir() else []


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _log_entry(line: str) -> LogEntry:
    at, direction, source, sport, destination, dport, protocol, length, fate = line.split("\t")
    ports = int(sport), int(dport)
    numbers = int(protocol), int(length)
    return LogEntry(float(at), direction, source, ports[0], destination, ports[1], *numbers, fate)


def _ip(*arguments: str) -> None:
    _run([program("ip"), *arguments])


def _ip_batch(namespace: str, lines: Sequence[str]) -> None:
    """Many changes by one process: hundreds of addresses take milliseconds."""
    _run([program("ip"), "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")


def _sysctl(namespace: str, settings: dict[str, str]) -> None:
    """Settings that this kernel does not have are left alone."""

    def write() -> None:
        for key, value in settings.items():
            file = Path("/proc/sys") / key  # shows the namespace of whoever opens it
            if file.exists():
                file.write_text(value, encoding="ascii")

    netns.call_in(namespace, write)


def _run(command: Sequence[str], given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
