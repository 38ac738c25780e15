"""What survives a restart, and what a bad disk costs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.history import History
from agent.learned import VOUCHED_FOR, Learned
from agent.migrations import MIGRATIONS, VERSION
from agent.plan import Ask
from agent.rounds import Finished, Ran
from agent.saving import Saving
from agent.state import ChannelState, Vote
from agent.store import Store
from agent.trust import Record
from probes.measure import Measured
from probes.model import Failure, Status, Step
from tests.agent.building import judgement, seen, target


def no_history(store: Store) -> History:
    return History(store, None, 60.0, dict)


OK = ChannelState(Status.OK, 5.0, votes=(Vote(5.0, Status.OK, 1.0),))
KEY = ("m", "call")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state")
    yield made
    made.close()


def again(store: Store) -> Store:
    store.close()
    return Store(store.folder)


def test_round_trip(store):
    trust = {
        ("m", "a", "bare"): Record(12, 11, True, 5.5, None),
        ("m", "b", ""): Record(3, 0, False, None, 7.25),
    }
    store.put("key", b"\x00\xff")
    store.save_round("n1", trust=trust)
    store.save_round("n1", states={KEY: OK, ("m", "chat"): ChannelState()})
    store.save_round("n1", rtts={"192.0.2.1": 0.5})
    vouched = {("m", "a", "192.0.2.1"): 9.0, ("m", "b", "192.0.2.1"): 3.0}
    store.save_round("n1", vouched=vouched)
    store = again(store)
    try:
        assert store.get("key") == b"\x00\xff"
        assert store.get("nothing") is None
        assert store.trust("n1") == trust
        assert store.vouched("n1", 3.0) == vouched
        assert store.vouched("n2", 5.0) == {}
        assert store.vouched("n1", 3.0) == {("m", "a", "192.0.2.1"): 9.0}, "the old one is gone"
        assert store.states("n1") == {KEY: OK, ("m", "chat"): ChannelState()}
        assert store.healthy
    finally:
        store.close()


def test_networks_are_apart(store):
    store.save_round("n1", trust={("m", "a", ""): Record(1, 1, True, 1.0, None)})
    store.save_round("n1", states={KEY: OK})
    assert store.trust("n2") == {}
    assert store.states("n2") == {}
    store.forget_states()
    assert store.states("n1") == {}
    assert store.trust("n1")


def test_the_smallest_rtt_is_kept(store):
    for seconds in (0.5, 0.2, 0.9):
        store.save_round("n", rtts={"192.0.2.1": seconds})
    assert store.read("SELECT seconds FROM rtt") == [(0.2,)]


def test_files_are_for_their_owner_only(store):
    store.put("a", b"b")
    files = list(store.folder.iterdir())
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert len(files) >= 1


# --- more than one process -------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from typing import Any
from agent.store import Store
from agent.trust import Record
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    trust = {("m", f"{sys.argv[2]}{number}", ""): Record(1, 1, True, 1.0, None)}
    store.save_round("n", trust=trust)
    assert store.healthy
store.close()
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    """Also when both make the file: the agent and ``callpath check`` start together."""
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path / "s"), name, "50"])
        for name in "abcd"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    store = Store(tmp_path / "s")
    assert len(store.trust("n")) == 200
    store.close()


def test_a_lock_is_waited_for_when_the_log_is_turned_on(tmp_path, monkeypatch):
    """There SQLite says "locked" at once, whatever its time-out is."""
    real, refusals = sqlite3.connect, ["database is locked"] * 3

    class Refused(sqlite3.Connection):
        def execute(self, sql, *values):
            if "journal_mode" in sql and refusals:
                raise sqlite3.OperationalError(refusals.pop())
            return super().execute(sql, *values)

    monkeypatch.setattr(
        "agent.store.sqlite3.connect", lambda *a, **k: real(*a, factory=Refused, **k)
    )
    store = Store(tmp_path / "s")
    assert store.healthy
    assert not refusals
    store.close()


def test_threads_share_one_store(store):
    def write(name: str) -> None:
        for number in range(50):
            store.put(f"{name}{number}", b"x")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("SELECT count(*) FROM meta") == [(200,)]


_KILLED = """
import sys
from pathlib import Path
from typing import Any
from agent.store import Store
from agent.learned import Learned
from agent.plan import Ask
from agent.rounds import Finished, Ran
from agent.saving import Saving
from agent.state import ChannelState, Vote
from probes.measure import Measured
from probes.model import Failure, Status, Step
from tests.agent.building import judgement, seen, target
store = Store(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    votes = (Vote(float(number), Status.OK, 1.0),) * 20
    store.save_round("n", states={
        ("m", channel): ChannelState(Status.OK, float(number), votes=votes, window=votes)
        for channel in ("chat", "call", "media", "web")
    }, history=[
        ("INSERT INTO rounds VALUES (?, 1, 'm', 1, 0, x'00', NULL, NULL, NULL)", [(number,)]),
        ("INSERT INTO changes VALUES (?, 1, 'm', 'call', 'ok', 'none', 'none', 0, '', 1, 0, '', '',"
         " '', 0)", [(number,)]),
    ])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_kill_at_any_moment_loses_at_most_the_round_in_progress(tmp_path):
    written = 0
    for turn in range(6):
        command = [sys.executable, "-c", _KILLED, str(tmp_path / "s"), str(written)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(5 + 7 * turn):
            written = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
        process.wait(30)
        process.stdout.close()
        written = int(rest[-1]) if rest else written
        store = Store(tmp_path / "s")
        found = store.states("n")
        rows = store.read("SELECT max(id), count(*) FROM rounds")
        changes = store.read("SELECT max(id), count(*) FROM changes")
        assert store.read("PRAGMA integrity_check") == [("ok",)]
        store.close()
        since = {state.since for state in found.values()}
        assert len(found) == 4
        assert len(since) == 1, "a round is written whole or not at all"
        last = since.pop()
        assert written <= last <= written + 1
        assert rows == changes == [(last, last)], "and its history with it"
        assert not list((tmp_path / "s").glob("*.damaged"))


# --- bad disks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [b"this is no database" * 200, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_damaged_file_is_set_aside_and_said(tmp_path, damage, caplog):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "callpath.sqlite").write_bytes(damage)
    store = Store(folder)
    assert "damaged" in caplog.text
    assert store.healthy
    store.put("a", b"b")
    store = again(store)
    assert store.get("a") == b"b"
    store.close()
    assert (folder / "callpath.damaged").read_bytes() == damage
    assert stat.S_IMODE((folder / "callpath.sqlite").stat().st_mode) == 0o600


def test_damage_that_shows_only_later_is_set_aside_too(store, caplog):
    rows = [(f"k{n}", os.urandom(3000)) for n in range(500)]
    store._write(("INSERT INTO meta VALUES (?, ?)", rows))
    store = again(store)
    with (store.folder / "callpath.sqlite").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 300)
    store.save_round("n", states={KEY: OK})
    store.read("SELECT sum(length(value)) FROM meta")
    assert "set aside" in caplog.text
    assert store.begun == 1
    store.save_round("n", states={KEY: OK})
    assert store.healthy
    store = again(store)
    assert store.states("n") == {KEY: OK}
    assert (store.folder / "callpath.damaged").exists()
    store.close()


def test_a_store_of_a_later_version_is_left_alone(store, caplog):
    store.put("a", b"1")
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    file = store.folder / "callpath.sqlite"
    before = file.read_bytes()
    later = Store(store.folder)
    assert "of version 99" in caplog.text
    assert not later.healthy
    assert later.in_memory
    later.put("a", b"2")
    assert later.get("a") == b"2"
    later.close()
    assert file.read_bytes() == before
    assert not (store.folder / "callpath.damaged").exists()


def test_a_store_from_before_there_was_a_history_keeps_what_it_has(tmp_path):
    db = sqlite3.connect(tmp_path / "callpath.sqlite")
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(MIGRATIONS[0])
    db.execute("INSERT INTO meta VALUES ('a', x'31')")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    store = Store(tmp_path)
    assert store.healthy
    assert store.get("a") == b"1"
    assert store.read("SELECT count(*) FROM rounds") == [(0,)]
    assert store.read("PRAGMA user_version") == [(VERSION,)]
    assert store.read("PRAGMA auto_vacuum") == [(2,)], "so that the file can become smaller"
    store.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(store, monkeypatch):
    store.put("a", b"1")
    store.close()
    bad = (*MIGRATIONS, "CREATE TABLE more (id); INSERT INTO meta SELECT 'b', NULL FROM meta")
    monkeypatch.setattr("agent.store.MIGRATIONS", bad)
    monkeypatch.setattr("agent.store.VERSION", len(bad))
    refused = Store(store.folder)
    assert refused.in_memory
    refused.close()
    monkeypatch.undo()
    opened = Store(store.folder)
    assert opened.get("a") == b"1"
    assert opened.read("SELECT count(*) FROM sqlite_master WHERE name = 'more'") == [(0,)]
    opened.close()


def test_a_folder_that_cannot_be_made_costs_only_the_memory(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "state")
    assert not store.healthy
    assert "nothing will be remembered" in caplog.text
    store.put("a", b"b")
    assert store.get("a") == b"b"
    assert not store.healthy
    store.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away to chattr")
def test_an_unwritable_folder_costs_only_the_memory(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir(mode=0o500)
    command = [sys.executable, "-c", _UNWRITABLE, str(folder)]
    # Root may write everywhere: the child gives that up first.
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


_UNWRITABLE = """
import os, sys
import urllib.parse  # pathlib asks for it later, from files that are root's alone
from pathlib import Path
from agent.store import Store
folder = Path(sys.argv[1])
for parent in folder.parents:
    if str(parent).startswith("/tmp/"):
        os.chmod(parent, 0o755)
os.setuid(65534)
store = Store(folder)
assert not store.healthy
store.put("a", b"b")
assert store.get("a") == b"b"
"""


def test_a_disk_that_fails_later_is_said_once_and_recovers(store, caplog):
    blocker = sqlite3.connect(store.folder / "callpath.sqlite", timeout=0)
    blocker.execute("BEGIN IMMEDIATE")
    store._db.execute("PRAGMA busy_timeout = 1")
    store.put("a", b"1")
    store.put("a", b"2")
    assert not store.healthy
    assert caplog.text.count("cannot be written") == 1
    blocker.rollback()
    blocker.close()
    store.put("a", b"3")
    assert store.healthy
    assert store.get("a") == b"3"


def test_states_that_make_no_sense_are_left_out(store):
    store.save_round("n", states={KEY: OK})
    rows = ["null", "[]", "{}", "x", '{"confirmed": "marvellous"}']
    sql = "INSERT INTO states VALUES ('n', 'm', ?, ?)"
    store._write((sql, [(f"c{number}", row) for number, row in enumerate(rows)]))
    assert store.states("n") == {KEY: OK}


def test_writing_after_closing_is_no_exception(store):
    store.close()
    store.put("a", b"b")
    assert store.get("a") is None
    assert not store.healthy


async def test_rounds_that_end_together_share_a_transaction_and_wait_for_it(tmp_path, monkeypatch):
    store = Store(tmp_path / "s")
    saving = Saving(store, Learned(store, ()), lambda: b"2026-11-24 7", no_history(store))
    written: list[int] = []
    write = store.save_round

    def counted(network: str, **what: Any) -> tuple[bool, bool]:
        written.append(len(what["states"]))
        return write(network, **what)

    monkeypatch.setattr(store, "save_round", counted)
    keys = [(f"m{n}", "call") for n in range(13)]

    async def one(key: tuple[str, str]) -> None:
        await saving.save({key: OK})
        assert key in store.states(""), "not before it is written"

    await asyncio.gather(*map(one, keys))
    assert set(store.states("")) == set(keys)
    assert len(written) == 2
    assert sum(written) == 13
    await saving.save({})
    assert len(written) == 3, "a round by hand has no states and is written all the same"
    assert store.get("bytes_today") == b"2026-11-24 7"
    store.close()


async def test_what_a_failing_disk_refused_is_written_with_the_next_round(tmp_path):
    store = Store(tmp_path / "s")
    learned = Learned(store, ())
    learned.recognise({"operator": frozenset({"198.51.100.7"})})
    saving = Saving(store, learned, lambda: b"2026-11-24 7", no_history(store))
    key = ("m", "a", "")
    learned._unsaved_trust[key] = Record(1, 1, True, 1.0, None)
    learned._unsaved_rtts["192.0.2.1"] = 0.5
    learned._unsaved_vouched["m", "a", "192.0.2.1"] = 1.0
    store._db.execute("PRAGMA query_only = ON")
    await saving.save({})
    assert not store.healthy
    learned._unsaved_trust[key] = newer = Record(2, 2, True, 2.0, None)
    store._db.execute("PRAGMA query_only = OFF")
    await saving.save({})
    assert store.healthy
    assert store.trust(learned.network) == {key: newer}
    assert store.read("SELECT address, seconds FROM rtt") == [("192.0.2.1", 0.5)]
    assert store.vouched(learned.network, 0.0) == {("m", "a", "192.0.2.1"): 1.0}
    store.close()


def test_where_a_certificate_was_right_is_learned_and_forgotten(store):
    web = target("w", channel="web", host="w.test", port=443)
    led = {"before": (Step.RESOLVE, Step.CONNECT, Step.TLS)}
    ended = {
        "198.51.100.1": seen(web, at=1000.0, address="198.51.100.1", **led),
        "198.51.100.2": seen(web, Failure.TIMEOUT, at=1000.0, address="198.51.100.2", **led),
        "198.51.100.3": seen(web, at=1000.0, address="198.51.100.3", before=led["before"][1:]),
        "198.51.100.4": seen(web, at=1000.0, address="198.51.100.4", before=led["before"][:2]),
    }
    measured = Measured(tuple(ended.values()), (), frozenset())
    ran = Ran((Finished(Ask(web, partial=False), measured, 0.1),), frozenset(), ())
    learned = Learned(store, ())
    learned.recognise({"operator": frozenset({"198.51.100.7"})})
    learned.note_round(ran, judgement())
    place = (web.target, "198.51.100.1")
    assert learned.vouched([web.target], 1001.0) == {place}
    assert learned.vouched([target("x").target], 1001.0) == frozenset()
    assert learned.vouched([web.target], 1001.0 + VOUCHED_FOR) == frozenset()
    assert list(learned.unsaved().vouched) == [("m", "w", "198.51.100.1")]
    learned.note_round(ran, judgement())
    assert not learned.unsaved().vouched, "what is known is not written in every round"


def test_a_beginning_that_the_log_still_has_is_written_anew_once(store, caplog):
    store.save_round("n", states={KEY: OK})
    with (store.folder / "callpath.sqlite").open("r+b") as file:
        file.write(b"\xff" * 4096)
    for _ in range(3):
        store.look()
        store.save_round("n", states={KEY: OK})
    assert caplog.text.count("replaced or damaged") == 1
    store = again(store)
    assert store.states("n") == {KEY: OK}
    store.close()


def test_looking_after_the_file_takes_no_lock_away(store):
    """To close any descriptor of a file takes all locks of the process: another process that ends
    would then believe that it is the last one, and delete the log under us."""
    store.put("a", b"1")
    for _ in range(3):
        assert not store.look()
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT 1 FROM meta").fetchall()
db.close()
"""
    file = str(store.folder / "callpath.sqlite")
    subprocess.run([sys.executable, "-c", code, file], check=True, timeout=60)
    assert (store.folder / "callpath.sqlite-wal").exists()
    store.put("a", b"2")
    store = again(store)
    assert store.get("a") == b"2"
    store.close()
