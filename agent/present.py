"""From what a round saw and what is confirmed to what is shown. Pure."""

from __future__ import annotations

from dataclasses import replace

from agent.state import ChannelState
from agent.vantage import MASKING, Judgement
from probes.model import Diagnosis, Status, Vantage, VantageStatus

_HIDDEN = {
    VantageStatus.OFFLINE: "this line is offline",
    VantageStatus.PORTAL: "a captive portal stands before this line",
    VantageStatus.TUNNELLED: "this line leads through a tunnel",
    VantageStatus.FAULTY: "this vantage is at fault itself",
}


def present(
    raw: Diagnosis, state: ChannelState, vantage: VantageStatus, *, quiet: bool
) -> Diagnosis:
    """``raw`` with the confirmed status in its place, and a sentence that says why they differ."""
    what = raw.summary.partition(":")[0]

    def unknown(reason: str, why: str) -> Diagnosis:
        return replace(
            raw,
            status=Status.UNKNOWN,
            reason=reason,
            summary=f"{what}: not known, {why}.",
            intermittent=False,
            since=None,
        )

    if vantage in MASKING:
        return unknown(str(vantage), _HIDDEN[vantage])
    if quiet:
        return unknown("network_changed", "this vantage has just come to another network")
    if raw.reason == "uncalibrated":
        return replace(raw, intermittent=False, since=None)
    if state.shown is Status.UNKNOWN:
        if raw.status is Status.UNKNOWN:
            return replace(raw, intermittent=False, since=None)
        return unknown("settling", f"too few rounds to be sure; the last one saw: {raw.status}")
    shown = state.shown
    if shown is raw.status:
        return replace(raw, since=state.since, intermittent=state.intermittent)
    return replace(
        raw,
        status=shown,
        reason="intermittent" if state.intermittent else f"confirmed_{shown}",
        summary=_differs(what, shown, raw, state),
        intermittent=state.intermittent,
        since=state.since,
    )


def _differs(what: str, shown: Status, raw: Diagnosis, state: ChannelState) -> str:
    saw = raw.summary.partition(": ")[2]
    if state.intermittent:
        return f"{what}: degraded, it comes and goes; the last round: {saw}"
    return f"{what}: {shown}, as confirmed over several rounds; the last round: {saw}"


def present_vantage(name: str, shown: VantageStatus, judgement: Judgement | None) -> Vantage:
    if judgement is None:
        return Vantage(name, shown, "no round has ended yet")
    reason = judgement.reason
    if judgement.status is not shown:
        reason = f"the last round: {judgement.reason}"
    return Vantage(name, shown, "; ".join((reason, *judgement.notes)))
