"""Every target's figures, as the rounds add to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.diagnosis import Evidence, main_observation, works
from agent.rounds import Ran
from config.model import TargetConfig
from exporters.feed import (
    DURATION_BUCKETS,
    AgentFigures,
    TargetFigures,
    TargetKey,
    record,
)
from exporters.histogram import Histogram
from probes.model import Family

SHOWN_FOR = 3
"""Turns after which a gauge of a target's last run disappears."""


class Ledger:
    def __init__(self, agent: AgentFigures) -> None:
        self.agent = agent
        self.targets: dict[TargetKey, TargetFigures] = {}

    def of(self, target: TargetConfig) -> TargetFigures:
        key = (target.target.messenger, target.target.name)
        if key not in self.targets:
            role = str(target.role) if target.role else ""
            self.targets[key] = TargetFigures(target.target, role, str(target.proof))
        return self.targets[key]

    def note(
        self,
        ran: Ran,
        evidence: Sequence[Evidence],
        families: frozenset[Family],
        turn: Callable[[TargetConfig], float],
        now: float,
    ) -> None:
        """Add what a round asked; families that do not work here are left out. ``turn``: seconds
        within which a target is asked again; ``now``: Unix time."""
        self.agent.checks_skipped.update(ran.skipped)
        for finished in ran.finished:
            target = finished.ask.target
            observations = tuple(
                o for o in finished.measured.observations if not o.family or o.family in families
            )
            if not observations:
                continue
            kind = target.target.probe
            if kind not in self.agent.durations:
                self.agent.durations[kind] = Histogram(DURATION_BUCKETS)
            self.agent.durations[kind].observe(finished.seconds)
            figures = self.of(target)
            record(figures, observations, main_observation(observations))
            if not finished.ask.partial or works(observations) is False:
                figures.success = works(observations)
            figures.expires = now + SHOWN_FOR * turn(target)
        for e in evidence:
            self.of(e.config).proven = e.proven
