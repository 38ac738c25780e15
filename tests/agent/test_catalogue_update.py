"""Signed catalogues in the agent's hands: replays, and the commands that make and show them."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from agent import cataloguedoor
from agent.accepted import accept
from agent.cli import app
from agent.store import Store
from config import CATALOGUE_VERSION, signed
from config.loader import load
from config.model import ConfigError


@pytest.fixture
def signing(tmp_path):
    """How to sign the shipped catalogue as another version; where it goes, and callpath.yaml."""
    key, update, file = tmp_path / "key", tmp_path / "update", tmp_path / "callpath.yaml"
    cataloguedoor.keygen(key)
    public = signed.public_key(bytes.fromhex(key.read_text().strip()))
    file.write_text(f"catalogue: {{file: update, keys: [{public}]}}\nstate_dir: state\n")

    def sign(version):
        cataloguedoor.pack(None, key, version, update)
        return load(file)

    return sign


def test_an_older_one_than_was_in_use_is_a_replay(signing, tmp_path):
    store = Store(tmp_path / "state")
    accept(signing(f"{CATALOGUE_VERSION}.2"), store)
    store.close()
    store = Store(tmp_path / "state")  # also after a restart
    with pytest.raises(ConfigError, match="older than"):
        accept(signing(f"{CATALOGUE_VERSION}.1"), store)
    accept(signing(f"{CATALOGUE_VERSION}.2"), store)
    accept(signing(f"{CATALOGUE_VERSION}.3"), store)
    with pytest.raises(ConfigError):
        accept(signing(f"{CATALOGUE_VERSION}.2"), store)
    store.close()


def test_a_file_older_than_the_shipped_one_is_no_way_back_to_that(signing, tmp_path):
    store = Store(tmp_path / "state")
    first = signing("2026.01.01")
    accept(first, store)  # the shipped one is in use, and nothing newer ever was
    assert first.catalogue == CATALOGUE_VERSION
    accept(signing(f"{CATALOGUE_VERSION}.2"), store)
    older = signing("2026.01.01")
    with pytest.raises(ConfigError, match=r"2026\.01\.01 is older than .*\.2"):
        accept(older, store)
    updated = replace(older, catalogue=f"{CATALOGUE_VERSION}.3")  # shipped with a new callpath
    accept(updated, store)
    store.close()


def test_one_version_is_one_file(signing, tmp_path):
    store = Store(tmp_path / "state")
    taken = signing(f"{CATALOGUE_VERSION}.2")
    accept(taken, store)
    accept(taken, store)
    other = replace(taken, update=replace(taken.update, sha256="0" * 64))
    with pytest.raises(ConfigError, match="needs a new number"):
        accept(other, store)
    store.close()


@pytest.mark.parametrize("kept", [b"", b"\xff\xfe", b"soon", b"2026.13.40 x"])
def test_a_damaged_memory_is_none(signing, tmp_path, kept):
    store = Store(tmp_path / "state")
    store.put("catalogue", kept)
    accept(signing(f"{CATALOGUE_VERSION}.1"), store)
    store.close()


def test_commands_say_what_is_passed_over_and_refuse_a_replay(signing, tmp_path, monkeypatch):
    file = tmp_path / "callpath.yaml"
    signing("2026.01.01")
    done = run("config", "check", file)
    assert done.exit_code == 0
    assert "2026.01.01 is older than the shipped catalogue" in done.stderr
    store = Store(tmp_path / "state")
    accept(signing(f"{CATALOGUE_VERSION}.2"), store)
    store.close()
    signing(f"{CATALOGUE_VERSION}.1")
    for command in ("check", "run"):
        done = run(command, "--config", file)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "was in use before" in done.stderr


def test_without_an_update_the_shipped_one_serves(signing, tmp_path):
    store = Store(tmp_path / "state")
    accept(signing(f"{CATALOGUE_VERSION}.2"), store)
    accept(load(None), store)
    store.close()


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_from_a_key_to_a_catalogue_in_use(tmp_path):
    made = run("catalogue", "keygen", tmp_path / "key")
    assert made.exit_code == 0
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    public = made.stdout.split("keys: [")[1].split("]")[0]
    folder = tmp_path / "mine"
    for name in ("messengers", "controls"):
        (folder / name).mkdir(parents=True)
    shipped = cataloguedoor.catalogue.shipped()
    for path in ("messengers/telegram.yaml", "controls/general.yaml"):
        (folder / path).write_text(shipped.text(path))
    packed = run(
        *("catalogue", "pack", "--from", folder, "--key", tmp_path / "key"),
        *("--version", f"{CATALOGUE_VERSION}.1", "-o", tmp_path / "update"),
    )
    assert packed.exit_code == 0, packed.output
    assert run("catalogue", "verify", tmp_path / "update", "--key", public).exit_code == 0
    wrong = run("catalogue", "verify", tmp_path / "update", "--key", "0" * 64)
    assert wrong.exit_code == 2
    assert "none of the keys" in wrong.output
    file = tmp_path / "callpath.yaml"
    file.write_text(f"messengers: [telegram]\ncatalogue: {{file: update, keys: [{public}]}}\n")
    told = json.loads(run("catalogue", "show", "--json", "--config", file).stdout)
    assert told["catalogue"] == f"{CATALOGUE_VERSION}.1"
    assert told["update"]["key"] == public
    assert told["files"]["messengers"] == ["telegram"]


def test_what_is_wrong_is_not_signed(tmp_path):
    run("catalogue", "keygen", tmp_path / "key")
    (tmp_path / "mine" / "messengers").mkdir(parents=True)
    (tmp_path / "mine" / "controls").mkdir()
    shipped = cataloguedoor.catalogue.shipped()
    (tmp_path / "mine" / "controls" / "general.yaml").write_text(
        shipped.text("controls/general.yaml")
    )
    (tmp_path / "mine" / "messengers" / "a.yaml").write_text("messenger: b\n")
    done = run(
        *("catalogue", "pack", "--from", tmp_path / "mine", "--key", tmp_path / "key"),
        *("--version", "2026.12.01", "-o", tmp_path / "update"),
    )
    assert done.exit_code == 2
    assert "messengers/a.yaml" in done.output
    assert not (tmp_path / "update").exists()


def test_a_key_is_never_written_over(tmp_path):
    run("catalogue", "keygen", tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    assert run("catalogue", "keygen", tmp_path / "key").exit_code == 2
    assert (tmp_path / "key").read_bytes() == before
