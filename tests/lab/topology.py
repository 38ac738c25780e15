"""What a path's routers are like, where they are not one honest row: silence, limits, branches.

```
Topology(
    answers=(Answers(3, silent=True), Answers(5, icmp_rate=1.0, icmp_burst=3)),
    branches=(Branches(4, 6, count=2),),
    detour=Detour(hops=2),
)
```

Declarations without state, as those of ``censor.py``: ``path.py`` puts them to work. Whoever
declares nothing has the row of routers that always answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.actions import IN
from tests.lab.chance import draw_for
from tests.lab.engine import flow_key
from tests.lab.packet import Packet

# A subscriber's provider, a carrier, and a second one that the servers are at. The addresses look
# public, since the agent treats special-purpose ones with suspicion; none is used outside the lab.
ROUTERS = (
    ("95.24.112.1", "2a02:2698:8c21:7::1"),  # the subscriber's gateway
    ("95.24.0.9", "2a02:2698:a000::9"),  # the provider, where filters sit
    ("95.24.0.254", "2a02:2698:a000::254"),  # its border
    ("62.115.44.161", "2001:2034:1:7c::1"),  # transit
    ("62.115.139.22", "2001:2034:1:7d::1"),
    ("62.115.141.240", "2001:2034:1:83::1"),
    ("62.115.120.6", "2001:2034:1:8a::1"),
    ("62.115.123.13", "2001:2034:1:91::1"),
    ("80.231.158.29", "2a01:3e0:ff10:20::1"),  # the second carrier
    ("80.231.154.17", "2a01:3e0:ff10:21::1"),
    ("80.231.65.74", "2a01:3e0:ff10:33::1"),
    ("80.231.152.50", "2a01:3e0:ff10:4c::1"),
)

Hop = tuple[bytes, bytes]  # a router's IPv4 and IPv6 address


def routers(count: int) -> tuple[tuple[str, str], ...]:
    """The first so many; raises ValueError where there are not as many."""
    if not 1 <= count <= len(ROUTERS):
        raise ValueError(f"a path has 1 to {len(ROUTERS)} hops, not {count}")
    return ROUTERS[:count]


def parallel(hop: Hop, branch: int) -> Hop:
    """The router on another branch at the same hop: its neighbour in the same network. Branch 0 is
    the router itself."""
    v4, v6 = hop
    last = 1 + (v4[-1] - 1 + 16 * branch) % 254
    return v4[:-1] + bytes((last,)), v6[:-2] + bytes((v6[-2] ^ (branch << 4), v6[-1]))


@dataclass(frozen=True, slots=True)
class Answers:
    """How the routers at ``hop`` answer when a hop count runs out there.

    ``silent``: never. Otherwise from a bucket of ``icmp_burst`` answers that ``icmp_rate`` a second
    refill, each router its own, both families together. ``branch`` None: all routers of that hop.
    Rules are filters beside a router and inject what they like.
    """

    hop: int
    silent: bool = False
    icmp_rate: float = math.inf
    icmp_burst: int = 1
    branch: int | None = None

    def __post_init__(self) -> None:
        if not self.icmp_rate > 0 or self.icmp_burst < 1:
            raise ValueError(f"a router that never answers is silent: {self}")


@dataclass(frozen=True, slots=True)
class Branches:
    """From hop ``first`` to hop ``last`` there are ``count`` rows of routers instead of one.

    A flow is its 5-tuple (IPv6: without the flow label) and stays on one branch, drawn from
    ``seed``. Its packets from the servers take the same one, or with ``own_way_back`` one drawn for
    themselves. What has no ports, ICMP and later fragments, is one flow per pair of addresses.
    """

    first: int
    last: int
    count: int = 2
    seed: int = 1
    own_way_back: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.first <= self.last and 2 <= self.count <= 4):
            raise ValueError(f"no such branches: {self}")

    def taken(self, packet: Packet, direction: str) -> int:
        """The number of the branch, from 0, that a packet goes along."""
        seed = ~self.seed if self.own_way_back and direction == IN else self.seed
        return int(draw_for(seed, flow_key(packet, direction)) * self.count)


@dataclass(frozen=True, slots=True)
class Detour:
    """What comes from beyond hop ``behind`` passes so many ``hops`` more on its way to the client.

    They have no names and do not answer. ``behind`` None is the last hop: then only what servers
    send has a longer way, and no router's own word.
    """

    hops: int = 0
    behind: int | None = None

    def __post_init__(self) -> None:
        if self.hops < 0:
            raise ValueError("a detour is longer, not shorter")


@dataclass(frozen=True, slots=True)
class Topology:
    """``answers`` of one hop: the first that names the router's branch, or none, holds."""

    answers: tuple[Answers, ...] = ()
    branches: tuple[Branches, ...] = ()
    detour: Detour = Detour()

    def check(self, hops: int) -> None:
        """Raises ValueError if it does not fit a path of so many hops."""
        named = [answers.hop for answers in self.answers]
        named += [hop for part in self.branches for hop in (part.first, part.last)]
        named += [] if self.detour.behind is None else [self.detour.behind]
        for hop in named:
            if not 1 <= hop <= hops:
                raise ValueError(f"there is no hop {hop}")
        within = [hop for part in self.branches for hop in range(part.first, part.last + 1)]
        if len(within) != len(set(within)):
            raise ValueError("branches overlap")
        for answers in self.answers:
            self.check_branch(answers.hop, answers.branch)

    def check_branch(self, hop: int, branch: int | None) -> None:
        """Raises ValueError if there is no such branch at that hop."""
        part = self.branching(hop)
        if branch is not None and not (part and 0 <= branch < part.count):
            raise ValueError(f"there is no branch {branch} at hop {hop}")

    def branching(self, hop: int) -> Branches | None:
        return next((part for part in self.branches if part.first <= hop <= part.last), None)

    def behind(self, hops: int) -> int:
        """The hop on the servers' side of which a detour begins."""
        return hops if self.detour.behind is None else self.detour.behind


class Manners:
    """When the routers of a path answer; the state that belongs to ``Topology.answers``."""

    def __init__(self, answers: Sequence[Answers]) -> None:
        self._answers = answers
        self._left: dict[tuple[int, int], tuple[float, float]] = {}  # answers, and since when

    def answer(self, hop: int, branch: int, now: float) -> bool:
        """May the router say now that a hop count ran out? If so, it has."""
        for answers in self._answers:
            if answers.hop == hop and answers.branch in (None, branch):
                break
        else:
            return True
        if answers.silent or answers.icmp_rate == math.inf:
            return not answers.silent
        left, since = self._left.get((hop, branch), (float(answers.icmp_burst), now))
        left = min(answers.icmp_burst, left + (now - since) * answers.icmp_rate)
        may = left >= 1
        self._left[hop, branch] = (left - may, now)
        return may
