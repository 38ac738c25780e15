"""Forgetting everything: where no agent runs, and where one does."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import typer.testing

from agent import purging
from agent.cli import app
from agent.store import DAMAGED, FILE, Store
from agent.trust import Record

SECRET = b"a-network-that-was-visited"


def remembered(folder: Path) -> None:
    store = Store(folder)
    store.put("network_key", SECRET)
    store.save_round("n1", trust={("m", "a", ""): Record(1, 1, True, 1.0, None)})
    store.close()
    (folder / DAMAGED).write_bytes(SECRET * 100)
    (folder / "consent").touch()
    (folder / "twin.key").write_text("ab" * 32)


def everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_nothing_is_left_but_the_twins_key(tmp_path):
    remembered(tmp_path / "s")
    assert SECRET in everything_in(tmp_path / "s")
    purging.purge(tmp_path / "s")
    assert [file.name for file in (tmp_path / "s").iterdir()] == ["twin.key"]


def test_what_was_in_the_files_is_written_over(tmp_path):
    """Who holds a file open, or a link to it, finds nothing in it any more."""
    remembered(tmp_path / "s")
    for name in (FILE, DAMAGED):
        (tmp_path / name).hardlink_to(tmp_path / "s" / name)
    purging.purge(tmp_path / "s")
    for name in (FILE, DAMAGED):
        left = (tmp_path / name).read_bytes()
        assert len(left) > 0
        assert not any(left)


def test_the_agent_is_asked_where_it_runs(tmp_path):
    folder = tmp_path / "s"
    remembered(folder)
    held = purging.hold(folder)
    assert held is not None
    assert purging.hold(folder) is None

    def agent() -> None:
        while not purging.is_asked(folder):
            pass
        purging.done(folder)

    thread = threading.Thread(target=agent)
    thread.start()
    purging.purge(folder)
    thread.join()
    assert SECRET in everything_in(folder), "the agent's own affair"
    assert not (folder / "consent").exists()
    with pytest.raises(purging.NotPurged, match="stop it first"):
        purging.purge(folder, waits=0.05)
    assert not purging.is_asked(folder)


def test_a_folder_that_is_not_there_is_forgotten_already(tmp_path):
    purging.purge(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(("answer", "exit_code", "left"), [("n\n", 1, True), ("y\n", 0, False)])
def test_it_asks(tmp_path, answer, exit_code, left):
    remembered(tmp_path / "s")
    file = tmp_path / "callpath.yaml"
    file.write_text(f"state_dir: {tmp_path / 's'}\n")
    run = typer.testing.CliRunner().invoke
    told = run(app, ["purge", "--config", str(file)], input=answer)
    assert told.exit_code == exit_code
    assert (tmp_path / "s" / FILE).exists() is left
    assert run(app, ["purge", "--yes", "--config", str(file)]).exit_code == 0


def test_the_agents_lock_follows_the_folder(tmp_path):
    """It may come after the agent, or be taken away under it: a purge asks the agent then too."""
    folder = tmp_path / "s"
    held = purging.hold_on(folder, None)
    assert held is None, "no folder yet"
    folder.mkdir()
    held = purging.hold_on(folder, held)
    assert held is not None
    assert purging.hold_on(folder, held) == held
    assert purging.hold(folder) is None
    (folder / purging.LOCK).unlink()
    held = purging.hold_on(folder, held)
    assert held is not None
    assert purging.hold(folder) is None
    os.close(held)
