"""Whose resets are, by what was captured of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from probes.net.hops import FULL, Seen, Teardown
from probes.trace.place import Placement, Probed, Run, Sign, Stretch, place
from probes.trace.teardown import Origin, away, copied, judged

SERVER = 6
SERVER_TTL = 59  # five routers passed


def teardown(hops: int, **changes: Any) -> Teardown:
    """As the server's own packets are in everything."""
    like = Teardown(hops, "RA", SERVER_TTL, 0, 0, (), 0.021, 0.020, SERVER_TTL, 0)
    return like._replace(**changes)


@pytest.mark.parametrize(
    ("ttl", "routers"), [(64, 0), (59, 5), (65, 63), (128, 0), (120, 8), (255, 0), (129, 126)]
)
def test_routers_passed(ttl, routers):
    assert away(ttl) == routers


@pytest.mark.parametrize(
    ("changes", "origin", "evidence"),
    [
        ({}, Origin.REWRITTEN, {"not_reached"}),
        ({"id": 7}, Origin.REWRITTEN, {"not_reached", "ip_id"}),  # Linux numbers data, not SYN-ACKs
        ({"ttl": 62}, Origin.INJECTED, {"not_reached", "distance"}),
        ({"seconds": 0.010}, Origin.INJECTED, {"not_reached", "early"}),
        ({"seconds": 0.017}, Origin.REWRITTEN, {"not_reached"}),
        ({"server_ttl": None, "server_id": None}, Origin.UNCLEAR, {"not_reached"}),
    ],
)
def test_whose_it_is(changes, origin, evidence):
    found = judged([teardown(k, **changes) for k in (4, 5)], SERVER)
    assert (found.origin, set(found.evidence), found.copies) == (origin, evidence, False)


def test_what_comes_when_the_server_was_reached_may_be_the_server_s_own():
    found = judged([teardown(FULL), teardown(SERVER)], SERVER)
    assert (found.origin, found.evidence) == (Origin.UNCLEAR, ())


def test_a_fin_is_no_reset():
    assert judged([teardown(4, flags="FA")], SERVER) is None


@pytest.mark.parametrize("hop", [1, 2, 3])
def test_one_who_copies_the_hop_limit_is_half_as_far_away(hop):
    """It gives what the trigger had left: that must last for the way back as well."""
    first = 2 * hop
    seen = [teardown(k, ttl=k - first + 1) for k in (first, first + 1)]
    seen.append(teardown(FULL, ttl=64 - first + 1))
    assert copied(seen) == hop
    assert judged(seen, 12).copies


def test_a_ttl_that_stays_is_nobody_s_copy():
    assert copied([teardown(k, ttl=62) for k in (3, 4, 5, FULL)]) is None
    assert copied([teardown(4, ttl=1)]) is None


def ran(torn: Callable[[int], Teardown], *, goes_on: bool, elicits: bool = True) -> Run:
    hops = {}
    for k in range(1, SERVER):
        router = Seen(expired=f"192.0.2.{k}")
        seen = Seen(expired=router.expired)
        if k > 2:
            seen = Seen(expired=router.expired * goes_on, reset=True, teardowns=[torn(k)])
        hops[k] = Probed(seen, router)
    return Run(1, hops, SERVER, True, elicits=elicits)


@pytest.mark.parametrize(
    ("changes", "goes_on", "placement"),
    [
        ({"ttl": 62}, True, Placement.ON_PATH),
        ({"ttl": 62}, False, Placement.IN_PATH),
        ({}, True, Placement.IN_PATH),  # nobody beside the path can change the server's packets
    ],
)
def test_beside_the_path_or_in_it(changes, goes_on, placement):
    runs = [ran(lambda k: teardown(k, **changes), goes_on=goes_on)]
    found = place(runs, frozenset({Sign.RESET}))
    assert (found.stretch, found.placement) == (Stretch(2, 3), placement)


def test_a_reset_only_at_the_server_may_come_from_anywhere_if_only_the_server_s_word_is_changed():
    hops = {k: Probed(Seen(expired="192.0.2.1"), Seen(expired="192.0.2.1")) for k in range(1, 6)}
    hops[SERVER] = Probed(Seen(reset=True), Seen())
    for elicits, stretch in ((False, Stretch(0, SERVER)), (True, Stretch(SERVER - 1, SERVER))):
        run = Run(1, hops, SERVER, True, elicits=elicits)
        assert place([run], frozenset({Sign.RESET})).stretch == stretch
