"""Reads a YAML or JSON file into plain values, and remembers the line of every key.

A subset of YAML, on purpose: no tags, no merge keys, one document, bounded aliases, depth and
size. Only ``true`` and ``false`` are booleans (``NO`` is Norway), only decimal digits are numbers
(``1:30`` and ``010`` are text), and a key without a value is a mistake.
"""

from __future__ import annotations

import copy
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from config.model import ConfigError, Problem

KeyPath = tuple[str | int, ...]

MAX_BYTES = 2**20
MAX_ALIASES = 100
MAX_NODES = 50_000
MAX_DEPTH = 20
MAX_TEXT = 4096  # a certificate has some two thousand

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
_BYTE_ORDER = "\ufeff"
_NOTHING = ("", "~", "null")

# libyaml where the installation has it: ten times faster, and every start reads the catalogue.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its values, the line of each key, and the paths already known to be wrong."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    bad: frozenset[KeyPath] = frozenset()

    def line(self, path: KeyPath) -> int:
        """The line of ``path``, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1 if self.lines else 0)

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(self.file, self.line(path), key_text(path), message)


def key_text(path: KeyPath) -> str:
    """``("resolvers", "trusted", 0, "name")`` as ``resolvers.trusted[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(file: Path) -> Document:
    """Raises ConfigError when the file cannot be read as a mapping; lesser faults are in it."""
    return parse_yaml(read_text(file), file)


def parse_yaml(text: str, file: Path) -> Document:
    """As ``read_yaml``, of a text already read; ``file`` is what messages call it."""
    text = text.removeprefix(_BYTE_ORDER)
    builder = _Builder(str(file))
    try:
        data = builder.document(text, _FAST)
    except (yaml.YAMLError, ValueError):
        # PyYAML's own parser tells more exactly where a file went wrong.
        builder = _Builder(str(file))
        data = _exactly(builder, text, file)
    if data is not None and not isinstance(data, dict):
        raise _fatal(file, 1, "must be a mapping of keys to values")
    return Document(
        str(file), data or {}, builder.lines, tuple(builder.problems), frozenset(builder.bad)
    )


def _exactly(builder: _Builder, text: str, file: Path) -> Any:
    try:
        return builder.document(text, yaml.SafeLoader)
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise _fatal(file, line, "contains a character that YAML does not allow") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 0
        raise _fatal(file, line, f"is not valid YAML: {exc.problem or exc.context}") from exc
    except ValueError as exc:  # PyYAML itself: chr() of an escape beyond Unicode
        raise _fatal(file, 0, f"is not valid YAML: {exc}") from exc


def written_yaml(data: dict[str, Any]) -> str:
    """The values of a document as a file, without the comments that it had."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))


def read_json(file: Path) -> Document:
    """Raises ConfigError when the file cannot be read as an object. Knows no lines."""
    return parse_json(read_text(file), file)


def parse_json(text: str, file: Path) -> Document:
    """As ``read_json``, of a text already read; ``file`` is what messages call it."""
    try:
        data = json.loads(
            text.removeprefix(_BYTE_ORDER),
            object_pairs_hook=without_duplicates,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as exc:
        raise _fatal(file, exc.lineno, f"is not valid JSON: {exc.msg}") from exc
    except (ValueError, RecursionError) as exc:
        raise _fatal(file, 0, f"is not valid JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise _fatal(file, 1, "must be an object")
    if flaw := next(_flaws(data), None):
        raise _fatal(file, 0, flaw)
    return Document(str(file), data)


def read_text(file: Path) -> str:
    raw = read_bytes(file, MAX_BYTES)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _fatal(file, raw.count(b"\n", 0, exc.start) + 1, "is not UTF-8 text") from exc


def read_bytes(file: Path, most: int) -> bytes:
    """No more than ``most`` bytes are ever read. Raises ConfigError."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise _fatal(file, 0, "is a directory, not a file")
        if not stat.S_ISREG(mode):
            raise _fatal(file, 0, "is not a regular file")
        with file.open("rb") as stream:
            raw = stream.read(most + 1)
    except FileNotFoundError as exc:
        raise _fatal(file, 0, "does not exist") from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise _fatal(file, 0, f"cannot be read: {reason}") from exc
    if len(raw) > most:
        raise _fatal(file, 0, f"is larger than {most // 2**20} MiB")
    return raw


def _fatal(file: Path, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(str(file), line, "", message)])


def _text_flaw(text: str) -> str | None:
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    if not text.isprintable():
        return "contains a control or invisible character"
    return None


def _flaws(data: dict[str, Any]) -> Iterator[str]:
    """What YAML would have been refused for. A loop, since the parser may have gone deeper."""
    pending: list[tuple[Any, int]] = [(data, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            yield f"is nested deeper than {MAX_DEPTH} levels"
        elif isinstance(value, str) and (flaw := _text_flaw(value)):
            yield f"has a text that {flaw}"
        elif isinstance(value, dict | list):
            inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            pending += [(part, depth + 1) for part in inner]


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, parts), default=0)


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``. Raises ValueError where a key stands twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice[:60]!r}")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


class _Builder:
    """Turns YAML events into values, counting what they cost."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.bad: set[KeyPath] = set()
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliases = 0
        self._nodes = 0

    def document(self, text: str, parser: Any) -> Any:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=parser))
        value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event, "holds more than one document")
                value = self._node(next(self._events), ())
        return value

    def _node(self, event: Any, path: KeyPath) -> Any:
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, len(path))
        self._spend(event, 1)
        before = self._nodes - 1
        if event.tag is not None:
            self._report(path, line, f"has the tag {event.tag[:60]!r}; tags are not allowed")
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path, line)
        elif len(path) >= MAX_DEPTH:
            self._stop(event, f"is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _alias(self, event: Any, depth: int) -> Any:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            self._stop(event, f"uses more than {MAX_ALIASES} aliases")
        if event.anchor not in self._anchors:
            self._stop(event, f"refers to *{event.anchor[:60]}, which is not defined before it")
        value, nodes = self._anchors[event.anchor]
        self._spend(event, nodes)
        if depth + _depth(value) > MAX_DEPTH:
            self._stop(event, f"is nested deeper than {MAX_DEPTH} levels")
        return copy.deepcopy(value)

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._stop(event, "has a key that is not text")
            line = event.start_mark.line + 1
            self._spend(event, 1)
            key = event.value
            inner = (*path, key)
            if flaw := _text_flaw(key):
                self._stop(event, f"has a key that {flaw}")
            if key in values or inner in self.bad:
                message = f"is written twice, first in line {self.lines[inner]}"
                self.problems.append(Problem(self.file, line, key_text(inner), message))
                self._node(next(self._events), (*path, key, "(again)"))
                continue
            self.lines[inner] = line
            value = self._node(next(self._events), inner)
            if inner not in self.bad:
                values[key] = value
        return values

    def _scalar(self, event: Any, path: KeyPath, line: int) -> Any:
        text: str = event.value
        if flaw := _text_flaw(text):
            self._report(path, line, flaw)
            return ""
        if event.style:
            return text
        if text in _NOTHING:
            if path:
                self._report(path, line, "has no value; give it one or leave the key out")
            return None
        if text in ("true", "false"):
            return text == "true"
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) and len(text) < 40 else text

    def _spend(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._stop(event, f"holds more than {MAX_NODES} values")

    def _report(self, path: KeyPath, line: int, message: str) -> None:
        self.bad.add(path)
        self.problems.append(Problem(self.file, line, key_text(path), message))

    def _stop(self, event: Any, message: str) -> Any:
        raise ConfigError([Problem(self.file, event.start_mark.line + 1, "", message)])
