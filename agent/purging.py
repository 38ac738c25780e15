"""``callpath purge``: forget everything. The agent does it itself where it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from agent.store import wipe

LOCK = "agent.lock"
"""Held by the agent for as long as it runs."""
MARKER = "purge"
"""Asks the agent to forget; gone when it has."""
CONSENT = "consent"
WAITS = 120.0
"""Seconds: a store of a gigabyte is written over once."""
_LOOK = 0.1


class NotPurged(Exception):
    """Says why."""


def hold(folder: Path) -> int | None:
    """The descriptor of the lock, which the end of the process gives back; None where the folder
    cannot be used, or another one holds it."""
    try:
        held = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def hold_on(folder: Path, held: int | None) -> int | None:
    """Still, or at last: the folder may have come later than the agent, or be another one now."""
    if held is not None:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(held), (folder / LOCK).stat()):
                return held
    again = hold(folder)
    if again is None:
        return held
    if held is not None:
        os.close(held)
    return again


def is_asked(folder: Path) -> bool:
    return os.path.exists(folder / MARKER)  # Path.exists raises where a disk does not answer


def done(folder: Path) -> None:
    (folder / MARKER).unlink(missing_ok=True)


def purge(folder: Path, waits: float = WAITS) -> None:
    """Forget what is in the folder, or have the agent do so. Raises NotPurged.

    Leaves a twin's key, which others know it by, and ``paused``.
    """
    if not folder.is_dir():
        return
    held = hold(folder)
    try:
        if held is None:
            _ask(folder, waits)
        else:
            wipe(folder)
        (folder / CONSENT).unlink(missing_ok=True)
    except OSError as error:
        raise NotPurged(f"{folder}: {error.strerror}") from error
    finally:
        if held is not None:
            (folder / LOCK).unlink(missing_ok=True)
            os.close(held)


def _ask(folder: Path, waits: float) -> None:
    marker = folder / MARKER
    os.close(os.open(marker, os.O_CREAT | os.O_WRONLY, 0o600))
    over = time.monotonic() + waits
    while marker.exists():
        if time.monotonic() > over:
            with contextlib.suppress(FileNotFoundError):
                marker.unlink()
            raise NotPurged(
                "the agent holds the state folder and has not done it (see its log): stop it first"
            )
        time.sleep(_LOOK)  # the agent takes the marker away; nothing tells another process of it
