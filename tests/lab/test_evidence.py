"""August 2025 in the virtual world, with the shipped catalogue: chat works, and of what goes to the
call servers most is lost. What is written of it says so, says nothing of the line, and is enough to
come to every verdict again."""

from __future__ import annotations

import base64
import dataclasses
import json
import zipfile
from ipaddress import ip_address

from agent import evidencedoor
from agent.history import History
from agent.store import Store
from agent.trimming import Limits
from agent.wiring import versions
from tests.lab.actions import Lose
from tests.lab.chance import Loss
from tests.lab.presets import preset
from tests.lab.virtual.world import Agent, VirtualWorld, configuration
from tests.lab.world import CLIENT_V4, CLIENT_V6

MINUTE = 60.0


def spellings(address: str) -> set[bytes]:
    """An address in all the ways in which somebody might have written it."""
    a = ip_address(address)
    texts = {address, a.exploded, a.compressed, a.reverse_pointer, str(int(a)), f"{int(a):x}"}
    if a.version == 4:
        octets = address.split(".")
        texts |= {"-".join(octets), ".".join(octets[::-1]), f"{int(a):#o}", f"::ffff:{address}"}
        texts |= {".".join(octets[:3]) + ".", f"{int(a) >> 16:x}:{int(a) & 0xFFFF:04x}"}
    else:
        texts |= {":".join(a.exploded.split(":")[:4]), a.compressed.rpartition("::")[0]}
    found = {t.encode() for t in texts} | {t.upper().encode() for t in texts}
    return found | {a.packed, base64.b64encode(a.packed).rstrip(b"=")[:-1]}


def test_august_is_told_and_judged_again_from_the_archive_alone(tmp_path):
    with VirtualWorld(8) as world:
        clock = world.clock
        config = configuration("client", tmp_path)
        store = Store(tmp_path / "state")
        kept = History(
            store, Limits(30 * 86400.0, 2**30), 60.0, lambda: versions(config), lambda: clock.now
        )
        agent = Agent(world, config, store, history=kept)
        began = clock.wall()
        world.run(agent.rounds(clock.now + 15 * MINUTE))
        for rule in preset("calls_lossy", remote="91.108.0.0/16"):
            world.path.add(dataclasses.replace(rule, action=Lose(Loss(0.7))), clock.now)
        world.run(agent.rounds(clock.now + 12 * MINUTE))
        now = clock.wall()
        world.run(agent.stop())
    file = tmp_path / "evidence.zip"
    asked = evidencedoor.Asked(began, now, ("telegram",), file)
    written = evidencedoor.write(config, tmp_path / "state", asked)

    with zipfile.ZipFile(file) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    told = texts["account.md"].decode()
    [outage] = [json.loads(line) for line in texts["outages.jsonl"].splitlines()]
    assert (outage["messenger"], outage["channel"]) == ("telegram", "call")
    assert "## telegram, call: " in told
    assert outage["summary"] in told
    assert outage["rule"] == "" or "- what decided: " in told

    again = evidencedoor.rediagnose(file)
    assert again.judged == written.judged > 20
    assert again.differing == []
    assert again.left == {}

    measured = [json.loads(line) for line in texts["ooni.jsonl"].splitlines()]
    chat = [m["test_keys"] for m in measured if m["test_name"] == "telegram"]
    assert {k["telegram_tcp_blocking"] for k in chat} <= {False, None}
    assert any(k["telegram_tcp_blocking"] is False for k in chat)
    calls = [m for m in measured if m["input"] == "stun://91.108.9.35:1400"]
    assert {m["test_keys"]["failure"] for m in calls} == {None, "generic_timeout_error"}

    whole = b"\0".join([*texts.values(), *map(str.encode, texts), file.read_bytes()])
    for address in (CLIENT_V4, CLIENT_V6):
        for spelling in spellings(address):
            assert spelling not in whole, spelling
