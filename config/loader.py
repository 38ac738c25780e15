"""Loads callpath.yaml and every file it leads to, and finds all their mistakes at once."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config import catalogue as catalogues
from config import named, streams
from config.calibration import CalibrationFile
from config.catalogue import SHIPPED_VERSION, Catalogue, Malformed
from config.conflicts import conflicts
from config.document import Document, KeyPath, read_json, read_yaml
from config.mistakes import message_of, written_path
from config.model import (
    Calibrated,
    Config,
    ConfigError,
    MessengerConfig,
    Problem,
    PublishedList,
    Source,
    TargetConfig,
)
from config.options import build_probe
from config.schema import (
    ControlsHead,
    MessengerHead,
    Settings,
    controls_model,
    messenger_model,
    resolver_problem,
)
from config.values import (
    is_address,
    is_loopback,
    split_address_port,
    split_listen,
    url_host_port,
)
from config.webfile import WebFile
from probes.model import CONTROL, Role, Target
from probes.registry import PROBES, needs_research

_Model = TypeVar("_Model", bound=BaseModel)
_File = TypeVar("_File", Path, str)

SAFE_INTERVAL = 60.0


def load(path: Path | None, probes: Mapping[str, Any] = PROBES) -> Config:
    """The configuration at ``path``, or the defaults; raises ConfigError with every problem."""
    return _Loader(probes).load(path)


def check(catalogue: Catalogue, probes: Mapping[str, Any] = PROBES) -> None:
    """Every file of it, as for a configuration that selects all; raises ConfigError."""
    _Loader(probes).check(catalogue)


class _Loader:
    def __init__(self, probes: Mapping[str, Any]) -> None:
        self._probes = probes
        self._problems: list[Problem] = []
        self._available: tuple[str, ...] = ()
        self._research = False
        self._fast: tuple[IPv4Network | IPv6Network, ...] | None = None
        # A clock before the catalogue's own day is wrong, and the agent has to run to say so.
        self._context: dict[str, Any] = {
            "latest": max(date.today(), SHIPPED_VERSION.day) + timedelta(days=1)
        }
        self._catalogue = catalogues.shipped()
        self._superseded = ""

    def load(self, path: Path | None) -> Config:
        main = read_yaml(path) if path is not None else Document("")
        folder = path.absolute().parent if path is not None else Path.cwd()
        settings = self._settings(main, folder)
        for key, flaw in named.flaws(settings):
            self._problems.append(main.problem(key, flaw))
        self._update(main, settings)
        messengers = self._messengers(main, settings)
        controls = self._controls(main, settings)
        calibration = self._calibration(main, settings)
        web = self._web(main, settings)
        if self._problems:
            raise ConfigError(self._problems)
        return Config(
            settings,
            messengers,
            controls,
            calibration,
            str(self._catalogue.version),
            self._available,
            self._catalogue.update,
            self._superseded,
            web,
        )

    def check(self, catalogue: Catalogue) -> None:
        models: dict[str, type[BaseModel]] = {
            "messengers": messenger_model(self._probes),
            "controls": controls_model(self._probes),
            "calibration": CalibrationFile,
        }
        self._context["trusted"] = Settings().resolvers.trusted
        for path in catalogue.paths:
            document = self._read(catalogue.document, path)
            if document is None:
                continue
            folder, _, name = path.partition("/")
            self._validate(models[folder], document)
            called = document.data.get("messenger")
            if folder == "messengers" and called != Path(name).stem:
                message = f"must be {Path(name).stem}, as its file is called"
                self._problems.append(document.problem(("messenger",), message))
        if self._problems:
            raise ConfigError(self._problems)

    def _update(self, main: Document, settings: Settings) -> None:
        """The signed catalogue instead of the shipped one, unless that is newer."""
        file, keys = settings.catalogue.file, settings.catalogue.keys
        if not file or not keys:
            return
        # Imported late: who has no update does without the library's memory.
        from config.signed import Refused

        try:
            found = catalogues.read_update(Path(file), keys, date.today())
        except ConfigError as exc:
            self._problems += exc.problems
        except (Refused, Malformed) as exc:
            self._problems.append(main.problem(("catalogue", "file"), f"{file} {exc}"))
        else:
            if found.version < SHIPPED_VERSION:
                self._superseded = str(found.version)
                return
            self._catalogue = found
            self._context["latest"] = max(
                self._context["latest"], found.version.day + timedelta(days=1)
            )

    def _settings(self, main: Document, folder: Path) -> Settings:
        """As much of the file as is right, so that the other files are checked all the same."""
        self._context["folder"] = folder
        bad = set(main.bad)
        settings = self._validate(Settings, main)
        if settings is None:
            data = copy.deepcopy(main.data)
            while settings is None:
                try:
                    settings = Settings.model_validate_json(json.dumps(data), context=self._context)
                except ValidationError as exc:
                    paths = [written_path(e["loc"], e["type"]) for e in exc.errors()]
                    bad.update(paths)
                    kept = _without(data, paths)
                    data = kept if kept != data else _without(data, [p[:1] for p in paths])
        for conflict in conflicts(settings):
            if not any(_touches(key, one) for key in conflict.keys for one in bad):
                key = next((key for key in conflict.keys if key in main.lines), conflict.keys[0])
                line = main.line(key)
                named = main.problem(conflict.keys[0], conflict.message)
                self._problems.append(dataclasses.replace(named, line=line))
        self._research = settings.profile == "research"
        if not any(_touches(("resolvers", "trusted"), one) for one in bad):
            self._context["trusted"] = settings.resolvers.trusted
        if not any(_touches(("limits", "min_interval"), one) for one in bad):
            self._context["min_interval"] = settings.limits.min_interval
        if settings.limits.min_interval < SAFE_INTERVAL and settings.limits.fast_prefixes:
            self._fast = tuple(map(ip_network, settings.limits.fast_prefixes))
        return settings

    def _check_fast(self, document: Document) -> None:
        """Below 60 s between checks, every literal address must lie in ``limits.fast_prefixes``."""
        if self._fast is None:
            return
        trusted = {r.name: r.address for r in self._context.get("trusted", ())}
        targets = document.data.get("targets")
        for index, target in enumerate(targets if isinstance(targets, list) else []):
            for key, address in _literals(target, trusted):
                if not any(ip_address(address) in prefix for prefix in self._fast):
                    message = f"{address} is outside limits.fast_prefixes"
                    where: KeyPath = ("targets", index, key)
                    self._problems.append(document.problem(where, message))

    def _messengers(self, main: Document, settings: Settings) -> tuple[MessengerConfig, ...]:
        own = self._own_messengers(main, settings)
        shipped = self._catalogue.inside("messengers")
        self._available = tuple(sorted({*own, *shipped} - set(settings.messengers)))
        model = messenger_model(self._probes)
        messengers = []
        for name in settings.messengers:
            if name in own:
                document = own[name]
            elif name in shipped:
                read = self._read(self._catalogue.document, shipped[name])
                if read is None:
                    continue
                document = read
            else:
                known = ", ".join(sorted({*own, *shipped}))
                message = f"no messenger is called {name}; known are: {known}"
                self._problems.append(main.problem(_item(main, "messengers", name), message))
                continue
            file: Any = self._validate(model, document)
            self._check_names(document)
            self._check_fast(document)
            if file is not None:
                made = self._messenger(file, settings)
                messengers.append(dataclasses.replace(made, file=document.file))
        return tuple(messengers)

    def _own_messengers(self, main: Document, settings: Settings) -> dict[str, Document]:
        found: dict[str, Document] = {}
        for folder in settings.messenger_dirs:
            for file in self._yaml_files(main, folder):
                document = self._read(read_yaml, file)
                if document is None:
                    continue
                name = document.data.get("messenger")
                if not isinstance(name, str) or not name:
                    message = "is required, a short name in lower case"
                    self._problems.append(document.problem(("messenger",), message))
                elif name == CONTROL:
                    message = "a controls file belongs under the key controls of callpath.yaml"
                    self._problems.append(document.problem(("messenger",), message))
                elif name in found:
                    message = f"{name} is also described in {found[name].file}"
                    self._problems.append(document.problem(("messenger",), message))
                else:
                    found[name] = document
        return found

    def _yaml_files(self, main: Document, folder: str) -> list[Path]:
        try:
            inside = sorted(Path(folder).iterdir())
        except OSError as exc:
            path = _item(main, "messenger_dirs", folder)
            self._problems.append(main.problem(path, f"{folder} cannot be read: {exc.strerror}"))
            return []
        return [
            file
            for file in inside
            if file.suffix in (".yaml", ".yml") and not file.name.startswith(".")
        ]

    def _messenger(self, file: Any, settings: Settings) -> MessengerConfig:
        targets = tuple(self._target(file.messenger, one) for one in self._allowed(file.targets))
        if (probe := self._probes.get(streams.KIND)) is not None:
            targets = streams.with_streams(targets, probe, settings)
        return MessengerConfig(
            file.messenger,
            file.title,
            file.quorum,
            file.owner.asns,
            file.owner.prefixes,
            tuple(Source(source.url, source.read) for source in file.sources),
            targets,
            tuple(PublishedList(one.url, one.form, one.targets) for one in file.lists),
        )

    def _controls(self, main: Document, settings: Settings) -> tuple[TargetConfig, ...]:
        model = controls_model(self._probes)
        if settings.controls:
            own = self._read_named(read_yaml, settings.controls, main, ("controls",))
            documents = [own] if own is not None else []
        else:
            packs = self._catalogue.inside("controls")
            names = dict.fromkeys(("general", settings.vantage.country.lower()))
            read = [self._read(self._catalogue.document, packs[n]) for n in names if n in packs]
            documents = [self._askable(document) for document in read if document is not None]
        controls: list[TargetConfig] = []
        for document in documents:
            file: Any = self._validate(model, document)
            self._check_names(document)
            self._check_fast(document)
            if file is not None:
                controls += [self._target(CONTROL, one) for one in self._allowed(file.targets)]
        return tuple(controls)

    def _askable(self, shipped: Document) -> Document:
        """Without the shipped controls of a trusted resolver that the user configured away."""
        trusted, targets = self._context.get("trusted", ()), shipped.data.get("targets")

        def askable(target: Any) -> bool:
            resolver = target.get("resolver") if isinstance(target, dict) else None
            return not isinstance(resolver, str) or not resolver_problem(resolver, trusted)

        if isinstance(targets, list):  # else it is signed and wrong, and that is said elsewhere
            targets = list(filter(askable, targets))
        return dataclasses.replace(shipped, data={**shipped.data, "targets": targets})

    def _calibration(self, main: Document, settings: Settings) -> tuple[Calibrated, ...]:
        shipped = self._catalogue.inside("calibration").values()
        documents = [self._read(self._catalogue.document, path) for path in shipped]
        for name in settings.calibration:
            path = _item(main, "calibration", name)
            documents.append(self._read_named(read_json, name, main, path))
        entries: list[Calibrated] = []
        for document in documents:
            file = self._validate(CalibrationFile, document) if document is not None else None
            if file is not None:
                entries += file.entries()
        return tuple(entries)

    def _web(self, main: Document, settings: Settings) -> WebFile | None:
        key: KeyPath = ("web", "config_file")
        if not settings.web.config_file:
            return None
        file = str(settings.web.config_file)
        document = self._read_named(read_yaml, file, main, key)
        if document is None:
            return None
        self._context["folder"] = Path(file).absolute().parent
        found = self._validate(WebFile, document)
        open_to_others = not is_loopback(split_listen(settings.web.listen)[0])
        if found and open_to_others and not (found.tls_server_config or found.basic_auth_users):
            message = "has neither TLS nor passwords, and web.listen is open to others"
            self._problems.append(main.problem(key, message))
        return found

    def _allowed(self, targets: Iterable[Any]) -> list[Any]:
        """Without those whose probe the profile forbids: nothing of them is asked or shown."""
        probes = self._probes
        return [
            one
            for one in targets
            if self._research or not needs_research(build_probe(one, probes[one.probe]))
        ]

    def _target(self, messenger: str, entry: Any) -> TargetConfig:
        url = getattr(entry, "url", "")
        host, port = (
            url_host_port(url) if url else (getattr(entry, "host", ""), getattr(entry, "port", 0))
        )
        channel = getattr(entry, "channel", "")
        role: Role | None = getattr(entry, "role", None)
        return TargetConfig(
            target=Target(messenger, str(channel), entry.name, entry.probe),
            probe=build_probe(entry, self._probes[entry.probe]),
            host=host,
            port=port,
            addresses=getattr(entry, "address", ()),
            family=entry.family,
            timeout=entry.timeout,
            proof=entry.proof,
            interval=entry.interval,
            informative=entry.informative,
            role=role,
            owner=getattr(entry, "owner", ""),
            asn=getattr(entry, "asn", 0),
            url=url,
        )

    def _read(self, read: Callable[[_File], Document], file: _File) -> Document | None:
        try:
            return read(file)
        except ConfigError as exc:
            self._problems += exc.problems
            return None

    def _read_named(
        self, read: Callable[[Path], Document], file: str, main: Document, path: KeyPath
    ) -> Document | None:
        """Where the file cannot be read at all, the mistake is in the line that names it."""
        try:
            Path(file).stat()
        except OSError as exc:
            self._problems.append(main.problem(path, f"{file} cannot be read: {exc.strerror}"))
            return None
        return self._read(read, Path(file))

    def _validate(self, model: type[_Model], document: Document) -> _Model | None:
        self._problems += document.problems
        try:
            return model.model_validate_json(json.dumps(document.data), context=self._context)
        except ValidationError as exc:
            for error in exc.errors():
                path = error["loc"]
                if issubclass(model, MessengerHead | ControlsHead | Settings):
                    path = written_path(path, error["type"])
                if not any(path[: len(one)] == one for one in document.bad):
                    message = message_of(model, error)
                    self._problems.append(document.problem(path, message))
            return None

    def _check_names(self, document: Document) -> None:
        """Also when the targets have other faults: two mistakes are two messages."""
        first: dict[str, int] = {}
        targets = document.data.get("targets")
        for index, target in enumerate(targets if isinstance(targets, list) else []):
            name = target.get("name") if isinstance(target, dict) else None
            if not isinstance(name, str):
                continue
            path = ("targets", index, "name")
            if name in first:
                message = f"{name} is already the name of the target in line {first[name]}"
                self._problems.append(document.problem(path, message))
            first.setdefault(name, document.line(path))


def _item(document: Document, key: str, value: str) -> KeyPath:
    """The path of the entry of a list of names or files that means ``value``."""
    written = document.data.get(key)
    folder = Path(document.file).absolute().parent
    for index, entry in enumerate(written if isinstance(written, list) else []):
        if isinstance(entry, str) and value in (entry, str(Path(folder, entry))):
            return (key, index)
    return (key,)


def _touches(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _without(data: Any, paths: list[KeyPath]) -> Any:
    """``data`` without what is wrong at ``paths``: a key, or a whole entry of a list."""
    if () in paths:
        return {}
    if isinstance(data, list):
        wrong = {path[0] for path in paths}
        return [entry for index, entry in enumerate(data) if index not in wrong]
    kept = {}
    for key, value in data.items():
        inner = [path[1:] for path in paths if path[0] == key]
        if () not in inner:
            kept[key] = _without(value, inner) if inner else value
    return kept


def _literals(target: Any, trusted: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The literal addresses of one written target, each with the key it stands under."""
    if not isinstance(target, dict):
        return
    for key in ("host", "url", "resolver"):
        text = target.get(key)
        if not isinstance(text, str):
            continue
        with contextlib.suppress(ValueError):
            if key == "url":
                text = url_host_port(text)[0]
            elif key == "resolver":
                name = text.partition("/")[0]
                text = trusted.get(name) or split_address_port(text, 53)[0]
            if is_address(text):
                yield key, text
    pinned = target.get("address")
    for text in pinned if isinstance(pinned, list) else []:
        if isinstance(text, str) and is_address(text):
            yield "address", text
