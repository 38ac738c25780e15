"""Rising hop limits: how far a harmless packet goes, and a trigger after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from probes.net.hops import Seen
from probes.trace.place import Probed, Sign, acted_upon

LONGEST = 30
"""Hops."""
BEHIND = 2
"""Hops that are looked at behind the first at which something was done."""
GAP = 6
"""Silent hops in a row after which nothing more is expected."""


def caught(full: Probed, signs: frozenset[Sign]) -> bool:
    """Was it acted upon with all hops?"""
    seen = full.trigger
    if Sign.FORGED in signs:
        return False  # only what comes from the way says so
    if Sign.CUT in signs and full.alive:
        return seen.reset or bool(seen.refused)  # a server need not answer what comes second
    return seen.reset or bool(seen.refused) or full.alive is False or not seen.answers


def acts(hops: dict[int, Probed], distance: int | None, signs: frozenset[Sign]) -> bool:
    return any(acted_upon(k, p, distance, signs) for k, p in hops.items())


async def sweep(ask: Callable[[int], Awaitable[Seen]]) -> tuple[dict[int, Seen], int | None]:
    """Rising hop limits until the server answers; also its distance, where it does."""
    seen: dict[int, Seen] = {}
    for hops in range(1, LONGEST + 1):
        seen[hops] = await ask(hops)
        if seen[hops].answers:
            return seen, hops
        if all(seen[k].silent for k in range(max(1, hops - GAP + 1), hops + 1)) and hops >= GAP:
            break
    last = max((k for k, one in seen.items() if not one.silent), default=0)
    return {k: one for k, one in seen.items() if k <= last + 1}, None


Trigger = Callable[[int, Seen, bool], Awaitable[Probed]]


async def rise(
    trigger: Trigger, controls: dict[int, Seen], distance: int | None, signs: frozenset[Sign]
) -> dict[int, Probed]:
    """Until something was done to it, and a little further."""
    hops: dict[int, Probed] = {}
    behind = quiet = 0
    for k in range(1, (distance or max(controls, default=0)) + 1):
        hops[k] = await trigger(k, controls.get(k, Seen()), not behind)
        acted = acted_upon(k, hops[k], distance, signs)
        behind = behind + 1 if acted or behind else 0
        quiet = quiet + 1 if hops[k].trigger.silent else 0
        if behind > BEHIND or quiet > GAP or (acted and hops[k].alive is False):
            break
    return hops
