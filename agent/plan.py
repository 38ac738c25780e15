"""Which checks a round asks, and how deep. Pure.

Fast kinds are asked every round. Handshakes make the peer do public-key work and trip burst rules:
they are asked every ``handshake_interval``, with their connect step alone in between, and every
round while something has just changed and is not decided yet. A channel's handshakes are spread
over the interval: a filter is met by the first of them and not only when the turn of all comes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from config.model import TargetConfig

PER_ROUND = 8
"""Connections per messenger, channel and kind in one round; more trips connection-burst rules, so
larger groups rotate, the longest unasked first. Controls do not: they are of many operators, and a
dead line must show in one round."""
JITTER = 0.2
"""A round comes after the interval and up to a fifth of it more (design 7)."""
DAY = 86400 / (1 + JITTER / 2)
"""Seconds of a day as the plan sees it: rounds are half the jitter longer on average."""
_LONGEST_WAIT = 450.0
"""Seconds of the longest residual window (case.py)."""
_CONNECTS = ("tcp", "tls", "https")
CONNECT_BYTES = 350
_MOST = 24.0
"""How much more rarely a budget may make what it stretches."""
_FEWER_STREAMS = 1.5
"""And streams, before anything else: they are meant to come every ten minutes to fifteen."""
_TOLERANCE = 0.02
"""Share of an interval by which a check may come early, so that jitter skips no round."""


@dataclass(frozen=True, slots=True)
class Asked:
    """When a target was last asked: at all, and to the end. Unix seconds, 0 for never. Before
    ``until`` its name is not asked again: a filter may remember that it saw it."""

    run: float = 0.0
    full: float = 0.0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """Seconds between runs of each kind, the budget's stretch already in it. ``phase``: where in
    its interval an agent's transfers come, 0 to 1, so that not all agents ask at midnight."""

    interval: float
    handshake_interval: float
    transfer_interval: float = 6 * 3600.0
    media_interval: float = 600.0
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """``deferred``: it would have been asked to the end, and is not yet for the residual window."""

    target: TargetConfig
    partial: bool
    deferred: bool = False


def plan(
    targets: Sequence[TargetConfig],
    asked: Mapping[str, Asked],
    undecided: frozenset[str],
    cadence: Cadence,
    now: float,
) -> list[Ask]:
    """The checks of one round in the order in which they start.

    ``undecided`` names the channels whose state is not settled: they are asked in full.
    """
    due: list[Ask] = []
    phases = _phases(targets, cadence)
    for target in targets:
        seen = asked.get(target.target.name, Asked())
        pressing = target.target.channel in undecided
        wanted = _is_due(target, seen, cadence, pressing, phases.get(target.target.name), now)
        waits = wanted and _waits(seen, cadence, now)
        if wanted and not waits:
            due.append(Ask(target, partial=False))
        elif _connects_between(target) and _elapsed(now, seen.run, cadence.interval):
            due.append(Ask(target, partial=True, deferred=waits))
    chosen = _rotate(due, asked, undecided)
    # Two dresses at one relay share its one check a minute: whoever went without comes first.
    chosen.sort(key=lambda ask: _waiting_since(ask, asked))
    return chosen


def _waiting_since(ask: Ask, asked: Mapping[str, Asked]) -> float:
    seen = asked.get(ask.target.target.name, Asked())
    return seen.run if ask.partial else seen.full


def interval_of(target: TargetConfig, cadence: Cadence) -> float:
    """Seconds between full runs of a target."""
    if target.interval is not None:
        return target.interval
    if _transfers(target):
        return cadence.transfer_interval
    if is_stream(target):
        return cadence.media_interval
    return cadence.handshake_interval if target.probe.handshake else cadence.interval


def turn_of(target: TargetConfig, cadence: Cadence, group_size: int) -> float:
    """Seconds within which a target's turn comes: its interval, longer where a group rotates."""
    rounds = math.ceil(group_size / PER_ROUND) if _rotates(target) else 1
    return max(interval_of(target, cadence), rounds * cadence.interval)


def _phases(targets: Sequence[TargetConfig], cadence: Cadence) -> dict[str, float]:
    """Where in the interval the turn of each handshake or stream comes, by target, for channels of
    several.
    Controls are left together: whether the line works is judged by all of them."""
    channels: dict[tuple[str, str], list[str]] = {}
    for target in targets:
        if _shakes_in_turn(target):
            channels.setdefault((target.target.channel, ""), []).append(target.target.name)
        elif is_stream(target) and target.interval is None:
            kind = target.target.probe
            channels.setdefault((target.target.channel, kind), []).append(target.target.name)
    return {
        name: (cadence.phase + index / len(names)) % 1
        for names in channels.values()
        if len(names) > 1
        for index, name in enumerate(names)
    }


def _shakes_in_turn(target: TargetConfig) -> bool:
    ours = target.interval is None and target.role is None
    return ours and target.probe.handshake and not _transfers(target)


def is_stream(target: TargetConfig) -> bool:
    """Does it send a paced train, which outlasts a round?"""
    return hasattr(target.probe, "stream_packets")


def _is_due(
    target: TargetConfig,
    seen: Asked,
    cadence: Cadence,
    pressing: bool,
    phase: float | None,
    now: float,
) -> bool:
    interval = interval_of(target, cadence)
    if _transfers(target):
        return _is_on_grid(seen.full, interval, cadence.phase, now)
    if pressing and target.interval is None:
        interval = min(interval, cadence.interval)
    elif phase is not None:
        return _is_on_grid(seen.full, interval * (1 + JITTER / 2), phase, now)
    return _elapsed(now, seen.full, interval)


def _is_on_grid(since: float, interval: float, phase: float, now: float) -> bool:
    """Due when a line of the grid was passed after the one that ``since`` was nearest to: the first
    time at once, the second half an interval to one and a half later, from then on once in each.
    Whatever was left out is due in the next round, and in step with the others at the next line."""
    if since <= 0 or since > now:
        return True
    return math.floor(now / interval - phase) > math.floor(since / interval - phase + 0.5)


def _waits(seen: Asked, cadence: Cadence, now: float) -> bool:
    # A clock that was set back must not stop the asking.
    return now < seen.until - _TOLERANCE * cadence.interval and seen.until - now <= _LONGEST_WAIT


def _elapsed(now: float, since: float, interval: float) -> bool:
    # A clock that was set back must not stop the asking.
    return since > now or now - since >= interval * (1 - _TOLERANCE)


def _transfers(target: TargetConfig) -> bool:
    return target.target.probe == "transfer"


def _connects_between(target: TargetConfig) -> bool:
    return target.probe.handshake and target.interval is None and target.target.probe in _CONNECTS


def _rotates(target: TargetConfig) -> bool:
    return target.target.probe in _CONNECTS and target.role is None


def group_of(target: TargetConfig) -> tuple[str, str, str]:
    """Messenger, channel and kind: what rotates together."""
    return target.target.messenger, target.target.channel, target.target.probe


def _rotate(due: list[Ask], asked: Mapping[str, Asked], undecided: frozenset[str]) -> list[Ask]:
    groups: dict[tuple[str, str], list[Ask]] = {}
    for ask in due:
        target = ask.target.target
        groups.setdefault((target.channel, target.probe), []).append(ask)
    chosen: list[Ask] = []
    for (channel, _kind), group in groups.items():
        if _rotates(group[0].target) and channel not in undecided:
            group.sort(key=lambda ask: asked.get(ask.target.target.name, Asked()).run)
            group = group[:PER_ROUND]
        chosen += group
    return chosen


def bytes_a_day(targets: Sequence[TargetConfig], cadence: Cadence) -> tuple[float, float]:
    """Planned bytes a day: what must be asked, and what handshakes and transfers add (they can be
    stretched; a control's transfer too, which goes with those of the messengers)."""
    fixed = stretchable = 0.0
    sizes = group_sizes(targets)
    for target in targets:
        planned = planned_bytes(target, cadence, sizes[group_of(target)])
        stretches = _transfers(target) or is_stream(target)
        if stretches or (target.probe.handshake and not target.role):
            stretchable += planned
        else:
            fixed += planned
    return fixed, stretchable


def planned_bytes(target: TargetConfig, cadence: Cadence, group_size: int) -> float:
    """Bytes a day of one target, both directions, at one address per name or all pinned ones.

    ``group_size``: how many targets share its turns (``PER_ROUND``).
    """
    full, connects = runs_a_day(target, cadence, group_size)
    each = full * target.probe.bytes_per_run + connects * CONNECT_BYTES
    return float(each * max(1, len(target.addresses)))


def runs_a_day(target: TargetConfig, cadence: Cadence, group_size: int) -> tuple[float, float]:
    """Runs to the end and connect steps alone, at each of its addresses."""
    rotates = _rotates(target) and group_size > PER_ROUND
    turns = PER_ROUND / group_size if rotates else 1.0
    full = DAY / interval_of(target, cadence)
    connects = 0.0
    if _connects_between(target):
        connects = max(0.0, DAY / cadence.interval * turns - full)
    elif not target.probe.handshake:
        full *= turns
    if _transfers(target):
        full = 86400 / interval_of(target, cadence)  # on a grid, which jitter does not lengthen
    return full, connects


def group_sizes(targets: Sequence[TargetConfig]) -> Counter[tuple[str, str, str]]:
    """How many targets share turns, by ``group_of``."""
    return Counter(group_of(target) for target in targets)


def stretched(targets: Sequence[TargetConfig], cadence: Cadence, budget: float) -> Cadence:
    """The cadence whose plan fits the budget: streams are played more rarely, up to half as often
    again as they should, then transfers and handshakes are asked more rarely, up to 24 times, and
    at last the streams too; never STUN, DNS, connects and controls (design 7)."""

    def fits(slower: Cadence) -> bool:
        return sum(bytes_a_day(targets, slower)) <= budget

    kinds = (
        ("media_interval", any(map(is_stream, targets)), _FEWER_STREAMS),
        ("transfer_interval", any(map(_transfers, targets)), _MOST),
        ("handshake_interval", True, _MOST),
        ("media_interval", any(map(is_stream, targets)), _MOST),
    )
    for name, there, most in kinds:
        if fits(cadence):
            break
        if there:
            cadence = _rarer(cadence, name, most, fits)
    return cadence


def _rarer(cadence: Cadence, name: str, most: float, fits: Callable[[Cadence], bool]) -> Cadence:
    """With this interval longer by the smallest factor that fits, to a hundredth; by ``most`` when
    none does. What a rarer handshake saves, the connects in its place partly cost: no closed form.
    """

    def slower(factor: float) -> Cadence:
        return replace(cadence, **{name: getattr(cadence, name) * factor})

    enough = most
    for step in range(1, 12):
        factor = enough - most / 2**step
        if factor > 1 and fits(slower(factor)):
            enough = factor
    return slower(enough)
