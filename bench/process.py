"""What the kernel says of a running agent, and what it says of itself."""

from __future__ import annotations

import gzip
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

AS_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
    "User-Agent": "Prometheus/2.42.0",
}
"""The headers of a scrape."""
AGENT = "http://127.0.0.1:22550/metrics"


def page() -> str:
    with urlopen(Request(AGENT, headers=AS_PROMETHEUS), timeout=30) as answer:
        body = answer.read()
        packed = answer.headers.get("Content-Encoding") == "gzip"
    return (gzip.decompress(body) if packed else body).decode()


def runs() -> float:
    try:
        found = re.findall(r"^callpath_check_runs_total\{.*\} (\S+)$", page(), re.MULTILINE)
    except OSError:
        return 0.0
    return sum(map(float, found))


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> float:
    """Largest resident size of a process so far, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


class Rounds:
    """The rounds of an agent, seen in what it writes when one ends: figures over whole rounds
    compare, and asking the agent for its page would cost what is measured."""

    def __init__(self, state: Path) -> None:
        self._file = f"file:{state / 'callpath.sqlite'}?mode=ro"

    def runs(self) -> int:
        """Checks that ended since the agent's first start."""
        with closing(sqlite3.connect(self._file, uri=True)) as store:
            return int(store.execute("SELECT sum(runs) FROM trust").fetchone()[0] or 0)

    def wait(self) -> None:
        """Return soon after the next round has ended."""
        before = last = self.runs()
        while last == before or last != self.runs():
            last = self.runs()
            time.sleep(0.5)  # the agent's own time; half a second of error in many
