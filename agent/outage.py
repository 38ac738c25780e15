"""What an outage of the line spoils beyond the rounds in which no control answers: what went on for
long when it began, and what was asked before it was over. Neither is anybody's doing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.pace import is_transfer
from agent.rounds import Runner
from agent.streams import is_kept
from probes.model import Observation

Drop = Callable[[Callable[[Observation], bool]], None]


@dataclass(slots=True)
class Outage:
    """``_before``: when the last round began that was not in one, Unix seconds."""

    _before: float = 0.0
    _during: bool = False

    def step(
        self, down: bool, slept: bool, at: float, runners: Iterable[Runner], *drops: Drop
    ) -> bool:
        """The controls of the round of ``at`` (Unix seconds) have answered, or not. Is it the first
        after an outage? Of what fails in it, nobody knows when it was asked. ``slept``: the host
        did; ``drops``: those who remember observations."""
        if down or slept:
            for runner in runners:
                runner.void_streams()
                for seen in runner.seen.values():
                    if any(map(self._cut, seen.conclusive)):
                        seen.conclusive, seen.at = (), None
            for drop in drops:
                drop(self._cut)
        else:
            self._before = at
        over, self._during = self._during and not down, down
        return over

    def _cut(self, o: Observation) -> bool:
        """Was it going on when the line went down, or since, and failed?"""
        lasts = is_kept(o) or is_transfer(o)
        return lasts and not o.ok and o.at + o.seconds >= self._before
