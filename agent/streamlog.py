"""What is remembered of media streams between rounds, and of the owner's TCP meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.facts import count
from agent.rounds import Ran
from agent.sighting import over_tcp
from agent.streams import is_kept, kept
from probes.model import Observation

ROUNDS = 60
"""Rounds of which TCP connections are counted."""
RUNS = 2
"""Runs of a stream during which they tell something of its way."""


@dataclass(slots=True)
class StreamLog:
    """By messenger: the last runs of each media target, the newest last; and of each round how many
    TCP connections there were, and how many of them lost a packet."""

    runs: dict[str, dict[str, tuple[Observation, ...]]] = field(default_factory=dict)
    _tcp: dict[str, deque[tuple[float, int, int]]] = field(default_factory=dict)

    def note(self, name: str, ran: Ran, now: float) -> None:
        """Add what a round learned."""
        seen = [o for f in ran.finished for o in f.measured.observations]
        theirs = self.runs.setdefault(name, {})
        for target in {o.target.name for o in seen if is_kept(o)} | set(theirs):
            its = [o for o in seen if o.target.name == target and not o.facts.get("shared")]
            theirs[target] = kept(theirs.get(target, ()), its, now)
        tcp = [o for o in over_tcp(seen) if "retransmissions" in o.facts]
        dragged = sum(count(o, "retransmissions") > 0 for o in tcp)
        self._tcp.setdefault(name, deque(maxlen=ROUNDS)).append((now, len(tcp), dragged))

    def of(self, name: str) -> Mapping[str, tuple[Observation, ...]]:
        return self.runs.get(name, {})

    def owner_tcp(self, name: str) -> tuple[int, int]:
        """Connections and those that lost a packet, since the last but one run of a stream began.

        ``(0, 0)`` without one.
        """
        began = [runs[-RUNS:][0].at for runs in self.of(name).values() if runs]
        if not began:
            return 0, 0
        rounds = [it for it in self._tcp.get(name, ()) if it[0] >= min(began)]
        return sum(asked for _, asked, _ in rounds), sum(dragged for _, _, dragged in rounds)

    def forget(self) -> None:
        """Another network."""
        self.runs.clear()
        self._tcp.clear()
