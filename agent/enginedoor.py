"""The agent's side of the media engine: started for the first play, anew when it died alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
from collections.abc import Sequence
from typing import Self

from agent import engineframes as frames
from exporters.framing import read_frame, write_frame
from probes.net.address import Source
from probes.net.errors import NotMeasured
from probes.net.streams import Played, Stream, Watch

log = logging.getLogger(__name__)

OVERDUE = 5.0
"""Seconds after its last stream by which a play is told; an engine that is later hangs."""
PATIENCE = 2.0


def _died() -> NotMeasured:
    return NotMeasured("engine_died")


class _Play:
    """One play under way, as seen from here."""

    def __init__(self, streams: Sequence[Stream], watch: Watch | None) -> None:
        self._gathering = frames.Gathering(streams)
        self._watch = watch
        self.result: asyncio.Future[list[Played]] = asyncio.get_running_loop().create_future()

    def take(self, frame: bytes) -> None:
        """Raises ValueError and the like for bytes that are no records."""
        over = self._gathering.add(frame)
        if self.result.done():
            return
        if over:
            self.result.set_result(self._gathering.played())
        elif self._watch is not None:
            try:
                self._watch(self._gathering.played())
            except Exception as bug:  # whoever watches is told, and the engine goes on
                self.result.set_exception(bug)

    def fail(self) -> None:
        if not self.result.done():
            self.result.set_exception(_died())


class _Engine:
    """One process and our end of its pipe."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self.writer = writer
        self.plays: dict[int, _Play] = {}
        self.alive = True
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (frame := await read_frame(reader)) is not None:
                play = self.plays.get(frames.number_of(frame))
                if play is not None:  # else it was cancelled
                    play.take(frame)
        except Exception:
            log.exception("the media engine talks nonsense")
        if self.plays:
            log.error("the media engine ended in the middle of a play")
        else:
            log.warning("the media engine ended by itself; the next stream starts it anew")
        await self._end()

    async def close(self) -> None:
        """Close our end: the process ends by itself."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._end()

    async def _end(self) -> None:
        self.alive = False
        for play in self.plays.values():
            play.fail()
        self.writer.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class EngineDoor:
    """Implements probes.net.streams.Streams. ``close`` ends the process; another play would start
    it again."""

    def __init__(self) -> None:
        self._engine: _Engine | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """Of the engine, None while there is none."""
        engine = self._engine
        return engine.process.pid if engine is not None and engine.alive else None

    async def play(
        self, streams: Sequence[Stream], source: Source, watch: Watch | None = None
    ) -> list[Played]:
        """In the order given. Raises NotMeasured when the engine has died, or cannot start."""
        if not streams:
            return []
        number = next(self._numbers)
        order = frames.encode_play(number, streams, source, watch is not None)
        engine = await self._running()
        play = engine.plays[number] = _Play(streams, watch)
        write_frame(engine.writer, order)
        try:
            async with asyncio.timeout(max(s.lasts for s in streams) + OVERDUE):
                return await play.result
        except TimeoutError:
            log.error("the media engine does not answer; starting it anew")
            engine.kill()
            raise _died() from None
        finally:
            del engine.plays[number]
            if engine.alive and (not play.result.done() or play.result.cancelled()):
                write_frame(engine.writer, frames.encode_stop(number))

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def _running(self) -> _Engine:
        async with self._starting:
            if self._engine is None or not self._engine.alive:
                try:
                    self._engine = await _start()
                except OSError as error:
                    log.error("the media engine cannot start: %s", error)
                    raise _died() from error
            return self._engine


async def _start() -> _Engine:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agent.engine",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is for the agent alone
            )
    except BaseException:
        ours.close()
        raise
    reader, writer = await asyncio.open_connection(sock=ours)
    return _Engine(process, reader, writer)
