"""Files that callpath.yaml names and that are no configuration: what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.document import KeyPath
from config.schema import Settings
from probes.wire.twin import parse_key


def flaws(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """The key that names a file, and what is wrong with it."""
    if settings.tls_ca_file and (flaw := _authorities(settings.tls_ca_file)):
        yield ("tls_ca_file",), flaw
    if settings.twin.key_file and (flaw := _twin_key(settings.twin.key_file)):
        yield ("twin", "key_file"), flaw
    if settings.localise.asn_file and (flaw := _readable(settings.localise.asn_file)):
        yield ("localise", "asn_file"), flaw


def _readable(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            opened.read(1)
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    return ""


def _authorities(file: str) -> str:
    try:
        found = "-----BEGIN CERTIFICATE-----" in Path(file).read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        return f"cannot be read: {exc.strerror if isinstance(exc, OSError) else 'not text'}"
    return "" if found else "holds no PEM certificate"


def _twin_key(file: str) -> str:
    try:
        parse_key(Path(file).read_text("ascii"))
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    except ValueError as exc:
        return "not text" if isinstance(exc, UnicodeDecodeError) else str(exc)
    return ""
