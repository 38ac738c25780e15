"""The running agent: signals, pause, reload. Its probes are fakes; only its web port is real."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent import core as core_module
from agent import network, purging, rounds
from agent.webdoor import listen
from agent.wiring import Agent, contact_rows
from config.model import Config, ConfigError, Problem, Update
from exporters import tables
from exporters.document import timestamp
from probes.model import Status
from probes.net.address import Source
from probes.net.streams import Send, Stream
from tests.agent.building import (
    FakeStun,
    World,
    configuration,
    control,
    messenger,
    target,
    until,
)
from tests.probes.servers import echo, udp_server

pytestmark = pytest.mark.usefixtures("collector_as_it_was")

ADDRESS, WEB = "192.0.2.1", "192.0.2.9"


@dataclass
class Running:
    agent: Agent
    task: asyncio.Task[None]
    world: World
    folder: Path
    configs: list[Any]
    outside: dict[str, Any] = field(default_factory=dict)

    @property
    def statuses(self) -> dict[str, Status]:
        return {d.channel: d.status for d in self.agent._core.report().diagnoses}


def config(
    world: World,
    folder: Path,
    port: int,
    *names: str,
    outside: dict[str, Any] | None = None,
    **web: Any,
) -> Config:
    targets = (target(name, host=ADDRESS, probe=FakeStun(world)) for name in names or ("a",))
    controls = (
        control(f"c{n}", host=WEB, kind="", probe=FakeStun(world), port=n + 1) for n in range(3)
    )
    return configuration(
        (messenger(*targets),),
        tuple(controls),
        state_dir=str(folder),
        outside=outside or {},
        schedule={
            "interval": "1s",
            "handshake_interval": "1s",
            "media_interval": "1s",
            "transfer_interval": "1s",
        },
        state={"spacing": "0s"},
        limits={"min_interval": "100ms", "fast_prefixes": ["192.0.2.0/24"]},
        web={"listen": f"127.0.0.1:{port}", **web},
    )


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(rounds, "SPREAD", 0.0)
    monkeypatch.setattr(core_module, "is_tunnel", lambda interface: False)
    monkeypatch.setattr(network, "attachment", lambda key: "lan")
    with await listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    world, folder = World(), tmp_path / "state"
    configs: list[Any] = []
    outside: dict[str, Any] = {}

    def load() -> Config:
        answer = configs.pop(0)
        if isinstance(answer, ConfigError):
            raise answer
        if isinstance(answer, Config):
            return answer
        return config(world, folder, port, *answer, outside=outside)

    agent = Agent(config(world, folder, port), load)
    made = Running(agent, asyncio.create_task(agent.run()), world, folder, configs, outside)
    await until(lambda: agent._core.ready)
    yield made
    agent._stop.set()
    await asyncio.wait_for(made.task, 20)


async def test_sigterm_lets_the_round_under_way_end(running: Running):
    running.world.hanging.add(ADDRESS)
    await until(lambda: running.world.sending[ADDRESS])
    ended = running.agent._figures.rounds["m"]
    asyncio.get_running_loop().call_later(0.2, running.world.hanging.clear)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(asyncio.shield(running.task), 20)
    assert running.agent._figures.rounds["m"] == ended + 1


async def test_the_media_engine_starts_when_it_is_needed_and_ends_with_the_agent(running: Running):
    engine = running.agent._core.engine
    assert engine.pid is None
    async with udp_server(echo) as server:
        stream = Stream("127.0.0.1", server.port, (Send(0.0, b"x"),), 0.1)
        streams = running.agent._core.env.streams
        assert streams is not None
        await streams.play([stream], Source())
    pid = engine.pid
    assert pid
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(asyncio.shield(running.task), 20)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_purge_forgets_everything_and_goes_on_measuring(running: Running):
    core = running.agent._core
    name = core.name
    await until(lambda: running.statuses.get("call") is Status.OK)
    await asyncio.to_thread(purging.purge, running.folder)
    assert running.agent._core is not core
    assert running.agent._core.name != name
    assert running.agent._core.learned.nearest.keys() <= {ADDRESS, WEB}
    await until(lambda: running.statuses.get("call") is Status.OK)
    rows = running.agent._store.read("SELECT min(id) FROM rounds")
    assert rows[0][0] in (1, 2), "the history begins anew"
    assert running.agent._store.healthy


async def test_a_paused_file_stops_all_sending_within_a_second(running: Running):
    running.world.hanging.add(ADDRESS)
    await until(lambda: running.world.sending[ADDRESS])
    (running.folder / "paused").touch()
    await until(lambda: running.agent._core.manners.paused, 1)
    await asyncio.sleep(0.05)
    asked, sent = len(running.world.asked), running.world.sending[ADDRESS]
    await asyncio.sleep(0.2)
    assert running.world.sending[ADDRESS] == sent
    running.world.hanging.clear()
    # Rounds go on, ask nothing, and what nobody measures is soon not known.
    await until(lambda: running.statuses == {"call": Status.UNKNOWN})
    assert (len(running.world.asked), running.world.sending[ADDRESS]) == (asked, sent)
    assert running.agent._core.report().diagnoses[0].reason == "not_measured"
    (running.folder / "paused").unlink()
    await until(lambda: running.statuses == {"call": Status.OK})


async def test_a_reload_takes_over_and_a_bad_one_leaves_the_old_one_running(running: Running):
    await until(lambda: running.statuses == {"call": Status.OK})
    before = running.agent._core
    problem = Problem("callpath.yaml", 3, "state.enter", "must be greater")
    running.configs.append(ConfigError([problem]))
    assert await reload_metric(running) == "1.0"
    answer = await running.agent.reload()
    assert await reload_metric(running) == "0.0"
    assert answer.problems == ("callpath.yaml:3: state.enter: must be greater",)
    assert running.agent._core is before
    assert not running.agent._figures.reload_ok

    older = replace(
        config(running.world, running.folder, 1), update=Update("f", "", ""), catalogue="2026.01.02"
    )
    running.agent._store.put("catalogue", b"2026.01.03 f00")
    running.configs.append(older)
    (problem,) = (await running.agent.reload()).problems
    assert "2026.01.02 is older than 2026.01.03" in problem
    assert running.agent._core is before

    running.configs.append(("a", "b"))
    assert (await running.agent.reload()).problems == ()
    core = running.agent._core
    assert core is not before
    assert running.agent._figures.reload_ok
    assert core.ready
    assert core.env.streams is core.engine is before.engine  # its long-lived flows go on
    assert running.statuses == {"call": Status.OK}
    ended = running.agent._figures.rounds["m"]
    await until(lambda: running.agent._figures.rounds["m"] > ended)
    assert {key[1] for key in core.ledger.targets} == {"a", "b", "c0", "c1", "c2"}


async def reload_metric(running: Running) -> str:
    """What a scrape right after a reload finds."""
    async with httpx.AsyncClient(trust_env=False) as client:
        page = await client.get(f"http://{running.agent._core.config.settings.web.listen}/metrics")
    (line,) = re.findall(r"(?m)^callpath_config_last_reload_successful (.+)$", page.text)
    return str(line)


async def test_sighup_reloads(running: Running):
    before = running.agent._core
    running.configs.append(("a",))
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: running.agent._core is not before)


async def test_no_address_to_listen_at_is_an_error_before_anything_is_measured(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agent.webdoor.PATIENCE", 0.1)
    taken = running.agent._core.config.settings.web.listen
    world = World()
    port = int(taken.rpartition(":")[2])
    second = Agent(config(world, tmp_path / "other", port), lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(OSError, match="in use"):
        await second.run()
    assert world.asked == []
    second._store.close()


def status(works: bool) -> str:
    now = timestamp(time.time())
    state = {"target": "a", "probe": "stun", "works": works, "last_run": now}
    channel = {"messenger": "m", "target_states": [state]}
    return json.dumps(
        {"version": 1, "at": now, "vantage": {"status": "online"}, "channels": [channel]}
    )


async def test_a_reload_changes_where_the_outside_view_is_read(running: Running):
    def works() -> bool | None:
        view = running.agent._core.outside.current
        return None if view is None else view.works("m", "a", "stun", time.time())

    file = running.folder / "outside.json"
    file.write_text(status(works=False))
    assert works() is None
    old = running.agent._core
    running.outside["file"] = str(file)
    running.configs.append(("a",))
    await running.agent.reload()
    await until(lambda: works() is False)
    core = running.agent._core
    running.outside["file"] = ""
    running.configs.append(("a",))
    await running.agent.reload()
    await until(lambda: running.agent._core is not core)
    assert works() is None
    assert old.outside._task is None
    assert core.outside._task is None


async def test_a_pause_stops_the_reading_of_the_outside_view(running: Running):
    running.outside["file"] = str(running.folder / "none.json")
    running.configs.append(("a",))
    await running.agent.reload()
    view = running.agent._core.outside
    await until(lambda: view._task is not None)
    (running.folder / "paused").touch()
    await until(lambda: view._task is None)
    (running.folder / "paused").unlink()
    await until(lambda: view._task is not None)


def test_the_operators_own_servers_are_among_what_is_contacted(tmp_path: Path):
    (tmp_path / "k").write_text("ab" * 32)
    made = configuration(
        (),
        (),
        outside={"url": "https://out.example:8443/api/v1/status"},
        twin={
            "address": "192.0.2.7",
            "udp_ports": [3478, 443],
            "key_file": str(tmp_path / "k"),
            "tls_sha256": "ab" * 32,
        },
    )
    rows = contact_rows(made)
    assert [(r["messenger"], r["target"], r["host"], r["port"], r["seconds"]) for r in rows] == [
        ("twin", "udp-3478", "192.0.2.7", 3478, None),
        ("twin", "udp-443", "192.0.2.7", 443, None),
        ("twin", "tls", "192.0.2.7", 443, None),
        ("outside", "status", "out.example", 8443, 180.0),
    ]
    tables.contacts(rows)
    assert contact_rows(configuration((), ())) == []
