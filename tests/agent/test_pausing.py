"""What the file ``paused`` stops, and when."""

from __future__ import annotations

import asyncio

import pytest
from typer.testing import CliRunner

from agent import pausing
from agent.byhand import UsageProblem
from agent.cli import app
from agent.pausing import Paused, is_paused, unless_paused


async def test_what_is_asked_is_answered_or_fails_as_ever(tmp_path):
    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise ValueError("so")

    assert await unless_paused(tmp_path / "no" / "folder", answer()) == 7
    with pytest.raises(ValueError, match="so"):
        await unless_paused(tmp_path, fail())


async def test_nothing_is_begun_while_it_is_there(tmp_path):
    begun = []

    async def begin() -> None:
        begun.append(True)

    pausing.marker(tmp_path).touch()
    with pytest.raises(Paused, match="exists"):
        await unless_paused(tmp_path, begin())
    assert not begun


async def test_what_was_begun_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(pausing, "POLL", 0.01)
    ended = []

    async def last() -> None:
        pausing.marker(tmp_path).touch()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(Paused):
        await unless_paused(tmp_path, last())
    assert ended


def test_who_may_not_look_is_told_so(tmp_path, monkeypatch):
    async def send(*args: object, **more: object) -> None:
        raise UsageProblem("asked")

    monkeypatch.setattr("agent.tracing.trace", send)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")  # also for root
    config = tmp_path / "callpath.yaml"
    config.write_text(f"state_dir: {tmp_path}/loop\nprofile: research\nrisks: accepted\n")
    told = CliRunner().invoke(app, ["trace", "udp", "127.0.0.9:3478", "--config", str(config)])
    assert "nobody may look whether" in told.output
    assert "asked" in told.output


def test_a_disk_that_does_not_say(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert is_paused(tmp_path / "loop", otherwise=True)
    assert not is_paused(tmp_path / "loop")


@pytest.mark.parametrize(
    ("command", "does"),
    [
        (["check"], "agent.check.run_check"),
        (["probe", "stun", "127.0.0.9:3478"], "agent.byhand.probe_once"),
        (["trace", "udp", "127.0.0.9:3478"], "agent.tracing.trace"),
    ],
)
def test_a_command_by_hand_sends_nothing(tmp_path, monkeypatch, command, does):
    done = []

    async def send(*args: object, **more: object) -> None:
        done.append(does)

    monkeypatch.setattr(does, send)
    pausing.marker(tmp_path).touch()
    config = tmp_path / "callpath.yaml"
    config.write_text(f"state_dir: {tmp_path}\nprofile: research\nrisks: accepted\n")
    told = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert told.exit_code == 2, told.output
    assert "paused: " in told.output
    assert not done
