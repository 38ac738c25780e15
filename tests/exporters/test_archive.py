"""An archive: what is written comes out again, and nothing else is taken."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from pathlib import Path

import pytest

from exporters import archive
from exporters.archive import MANIFEST, Archive, Refused, Writer, parsed


def same(text: str) -> str:
    return text


def written(path: Path, scrub=same) -> Path:
    with Writer(path, scrub) as made:
        beside = made.beside()
        with made.lines("a/lines.jsonl") as lines:
            for n in range(3):
                lines.add({"n": n})
                beside.add({"square": n * n})
        made.copy("a/squares.jsonl", beside)
        made.text("account.md", "who: 192.0.2.77\n")
    return path


def test_what_is_written_comes_out_again(tmp_path):
    with Archive(written(tmp_path / "x.zip")) as found:
        assert [line["n"] for line in found.lines("a/lines.jsonl")] == [0, 1, 2]
        assert [line["square"] for line in found.lines("a/squares.jsonl")] == [0, 1, 4]
        assert found.text("account.md") == "who: 192.0.2.77\n"
        files = found.json(MANIFEST)["files"]
        with zipfile.ZipFile(tmp_path / "x.zip") as plain:
            for name, told in files.items():
                data = plain.read(name)
                assert told == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            assert set(files) == set(plain.namelist()) - {MANIFEST}


def test_the_same_content_is_the_same_file_and_nobody_elses(tmp_path):
    one, other = written(tmp_path / "x.zip"), written(tmp_path / "y.zip")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_mode & 0o777 == 0o600


def test_what_is_scrubbed_is_nowhere(tmp_path):
    path = written(tmp_path / "x.zip", lambda text: text.replace("192.0.2.77", "[vantage]"))
    with Archive(path) as found:
        assert found.text("account.md") == "who: [vantage]\n"


def test_nothing_is_written_over_and_nothing_half_written_stays(tmp_path):
    path = written(tmp_path / "x.zip")
    with pytest.raises(Refused, match="exists"):
        Writer(path, same)
    with pytest.raises(Refused, match="too large"), Writer(tmp_path / "y.zip", same) as made:
        made.text("account.md", "a" * (archive.LONGEST + 1))
    assert list(tmp_path.iterdir()) == [path]


# --- what somebody else may have made ---


def forged(path: Path, files: dict[str, bytes], manifest: object = None) -> Path:
    """A zip of these files with a manifest that is right, or another one."""
    listed = {
        n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()
    }
    whole = {"version": 1, "files": listed} if manifest is None else manifest
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
        made.writestr(MANIFEST, json.dumps(whole))
    return path


def read(path: Path) -> None:
    with Archive(path) as found:
        for name in sorted(found.names - {MANIFEST}):
            list(found.lines(name))


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as why:
        read(path)
    return str(why.value)


def test_a_forgery_that_is_right_is_taken(tmp_path):
    """So that the others are refused for what is wrong with them."""
    with Archive(forged(tmp_path / "x", {"a.jsonl": b'{"a": 1}\n'})) as found:
        assert list(found.lines("a.jsonl")) == [{"a": 1}]


@pytest.mark.parametrize(
    "name",
    [
        "../a.jsonl",
        "/etc/a.txt",
        "a/../../b.md",
        "a\\b.md",
        "C:x.md",
        "a//b.md",
        ".a.md",
        "a",
        "ä.md",
        "b/",
    ],
)
def test_names_that_lead_elsewhere(tmp_path, name):
    assert "strange name" in refusal(forged(tmp_path / "x", {name: b"{}"}))


def test_a_file_that_was_changed(tmp_path):
    wrong = {"version": 1, "files": {"a.jsonl": {"bytes": 3, "sha256": "0" * 64}}}
    assert "was changed" in refusal(forged(tmp_path / "x", {"a.jsonl": b"{}\n"}, wrong))


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ({"version": 1, "files": {}}, "other files"),
        ({"version": 1, "files": {"a.jsonl": {}, "b.jsonl": {}}}, "other files"),
        ({"version": 2, "files": {}}, "form"),
        ({"version": 1, "files": []}, "form"),
        ({"version": 1, "files": {"a.jsonl": {"sha256": 7}}}, "manifest"),
        ({"version": 1, "files": {"a.jsonl": "x"}}, "manifest"),
        ([], "no object"),
    ],
)
def test_a_manifest_that_is_none(tmp_path, manifest, why):
    assert why in refusal(forged(tmp_path / "x", {"a.jsonl": b"{}"}, manifest))


def test_without_a_manifest(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as made:
        made.writestr("a.md", "")
    assert MANIFEST in refusal(tmp_path / "x")


def test_one_file_twice(tmp_path):
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x", "w") as made:
        warnings.simplefilter("ignore")
        for _ in range(2):
            made.writestr(MANIFEST, "{}")
    assert "twice" in refusal(tmp_path / "x")


def test_too_many_files(tmp_path):
    assert "more than" in refusal(forged(tmp_path / "x", {f"a{n}.md": b"" for n in range(70)}))


def test_a_bomb_is_refused_before_it_goes_off(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    assert "GiB when unpacked" in refusal(forged(tmp_path / "x", {"a.jsonl": bytes(2 << 20)}))


def test_a_bomb_that_lies_about_its_size(tmp_path):
    """Two sizes are told, in its own head and in the directory; neither is gone beyond."""
    path = forged(tmp_path / "x", {"a.jsonl": bytes(1 << 20)})
    data = path.read_bytes().replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    assert refusal(path)


def test_a_line_that_never_ends(tmp_path):
    path = forged(tmp_path / "x", {"a.jsonl": b'{"a": 1}\n{"a": "' + b"a" * 2000})
    with Archive(path) as found:
        lines = found.lines("a.jsonl", 1000)
        assert next(lines) == {"a": 1}
        with pytest.raises(Refused, match="too long"):
            next(lines)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"PK\x03\x04 and no more",
        b"\0" * 4096,
    ],
)
def test_no_zip(tmp_path, text):
    (tmp_path / "x").write_bytes(text)
    assert "no archive" in refusal(tmp_path / "x")


def test_every_cut_and_every_changed_byte_is_refused_or_harmless(tmp_path):
    whole = written(tmp_path / "x.zip").read_bytes()
    path = tmp_path / "y.zip"
    for at in range(0, len(whole), 7):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            path.write_bytes(data)
            try:
                with Archive(path) as found:
                    texts = [found.text(n) for n in sorted(found.names)]
            except Refused:
                continue
            assert texts[1:2] == ['{"square":0}\n{"square":1}\n{"square":4}\n']


def test_encrypted(tmp_path):
    path = forged(tmp_path / "x", {"a.jsonl": b"{}"})
    data = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + flags] |= 1
    path.write_bytes(data)
    assert "no archive" in refusal(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": Infinity}',
        "[]",
        "7",
        "",
        '{"a": ' + "9" * 5000 + "}",
        "{]",
    ],
)
def test_absurd_json(text):
    with pytest.raises(Refused):
        parsed(text)


def test_what_is_not_there(tmp_path):
    with Archive(written(tmp_path / "x.zip")) as found:
        with pytest.raises(Refused, match="is without"):
            list(found.lines("b.jsonl"))
        with pytest.raises(Refused, match="is without"):
            found.text("b.md")
    assert "cannot be read" in refusal(tmp_path / "nowhere")
