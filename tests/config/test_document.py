from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.document import read_json, read_yaml
from config.loader import load
from config.model import ConfigError, Problem


def stops(file: Path, read=read_yaml) -> Problem:
    with pytest.raises(ConfigError) as caught:
        read(file)
    (problem,) = caught.value.problems
    assert problem.file == str(file)
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", "True"),
        ("true", True),
        ("false", False),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        (".5", ".5"),
        ("10", 10),
        ("-3", -3),
        ("0.8", 0.8),
        ("2026-11-20", "2026-11-20"),
        ("'10'", "10"),
        ('"true"', "true"),
    ],
)
def test_a_scalar_is_what_it_looks_like(write, text: str, value: object) -> None:
    read = read_yaml(write("a.yaml", f"key: {text}\n")).data["key"]
    assert read == value
    assert type(read) is type(value)


def test_every_key_and_entry_knows_its_line(write) -> None:
    found = read_yaml(write("a.yaml", "# comment\na: 1\nb:\n  - c: 2\n    d: [x,\n      y]\n"))
    assert found.lines[("a",)] == 2
    assert found.lines[("b",)] == 3
    assert found.lines[("b", 0, "c")] == 4
    assert found.lines[("b", 0, "d", 1)] == 6
    assert found.line(("b", 0, "missing")) == 4


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", "written twice, first in line 1"),
        ("a:\n  b: 1\n  b: 1\n", 3, "a.b", "written twice, first in line 2"),
        ("a: 1\nb:\n", 2, "b", "has no value"),
        ("a: ~\n", 1, "a", "has no value"),
        ("a: [1, null]\n", 1, "a[1]", "has no value"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "b", "tags are not allowed"),
        ("a: !!str 1\n", 1, "a", "tags are not allowed"),
        (f"a: {'x' * 4097}\n", 1, "a", "longer than 4096"),
        ('a: "\\e[31m"\n', 1, "a", "control or invisible"),
        ('a: "\\u202e"\n', 1, "a", "control or invisible"),
        ('a: "\\ud800"\n', 1, "a", "control or invisible"),
    ],
)
def test_a_fault_is_named_and_reading_goes_on(write, text, line, key, message) -> None:
    found = read_yaml(write("a.yaml", text))
    (problem,) = found.problems
    assert (problem.line, problem.key) == (line, key)
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: [1,\n", 2, "not valid YAML"),
        ("a: 1\nb: 'x\n", 3, "not valid YAML"),
        ("- a\n- b\n", 1, "must be a mapping"),
        ("just text\n", 1, "must be a mapping"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("a: 1\n? [x]\n: 2\n", 2, "key that is not text"),
        ("a: 1\nb: *nowhere\n", 2, "not defined before it"),
        ("a: &a [*a]\n", 1, "not defined before it"),
        ("a: 1\nb: \x00\n", 2, "not allow"),
        ("a: " + "[" * 30 + "]" * 30, 1, "nested deeper"),
        ("a: &a [[[[[[[[[[[]]]]]]]]]]]\nb: [[[[[[[[[[[*a]]]]]]]]]]]\n", 2, "nested deeper"),
        ("a: &a x\nb: [" + "*a, " * 101 + "]\n", 2, "more than 100 aliases"),
        ("a: [" + "x, " * 50_001 + "]\n", 1, "more than 50000 values"),
    ],
)
def test_what_cannot_be_read_at_all(write, text: str, line: int, message: str) -> None:
    problem = stops(write("a.yaml", text))
    assert problem.line == line
    assert message in problem.message


def test_a_hundred_aliases_are_fine(write) -> None:
    assert (
        read_yaml(write("a.yaml", "a: &a x\nb: [" + "*a, " * 100 + "]\n")).data["b"] == ["x"] * 100
    )


def test_aliases_that_multiply_are_refused(write) -> None:
    text = "a: &a [" + "x, " * 20 + "]\n"
    for before, after in zip("abcde", "bcdef", strict=True):
        text += f"{after}: &{after} [" + f"*{before}, " * 10 + "]\n"
    assert "more than 50000 values" in stops(write("a.yaml", text)).message


def test_an_alias_is_a_copy(write) -> None:
    data = read_yaml(write("a.yaml", "a: &a {b: [1]}\nc: *a\n")).data
    data["a"]["b"].append(2)
    assert data["c"] == {"b": [1]}


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "does not exist" in stops(tmp_path / "absent.yaml").message
    assert "is a directory" in stops(tmp_path).message
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in stops(tmp_path / "fifo").message
    assert "cannot be read" in stops(tmp_path / ("x" * 300)).message


def test_a_file_of_a_mebibyte_is_the_largest(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\n" + b"#" * (2**20 - 5))
    assert read_yaml(file).data == {"a": 1}
    file.write_bytes(b"a: 1\n" + b"#" * (2**20 - 4))
    assert "larger than 1 MiB" in stops(file).message


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    assert (stops(file).line, stops(file).message) == (2, "is not UTF-8 text")
    file.write_bytes("\ufeffa: 1\n".encode())
    assert read_yaml(file).data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('{"a":\n}', 2, "not valid JSON"),
        ('{"a": 1, "a": 2}', 0, "duplicate key 'a'"),
        ('{"a": NaN}', 0, "NaN is not a number"),
        ("[]", 1, "must be an object"),
        ("[" * 100_000, 0, "not valid JSON"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}", 0, "nested deeper"),
        ('{"a": ' + "1" * 5000 + "}", 0, "not valid JSON"),
        ('{"a": "\\ud800"}', 0, "control or invisible"),
        ('{"' + "x" * 4097 + '": 1}', 0, "longer than 4096"),
    ],
)
def test_json_that_is_refused(write, text: str, line: int, message: str) -> None:
    problem = stops(write("a.json", text), read_json)
    assert problem.line == line
    assert message in problem.message


TOKENS = (
    r"""a: |b: |- |  |&x |*x |[|]|{|}|'|"|!!str |true|~|? |# |web|resolvers|trusted|limits|: |1"""
)
LINES = ["\n", "---\n", "\t", "%YAML 1.1\n", "<<: ", "targets", "60s", "\\ud800"]
YAML_LIKE = st.lists(st.sampled_from([*re.split(r"\|", TOKENS), *LINES]), max_size=40).map("".join)


def messenger_text(name: str) -> str:
    target = "{name: a, channel: chat, probe: tcp, host: a.example, port: 443}"
    source = '{url: "https://example.org/", read: 2026-11-20}'
    return f"messenger: {name}\ntitle: Tiny\nsources: [{source}]\ntargets: [{target}]\n"


def refused(read: Callable[[Path], object], file: Path) -> list[Problem]:
    try:
        read(file)
    except ConfigError as exc:
        return list(exc.problems) or [Problem("nothing was said", 0, "", "")]
    return []


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(str.encode), YAML_LIKE.map(str.encode)
    )
)
def test_no_bytes_raise_anything_but_a_configuration_error(tmp_path_factory, raw: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "arbitrary.yaml"
    file.write_bytes(raw)
    for problem in [*refused(load, file), *refused(read_json, file)]:
        assert str(problem).startswith(str(file))


KEYS = "vantage profile messengers messenger_dirs controls resolvers trusted name limits web listen"
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(KEYS.split()), st.text(max_size=4)), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS.split()), VALUES, max_size=5))
def test_no_values_raise_anything_but_a_configuration_error(tmp_path_factory, data: object) -> None:
    folder = tmp_path_factory.getbasetemp()
    file = folder / "values.yaml"
    (folder / "tiny").mkdir(exist_ok=True)
    (folder / "tiny" / "tiny.yaml").write_text(messenger_text("tiny"), encoding="utf-8")
    small = {"messengers": ["tiny"], "messenger_dirs": ["tiny"]}  # the catalogue is slow to read
    file.write_text(yaml.safe_dump({**small, **data}), encoding="utf-8")
    for problem in refused(load, file):
        assert str(problem).startswith(str(folder))
