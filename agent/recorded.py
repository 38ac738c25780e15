"""A judged round as history keeps it: all that the rules read of it, so that they can be run again.

Observations are named by their ids; where they are is the reader's affair. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.case import Known
from agent.diagnosis import Evidence
from agent.vantage import ControlResult, Judgement
from config.model import MessengerConfig, TargetConfig
from probes.model import Diagnosis, Family, Observation, Target, VantageStatus

Record = dict[str, Any]
"""JSON."""


class NotWhole(Exception):
    """Something that the rules read of this round is not here any more; says what."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A round with what was said of it, before the rounds around it were asked (design 6).

    ``finished`` is what it asked itself; ``again`` the contrasts that were kept from before;
    ``known`` is None where nothing was there to explain.
    """

    messenger: str
    at: float
    judgement: Judgement
    evidence: tuple[Evidence, ...]
    finished: tuple[Observation, ...]
    again: tuple[Observation, ...]
    known: Known | None
    raw: tuple[Diagnosis, ...]

    def named(self) -> Iterator[Observation]:
        """All that the rules read, the newest form of each last."""
        known = self.known
        if known is not None:
            yield from known.past
            for runs in known.streams.values():
                yield from runs
            for result in known.controls:
                yield from result.observations
            yield from known.transfers
        for e in self.evidence:
            yield from e.observations
        yield from self.again
        if known is not None:
            yield from known.contrasts


def judgement_record(judgement: Judgement) -> Record:
    return {
        "status": judgement.status,
        "reason": judgement.reason,
        "families": sorted(judgement.families),
        "names": judgement.names,
        "abroad": judgement.abroad,
        "share": judgement.share,
        "notes": judgement.notes,
        "controls": judgement.controls,
    }


def to_record(judged: Judged, past: Record | None, versions: Mapping[str, str]) -> Record:
    """``past`` is how ``known.past`` is written: it is long, and changes little (history.py)."""
    return {
        "by": dict(versions),
        "judgement": judgement_record(judged.judgement),
        "evidence": [
            [e.config.target.name, _ids(e.observations), e.last_run, e.fresh, e.proven]
            for e in judged.evidence
        ],
        "again": _ids(judged.again),
        "known": _known_record(judged) if judged.known is not None else None,
        "past": past,
        "raw": [said(d) for d in judged.raw],
    }


def said(d: Diagnosis) -> Record:
    """The words of one diagnosis."""
    first = d.first
    return {
        "channel": d.channel,
        "status": d.status,
        "mechanism": d.mechanism,
        "certainty": d.certainty,
        "confidence": first.confidence if first else 0,
        "rule": first.rule if first else "",
        "variant": first.variant if first else "",
        "reason": d.reason,
        "summary": d.summary,
    }


def _known_record(judged: Judged) -> Record:
    known = judged.known
    assert known is not None
    here = {o.address for o in judged.named() if o.address}
    return {
        "contrasts": _ids(known.contrasts),
        "controls": [
            [r.config.target.name, _ids(r.observations), r.proven, r.heard] for r in known.controls
        ],
        "verified": sorted(known.verified),
        "nearest": {a: rtt for a, rtt in known.nearest.items() if a in here},
        "least": {a: rtt for a, rtt in known.least.items() if a in here},
        "vouched": sorted([t.name, address] for t, address in known.vouched if address in here),
        "flapped": known.flapped,
        "private_resolver": known.private_resolver,
        "outside": {t.name: up for t, up in known.outside.items()},
        "slow_outside": {t.name: slow for t, slow in known.slow_outside.items()},
        "transfers": _ids(known.transfers),
        "streams": {name: _ids(runs) for name, runs in known.streams.items()},
        "spacing": known.spacing,
        "by_hand": known.by_hand,
        "peers": known.peers,
    }


def _ids(observations: Sequence[Observation]) -> list[str]:
    return [o.id for o in observations]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where what a record names is found: the observations by id, and today's targets."""

    seen: Mapping[str, Observation]
    messenger: MessengerConfig
    controls: Mapping[str, TargetConfig]

    def all(self, ids: Sequence[str]) -> tuple[Observation, ...]:
        """Raises NotWhole."""
        try:
            return tuple(self.seen[i] for i in ids)
        except KeyError as error:
            raise NotWhole("observations of it are gone") from error


def from_record(record: Record, at: float, past: Sequence[str], shelf: Shelf) -> Judged:
    """The round again, with today's targets. Raises NotWhole, and ValueError, KeyError or TypeError
    for what ``to_record`` did not make."""
    targets = {t.target.name: t for t in shelf.messenger.targets}
    evidence = []
    for name, ids, last_run, fresh, proven in record["evidence"]:
        if name not in targets:
            raise NotWhole(f"{name} is not in the catalogue any more")
        its = shelf.all(ids)
        evidence.append(Evidence(targets[name], its, last_run, bool(fresh), bool(proven)))
    known = record["known"]
    return Judged(
        messenger=shelf.messenger.name,
        at=at,
        judgement=judgement_from(record["judgement"]),
        evidence=tuple(evidence),
        finished=(),
        again=shelf.all(record["again"]),
        known=None if known is None else _known(known, past, shelf, targets),
        raw=(),
    )


def judgement_from(r: Record) -> Judgement:
    """From ``judgement_record``; raises KeyError, ValueError or TypeError for anything else."""
    return Judgement(
        status=VantageStatus(r["status"]),
        reason=str(r["reason"]),
        families=frozenset(map(Family, r["families"])),
        names=bool(r["names"]),
        abroad=bool(r["abroad"]),
        share=float(r["share"]),
        notes=tuple(map(str, r["notes"])),
        controls=bool(r["controls"]),
    )


def _known(
    r: Record, past: Sequence[str], shelf: Shelf, targets: Mapping[str, TargetConfig]
) -> Known:
    if any(name not in shelf.controls for name, *_ in r["controls"]):
        raise NotWhole("a control is not configured any more")

    def by_target(values: Mapping[str, bool]) -> dict[Target, bool]:
        return {targets[name].target: bool(v) for name, v in values.items() if name in targets}

    return Known(
        contrasts=shelf.all(r["contrasts"]),
        controls=tuple(
            ControlResult(shelf.controls[name], shelf.all(ids), bool(proven), bool(heard))
            for name, ids, proven, heard in r["controls"]
        ),
        verified=frozenset(r["verified"]),
        nearest=dict(r["nearest"]),
        least=dict(r["least"]),
        vouched=frozenset(
            (targets[name].target, str(address))
            for name, address in r["vouched"]
            if name in targets
        ),
        flapped=bool(r["flapped"]),
        private_resolver=bool(r["private_resolver"]),
        outside=by_target(r["outside"]),
        transfers=shelf.all(r["transfers"]),
        slow_outside=by_target(r["slow_outside"]),
        past=shelf.all(past),
        streams={name: shelf.all(ids) for name, ids in r["streams"].items()},
        spacing=float(r["spacing"]),
        by_hand=bool(r["by_hand"]),
        peers=tuple(map(str, r["peers"])),
    )
