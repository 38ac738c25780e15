"""Calibration files: made of what was counted, merged, and held against one another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import NamedTuple

from agent.trust import is_proven
from config.calibration import CalibratedFields, CalibrationFile
from config.model import Calibrated
from probes.model import Proof

MOVED = 0.1
"""Difference between two shares of answered questions that is worth a line."""
SHOWN = 12
"""Targets named in one sentence."""


class CannotMerge(Exception):
    """These files make no single one; the text says why."""


class Key(NamedTuple):
    """What is counted: one target in one dress."""

    messenger: str
    target: str
    probe: str
    dress: str


@dataclass(slots=True)
class Tally:
    """Runs that were asked to the end, those of them with a verified answer, and when the last such
    came (Unix seconds)."""

    asked: int = 0
    answered: int = 0
    last: float | None = None

    def add(self, answered: bool, at: float) -> None:
        self.asked += 1
        if answered:
            self.answered += 1
            self.last = at if self.last is None else max(self.last, at)


def calibration(
    tallies: Mapping[Key, Tally], catalogue: str, network: str, at: float
) -> CalibrationFile:
    """The file of one calibration that ended at ``at`` (Unix seconds). Only targets are in it, and
    nothing of the place where they were asked but the kind of its network."""
    targets = tuple(
        CalibratedFields(
            **key._asdict(),
            asked=tally.asked,
            answered=tally.answered,
            last_answered=None if tally.last is None else _day(tally.last),
        )
        for key, tally in sorted(tallies.items())
        if tally.asked
    )
    return _file(catalogue, network, datetime.fromtimestamp(int(at), UTC), targets)


def merged(files: Sequence[CalibrationFile]) -> CalibrationFile:
    """One file of several: counts are added, the newest dates stand. Raises CannotMerge."""
    catalogues = sorted({file.catalogue for file in files})
    if len(catalogues) != 1:
        raise CannotMerge(
            f"they are of different catalogues ({', '.join(catalogues)}), in which one name may"
            " mean two servers: merge those of one catalogue, and list the others beside it"
        )
    networks = {file.network for file in files}
    found: dict[Key, CalibratedFields] = {}
    for entry in (entry for file in files for entry in file.targets):
        key = Key(entry.messenger, entry.target, entry.probe, entry.dress)
        found[key] = _added(found[key], entry) if key in found else entry
    return _file(
        catalogues[0],
        networks.pop() if len(networks) == 1 else "",
        max(file.at for file in files),
        tuple(found[key] for key in sorted(found)),
    )


def _added(one: CalibratedFields, other: CalibratedFields) -> CalibratedFields:
    asked, answered = one.asked + other.asked, one.answered + other.answered
    days = [e.last_answered for e in (one, other) if e.last_answered is not None]
    try:
        return CalibratedFields(
            messenger=one.messenger,
            target=one.target,
            probe=one.probe,
            dress=one.dress,
            asked=asked,
            answered=answered,
            last_answered=max(days, default=None),
        )
    except ValueError as error:  # more than a file may hold
        raise CannotMerge(f"{one.messenger}/{one.target} was asked too often to count") from error


def _file(
    catalogue: str, network: str, at: datetime, targets: tuple[CalibratedFields, ...]
) -> CalibrationFile:
    return CalibrationFile.model_validate(
        {"version": 1, "catalogue": catalogue, "network": network, "at": at, "targets": targets}
    )


def _day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


# --- what changed ------------------------------------------------------------------------------


class Word(StrEnum):
    """What a calibration says of one target in one dress."""

    ANSWERS = "answers"
    LITTLE = "little"
    SILENT = "silent"
    NOT_ASKED = "not_asked"


_NOW = {
    Word.ANSWERS: ("answers and may decide", "answer and may decide"),
    Word.LITTLE: (
        "answered too little to decide while it is unproven",
        "answered too little to decide while they are unproven",
    ),
    Word.SILENT: ("is silent", "are silent"),
    Word.NOT_ASKED: ("was not asked", "were not asked"),
}
_BEFORE = {
    Word.ANSWERS: "answered before",
    Word.LITTLE: "answered too little before",
    Word.SILENT: "silent before",
    Word.NOT_ASKED: "not asked before",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One target in one dress of which two calibrations say different things; counts are answered
    and asked runs, (0, 0) for not asked."""

    key: Key
    before: Word
    now: Word
    counts_before: tuple[int, int]
    counts: tuple[int, int]


def changes(old: Iterable[Calibrated], new: Iterable[Calibrated]) -> tuple[Change, ...]:
    """What ``new`` says otherwise than ``old``. Of several entries of one target in one dress the
    newest file's counts."""
    before, now = _newest(old), _newest(new)
    found = []
    for key in sorted(before.keys() | now.keys()):
        counts_before, counts = before.get(key, (0, 0)), now.get(key, (0, 0))
        change = Change(key, _word(counts_before), _word(counts), counts_before, counts)
        moved = round(abs(_share(counts) - _share(counts_before)), 6) >= MOVED
        if change.before is not change.now or moved:
            found.append(change)
    return tuple(found)


def _newest(entries: Iterable[Calibrated]) -> dict[Key, tuple[int, int]]:
    found: dict[Key, Calibrated] = {}
    for entry in entries:
        key = Key(entry.messenger, entry.target, entry.probe, entry.dress)
        if key not in found or entry.at > found[key].at:
            found[key] = entry
    return {key: (entry.answered, entry.asked) for key, entry in found.items()}


def _share(counts: tuple[int, int]) -> float:
    return counts[0] / counts[1] if counts[1] else 0.0


def _word(counts: tuple[int, int]) -> Word:
    answered, asked = counts
    if not asked:
        return Word.NOT_ASKED
    if not answered:
        return Word.SILENT
    return Word.ANSWERS if is_proven(None, Proof.UNPROVEN, asked, answered, 0.0) else Word.LITTLE


def sentences(found: Sequence[Change]) -> list[str]:
    """The changes for a person: those that are alike together, one line each."""
    groups: dict[tuple[str, str, str, Word, Word], list[Change]] = {}
    for change in found:
        key = change.key
        group = key.messenger, key.probe, key.dress, change.before, change.now
        groups.setdefault(group, []).append(change)
    return [_sentence(group) for group in groups.values()]


def _sentence(group: Sequence[Change]) -> str:
    first = group[0]
    kind = f"{first.key.probe} as {first.key.dress}" if first.key.dress else first.key.probe
    many = len(group) > 1
    what = f"{len(group)} targets" if many else "1 target"
    if first.before is first.now:
        said = f"{_NOW[first.now][many]} as before, more or less often"
    else:
        said = f"{_NOW[first.now][many]}, {_BEFORE[first.before]}"
    names = [f"{c.key.target} ({_counted(c)})" for c in group[:SHOWN]]
    if len(group) > SHOWN:
        names.append(f"and {len(group) - SHOWN} more")
    return f"{first.key.messenger}, {kind}: {what} {said}: {', '.join(names)}"


def _counted(change: Change) -> str:
    now, before = ("{} of {}".format(*c) for c in (change.counts, change.counts_before))
    if change.before is Word.NOT_ASKED:
        return now
    return f"before {before}" if change.now is Word.NOT_ASKED else f"{now}, before {before}"
