"""The web process's copy of the agent's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exporters.feed import AgentFigures, ChannelFigures, TargetFigures, TargetKey, Update
from probes.model import Diagnosis, Report


@dataclass(slots=True)
class Mirror:
    """``changed`` counts updates, so that renderings can be cached; ``heard`` is when the last one
    came (monotonic seconds)."""

    agent: AgentFigures = field(default_factory=AgentFigures)
    targets: dict[TargetKey, TargetFigures] = field(default_factory=dict)
    channels: dict[tuple[str, str], ChannelFigures] = field(default_factory=dict)
    report: Report | None = None
    titles: dict[str, str] = field(default_factory=dict)
    ready: bool = False
    changed: int = 0
    heard: float = 0.0

    @property
    def diagnoses(self) -> Sequence[Diagnosis]:
        return self.report.diagnoses if self.report else ()

    @property
    def versions(self) -> dict[str, str]:
        a = self.agent
        return {"version": a.version, "rules": a.rules, "catalogue": a.catalogue}

    def apply(self, update: Update, now: float) -> None:
        if update.reset:
            self.targets.clear()
            self.channels.clear()
            self.report = None
        self.agent = update.agent
        self.targets.update(update.targets)
        self.channels.update(update.channels)
        self.report = update.report or self.report
        self.titles = update.titles or self.titles
        self.ready = update.ready
        self.changed += 1
        self.heard = now
