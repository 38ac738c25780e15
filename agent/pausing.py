"""A file named ``paused`` in the state folder stops all sending within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
POLL = 0.5
"""Seconds between looks at the file."""


class Paused(Exception):
    """Nothing may be sent; the text says why."""


def marker(folder: Path) -> Path:
    return folder / "paused"


def is_paused(folder: Path, *, otherwise: bool = False) -> bool:
    """``otherwise``: where the disk does not say."""
    try:
        marker(folder).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return otherwise
    return True


async def unless_paused(folder: Path, asked: Coroutine[Any, Any, T]) -> T:
    """What ``asked`` comes to. Raises Paused, and begins nothing, or ends what was begun."""
    doing = asyncio.ensure_future(asked)
    try:
        while not is_paused(folder):
            done, _ = await asyncio.wait({doing}, timeout=POLL)
            if done:
                return doing.result()
        raise Paused(f"paused: {marker(folder)} exists")
    finally:
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
