"""What the controls say about the line, and the innocent worlds that look like others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.vantage import MASKING, Surroundings, judge
from probes.dns import DnsProbe
from probes.model import Failure, Family, Role, Step, VantageStatus
from tests.agent.building import control, result

QUIET = Surroundings()
BEFORE_TLS = (Step.CONNECT,)


def web(name, failure=None, step=Step.TLS, role=Role.FOREIGN, **given):
    return result(control(name, role), failure, step, **given)


def stun(name, failure=None, **given):
    return result(control(name, Role.STUN), failure, **given)


def portal_check(failure=None, **given):
    """Silence, or HTTP that is not what the check expects."""
    spoke = failure in (Failure.HTTP_STATUS, Failure.BAD_REPLY)
    facts = {"http_status": 200} if spoke else {}
    return result(control("portal", Role.PORTAL), failure, **{**facts, **given})


def line(*, foreign=None, domestic=None, udp=None, portal=None):
    """Four foreign, two domestic, three STUN, one portal control; one failure per kind."""
    return [
        *(web(f"f{n}", foreign) for n in range(4)),
        *(web(f"d{n}", domestic, role=Role.DOMESTIC) for n in range(2)),
        *(stun(f"s{n}", udp) for n in range(3)),
        portal_check(portal),
    ]


def status(results, around=QUIET):
    return judge(results, around).status


def test_all_well():
    found = judge(line(), QUIET)
    assert found.status is VantageStatus.ONLINE
    assert (found.names, found.abroad, found.share, found.controls) == (True, True, 1.0, True)
    assert found.families == {Family.IPV4}
    assert not found.masks
    assert found.notes == ()


T = Failure.TIMEOUT


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (line(foreign=T, domestic=T, udp=T, portal=T), VantageStatus.OFFLINE),
        (line(foreign=T, domestic=T, udp=T, portal=Failure.HTTP_STATUS), VantageStatus.PORTAL),
        (line(foreign=T, domestic=T, udp=T, portal=Failure.BAD_REPLY), VantageStatus.PORTAL),
        (line(portal=Failure.HTTP_STATUS), VantageStatus.ONLINE),  # that server's own trouble
        (line(foreign=T, portal=Failure.HTTP_STATUS), VantageStatus.PORTAL),
        (line(portal=T), VantageStatus.ONLINE),
        (line(udp=T), VantageStatus.RESTRICTED),
        (line(foreign=T), VantageStatus.RESTRICTED),
        (line(foreign=T, udp=T), VantageStatus.RESTRICTED),
        (line(domestic=T), VantageStatus.ONLINE),
    ],
)
def test_statuses(results, expected):
    assert status(results) is expected


def test_masking_statuses_are_those_of_the_design():
    assert {str(s) for s in MASKING} == {"offline", "portal", "tunnelled", "faulty"}


# --- portal ----------------------------------------------------------------------------------


def test_one_odd_answer_to_one_of_two_portal_checks_is_no_portal():
    other = result(control("other", Role.PORTAL), None)
    results = [*line(foreign=T, domestic=T), portal_check(Failure.HTTP_STATUS)]
    assert status([*results[:-2], results[-1]]) is VantageStatus.PORTAL
    assert status([*results[:-2], results[-1], other]) is VantageStatus.RESTRICTED


# --- restricted ------------------------------------------------------------------------------


def test_a_dead_udp_class_masks_nothing_and_is_said():
    found = judge(line(udp=T), QUIET)
    assert "udp" in found.reason
    assert (found.abroad, found.names) == (True, True)


def test_udp_is_dead_only_when_two_operators_say_so():
    assert status([*line()[:6], stun("s0", T)]) is VantageStatus.ONLINE
    assert status([*line()[:6], stun("s0", T), stun("s1", T)]) is VantageStatus.RESTRICTED
    assert status([*line()[:6], stun("s0", T), stun("s1")]) is VantageStatus.ONLINE


def test_one_operators_servers_are_one_witness():
    one = [result(control(f"s{n}", Role.STUN, owner="one"), T) for n in range(3)]
    assert status([*line()[:6], *one]) is VantageStatus.ONLINE


@pytest.mark.parametrize(("working", "abroad"), [(0, False), (1, False), (2, True), (4, True)])
def test_abroad_is_dead_when_two_thirds_of_it_are(working, abroad):
    foreign = [web(f"f{n}", None if n < working else T) for n in range(4)]
    found = judge([*foreign, web("d", role=Role.DOMESTIC)], QUIET)
    assert found.abroad is abroad
    assert (found.status is VantageStatus.RESTRICTED) is not abroad


def test_a_foreign_host_beside_answering_stun_operators_is_a_living_world():
    foreign = [web("f0"), *(web(f"f{n}", T) for n in range(1, 4))]
    domestic, udp = web("d", role=Role.DOMESTIC), [stun("s0"), stun("s1")]
    assert judge([*foreign, domestic, *udp], QUIET).abroad
    assert not judge([*foreign[1:], domestic, *udp], QUIET).abroad
    few = judge([*foreign, domestic, stun("s0", T), stun("s1", T)], QUIET)
    assert not few.abroad
    assert "hardly any foreign host answers" in few.reason


def test_garbage_from_every_web_server_is_no_portal():
    garbage = Failure.BAD_REPLY
    results = [
        *(web(f"f{n}", garbage) for n in range(4)),
        result(control("portal", Role.PORTAL), garbage),
        stun("s0"),
        stun("s1"),
    ]
    assert status(results) is not VantageStatus.PORTAL


def test_a_dns_control_at_the_hosts_resolver_speaks_for_names():
    own = control("own", Role.RESOLVER)
    elsewhere = result(control("quad9", Role.RESOLVER), None, resolver="quad9")
    dead = result(own, T, resolver="system")
    assert judge([dead, elsewhere, stun("s0")], QUIET).names is False
    assert judge([result(own, None, resolver="system"), elsewhere], QUIET).names is True
    # What is dead with the names says nothing else about the line.
    assert judge([dead, elsewhere, stun("s0")], QUIET).share == 1.0


def test_a_control_that_has_long_been_dead_does_not_lower_the_share():
    gone = replace(web("f9", T), heard=False)
    assert judge([*line(), gone], QUIET).share == 1.0
    assert judge([*line(), replace(gone, heard=True)], QUIET).share < 1.0


def test_an_interceptor_without_a_name_is_known_by_its_certificate():
    def intercepted(name, sha):
        return web(name, Failure.UNKNOWN_ISSUER, certificate_issuer="", certificate_sha256=sha)

    same = [intercepted(f"f{n}", "ab") for n in range(2)]
    assert status([*same, stun("s0")]) is VantageStatus.FAULTY
    other = [intercepted(f"f{n}", f"ab{n}") for n in range(2)]
    assert status([*other, stun("s0")]) is not VantageStatus.FAULTY


def test_one_foreign_operator_is_not_the_world():
    found = judge([web("f", T), web("d", role=Role.DOMESTIC)], QUIET)
    assert found.abroad
    assert found.status is VantageStatus.ONLINE
    assert any("foreign" in note for note in found.notes)


def test_without_a_domestic_control_nothing_is_said_of_the_border():
    found = judge([web("f0", T), web("f1", T), stun("s0"), stun("s1")], QUIET)
    assert not found.abroad
    assert found.reason == "no foreign host answers"
    assert any("domestic" in note for note in found.notes)


def test_fewer_controls_than_needed_is_said():
    notes = judge([web("f"), stun("s")], QUIET).notes
    assert len(notes) == 3


def test_names_dead_is_no_offline_line():
    by_name = [web(f"f{n}", T, Step.RESOLVE, family=None) for n in range(4)]
    found = judge([*by_name, stun("s0"), stun("s1")], QUIET)
    assert found.status is VantageStatus.RESTRICTED
    assert not found.names
    assert found.abroad  # what cannot be asked by name says nothing about abroad
    assert "names" in found.reason


def test_foreign_names_that_are_denied_are_no_closed_border_while_others_pass_it():
    denied = [web(f"f{n}", Failure.NO_ADDRESS, Step.RESOLVE) for n in range(4)]
    domestic = web("d", role=Role.DOMESTIC, before=(Step.RESOLVE, Step.CONNECT))
    trusted = replace(control("quad9", Role.RESOLVER), probe=DnsProbe("a.test", resolver="q/tcp"))
    assert judge([*denied, domestic, result(trusted)], QUIET).abroad
    assert judge([*denied, domestic, stun("s0"), stun("s1")], QUIET).abroad
    assert not judge([*denied, domestic, result(trusted, T)], QUIET).abroad, "nothing passes it"
    assert not judge([*denied, domestic], QUIET).abroad
    own = replace(control("own", Role.RESOLVER), probe=DnsProbe("a.test"))
    assert not judge([*denied, domestic, result(own)], QUIET).abroad, "it stands at home"


def test_one_name_that_does_not_resolve_is_its_own_trouble():
    broken = web("f4", Failure.NO_ADDRESS, Step.RESOLVE, family=None)
    fine = web("f5", before=(Step.RESOLVE,))
    assert judge([*line(), broken, fine], QUIET).names
    assert status([*line(), broken, fine]) is VantageStatus.ONLINE


def test_nothing_resolves_and_nothing_else_answers_is_offline():
    by_name = [web(f"f{n}", T, Step.RESOLVE, family=None) for n in range(4)]
    assert status(by_name) is VantageStatus.OFFLINE


def test_ipv4_dead_is_said_and_ipv6_absent_is_not():
    six = [web(f"f{n}", family=Family.IPV6) for n in range(3)]
    found = judge([*six, stun("s0", T), web("d", T, role=Role.DOMESTIC)], QUIET)
    assert found.families == {Family.IPV6}
    assert "ipv4" in found.reason
    assert status(line()) is VantageStatus.ONLINE


# --- controls that are not known to answer, or were not asked ---------------------------------


def test_the_silence_of_unproven_controls_is_not_offline():
    found = judge([stun(f"s{n}", T, proven=False) for n in range(3)], QUIET)
    assert found.status is VantageStatus.ONLINE
    assert not found.controls
    assert found.share == 0
    assert found.reason == "no control was measured"


def test_an_unproven_control_that_answers_answers():
    found = judge([stun("s0", proven=False), stun("s1", T, proven=False)], QUIET)
    assert (found.status, found.controls, found.share) == (VantageStatus.ONLINE, True, 1.0)


def test_no_controls_at_all_is_not_offline():
    found = judge([], QUIET)
    assert not found.controls
    assert not found.masks


def test_one_unproven_dead_control_lowers_no_share():
    assert judge([*line(), stun("s9", T, proven=False)], QUIET).share == 1.0
    assert judge([*line(), stun("s9", T)], QUIET).share == 0.9
    # A portal check and an advertising name stand for other things.
    assert judge(line(portal=T), QUIET).share == 1.0
    ad = result(control("ad", Role.AD), Failure.NO_ADDRESS)
    assert judge([*line(), ad], QUIET).share == 1.0


# --- faulty ----------------------------------------------------------------------------------


def clocks(*offsets, owners=None):
    owners = owners or [f"f{n}" for n in range(len(offsets))]
    return [
        result(control(f"c{n}", owner=owner), clock_offset_seconds=offset)
        for n, (owner, offset) in enumerate(zip(owners, offsets, strict=True))
    ]


@pytest.mark.parametrize(
    ("results", "faulty"),
    [
        (clocks(61.0, 61.0, 61.0), True),
        (clocks(-3600.0, -3600.0, -3600.0), True),
        (clocks(59.0, 59.0, 59.0), False),
        (clocks(0.0, 0.5, 3600.0), False),  # one server's clock is wrong, not ours
        (clocks(61.0, 61.0), False),  # two operators are too few
        (clocks(61.0, 61.0, 61.0, 61.0, owners=["one", "one", "one", "two"]), False),
    ],
)
def test_a_wrong_clock(results, faulty):
    found = judge(results, QUIET)
    assert (found.status is VantageStatus.FAULTY) is faulty
    assert ("clock" in found.reason) is faulty


def test_certificates_out_of_date_everywhere_is_our_clock():
    expired = [web(f"f{n}", Failure.EXPIRED) for n in range(3)]
    assert status([*expired, stun("s0")]) is VantageStatus.FAULTY
    assert status([*expired[:2], stun("s0")]) is not VantageStatus.FAULTY
    assert status([*expired, *(web(f"g{n}") for n in range(3))]) is VantageStatus.ONLINE


def stranger(name, issuer, owner=None):
    facts = {"certificate_issuer": issuer}
    of = control(name, owner=owner or name)
    return result(of, Failure.UNKNOWN_ISSUER, Step.TLS, before=BEFORE_TLS, **facts)


@pytest.mark.parametrize(
    ("strangers", "faulty"),
    [
        ([stranger("a", "Antivirus"), stranger("b", "Antivirus")], True),
        ([stranger("a", "Antivirus"), stranger("b", "Another")], False),
        ([stranger("a", "Antivirus")], False),
        ([stranger("a", "X", "one"), stranger("b", "X", "one")], False),
        ([stranger("a", ""), stranger("b", "")], False),
    ],
)
def test_an_interceptor_before_unrelated_operators(strangers, faulty):
    assert (status([*line(), *strangers]) is VantageStatus.FAULTY) is faulty


def test_late_sending_is_our_own_fault():
    assert status(line(), Surroundings(lateness=0.6)) is VantageStatus.FAULTY
    assert status(line(), Surroundings(lateness=0.4)) is VantageStatus.ONLINE


# --- tunnelled -------------------------------------------------------------------------------


def near(name, ttl=64):
    return stun(name, received_ttl=ttl)


@pytest.mark.parametrize("route", [False, True])
@pytest.mark.parametrize("differ", [False, True])
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_a_tunnel_needs_two_of_three_signs(route, differ, hops):
    results = [*line(), *(near(f"n{n}") for n in range(hops))]
    around = Surroundings(tunnel_route=route, mapped_differ=differ)
    expected = route + differ + (hops >= 2) >= 2
    assert (status(results, around) is VantageStatus.TUNNELLED) is expected


@pytest.mark.parametrize("ttl", [52, 63, 117, 254])
def test_ordinary_hop_counts_are_no_sign(ttl):
    results = [*line(), near("n0", ttl), near("n1", ttl)]
    assert status(results, Surroundings(tunnel_route=True)) is VantageStatus.ONLINE


# --- precedence ------------------------------------------------------------------------------


def test_precedence():
    tunnel = Surroundings(tunnel_route=True, mapped_differ=True)
    wrong = clocks(90.0, 90.0, 90.0)
    assert status([*wrong, *line(udp=T)], tunnel) is VantageStatus.FAULTY
    assert status(line(udp=T), tunnel) is VantageStatus.TUNNELLED
    late = Surroundings(tunnel_route=True, mapped_differ=True, lateness=9)
    assert status(line(foreign=T, domestic=T, udp=T, portal=T), late) is VantageStatus.OFFLINE
    assert status(line(foreign=T, domestic=T, portal=Failure.HTTP_STATUS), late) is (
        VantageStatus.PORTAL
    )
