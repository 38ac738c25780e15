"""From what a round saw and what is confirmed to what is shown. Pure."""

from __future__ import annotations

from dataclasses import replace

from agent.confirm import settled
from agent.state import ChannelState
from agent.vantage import MASKING, Judgement
from agent.verdicts import tell
from probes.model import Diagnosis, Finding, Status, Vantage, VantageStatus

_HIDDEN = {
    VantageStatus.OFFLINE: "this line is offline",
    VantageStatus.PORTAL: "a captive portal stands before this line",
    VantageStatus.TUNNELLED: "this line leads through a tunnel",
    VantageStatus.FAULTY: "this vantage is at fault itself",
}


def present(
    raw: Diagnosis, state: ChannelState, vantage: VantageStatus, *, quiet: bool
) -> Diagnosis:
    """``raw`` with the confirmed status in its place, and a sentence that says why they differ.

    Findings are shown with a status that they explain: none with ok, nor before one is confirmed.
    """
    what = raw.summary.partition(":")[0]

    def unknown(reason: str, why: str) -> Diagnosis:
        return replace(
            raw,
            status=Status.UNKNOWN,
            reason=reason,
            summary=f"{what}: not known, {why}.",
            findings=raw.findings if raw.status is Status.UNKNOWN else (),
            intermittent=False,
            since=None,
            place=None,
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
        found = () if shown is Status.OK else settled(raw.findings, state.named)
        same = replace(raw, since=state.since, intermittent=state.intermittent, findings=found)
        return tell(same)
    differing = replace(
        raw,
        status=shown,
        reason="intermittent" if state.intermittent else f"confirmed_{shown}",
        summary=_differs(what, shown, raw, state),
        intermittent=state.intermittent,
        since=state.since,
        findings=_findings(shown, raw, state),
    )
    return tell(differing)


def _findings(shown: Status, raw: Diagnosis, state: ChannelState) -> tuple[Finding, ...]:
    """A block goes by what the rounds before found while the last one lacks a contrast."""
    if shown is Status.OK:
        return ()
    found = raw.findings
    if shown is Status.BLOCKED and not raw.interference:
        found = tuple(n.finding for n in state.named if n.finding.mechanism.interference)
    return settled(found, state.named)


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
