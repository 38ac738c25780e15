"""What a history of 30 days costs: its size, what a round adds, and how long the page, the metrics
and the questions about it take (goal: 50 ms at the 95th percentile).

The agent runs with the shipped catalogue in the virtual world, on a healthy line and then with
calls blocked; what it wrote there is copied until the store is a month old. Answers are timed in
the web process' own application, without the network.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx

from agent.history import History
from agent.store import FILE, Store
from agent.trimming import WHOLE_FOR, Limits
from exporters import memory
from exporters.feed import Update
from exporters.mirror import Mirror
from exporters.web import WebSettings, application
from tests.lab.presets import preset
from tests.lab.virtual.world import Agent, VirtualWorld, configuration

DAY, MINUTE = 86400.0, 60.0
HEALTHY, BLOCKED = 90.0, 60.0
"""Minutes in the virtual world."""
DAYS = 30
BAD_HOURS = 2.0
"""A day, in the month that is asked about."""
RUNS = 200


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        recorded = _recorded(Path(folder))
        _report(recorded)
        month = Path(folder) / "month"
        month.mkdir()
        _grow(recorded.folder / FILE, month / FILE)
        asyncio.run(_ask(month, recorded.everything))


class Recorded:
    """``healthy`` and ``blocked``: bytes of all rows of an average minute; ``work``: seconds that
    making the rows of a save took; ``slots``: bytes of figures of ten minutes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work: list[float] = []
        self.healthy = self.blocked = 0.0
        self.slots = 0.0
        self.everything: Update


def _recorded(folder: Path) -> Recorded:
    made = Recorded(folder / "state")
    with VirtualWorld(3) as world:
        clock = world.clock
        store = Store(made.folder)
        versions = {"rules": "6", "catalogue": "2026-11-01"}
        history = History(
            store, Limits(DAYS * DAY, 2**30), MINUTE, lambda: versions, lambda: clock.now
        )
        work = history.work

        def timed() -> Sequence[object]:
            began = time.thread_time()
            answer = work()
            made.work.append(time.thread_time() - began)
            return answer

        history.work = timed  # type: ignore[assignment,method-assign] # seen on its way
        agent = Agent(world, configuration("client", folder), store, history=history)
        world.run(agent.rounds(clock.now + MINUTE))
        memory.settle()  # as the agent does when it has started
        world.run(agent.rounds(clock.now + (HEALTHY - 1) * MINUTE))
        made.healthy = _bytes(store) / HEALTHY
        made.slots = _slots(store) / (HEALTHY / 10)
        for rule in preset("ip_drop", remote="91.108.0.0/16"):
            world.path.add(rule, clock.now)
        before = _bytes(store)
        world.run(agent.rounds(clock.now + BLOCKED * MINUTE))
        made.blocked = (_bytes(store) - before) / BLOCKED
        made.everything = agent.core.everything()
        world.run(agent.stop())
    return made


def _bytes(store: Store) -> float:
    sizes = (f"coalesce(length({c}), 0)" for c in ("judged", "failed", "worked", "also"))
    return float(store.read(f"SELECT sum({' + '.join(sizes)} + 40) FROM rounds")[0][0])


def _slots(store: Store) -> float:
    """As they are in the file: a dozen numbers of at most nine bytes each."""
    return float(store.read("SELECT count(*) * 75 FROM slots")[0][0])


def _report(r: Recorded) -> None:
    whole = r.healthy * WHOLE_FOR / MINUTE
    figures = r.slots * DAYS * DAY / 600
    bad = r.blocked * DAYS * DAY / MINUTE
    print(f"a minute on a healthy line: {r.healthy / 1024:.1f} KiB, with calls blocked:", end=" ")
    print(f"{r.blocked / 1024:.1f} KiB")
    print(
        f"{DAYS} days: healthy {_mib(whole + figures)} ({_mib(whole)} rounds of two days,"
        f" {_mib(figures)} figures); blocked all along {_mib(bad + figures)}"
    )
    work = sorted(s * 1000 for s in r.work)
    print(
        f"making the rows of a save, CPU: median {statistics.median(work):.1f} ms,"
        f" p95 {work[int(0.95 * len(work))]:.1f} ms, longest {work[-1]:.0f} ms"
    )


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _grow(source: Path, target: Path) -> None:
    """A month: copies of what was recorded, the bad minutes in the evening of every day."""
    with closing(sqlite3.connect(source)) as db:
        db.execute("VACUUM INTO ?", (str(target),))
    now = time.time()
    with closing(sqlite3.connect(target)) as db, db:
        rows = db.execute("SELECT * FROM rounds ORDER BY id").fetchall()
        first = rows[0][1]
        good = [r for r in rows if r[1] < first + HEALTHY * MINUTE]
        bad = [r for r in rows if r[1] >= first + HEALTHY * MINUTE]
        slots = db.execute("SELECT * FROM slots WHERE at = (SELECT max(at) FROM slots)").fetchall()
        changes = db.execute("SELECT * FROM changes ORDER BY id").fetchall()
        for table in ("rounds", "slots", "changes", "spans"):
            db.execute(f"DELETE FROM {table}")
        number = change = 0
        begin = now - DAYS * DAY
        per_day = int(BAD_HOURS * 60)
        for day in range(DAYS):
            at = begin + day * DAY
            minutes = [(at + n * MINUTE, bad) for n in range(per_day)]
            if now - at <= WHOLE_FOR:
                minutes += [(at + n * MINUTE, good) for n in range(per_day, 1440)]
            for when, kind in minutes:
                some = int((when - begin) / MINUTE) * 3 % (len(kind) - 3)
                for row in kind[some : some + 3]:
                    number += 1
                    _insert(db, "rounds", (number, when, *row[2:]))
            for row in changes:
                change += 1
                _insert(db, "changes", (change, at + row[1] % 7200, *row[2:9], at, *row[10:]))
        for slot in range(int(begin // 600), int(now // 600)):
            db.executemany(
                f"INSERT INTO slots VALUES ({', '.join('?' * 15)})",
                [(row[0], slot * 600, *row[2:]) for row in slots],
            )
        _insert(db, "spans", (1, begin, now, MINUTE))
    print(f"the month that is asked about: {_mib(target.stat().st_size)}", end=", ")
    print(f"{number} rounds, {change} changes")


def _insert(db: sqlite3.Connection, table: str, row: Sequence[object]) -> None:
    db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


async def _ask(folder: Path, everything: Update) -> None:
    mirror = Mirror()
    mirror.apply(everything, time.monotonic())
    mirror.ready = True
    app = application(mirror, WebSettings("127.0.0.1", (), False, str(folder)), None, None)  # type: ignore[arg-type] # not asked
    month = datetime.fromtimestamp(time.time() - DAYS * DAY, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    target = next(t for m, t in everything.targets if m != "control")
    messenger = next(m for m, t in everything.targets if t == target)
    history = "/api/v1/history"
    paths = {
        "/, a day": "/",
        "/, 30 days": "/?span=30d",
        "a target's page, a day": f"/target/{messenger}/{target}",
        "a target's page, 30 days": f"/target/{messenger}/{target}?span=30d",
        "/metrics": "/metrics",
        f"{history}, a day": history,
        f"{history}, 30 days": f"{history}?since={month}",
        f"{history}, a target, a day": f"{history}?messenger={messenger}&target={target}",
        f"{history}, a target, 30 days": f"{history}?messenger={messenger}&target={target}"
        f"&since={month}",
    }
    memory.settle()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as ask:
        for name, path in paths.items():
            seconds = [
                await _timed(ask, path, lambda: mirror.apply(everything, 0.0)) for _ in range(RUNS)
            ]
            seconds.sort()
            print(
                f"{name}: median {1000 * statistics.median(seconds):.1f} ms,"
                f" p95 {1000 * seconds[int(0.95 * RUNS)]:.1f} ms"
            )


async def _timed(ask: httpx.AsyncClient, path: str, news: Callable[[], None]) -> float:
    news()  # nothing is answered out of a cache
    began = time.perf_counter()
    answer = await ask.get(path)
    seconds = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    return seconds
