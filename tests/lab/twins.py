"""``callpath twin`` among the servers of a lab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.lab import Lab
from tests.lab.world import ROOT

TWIN = "203.0.113.77"


@contextmanager
def running_twin(lab: Lab, directory: Path) -> Iterator[dict[str, Any]]:
    """One at ``TWIN``; gives the section by which an agent finds it."""
    lab.world.place([TWIN])
    key = directory / "twin.key"
    command = [sys.executable, "-m", "agent.cli", "twin", "--listen", TWIN, "--key-file", str(key)]
    environment = {**os.environ, "STATE_DIRECTORY": str(directory)}
    process = lab.world.server(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        fingerprint = told.rpartition(" ")[2].strip()
        yield {"address": TWIN, "key_file": str(key), "tls_sha256": fingerprint}
    finally:
        process.terminate()
        process.communicate(timeout=30)
