"""From runs of media streams to what they mean for a call: is it bad, and for whom only? Pure.

A run is judged once, when it is over, and a verdict looks at the last runs; nothing is tested again
at every look. What a pair excludes depends on the control:

| control | is the target's | so a target that is worse than it is not explained by |
|---|---|---|
| dress | relay and port, asked in other words | line, path, server |
| tcp | owner, at other servers, over TCP | line, path to the owner |
| twin | shape, at a server of the operator's own | line, and what is done to all such packets |
| stun | shape, at a stranger's server | the same, if that server's own path is good |

Trouble on the way to one operator makes its target worse than the twin, as a filter would. So the
twin alone accuses nobody: there the same site over TCP decides. Where TCP fares as badly, it is the
path; where TCP is clean, and what the target does not lose waited in no queue, somebody sorts. A
worse dress decides by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from probes.model import Mechanism
from probes.wire.badness import BAD, SURE, is_lossy, sounds_bad
from probes.wire.chance import at_least, at_most
from probes.wire.paired import LOSS

CONTROLS = ("dress", "tcp", "twin", "stun")
CLEARLY = 1e-5
"""Chance of so few bad round trips over TCP, had they the stream's share: all else that keeps a bad
path from being called a filter hangs on it."""
LAST, ENOUGH = 3, 2
"""Of the last runs, so many must agree."""
QUEUE, QUEUE_SHARE = 0.01, 0.1
"""Seconds, and a share of the smallest RTT, by which the median may be above that without a queue:
a full one holds ten milliseconds at the least, as switches are built, and mostly far more."""
LATE_SHARE = 0.25
"""Of the bad packets of somebody who drops them: more than the line delays by itself."""
STEADY = 0.25
"""Of the variance of independent loss: so little is left to chance where a limit lets a fixed
number through, and by chance in one of 500 runs of thirty seconds."""
SLACK, ALARM = 0.5, 10.0
"""CUSUM's k and h: one false alarm in 141,000 runs, and 20 runs to see a drift of 1 sigma."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One control of a run and how the target compared with it (probes/wire/paired.py); its median,
    smallest and 95th percentile of RTT, seconds."""

    control: str
    worse: bool
    z: float
    requests: int
    bad_ratio: float
    rtt: float | None = None
    rtt_min: float | None = None
    rtt_p95: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run at one target. ``companion_*``: the once-a-second stream on another socket to the
    same place; ``only``: the direction that alone was bad by the twin's counts, or ""; ``rtt``,
    ``rtt_min``, ``rtt_p95``: the target's median, smallest and 95th percentile, seconds;
    ``loss_ratio``: the part of ``bad_ratio`` that never came; ``silent``: it ended before it was
    over, and for good."""

    at: float
    requests: int
    bad_ratio: float
    burst_ratio: float = 1.0
    mouth_to_ear: float | None = None
    dispersion: float | None = None
    pairs: tuple[Pair, ...] = ()
    companion_requests: int = 0
    companion_bad_ratio: float = 0.0
    only: str = ""
    rtt: float | None = None
    rtt_min: float | None = None
    rtt_p95: float | None = None
    loss_ratio: float | None = None
    silent: bool = False

    def pair(self, *controls: str) -> Pair | None:
        return next((pair for pair in self.pairs if pair.control in controls), None)


@dataclass(frozen=True, slots=True)
class Heard:
    """``bad``: the last run, None without one; ``mechanism`` is None while nothing is known of the
    cause; ``firm``: at least two different controls say so, or one that leaves nothing open;
    ``only``: the one bad direction."""

    bad: bool | None
    mechanism: Mechanism | None = None
    firm: bool = False
    only: str = ""
    drifting: bool = False


def run_of(at: float, facts: Mapping[str, Any]) -> Run | None:
    """A run from the facts of its observation; None when it says nothing of quality.

    The target's facts have their plain names, those of each control begin with its name (``twin_``:
    ``requests``, ``bad_ratio`` and the pair's ``worse`` and ``z``), those of the companion with
    ``companion_``.
    """
    if not facts.get("requests") or "bad_ratio" not in facts:
        return None
    return Run(
        at=at,
        requests=int(facts["requests"]),
        bad_ratio=float(facts["bad_ratio"]),
        burst_ratio=float(facts.get("burst_ratio", 1.0)),
        mouth_to_ear=facts.get("mouth_to_ear_seconds"),
        dispersion=facts.get("loss_dispersion"),
        pairs=tuple(
            Pair(
                control,
                bool(facts[f"{control}_worse"]),
                float(facts[f"{control}_z"]),
                int(facts[f"{control}_requests"]),
                float(facts[f"{control}_bad_ratio"]),
                facts.get(f"{control}_rtt_seconds"),
                facts.get(f"{control}_rtt_min_seconds"),
                facts.get(f"{control}_rtt_p95_seconds"),
            )
            for control in CONTROLS
            if f"{control}_worse" in facts and f"{control}_bad_ratio" in facts
        ),
        companion_requests=int(facts.get("companion_requests", 0)),
        companion_bad_ratio=float(facts.get("companion_bad_ratio", 0.0)),
        only=str(facts.get("one_way", "")),
        rtt=facts.get("rtt_seconds"),
        rtt_min=facts.get("rtt_min_seconds"),
        rtt_p95=facts.get("rtt_p95_seconds"),
        loss_ratio=facts.get("loss_ratio"),
        silent="silent_after_seconds" in facts,
    )


def hear(runs: Sequence[Run], nearest: float | None = None) -> Heard:
    """What the runs of one target say, newest last. ``nearest``: the smallest RTT ever seen there,
    seconds; without it the smallest of these runs."""
    if not runs:
        return Heard(None)
    bad = is_bad(runs[-1])
    mechanism, firm = _cause(runs, least(runs) if nearest is None else nearest)
    return Heard(bad, mechanism, firm, one_way(runs), drifting(runs))


def _cause(runs: Sequence[Run], nearest: float | None) -> tuple[Mechanism | None, bool]:
    general = _agree(runs, lambda run: is_bad(run) and bad_beside(run, "twin", "stun"))
    if rate_limited(runs) and not general:
        return Mechanism.RATE_LIMITED, False
    if targeted(runs, nearest):
        return Mechanism.MEDIA_DEGRADED_TARGETED, True
    if _agree(runs, lambda run: worse(run, "twin") or worse(run, "stun")):
        return Mechanism.PATH_DEGRADED, _agree(runs, lambda run: bad_beside(run, "tcp", "dress"))
    return (Mechanism.MEDIA_DEGRADED_GENERAL, True) if general else (None, False)


# --- one run ---


def is_bad(run: Run) -> bool:
    """Would a call have been bad: lost or late at least 5 %, or a score below 3.6?

    So much must be seen, and more than a line with 2 % shows in one of a hundred runs: of thirty
    packets four are needed, of 1,500 seventy-five. Runs of lost packets count for fewer.
    """
    return sounds_bad(run.bad_ratio, run.requests, run.burst_ratio, run.mouth_to_ear)


def worse(run: Run, control: str) -> bool:
    pair = run.pair(control)
    return pair is not None and pair.worse


def bad_beside(run: Run, *controls: str) -> bool:
    """Was a control bad too, so that the target is not alone?"""
    pairs = [pair for pair in run.pairs if pair.control in controls]
    return any(is_lossy(pair.bad_ratio, pair.requests) and not pair.worse for pair in pairs)


# --- the last runs ---


def _agree(runs: Sequence[Run], said: Callable[[Run], bool]) -> bool:
    return sum(map(said, runs[-LAST:])) >= ENOUGH


def targeted(runs: Sequence[Run], nearest: float | None) -> bool:
    """Worse in two of the last three runs than the same relay in another dress. Or than the same
    shape elsewhere, while the same site is clean over TCP: the one excludes the line, which may
    treat UDP worse than TCP, the other the path; and where no queue is full (``is_prompt``)."""
    if _agree(runs, lambda run: worse(run, "dress")):
        return True
    alone = _agree(runs, lambda run: worse(run, "twin"))
    return alone and clean_over_tcp(runs) and is_prompt(runs, nearest) is True


def clean_over_tcp(runs: Sequence[Run]) -> bool:
    """Did TCP to the site fare better than the target, and no worse than a server elsewhere?

    Of the last three runs together, since there are few round trips in each. If TCP has its share
    of the trouble, only less of it, then a part of the way there is bad, one of several links say,
    and the target's flow had the worse part.
    """
    seen = [(run, tcp) for run in runs[-LAST:] if (tcp := run.pair("tcp")) is not None]
    if len(seen) < ENOUGH:
        return False
    of = sum(tcp.requests for _, tcp in seen)
    bad = round(sum(tcp.bad_ratio * tcp.requests for _, tcp in seen))
    target = fmean(run.bad_ratio for run, _ in seen)
    # By counts: few round trips beside many packets make one-sided differences, which signs of
    # blocks would take for more than they are.
    if target - bad / of < LOSS or at_most(bad, of, target) >= CLEARLY:
        return False
    others = [other.bad_ratio for run, _ in seen if (other := run.pair("twin", "stun")) is not None]
    return not others or at_least(bad, of, fmean(others)) >= SURE / 3


def least(runs: Sequence[Run]) -> float | None:
    """The smallest RTT of them all, seconds."""
    return min((run.rtt_min for run in runs if run.rtt_min is not None), default=None)


def is_prompt(runs: Sequence[Run], nearest: float | None) -> bool | None:
    """In two of the last three runs: does what comes back come as soon as ever? ``nearest``: the
    smallest RTT ever seen there, seconds. None where that is not known.

    A link or a server that has too much to do loses packets because its queue is full, and what it
    does not lose waits in that queue. Who drops packets on purpose delays no others. A queue on the
    line delays the control's packets too.
    """
    if nearest is None:
        return None
    told = [it for run in runs[-LAST:] if (it := _is_prompt(run, nearest)) is not None]
    return sum(told) >= ENOUGH if len(told) >= ENOUGH else None


def _is_prompt(run: Run, nearest: float) -> bool | None:
    """Neither its median nor its 95th percentile took longer than at best, beyond what the
    control's did; and hardly any of the bad packets came too late instead of never."""
    beside = run.pair("twin", "stun")
    if run.rtt is None or beside is None or beside.rtt is None or beside.rtt_min is None:
        return None
    slack = max(QUEUE, QUEUE_SHARE * nearest)
    if run.rtt - nearest - (beside.rtt - beside.rtt_min) > slack:
        return False
    tails = None if run.rtt_p95 is None or beside.rtt_p95 is None else (run.rtt_p95, beside.rtt_p95)
    if tails and tails[0] - nearest - (tails[1] - beside.rtt_min) > 2 * slack:
        return False
    late = 0.0 if run.loss_ratio is None else run.bad_ratio - run.loss_ratio
    return late <= LATE_SHARE * run.bad_ratio


def rate_limited(runs: Sequence[Run]) -> bool:
    """Is it the pace that is bad, and not the place?

    Either one packet a second to the same place is fine meanwhile: over the last runs together,
    since a companion has few packets; with the stream's own share so few of them would be bad in
    one of three hundred cases. Or the same number gets through every second, in two of the last
    three runs: a limit for everything from here, which the companion feels too. It looks the same
    whether the server limits or somebody on the way; nobody is accused.
    """
    if not is_bad(runs[-1]):
        return False
    if _agree(runs, _is_steady):
        return True
    last = [run for run in runs[-LAST:] if run.companion_requests]
    if not last:
        return False
    fast = sum(run.bad_ratio * run.requests for run in last) / sum(run.requests for run in last)
    of = sum(run.companion_requests for run in last)
    bad = round(sum(run.companion_bad_ratio * run.companion_requests for run in last))
    return bad < BAD * of and at_most(bad, of, fast) < SURE / 3


def _is_steady(run: Run) -> bool:
    return is_bad(run) and run.dispersion is not None and run.dispersion < STEADY


def one_way(runs: Sequence[Run]) -> str:
    """The direction that alone was bad in two of the last three runs, or ""."""
    for side in ("up", "down"):
        if _agree(runs, lambda run, side=side: run.only == side):  # type: ignore[misc]
            return side
    return ""


def drifting(runs: Sequence[Run]) -> bool:
    """Is the target a little worse than its controls, run after run, since some time?

    For what grows too slowly for single runs. Where a target needs two controls to be singled out,
    the smaller difference counts.
    """
    return cusum([z for run in runs if (z := _difference(run)) is not None]) >= ALARM


def _difference(run: Run) -> float | None:
    if (dress := run.pair("dress")) is not None:
        return dress.z
    tcp, twin = run.pair("tcp"), run.pair("twin")
    return min(tcp.z, twin.z) if tcp is not None and twin is not None else None


def cusum(differences: Sequence[float], slack: float = SLACK) -> float:
    """Page's sum of standardised differences beyond ``slack``, as it stands after the last."""
    total = 0.0
    for z in differences:
        total = max(0.0, total + z - slack)
    return total
