"""Routers that are silent, limited, parallel, on a longer way back: by arithmetic, and for real."""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import packet as packets
from tests.lab.actions import IN, OUT, Drop
from tests.lab.censor import Censor, match, plain
from tests.lab.path import STRAIGHT, Arrival, Fate, Path, from_json, to_json
from tests.lab.skipping import require_lab
from tests.lab.talk import SERVER, Talk, address
from tests.lab.topology import (
    ROUTERS,
    Answers,
    Branches,
    Detour,
    Hop,
    Topology,
    parallel,
    routers,
)
from tests.lab.world import CLIENT_V4, CLIENT_V6, HOPS, RESOLVER_V4, RESOLVER_V6, World

LENGTH = 9
FLOWS = range(40000, 40200)
SERVER6 = "2001:67c:4e8:f002::a"


def packed(count: int = LENGTH) -> list[Hop]:
    return [(address(v4), address(v6)) for v4, v6 in routers(count)]


def made(topology: Topology = STRAIGHT, *rules: Censor, hops: int = LENGTH) -> Path:
    path = Path(packed(hops), topology=topology)
    for rule in rules:
        path.add(rule)
    return path


def answerer(fate: Fate) -> bytes | None:
    """Who says that the hop count ran out, None: nobody."""
    for arrival in fate.arrivals:
        answer = packets.parse(arrival.data)
        if answer.protocol in (packets.ICMP, packets.ICMPV6):
            assert arrival.direction == IN
            return answer.source
    return None


def asked(path: Path, ttl: int, now: float = 0.0, **ends: Any) -> bytes | None:
    return answerer(Talk(path, ttl=ttl, **ends).sends(OUT, b"?", now))


# Length


@pytest.mark.parametrize("count", [1, 5, 12])
@pytest.mark.parametrize(("server", "family"), [(SERVER, 0), (SERVER6, 1)])
def test_a_path_has_as_many_hops_as_asked_for(count: int, server: str, family: int) -> None:
    path = made(hops=count)
    found = [asked(path, ttl, server=server) for ttl in range(1, count + 2)]
    assert found == [*(hop[family] for hop in packed(count)), None]


def test_all_routers_look_public_and_differ_from_each_other() -> None:
    pairs = [parallel(hop, branch) for hop in packed(len(ROUTERS)) for branch in range(4)]
    seen = [packets.text(one) for pair in pairs for one in pair]
    seen += [CLIENT_V4, CLIENT_V6, RESOLVER_V4, RESOLVER_V6]
    assert all(ipaddress.ip_address(one).is_global for one in seen)
    assert len(set(seen)) == len(seen)
    assert routers(5) == HOPS
    for count in (0, 13):
        with pytest.raises(ValueError, match="hops"):
            routers(count)


# Answers


def test_a_silent_router_forwards_but_says_nothing() -> None:
    path = made(Topology((Answers(3, silent=True),)))
    assert [asked(path, ttl) is None for ttl in (2, 3, 4)] == [False, True, False]


def test_a_limited_router_answers_a_burst_and_then_at_its_rate() -> None:
    path = made(Topology((Answers(3, icmp_rate=2.0, icmp_burst=3),)))
    at_once = [asked(path, 3) is not None for _ in range(5)]
    assert at_once == [True, True, True, False, False]
    assert [asked(path, 3, now) is not None for now in (0.4, 0.6, 0.7, 1.1)] == [0, 1, 0, 1]
    assert sum(asked(path, 3, 60.0) is not None for _ in range(9)) == 3, "the bucket is full again"
    assert all(asked(path, 2, 60.0) for _ in range(9)), "the others have no limit"


def test_what_is_not_answered_takes_nothing_from_the_bucket() -> None:
    path = made(Topology((Answers(3, icmp_rate=0.001),)))
    about_errors = packets.time_exceeded(Talk(path).tcp(OUT, b"", 0, 0, 0), address(HOPS[0][0]))
    expiring = packets.with_ttl(packets.parse(about_errors), 3)
    assert not path.carry(packets.parse(expiring), OUT, 0.0).arrivals
    assert asked(path, 3)


# Branches


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(("server", "family"), [(SERVER, 0), (SERVER6, 1)])
def test_a_flow_stays_on_one_branch_and_flows_spread(count: int, server: str, family: int) -> None:
    path = made(Topology(branches=(Branches(4, 6, count),)))
    seen: dict[int, int] = dict.fromkeys(range(count), 0)
    for port in FLOWS:
        rows = [[parallel(packed()[hop - 1], b)[family] for hop in (4, 5, 6)] for b in seen]
        met = [asked(path, hop, server=server, port=port) for hop in (4, 5, 6)]
        assert met in rows
        seen[rows.index(met)] += 1
        outside = [asked(path, hop, server=server, port=port) for hop in (3, 7)]
        assert outside == [packed()[2][family], packed()[6][family]]
    assert min(seen.values()) > len(FLOWS) / count / 2


def test_the_flow_label_is_no_part_of_a_flow() -> None:
    path = made(Topology(branches=(Branches(4, 4, 4),)))
    for port in FLOWS[:20]:
        found = set()
        for label in (0, 1, 0xABCDE):
            segment = Talk(path, server=SERVER6, ttl=4, port=port).tcp(OUT, b"", 2, 7, 0)
            data = struct.pack("!I", 6 << 28 | label) + segment.data[4:]
            found.add(answerer(path.carry(packets.parse(data), OUT, 0.0)))
        assert len(found) == 1


def test_a_filter_on_one_branch_meets_the_flows_of_that_branch_both_ways() -> None:
    rule = plain("drop", hop=5, branch=1)
    path = made(Topology(branches=(Branches(4, 6),)), rule)
    there = parallel(packed()[4], 1)[0]
    stopped = 0
    for port in FLOWS:
        on_it = asked(path, 5, port=port) == there
        talk = Talk(path, port=port)
        assert [bool(talk.sends(side, b"?").arrivals) for side in (OUT, IN)] == [not on_it] * 2
        stopped += on_it
    assert 0 < stopped < len(FLOWS)


def test_the_way_back_may_take_a_branch_of_its_own() -> None:
    rule = plain("drop", hop=5, branch=1)
    path = made(Topology(branches=(Branches(4, 6, own_way_back=True),)), rule)
    passed = set()
    for port in FLOWS:
        talk = Talk(path, port=port)
        passed.add(tuple(bool(talk.sends(side, b"?").arrivals) for side in (OUT, IN)))
        assert len({bool(talk.sends(IN, b"?").arrivals) for _ in range(3)}) == 1
    assert len(passed) == 4


def test_a_filter_on_a_branch_rejects_by_the_address_of_its_router() -> None:
    path = made(Topology(branches=(Branches(4, 6, 4),)), plain("reject", hop=5, code=13))
    rows = {parallel(packed()[4], branch)[0] for branch in range(4)}
    found = {asked(path, 64, port=port) for port in FLOWS}
    assert found == rows
    assert all(asked(path, 64, port=p) == asked(path, 5, port=p) for p in FLOWS[:20])


def test_routers_of_one_hop_have_manners_of_their_own() -> None:
    answers = (Answers(5, silent=True, branch=1), Answers(5, icmp_rate=0.001))
    path = made(Topology(answers, (Branches(4, 6),)))
    found = [asked(path, 5, port=port) for port in FLOWS]
    assert [one for one in found if one] == [packed()[4][0]]
    path.set_topology(Topology((Answers(5, icmp_rate=0.001),), (Branches(4, 6),)))
    found = [asked(path, 5, port=port) for port in FLOWS]
    assert {one for one in found if one} == {parallel(packed()[4], branch)[0] for branch in (0, 1)}
    assert len([one for one in found if one]) == 2, "each has a bucket of its own"


# Filters before the hop count


def test_an_early_filter_takes_what_would_have_expired_at_its_router() -> None:
    for early, answers in ((False, [True, True, False]), (True, [True, False, False])):
        path = made(STRAIGHT, plain("drop", hop=4, early=early))
        assert [asked(path, ttl) is not None for ttl in (3, 4, 5)] == answers


def test_an_early_filter_still_sees_nothing_that_expired_before() -> None:
    path = made(STRAIGHT, plain("drop", hop=4, early=True))
    assert asked(path, 3) == packed()[2][0]
    assert path.rules[1].hits == 0


def test_an_early_filter_comes_before_those_that_are_not_both_ways() -> None:
    late, early = plain("drop", hop=4), plain("drop", hop=4, early=True)
    for rules, first in (((late, early), 2), ((early, late), 1)):
        for side in (OUT, IN):
            assert Talk(made(STRAIGHT, *rules)).sends(side).word == f"rule {first} drop"


def test_an_early_filter_comes_after_those_of_the_router_before_both_ways() -> None:
    for side, before in ((OUT, 3), (IN, 5)):
        for rules, first in (
            ((plain("drop", hop=before), plain("drop", hop=4, early=True)), 1),
            ((plain("drop", hop=4, early=True), plain("drop", hop=before)), 2),
        ):
            assert Talk(made(STRAIGHT, *rules)).sends(side).word == f"rule {first} drop"


# The way back


def arrived(fate: Fate, side: str) -> Arrival:
    (found,) = [arrival for arrival in fate.arrivals if arrival.direction == side]
    return found


def test_what_servers_send_has_a_longer_way_but_routers_words_do_not() -> None:
    straight, longer = made(), made(Topology(detour=Detour(3)))
    for path, left in ((straight, 64 - LENGTH), (longer, 64 - LENGTH - 3)):
        assert arrived(Talk(path).sends(IN), IN).ttl == left
        assert arrived(Talk(path).sends(OUT), OUT).ttl == 64 - LENGTH
        assert arrived(Talk(path, ttl=LENGTH).sends(OUT), IN).ttl == 64 - LENGTH + 1


def test_a_detour_in_the_middle_makes_only_what_comes_from_behind_it_late() -> None:
    path = made(Topology(detour=Detour(2, behind=4)))
    left = [arrived(Talk(path, ttl=hop).sends(OUT), IN).ttl for hop in (4, 5)]
    assert left == [64 - 3, 64 - 4 - 2]


def test_a_packet_meets_the_hops_before_and_after_a_detour_in_reverse() -> None:
    path = made(Topology(detour=Detour(2, behind=7)))
    found = []
    for ttl in range(1, LENGTH + 3):
        told = Talk(path, ttl=ttl).sends(IN).arrivals
        found.append(packets.parse(told[0].data).source if told else None)
    v4 = [hop[0] for hop in packed()]
    assert found == [v4[8], v4[7], None, None, *reversed(v4[:7])]
    assert arrived(Talk(path, ttl=LENGTH + 3).sends(IN), IN).ttl == 1


def test_a_filter_behind_the_detour_sees_the_lower_hop_count() -> None:
    for hops, met in ((0, True), (2, False)):
        path = made(Topology(detour=Detour(hops, behind=7)), plain("drop", hop=6))
        Talk(path, ttl=5).sends(IN)
        assert bool(path.rules[1].hits) is met


# Declarations


def test_declarations_cross_the_socket_unchanged() -> None:
    told = Topology(
        (Answers(3, silent=True), Answers(5, icmp_rate=1.5, icmp_burst=4, branch=1)),
        (Branches(4, 6, 4, seed=9, own_way_back=True),),
        Detour(2, behind=7),
    )
    assert from_json(json.loads(json.dumps(to_json(told)))) == told
    rule = Censor(match(), Drop(), hop=5, branch=1, early=True)
    assert from_json(json.loads(json.dumps(to_json(rule)))) == rule
    assert from_json(json.loads(json.dumps(to_json(Topology())))) == Topology()


@pytest.mark.parametrize(
    "topology",
    [
        Topology((Answers(10, silent=True),)),
        Topology((Answers(3, silent=True, branch=1),)),
        Topology((Answers(4, silent=True, branch=2),), (Branches(4, 6),)),
        Topology(branches=(Branches(8, 10),)),
        Topology(branches=(Branches(2, 4), Branches(4, 6))),
        Topology(detour=Detour(1, behind=10)),
    ],
)
def test_what_does_not_fit_the_path_is_refused(topology: Topology) -> None:
    with pytest.raises(ValueError, match=r"no hop|no branch|overlap"):
        made(topology)


def test_a_rule_needs_its_branch() -> None:
    rule = plain("drop", hop=5, branch=2)
    with pytest.raises(ValueError, match="no branch 2"):
        made(Topology(branches=(Branches(4, 6),)), rule)
    path = made(Topology(branches=(Branches(4, 6, 4),)), rule)
    with pytest.raises(ValueError, match="no branch 2"):
        path.set_topology(Topology())
    assert path.topology.branches, "what is refused changes nothing"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Answers(3, icmp_rate=0),
        lambda: Answers(3, icmp_burst=0),
        lambda: Branches(4, 3),
        lambda: Branches(4, 6, 1),
        lambda: Branches(4, 6, 5),
        lambda: Detour(-1),
    ],
)
def test_nonsense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"router|branches|detour"):
        wrong()


# For real

IP_RECVERR, IPV6_RECVERR = 11, 25  # <linux/in.h>, <linux/in6.h>
ECHO_V4, ECHO_V6 = "91.108.9.120", "2001:67c:4e8:f002::b"
LIMIT = Answers(5, icmp_rate=0.01, icmp_burst=2)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_lab()
    with World(ipv6=True, hops=LENGTH) as world:
        world.place([ECHO_V4, ECHO_V6])
        yield world


def complaint(world: World, server: str, ttl: int, wait: float) -> str | None:
    """One datagram of a new flow: which router says that its hop count ran out?"""
    six = ":" in server
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    with world.client_socket(socket.AF_INET6 if six else socket.AF_INET) as sock:
        sock.setsockopt(level, IPV6_RECVERR if six else IP_RECVERR, 1)
        sock.setsockopt(level, socket.IPV6_UNICAST_HOPS if six else socket.IP_TTL, ttl)
        sock.connect((server, 1400))
        sock.send(b"?")
        poll = select.poll()
        poll.register(sock, 0)  # errors alone
        if not poll.poll(wait * 1000):
            return None
        _, ancillary, _, _ = sock.recvmsg(64, 512, socket.MSG_ERRQUEUE)
    ((_, _, data),) = [it for it in ancillary if it[1] in (IP_RECVERR, IPV6_RECVERR)]
    kind = struct.unpack_from("=IBB", data)[2]
    assert kind == (3 if six else 11)
    return packets.text(data[24:40] if six else data[20:24])


@pytest.mark.lab
@pytest.mark.parametrize(("server", "family"), [(ECHO_V4, 0), (ECHO_V6, 1)])
def test_a_kernel_sees_the_routers_as_declared(world: World, server: str, family: int) -> None:
    world.rules.clear()
    world.rules.topology(Topology((Answers(3, silent=True), LIMIT), (Branches(7, 8),)))
    names = [hop[family] for hop in routers(LENGTH)]
    assert [complaint(world, server, ttl, 1.0) for ttl in (1, 2, 4, 9)] == [
        names[hop - 1] for hop in (1, 2, 4, 9)
    ]
    assert complaint(world, server, 3, 0.3) is None
    assert [complaint(world, server, 5, 0.3) for _ in range(3)] == [names[4], names[4], None]
    both = {packets.text(parallel(packed()[6], branch)[family]) for branch in (0, 1)}
    found = {complaint(world, server, 7, 1.0) for _ in range(24)}  # all alike once in 2**23
    assert found == both


@pytest.mark.lab
def test_clearing_straightens_the_path(world: World) -> None:
    world.rules.topology(Topology((Answers(3, silent=True),)))
    world.rules.clear()
    assert complaint(world, ECHO_V4, 3, 1.0) == routers(LENGTH)[2][0]
