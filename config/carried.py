"""A configuration as an archive of evidence carries it: what the rules read of it, and no more.

Files that are shipped, or signed, are carried as they are; the operator's own without comments,
which are nobody's business. What was configured of this host is left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import catalogue
from config.document import parse_yaml, read_yaml, written_yaml
from config.effective import effective
from config.loader import load
from config.model import Config, ConfigError, Problem

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "vantage": ("name", "country", "asn", "network"),
    "resolvers": ("trusted",),
    "schedule": ("interval", "handshake_interval", "media_interval", "transfer_interval"),
    "limits": ("min_interval", "fast_prefixes"),
    "media": ("profile", "targets"),
}
"""Of callpath.yaml, beside ``profile`` and ``risks``: what targets are made with."""
PLAIN = ("profile", "risks")
OWN = "controls/own.yaml"


@dataclass(frozen=True, slots=True)
class Carried:
    """``files``: texts by their path in the catalogue; ``origins``: shipped, signed or own;
    ``settings`` as in callpath.yaml; ``controls``: names of those that were in use."""

    files: Mapping[str, str]
    origins: Mapping[str, str]
    settings: Mapping[str, Any]
    controls: tuple[str, ...]


def carried(config: Config, names: tuple[str, ...]) -> Carried:
    """With these messengers. Raises ConfigError where a file is not there any more."""
    used = catalogue.in_use(config)
    kind = "signed" if config.update else "shipped"
    files, origins = {}, {}
    for messenger in config.messengers:
        path = f"messengers/{messenger.name}.yaml"
        if messenger.name not in names:
            continue
        document = catalogue.written(config, messenger)
        if path in used.paths and document.file == used.document(path).file:
            files[path], origins[path] = used.text(path), kind
        else:
            files[path], origins[path] = written_yaml(document.data), "own"
    if own := config.settings.controls:
        files[OWN], origins[OWN] = written_yaml(read_yaml(Path(own)).data), "own"
    else:
        packs = used.inside("controls")
        for name in ("general", config.settings.vantage.country.lower()):
            if name in packs:
                files[packs[name]], origins[packs[name]] = used.text(packs[name]), kind
    whole = effective(config)["callpath"]
    settings = {key: whole[key] for key in PLAIN}
    settings |= {key: {k: whole[key][k] for k in inner} for key, inner in SECTIONS.items()}
    return Carried(files, origins, settings, tuple(c.target.name for c in config.controls))


def rebuilt(found: Carried) -> Config:
    """The configuration again. It may be anybody's: raises ConfigError for all that is not as
    ``carried`` makes it."""
    for path in found.files:
        if not catalogue.is_path(path):
            raise _wrong(path, "is no path of a catalogue's file")
    for key, value in found.settings.items():
        inner = SECTIONS.get(key)
        known = key in PLAIN or (isinstance(value, dict) and inner and set(value) <= set(inner))
        if not known:
            raise _wrong("callpath.yaml", f"{key[:80]!r} has no place here")
    with tempfile.TemporaryDirectory(prefix="callpath-") as made:
        folder = Path(made)
        (folder / "messengers").mkdir()
        names = []
        for path, text in found.files.items():
            if path.startswith("messengers/"):
                (folder / path).write_text(text)
                names.append(Path(path).stem)
        (folder / "controls.yaml").write_text(written_yaml(_controls(found)))
        main = {
            **found.settings,
            "messengers": names,
            "messenger_dirs": ["messengers"],
            "controls": "controls.yaml",
        }
        file = folder / "callpath.yaml"
        file.write_text(written_yaml(main))
        return load(file)


def _controls(found: Carried) -> dict[str, Any]:
    """One file of several, with the controls that were in use."""
    sources, targets = [], []
    for path, text in found.files.items():
        if path.startswith("controls/"):
            data = parse_yaml(text, Path(path)).data
            if not isinstance(data.get("sources"), list) or not isinstance(
                data.get("targets"), list
            ):
                raise _wrong(path, "is no file of controls")
            sources += data["sources"]
            targets += [t for t in data["targets"] if _name(t) in found.controls]
    return {"messenger": "control", "sources": sources, "targets": targets}


def _name(target: Any) -> Any:
    return target.get("name") if isinstance(target, dict) else None


def _wrong(file: str, message: str) -> ConfigError:
    return ConfigError([Problem(file, 0, "", message)])
