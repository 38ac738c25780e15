"""Where the agent's main process spends its time, by part of the program, for each kind of probe.

By Python's own profiler, which makes calls of Python functions look dearer than calls of C ones:
the shares say where to look, not what could be saved.
"""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent import wiring
from agent.cli import main as callpath
from bench import loopback
from bench.cost import INTERVAL, KINDS, TARGETS
from bench.loopback import Load

ROUNDS = 6
AREAS = {
    "/agent/": "agent: schedule, rounds, diagnosis, state",
    "/probes/": "probes: steps, sockets, codecs",
    "/exporters/": "exporters: figures for the web process",
    "/asyncio/": "asyncio",
    "selectors.py": "asyncio",
    "/dns/": "dnspython",
    "/httpx/": "httpx, httpcore, h11",
    "/httpcore/": "httpx, httpcore, h11",
    "/h11/": "httpx, httpcore, h11",
    "/anyio/": "httpx, httpcore, h11",
}
BUILT_IN = {
    "socket": "sockets (the kernel's work is in here)",
    "_ssl": "OpenSSL",
    "pickle": "exporters: figures for the web process",
    "sqlite3": "the store",
}


def main() -> None:
    loopback.alone()
    with tempfile.TemporaryDirectory() as folder, loopback.servers(Path(folder)):
        for kind in KINDS:
            _print(kind, _profile(Path(folder), kind))


def _profile(folder: Path, kind: str) -> pstats.Stats:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        (Path(own) / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
        config = loopback.configuration(Path(own), Load((kind,), TARGETS, INTERVAL))
        out = Path(own) / "profile"
        command = [sys.executable, "-m", "bench.profile", str(out), "run", "--yes"]
        with (Path(own) / "log").open("wb") as log:
            process = subprocess.Popen([*command, "--config", str(config)], stderr=log, stdout=log)
        time.sleep(ROUNDS * INTERVAL)  # what is profiled is the agent at work for so long
        process.terminate()
        process.wait(60)
        return pstats.Stats(str(out))


def _print(kind: str, stats: pstats.Stats) -> None:
    spent: Counter[str] = Counter()
    for (file, _, function), (_, _, own, _, _) in _rows(stats):
        if "epoll" not in function and "<frozen" not in file:  # waiting; imports
            spent[_area(file, function)] += own
    total = sum(spent.values())
    print(f"{kind}:")
    for area, seconds in spent.most_common(9):
        print(f"  {100 * seconds / total:4.0f} %  {area}")


def _rows(stats: pstats.Stats) -> Iterable[tuple[Any, Any]]:
    """``stats.stats``, which pstats documents and its types leave out: place and figures."""
    rows: dict[Any, Any] = vars(stats)["stats"]
    return rows.items()


def _area(file: str, function: str) -> str:
    table, text = (BUILT_IN, function) if file == "~" else (AREAS, file)
    other = "other built-in functions" if file == "~" else "the rest of the standard library"
    return next((area for key, area in table.items() if key in text), other)


def _profiled(out: str, arguments: list[str]) -> None:
    """The agent under the profiler; what it does before its first round is left out."""
    sys.argv = ["callpath", *arguments]
    profiler, run = cProfile.Profile(), wiring.Agent.run

    async def profiled(self: wiring.Agent) -> None:
        profiler.enable()
        try:
            await run(self)
        finally:
            profiler.disable()
            profiler.dump_stats(out)

    setattr(wiring.Agent, "run", profiled)  # noqa: B010 (a method put in another's place)
    callpath()


if __name__ == "__main__":
    _profiled(sys.argv[1], sys.argv[2:])
