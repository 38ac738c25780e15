"""August 2025 in the virtual world, with the shipped catalogue: chat works, and of what goes to the
call servers most is lost. What is written of it says so, says nothing of the line, and is enough to
come to every verdict again."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent import evidencecli, evidencedoor
from agent.cli import app
from agent.evidencecli import DIFFERS, USAGE
from agent.history import History
from agent.store import Store
from agent.trimming import Limits
from agent.wiring import versions
from exporters.archive import Refused, Writer
from tests.lab.actions import Lose
from tests.lab.chance import Loss
from tests.lab.presets import preset
from tests.lab.virtual.world import Agent, VirtualWorld, configuration
from tests.lab.world import CLIENT_V4, CLIENT_V6

MINUTE = 60.0
NOW = 1_800_000_000.0 + 27 * MINUTE
"""When the virtual half hour is over."""


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


@dataclass(frozen=True, slots=True)
class August:
    """An archive, what the command said of it, and where the agent's state and settings are."""

    folder: Path
    file: Path
    written: evidencedoor.Written


@pytest.fixture(scope="module")
def august(tmp_path_factory):
    folder = tmp_path_factory.mktemp("august")
    with VirtualWorld(8) as world:
        clock = world.clock
        config = configuration("client", folder)
        store = Store(folder / "state")
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
    asked = evidencedoor.Asked(began, now, ("telegram",), folder / "evidence.zip")
    return August(folder, asked.output, evidencedoor.write(config, folder / "state", asked))


def texts_of(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def lines_of(texts: dict[str, bytes], name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in texts[name].splitlines()]


def test_it_is_told(august):
    texts = texts_of(august.file)
    told = texts["account.md"].decode()
    [outage] = lines_of(texts, "outages.jsonl")
    assert (outage["messenger"], outage["channel"]) == ("telegram", "call")
    assert (outage["status"], outage["mechanism"]) == ("degraded", "udp_relay_block")
    assert outage["summary"] in told
    for word in ("## telegram, call: degraded", "- when: 20", "- how sure: ", "- what decided: "):
        assert word in told
    assert august.written.outages == 1
    assert sha256(august.file.read_bytes()).hexdigest() == august.written.sha256


def test_every_verdict_is_come_to_again_from_the_archive_alone(august):
    again = evidencedoor.rediagnose(august.file)
    assert again.judged == august.written.judged > 20
    assert again.differing == []
    assert again.left == {}


def test_what_ooni_would_say(august):
    measured = lines_of(texts_of(august.file), "ooni.jsonl")
    chat = [m["test_keys"] for m in measured if m["test_name"] == "telegram"]
    assert {k["telegram_tcp_blocking"] for k in chat} <= {False, None}
    assert any(k["telegram_tcp_blocking"] is False for k in chat)
    calls = [m for m in measured if m["input"] == "stun://91.108.9.35:1400"]
    assert {m["test_keys"]["failure"] for m in calls} == {None, "generic_timeout_error"}
    ids = [(m["input"], m["measurement_start_time"]) for m in measured if m["input"]]
    assert len(ids) == len(set(ids))


def test_nothing_of_the_line_is_in_any_byte(august):
    texts = texts_of(august.file)
    whole = b"\0".join([*texts.values(), *map(str.encode, texts), august.file.read_bytes()])
    for address in (CLIENT_V4, CLIENT_V6):
        for spelling in spellings(address):
            assert spelling not in whole, spelling
    assert spellings("91.108.9.35") & {
        found for found in spellings("91.108.9.35") if found in whole
    }
    assert str(august.folder).encode() not in whole


# --- what somebody else may have changed, with a manifest that is right ---


def changed(august: August, tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    texts = texts_of(august.file)
    change(texts)
    del texts["manifest.json"]
    with Writer(tmp_path / "forged.zip", lambda text: text) as made:
        for name, data in texts.items():
            made.text(name, data.decode())
    return tmp_path / "forged.zip"


def about(**more: Any) -> Callable[[dict[str, bytes]], None]:
    def change(texts: dict[str, bytes]) -> None:
        texts["about.json"] = json.dumps(json.loads(texts["about.json"]) | more).encode()

    return change


def replaced(name: str, old: str, new: str, most: int = -1) -> Callable[[dict[str, bytes]], None]:
    def change(texts: dict[str, bytes]) -> None:
        assert old.encode() in texts[name]
        texts[name] = texts[name].replace(old.encode(), new.encode(), most)

    return change


def added(name: str, text: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda texts: texts.update({name: text})


ROUNDS, SEEN = "rounds/telegram.jsonl", "observations/telegram.jsonl"
FILE = "catalogue/messengers/telegram.yaml"


@pytest.mark.parametrize(
    "change",
    [
        about(version=2),
        about(since="yesterday"),
        about(since=None),
        about(since=1e300),
        about(settings=[]),
        about(settings={"state_dir": "/etc"}),
        about(settings={"web": {"listen": "0.0.0.0:80"}}),
        about(settings={"resolvers": {"system": "192.0.2.1"}}),
        about(settings={"profile": ["client"]}),
        about(controls=7),
        about(callpath={"catalogue": "[red]"}),
        lambda texts: texts.pop("about.json"),
        lambda texts: texts.pop(ROUNDS),
        lambda texts: texts.pop(FILE),
        added("catalogue/messengers/x.yaml", b"messenger: y"),
        added("catalogue/other.yaml", b"messenger: y"),
        added(FILE, b"[" * 1000),
        added(FILE, b"&a [*a, *a]"),
        added("catalogue/controls/general.yaml", b"sources: 7"),
        replaced(SEEN, '"facts":{', '"facts":{"requests":{},'),
        replaced(SEEN, '"exchange"', '"conjure"'),
        replaced(SEEN, '"facts":{', '"facts":{"a":' + "[" * 5000, 1),
        replaced(SEEN, '"facts":{', '"facts":{"a":"' + "a" * 70_000 + '",', 1),
        replaced(SEEN, '"time":1', '"time":1e99'),
        replaced(ROUNDS, '"status":"degraded"', '"status":"[bold]x"'),
        replaced(ROUNDS, '"rule":"R38a"', '"rule":"\\u001b[31m"'),
        replaced(ROUNDS, '"raw":[', '"raw":[7,'),
        replaced(ROUNDS, '"by":{', '"by":7,"b":{'),
    ],
)
def test_a_forged_archive_is_refused(august, tmp_path, change):
    with pytest.raises(Refused):
        evidencedoor.rediagnose(changed(august, tmp_path, change))


def test_facts_of_the_wrong_kind_crash_nothing(august, tmp_path):
    """No probe writes them, and the rules need not expect them."""
    for number, value in enumerate(('"x"', "1e308", "-1", "true", '["a"]')):
        folder = tmp_path / str(number)
        folder.mkdir()

        def change(texts: dict[str, bytes], value: str = value) -> None:
            known = re.compile(rb'("(?:answered|requests|rtt_seconds|sent)"):[0-9.]+')
            texts[SEEN] = known.sub(rb"\1:" + value.encode(), texts[SEEN])

        with contextlib.suppress(Refused):
            evidencedoor.rediagnose(changed(august, folder, change))


def test_a_verdict_that_was_written_in_differs(august, tmp_path):
    change = replaced(ROUNDS, '"mechanism":"udp_relay_block"', '"mechanism":"ip_drop"')
    file = changed(august, tmp_path, change)
    told = CliRunner().invoke(app, ["evidence", "--rediagnose", str(file)])
    assert told.exit_code == DIFFERS
    assert "ip_drop" in told.stdout
    document = json.loads(
        CliRunner().invoke(app, ["evidence", "--rediagnose", str(file), "--json"]).stdout
    )
    assert document["rounds"] == august.written.judged
    assert {d["was"]["mechanism"] for d in document["differing"]} == {"ip_drop"}


# --- the command ---


def asked(august: August, *words: str) -> Any:
    file = august.folder / "callpath.yaml"
    file.write_text(
        f"state_dir: {august.folder / 'state'}\n" + (august.folder / "client.yaml").read_text()
    )
    return CliRunner().invoke(app, ["evidence", *words, "--config", str(file)])


def test_the_command(august, tmp_path, monkeypatch):
    monkeypatch.setattr(evidencecli.time, "time", lambda: NOW)
    monkeypatch.chdir(tmp_path)
    told = asked(august, "10m", "--until", "2027-01-15T08:25:00")
    assert told.exit_code == 0, told.stderr
    file = tmp_path / "callpath-evidence-20270115T0817Z-20270115T0825Z.zip"
    assert sha256(file.read_bytes()).hexdigest() in told.stdout
    assert set(lines_of(texts_of(file), "outages.jsonl")[0]) >= {"from", "to", "rule"}
    assert {f for f in texts_of(file) if f.startswith("rounds")} == {
        "rounds/telegram.jsonl",
        "rounds/whatsapp.jsonl",
    }
    again = CliRunner().invoke(app, ["evidence", "--rediagnose", str(file)])
    assert again.exit_code == 0
    assert "0 verdicts differ" in again.stdout
    assert asked(august, "10m", "--until", "2027-01-15T08:25:00").exit_code == USAGE  # it exists


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("soon",),
        ("24h", "--json"),
        ("24h", "--until", "48h"),
        ("24h", "nobody"),
        ("24h", "--rediagnose", "x.zip"),
        ("24h", "--output", "/nowhere/x.zip"),
        ("--rediagnose", "/nowhere/x.zip"),
    ],
)
def test_usage(august, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = asked(august, *words)
    assert told.exit_code == USAGE
    assert told.stderr
    assert list(tmp_path.iterdir()) == []
