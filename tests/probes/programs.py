"""Real programs and privileges: what is missing skips with its reason, and fails in CI."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

CLONE_NEWNET = 0x40000000  # linux/sched.h
READY_WITHIN = 10.0  # seconds a program may take until its port answers


def missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def need(program: str) -> str:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path or missing(program)


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """The program while its TCP ``port`` on 127.0.0.1 answers; ended by its own pid."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        until = time.monotonic() + READY_WITHIN
        while not _answers(port):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            assert time.monotonic() < until, f"{command[0]} does not answer"
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.communicate()


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def in_namespace(scenario: Callable[[], Coroutine[Any, Any, None]], *commands: str) -> None:
    """Run ``scenario`` in a thread with a network namespace of its own.

    Only the thread moves, so the scenario shares the test's memory; the namespace has a loopback
    and no way out, and goes with its last socket. ``commands`` (ip, nft) are run in it first.
    """
    need("ip"), need("nft")
    if os.geteuid() != 0:
        missing("root, for a network namespace")
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            for command in ("ip link set lo up", *commands):
                words = shlex.split(command)
                subprocess.run([need(words[0]), *words[1:]], check=True)
            asyncio.run(scenario())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def firewall(rule: str) -> tuple[str, str, str]:
    """nft commands for one rule on what this host sends."""
    chain = "{ type filter hook output priority 0 ; }"
    return (
        "nft add table inet test",
        f"nft 'add chain inet test out {chain}'",
        f"nft 'add rule inet test out {rule}'",
    )
