"""A trace with few rights: ``python -m tests.lab.walking JSON`` prints what it found as JSON.

The JSON has ``kind``, ``address``, ``port`` and maybe ``name``, ``controls``, ``pause``,
seconds, and ``drop``: give up every privilege first. ``walk`` starts it on a lab's line with no
capability, or with CAP_NET_RAW alone and no-new-privileges, as docs/container.md has it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agent.tracing import Traced, document
from probes.net.raw import Raw, RawMissing
from probes.trace.common import Control
from probes.trace.place import Sign
from probes.trace.walk import Walk
from probes.trace.words import words
from tests.lab.world import ROOT, World, program

NOBODY = 65534
NET_RAW = f"{1 << 13:016x}"
NOTHING = f"{0:016x}"


def asked(kind: str, address: str, port: int, name: str = "", **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "address": address.removesuffix("/32"),
        "port": port,
        "name": name,
        **more,
    }


def limited(uid: int) -> list[str]:
    """The start of a command line for CAP_NET_RAW alone."""
    caps = "-all,+net_raw"
    ambient = ["--ambient-caps", caps] if uid else []
    who = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs"]
    return [program("setpriv"), *who, "--inh-caps", caps, *ambient, "--bounding-set", caps]


@functools.cache
def interpreter(uid: int) -> str | None:
    """A Python that this user can start, as one that is installed under /root is not."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, system):
        # By a shell, since setpriv itself may still start what its user may not.
        script = ["sh", "-c", 'exec "$0" -c "import scapy"', python]
        tried = subprocess.run([*limited(uid), *script], env=environment(), capture_output=True)
        if tried.returncode == 0:
            return python
    return None


def environment() -> dict[str, str]:
    here = [str(ROOT), sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": ":".join(filter(None, here))}


def walk(
    world: World, given: Mapping[str, Any], *, raw: bool, seconds: float = 300.0
) -> dict[str, Any]:
    """The document of one trace, as ``callpath trace --json`` has it, and ``held`` capabilities."""
    command = [sys.executable]
    if raw:
        uid = NOBODY if interpreter(NOBODY) else 0
        command = [*limited(uid), interpreter(uid) or sys.executable]
    text = json.dumps({**given, "drop": not raw})
    process = world.client(
        [*command, "-m", "tests.lab.walking", text],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=seconds)
    told: dict[str, Any] = json.loads(out)
    assert told["held"] == (NET_RAW if raw else NOTHING), told["held"]
    return told


async def _trace(given: dict[str, Any]) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        raw, missing = None, ""
        try:
            raw = await stack.enter_async_context(Raw(given["address"]))
        except RawMissing as error:
            missing = str(error)
        pause = given.get("pause", 0.0)
        controls = [Control(*each) for each in given.get("controls", ())]
        traced = await Walk(
            words(given["kind"], given.get("name", "")),
            given["address"],
            given["port"],
            controls=controls,
            raw=raw,
            pauses={Sign.SILENCE: pause, Sign.RESET: pause},
        ).trace()
        quotes = raw.quotes() if raw else {}
    found = Traced(given["kind"], "", given["address"], given["port"], traced, missing, quotes)
    return document(found, {})


def main() -> None:
    given = json.loads(sys.argv[1])
    if given["drop"]:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    lines = Path("/proc/self/status").read_text().splitlines()
    told = asyncio.run(_trace(given))
    told["held"] = next(line for line in lines if line.startswith("CapEff:")).split()[1]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
