"""What the store remembers, asked: for the page, /api/v1/history and ``callpath history``.

Opened for reading only, while the agent writes. Nothing here takes the agent's lock or its loop:
the web process asks from a thread of its own (``asyncio.to_thread``). Every answer is bounded.

Times are Unix seconds. A time in which the agent did not run, or kept nothing, is ``unknown`` with
the reason ``not_running``: not measured is not ok.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

from exporters.record import unpack, unpack_observations
from probes.model import CONTROL, Certainty, Mechanism, Observation, Status, Target

FILE = "callpath.sqlite"
KNOWN = 2
"""The version of the store that is read here (agent/store.py)."""
BAD = (Status.DEGRADED, Status.BLOCKED, Status.UNREACHABLE)
NOT_RUNNING = "not_running"
SLOT = 600
"""Seconds of one point of a series."""
WAITS = 5
"""Intervals for which a round may be on its way."""
CHANGES = 5000
"""Of a channel that are read at most, the newest ones; before the first of them nothing is said."""
CHAIN = 250
"""Rounds of a messenger among which there is an anchor (agent/history.py), if they are kept."""
LOOKED_THROUGH = 400
"""Rounds that are looked through at most for a target's last failures."""
_SURE = list(Certainty)
WORST = [Status.UNKNOWN, Status.OK, Status.DEGRADED, Status.UNREACHABLE, Status.BLOCKED]
"""The statuses, each worse than the one before."""


class NoHistory(Exception):
    """There is no store to be read; says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which one thing was said of a channel; the last one ends now.

    ``summary`` is the sentence at its beginning, ``evidence`` how many observations stood behind
    the finding, ``why`` the reason of an unknown one.
    """

    messenger: str
    channel: str
    since: float
    until: float
    status: Status
    mechanism: Mechanism
    certainty: Certainty
    confidence: float
    rule: str
    intermittent: bool
    summary: str
    evidence: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    """Bad segments in a row, told by the one that was surest, of those by the worst. ``until`` is
    None while it lasts.

    ``status`` is the worst of them; ``seconds`` those in which the channel was seen to be bad: what
    was not known in between does not count.
    """

    messenger: str
    channel: str
    since: float
    until: float | None
    status: Status
    mechanism: Mechanism
    certainty: Certainty
    confidence: float
    rule: str
    summary: str
    evidence: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Point:
    """Ten minutes of one target, or more where points were joined (``at`` is their beginning).

    ``rtt_*``: seconds; ``loss``, ``late``: shares of the last stream's packets, ``jitter`` seconds,
    ``mos`` of G.711; ``control_*``: of the stream beside it. None was not measured.
    """

    at: float
    runs: int
    working: int
    rtt_min: float | None
    rtt_median: float | None
    rtt_p95: float | None
    sent: int
    received: int
    loss: float | None
    late: float | None
    jitter: float | None
    mos: float | None
    control_loss: float | None
    control_mos: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A round as it is kept. ``anchor``: it rests on no row before it. ``judged`` is what
    agent/recorded.py reads, None where age took it; ``seen`` is what was observed in it, and
    what it rests on beside the rows before it."""

    id: int
    at: float
    messenger: str
    kept: bool
    anchor: bool
    judged: dict[str, Any] | None
    seen: tuple[Observation, ...]


class History:
    """The store in a state folder. Thread-safe. Raises NoHistory when there is none to read, then
    and at any question later."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._db = _open(folder / FILE)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise NoHistory(f"the store cannot be read: {error}") from error

    # --- channels ---

    def channels(self) -> list[tuple[str, str]]:
        """Messenger and channel, of which anything is remembered."""
        sql = "SELECT DISTINCT messenger, channel FROM changes ORDER BY messenger, channel"
        return [(str(m), str(c)) for m, c in self._read(sql)]

    def timeline(self, since: float, now: float) -> dict[tuple[str, str], list[Segment]]:
        """Every channel's segments from ``since`` to ``now``, oldest first, without a gap."""
        return {key: self.segments(*key, since, now) for key in self.channels()}

    def segments(self, messenger: str, channel: str, since: float, now: float) -> list[Segment]:
        """One channel's. A clock that was set back shortens what it was set back over."""
        rows = self._read(
            f"SELECT {_CHANGE} FROM changes WHERE messenger = ? AND channel = ? AND id >= coalesce("
            "(SELECT max(id) FROM changes WHERE messenger = ? AND channel = ? AND at <= ?), 0)"
            f" ORDER BY id DESC LIMIT {CHANGES}",
            *(messenger, channel, messenger, channel, since),
        )
        said = _in_time(map(_segment, rows[::-1]), now)
        if len(rows) == CHANGES and said:
            since = max(since, said[0].since)
        running = self._running(since, now)
        return list(_with_gaps(said, running, (messenger, channel), since, now))

    def _running(self, since: float, now: float) -> list[tuple[float, float]]:
        """When the agent ran, oldest first. The round under way belongs to it as well."""
        sql = "SELECT since, until, interval FROM spans WHERE until + interval > ? ORDER BY since"
        found: list[tuple[float, float]] = []
        for a, b, interval in self._read(sql, since):
            end = now if now - b < WAITS * interval else float(b)
            if found and a <= found[-1][1]:
                a, end = found[-1][0], max(end, found.pop()[1])
            if a < now:
                found.append((float(a), end))
        return found

    def outages(
        self, since: float, now: float, messengers: Sequence[str] = (), channel: str = ""
    ) -> list[Outage]:
        """Of these messengers, or of all; the newest first. What began before ``since`` and lasted
        until then is in it, with its true beginning as far as that is kept."""
        found: list[Outage] = []
        for key in self.channels():
            if (messengers and key[0] not in messengers) or (channel and key[1] != channel):
                continue
            its = _outages(self.segments(*key, 0.0, now))
            found += [o for o in its if o.until is None or o.until > since]
        return sorted(found, key=lambda o: (-o.since, o.messenger, o.channel))

    # --- targets ---

    def targets(self, messenger: str) -> list[Target]:
        """Of which there are figures."""
        sql = "SELECT messenger, channel, name, probe FROM targets WHERE messenger = ? ORDER BY id"
        return [Target(*map(str, words)) for words in self._read(sql, messenger)]

    def series(
        self, messenger: str, name: str, since: float, now: float, most: int = 1008
    ) -> list[Point]:
        """A target's figures, oldest first; ten minutes each, and longer where they would be more
        than ``most``. A point without a run is left out."""
        rows = self._read(
            f"SELECT {_POINT} FROM slots WHERE target IN (SELECT id FROM targets WHERE"
            " messenger = ? AND name = ?) AND at >= ? AND at <= ? ORDER BY at",
            *(messenger, name, since - SLOT, now),
        )
        return _joined(rows, SLOT * max(1, -(-int(now - since) // (SLOT * most))))

    def quality(
        self, messenger: str, name: str, since: float, now: float, most: int = 1008
    ) -> list[Point]:
        """As ``series``, where a stream was played."""
        points = self.series(messenger, name, since, now, most)
        return [p for p in points if p.loss is not None or p.mos is not None]

    def failures(self, messenger: str, name: str, most: int = 20) -> list[Observation]:
        """A target's last failures, and the contrasts of these (``contrast.of`` has their ids); the
        newest first. What was asked long ago, many rounds back, is not looked for."""
        sql = (
            "SELECT failed FROM rounds WHERE messenger = ? AND failed IS NOT NULL"
            f" ORDER BY id DESC LIMIT {LOOKED_THROUGH}"
        )
        found: dict[str, Observation] = {}
        for (packed,) in self._read(sql, messenger):
            with contextlib.suppress(ValueError):  # damaged: the others may not be
                for o in reversed(unpack_observations(packed)):
                    if o.target.name == name:
                        found.setdefault(o.id, o)
            if sum(o.contrast is None for o in found.values()) >= most:
                break
        return sorted(found.values(), key=lambda o: -o.at)

    # --- rounds, for evidence and for judging again ---

    def rows(self, messenger: str, since: float, until: float) -> Iterator[Row]:
        """A messenger's rounds and the controls', in the order in which they were written, from
        before ``since`` on, so that all is there that the rounds since then rest on. What cannot be
        read is left out. Never all at once in memory."""
        anchor = "SELECT max(id) FROM rounds WHERE messenger = ? AND anchor = 1 AND at <= ?"
        least = "SELECT id FROM rounds WHERE messenger = ? AND at <= ? ORDER BY id DESC"
        far = self._read(f"{least} LIMIT 1 OFFSET {CHAIN}", messenger, since)
        last = max(
            int(self._read(anchor, messenger, since)[0][0] or 0), int(far[0][0]) if far else 0
        )
        sql = (
            "SELECT id, at, messenger, kept, anchor, judged, failed, worked, also"
            " FROM rounds"
            " WHERE messenger IN (?, ?) AND id > ? AND at <= ? ORDER BY id LIMIT 64"
        )
        last -= 1
        while rows := self._read(sql, messenger, CONTROL, last, until):
            for row in rows:
                last = int(row[0])
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    yield _row(row)


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise NoHistory(f"nothing is remembered yet: {path} does not exist")
    # A disk that is read-only altogether has no room for the log's index.
    for how in ("mode=ro", "mode=ro&immutable=1"):
        try:
            db = sqlite3.connect(
                f"{path.resolve().as_uri()}?{how}", uri=True, timeout=5.0, check_same_thread=False
            )
        except sqlite3.Error as error:
            problem = error
            continue
        try:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.Error as error:
            db.close()
            problem = error
            continue
        if version != KNOWN:
            db.close()
            raise NoHistory(f"the store is of version {version}, and this callpath reads {KNOWN}")
        return db
    raise NoHistory(f"the store cannot be read: {problem}")


_CHANGE = (
    "messenger, channel, at, since, status, mechanism, certainty, confidence, rule, intermittent,"
    " summary, evidence, why"
)
_POINT = (
    "at, runs, working, rtt_min, rtt_median, rtt_p95, sent, received, loss, late, jitter, mos,"
    " control_loss, control_mos"
)


def _segment(row: tuple[Any, ...]) -> tuple[Segment, float | None]:
    """As it was noted: from when it was shown, without an end; and since when it was so."""
    messenger, channel, at, since, status, mechanism, certainty, confidence, rule, *rest = row
    intermittent, summary, evidence, why = rest
    segment = Segment(
        messenger=str(messenger),
        channel=str(channel),
        since=float(at),
        until=float(at),
        status=Status(status),
        mechanism=Mechanism(mechanism),
        certainty=Certainty(certainty),
        confidence=float(confidence),
        rule=str(rule),
        intermittent=bool(intermittent),
        summary=str(summary),
        evidence=int(evidence),
        why=str(why),
    )
    return segment, None if since is None else float(since)


def _in_time(said: Iterable[tuple[Segment, float | None]], now: float) -> list[Segment]:
    """Where a channel broke or was mended, a segment begins when that was seen first, which is
    before it was sure, if the one before had begun then. It ends where a later one begins: a clock
    that was set back shortens what it was set back over."""
    begun: list[Segment] = []
    for segment, since in said:
        before = begun[-1] if begun else None
        turned = before is not None and (before.status in BAD) != (segment.status in BAD)
        if before and turned and since is not None and before.since <= since < segment.since:
            segment = replace(segment, since=since)
        begun.append(segment)
    made: list[Segment] = []
    end = now
    for segment in reversed(begun):
        if segment.since < end:
            made.append(replace(segment, until=end))
            end = segment.since
    return made[::-1]


def _with_gaps(
    said: Sequence[Segment],
    running: Sequence[tuple[float, float]],
    key: tuple[str, str],
    since: float,
    now: float,
) -> Iterator[Segment]:
    """Cut to what is asked about, with segments for the time in which nothing was measured."""

    def nothing(a: float, b: float) -> Segment:
        return Segment(
            messenger=key[0],
            channel=key[1],
            since=a,
            until=b,
            status=Status.UNKNOWN,
            mechanism=Mechanism.INCONCLUSIVE,
            certainty=Certainty.NONE,
            confidence=0.0,
            rule="",
            intermittent=False,
            summary="Not measured: callpath did not run.",
            evidence=0,
            why=NOT_RUNNING,
        )

    at = since
    for segment in said:
        for a, b in running:
            a, b = max(a, segment.since, at), min(b, segment.until)
            if a < b:
                if at < a:
                    yield nothing(at, a)
                yield replace(segment, since=a, until=b)
                at = b
    if at < now:
        yield nothing(at, now)


def _outages(segments: Sequence[Segment]) -> list[Outage]:
    made: list[Outage] = []
    bad: list[Segment] = []
    for segment in segments:
        if segment.status in BAD:
            bad.append(segment)
        elif segment.status is Status.OK and bad:
            made.append(_outage(bad, bad[-1].until))
            bad = []
    if bad:
        lasts = bad[-1] is segments[-1]
        made.append(_outage(bad, None if lasts else bad[-1].until))
    return made


def _tells(of: Segment) -> tuple[int, int, float]:
    """The more, the better does it tell an outage."""
    return _SURE.index(of.certainty), WORST.index(of.status), of.confidence


def _outage(bad: Sequence[Segment], until: float | None) -> Outage:
    told = max(bad, key=_tells)
    return Outage(
        messenger=told.messenger,
        channel=told.channel,
        since=bad[0].since,
        until=until,
        status=max((s.status for s in bad), key=WORST.index),
        mechanism=told.mechanism,
        certainty=told.certainty,
        confidence=told.confidence,
        rule=told.rule,
        summary=told.summary,
        evidence=told.evidence,
        seconds=sum(s.until - s.since for s in bad),
    )


def coarser(points: Iterable[Point], width: float) -> list[Point]:
    """One point for every ``width`` seconds in which there is any; oldest first, as they came."""
    return _joined([tuple(getattr(p, name) for name in Point.__slots__) for p in points], width)


def _joined(rows: Iterable[tuple[Any, ...]], width: float) -> list[Point]:
    """Of points as rows: thousands of them become a hundred."""
    return [_one(list(some)) for _, some in groupby(rows, lambda row: row[0] // width)]


def _one(rows: Sequence[tuple[Any, ...]]) -> Point:
    """The medians of medians, the least of the least, the worst p95; streams: their means."""
    if len(rows) == 1:
        return Point(*rows[0])
    made: list[Any] = [rows[0][0]]
    for values, how in zip(list(zip(*rows, strict=True))[1:], _JOINED, strict=True):
        known = [v for v in values if v is not None]
        made.append(how(known) if known else None)
    return Point(*made)


_JOINED: tuple[Callable[[list[Any]], Any], ...] = (
    *(sum, sum),
    *(min, median, max),
    *(sum, sum),
    *(fmean, fmean, fmean, fmean, fmean, fmean),
)
"""How each column of Point but the first becomes one of many."""


def _row(row: tuple[Any, ...]) -> Row:
    number, at, messenger, kept, anchor, judged, *packed = row
    record = unpack(judged) if judged is not None else None
    if record is not None and not isinstance(record, dict):
        raise ValueError("no record of a round")
    failed, worked, also = map(unpack_observations, packed)
    seen = (*also, *worked, *failed)
    return Row(int(number), float(at), str(messenger), bool(kept), bool(anchor), record, seen)
