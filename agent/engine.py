"""The media engine: a process that sends datagrams when they are due and notes what comes back.

One loop over one heap of what is due (the next datagram of each stream, the streams' ends), one
socket per flow, one timer. It knows nothing of what it sends. It ends when the agent's end of the
pipe is closed, also by the agent's death. Imports little: asyncio alone would double its memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import heapq
import itertools
import os
import resource
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent import engineframes as frames
from agent.engineflows import Flow, Flows
from agent.engineframes import Part, Play
from probes.model import Failure
from probes.net.datagram import arrival, icmp_failures, send
from probes.net.errors import Refusal, of_errno

LEAD = 2_000_000
"""Nanoseconds from an order to the start of its streams, for the first sends to be on time."""
BEAT = 250_000_000
"""Nanoseconds between two looks at the clock, and between two words to one who watches."""
TOO_LATE = 1.0
"""Seconds. What is later is not sent: a process that was stopped must not make up for it."""
STEP = 1_000_000
"""Nanoseconds by which Unix time may move against monotonic time; slewing moves both."""
KEPT_PER_SEND, KEPT_BESIDE = 4, 64  # answers of one stream that are kept; the rest is counted
FAILURES_KEPT = 256
_FRAME = 32 * 1024  # records of one frame: few enough to be written without anything being late
_SENDS = 32  # in a row, before what has come gets its turn
_EVENTS = 64
_ERRORS = 64  # ICMP errors per wake-up
_UNREAD = 4096  # more than a socket's buffer holds
_LENGTH = struct.Struct("!I")  # as in exporters/framing.py


class Due(Protocol):
    """Something on the heap."""

    def act(self, due: int) -> int:
        """Do what is due; returns when the next is (monotonic nanoseconds), 0 for never."""


class Stream:
    """One stream under way. Its first failure to send that no ICMP error explains is kept too."""

    def __init__(self, play: Run, index: int, part: Part, flow: Flow | None) -> None:
        self._play, self._index, self._part = play, index, part
        self.flow = flow
        self._next = self._offset = 0
        self._room = KEPT_PER_SEND * len(part.ats) + KEPT_BESIDE
        self._failures = 0
        self._refused = False
        self._surplus = 0
        self._drain = self._drain_errors

    @property
    def first(self) -> int:
        """When its first datagram is due, 0 when it has none."""
        return self._play.start + int(self._part.ats[0] * 1e9) if self._part.ats else 0

    @property
    def end(self) -> int:
        return self._play.start + int(self._part.lasts * 1e9)

    def act(self, due: int) -> int:
        if self.flow is None:
            return 0
        part, n = self._part, self._next
        data = part.data[self._offset : self._offset + part.sizes[n]]
        self._offset += len(data)
        late, at = (time.monotonic_ns() - due) / 1e9, 0
        if late < TOO_LATE:
            try:
                at = send(self.flow.sock, data, self._drain)
            except Refusal as error:
                self.refused(error.failure)
            except OSError as error:
                self.refused(of_errno(error.errno))
        self._play.note(frames.sent(self._index, n, at, late))
        self._next = n + 1
        return self._play.start + int(part.ats[n + 1] * 1e9) if n + 1 < len(part.ats) else 0

    def refused(self, failure: Failure) -> None:
        """This host did not send. Once is enough to know why."""
        if not self._refused:
            self._refused = True
            self._play.note(frames.failed(self._index, failure))

    def never_opened(self, error: OSError) -> None:
        """This host has no way there: none of its datagrams was sent."""
        self.refused(of_errno(error.errno))
        for n in range(len(self._part.ats)):
            self._play.note(frames.sent(self._index, n, 0, 0.0))

    def readable(self, event: int) -> bool:
        """Take one datagram, so that every flow gets its turn; False when there was none."""
        assert self.flow is not None
        if event & select.EPOLLERR:
            self._drain_errors()
        try:
            data, ancillary, _, _ = self.flow.sock.recvmsg(frames.LARGEST, 64)
        except OSError:  # nothing there, or an ICMP error, which is on the error queue
            return self._drain_errors() > 0
        if self._room:
            self._room -= 1
            self._play.note(frames.received(self._index, arrival(ancillary)[0], data))
        else:
            self._surplus += 1
        return True

    def finish(self) -> None:
        """Its time is over: what has come and was not read yet came in time."""
        if self.flow is None:
            return
        for _ in range(_UNREAD):
            if not self.readable(0):
                break
        self._play.note(frames.over(self._index, self._surplus + self.flow.lost()))
        self.close()

    def close(self) -> None:
        if self.flow is not None:
            self.flow.give_back(good=not self._refused)
            self.flow = None

    def _drain_errors(self) -> int:
        """Must empty the queue on every wake-up, or the loop spins. Returns how many there were."""
        assert self.flow is not None
        for drained in range(_ERRORS):
            try:
                _, ancillary, _, _ = self.flow.sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return drained
            for failure in icmp_failures(ancillary):
                self._failures += 1
                if self._failures <= FAILURES_KEPT:
                    self._play.note(frames.failed(self._index, failure))
        return _ERRORS


class Run:
    """One play under way: its streams, and what is not told yet."""

    def __init__(self, play: Play, tell: Callable[[bytes], None]) -> None:
        self.number, self.start = play.number, 0
        self.streams: list[Stream] = []
        self._watched, self._tell = play.watched, tell
        self._records = frames.records_of(play.number)
        self._empty = len(self._records)
        self._offset = clock_offset()
        self._stepped = False

    def note(self, record: bytes) -> None:
        self._records += record
        if len(self._records) > _FRAME:
            self._flush()

    def act(self, due: int) -> int:
        """The beat. A clock that was set makes every time of this play doubtful."""
        if not self.streams:
            return 0
        self._look_at_clock()
        if self._watched:
            self._flush()
        return due + BEAT

    def finish(self) -> None:
        self._look_at_clock()
        self._records += frames.END
        self._flush()
        self.streams = []

    def stop(self) -> None:
        for stream in self.streams:
            stream.close()
        self.streams = []

    def _look_at_clock(self) -> None:
        if not self._stepped and abs(clock_offset() - self._offset) > STEP:
            self._stepped = True
            self._records += frames.STEPPED

    def _flush(self) -> None:
        if len(self._records) > self._empty:
            self._tell(bytes(self._records))
            self._records = frames.records_of(self.number)


class End:
    """The end of one stream, and with the last one that of its play."""

    def __init__(self, stream: Stream, run: Run, over: Callable[[Run], None]) -> None:
        self._stream, self._run, self._over = stream, run, over

    def act(self, due: int) -> int:
        self._stream.finish()
        if self._run.streams and all(s.flow is None for s in self._run.streams):
            self._over(self._run)
        return 0


class Engine:
    """The loop. ``pipe`` is the agent: orders come in, records go out, its end is ours."""

    def __init__(self, pipe: socket.socket) -> None:
        pipe.setblocking(False)
        self._pipe = pipe
        self._inbox, self._outbox = bytearray(), deque[memoryview]()
        self._epoll = select.epoll()
        self._epoll.register(pipe, select.EPOLLIN)
        self._timer = Timer()
        self._epoll.register(self._timer.fd, select.EPOLLIN | select.EPOLLET)
        self._heap: list[tuple[int, int, Due]] = []
        self._numbers = itertools.count()
        self._flows = Flows()
        self._runs: dict[int, Run] = {}
        self._reading: dict[int, Stream] = {}

    def run(self) -> None:
        """Until the agent closes its end."""
        while True:
            waits = not self._act()
            if waits and self._heap:
                self._timer.set(self._heap[0][0])
            for fd, event in self._epoll.poll(-1 if waits else 0, _EVENTS):
                stream = self._reading.get(fd)
                if stream is not None:
                    stream.readable(event)
                elif fd == self._pipe.fileno() and not self._hear(event):
                    return

    def _act(self) -> bool:
        """Do what is due, a few at a time; True when there was more."""
        heap = self._heap
        for _ in range(_SENDS):
            if not heap or heap[0][0] > time.monotonic_ns():
                return False
            due, number, thing = heap[0]
            again = thing.act(due)
            if again:
                heapq.heapreplace(heap, (again, number, thing))
            else:
                heapq.heappop(heap)
        return True

    def _put(self, due: int, thing: Due) -> None:
        if due:
            heapq.heappush(self._heap, (due, next(self._numbers), thing))

    # --- plays ---

    def _begin(self, play: Play) -> None:
        run = Run(play, self._send)
        self._runs[play.number] = run
        for index, part in enumerate(play.parts):
            stream = Stream(run, index, part, None)
            run.streams.append(stream)
            try:
                stream.flow = self._flows.take(part, play.source, self._free)
            except OSError as error:
                stream.never_opened(error)
                continue
            self._reading[stream.flow.fd] = stream
            self._epoll.register(stream.flow.fd, select.EPOLLIN)
        run.start = time.monotonic_ns() + LEAD
        # In the order given: of datagrams due at one instant the first stream's is the first sent.
        for stream in run.streams:
            self._put(stream.first, stream)
        for stream in run.streams:
            self._put(stream.end, End(stream, run, self._over))
        self._put(run.start + BEAT, run)

    def _free(self, flow: Flow) -> None:
        """A flow that is in no play is not listened to; a named one ends when nobody comes."""
        del self._reading[flow.fd]
        self._epoll.unregister(flow.fd)
        if flow.expiry is not None:
            self._put(flow.expiry.due, flow.expiry)

    def _over(self, run: Run) -> None:
        run.finish()
        del self._runs[run.number]
        if not self._runs:
            gc.collect()

    # --- the agent ---

    def _hear(self, event: int) -> bool:
        """Orders; False when there is nobody any more."""
        if event & select.EPOLLOUT:
            self._write()
        if not event & ~select.EPOLLOUT:
            return True
        try:
            data = self._pipe.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._inbox += data
        while len(self._inbox) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._inbox)
            end = _LENGTH.size + length
            if len(self._inbox) < end:
                break
            order = frames.decode_order(bytes(self._inbox[_LENGTH.size : end]))
            del self._inbox[:end]
            if isinstance(order, Play):
                self._begin(order)
            elif (run := self._runs.pop(order.number, None)) is not None:
                run.stop()
        return bool(data)

    def _send(self, frame: bytes) -> None:
        self._outbox.append(memoryview(_LENGTH.pack(len(frame)) + frame))
        if len(self._outbox) == 1:
            self._write()

    def _write(self) -> None:
        """An agent that does not read is no reason to wait; a dead one shows when it is heard."""
        while self._outbox:
            try:
                written = self._pipe.send(self._outbox[0])
            except BlockingIOError:
                self._epoll.modify(self._pipe, select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self._outbox.clear()
                return
            if written < len(self._outbox[0]):
                self._outbox[0] = self._outbox[0][written:]
            else:
                self._outbox.popleft()
        self._epoll.modify(self._pipe, select.EPOLLIN)


class Timer:
    """A timerfd(2), by libc, since Python has it from 3.13 on only. epoll's own time-outs are whole
    milliseconds."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._settime = libc.timerfd_settime
        self._when = (ctypes.c_long * 4)()  # struct itimerspec: interval, value
        self._at = 0

    def set(self, at: int) -> None:
        """Wake at a time of the monotonic clock, nanoseconds; at once when that is over."""
        if at == self._at:
            return
        self._at = at
        self._when[2], self._when[3] = divmod(at, 1_000_000_000)
        self._settime(self.fd, 1, self._when, None)  # TFD_TIMER_ABSTIME


def clock_offset() -> int:
    """Unix time over monotonic time, nanoseconds; of a few looks the least disturbed."""
    best, offset = sys.maxsize, 0
    for _ in range(5):
        before = time.monotonic_ns()
        now = time.time_ns()
        took = time.monotonic_ns() - before
        if took < best:
            best, offset = took, now - before
        if took < 20_000:
            break
    return offset


def main() -> None:
    pipe = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(OSError):  # where this user may: else a busy host makes sends late
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with contextlib.suppress(OSError, ValueError):  # a socket per flow
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.freeze()
    gc.disable()  # what a play leaves behind is collected when none is under way
    Engine(pipe).run()


if __name__ == "__main__":
    main()
