"""What survives a restart: trust, confirmed states, the network, smallest RTTs, today's bytes, and
the history (agent/history.py).

One SQLite file in the state folder. A write is one transaction per round, so ``kill -9`` at any
moment loses at most the round in progress. A disk that fails costs the memory, never the measuring.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.migrations import MIGRATIONS, VERSION
from agent.state import ChannelState
from agent.staterecord import state_from, written
from agent.trust import Record
from probes.model import Target

log = logging.getLogger(__name__)

FILE = "callpath.sqlite"
DAMAGED = "callpath.damaged"
FILES = (f"{FILE}-wal", f"{FILE}-shm", FILE, DAMAGED)
_CHUNK = 2**20
_HEAD = b"SQLite format 3\x00"
_LOCK_SECONDS = 20.0
_LOG_SIZE = 4 * 1024 * 1024
"""Bytes to which the write-ahead log is cut back."""
_PAGES = 256
"""That are given back at once."""

Rows = Sequence[tuple[object, ...]]
Work = tuple[str, Rows]
"""A statement, and the rows for which it is to be done."""
TrustKey = tuple[str, str, str]
"""Messenger, target, dress."""
Place = tuple[str, str, str]
"""Messenger, target, address."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the history ended: the numbers of the last round and of the last change, the words of
    the last change by messenger and channel, the targets' numbers, the last span of measuring."""

    rounds: int
    changes: int
    last: Mapping[tuple[str, str], tuple[object, ...]]
    targets: dict[Target, int]
    span: tuple[int, float, float] | None


class NewerStore(Exception):
    """The file was written by a later version, which knows what is in it; we do not."""


class Store:
    """Raises nothing for a failing disk: ``healthy`` turns False and stays so until a write works.
    While no file can be had it is in memory, with what could be read of the file.

    Thread-safe: writes run in a worker thread, so that a slow disk delays no measurement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.healthy = True
        self.begun = 0
        """How often another file took the place of the one before: what is known is not in it."""
        self._lock = threading.Lock()
        self._file: int | None = None
        self._named: dict[str, bytes] = {}
        self.owed = False
        """Is another file in use, into which not all that is known was written yet?"""
        self._db = self._open()
        self._named = {str(k): bytes(v) for k, v in self.read("SELECT key, value FROM meta")}

    def _open(self) -> sqlite3.Connection:
        return self._file_of_ours() or self._in_memory()

    def _file_of_ours(self, patience: float = _LOCK_SECONDS) -> sqlite3.Connection | None:
        path = self.folder / FILE
        try:
            return self._opened(path, patience)
        except sqlite3.DatabaseError as error:
            return self._without(path, error)
        except OSError as error:
            self._say("the state folder cannot be used, nothing will be remembered: %s", error)
        except NewerStore as error:
            self._say("%s; it is left alone, and nothing will be remembered", error)
        return None

    def _opened(self, path: Path, patience: float = _LOCK_SECONDS) -> sqlite3.Connection:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        watched = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            db = _open(path, patience)
            if not _is_there(path, watched):  # the log has a whole beginning, the file has not
                db.execute("PRAGMA wal_checkpoint")
        except BaseException:
            os.close(watched)
            raise
        self._watch(watched)
        return db

    def _watch(self, file: int | None) -> None:
        """The descriptor of the file in use. Open for as long as that is: to close it would take
        SQLite's own locks away (POSIX: those of a process end with any close of the file)."""
        if self._file is not None:
            os.close(self._file)
        self._file = file

    def _say(self, text: str, error: Exception) -> None:
        """Once: it is tried again with every round."""
        if self.healthy:
            log.error(text, error)

    def look(self) -> bool:
        """For a thread. Opens what could not be opened before; and where the file is no more the
        one that is in use (deleted, or another was put there), the one that is there. Is all that
        is known to be written anew?"""
        with self._lock:
            if self._file is None or not _is_there(self.folder / FILE, self._file):
                self._exchange()
            return self.owed

    def _exchange(self) -> None:
        before, was_file = self._db, self._file is not None
        if was_file:
            log.error("the store's file was taken away, replaced or damaged: beginning anew")
        opened = self._file_of_ours(0.0)
        if opened is None and not was_file:
            return  # in memory as before
        with contextlib.suppress(sqlite3.Error):
            before.close()
        self._replace(opened or self._in_memory())

    def _replace(self, db: sqlite3.Connection) -> None:
        self._db, self.owed = db, True
        self.begun += 1

    def _without(self, path: Path, error: Exception) -> sqlite3.Connection | None:
        """Set a damaged file aside and begin anew; what was learned is lost, and it is said."""
        with contextlib.suppress(OSError, sqlite3.DatabaseError):
            if not _is_damage(error):
                raise OSError(str(error))
            aside = path.with_name(DAMAGED)
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            log.error("the store was damaged (%s): set aside as %s", error, aside)
            return self._opened(path)
        self._say("the store cannot be used, nothing will be remembered: %s", error)
        return None

    def _in_memory(self) -> sqlite3.Connection:
        """With what was learned before, where that can be read."""
        self.healthy = False
        self._watch(None)
        db = _prepare(sqlite3.connect(":memory:", check_same_thread=False))
        _copy(self.folder / FILE, db)
        return db

    def close(self) -> None:
        with self._lock:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._watch(None)

    def _write(self, *work: Work, heals: bool = True, pays: bool = False) -> bool:
        """One transaction of statements with their rows; whether it was written. ``heals``: does
        that make the store healthy again? ``pays``: is it all that is known?"""
        with self._lock:
            try:
                with self._db:
                    for sql, rows in work:
                        self._db.executemany(sql, rows)
                self.owed = self.owed and not pays
                if heals and not self.healthy and not self.in_memory:
                    log.warning("the store is written again")
                    self.healthy = True
            except sqlite3.Error as error:
                if self.healthy:
                    log.error("the store cannot be written, measuring goes on: %s", error)
                self.healthy = False
                self._set_aside(error)
                return False
        return True

    def _set_aside(self, error: sqlite3.Error) -> None:
        """If it turns out to be damaged while it is in use: begin anew."""
        if _is_damage(error) and not self.in_memory:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._replace(self._without(self.folder / FILE, error) or self._in_memory())

    @property
    def in_memory(self) -> bool:
        """Is nothing of it on a disk?"""
        return self._file is None

    def read(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return list(self._db.execute(sql, values))
            except sqlite3.Error as error:
                log.error("the store cannot be read: %s", error)
                self.healthy = False
                self._set_aside(error)
                return []

    def forget(self) -> None:
        """Everything, for good; begin anew. For a thread: a large file takes its time."""
        with self._lock:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            try:
                wipe(self.folder)
                self.healthy, self.owed = True, False
                self._named.clear()
            finally:
                self._db = self._open()

    # --- meta: small named values ---

    def get(self, key: str) -> bytes | None:
        rows = self.read("SELECT value FROM meta WHERE key = ?", key)
        return bytes(rows[0][0]) if rows else None

    def put(self, key: str, value: bytes) -> None:
        self._named[key] = value
        self._write((_PUT, [(key, value)]))

    def save_round(
        self,
        network: str,
        *,
        trust: Mapping[TrustKey, Record] = MappingProxyType({}),
        rtts: Mapping[str, float] = MappingProxyType({}),
        vouched: Mapping[Place, float] = MappingProxyType({}),
        states: Mapping[tuple[str, str], ChannelState] = MappingProxyType({}),
        bytes_today: bytes = b"",
        history: Sequence[Work] = (),
    ) -> tuple[bool, bool]:
        """What one round has added. ``rtts``: seconds by address; of each the smallest is kept.
        ``vouched``: when a certificate was last right there. ``history``: statements with their
        rows. Was it written, and was the history? One that cannot be, perhaps for want of room,
        does not cost the rest."""
        work: list[Work] = [
            (_TRUST, _trust_rows(network, trust)),
            (_RTT, _rtt_rows(network, rtts)),
            (_VOUCHED, [(network, *place, at) for place, at in vouched.items()]),
            (_STATE, _state_rows(network, states)),
            (_PUT, [("bytes_today", bytes_today)] if bytes_today else []),
        ]
        if self.owed:
            work.append((_PUT, list(self._named.items())))
        if self._write(*work, *history, pays=True):
            return True, True
        return bool(history) and self._write(*work, heals=False, pays=True), False

    # --- trust ---

    def trust(self, network: str) -> dict[TrustKey, Record]:
        rows = self.read(
            "SELECT messenger, target, dress, runs, answered, earned, last_verified, silent_since"
            " FROM trust WHERE network = ?",
            network,
        )
        return {
            (str(m), str(t), str(d)): Record(runs, answered, bool(earned), verified, silent)
            for m, t, d, runs, answered, earned, verified, silent in rows
        }

    def rtts(self, network: str) -> dict[str, float]:
        """The smallest RTT to every address, seconds."""
        rows = self.read("SELECT address, seconds FROM rtt WHERE network = ?", network)
        return {str(address): float(seconds) for address, seconds in rows}

    # --- certificates ---

    def vouched(self, network: str, since: float) -> dict[Place, float]:
        """Where a target's certificate was right, and when; what is older is forgotten."""
        self._write(("DELETE FROM vouched WHERE at < ?", [(since,)]))
        sql = "SELECT messenger, target, address, at FROM vouched WHERE network = ?"
        rows = self.read(sql, network)
        return {(str(m), str(t), str(a)): float(at) for m, t, a, at in rows}

    # --- states ---

    def states(self, network: str) -> dict[tuple[str, str], ChannelState]:
        found = {}
        sql = "SELECT messenger, channel, value FROM states WHERE network = ?"
        for messenger, channel, value in self.read(sql, network):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found[(str(messenger), str(channel))] = state_from(json.loads(str(value)))
        return found

    def forget_states(self) -> None:
        self._write(("DELETE FROM states", [()]))

    # --- history (agent/history.py) ---

    def history(self) -> Kept:
        """Where it ended."""
        rounds, changes = self.read(
            "SELECT coalesce((SELECT max(id) FROM rounds), 0),"
            " coalesce((SELECT max(id) FROM changes), 0)"
        )[0] or (0, 0)
        told = "messenger, channel, status, mechanism, certainty, intermittent, why"
        newest = "SELECT max(id) FROM changes GROUP BY messenger, channel"
        last = self.read(f"SELECT {told} FROM changes WHERE id IN ({newest})")
        targets = self.read("SELECT id, messenger, channel, name, probe FROM targets")
        spans = self.read("SELECT id, since, until FROM spans ORDER BY id DESC LIMIT 1")
        return Kept(
            rounds=int(rounds),
            changes=int(changes),
            last={(str(m), str(c)): tuple(words) for m, c, *words in last},
            targets={Target(*map(str, words)): int(i) for i, *words in targets},
            span=next(((int(i), float(a), float(b)) for i, a, b in spans), None),
        )

    def rounds_since(self, at: float) -> list[tuple[Any, ...]]:
        """When each was, what was judged, what failed, what worked; the latter three packed."""
        sql = (
            "SELECT at, judged, failed, worked FROM rounds WHERE at >= ? AND judged IS NOT NULL"
            " ORDER BY id"
        )
        return self.read(sql, at)

    def give_back(self, most: int) -> None:
        """Let the file become smaller while it is larger than so many bytes."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            pages, size = (
                self._db.execute(f"PRAGMA {what}").fetchone()[0]
                for what in ("page_count", "page_size")
            )
            if pages * size > most:
                # A script, since a single step of it gives back a single page.
                self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES})")


def wipe(folder: Path) -> None:
    """Write over the store's files, and delete them. Raises OSError; works where a disk is full.

    Deleting rows would leave what was in them in the log, and in pages that are free.
    """
    for name in FILES:
        path = folder / name
        with contextlib.suppress(FileNotFoundError):
            with path.open("r+b") as file:
                left = path.stat().st_size
                while left > 0:
                    left -= file.write(b"\x00" * min(left, _CHUNK))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()


_PUT = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_TRUST = "INSERT OR REPLACE INTO trust VALUES (?,?,?,?,?,?,?,?,?)"
_VOUCHED = "INSERT OR REPLACE INTO vouched VALUES (?, ?, ?, ?, ?)"
_STATE = "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)"
_RTT = (
    "INSERT INTO rtt VALUES (?, ?, ?) ON CONFLICT (network, address)"
    " DO UPDATE SET seconds = min(seconds, excluded.seconds)"
)

_REMEMBERED = {"meta": _PUT, "trust": _TRUST, "vouched": _VOUCHED, "states": _STATE, "rtt": _RTT}


def _trust_rows(network: str, records: Mapping[TrustKey, Record]) -> Rows:
    return [
        (network, *key, r.runs, r.answered, int(r.earned), r.last_verified, r.silent_since)
        for key, r in records.items()
    ]


def _state_rows(network: str, states: Mapping[tuple[str, str], ChannelState]) -> Rows:
    return [(network, *key, json.dumps(written(state))) for key, state in states.items()]


def _rtt_rows(network: str, rtts: Mapping[str, float]) -> Rows:
    """The smallest RTT per address, seconds."""
    return [(network, address, seconds) for address, seconds in rtts.items()]


def _is_damage(error: Exception) -> bool:
    """Or is there no room, no right, a lock: something that passes?"""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_there(path: Path, file: int) -> bool:
    """Is it still the open file that has this name, and a store? SQLite itself does not look again
    while its own memory and the log have the pages, and would lose it at the end."""
    try:
        same = os.path.samestat(os.fstat(file), path.stat())
        return same and os.pread(file, len(_HEAD), 0) == _HEAD
    except OSError:
        return False


def _copy(path: Path, db: sqlite3.Connection) -> None:
    """What a file that cannot be written remembers beside the history, as far as it can be read."""
    # A disk that is read-only altogether has no room for the log's index.
    for how in ("mode=ro", "mode=ro&immutable=1"):
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=1.0)
            ) as old,
            db,
        ):
            if old.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                return
            for table, sql in _REMEMBERED.items():
                db.executemany(sql, old.execute(f"SELECT * FROM {table}"))
            return


def _open(path: Path, patience: float = _LOCK_SECONDS) -> sqlite3.Connection:
    """Waits for locks: SQLite itself does not where two processes turn on its log at once."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return _prepare(sqlite3.connect(path, timeout=5.0, check_same_thread=False))
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _prepare(db: sqlite3.Connection) -> sqlite3.Connection:
    """Ready for use, or closed: a file that cannot be used is not held open."""
    try:
        _check_version(db)
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # where it is empty, or by the VACUUM
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
        _migrate(db)
    except (sqlite3.Error, NewerStore):
        db.close()
        raise
    return db


def _check_version(db: sqlite3.Connection) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise NewerStore(f"the store is of version {found}, and this callpath knows {VERSION}")
    return found


def _migrate(db: sqlite3.Connection) -> None:
    """All of it or nothing; two processes may come to it at once."""
    before = _check_version(db)
    if before == VERSION:
        return
    if before:
        db.execute("VACUUM")  # so that a file from before can give back what it does not need
    db.execute("BEGIN IMMEDIATE")
    with db:
        for number in range(_check_version(db), VERSION):
            for statement in MIGRATIONS[number].split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")
