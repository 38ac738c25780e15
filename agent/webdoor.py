"""The agent's side of the web process: starts it, feeds it, restarts it when it dies alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import pickle
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from exporters.feed import ProbeAnswer, ReloadAnswer, Update
from exporters.framing import RELOAD, read_frame, write_frame
from exporters.guard import Guard

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that an occupied address is tried again for."""
HEARTBEAT = 5.0
RESTART_PAUSE = 1.0
_BACKLOG = 4 * 1024 * 1024


async def listen(host: str, port: int) -> socket.socket:
    """The listening socket, bound before anything is measured. Raises OSError.

    A web process whose agent was killed is just letting go of the address: worth waiting for.
    """
    tries = int(PATIENCE / 0.1)
    for _ in range(tries):
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        await asyncio.sleep(0.1)
    return _listen(host, port)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


class WebDoor:
    """``everything()`` gives the whole state for a process that starts with nothing."""

    def __init__(
        self,
        listener: socket.socket,
        settings: dict[str, object],
        everything: Callable[[], Update],
        reload: Callable[[], Awaitable[ReloadAnswer]],
        probe: Callable[[Mapping[str, object]], Awaitable[ProbeAnswer]],
        guard: Guard | None = None,
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._everything = everything
        self._reload = reload
        self._probe = probe
        self._guard = guard or Guard()
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Close our end: the process ends by itself."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def replace_guard(self, guard: Guard) -> None:
        """Start the process anew under another guard; the address stays ours meanwhile."""
        self._guard = guard
        if self._writer is not None:
            self._writer.transport.abort()

    def publish(self, update: Update) -> None:
        """Send one update; never waits. A process that does not read is made to start anew."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > _BACKLOG:
            log.error("the web process does not read; starting it anew")
            writer.transport.abort()
            return
        write_frame(writer, pickle.dumps(update, pickle.HIGHEST_PROTOCOL))

    async def _keep_running(self) -> None:
        while True:
            try:
                await self._run_once()
                log.error("the web process ended; starting it anew")
            except Exception:
                # No process to be had, or a bug in a reload: the page comes back all the same.
                log.exception("the web process failed; starting it anew")
            await asyncio.sleep(RESTART_PAUSE)

    async def _run_once(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._start_process(theirs)
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours)
        self._writer = writer
        probes: set[asyncio.Task[None]] = set()
        heartbeat = asyncio.create_task(self._beat())
        try:
            write_frame(
                writer, pickle.dumps(self._guard)
            )  # not in its arguments, which anyone reads
            self.publish(self._everything())
            while (frame := await read_frame(reader)) is not None:
                # Plain bytes this way: a process that faces the network gets no pickle read.
                if frame == RELOAD:
                    answer = await self._reload()
                    write_frame(writer, pickle.dumps(answer))
                else:
                    asked = asyncio.create_task(self._answer(frame, writer))
                    probes.add(asked)
                    asked.add_done_callback(probes.discard)
        finally:
            for asked in probes:
                asked.cancel()
            heartbeat.cancel()
            self._writer = None
            writer.close()
            await self._end(process)

    async def _answer(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        """One request of /probe; whatever comes of it, its number gets an answer."""
        number = 0
        try:
            said = json.loads(frame)
            number = int(said["number"])
            answer = replace(await self._probe(said), number=number)
        except Exception:  # a bug, which costs one request only
            log.exception("bug in /probe")
            answer = ProbeAnswer(500, "a bug in the agent; its log has more", number)
        if not writer.is_closing():
            write_frame(writer, pickle.dumps(answer))

    async def _start_process(self, pipe: socket.socket) -> asyncio.subprocess.Process:
        fds = (self._listener.fileno(), pipe.fileno())
        arguments = [*map(str, fds), json.dumps(self._settings)]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "exporters.web",
            *arguments,
            pass_fds=fds,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for the agent alone
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            self.publish(self._everything_light())

    def _everything_light(self) -> Update:
        everything = self._everything()
        everything.targets = {}
        everything.channels = {}
        if everything.report is not None:
            everything.report = replace(everything.report, diagnoses=())
        everything.reset = False
        return everything

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await process.wait()
        finally:  # also where the agent ends meanwhile
            if process.returncode is None:
                process.kill()
                await process.wait()
