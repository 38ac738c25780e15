"""What ``callpath evidence`` does: writes an archive of what was seen, and judges one again."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import historydoor
from agent.historydoor import otherwise
from agent.replay import Again, Counted, replay
from agent.wiring import versions
from config.carried import Carried, carried, rebuilt
from config.effective import effective
from config.model import Config, ConfigError, MessengerConfig
from exporters import account, evidence, notknown, ooni
from exporters.archive import Archive, Lines, Refused, Writer, as_text
from exporters.document import timestamp
from exporters.history import History, Outage, Row
from exporters.historydocument import outage, segment
from exporters.ooniwords import Asked as Question
from probes.model import CONTROL, Certainty, Finding, Mechanism, Observation, Status
from probes.net.address import OwnAddresses
from probes.wire.text import clean

VERSION = 1
ABOUT, ACCOUNT = "about.json", "account.md"
CATALOGUE = "catalogue/"
_RULE = re.compile(r"[A-Za-z0-9]{0,8}")
_VERSION = re.compile(r"[A-Za-z0-9.]{0,20}")
_SURE = list(Certainty)
_NONSENSE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What the rules raise over facts that no probe has written."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``since``, ``until``: Unix seconds. ``names``: messengers; those configured if none."""

    since: float
    until: float
    names: Sequence[str]
    output: Path


@dataclass(frozen=True, slots=True)
class Written:
    """``outages``: how many are in it."""

    output: Path
    sha256: str
    outages: int
    judged: int


@dataclass(frozen=True, slots=True)
class Rejudged:
    """``left`` and ``differing`` as ``callpath history --rediagnose`` has them."""

    judged: int
    left: Mapping[str, int]
    differing: Sequence[dict[str, Any]]
    document: dict[str, Any]


# --- writing ---


def write(config: Config, folder: Path, asked: Asked) -> Written:
    """An archive of what the store in ``folder`` remembers. Raises Refused, NoHistory, ConfigError
    where a messenger's file is gone, and OSError."""
    chosen = _chosen(config, asked.names)
    history = History(folder)
    try:
        with Writer(asked.output, OwnAddresses().scrub) as made:
            found = _Found(config, chosen, asked)
            _rounds(made, history, found)
            _states(made, history, found)
            _about(made, found)
            made.text(ACCOUNT, account.account(found.told()))
    finally:
        history.close()
    with asked.output.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Written(asked.output, digest, len(found.outages), found.counted.judged)


def _chosen(config: Config, names: Sequence[str]) -> tuple[MessengerConfig, ...]:
    known = {m.name: m for m in config.messengers}
    for name in names:
        if name not in known:
            raise Refused(f"no messenger {name} is configured; these are: {', '.join(known)}")
    return tuple(known[n] for n in dict.fromkeys(names)) or config.messengers


class _Found:
    """What is in an archive, as it is written."""

    def __init__(self, config: Config, messengers: Sequence[MessengerConfig], asked: Asked) -> None:
        self.config = config
        self.messengers = tuple(messengers)
        self.names = tuple(m.name for m in messengers)
        self.asked = asked
        self.versions = versions(config)
        self.outages: list[Outage] = []
        self.unknown: dict[notknown.Channel, float] = {}
        self.counted = Counted()
        self.differing = 0
        self._findings: dict[tuple[str, str, str], list[tuple[float, Finding]]] = {}

    def note(self, one: Again) -> None:
        self.differing += len(one.differs)
        for d in one.diagnoses:
            if d.first is not None:
                key = d.messenger, d.channel, d.first.rule
                self._findings.setdefault(key, []).append((one.at, d.first))

    def told(self) -> account.Told:
        vantage = self.config.settings.vantage
        place = {"vantage": vantage.name, "country": vantage.country, "network": vantage.network}
        if vantage.asn:
            place["network operator"] = f"AS{vantage.asn}"
        return account.Told(
            since=self.asked.since,
            until=self.asked.until,
            place={name: value for name, value in place.items() if value},
            versions=self.versions,
            outages=[(o, self._decided(o)) for o in self.outages],
            unknown=self.unknown,
            judged=self.counted.judged,
            differing=self.differing,
            left=self.counted.left,
        )

    def _decided(self, o: Outage) -> Finding | None:
        """The surest finding of that rule in the outage; it may have been seen a little before."""
        end = self.asked.until if o.until is None else o.until
        found = self._findings.get((o.messenger, o.channel, o.rule), [])
        return max(
            (f for at, f in found if o.since - BEFORE <= at <= end), key=_sureness, default=None
        )


BEFORE = 600.0
"""Seconds before an outage in which what decided it may have been seen."""


def _sureness(finding: Finding) -> tuple[int, float]:
    return _SURE.index(finding.certainty), finding.confidence


def _rounds(made: Writer, history: History, found: _Found) -> None:
    """The rounds of each messenger with the controls', from those on that the first rests on, and
    OONI's measurements of all of them."""
    measured, place = made.beside(), _place(found)
    seen: set[str] = set()
    since, controls = found.asked.since, found.config.controls
    for messenger in found.messengers:
        name = messenger.name
        asked = {name: _questions(messenger.targets), CONTROL: _questions(controls)}
        rounds = made.beside()
        with made.lines(f"observations/{name}.jsonl") as observations:
            rows = history.rows(name, since, found.asked.until)
            rows = _copied(rows, rounds, observations)
            rows = _measured(rows, since, seen, asked, place, measured)
            for one in replay(rows, since, messenger, controls, found.counted):
                found.note(one)
        made.copy(f"rounds/{name}.jsonl", rounds)
    made.copy("ooni.jsonl", measured)


def _copied(rows: Iterable[Row], rounds: Lines, observations: Lines) -> Iterator[Row]:
    for row in rows:
        rounds.add(evidence.round_line(row))
        for o in row.seen:
            observations.add(evidence.observation_line(o, row.id))
        yield row


def _measured(
    rows: Iterable[Row],
    since: float,
    seen: set[str],
    asked: Mapping[str, Mapping[str, Question]],
    place: ooni.Place,
    measured: Lines,
) -> Iterator[Row]:
    for row in rows:
        if row.at >= since:
            new = _new(row, since, seen)
            for one in ooni.measurements(row.messenger, new, asked[row.messenger], place):
                measured.add(one)
        yield row


def _new(row: Row, since: float, seen: set[str]) -> list[Observation]:
    """What this round asked itself: a row repeats what it rests on, and that of the controls is
    with every messenger."""
    its = [
        o
        for o in row.seen
        if o.id not in seen and o.at >= since and o.target.messenger == row.messenger
    ]
    seen.update(o.id for o in its)
    return its


def _place(found: _Found) -> ooni.Place:
    vantage = found.config.settings.vantage
    return ooni.Place(
        vantage.asn, vantage.country, found.versions["version"], sys.platform, platform.machine()
    )


def _questions(targets: Iterable[Any]) -> dict[str, Question]:
    return {
        t.target.name: Question(
            t.host,
            t.port,
            t.url,
            getattr(t.probe, "method", "GET") if t.url else "",
            getattr(t.probe, "transport", "") == "udp",
        )
        for t in targets
        if t.host and t.target.probe in ("tcp", "https", "stun")
    }


def _states(made: Writer, history: History, found: _Found) -> None:
    """What was shown, when it changed, and the outages."""
    since, until = found.asked.since, found.asked.until
    with made.lines("states.jsonl") as lines:
        for messenger, channel in history.channels():
            if messenger in found.names:
                for s in history.segments(messenger, channel, since, until):
                    lines.add({"messenger": messenger, "channel": channel, **segment(s)})
    found.outages = history.outages(since, until, found.names)
    channels = historydoor.channels(found.messengers, history, found.names)
    found.unknown = notknown.not_known(history, channels, since, until)
    with made.lines("outages.jsonl") as lines:
        for o in found.outages:
            lines.add(outage(o))


def _about(made: Writer, found: _Found) -> None:
    """All that is needed to judge again, and where it comes from."""
    config = found.config
    parts = carried(config, found.names)
    files = {
        path: {"origin": parts.origins[path], "sha256": made.text(CATALOGUE + path, text)}
        for path, text in parts.files.items()
    }
    calibration = effective(config)["calibration"]
    written = json.dumps(calibration, sort_keys=True).encode()
    update = config.update
    about = {
        "version": VERSION,
        "from": timestamp(found.asked.since),
        "to": timestamp(found.asked.until),
        "since": found.asked.since,
        "until": found.asked.until,
        "messengers": list(found.names),
        "callpath": found.versions,
        "settings": parts.settings,
        "controls": list(parts.controls),
        "catalogue": {
            "version": config.catalogue,
            "signed": {"sha256": update.sha256, "key": update.key} if update else None,
            "files": files,
        },
        "calibration": {
            "targets": len(calibration),
            "newest": timestamp(max(e["at"] for e in calibration)) if calibration else None,
            "sha256": hashlib.sha256(written).hexdigest(),
        },
        "not_known": notknown.listed(found.unknown),
        "judged": {
            "rounds": found.counted.judged,
            "differing": found.differing,
            "left_out": found.counted.left,
        },
    }
    made.text(ABOUT, as_text(about))


# --- judging again ---


def rediagnose(file: Path) -> Rejudged:
    """Today's rules over an archive, which may be anybody's, with the catalogue that is in it.
    Raises Refused."""
    counted, found = Counted(), []
    try:
        with Archive(file) as archive:
            about = archive.json(ABOUT)
            config = _config(archive, about)
            since = evidence.moment(about["since"])
            for messenger in config.messengers:
                rows = evidence.rows(
                    archive.lines(f"rounds/{messenger.name}.jsonl"),
                    archive.lines(f"observations/{messenger.name}.jsonl", evidence.LONGEST),
                    messenger.name,
                )
                for one in replay(rows, since, messenger, config.controls, counted):
                    found += otherwise(_checked(one))
    except ConfigError as error:
        raise Refused(f"has a catalogue that is not used: {clean(str(error), 400)}") from error
    except _NONSENSE as error:
        raise Refused(f"cannot be judged: {clean(repr(error), 400)}") from error
    left = {clean(why, 120): count for why, count in counted.left.items()}
    document = {
        "version": VERSION,
        "callpath": versions(config),
        "rounds": counted.judged,
        "left_out": left,
        "differing": found,
    }
    return Rejudged(counted.judged, left, found, document)


def _config(archive: Archive, about: Mapping[str, Any]) -> Config:
    if about.get("version") != VERSION:
        raise Refused("is of a form that this version of callpath does not know")
    names = [n for n in archive.names if n.startswith(CATALOGUE)]
    files = {n.removeprefix(CATALOGUE): archive.text(n) for n in sorted(names)}
    settings, controls = about["settings"], about["controls"]
    if not isinstance(settings, dict) or not isinstance(controls, list):
        raise Refused("does not say with what it was measured")
    config = rebuilt(Carried(files, {}, settings, tuple(map(str, controls))))
    version = about["callpath"]["catalogue"]
    if not _VERSION.fullmatch(version):
        raise Refused("has a catalogue of no version")
    return replace(config, catalogue=version)


def _checked(one: Again) -> Again:
    """What was said is shown as it stands, so it must be of our words. Raises ValueError."""
    if not _VERSION.fullmatch(one.rules):
        raise ValueError("rules of no version")
    for d in one.before:
        Status(d["status"]), Mechanism(d["mechanism"]), Certainty(d["certainty"])
        if not _RULE.fullmatch(d["rule"]):
            raise ValueError("a rule of no name")
    return one
