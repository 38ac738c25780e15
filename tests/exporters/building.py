"""Figures and reports with something in every field, hostile text included."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from exporters.feed import AgentFigures, ChannelFigures, TargetFigures, Update
from exporters.histogram import Histogram
from exporters.mirror import Mirror
from probes.model import (
    Certainty,
    Contrast,
    Diagnosis,
    Failure,
    Finding,
    Located,
    Mechanism,
    Observation,
    Proof,
    Report,
    Status,
    Step,
    StepResult,
    Target,
    TargetState,
    Vantage,
    VantageStatus,
)

AT = 1_800_000_000.0
NOW = AT + 10
SCRIPT = '<script>alert("1")</script>'
HOSTILE = f"\x1b[31m\x1b]0;title\x07{SCRIPT}\r\n[bold]x[/bold] :warning: \u202eevil"
RELAY = Target("m", "call", "relay", "stun")
WEB = Target("m", "web", "site", "https")
CONTROL = Target("control", "", "c", "tcp")


def observation(target: Target = RELAY, failure: Failure | None = None, **facts: Any):
    known = {"address": "192.0.2.1", "family": "ipv4", **facts}
    steps = (StepResult(Step.CONNECT, 0.01), StepResult(Step.EXCHANGE, 0.0234567, failure, "why"))
    return Observation("o1", target, AT, steps, known)


def diagnosis(**given: Any) -> Diagnosis:
    values: dict[str, Any] = {
        "messenger": "m",
        "channel": "call",
        "status": Status.UNREACHABLE,
        "reason": "exchange:timeout",
        "summary": "Messy calls: unreachable, none of 2 servers answers; 2 failed.",
        "working": 0,
        "measured": 2,
        "deciding": 2,
        "total": 3,
        "since": AT,
        "targets": (
            TargetState(RELAY, "192.0.2.1", False, Proof.CAPTURED, True, AT),
            TargetState(replace(RELAY, name="idle"), None, None, Proof.UNPROVEN, False, None),
        ),
        **given,
    }
    return Diagnosis(**values)


def finding() -> Finding:
    return Finding(
        Mechanism.IP_DROP,
        Certainty.LIKELY,
        0.8,
        "R12",
        "slow",
        ("o1",),
        told="nothing comes back",
        decided=("another port is silent too", "a neighbour answers"),
        controls=("C6", "C7"),
    )


def located(high: int | None = 3) -> Located:
    return Located("relay", 2, high, 5, 6, "A", "in_path", AT, ("AS64496 Carrier", ""))


def report(*diagnoses: Diagnosis, **given: Any) -> Report:
    diagnoses = diagnoses or (
        diagnosis(),
        diagnosis(channel="chat", status=Status.OK, reason="ok", working=2, since=None),
    )
    vantage = Vantage("babadede", VantageStatus.ONLINE, "controls answer")
    return Report(AT, given.get("vantage", vantage), diagnoses, given.get("observations", ()))


def contrast() -> Observation:
    return replace(observation(), id="o2", contrast=Contrast("o1", "address"))


def target_figures(target: Target = RELAY, role: str = "", **given: Any) -> TargetFigures:
    values: dict[str, Any] = {
        "runs": 5,
        "failures": Counter({(Step.EXCHANGE, Failure.TIMEOUT): 2}),
        "sent": 25,
        "received": 15,
        "success": True,
        "family": "ipv4",
        "rtt": 0.031,
        "steps": {Step.EXCHANGE: 3.5},
        "last_run": AT,
        "expires": AT + 180,
        "proven": True,
        "certificate_expiry": AT + 86400,
        **given,
    }
    return TargetFigures(target, role, "captured", **values)


def agent_figures(**given: Any) -> AgentFigures:
    durations = Histogram((0.1, 1.0))
    durations.observe(0.5)
    lag = Histogram((0.1, 1.0))
    lag.observe(0.05)
    lag.observe(30.0)
    values: dict[str, Any] = {
        "version": "1.2.3",
        "rules": "1",
        "catalogue": "2026.11.20",
        "name": "babadede",
        "country": "RU",
        "asn": 64496,
        "network": "fixed",
        "network_changes": 1,
        "rounds": Counter({"m": 7, "control": 7}),
        "rounds_skipped": Counter({"late": 2}),
        "checks_skipped": Counter({"packet_budget": 3}),
        "lag": lag,
        "durations": {"stun": durations},
        "budget_bytes": 2**20,
        "sent_bytes": 1000,
        "received_bytes": 2000,
        "reloaded_at": AT,
        "calibrated_at": AT - 5,
        **given,
    }
    return AgentFigures(**values)


def update(**given: Any) -> Update:
    values: dict[str, Any] = {
        "agent": agent_figures(),
        "targets": {
            ("m", "relay"): target_figures(),
            ("m", "site"): target_figures(WEB, rtt=None),
            ("control", "c"): target_figures(CONTROL, "foreign", certificate_expiry=None),
        },
        "channels": {("m", "call"): ChannelFigures(0.75)},
        "report": report(),
        "titles": {"m": "Messy"},
        "ready": True,
        "reset": True,
        **given,
    }
    return Update(**values)


def mirror(**given: Any) -> Mirror:
    made = Mirror()
    made.apply(update(**given), 1000.0)
    return made
