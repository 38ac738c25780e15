"""What is remembered of media streams between rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.beside import left_unanswered
from agent.rounds import Ran
from agent.streams import is_kept, kept
from probes.model import Observation


@dataclass(slots=True)
class StreamLog:
    """``runs``: the last of each media target, by messenger and name, the newest last.
    ``twin_silent``: when the twin last left a whole stream unanswered, Unix seconds."""

    runs: dict[str, dict[str, tuple[Observation, ...]]] = field(default_factory=dict)
    twin_silent: float | None = None

    def note(self, name: str, ran: Ran, now: float) -> None:
        """Add what a round learned, and forget what is long ago (Unix seconds)."""
        seen = [o for f in ran.finished for o in f.measured.observations if is_kept(o)]
        if left_unanswered(seen):
            self.twin_silent = now
        theirs = self.runs.setdefault(name, {})
        for target in {o.target.name for o in seen} | set(theirs):
            its = [o for o in seen if o.target.name == target]
            theirs[target] = kept(theirs.get(target, ()), its, now)

    def of(self, name: str) -> Mapping[str, tuple[Observation, ...]]:
        return self.runs.get(name, {})

    def drop(self, void: Callable[[Observation], bool]) -> None:
        for theirs in self.runs.values():
            for target, runs in theirs.items():
                theirs[target] = tuple(o for o in runs if not void(o))

    def forget(self) -> None:
        """Another network."""
        self.runs.clear()
