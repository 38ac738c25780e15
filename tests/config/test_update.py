"""A signed catalogue instead of the shipped one: what is taken, and what is refused."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from config import CATALOGUE_VERSION, catalogue, signed
from config.catalogue import GENERAL, Malformed, Version, parse_version
from config.loader import load
from config.model import ConfigError

PRIVATE = bytes(range(32))
PUBLIC = signed.public_key(PRIVATE)
STRANGER = bytes(range(1, 33))
KEYS = (
    "targets",
    "sources",
    "messenger",
    "title",
    "owner",
    "probe",
    "resolver",
    "name",
    "url",
    "x",
)
NEXT = f"{CATALOGUE_VERSION}.1"
SHIPPED = catalogue.shipped()
FILES = {path: SHIPPED.text(path) for path in SHIPPED.paths}


def made(version: str = NEXT, files: dict[str, str] = FILES, private: bytes = PRIVATE) -> bytes:
    return signed.sealed(catalogue.content(parse_version(version), files), private)


def configured(folder: Path, data: bytes, *more: str, keys: str = PUBLIC) -> Path:
    (folder / "update").write_bytes(data)
    file = folder / "callpath.yaml"
    file.write_text("\n".join((f"catalogue: {{file: update, keys: [{keys}]}}", *more)))
    return file


def problems(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return "\n".join(map(str, caught.value.problems))


def test_an_update_takes_the_place_of_all_that_is_shipped(tmp_path):
    said = FILES["messengers/whatsapp.yaml"].replace("title: WhatsApp", "title: Changed")
    assert said != FILES["messengers/whatsapp.yaml"]
    files = {**FILES, "messengers/whatsapp.yaml": said, "messengers/own.yaml": OWN}
    file = configured(tmp_path, made(files=files), "messengers: [whatsapp, own]")
    config = load(file)
    assert [m.title for m in config.messengers] == ["Changed", "Own"]
    assert config.catalogue == NEXT
    assert config.update is not None
    assert config.update.key == PUBLIC
    assert catalogue.written(config, config.messengers[0]).data["title"] == "Changed"


OWN = """\
messenger: own
title: Own
sources: [{url: "https://example.org/", read: 2026-11-01}]
targets:
  - {name: chat, channel: chat, probe: tcp, host: 192.0.2.1, port: 443, proof: documented}
"""


def test_files_of_ones_own_still_come_first(tmp_path):
    own = tmp_path / "mine"
    own.mkdir()
    (own / "own.yaml").write_text(OWN.replace("title: Own", "title: Mine"))
    files = {**FILES, "messengers/own.yaml": OWN}
    config = load(
        configured(tmp_path, made(files=files), "messengers: [own]", "messenger_dirs: [mine]")
    )
    assert config.messengers[0].title == "Mine"


@pytest.mark.parametrize(
    ("data", "keys", "said"),
    [
        (made(private=STRANGER), PUBLIC, "none of the keys"),
        (made()[:-1], PUBLIC, "cut off"),
        (made() + b" ", PUBLIC, "goes on after"),
        (made().replace(b"WhatsApp", b"WhatsApq", 1), PUBLIC, "signature"),
        (b"", PUBLIC, "does not begin"),
        (b"catalogue: yes\n", PUBLIC, "does not begin"),
        (b"x" * (signed.MAX_BYTES + 1), PUBLIC, "larger than"),
        (made("2199.01.01"), PUBLIC, "in the future"),
    ],
    ids=["stranger", "cut", "longer", "changed", "empty", "unsigned", "huge", "future"],
)
def test_what_is_refused(tmp_path, data, keys, said):
    assert said in problems(configured(tmp_path, data, keys=keys))


def test_a_file_in_it_that_is_wrong_is_named(tmp_path):
    files = {**FILES, "messengers/whatsapp.yaml": "messenger: whatsapp\ntitle: [1]\n"}
    said = problems(configured(tmp_path, made(files=files)))
    assert "update!messengers/whatsapp.yaml:2: title" in said


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["messengers/telegram.yaml", GENERAL]), st.sampled_from(KEYS), plain)
@example(GENERAL, "targets", 5)
@example(GENERAL, "targets", [{"probe": "dns", "resolver": 5}])
@example("messengers/telegram.yaml", "messenger", {})
def test_whatever_is_signed_is_refused_as_a_mistake_of_the_configuration(
    tmp_path, path, key, value
):
    document = {**yaml.safe_load(FILES[path]), key: value}
    files = {**FILES, path: json.dumps(document, default=str)}
    file = configured(tmp_path, made(files=files), "messengers: [telegram]")
    with contextlib.suppress(ConfigError):
        load(file)


def test_an_update_without_a_selected_messenger_is_refused(tmp_path):
    files = {path: text for path, text in FILES.items() if "telegram" not in path}
    assert "no messenger is called telegram" in problems(configured(tmp_path, made(files=files)))


def test_what_is_older_than_the_shipped_one_is_not_in_use(tmp_path):
    config = load(configured(tmp_path, made("2026.01.01")))
    assert (config.catalogue, config.superseded, config.update) == (
        CATALOGUE_VERSION,
        "2026.01.01",
        None,
    )


def test_a_file_needs_a_key(tmp_path):
    (tmp_path / "callpath.yaml").write_text("catalogue: {file: update}\n")
    assert "catalogue.keys" in problems(tmp_path / "callpath.yaml")


@pytest.mark.parametrize(
    "path",
    [
        *("../messengers/a.yaml", "/etc/passwd", "messengers/../a.yaml", "messengers/.a.yaml"),
        *("messengers/a.yml", "messengers/a.yaml/b.yaml", "other/a.yaml", "messengers/A.yaml", ""),
    ],
)
def test_paths_that_lead_nowhere(path):
    with pytest.raises(Malformed, match="no path"):
        catalogue.content(Version(date(2026, 12, 1)), {**FILES, path: "x"})


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"version": 1, "catalogue": "2026.12.01"},
        {"version": 2, "catalogue": "2026.12.01", "files": FILES},
        {"version": True, "catalogue": "2026.12.01", "files": FILES},
        {"version": 1, "catalogue": "2026.13.01", "files": FILES},
        {"version": 1, "catalogue": "2026.12.01", "files": {}},
        {"version": 1, "catalogue": "2026.12.01", "files": {"messengers/a.yaml": "x"}},
        {"version": 1, "catalogue": "2026.12.01", "files": {**FILES, "messengers/a.yaml": 1}},
        {"version": 1, "catalogue": "2026.12.01", "files": FILES, "more": 1},
    ],
)
def test_what_is_signed_and_no_catalogue(document):
    with pytest.raises(Malformed):
        catalogue.parsed(json.dumps(document).encode())


def test_an_installation_has_no_empty_folder(tmp_path, monkeypatch):
    for path in ("messengers/whatsapp.yaml", "controls/general.yaml"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(FILES[path])
    monkeypatch.setattr(catalogue, "_HERE", tmp_path)
    assert catalogue.shipped().paths == ("controls/general.yaml", "messengers/whatsapp.yaml")


def test_versions_have_an_order():
    texts = ["2026.11.28", "2026.11.28.1", "2026.11.28.2", "2026.11.28.10", "2026.12.01"]
    assert all(parse_version(a) < parse_version(b) for a, b in pairwise(texts))
    assert [str(parse_version(text)) for text in texts] == texts


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_and_nothing_else(data):
    with pytest.raises(signed.Refused):
        signed.opened(data, [PUBLIC])
    with pytest.raises(Malformed):
        catalogue.parsed(data)


@given(st.dictionaries(st.sampled_from(["version", "catalogue", "files", "x"]), plain))
def test_any_document_is_refused_and_nothing_else(document):
    with pytest.raises(Malformed):
        catalogue.parsed(json.dumps(document).encode())


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"files":{"x":'])
def test_depth_costs_nothing(opening):
    with pytest.raises(Malformed):
        catalogue.parsed(opening * 200_000)


def test_a_reader_asks_for_no_more_than_it_may_keep(tmp_path):
    with (tmp_path / "update").open("wb") as sparse:
        sparse.truncate(2**40)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="larger than 8 MiB"):
            catalogue.read_update(tmp_path / "update", [PUBLIC], date.today())
        assert tracemalloc.get_traced_memory()[1] < 3 * signed.MAX_BYTES
    finally:
        tracemalloc.stop()


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_no_byte_can_be_changed(at, change):
    data = bytearray(signed.sealed(b'{"some": "content"}', PRIVATE))
    data[at % len(data)] ^= change
    with pytest.raises(signed.Refused):
        signed.opened(bytes(data), [PUBLIC])
