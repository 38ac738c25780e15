"""What ``callpath calibrate`` is told and tells: its options, its files, its words."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import calibrate, calibrated, lists
from agent.calibrate import Blind, Calibration
from agent.health import is_healthy
from agent.store import Store
from agent.wiring import state_dir
from config.calibration import NETWORKS, CalibrationFile, read
from config.catalogue import written
from config.document import written_yaml
from config.model import Config, MessengerConfig
from config.values import parse_duration
from probes.wire.published import Server

Tell = Callable[[str], None]


class Misused(Exception):
    """The command line cannot be followed; the text says why."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the command ends with: a document for ``--json``, lines for people."""

    document: dict[str, Any]
    lines: tuple[str, ...]


def by_file(files: Sequence[Path], *, merge: bool, diff: bool, output: Path | None) -> Told:
    """What asks nobody. Raises Misused, ConfigError, OSError."""
    if merge is diff:
        raise Misused("calibration files are for one of --merge and --diff")
    return _merge(files, output) if merge else _diff(files)


def _merge(files: Sequence[Path], output: Path | None) -> Told:
    """Raises Misused, ConfigError, OSError."""
    if len(files) < 2 or output is None:
        raise Misused("--merge takes two calibration files or more, and -o for the one it makes")
    _check_writable(output)
    try:
        made = calibrated.merged([read(file) for file in files])
    except calibrated.CannotMerge as error:
        raise Misused(f"these files cannot be merged: {error}") from error
    calibrate.write(output, _text(made))
    return Told(
        {"version": 1, "file": str(output), "calibration": _plain(made)},
        (f"Written to {output}: what {len(files)} files say together.",),
    )


def _diff(files: Sequence[Path]) -> Told:
    """Raises Misused, ConfigError."""
    if len(files) != 2:
        raise Misused("--diff takes two calibration files: the old one and the new one")
    old, new = (read(file) for file in files)
    found = calibrated.changes(old.entries(), new.entries())
    lines = calibrated.sentences(found) or ["Nothing changed."]
    if old.catalogue != new.catalogue:
        lines.insert(0, f"The catalogue changed: {old.catalogue}, now {new.catalogue}.")
    return Told({"version": 1, "changes": _changes(found)}, tuple(lines))


def follow_lists(config: Config, names: Sequence[str], output: Path | None, tell: Tell) -> Told:
    """What the owners' lists say otherwise than the catalogue; a messenger file that follows them
    only with ``output``. Raises Misused, Blind, OSError."""
    _known(config, names)
    chosen = [m for m in config.messengers if m.lists and (m.name in names or not names)]
    if not chosen:
        raise Misused("none of these messengers has lists in its file")
    if output is not None:
        if len(chosen) > 1:
            raise Misused("-o writes one messenger's file: name it with --messenger")
        _check_writable(output)
    store = Store(state_dir(config))
    try:
        read = asyncio.run(lists.read_lists(config, chosen, store, tell))
    finally:
        store.close()
    if not any(one.read for one in read.values()):
        why = "; ".join(f"{url}: {w}" for one in read.values() for url, w in one.unread.items())
        raise Blind(f"no list could be read: {why}")
    found = [lists.difference(m, read[m.name]) for m in chosen]
    lines = [said for one in found for said in lists.sentences(one, read[one.messenger])]
    written = ""
    if output is not None and found[0].changes:
        written = str(output)
        calibrate.write(output, _refreshed(config, chosen[0], found[0], read[chosen[0].name]))
        lines.append(f"Written to {output}; it takes effect in a folder of messenger_dirs.")
    elif output is not None:
        lines.append("Nothing to write.")
    return Told(
        {
            "version": 1,
            "file": written,
            "messengers": [_listed(one, read[one.messenger]) for one in found],
        },
        tuple(lines),
    )


def _refreshed(
    config: Config, messenger: MessengerConfig, found: lists.Difference, read: lists.Read
) -> str:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    data = lists.refreshed(written(config, messenger).data, found, read, today)
    return (
        f"# {messenger.title}, as its owner's lists of {today} have it. What is new in it was not\n"
        f"# asked by anybody yet.\n{written_yaml(data)}"
    )


def _listed(found: lists.Difference, read: lists.Read) -> dict[str, Any]:
    def plain(servers: Mapping[str, Sequence[Server]]) -> list[dict[str, Any]]:
        return [asdict(server) for some in servers.values() for server in some]

    return {
        "messenger": found.messenger,
        "new": plain(found.new),
        "foreign": plain(found.foreign),
        "gone": list(found.gone),
        "new_prefixes": list(found.new_prefixes),
        "unlisted_prefixes": list(found.unlisted_prefixes),
        "unread": dict(read.unread),
    }


def extent_words(extent: calibrate.Extent) -> str:
    """What is going to be sent, before any of it is."""
    minutes = max(1, round(extent.seconds / 60))
    lasts = f"{minutes} minutes" if minutes > 1 else "a minute"
    return (
        f"{extent.targets} targets, {extent.dressed} with their dresses, and the controls: "
        f"at most {extent.requests} requests and {extent.size / 2**20:.1f} MiB in {lasts}"
    )


@dataclass(frozen=True, slots=True)
class Given:
    """The options of a run, understood."""

    names: tuple[str, ...]
    seconds: float
    network: str
    file: Path


def given(
    config: Config, names: Sequence[str], lasts: str, network: str, output: Path | None
) -> Given:
    """Raises Misused."""
    known = _known(config, names)
    try:
        seconds = parse_duration(lasts)
    except ValueError as error:
        raise Misused(f"--for: {error}") from error
    if not 0 < seconds <= calibrate.LONGEST:
        raise Misused("--for: must be more than 0 and at most 2h")
    if network not in ("", *NETWORKS):
        raise Misused(f"--network: one of {', '.join(NETWORKS)}")
    file = output or Path(time.strftime("calibration-%Y%m%d-%H%M.json", time.gmtime()))
    _check_writable(file)
    if output is None and file.exists():
        raise Misused(f"{file} is there already; name another with -o")
    network = network or config.settings.vantage.network
    return Given(tuple(names or known), seconds, network, file)


def _known(config: Config, names: Sequence[str]) -> list[str]:
    """All selected messengers. Raises Misused where one of ``names`` is none."""
    known = [m.name for m in config.messengers]
    if unknown := [name for name in names if name not in known]:
        raise Misused(
            f"not selected in messengers: {', '.join(unknown)}; selected are {', '.join(known)}"
        )
    return known


def run(config: Config, given: Given, tell: Tell) -> Told:
    """Calibrate, and write what was counted. Raises Misused, Blind, OSError."""
    asked = calibrate.open_questions(config, given.names)
    if not asked.messengers:
        raise Misused("nothing to calibrate: all of these targets are documented")
    if not is_healthy(
        config.settings.web.listen, tls=config.serves_tls, certified=config.wants_certificates
    ):
        raise Misused(
            f"an agent runs here, at {config.settings.web.listen}: both would ask the same servers,"
            " twice as often as is polite. Stop it first"
        )
    tell(extent_words(calibrate.extent(asked, given.seconds)))
    store = Store(state_dir(config))
    try:
        calibration = Calibration(asked, store, given.seconds)
        why = asyncio.run(calibrate.calibrate(calibration, tell))
    finally:
        store.close()
    if not calibration.tallies:
        raise Blind(f"nothing was counted: {why}")
    made = calibrated.calibration(calibration.tallies, config.catalogue, given.network, time.time())
    calibrate.write(given.file, _text(made))
    tell(f"{why}: {calibration.words()}")
    found = calibrated.changes(config.calibration, made.entries())
    since = "Against what the configuration loads:" if config.calibration else "Found:"
    document = {
        "version": 1,
        "file": str(given.file),
        "ended": why,
        "uncounted_rounds": len(calibration.uncounted),
        "left_out": list(calibration.left_out),
        "calibration": _plain(made),
        "changes": _changes(found),
    }
    told = calibrated.sentences(found) or ["nothing changed"]
    return Told(document, (since, *told, f"Written to {given.file}.", *_doubts(made)))


def _doubts(made: CalibrationFile) -> list[str]:
    """Messengers of which nothing answered at all: no sign of an open network."""
    answered: dict[str, int] = {}
    for entry in made.targets:
        answered[entry.messenger] = answered.get(entry.messenger, 0) + entry.answered
    silent = ", ".join(sorted(name for name, count in answered.items() if not count))
    if not silent:
        return []
    return [f"Nothing answered of: {silent}. Is this network open? The file says so of none."]


def _check_writable(file: Path) -> None:
    if why := calibrate.cannot_write(file):
        raise Misused(why)


def _plain(made: CalibrationFile) -> dict[str, Any]:
    return made.model_dump(mode="json")


def _text(made: CalibrationFile) -> str:
    """One target a line, so that a diff of two files can be read."""
    plain = _plain(made)
    lines = ",\n  ".join(json.dumps(entry) for entry in plain.pop("targets"))
    head = json.dumps(plain)[1:-1]
    return f'{{{head},\n "targets": [\n  {lines}\n ]}}\n'


def _changes(found: Sequence[calibrated.Change]) -> list[dict[str, Any]]:
    return [
        {
            **change.key._asdict(),
            "before": str(change.before),
            "now": str(change.now),
            "answered": change.counts[0],
            "asked": change.counts[1],
        }
        for change in found
    ]
