"""The catalogue in use: the shipped files, or a signed update that takes the place of all of them.

An update is read into memory and nothing of it is ever written: the paths in it are names in one
table, of a fixed form, and no path of a file system (docs/catalogue.md).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from config import CATALOGUE_VERSION
from config.document import (
    MAX_BYTES,
    Document,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_yaml,
    without_duplicates,
)
from config.model import Config, ConfigError, MessengerConfig, Update

GENERAL = "controls/general.yaml"
MAX_FILES = 256
_HERE = Path(__file__).parent
_PATH = re.compile(
    r"(?:(?:messengers|controls)/[a-z][a-z0-9_-]{0,30}\.yaml"
    r"|calibration/[a-z0-9][a-z0-9_-]{0,62}\.json)"
)
_VERSION = re.compile(r"([0-9]{4})\.([0-9]{2})\.([0-9]{2})(?:\.([1-9][0-9]?))?")
_BETWEEN = "!"
"""Stands between an update's file and a path in it, where messages name the two."""


class Malformed(Exception):
    """What was signed is no catalogue; the text says why."""


@functools.total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """``YYYY.MM.DD``, or ``YYYY.MM.DD.N`` for another one of the same day."""

    day: date
    number: int = 0

    def __str__(self) -> str:
        return f"{self.day:%Y.%m.%d}" + (f".{self.number}" if self.number else "")

    def __lt__(self, other: Version) -> bool:
        return (self.day, self.number) < (other.day, other.number)


def parse_version(text: str) -> Version:
    """Raises ValueError, also for a day that no calendar has."""
    match = _VERSION.fullmatch(text) if text.isascii() else None
    if match is None:
        raise ValueError("must be YYYY.MM.DD or YYYY.MM.DD.N")
    year, month, day = map(int, match.groups()[:3])
    return Version(date(year, month, day), int(match[4] or 0))


SHIPPED_VERSION = parse_version(CATALOGUE_VERSION)


def is_path(path: str) -> bool:
    """Is this how a file inside a catalogue is called?"""
    return _PATH.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``paths`` in order; ``update`` is None for the shipped files, which are read as needed."""

    version: Version
    paths: tuple[str, ...]
    update: Update | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    def inside(self, folder: str) -> dict[str, str]:
        """The files of one folder: their paths by their names without a suffix."""
        head = f"{folder}/"
        return {Path(p).stem: p for p in self.paths if p.startswith(head)}

    def document(self, path: str) -> Document:
        """Raises ConfigError when the file cannot be read as a mapping."""
        if self.update is None:
            read = read_json if path.endswith(".json") else read_yaml
            return read(_HERE / path)
        parse = parse_json if path.endswith(".json") else parse_yaml
        return parse(self.texts[path], Path(f"{self.update.file}{_BETWEEN}{path}"))

    def text(self, path: str) -> str:
        """The file as it is, byte for byte."""
        if self.update is None:
            return read_bytes(_HERE / path, MAX_BYTES).decode()
        return self.texts[path]


def shipped() -> Catalogue:
    found = (
        file.relative_to(_HERE).as_posix()
        for folder in ("messengers", "controls", "calibration")
        if (_HERE / folder).is_dir()  # an installation has no empty folder
        for file in (_HERE / folder).iterdir()
    )
    return Catalogue(SHIPPED_VERSION, tuple(sorted(filter(is_path, found))))


def content(version: Version, files: Mapping[str, str]) -> bytes:
    """What is signed; the same for the same files. Raises Malformed for what ``parsed`` would."""
    document = {"version": 1, "catalogue": str(version), "files": dict(sorted(files.items()))}
    made = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
    parsed(made)
    return made


def parsed(data: bytes) -> tuple[Version, dict[str, str]]:
    """Version and files of what was signed. Raises Malformed."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(document, dict) or document.keys() != {"version", "catalogue", "files"}:
        raise Malformed("must be an object of version, catalogue and files")
    if document["version"] != 1 or isinstance(document["version"], bool):
        raise Malformed("is of a form that this version of callpath does not know")
    files = document["files"]
    if not isinstance(files, dict) or not isinstance(document["catalogue"], str):
        raise Malformed("must have a text for catalogue and an object for files")
    try:
        version = parse_version(document["catalogue"])
    except ValueError as error:
        raise Malformed(f"has a catalogue that {error}") from error
    if not files or len(files) > MAX_FILES:
        raise Malformed(f"must hold 1 to {MAX_FILES} files")
    for path, text in files.items():
        if flaw := _flaw(path, text):
            raise Malformed(f"holds {path[:80]!r}, which {flaw}")
    if GENERAL not in files:
        raise Malformed(f"is without {GENERAL}")
    return version, files


def _flaw(path: str, text: Any) -> str:
    if not is_path(path):
        return "is no path of a catalogue's file"
    if not isinstance(text, str):
        return "is not text"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    return "is larger than 1 MiB" if size > MAX_BYTES else ""


def read_update(file: Path, keys: Sequence[str], today: date) -> Catalogue:
    """The update in a signed file, whatever its age. Raises ConfigError when the file cannot be
    read, Refused when it is signed by nobody who may, Malformed when it is no catalogue or dated
    in the future."""
    # Imported late: who has no update does without the library's memory.
    from config import signed

    data = read_bytes(file, signed.MAX_BYTES)
    inner, key = signed.opened(data, keys)
    version, files = parsed(inner)
    # A clock before the shipped catalogue's day is wrong, and knows no future.
    if today >= SHIPPED_VERSION.day and version.day > today + timedelta(days=1):
        raise Malformed(f"is dated {version}, in the future")
    update = Update(str(file), hashlib.sha256(data).hexdigest(), key)
    return Catalogue(version, tuple(sorted(files)), update, files)


def in_use(config: Config) -> Catalogue:
    """The catalogue that this configuration was made of. Raises ConfigError."""
    from config.signed import Refused

    if config.update is None:
        return shipped()
    try:
        return read_update(Path(config.update.file), config.settings.catalogue.keys, date.today())
    except (Refused, Malformed) as error:
        raise ConfigError([Document(config.update.file).problem((), str(error))]) from error


def written(config: Config, messenger: MessengerConfig) -> Document:
    """The file of a messenger as it was written. Raises ConfigError."""
    update = config.update
    head = f"{update.file}{_BETWEEN}" if update else ""
    if not head or not messenger.file.startswith(head):
        return read_yaml(Path(messenger.file))
    return in_use(config).document(messenger.file.removeprefix(head))
