"""From what came of packets with hop limits to the stretch of the path at which they die. Pure.

Between the last hop that the trigger demonstrably reached unharmed and the first at which something
was done to it; the hops are those of the trigger's own flow, and the control is what tells a silent
router from a filter. interference-methods 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from probes.net.hops import SOMEBODY, Seen, Teardown
from probes.trace.teardown import Origin, copied, judged

ENOUGH = 5
"""Runs that must agree (CenTrace's figure)."""
MOST = 11
"""Runs at most."""
COPIES = 3
"""Hop limits at which the answer's must have risen alike."""


class Sign(StrEnum):
    """What is done to the trigger, as it shows at full hop limit and not to the control."""

    RESET = "reset"
    REFUSED = "refused"
    CUT = "flow cut off"
    FORGED = "forged answer"
    SILENCE = "drop"


class Placement(StrEnum):
    IN_PATH = "in_path"
    ON_PATH = "on_path"
    ENDPOINT = "endpoint"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Probed:
    """One hop limit in one run. ``control``: what came of the harmless packet; ``alive``: did
    harmless packets with all hops still pass on the flow afterwards, None where nobody answers;
    ``forged``: was there an answer that cannot be the server's?"""

    trigger: Seen
    control: Seen
    alive: bool | None = None
    forged: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One flow: its hop limits in rising order. ``distance``: the hop limit at which packets reach
    the server, None where that is not known; ``caught``: was the trigger acted upon at all?
    ``full``: what came of it with all hops; ``elicits``: does the server say something that may be
    tampered with though the trigger itself does not reach it?"""

    port: int
    hops: Mapping[int, Probed]
    distance: int | None
    caught: bool
    controls: Mapping[int, Seen] = field(default_factory=dict)
    full: Probed | None = None
    elicits: bool = True

    @property
    def teardowns(self) -> list[Teardown]:
        """All that were captured, by rising hop limit."""
        each = [probed for _, probed in sorted(self.hops.items())]
        each += [self.full] if self.full else []
        return [one for probed in each for one in probed.trigger.teardowns]

    @property
    def routers(self) -> tuple[str, ...]:
        """From the first hop on; "" for a silent one."""
        last = self.distance or max((*self.hops, *self.controls), default=0) + 1
        return tuple(self._router(k) for k in range(1, last))

    def _router(self, k: int) -> str:
        probed = self.hops.get(k)
        for seen in (self.controls.get(k), probed and probed.trigger):
            if seen and seen.expired and seen.expired != SOMEBODY:
                return seen.expired
        return ""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Acted upon between hop ``low`` (0 is this host) and hop ``high``; None: somewhere behind."""

    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """``agree`` of ``runs`` allow this very stretch; ``caught`` of ``flows`` were acted upon;
    ``paths``: so many did they take."""

    stretch: Stretch | None
    placement: Placement
    agree: int
    runs: int
    caught: int
    flows: int
    paths: int
    routers: tuple[str, ...] = field(default=())


def acted_upon(k: int, probed: Probed, distance: int | None, signs: frozenset[Sign]) -> bool | None:
    """Was something done to the trigger on its first ``k`` hops? None: nobody can tell."""
    trigger, control = probed.trigger, probed.control
    before_server = distance is None or k < distance
    if probed.forged:
        return True
    if trigger.reset and (before_server or Sign.RESET in signs):
        return True
    if trigger.refused and not control.refused:
        return True
    if trigger.answers and distance is not None and k < distance:
        return True  # nobody who could answer was reached
    if trigger.answers and distance is None and Sign.FORGED in signs and not control.answers:
        return True
    if Sign.CUT in signs and probed.alive is not None:
        return not probed.alive
    if trigger.expired:
        return False
    if trigger.answers:
        return False
    if signs <= {Sign.RESET} and Sign.RESET in signs:
        return False  # it comes sooner than the server's answer, which was waited for
    if Sign.SILENCE in signs and trigger.silent and (control.expired or control.answers):
        return True
    return None


def stretch(run: Run, signs: frozenset[Sign]) -> Stretch | None:
    """None where the run contradicts itself, or was not acted upon."""
    if not run.caught:
        return None
    found = {k: acted_upon(k, p, run.distance, signs) for k, p in sorted(run.hops.items())}
    untouched = [k for k, acted in found.items() if acted is False]
    touched = [k for k, acted in found.items() if acted]
    low = max(untouched, default=0)
    if Sign.FORGED in signs and (hop := _copied(run)):
        return Stretch(hop, hop + 1)
    if Sign.RESET in signs and (hop := copied(run.teardowns)):
        return Stretch(hop, hop + 1)
    last = run.distance
    if Sign.RESET in signs and last and not run.elicits and min(touched, default=last) >= last:
        return Stretch(0, last)  # a server's answer made a reset shows there only
    if not touched:
        return Stretch(low, run.distance if run.distance and run.distance > low else None)
    high = min(touched)
    return None if low > high else Stretch(low, high)


def _copied(run: Run) -> int | None:
    """The hop of a forger whose answers have what the question had left of its hop limit: they show
    at about twice its distance, with a TTL that rises with the question's. 3.6 point 4."""
    told = {
        k: min(ttls)
        for k, probed in run.hops.items()
        if (ttls := [a.ttl for a in probed.trigger.answers if a.ttl is not None])
    }
    away = {k - ttl for k, ttl in told.items()}
    if len(told) < COPIES or len(away) != 1:
        return None
    return max((away.pop() + 1) // 2, 0)


def placement(runs: Sequence[Run], signs: frozenset[Sign], found: Stretch) -> Placement:
    """On the path where the trigger went on behind it: it ran out at a later router as well."""
    distance = next((run.distance for run in runs if run.distance), None)
    if distance is not None and found.low >= distance - 1:
        return Placement.ENDPOINT
    behind = [
        (k, p)
        for run in runs
        if run.caught
        for k, p in run.hops.items()
        if found.high is not None and k >= found.high and (run.distance is None or k < run.distance)
    ]
    whose = judged([one for run in runs for one in run.teardowns], distance)
    if whose is not None and whose.origin is Origin.REWRITTEN:
        return Placement.IN_PATH
    if whose is not None and whose.origin is Origin.INJECTED:
        torn = [p for _, p in behind if p.trigger.teardowns]
        if any(p.trigger.expired for p in torn):
            return Placement.ON_PATH
        if any(p.control.expired for p in torn):
            return Placement.IN_PATH
    if not signs & {Sign.RESET, Sign.FORGED}:
        return Placement.IN_PATH  # what does not arrive was taken
    forged = [p for _, p in behind if p.trigger.answers and Sign.FORGED in signs]
    if any(p.trigger.expired for p in forged):
        return Placement.ON_PATH
    if any(p.control.expired for p in forged):
        return Placement.IN_PATH  # others ran out there and were reported, these were not
    # A reset may stand beside a trigger that goes on where the answers are rewritten.
    return Placement.UNKNOWN


def is_last(runs: Sequence[Run], low: int) -> bool:
    """Was no router behind hop ``low`` heard of on the control's way either?"""
    return not any(
        seen.expired
        for run in runs
        for k, seen in (*run.controls.items(), *((k, p.control) for k, p in run.hops.items()))
        if k > low
    )


def place(runs: Sequence[Run], signs: frozenset[Sign]) -> Place:
    """What all runs say together; runs that contradict each other widen the stretch."""
    caught = [run for run in runs if run.caught]
    each = [stretch(run, signs) for run in caught]
    valid = [one for one in each if one is not None]
    paths = _paths([run.routers for run in runs])
    routers = max(
        (run.routers for run in caught or runs), key=lambda r: sum(map(bool, r)), default=()
    )
    counts = len(caught), len(runs), paths
    if not valid:
        return Place(None, Placement.UNKNOWN, 0, len(caught), *counts, routers)
    found = _together(valid)
    agree = sum(_allows(one, found) for one in valid)
    return Place(found, placement(runs, signs, found), agree, len(caught), *counts, routers)


def _together(each: Sequence[Stretch]) -> Stretch:
    """The narrowest that all allow, or what covers them all."""
    highs = [one.high for one in each if one.high is not None]
    low, high = max(one.low for one in each), min(highs, default=None)
    if high is None or low < high:
        return Stretch(low, high)
    return Stretch(min(one.low for one in each), None if len(highs) < len(each) else max(highs))


def _allows(one: Stretch, found: Stretch) -> bool:
    """Does it say nothing narrower, or elsewhere?"""
    if one.low > found.low:
        return False
    return one.high is None or (found.high is not None and one.high >= found.high)


def _paths(each: Sequence[tuple[str, ...]]) -> int:
    """How many there are, where a silent router may be any."""
    different: list[tuple[str, ...]] = []
    for path in sorted(each, key=lambda p: -sum(map(bool, p))):
        if not any(
            all(a == b or not a or not b for a, b in zip(path, other, strict=False))
            for other in different
        ):
            different.append(path)
    return max(len(different), 1)


def settled(runs: Sequence[Run], signs: frozenset[Sign], *, mixed: bool = False) -> bool:
    """Is another run of no use? ``mixed``: some flows are known to be acted upon and others not, so
    that none among a few says little."""
    nothing = len(runs) >= ENOUGH and not any(run.caught for run in runs)
    if len(runs) >= MOST or (nothing and not mixed):
        return True
    each = Counter(stretch(run, signs) for run in runs if run.caught)
    each.pop(None, None)
    return bool(each) and each.most_common(1)[0][1] >= ENOUGH
