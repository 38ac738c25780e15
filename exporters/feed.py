"""What the agent tells its web process: figures and the newest report, in small pieces.

/metrics and the page are rendered in a process of their own, because rendering in the agent's loop,
or in a thread beside it, delays measurements by ten milliseconds and more. The agent sends only
what changed; the web process keeps a mirror.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from exporters import streams
from exporters.histogram import Histogram
from exporters.streams import StreamFigures
from probes.model import Failure, Observation, Report, Step, Target

TargetKey = tuple[str, str]
"""Messenger and target name."""

DURATION_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.5, 5.0, 10.0, 20.0, 30.0)
LAG_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0)


@dataclass(slots=True)
class TargetFigures:
    """One target's series. Gauges are None until measured, and stale after ``expires``."""

    target: Target
    role: str
    proof: str
    runs: int = 0
    failures: Counter[tuple[Step, Failure]] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    success: bool | None = None
    family: str = "any"
    rtt: float | None = None
    steps: dict[Step, float] = field(default_factory=dict)
    last_run: float | None = None
    expires: float = 0.0
    proven: bool = False
    certificate_expiry: float | None = None
    streams: dict[str, StreamFigures] = field(default_factory=dict)


@dataclass(slots=True)
class ChannelFigures:
    """One channel's series beside what the diagnosis says."""

    success_ratio: float | None = None


@dataclass(slots=True)
class AgentFigures:
    """The agent's own series. Counters by messenger, or by reason."""

    version: str = ""
    rules: str = ""
    catalogue: str = ""
    signed: bool = False
    name: str = ""
    country: str = ""
    asn: int = 0
    network: str = ""
    network_changes: int = 0
    rounds: Counter[str] = field(default_factory=Counter)
    rounds_skipped: Counter[str] = field(default_factory=Counter)
    checks_skipped: Counter[str] = field(default_factory=Counter)
    contrasts_skipped: Counter[str] = field(default_factory=Counter)
    lag: Histogram = field(default_factory=lambda: Histogram(LAG_BUCKETS))
    durations: dict[str, Histogram] = field(default_factory=dict)
    budget_bytes: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    storage_healthy: bool = True
    reload_ok: bool = True
    reloaded_at: float = 0.0
    calibrated_at: float | None = None


@dataclass(slots=True)
class Update:
    """One message to the web process: what changed. ``report`` has the diagnoses that changed;
    ``reset`` drops every target and diagnosis that came before."""

    agent: AgentFigures
    targets: dict[TargetKey, TargetFigures] = field(default_factory=dict)
    channels: dict[tuple[str, str], ChannelFigures] = field(default_factory=dict)
    report: Report | None = None
    titles: dict[str, str] = field(default_factory=dict)
    ready: bool = False
    reset: bool = False


@dataclass(frozen=True, slots=True)
class ReloadAnswer:
    """``problems`` is empty when the new configuration runs."""

    problems: tuple[str, ...]


def record(
    figures: TargetFigures, observations: tuple[Observation, ...], shown: Observation | None
) -> None:
    """Add one run to a target's figures; ``shown`` is the observation that stands for it."""
    figures.runs += 1
    for o in observations:
        failed = o.failed
        if failed and failed.failure:
            figures.failures[(failed.step, failed.failure)] += 1
        if not o.facts.get("shared"):  # its packets are another target's, asked the same thing
            figures.sent += _count(o, "sent")
            figures.received += _count(o, "received")
    if shown is None:
        return
    figures.last_run = max(o.at for o in observations)
    figures.family = shown.family or figures.family
    if shown.target.probe == "media":
        streams.record(figures.streams, shown)
    rtt = shown.facts.get("rtt_seconds")
    figures.rtt = float(rtt) if isinstance(rtt, (int, float)) else None
    steps = {step.step: step.seconds for step in shown.steps}
    # Between handshakes only the connect step is asked: the other steps' last run stands.
    figures.steps = figures.steps | steps if shown.partial and shown.ok else steps
    expiry = shown.facts.get("certificate_not_after")
    if isinstance(expiry, (int, float)):
        figures.certificate_expiry = float(expiry)


def _count(observation: Observation, key: str) -> int:
    value = observation.facts.get(key, 0)
    return int(value) if isinstance(value, (int, float)) else 0


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What ``/probe`` answers: ``status`` is 200 where something was measured, else ``text`` says
    why not; ``number`` is the question's. ``seconds`` is how long it took, ``limit`` how long it
    might have taken, ``age`` how long ago it was; ``late`` that it was cut off at its limit.
    ``module``: its settings, for ``debug=true``."""

    status: int
    text: str = ""
    number: int = 0
    kind: str = ""
    observations: tuple[Observation, ...] = ()
    seconds: float = 0.0
    limit: float = 0.0
    age: float = 0.0
    late: bool = False
    module: dict[str, object] = field(default_factory=dict)
