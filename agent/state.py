"""State over time: what a channel is said to be, as against what the last round saw. Pure.

A worse state is entered after ``enter`` bad rounds in a row, left after ``leave`` good ones; rounds
that the vantage spoiled count for nothing. See docs/decisions/0004 for why it is done so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from agent.callflow import CUT_OFF, KIND
from agent.confirm import Named, recount
from agent.diagnosis import PACED
from agent.streams import HEARD
from probes.model import Diagnosis, Status

SEVERITY = {Status.OK: 0, Status.DEGRADED: 1, Status.BLOCKED: 2, Status.UNREACHABLE: 2}
WINDOW = 20
"""Rounds over which a channel that comes and goes is told from one that works."""
STEADY = 0.98
"""Share of the control attempts that are answered on a line of which nothing is lost."""
UNKNOWN_AFTER = 2
"""Rounds without a measurement until a confirmed state is no longer shown."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``spacing``: seconds that two counted rounds are apart at least."""

    enter: int
    leave: int
    spacing: float


@dataclass(frozen=True, slots=True)
class Vote:
    """One counted round: what it saw, and the share of control attempts that were answered."""

    at: float
    status: Status
    controls: float


@dataclass(frozen=True, slots=True)
class ChannelState:
    """``confirmed`` is None until something was decided; ``votes`` are the counted rounds since the
    last change, ``window`` the last rounds whatever happened; ``unmeasured`` counts rounds in a row
    that said nothing."""

    confirmed: Status | None = None
    since: float | None = None
    intermittent: bool = False
    votes: tuple[Vote, ...] = ()
    window: tuple[Vote, ...] = field(default=())
    unmeasured: int = 0
    named: tuple[Named, ...] = ()
    """What was found while the channel was not ok."""

    @property
    def success_ratio(self) -> float | None:
        if not self.window:
            return None
        return sum(v.status is Status.OK for v in self.window) / len(self.window)

    @property
    def shown(self) -> Status:
        if self.confirmed is None or self.unmeasured >= UNKNOWN_AFTER:
            return Status.UNKNOWN
        return self.confirmed

    def undecided(self) -> bool:
        """Is a change under way that more measuring would decide?"""
        return self.confirmed is None or (
            bool(self.votes) and self.votes[-1].status is not self.confirmed
        )


def fold(
    state: ChannelState,
    status: Status,
    at: float,
    controls: float,
    policy: Policy,
    *,
    spoiled: bool = False,
    news: bool = True,
) -> ChannelState:
    """The state after one round that saw ``status``; ``unknown`` means it said nothing.

    ``spoiled``: the vantage had no working controls in it. Rounds in a row means just that, so the
    count of bad or good ones begins anew behind such a round. Without ``news`` the status rests on
    what earlier rounds saw, and has had its vote.
    """
    if status is Status.UNKNOWN:
        votes = _before_run(state) if spoiled else state.votes
        return replace(state, unmeasured=state.unmeasured + 1, votes=votes)
    # A clock that was set back must not stop the counting.
    if not news or (state.window and 0 <= at - state.window[-1].at < policy.spacing):
        return replace(state, unmeasured=0)
    vote = Vote(at, status, controls)
    votes = (*state.votes, vote)[-max(WINDOW, policy.leave, policy.enter) :]
    window = (*state.window, vote)[-WINDOW:]
    state = replace(state, votes=votes, window=window, unmeasured=0)
    return _comes_and_goes(_move(state, policy))


def noted(
    state: ChannelState, raw: Diagnosis, at: float, policy: Policy, *, counts: bool
) -> ChannelState:
    """With what this round found, when it ``counts``; what is ok again is forgotten. What is found
    of the line, while it hides the channel, names nothing that was done to that."""
    if state.confirmed is Status.OK and raw.status is Status.OK:
        return replace(state, named=()) if state.named else state
    if not counts or not raw.findings or raw.status is Status.UNKNOWN:
        return state
    return replace(state, named=recount(state.named, raw.findings, at, policy.spacing))


def is_news(raw: Diagnosis, confirmed: Status | None, concluded: frozenset[str]) -> bool:
    """Did this round itself see what ``raw`` says beyond what is confirmed?

    ``concluded``: the targets of which it learned something. An observation stays evidence for
    several rounds, but has one vote.
    """
    if raw.status is Status.UNKNOWN or raw.status is confirmed:
        return True
    if confirmed is None and raw.status is Status.OK:
        return True  # the first good round is believed at once
    seen = [t for t in raw.targets if t.proven and t.target.name in concluded]
    if raw.reason in PACED:
        return any(t.target.probe == "transfer" for t in seen)
    if raw.reason == HEARD:
        return any(t.target.probe == "media" for t in seen)
    if raw.reason == CUT_OFF:
        return any(t.target.probe == KIND for t in seen)
    if raw.reason == "addresses":
        return bool(seen)
    worse = confirmed is None or SEVERITY[raw.status] > SEVERITY[confirmed]
    return any(t.works is False for t in seen) if worse else bool(seen)


def resumed(state: ChannelState, now: float, horizon: float) -> ChannelState:
    """``state`` after a pause in the measuring: rounds are in a row no longer than ``horizon``."""
    if state.votes and now - state.votes[-1].at > horizon:
        return replace(state, votes=_before_run(state))
    return state


def _before_run(state: ChannelState) -> tuple[Vote, ...]:
    """The votes without the last run of those that disagree with the confirmed state."""
    votes = state.votes
    while votes and votes[-1].status is not state.confirmed:
        votes = votes[:-1]
    return votes


def _move(state: ChannelState, policy: Policy) -> ChannelState:
    if state.confirmed is None and state.votes[-1].status is Status.OK:
        return _enter(state, Status.OK, state.votes[-1].at)
    current = -1 if state.confirmed is None else SEVERITY[state.confirmed]
    worse = _run(state.votes, policy.enter)
    if worse:
        mildest = min(worse, key=lambda vote: SEVERITY[vote.status])
        if SEVERITY[mildest.status] > current:
            return _enter(state, _mostly(worse, mildest.status), worse[0].at)
        if state.confirmed is Status.UNREACHABLE and _all(worse, Status.BLOCKED):
            return _enter(state, Status.BLOCKED, worse[0].at)
    better = _run(state.votes, policy.leave)
    if better and not state.intermittent:
        worst = max(better, key=lambda vote: SEVERITY[vote.status])
        if SEVERITY[worst.status] < current:
            entered = _enter(state, worst.status, better[0].at)
            return replace(entered, votes=_since(better, worst.status))
        if state.confirmed is Status.BLOCKED and _all(better, Status.UNREACHABLE):
            return _enter(state, Status.UNREACHABLE, better[0].at)
    return state


def _mostly(votes: tuple[Vote, ...], mildest: Status) -> Status:
    """A contrast may be missing in one round of a block: what most of them said decides."""
    if SEVERITY[mildest] < SEVERITY[Status.BLOCKED]:
        return mildest
    blocked = sum(vote.status is Status.BLOCKED for vote in votes)
    return Status.BLOCKED if 2 * blocked > len(votes) else Status.UNREACHABLE


def _since(votes: tuple[Vote, ...], status: Status) -> tuple[Vote, ...]:
    """From the last vote of this status on: what is milder behind it counts towards leaving it."""
    last = max(i for i, vote in enumerate(votes) if vote.status is status)
    return votes[last + 1 :] or votes[-1:]


def _all(votes: tuple[Vote, ...], status: Status) -> bool:
    return all(vote.status is status for vote in votes)


def _run(votes: tuple[Vote, ...], length: int) -> tuple[Vote, ...]:
    return votes[-length:] if len(votes) >= length else ()


def _enter(state: ChannelState, status: Status, since: float) -> ChannelState:
    last = state.votes[-1:]
    return replace(state, confirmed=status, since=since, intermittent=False, votes=last)


def _comes_and_goes(state: ChannelState) -> ChannelState:
    """10-90 % good over a full window while the controls were at 98 %: degraded, intermittent.

    At least three changes between good and bad keep one ordinary outage with its recovery from
    being called intermittent.
    """
    if len(state.votes) < WINDOW:
        return state
    votes = state.votes[-WINDOW:]
    good = [vote.status is Status.OK for vote in votes]
    share = sum(good) / WINDOW
    changes = sum(a is not b for a, b in pairwise(good))
    controls = sum(vote.controls for vote in votes) / WINDOW
    comes_and_goes = 0.1 <= share <= 0.9 and changes >= 3 and controls >= STEADY
    if comes_and_goes and not state.intermittent:
        since = state.since if state.confirmed is Status.DEGRADED else votes[0].at
        return replace(state, confirmed=Status.DEGRADED, since=since, intermittent=True)
    if state.intermittent and share < 0.1:
        return replace(state, intermittent=False)
    if state.intermittent and share > 0.9:
        return replace(
            state, confirmed=Status.OK, since=votes[-1].at, intermittent=False, votes=votes[-1:]
        )
    return state


@dataclass(frozen=True, slots=True)
class Steady:
    """A word with the same patience: another one is shown after two rounds in a row that said it.

    For the vantage: a flap of half a minute must not turn every channel to unknown.
    """

    shown: str = ""
    candidate: str = ""
    count: int = 0

    def step(self, seen: str, calm: frozenset[str]) -> Steady:
        """``calm`` words are adopted at once, and so is the very first word."""
        if not self.shown or seen in calm or seen == self.shown:
            return Steady(seen)
        count = self.count + 1 if seen == self.candidate else 1
        if count >= UNKNOWN_AFTER:
            return Steady(seen)
        return Steady(self.shown, seen, count)
