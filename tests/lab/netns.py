"""Entering network namespaces, which Python offers itself only from 3.12 on."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

CLONE_NEWNET = 0x40000000  # <linux/sched.h>
TUNSETIFF = 0x400454CA  # <linux/if_tun.h>
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

NAMED = Path("/run/netns")  # where ip-netns(8) keeps namespaces by name

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def enter(name: str) -> None:
    """Move the calling thread, and only it, into a named network namespace."""
    descriptor = os.open(NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), name)
    finally:
        os.close(descriptor)


def call_in(name: str, function: Callable[..., T], *args: Any) -> T:
    """Run a function in a namespace and return what it returns or raise what it raises.

    It runs in a thread of its own, so that the caller stays where it is. Sockets made there keep
    their namespace and may be used from everywhere. Only the network changes: the name resolver of
    the C library still reads the host's files.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(name)
            results.append(function(*args))
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=run, name=f"in {name}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def open_tun(device: str) -> int:
    """Create a TUN device where the calling thread is; packets come without a prefix, unblocked.

    The device lives as long as the descriptor, which works from any namespace afterwards.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(descriptor, TUNSETIFF, request)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
