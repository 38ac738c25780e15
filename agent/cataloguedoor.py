"""``callpath catalogue``: which one is in use, and how a signed one is made and tried."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from config import catalogue, signed
from config.catalogue import Catalogue, Malformed
from config.document import read_text
from config.loader import check
from config.model import Config, ConfigError, Update
from config.signed import Refused

FAILURES = (ConfigError, Refused, Malformed, OSError, ValueError)
_FOLDERS = ("messengers", "controls", "calibration")


@dataclass(frozen=True, slots=True)
class Told:
    document: dict[str, Any]
    lines: tuple[str, ...]


def reasons(error: BaseException) -> Sequence[str]:
    if isinstance(error, ConfigError):
        return [str(problem) for problem in error.problems]
    return [f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)]


def show(config: Config) -> Told:
    """Raises ConfigError where the update cannot be read any more."""
    used, update = catalogue.in_use(config), config.update
    days = max((date.today() - used.version.day).days, 0)
    files = {folder: sorted(used.inside(folder)) for folder in _FOLDERS}
    origin = f"{update.file}, signed by {update.key}" if update else "shipped with this version"
    lines = [f"Catalogue {used.version}, {days} days old: {origin}."]
    if config.superseded:
        lines.append(f"The signed one, {config.superseded}, is older and not in use.")
    lines += [f"{folder}: {', '.join(names)}" for folder, names in files.items() if names]
    document = {
        "version": 1,
        "catalogue": str(used.version),
        "days": days,
        "update": {"file": update.file, "key": update.key, "sha256": update.sha256}
        if update
        else None,
        "superseded": config.superseded or None,
        "files": files,
    }
    return Told(document, tuple(lines))


def keygen(file: Path) -> Sequence[str]:
    """Raises OSError; an existing file is never written over."""
    private = signed.new_key()
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
        stream.write(private.hex() + "\n")
    return [
        f"The private key is in {file}; keep it where no vantage is. For callpath.yaml:",
        f"catalogue: {{file: ..., keys: [{signed.public_key(private)}]}}",
    ]


def pack(folder: Path | None, key: Path, version: str, output: Path) -> Sequence[str]:
    """Raises one of FAILURES."""
    private = _private(key)
    try:
        made = catalogue.parse_version(version)
    except ValueError as error:
        raise ValueError(f"--version {error}") from None
    if folder is None:
        shipped = catalogue.shipped()
        files = {path: shipped.text(path) for path in shipped.paths}
    else:
        files = {
            f"{name}/{file.name}": read_text(file)
            for name in _FOLDERS
            if (folder / name).is_dir()
            for file in sorted((folder / name).iterdir())
            if not file.name.startswith(".")
        }
    content = catalogue.content(made, files)
    check(Catalogue(made, tuple(sorted(files)), Update(str(output), "", ""), files))
    data = signed.sealed(content, private)
    aside = output.with_name(output.name + ".part")
    aside.write_bytes(data)
    aside.replace(output)
    return [
        f"{output}: catalogue {made}, {len(files)} files, {len(data)} bytes, signed by"
        f" {signed.public_key(private)}"
    ]


def verify(file: Path, keys: Sequence[str]) -> Sequence[str]:
    """Raises one of FAILURES."""
    found = catalogue.read_update(file, keys, date.today())
    check(found)
    assert found.update is not None
    return [
        f"{file}: catalogue {found.version}, {len(found.paths)} files, signed by {found.update.key}"
    ]


def _private(key: Path) -> bytes:
    try:
        private = bytes.fromhex(key.read_text("ascii").strip())
    except (ValueError, UnicodeDecodeError):
        private = b""
    if len(private) != signed.KEY_SIZE:
        raise ValueError(f"{key}: is no key of callpath catalogue keygen")
    return private
