"""Files that hold secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def create_private(path: Path, data: bytes) -> None:
    """A new file that only its owner may read. Raises OSError; FileExistsError when there is one.

    It appears whole or not at all: a process that is killed in between leaves no half of a key.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    finally:
        beside.unlink()


def exposed(path: Path) -> str:
    """What to say of a key file that others than its owner can read; "" when none can."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return ""
    return f"{path} has mode {mode:04o}: others can read the key, make it 0600"
