"""The engine's sockets: fresh ones, and named ones that stay open between plays."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable

from agent.engineframes import Part
from probes.net.address import Source
from probes.net.datagram import connected

NAMED = 256
"""Named flows that are kept; the one longest unused makes room."""
UNUSED = 3600
"""Seconds after which a named flow that no play wanted is closed."""
BUFFER = 1 << 20  # bytes asked for; the kernel gives net.core.rmem_max at the most
_STALE = 4096  # datagrams: more than fit into a buffer
SO_MEMINFO = 55  # asm-generic/socket.h; linux/sock_diag.h: nine numbers, the last is drops
_MEMINFO = struct.Struct("=9I")

Key = tuple[str, str, int, Source]


class Flow:
    """One connected socket, lent to one stream at a time."""

    def __init__(self, sock: socket.socket, key: Key | None, flows: Flows) -> None:
        self.sock, self.fd, self.key = sock, sock.fileno(), key
        self.expiry: Expiry | None = None
        self._flows = flows
        self._lost_before = 0
        self._released: Callable[[Flow], None] | None = None

    def lend(self, released: Callable[[Flow], None]) -> None:
        """What came while nobody waited is no answer to what is sent from now on."""
        self.expiry = None
        self._released = released
        for flag in (socket.MSG_ERRQUEUE, 0):
            for _ in range(_STALE):
                try:
                    self.sock.recv(1, flag)
                except BlockingIOError:
                    break
                except OSError:  # the error itself, beside its queue
                    continue
        self._lost_before = self._drops()

    def lost(self) -> int:
        """Datagrams that this host had no room for since the flow was lent."""
        return (self._drops() - self._lost_before) & 0xFFFFFFFF

    def _drops(self) -> int:
        """Unlike SO_RXQ_OVFL, which comes with the next datagram, complete at any time."""
        info = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(info)[8])

    def give_back(self, *, good: bool) -> None:
        """``good``: this host could send on it; else a named one is not kept, but made anew."""
        keep = good and self.key is not None
        if keep:
            self.expiry = Expiry(self)
        assert self._released is not None, "it was lent"
        self._released(self)
        self._released = None
        if not keep:
            self._flows.drop(self)

    @property
    def lent(self) -> bool:
        return self._released is not None

    def close_unused(self, expiry: Expiry) -> None:
        if self.expiry is expiry:
            self._flows.drop(self)


class Expiry:
    """When a named flow that was just given back is closed, if nobody takes it before."""

    def __init__(self, flow: Flow) -> None:
        self.due = time.monotonic_ns() + UNUSED * 1_000_000_000
        self._flow = flow

    def act(self, due: int) -> int:
        self._flow.close_unused(self)
        return 0


class Flows:
    """Lends flows to streams."""

    def __init__(self) -> None:
        self._named: dict[Key, Flow] = {}  # the one used last is last

    def take(self, part: Part, source: Source, released: Callable[[Flow], None]) -> Flow:
        """A flow to the part's place. A name that another stream is using right now gives a fresh
        one. Raises OSError."""
        key = (part.flow, part.address, part.port, source) if part.flow else None
        flow = self._named.pop(key, None) if key else None
        if flow is not None and flow.lent:
            assert key is not None
            self._named[key], flow, key = flow, None, None
        if flow is None:
            sock = connected(part.address, part.port, source)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            flow = Flow(sock, key, self)
        if key is not None:
            self._named[key] = flow
        flow.lend(released)
        self._make_room()
        return flow

    def _make_room(self) -> None:
        unused = (flow for flow in self._named.values() if not flow.lent)
        for flow in list(itertools.islice(unused, max(0, len(self._named) - NAMED))):
            self.drop(flow)

    def drop(self, flow: Flow) -> None:
        if flow.key is not None:
            self._named.pop(flow.key, None)
        flow.expiry = None
        flow.sock.close()
