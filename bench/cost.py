"""CPU per probe: the whole agent against Debian's blackbox_exporter, on the same loopback servers.

The agent's figure is its main and its web process over steady rounds, scraped every 15 seconds:
scheduling, diagnosis and rendering are in it. blackbox_exporter is asked at the same rate, evenly,
as Prometheus does with many targets; what asks it is not counted. Runs alternate; the ratio is the
median of the pairs'.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import loopback
from bench.loopback import Load
from bench.process import AS_PROMETHEUS, Rounds, children, cpu, page, runs
from tests.lab.world import program, wait_until

KINDS = ("tcp", "dns", "tls", "https")
PAIRS = 5
TARGETS = 400
INTERVAL = 6.0
SECONDS = 12.0
SCRAPE = 15.0
BLACKBOX = ("127.0.0.1", 9115)


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of a process and of its children, and probes, over ``seconds``."""

    main: float
    web: float
    probes: float
    seconds: float

    @property
    def each(self) -> float:
        """Milliseconds of CPU for one probe."""
        return 1000 * (self.main + self.web) / self.probes


def main(kinds: tuple[str, ...] = KINDS, pairs: int = PAIRS) -> None:
    loopback.alone()
    _versions()
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder, loopback.servers(Path(folder)):
        for kind in kinds:
            _compare(Path(folder), kind, pairs)


def _compare(folder: Path, kind: str, pairs: int) -> None:
    load = Load((kind,), TARGETS, INTERVAL)
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(agent(folder, load, SECONDS))
        theirs.append(_blackbox(folder, kind, load.a_minute / 60, SECONDS))
    ratios = sorted(a.each / b.each for a, b in zip(ours, theirs, strict=True))
    each = f"{statistics.median(a.each for a in ours):.2f} ms"
    other = f"{statistics.median(b.each for b in theirs):.2f} ms"
    print(
        f"{kind}: {statistics.median(ratios):.2f} of blackbox_exporter's CPU per probe"
        f" (pairs {', '.join(f'{r:.2f}' for r in ratios)}; {each} against {other}"
        f" at {load.a_minute:.0f} a minute)",
        flush=True,
    )


@contextlib.contextmanager
def running_agent(folder: Path, load: Load) -> Iterator[tuple[int, Path]]:
    """An agent with this load, past its first rounds; gives its process id and state folder."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        for file in ("ca.pem",):
            (Path(own) / file).write_bytes((folder / file).read_bytes())
        config = loopback.configuration(Path(own), load)
        command = [sys.executable, "-m", "agent.cli", "run", "--yes", "--config", str(config)]
        with (Path(own) / "agent.log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, stdout=log)
        try:
            wait_until(lambda: runs() >= load.targets, "the first round", 60 + 3 * load.interval)
            yield process.pid, Path(own) / "state"
        finally:
            process.terminate()
            process.wait(60)


def agent(folder: Path, load: Load, seconds: float) -> Spent:
    """What an agent spends on a load once it runs evenly, over whole rounds."""
    with running_agent(folder, load) as (pid, state):
        rounds = Rounds(state)
        rounds.wait()  # trust, caches and connections are there now
        web = [int(child) for child in children(pid)]
        began, ran = time.monotonic(), rounds.runs()
        before = (cpu(pid), sum(map(cpu, web)))
        while (left := seconds - (time.monotonic() - began)) > 0:
            time.sleep(min(SCRAPE, left))  # as Prometheus waits
            page()
        rounds.wait()
        ran = rounds.runs() - ran
        after = (cpu(pid), sum(map(cpu, web)))
        elapsed = time.monotonic() - began
    return Spent(after[0] - before[0], after[1] - before[1], ran, elapsed)


def _blackbox(folder: Path, kind: str, rate: float, seconds: float) -> Spent:
    """What blackbox_exporter spends when asked ``rate`` times a second."""
    file = folder / "blackbox.yml"
    trust = {"ca_file": str(folder / "ca.pem"), "server_name": loopback.NAME}
    dns = {"query_name": loopback.NAME, "query_type": "A"}
    modules = {
        "tcp": {"prober": "tcp"},
        "tls": {"prober": "tcp", "tcp": {"tls": True, "tls_config": trust}},
        "https": {"prober": "http", "http": {"tls_config": trust}},
        "dns": {"prober": "dns", "dns": dns},
    }
    file.write_text(yaml.safe_dump({"modules": modules}))
    listen = f"--web.listen-address={BLACKBOX[0]}:{BLACKBOX[1]}"
    command = [program("prometheus-blackbox-exporter"), f"--config.file={file}", listen]
    process = subprocess.Popen([*command, "--log.level=error"])
    try:
        wait_until(lambda: _ask(kind, 0), "blackbox_exporter", 20)
        for index in range(100):
            _ask(kind, index)
        began, before = time.monotonic(), cpu(process.pid)
        count = 0
        with contextlib.closing(http.client.HTTPConnection(*BLACKBOX)) as connection:
            while time.monotonic() - began < seconds:
                if not _ask(kind, count % TARGETS, connection):
                    raise RuntimeError(f"blackbox_exporter fails at {kind} {count}")
                count += 1
                # At an even rate, from the beginning on: a late one is made up for.
                time.sleep(max(0.0, began + count / rate - time.monotonic()))
        return Spent(cpu(process.pid) - before, 0.0, count, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(20)


def _ask(kind: str, index: int, connection: http.client.HTTPConnection | None = None) -> bool:
    target = loopback.blackbox_target(kind, index)
    asked = connection or http.client.HTTPConnection(*BLACKBOX)
    asked.request("GET", f"/probe?module={kind}&target={target}", headers=AS_PROMETHEUS)
    answer = asked.getresponse()
    body = answer.read()
    if answer.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    return b"\nprobe_success 1" in body


def _versions() -> None:
    for command in (["prometheus-blackbox-exporter", "--version"], ["openssl", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print((done.stdout + done.stderr).splitlines()[0])
    # Builds with and without profile-guided optimisation differ by a fifth.
    print(f"Python {platform.python_version()} of {sys.base_prefix}")
    print("TLS 1.3, ECDSA P-256 certificate, no resumption; nginx and unbound on loopback")
