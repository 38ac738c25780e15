"""Whose is a teardown: forged on the way, the server's own, or the server's answer made one. Pure.

interference-methods 3.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from probes.net.hops import FULL, Teardown

USUAL = (64, 128, 255)
"""What hop limits start at."""
SOONER = 0.8
"""Of the connection's round trip: nothing that comes earlier is the server's."""
COPIES = 3
"""Hop limits along which a TTL must rise alike; two where one of them is the host's own."""


class Origin(StrEnum):
    INJECTED = "injected"
    REWRITTEN = "rewritten"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Judged:
    """``evidence``: ``distance`` (it passed another number of routers than the server's SYN-ACK),
    ``early``, ``not_reached`` (the server had not got what it answers), ``ip_id`` (zero where the
    server's is not, or the other way round; alone it says nothing); ``copies`` the hop limit of
    what it answers."""

    origin: Origin
    evidence: tuple[str, ...]
    copies: bool


def away(ttl: int) -> int:
    """Routers passed, by the nearest usual start above."""
    return next((start for start in USUAL if start >= ttl), 255) - ttl


def evidence(teardown: Teardown, distance: int | None) -> frozenset[str]:
    found = set()
    if teardown.server_ttl is not None and away(teardown.ttl) != away(teardown.server_ttl):
        found.add("distance")
    if teardown.rtt is not None and teardown.seconds < SOONER * teardown.rtt:
        found.add("early")
    if distance is not None and FULL < teardown.hops < distance:
        found.add("not_reached")
    if teardown.server_id is not None and bool(teardown.id) != bool(teardown.server_id):
        found.add("ip_id")
    return frozenset(found)


def judged(teardowns: Sequence[Teardown], distance: int | None) -> Judged | None:
    """All of one trace together; None without a reset among them."""
    each = [evidence(one, distance) for one in teardowns if "R" in one.flags]
    if not each:
        return None
    on_the_way = [found for found in each if "not_reached" in found] or each
    foreign = [found for found in on_the_way if found & {"distance", "early"}]
    copies = copied(teardowns) is not None
    if copies or 2 * len(foreign) > len(on_the_way):
        origin = Origin.INJECTED
    elif "not_reached" in on_the_way[0] and all(one.server_ttl is not None for one in teardowns):
        # As far away and as late as the server's own packets, though it knew of no reason.
        origin = Origin.REWRITTEN
    else:
        origin = Origin.UNCLEAR
    return Judged(origin, tuple(sorted(frozenset().union(*each))), copies)


def copied(teardowns: Iterable[Teardown]) -> int | None:
    """The hop of a forger whose resets have what its trigger had left of its hop limit."""
    resets = [one for one in teardowns if "R" in one.flags]
    told = {one.hops or USUAL[0]: one.ttl for one in resets}
    distances = {hops - ttl for hops, ttl in told.items()}
    enough = COPIES - (USUAL[0] in told)
    if len(told) < max(enough, 2) or len(distances) != 1:
        return None
    return max((distances.pop() + 1) // 2, 0)
