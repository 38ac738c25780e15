"""A channel's state as the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.confirm import Named
from agent.state import ChannelState, Vote
from probes.model import Certainty, Finding, Mechanism, Status


def written(state: ChannelState) -> dict[str, object]:
    """As ``state_from`` reads it. By hand: ``asdict`` copies every vote, in every round."""
    return {
        "confirmed": state.confirmed,
        "since": state.since,
        "intermittent": state.intermittent,
        "votes": _votes(state.votes),
        "window": _votes(state.window),
        "named": [asdict(named) for named in state.named],
    }


def _votes(votes: Sequence[Vote]) -> list[dict[str, object]]:
    return [{"at": v.at, "status": v.status, "controls": v.controls} for v in votes]


def state_from(value: Mapping[str, Any]) -> ChannelState:
    """Raises ValueError, KeyError and TypeError for what was not written so."""

    def votes(key: str) -> tuple[Vote, ...]:
        return tuple(
            Vote(float(r["at"]), Status(str(r["status"])), float(r["controls"])) for r in value[key]
        )

    confirmed = value["confirmed"]
    since = value["since"]
    return ChannelState(
        confirmed=Status(str(confirmed)) if confirmed else None,
        since=float(since) if since is not None else None,
        intermittent=bool(value["intermittent"]),
        votes=votes("votes"),
        window=votes("window"),
        named=tuple(_named_from(row) for row in value.get("named", ())),
    )


def _named_from(row: dict[str, Any]) -> Named:
    f = row["finding"]
    words = {key: tuple(f[key]) for key in ("evidence", "decided", "controls")}
    finding = Finding(
        **{
            **f,
            **words,
            "mechanism": Mechanism(f["mechanism"]),
            "certainty": Certainty(f["certainty"]),
        }
    )
    return Named(finding, int(row["rounds"]), float(row["at"]), tuple(row["controls"]))
