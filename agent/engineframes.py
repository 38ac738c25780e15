"""What the agent and its media engine tell each other: bytes in, values out.

No pickle either way: the engine faces the network, and building thousands of objects in one go
would make the packets late that are due meanwhile. So what is to be played goes there as arrays,
and what happened comes back as small records that are written down as it happens.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from probes.model import Failure
from probes.net.address import Source
from probes.net.streams import Played, Received, Stream

FAILURES = tuple(Failure)
LARGEST = 1500
"""Bytes of an answer that are kept; no datagram of a path is larger, and no answer of ours."""

_HEAD = struct.Struct("=I")
_RECORDS = struct.Struct("=I")  # the play's number, before its records
_SENT = struct.Struct("=BHIqd")
_RECEIVED = struct.Struct("=BHqH")
_FAILED = struct.Struct("=BHB")
_OVER = struct.Struct("=BHI")
_S, _R, _F, _O, _STEPPED, _END = range(6)
STEPPED, END = bytes([_STEPPED]), bytes([_END])


@dataclass(frozen=True, slots=True)
class Part:
    """One stream as the engine takes it: ``ats`` ascending, the rest in that order."""

    address: str
    port: int
    lasts: float
    flow: str
    ats: array[float]
    sizes: array[int]
    data: bytes


@dataclass(frozen=True, slots=True)
class Play:
    """Streams to start together. ``watched``: what happened is wanted several times a second."""

    number: int
    source: Source
    watched: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more of this play is to be sent, or told."""

    number: int


def order_of(stream: Stream) -> list[int]:
    """The stream's sends as they come in time; those of one instant as given."""
    return sorted(range(len(stream.sends)), key=lambda n: stream.sends[n].at)


def encode_play(number: int, streams: Sequence[Stream], source: Source, watched: bool) -> bytes:
    """Raises OverflowError for a datagram that IP has no room for."""
    described, bodies = [], []
    for stream in streams:
        sends = [stream.sends[n] for n in order_of(stream)]
        described.append([stream.address, stream.port, stream.lasts, stream.flow, len(sends)])
        bodies.append(array("d", (send.at for send in sends)).tobytes())
        bodies.append(array("H", (len(send.data) for send in sends)).tobytes())
        bodies.append(b"".join(send.data for send in sends))
    head = json.dumps([number, watched, [source.address, source.interface], described]).encode()
    return b"".join((_HEAD.pack(len(head)), head, *bodies))


def encode_stop(number: int) -> bytes:
    head = json.dumps([number]).encode()
    return _HEAD.pack(len(head)) + head


def decode_order(frame: bytes) -> Play | Stop:
    """What ``encode_play`` and ``encode_stop`` made."""
    (length,) = _HEAD.unpack_from(frame)
    at = _HEAD.size + length
    number, *rest = json.loads(frame[_HEAD.size : at])
    if not rest:
        return Stop(number)
    watched, source, described = rest
    parts = []
    for address, port, lasts, flow, count in described:
        ats, sizes = array("d"), array("H")
        for numbers in (ats, sizes):
            numbers.frombytes(frame[at : at + count * numbers.itemsize])
            at += count * numbers.itemsize
        data = frame[at : at + sum(sizes)]
        at += len(data)
        parts.append(Part(address, port, lasts, flow, ats, sizes, data))
    return Play(number, Source(*source), watched, tuple(parts))


# --- what happened: the engine's side ---


def records_of(number: int) -> bytearray:
    """An empty frame of this play's records, to be extended."""
    return bytearray(_RECORDS.pack(number))


def sent(stream: int, n: int, at: int, late: float) -> bytes:
    """``n``: which of the stream's sends, in time's order; ``at`` 0: this host refused."""
    return _SENT.pack(_S, stream, n, at, late)


def received(stream: int, at: int, data: bytes) -> bytes:
    return _RECEIVED.pack(_R, stream, at, len(data)) + data


def failed(stream: int, failure: Failure) -> bytes:
    return _FAILED.pack(_F, stream, FAILURES.index(failure))


def over(stream: int, overflowed: int) -> bytes:
    return _OVER.pack(_O, stream, min(overflowed, 0xFFFFFFFF))


# --- and the agent's ---


def number_of(frame: bytes) -> int:
    """Which play a frame of records belongs to."""
    return int(_RECORDS.unpack_from(frame)[0])


@dataclass(slots=True)
class _Gathered:
    order: list[int]
    sent: list[int]
    late: list[float]
    received: list[Received] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    overflowed: int = 0


class Gathering:
    """Puts together what came of one play."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._of = [
            _Gathered(order_of(s), [0] * len(s.sends), [0.0] * len(s.sends)) for s in streams
        ]
        self._stepped = False

    def add(self, frame: bytes) -> bool:
        """Take the records of one frame; True when the play is over. Raises ValueError and what
        else comes of bytes that are no records."""
        at, end, over = _RECORDS.size, len(frame), False
        while at < end:
            kind = frame[at]
            if kind == _R:
                _, stream, when, size = _RECEIVED.unpack_from(frame, at)
                at += _RECEIVED.size
                self._of[stream].received.append(Received(when, frame[at : at + size]))
                at += size
            elif kind == _S:
                _, stream, n, when, late = _SENT.unpack_from(frame, at)
                at += _SENT.size
                one = self._of[stream]
                n = one.order[n]
                one.sent[n], one.late[n] = when, late
            elif kind == _F:
                _, stream, word = _FAILED.unpack_from(frame, at)
                at += _FAILED.size
                self._of[stream].failures.append(FAILURES[word])
            elif kind == _O:
                _, stream, self._of[stream].overflowed = _OVER.unpack_from(frame, at)
                at += _OVER.size
            elif kind in (_STEPPED, _END):
                at += 1
                self._stepped |= kind == _STEPPED
                over |= kind == _END
            else:
                raise ValueError(f"no record starts with {kind}")
        return over

    def played(self) -> list[Played]:
        """Everything so far."""
        return [
            Played(
                sent=tuple(one.sent),
                late=tuple(one.late),
                received=tuple(one.received),
                failures=tuple(one.failures),
                overflowed=one.overflowed,
                stepped=self._stepped,
            )
            for one in self._of
        ]
