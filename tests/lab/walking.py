"""A trace as nobody: ``python -m tests.lab.walking KIND ADDRESS PORT [NAME]`` gives up every
privilege, and prints the word and the stretch as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from probes.trace.walk import Walk
from probes.trace.words import words

NOBODY = 65534


def main() -> None:
    kind, address, port, *name = sys.argv[1:]
    walk = Walk(words(kind, *name), address, int(port))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    lines = Path("/proc/self/status").read_text().splitlines()
    assert "CapEff:\t0000000000000000" in lines
    report = asyncio.run(walk.trace())
    found = report.place.stretch if report.place else None
    print(json.dumps([report.word, [found.low, found.high] if found else None]))


if __name__ == "__main__":
    main()
