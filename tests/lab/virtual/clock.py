"""A clock that jumps to the next timer: hours of the agent's life in seconds, without a sleep."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any
from unittest import mock

WALL = 1_800_000_000.0
"""Unix seconds at which every virtual world begins."""


class Clock:
    """``now`` are monotonic seconds; ``skew`` is by how much this host's wall clock is wrong."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.skew = 0.0
        self._start = WALL - self.now

    @property
    def true(self) -> float:
        """Unix seconds as the rest of the world has them."""
        return self._start + self.now

    def wall(self) -> float:
        return self._start + self.now + self.skew

    def steady(self) -> float:
        return self.now

    def sleep_through(self, seconds: float) -> None:
        """The host is suspended: its monotonic clock stands still."""
        self._start += seconds

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Everybody in this process reads this clock."""
        instead: Mapping[str, Callable[..., Any]] = {
            "time": self.wall,
            "time_ns": lambda: round(self.wall() * 1e9),
            "monotonic": self.steady,
            "monotonic_ns": lambda: round(self.now * 1e9),
            "clock_gettime": lambda _: self.now,
        }
        with mock.patch.multiple(time, **instead):
            yield


class _Jump(selectors.BaseSelector):
    """Waits for no file: the time that it is told to wait has passed at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """The loop's own self-pipe, and nothing else."""
        self._map[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return self._map[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits and no timer is set")
        if timeout > 0:
            self._clock.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map[fileobj]


class Loop(asyncio.SelectorEventLoop):
    """Its time is the clock's; what would go to a thread is done on the spot. ``ready`` finds the
    virtual socket of a descriptor."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.watched: dict[int, Any] = {}
        super().__init__(_Jump(clock))

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(  # type: ignore[override] # a future at once, and not of a thread
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    # Sockets of the virtual kernel

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        if (sock := self.watched.get(fd)) is None:
            return super().add_reader(fd, callback, *args)
        sock.reader = (callback, args)
        return None

    def remove_reader(self, fd: Any) -> bool:
        if (sock := self.watched.get(fd)) is None:
            return super().remove_reader(fd)
        sock.reader = None
        return True

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        if (sock := self.watched.get(fd)) is None:
            return super().add_writer(fd, callback, *args)
        sock.writer = (callback, args)
        return None

    def remove_writer(self, fd: Any) -> bool:
        if (sock := self.watched.get(fd)) is None:
            return super().remove_writer(fd)
        sock.writer = None
        return True

    async def sock_recv(self, sock: Any, nbytes: int) -> bytes:
        received: bytes = await sock.receive(nbytes)
        return received

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        await sock.send_all(bytes(data))
