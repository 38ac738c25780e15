"""A clock that jumps to the next timer: hours of the agent's life in seconds, without a sleep."""

from __future__ import annotations

import asyncio
import heapq
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any
from unittest import mock

WALL = 1_800_000_000.0
"""Unix seconds at which every virtual world begins."""
RESOLUTION = 1e-9
"""Seconds of a monotonic clock: what is due within it is due together."""
CROWDED, CROWD = 100, 0.5
"""asyncio's: more timers than that, and a larger share of them cancelled, are sorted out."""


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


class _Nothing(selectors.BaseSelector):
    """Waits for no file: the loop moves the clock itself."""

    def __init__(self) -> None:
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """The loop's own self-pipe, and nothing else."""
        self._map[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return self._map[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map[fileobj]


class _Call:
    """A callback that is ready to run: asyncio's Handle without its debugging."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context
    ) -> None:
        self._callback, self._args, self._context = callback, args, context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class _Timer(float):
    """A callback and when it is due. As a number, since a heap of numbers compares them itself."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_loop")
    _callback: Callable[..., Any]
    _args: tuple[Any, ...]
    _context: Context | None
    _cancelled: bool
    _loop: Loop | None
    """While it is in the heap."""

    def when(self) -> float:
        return float(self)

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            if self._loop is not None:
                self._loop.cancelled += 1

    def cancelled(self) -> bool:
        return self._cancelled


class Loop(asyncio.SelectorEventLoop):
    """Its time is the clock's; what would go to a thread is done on the spot. ``watched`` finds the
    virtual socket of a descriptor.

    Scheduling is asyncio's own, in the same order, without what a laboratory has no use for: it was
    a quarter of the cost of a run.
    """

    _ready: deque[Any]
    _stopping: bool

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.watched: dict[int, Any] = {}
        self.timers: list[_Timer] = []
        self.cancelled = 0  # of the timers
        super().__init__(_Nothing())

    def time(self) -> float:
        return self.clock.now

    def call_soon(  # type: ignore[override] # all that asyncio asks of a Handle
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Call:
        call = _Call(callback, args, context or copy_context())
        self._ready.append(call)
        return call

    def call_later(  # type: ignore[override] # as above
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> _Timer:
        return self._at(self.clock.now + delay, callback, args, context or copy_context())

    def call_at(  # type: ignore[override] # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Timer:
        return self._at(when, callback, args, context or copy_context())

    def deliver(self, when: float, callback: Callable[..., Any], *args: Any) -> None:
        """``call_at`` for what no task has asked for, such as a packet."""
        self._at(when, callback, args, None)

    def _at(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> _Timer:
        timer = _Timer(when)
        timer._callback, timer._args, timer._context = callback, args, context
        timer._cancelled, timer._loop = False, self
        heapq.heappush(self.timers, timer)
        return timer

    def _run_once(self) -> None:
        """As asyncio's, but that the time that it would wait has passed at once."""
        ready, clock = self._ready, self.clock
        self._forget_cancelled()
        timers = self.timers
        if not ready and not self._stopping:
            if not timers:
                raise RuntimeError("everybody waits and no timer is set")
            if (wait := timers[0] - clock.now) > 0:
                clock.now += wait
        due = clock.now + RESOLUTION
        while timers and timers[0] < due:
            timer = heapq.heappop(timers)
            timer._loop = None
            ready.append(timer)
        for _ in range(len(ready)):
            call = ready.popleft()
            if call._cancelled:
                continue
            try:
                if call._context is None:
                    call._callback(*call._args)
                else:
                    call._context.run(call._callback, *call._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                told = {"message": f"exception in {call._callback}", "exception": error}
                self.call_exception_handler(told)

    def _forget_cancelled(self) -> None:
        timers = self.timers
        if self.cancelled > CROWD * len(timers) and len(timers) > CROWDED:
            self.timers = [timer for timer in timers if not timer._cancelled]
            heapq.heapify(self.timers)
            self.cancelled = 0
            return
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._loop = None
            self.cancelled -= 1

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
