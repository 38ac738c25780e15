"""Worlds in which nobody interferes: no rule may say at likely or better that somebody does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.case import Case, Symptom, groups
from agent.verdicts import find
from probes.model import SURE, Failure, Mechanism, Role, VantageStatus
from tests.agent.building import judgement, target
from tests.agent.gradual import WORLDS
from tests.agent.innocent import INNOCENT, filtering_to_a_page, fleet_down, led_to
from tests.agent.worlds import (
    A1,
    A2,
    ALL_UDP,
    ELSEWHERE,
    MESSENGER,
    W1,
    W2,
    _calls,
    case,
    controls,
    dress,
    hello,
    trusted,
)


def accused(case: Case) -> list[str]:
    """Mechanisms that somebody is accused of."""
    return [
        f"{f.rule} {f.mechanism}"
        for f in find(case)
        if f.mechanism.interference and f.certainty in SURE
    ]


@pytest.mark.parametrize("world", INNOCENT, ids=lambda world: world.__name__)
def test_nobody_is_accused(world):
    assert accused(world()) == []


@pytest.mark.parametrize("world", INNOCENT, ids=lambda world: world.__name__)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_nobody_is_accused_on_less_evidence_either(world, data):
    whole = world()
    if whole.known.outside:
        return  # only an outside view can tell these from a block
    asked = whole.known.contrasts
    keep = data.draw(st.sets(st.sampled_from(range(len(asked))))) if asked else set()
    held = whole.known.controls
    roles = data.draw(st.sets(st.sampled_from(Role)))
    known = replace(
        whole.known,
        contrasts=tuple(o for i, o in enumerate(asked) if i in keep),
        controls=tuple(r for r in held if r.config.role in roles),
    )
    assert accused(replace(whole, known=known)) == []


@pytest.mark.parametrize("rule", sorted(set(WORLDS) - {"M9", "M9t"}))
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_fewer_contrasts_never_make_another_mechanism_sure(rule, data):
    whole = WORLDS[rule]()
    asked = whole.known.contrasts
    keep = data.draw(st.sets(st.sampled_from(range(len(asked))))) if asked else set()
    known = replace(whole.known, contrasts=tuple(o for i, o in enumerate(asked) if i in keep))
    sure = {f.mechanism for f in find(whole) if f.certainty in SURE}
    less = {
        f.mechanism
        for f in find(replace(whole, known=known))
        if f.certainty in SURE and f.mechanism.interference
    }
    assert less <= sure


def test_an_outside_view_tells_a_dead_fleet_from_a_block():
    assert [f.mechanism for f in find(fleet_down())] == [Mechanism.SERVER_OUTAGE]
    assert accused(_calls(lambda f: [dress(f[0], 0, cookie=False)])) == ["R38a udp_relay_block"]


def test_what_a_certificate_or_the_owner_vouches_for_is_no_lie():
    f = hello(W1, Failure.TIMEOUT, A2, clienthello_acked=True)
    assert find(case([f], contrasts=[trusted(f, "tcp", (A1,))])) == ()
    lie = hello(W1, Failure.WRONG_NAME, ELSEWHERE)
    assert accused(case([lie], contrasts=[trusted(lie, "tcp", (A1,))])) == ["R03 dns_tamper"]
    silent = led_to(ELSEWHERE)
    other = (W2.target, ELSEWHERE), (W1.target, A2)
    asked = [trusted(silent, "tcp", (A1,))]
    assert accused(case([silent], contrasts=asked)) == ["R03 dns_tamper"]
    assert accused(case([silent], contrasts=asked, vouched=frozenset(other))) == ["R03 dns_tamper"]


@pytest.mark.parametrize(
    ("address", "rules"),
    [
        ("64:ff9b::c633:6401", []),  # A1
        ("64:ff9b::b901:203", ["R03 dns_tamper"]),  # ELSEWHERE
        ("64:ff9b:1::c633:6401", ["R03 dns_tamper"]),  # RFC 8215: anybody's own
    ],
)
def test_an_address_of_dns64_is_the_one_inside(address, rules):
    f = led_to(address)
    assert accused(case([f], contrasts=[trusted(f, "tcp", (A2,))])) == rules
    nameless = replace(MESSENGER, owner_prefixes=())
    inside = trusted(f, "tcp", ("198.51.100.1",))
    found = find(case([f], contrasts=[inside], messenger=nameless))
    assert [f.rule for f in found] == (["R09"] if rules else [])


def test_a_page_for_advertising_and_the_messenger_is_a_filter():
    assert [f.rule for f in find(filtering_to_a_page())] == ["D1"]


def test_all_udp_dead_is_not_called_a_matter_of_relays():
    assert accused(_calls(held_against=ALL_UDP)) == ["R36a udp_block_all"]


def test_masks_leave_nothing_to_the_rules():
    line = judgement(VantageStatus.PORTAL)
    known = WORLDS["R16"]()
    assert accused(replace(known, judgement=line)) == []


def test_targets_of_another_channel_do_not_speak_for_this_one():
    other = target("x", channel="media", host="x.test", port=443)
    f = (other, hello(W1, Failure.RESET)[1])
    assert find(case([f], channel="web")) == ()


def test_where_one_name_was_led_by_a_lie_no_other_name_belongs():
    filtered = filtering_to_a_page()
    known = replace(filtered.known, controls=controls())
    lied = next(g for g in groups(replace(filtered, known=known)))
    assert lied.symptom is Symptom.NAME_LIE
    assert {o.target for o in lied.observations} == {W1.target, W2.target}
    assert accused(replace(filtered, known=known)) == ["R03 dns_tamper"]


def test_a_certificate_where_a_resolver_may_have_led_to_a_stranger_is_no_mitm():
    stranger = {"certificate_issuer": "stranger"}
    failed = [hello(w, Failure.UNKNOWN_ISSUER, ELSEWHERE, **stranger) for w in (W1, W2)]
    assert accused(case(failed)) == []
    vouched = frozenset((w.target, ELSEWHERE) for w in (W1, W2))
    assert accused(case(failed, vouched=vouched)) == ["R25 tls_mitm"]
    confirmed = [trusted(f, "tcp", (ELSEWHERE,)) for f in failed]
    assert accused(case(failed, contrasts=confirmed)) == ["R25 tls_mitm"]
