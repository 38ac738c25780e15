"""The web process's copy of the agent's figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporters.feed import AgentFigures, ChannelFigures, TargetFigures, TargetKey, Update
from probes.model import Diagnosis, Report, Vantage


@dataclass(slots=True)
class Mirror:
    """``changed`` counts updates, so that renderings can be cached, ``told`` those that
    say something of channels; ``heard`` is when the last one came (monotonic seconds)."""

    agent: AgentFigures = field(default_factory=AgentFigures)
    targets: dict[TargetKey, TargetFigures] = field(default_factory=dict)
    channels: dict[tuple[str, str], ChannelFigures] = field(default_factory=dict)
    at: float = 0.0
    vantage: Vantage | None = None
    channel_diagnoses: dict[tuple[str, str], Diagnosis] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    ready: bool = False
    changed: int = 0
    told: int = 0
    heard: float = 0.0

    @property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        return tuple(self.channel_diagnoses.values())

    @property
    def report(self) -> Report | None:
        """Everything that is known of the channels; None before the first update."""
        return None if self.vantage is None else Report(self.at, self.vantage, self.diagnoses)

    @property
    def versions(self) -> dict[str, str]:
        a = self.agent
        return {"version": a.version, "rules": a.rules, "catalogue": a.catalogue}

    def apply(self, update: Update, now: float) -> None:
        if update.reset:
            self.targets.clear()
            self.channels.clear()
            self.channel_diagnoses.clear()
            self.vantage = None
        self.agent = update.agent
        self.targets.update(update.targets)
        self.channels.update(update.channels)
        if update.report is not None:
            self.at, self.vantage = update.report.at, update.report.vantage
            for d in update.report.diagnoses:
                self.channel_diagnoses[(d.messenger, d.channel)] = d
        self.titles = update.titles or self.titles
        if update.reset or update.report is not None or update.ready != self.ready:
            self.told += 1
        self.ready = update.ready
        self.changed += 1
        self.heard = now
