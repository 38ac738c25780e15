"""The JSON form of a report: what ``callpath check --json`` prints and /api/v1/status serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from probes.model import Diagnosis, Fact, Located, Observation, Report, TargetState

VERSION = 1


def document(report: Report, versions: Mapping[str, str], *, observations: bool) -> dict[str, Any]:
    """Only text that was cleaned where it entered, and no address of the vantage, is in here."""
    made: dict[str, Any] = {
        "version": VERSION,
        "at": timestamp(report.at),
        "callpath": dict(versions),
        "vantage": {
            "name": report.vantage.name,
            "status": str(report.vantage.status),
            "reason": report.vantage.reason,
        },
        "channels": [_channel(d) for d in report.diagnoses],
    }
    if observations:
        made["observations"] = [observation(o) for o in report.observations]
    return made


def timestamp(at: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def in_order(diagnoses: Iterable[Diagnosis]) -> list[Diagnosis]:
    """For people: messengers as configured, calls first, since they are what is asked about."""
    channels = ("call", "chat", "media", "web")
    messengers = list(dict.fromkeys(d.messenger for d in diagnoses))
    return sorted(
        diagnoses, key=lambda d: (messengers.index(d.messenger), channels.index(d.channel))
    )


def _channel(d: Diagnosis) -> dict[str, Any]:
    first = d.first
    return {
        "messenger": d.messenger,
        "channel": d.channel,
        "status": str(d.status),
        "intermittent": d.intermittent,
        "mechanism": str(d.mechanism),
        "certainty": str(d.certainty),
        "confidence": first.confidence if first else 0,
        "rule": first.rule if first else "",
        "summary": d.summary,
        "reason": d.reason,
        "findings": [
            {
                "mechanism": str(f.mechanism),
                "certainty": str(f.certainty),
                "confidence": f.confidence,
                "rule": f.rule,
                "variant": f.variant,
                "evidence": list(f.evidence),
            }
            for f in d.findings
        ],
        "since": timestamp(d.since) if d.since is not None else None,
        "targets": {"working": d.working, "deciding": d.deciding, "total": d.total},
        "place": _place(d.place),
        "target_states": [_target(t) for t in d.targets],
    }


def _place(place: Located | None) -> dict[str, Any] | None:
    if place is None:
        return None
    low, high = place.networks
    return {
        "target": place.target,
        "low": place.low,
        "high": place.high,
        "agreement": {"agree": place.agree, "runs": place.runs},
        "method": place.method,
        "placement": place.placement,
        "networks": {"low": low or None, "high": high or None},
        "at": timestamp(place.at),
    }


def _target(t: TargetState) -> dict[str, Any]:
    return {
        "target": t.target.name,
        "probe": t.target.probe,
        "address": t.address,
        "works": t.works,
        "proof": str(t.proof),
        "last_run": timestamp(t.last_run) if t.last_run is not None else None,
        **({"slow": t.slow} if t.slow is not None else {}),
    }


def observation(o: Observation) -> dict[str, Any]:
    failed = o.failed
    return {
        "id": o.id,
        "messenger": o.target.messenger,
        "channel": o.target.channel,
        "target": o.target.name,
        "probe": o.target.probe,
        "contrast": {"of": o.contrast.of, "differs": str(o.contrast.differs)}
        if o.contrast
        else None,
        "at": timestamp(o.at),
        "ok": o.ok,
        "works": o.works,
        "failed_step": str(failed.step) if failed else None,
        "failure": str(failed.failure) if failed else None,
        "steps": [
            {
                "step": str(s.step),
                "seconds": round(s.seconds, 6),
                "failure": str(s.failure) if s.failure else None,
            }
            for s in o.steps
        ],
        "facts": {key: _plain(value) for key, value in o.facts.items()},
    }


def _plain(value: Fact) -> Any:
    return list(value) if isinstance(value, tuple) else value
