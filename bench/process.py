"""What the kernel says of a running agent, and what it says of itself."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.request import urlopen

AGENT = "http://127.0.0.1:22550/metrics"


def page() -> str:
    with urlopen(AGENT, timeout=30) as answer:
        return str(answer.read().decode())


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
