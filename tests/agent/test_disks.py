"""Disks that fill up or turn read-only under a running agent: real ones, of a few hundred KiB."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.replay import Counted, replay
from agent.store import Store
from exporters.history import History
from tests.agent.line import RELAYS, Line
from tests.probes.programs import missing

SIZE = 640 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("root, to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def line_on(line: Line, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr("agent.followup.time", line.clock.module)
    line.folder = disk / "state"
    line.restart()
    return line


def fill(disk: Path) -> Path:
    free = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"\x00" * (free.f_bavail * free.f_frsize))
    return filler


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def judged(line: Line) -> tuple[int, Counted]:
    history, counted = History(line.folder), Counted()
    [messenger] = line.core.config.messengers
    rows = history.rows("m", 0.0, line.clock.wall)
    found = list(replay(rows, 0.0, messenger, line.core.config.controls, counted))
    history.close()
    assert [one.differs for one in found] == [[]] * len(found)
    return len(found), counted


async def test_a_full_disk(line_on, disk, caplog):
    line = line_on
    await line.round(3)
    filler = fill(disk)
    line.world.silent.update(RELAYS)
    statuses = [await line.statuses(1) for _ in range(12)]
    assert statuses[-1]["call"] == "unreachable", "it goes on measuring"
    line.core.everything()
    assert line.figures.storage_healthy is False
    said = [r for r in caplog.records if "store" in r.getMessage() and r.levelname == "ERROR"]
    assert len(said) == 1, "once"
    assert "full" in said[0].getMessage()
    filler.unlink()
    await line.round(2)
    line.core.everything()
    assert line.figures.storage_healthy is True
    count, counted = judged(line)
    assert (count, counted.left) == (17, {}), "nothing is lost"
    line.restart()
    shown = {d.channel: str(d.status) for d in line.core.report().diagnoses}
    assert shown["call"] == "unreachable"


async def test_a_start_with_a_full_disk_harms_nothing(line_on, disk):
    line = line_on
    await line.round(3)
    line.store.close()
    filler = fill(disk)
    line.restart()
    assert (await line.statuses(2))["call"] == "ok"
    filler.unlink()
    line.restart()
    assert line.store.healthy
    assert not (line.folder / "callpath.damaged").exists()
    assert judged(line)[0] >= 3


async def test_a_disk_that_turns_read_only_and_back(line_on, disk, caplog):
    line = line_on
    line.world.silent.update(RELAYS)
    assert (await line.statuses(5))["call"] == "unreachable"
    trusted = dict(line.core.learned.trust)
    line.store.close()
    remount(disk, "ro")
    line.restart()
    assert "nothing will be remembered" in caplog.text
    assert line.store.in_memory
    shown = {d.channel: str(d.status) for d in line.core.report().diagnoses}
    assert shown["call"] == "unreachable", "what is there can be read"
    assert line.core.learned.trust == trusted
    line.world.silent.clear()
    assert (await line.statuses(10))["call"] == "ok"
    assert not line.figures.storage_healthy
    assert line.store.read("SELECT count(*) FROM rounds") == [(0,)], "memory is no place for it"
    assert caplog.text.count("nothing will be remembered") == 1, "once"
    history = History(line.folder)
    assert history.channels() == [("m", "call"), ("m", "chat")], "what is there can be read"
    history.close()
    before = judged(line)[0]
    remount(disk, "rw")
    await line.round(2)
    assert line.store.healthy, "by itself"
    assert "the store is written again" in caplog.text
    assert judged(line)[0] >= before + 1
    told = line.store.read("SELECT status FROM changes WHERE channel = 'call' ORDER BY id")
    assert told[-1] == ("ok",)
    assert ("unreachable",) in told, "nothing was written over"
    line.restart()
    shown = {d.channel: str(d.status) for d in line.core.report().diagnoses}
    assert shown["call"] == "ok"


def gone(line: Line) -> None:
    shutil.rmtree(line.folder)


def replaced(line: Line) -> None:
    other = Store(line.folder.with_name("other"))
    other.put("x", b"1")
    other.close()
    for name in ("callpath.sqlite-wal", "callpath.sqlite-shm"):
        (line.folder / name).unlink()
    (line.folder.with_name("other") / "callpath.sqlite").replace(line.folder / "callpath.sqlite")


def overwritten(line: Line) -> None:
    line.store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    with (line.folder / "callpath.sqlite").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("harm", [gone, replaced, overwritten])
async def test_what_was_confirmed_outlives_its_file(line, monkeypatch, caplog, harm):
    """Taken away, replaced, damaged: the running agent writes all that it knows anew."""
    monkeypatch.setattr("agent.followup.time", line.clock.module)
    line.world.silent.update(RELAYS)
    assert (await line.statuses(5))["call"] == "unreachable"
    learned = line.core.learned
    name, network = learned.vantage_name(), learned.network
    trusted, nearest = set(learned.trust), set(learned.nearest)
    assert trusted
    assert nearest
    harm(line)
    await line.round(2)
    assert "ERROR" in caplog.text
    assert line.store.healthy
    assert line.store.read("SELECT count(*) > 0 FROM rounds") == [(1,)]
    line.restart()
    again = line.core.learned
    assert (again.vantage_name(), again.network) == (name, network)
    assert set(again.trust) == trusted
    assert set(again.nearest) == nearest
    shown = {d.channel: str(d.status) for d in line.core.report().diagnoses}
    assert shown["call"] == "unreachable"
