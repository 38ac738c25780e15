"""The agent's status as a static file, for others' outside view (agent/outside.py reads it)."""

from __future__ import annotations

import os
import tempfile
from http import HTTPStatus
from pathlib import Path

from agent.health import ask
from agent.outside import MAX_BYTES, Malformed, read_status

NAME = "status.json"
"""Of the file in a folder."""
_MODE = 0o644  # who publishes wants it to be read


class Unpublished(Exception):
    """Nothing was written, and what was published before stands. The text says why."""


def publish(listen: str, place: Path, *, tls: bool = False) -> Path:
    """Put the status of the agent at ``listen`` into ``place``, a file or a folder; where it is.

    Raises Unpublished.
    """
    status = _status(listen, tls)
    file = place / NAME if place.is_dir() else place
    try:
        _replace(file, status)
    except OSError as error:
        raise Unpublished(f"{file}: {error.strerror}") from error
    return file


def _status(listen: str, tls: bool) -> bytes:
    try:
        code, body = ask(listen, "/api/v1/status", MAX_BYTES + 1, tls=tls)
    except OSError as error:
        raise Unpublished(f"no answer from {listen}: {error}") from error
    if code != HTTPStatus.OK:
        said = body[:200].decode(errors="replace").strip()
        raise Unpublished(f"{listen} answered {code}: {said}")
    try:
        read_status(body, max_age=0.0)  # its form alone: who reads it looks at its age
    except Malformed as error:
        raise Unpublished(f"what {listen} answered {error}") from error
    return body


def _replace(file: Path, data: bytes) -> None:
    """Whoever reads meanwhile has the old one or the new one, whole. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as beside:
            beside.write(data)
            beside.flush()
            os.fchmod(descriptor, _MODE)
            os.fsync(descriptor)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
