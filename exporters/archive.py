"""A zip file of text in which every file's SHA-256 is written down; the same for the same content.

Writing streams, and reading does too, without unpacking anything to the disk. What is read may be
anybody's: names, sizes, hashes and JSON are held against what ``Writer`` makes, before any of it is
used, and everything else is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, cast

MANIFEST = "manifest.json"
VERSION = 1
MOST_FILES = 64
MOST_BYTES = 16 << 30
"""Of all files together, unpacked: a month of four messengers that fail every minute."""
LONGEST = 8 << 20
"""Bytes of one line, and of what is read whole."""
MOST_PACKED = 2 << 30
"""Bytes of the zip file."""
_NAME = re.compile(
    r"(?:[a-z0-9][a-z0-9_-]{0,40}/){0,2}[A-Za-z0-9][A-Za-z0-9_-]{0,40}(?:\.[a-z]{2,5})"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOO_LARGE = f"larger than {MOST_BYTES >> 30} GiB"
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_IN_MEMORY = 4 << 20
_UNIX = 3
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,  # a compression that nobody uses
    RuntimeError,  # encrypted
    ValueError,
    OverflowError,
    OSError,  # a place before the beginning
)


class Refused(Exception):
    """No archive that is taken, or none that can be written; says why."""


class Writer:
    """``with Writer(path, scrub) as made``: at ``path``, mode 0600, once all is in it; nothing is
    left where it fails. ``scrub`` goes over every text. Raises Refused for a file that exists, and
    for more than a reader takes."""

    def __init__(self, path: Path, scrub: Callable[[str], str]) -> None:
        if path.exists():
            raise Refused(f"{path} exists already")
        self._path, self._aside = path, path.with_name(path.name + ".part")
        self._scrub = scrub
        self._spooled: list[IO[bytes]] = []
        self._files: dict[str, dict[str, Any]] = {}
        self._bytes = 0
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR
        self._stream = os.fdopen(os.open(self._aside, flags, 0o600), "w+b")
        self._zip = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                listed = {"version": VERSION, "files": dict(sorted(self._files.items()))}
                self.text(MANIFEST, as_text(listed))
                self._zip.close()
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._aside.replace(self._path)
        finally:
            with contextlib.suppress(OSError, ValueError):  # done, or in vain
                self._zip.close()
            self._stream.close()
            for spooled in self._spooled:
                spooled.close()
            self._aside.unlink(missing_ok=True)

    def beside(self) -> Lines:
        """JSON lines that are written while others are; ``copy`` takes them."""
        made = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._path.parent))  # noqa: SIM115 # closed by __exit__
        spooled = cast("IO[bytes]", made)
        self._spooled.append(spooled)
        return Lines(spooled, self._scrub)

    @contextlib.contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """A file of JSON lines; one at a time."""
        with self._entry(name) as entry:
            made = Lines(entry, self._scrub)
            yield made
        self._note(name, made)

    def _entry(self, name: str) -> IO[bytes]:
        return self._zip.open(_info(name), "w", force_zip64=True)  # how long it gets nobody knows

    def copy(self, name: str, lines: Lines) -> None:
        """A file that was written beside."""
        with self._entry(name) as entry:
            lines.stream.seek(0)
            shutil.copyfileobj(lines.stream, entry)
        lines.stream.close()
        self._note(name, lines)

    def text(self, name: str, text: str) -> str:
        """Its SHA-256."""
        with self.lines(name) as made:
            made.write(text)
        return made.digest

    def _note(self, name: str, lines: Lines) -> None:
        self._bytes += lines.size
        if self._bytes > MOST_BYTES:
            raise Refused(f"it would be {_TOO_LARGE}: choose a shorter time")
        self._files[name] = {"bytes": lines.size, "sha256": lines.digest}


class Lines:
    """JSON lines on their way to ``stream``."""

    def __init__(self, stream: IO[bytes], scrub: Callable[[str], str]) -> None:
        self.stream = stream
        self._scrub = scrub
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Mapping[str, Any]) -> None:
        self.write(json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")

    def write(self, text: str) -> None:
        data = self._scrub(text).encode()
        self.size += len(data)
        if self.size > MOST_BYTES or len(data) > LONGEST:
            raise Refused("it would be too large: choose a shorter time")
        self._hash.update(data)
        self.stream.write(data)


def as_text(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _NO_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = _UNIX
    info.external_attr = 0o600 << 16
    return info


class Archive:
    """``with Archive(path) as found``: every byte was held against its hash. Raises Refused, then
    and at whatever is read later."""

    def __init__(self, path: Path) -> None:
        try:
            if path.stat().st_size > MOST_PACKED:
                raise Refused(f"is larger than {MOST_PACKED >> 30} GiB")
            with _damage():
                self._zip = zipfile.ZipFile(path)
            self._open: list[IO[bytes]] = []
        except OSError as error:
            raise Refused(f"cannot be read: {error.strerror}") from error
        try:
            self.names = self._checked()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._open:  # whoever read of it may have stopped in the middle
            stream.close()
        self._zip.close()

    def _checked(self) -> frozenset[str]:
        infos = self._zip.infolist()
        names = frozenset(info.filename for info in infos)
        if len(infos) > MOST_FILES or len(names) != len(infos):
            raise Refused(f"has more than {MOST_FILES} files, or one of them twice")
        for info in infos:
            if not _NAME.fullmatch(info.filename):
                raise Refused(f"has a file of a strange name: {info.filename[:80]!r}")
        # What a file says of its own size is kept to while it is read.
        if sum(info.file_size for info in infos) > MOST_BYTES:
            raise Refused(f"is {_TOO_LARGE} when unpacked")
        manifest = self.json(MANIFEST)
        files = manifest.get("files")
        if manifest.get("version") != VERSION or not isinstance(files, dict):
            raise Refused("is of a form that this version of callpath does not know")
        if set(files) != names - {MANIFEST}:
            raise Refused("has other files than its manifest")
        for name, told in files.items():
            told = told.get("sha256") if isinstance(told, dict) else None
            if not isinstance(told, str) or not _SHA256.fullmatch(told):
                raise Refused("has a manifest that cannot be read")
            if self._digest(name) != told:
                raise Refused(f"was changed: {name} is not what its manifest says")
        return names

    def _digest(self, name: str) -> str:
        found = hashlib.sha256()
        with _damage(), self._zip.open(name) as stream:
            while data := stream.read(1 << 20):
                found.update(data)
        return found.hexdigest()

    def text(self, name: str) -> str:
        """Raises Refused, also where there is no such file."""
        if name not in self._zip.namelist():
            raise Refused(f"is without {name}")
        with _damage(), self._zip.open(name) as stream:
            data = stream.read(LONGEST + 1)
            if len(data) > LONGEST:
                raise Refused(f"has a {name} that is too large")
            return data.decode()

    def json(self, name: str) -> dict[str, Any]:
        return parsed(self.text(name))

    def lines(self, name: str, longest: int = LONGEST) -> Iterator[dict[str, Any]]:
        """Its JSON lines, one at a time, of at most ``longest`` bytes."""
        if name not in self.names:
            raise Refused(f"is without {name}")
        with _damage():
            stream = self._zip.open(name)
        self._open.append(stream)
        while True:
            with _damage():
                line = stream.readline(longest + 1)
                text = line.decode() if len(line) <= longest else ""
            if not line:
                return
            if len(line) > longest:
                raise Refused(f"has a line in {name} that is too long")
            yield parsed(text)


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise Refused(f"is no archive of callpath, or damaged: {str(error)[:200]}") from error


def parsed(text: str) -> dict[str, Any]:
    """A JSON object without what JSON has not; raises Refused."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"has JSON that cannot be read: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise Refused("has JSON that is no object")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
