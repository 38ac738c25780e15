"""One side of a TCP connection: what of Linux's TCP shows in a probe's steps and facts.

Retransmissions (a probe after two round trips, then by the timer, doubled each time), the
acknowledgement of every segment, slow start, three duplicate acknowledgements, resets that must
have the exact number (RFC 5961). Nothing about windows: nobody sends more here than they hold.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from probes.net import stream
from tests.lab.packet import ACK, FIN, PSH, RST, SYN, Ends

MSS = 1448  # of an Ethernet path, with timestamps
LEAST_RTO = 0.2  # TCP_RTO_MIN
FIRST_RTO = 1.0  # TCP_TIMEOUT_INIT, RFC 6298
MOST_TRIES = 15  # tcp_retries2
SYN_TRIES = 6
INITIAL_WINDOW = 10  # segments, RFC 6928
MOST_WINDOW = 400  # segments: what 16 bits and the usual scaling come to


@dataclass(slots=True)
class Flight:
    """A segment that was sent and is not acknowledged yet."""

    sequence: int
    flags: int
    payload: bytes
    at: float
    tries: int = 0

    @property
    def end(self) -> int:
        return self.sequence + len(self.payload) + bool(self.flags & (SYN | FIN))


class Listener(Protocol):
    """Who owns the connection: told when something happens."""

    def opened(self) -> None: ...
    def arrived(self, data: bytes) -> None: ...
    def ended(self) -> None: ...
    def broken(self, error: int) -> None: ...


Transmit = Callable[[Ends, int, int, int, bytes], None]
"""Ends, sequence, acknowledged, flags, payload."""


class Endpoint:
    """``ends`` as in a packet that this side sends. The client calls ``connect``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transmit: Transmit,
        ends: Ends,
        listener: Listener,
        first: int,
    ) -> None:
        self.loop, self.transmit, self.ends, self.listener = loop, transmit, ends, listener
        self.state = "closed"
        self.una = self.nxt = first
        self.expected: int | None = None  # the other side's next number
        self.waiting = bytearray()
        self.finishing = False
        self.flights: deque[Flight] = deque()
        self.early: dict[int, tuple[int, bytes]] = {}
        self.window = float(INITIAL_WINDOW)
        self.threshold = float(MOST_WINDOW)
        self.rto, self.backoff, self.probed = FIRST_RTO, 0, False
        self.rtt = self.min_rtt = 0.0
        self.duplicates = 0
        self.retransmissions = self.segments_out = self.segments_in = 0
        self.bytes_acked = self.bytes_received = self.out_of_order = 0
        self._timer: asyncio.TimerHandle | None = None

    # --- what the owner does ---

    def connect(self) -> None:
        self.state = "syn sent"
        self._send(SYN, b"")

    def accept(self, sequence: int) -> None:
        """A SYN came with this number."""
        self.state, self.expected = "syn received", sequence + 1
        self._send(SYN | ACK, b"")

    def write(self, data: bytes) -> None:
        if self.state in ("open", "half closed"):
            self.waiting += data
            self._pump()

    def finish(self) -> None:
        """No more data after what was written."""
        if self.state in ("open", "half closed") and not self.finishing:
            self.finishing = True
            self._pump()

    def abandon(self) -> None:
        """Closed by its program: a last FIN, and nothing is repeated any more."""
        if self.state in ("open", "half closed") and not self.finishing:
            self._emit(self.nxt, FIN | ACK, b"")
        self.die()

    def reset(self) -> None:
        self._emit(self.nxt, RST | ACK, b"")
        self.die()

    def info(self) -> bytes:
        """struct tcp_info, as ``probes.net.stream`` reads it."""
        connected = self.expected is not None
        state = {"syn sent": 2, "syn received": 3, "half closed": 8, "closed": 7}.get(self.state, 1)
        raw = bytearray(
            stream._TCP_INFO.pack(
                len(self.flights),
                round(self.rtt * 1e6),
                round(self.rtt * 1e6),
                self.retransmissions,
                self.bytes_acked + connected,
                self.bytes_received,
                self.segments_out,
                self.segments_in,
                len(self.waiting),
                round(self.min_rtt * 1e6),
                self.out_of_order,
            )
        )
        raw[0] = state
        return bytes(raw)

    # --- what the network brings ---

    def segment(self, sequence: int, acknowledged: int, flags: int, payload: bytes) -> None:
        self.segments_in += 1
        if flags & RST:
            self._on_reset(sequence, acknowledged, flags)
        elif self.state == "syn sent":
            if flags & SYN and flags & ACK and acknowledged == self.nxt:
                self.expected = sequence + 1
                self._on_ack(acknowledged, payload)
                self.state = "open"
                self._emit(self.nxt, ACK, b"")
                self.listener.opened()
        elif self.state != "closed":
            self._while_open(sequence, acknowledged, flags, payload)

    def _while_open(self, sequence: int, acknowledged: int, flags: int, payload: bytes) -> None:
        if flags & SYN:
            if self.state == "open":  # our answer to its SYN was lost
                self._emit(self.nxt, ACK, b"")
            return
        self._on_ack(acknowledged, payload)
        if self.state == "syn received" and acknowledged == self.nxt:
            self.state = "open"
            self.listener.opened()
        if payload or flags & FIN:
            self._on_data(sequence, flags, payload)

    def icmp(self, error: int) -> None:
        """Unreachable: it ends an attempt to connect, and nothing else."""
        if self.state == "syn sent":
            self._break(error)

    # --- inside ---

    def _on_reset(self, sequence: int, acknowledged: int, flags: int) -> None:
        if self.state == "syn sent":
            if flags & ACK and acknowledged == self.nxt:
                self._break(errno.ECONNREFUSED)
        elif self.state != "closed" and self.expected is not None:
            if sequence == self.expected:
                self._break(errno.ECONNRESET)
            elif self.expected < sequence < self.expected + 65_536:
                self._emit(self.nxt, ACK, b"")

    def _on_ack(self, acknowledged: int, payload: bytes) -> None:
        if acknowledged <= self.una:
            if acknowledged == self.una and self.flights and not payload:
                self.duplicates += 1
                if self.duplicates == 3:
                    self._lost(self.flights[0])
            return
        now = self.loop.time()
        acked_before = self.una
        while self.flights and self.flights[0].end <= acknowledged:
            flight = self.flights.popleft()
            if not flight.tries:
                self._sample(now - flight.at)
            self.bytes_acked += len(flight.payload)
        self.una = acknowledged
        self.duplicates = 0
        self.backoff, self.probed = 0, False
        grown = (acknowledged - acked_before) / MSS
        slow = self.window < self.threshold
        self.window = min(MOST_WINDOW, self.window + (grown if slow else grown / self.window))
        self._stop_timer()
        self._pump()
        if self.flights and self._timer is None:
            self._start_timer()

    def _sample(self, seconds: float) -> None:
        self.min_rtt = min(self.min_rtt or seconds, seconds)
        self.rtt = seconds if not self.rtt else self.rtt + (seconds - self.rtt) / 8
        self.rto = self.rtt + LEAST_RTO

    def _on_data(self, sequence: int, flags: int, payload: bytes) -> None:
        assert self.expected is not None
        if sequence > self.expected:
            self.out_of_order += 1
            self.early[sequence] = (flags, payload)
        elif sequence + len(payload) + bool(flags & FIN) > self.expected:
            self._take(sequence, flags, payload)
            while self.state != "closed" and self.expected in self.early:
                self._take(self.expected, *self.early.pop(self.expected))
        if self.state != "closed":
            self._emit(self.nxt, ACK, b"")

    def _take(self, sequence: int, flags: int, payload: bytes) -> None:
        assert self.expected is not None
        fresh = payload[self.expected - sequence :]
        self.expected += len(fresh)
        self.bytes_received += len(fresh)
        if fresh:
            self.listener.arrived(fresh)
        if flags & FIN and self.state != "closed":
            self.expected += 1
            self.bytes_received += 1  # as the kernel counts
            self.state = "half closed"
            self.listener.ended()

    def _pump(self) -> None:
        while self.waiting and len(self.flights) < self.window:
            chunk = bytes(self.waiting[:MSS])
            del self.waiting[:MSS]
            self._send(PSH | ACK, chunk)
        if self.finishing and not self.waiting and self.state in ("open", "half closed"):
            self.state = "finished" if self.state == "open" else "last ack"
            self._send(FIN | ACK, b"")

    def _send(self, flags: int, payload: bytes) -> None:
        flight = Flight(self.nxt, flags, payload, self.loop.time())
        self.nxt = flight.end
        self.flights.append(flight)
        self._emit(flight.sequence, flags, payload)
        if self._timer is None:
            self._start_timer()

    def _emit(self, sequence: int, flags: int, payload: bytes) -> None:
        self.segments_out += 1
        self.transmit(self.ends, sequence, self.expected or 0, flags, payload)

    def _start_timer(self) -> None:
        rto = self.rto * 2**self.backoff
        if not self.probed and self.rtt:  # a tail loss probe comes before the timer
            rto = min(rto, 2 * self.rtt + (LEAST_RTO if len(self.flights) == 1 else 0.0))
        self._timer = self.loop.call_later(rto, self._expired)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if not self.flights or self.state == "closed":
            return
        first = self.flights[0]
        most = SYN_TRIES if first.flags & SYN else MOST_TRIES
        if first.tries >= most:
            self._break(errno.ETIMEDOUT)
            return
        if self.rtt and not self.probed:
            self.probed = True
        else:
            self.backoff += 1
            self.threshold = max(2.0, self.window / 2)
            self.window = 1.0
        self._again(first)
        self._start_timer()

    def _lost(self, flight: Flight) -> None:
        self.threshold = self.window = max(2.0, self.window / 2)
        self._again(flight)

    def _again(self, flight: Flight) -> None:
        flight.tries += 1
        self.retransmissions += 1
        self._emit(flight.sequence, flight.flags, flight.payload)

    def _break(self, error: int) -> None:
        self.die()
        self.listener.broken(error)

    def die(self) -> None:
        self.state = "closed"
        self._stop_timer()
        self.flights.clear()
        self.waiting.clear()
