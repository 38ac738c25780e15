"""From observations to one word and one sentence per channel."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.diagnosis import Evidence, diagnose, starting, usable
from probes.model import Channel, Failure, Family, Proof, Status, Step, VantageStatus
from tests.agent.building import judgement, messenger, seen, target

T = Failure.TIMEOUT


def evidence(
    name="a", failure=None, step=Step.EXCHANGE, *, proven=True, fresh=True, channel="call", **given
):
    informative = given.pop("informative", False)
    of = target(name, channel=channel, informative=informative)
    observations = given.pop("observations", None)
    if observations is None:
        observations = (seen(of, failure, step, **given),)
    return Evidence(of, observations, 100.0, fresh, proven)


def diagnosis(*found, quorum=0.8, vantage=None):
    of = messenger(*(e.config for e in found), quorum=quorum)
    (only,) = diagnose(of, found, vantage or judgement())
    return only


def fleet(working, broken, failure=T, **given):
    return [
        *(evidence(f"w{n}", **given) for n in range(working)),
        *(evidence(f"b{n}", failure, **given) for n in range(broken)),
    ]


@pytest.mark.parametrize(
    ("working", "broken", "status", "reason"),
    [
        (5, 0, Status.OK, "ok"),
        (4, 1, Status.OK, "ok"),
        (8, 1, Status.OK, "ok"),  # one dead relay of nine
        (3, 2, Status.DEGRADED, "quorum"),
        (1, 8, Status.DEGRADED, "quorum"),
        (0, 1, Status.UNREACHABLE, "exchange:timeout"),
        (0, 9, Status.UNREACHABLE, "exchange:timeout"),
    ],
)
def test_quorum(working, broken, status, reason):
    found = diagnosis(*fleet(working, broken))
    assert (found.status, found.reason) == (status, reason)
    assert (found.working, found.measured) == (working, working + broken)
    assert (found.deciding, found.total) == (working + broken, working + broken)


@given(st.integers(1, 100), st.integers(1, 40), st.integers(0, 40))
@example(28, 25, 7)  # 0.28 * 25 is 7.000000000000001
def test_quorum_is_arithmetic_and_not_floating(percent, count, working):
    working = min(working, count)
    found = diagnosis(*fleet(working, count - working), quorum=percent / 100)
    enough = working >= Fraction(percent, 100) * count
    assert (found.status is Status.OK) is enough


def test_only_some_packets_answered_is_degraded_and_never_ok():
    found = diagnosis(*fleet(0, 5, Failure.LOSSY))
    assert (found.status, found.reason) == (Status.DEGRADED, "lossy")
    mixed = diagnosis(evidence("a", Failure.LOSSY), evidence("b", T))
    assert mixed.status is Status.DEGRADED


@pytest.mark.parametrize(
    ("failure", "before", "works"),
    [
        (Failure.TLS_ALERT, (), True),
        (Failure.HTTP_STATUS, (Step.CONNECT, Step.TLS), True),
        (Failure.HTTP_STATUS, (Step.CONNECT,), False),  # anybody may have answered in the clear
        (Failure.UNKNOWN_ISSUER, (), False),
        (Failure.RESET, (), False),
    ],
)
def test_a_server_that_spoke_works(failure, before, works):
    found = diagnosis(evidence("a", failure, before=before))
    assert (found.status is Status.OK) is works
    assert found.targets[0].works is works


# --- who decides -----------------------------------------------------------------------------


def test_unproven_targets_do_not_decide_and_a_channel_of_them_is_uncalibrated():
    found = diagnosis(*fleet(0, 5, proven=False))
    assert (found.status, found.reason) == (Status.UNKNOWN, "uncalibrated")
    assert (found.deciding, found.total) == (0, 5)
    assert diagnosis(evidence("a"), *fleet(0, 5, proven=False)).status is Status.OK


def test_informative_targets_never_decide():
    found = diagnosis(evidence("a"), *(evidence(f"i{n}", T, informative=True) for n in range(9)))
    assert [t.informative for t in found.targets] == [False, *[True] * 9], "and are told as such"
    assert (found.status, found.deciding) == (Status.OK, 1)
    assert [t.works for t in found.targets] == [True] + [False] * 9


def test_what_was_not_measured_is_not_failed():
    found = diagnosis(evidence("a"), *(evidence(f"s{n}", T, fresh=False) for n in range(9)))
    assert (found.status, found.measured, found.deciding) == (Status.OK, 1, 10)
    assert found.targets[1].works is None
    nothing = diagnosis(evidence("a", fresh=False))
    assert (nothing.status, nothing.reason) == (Status.UNKNOWN, "not_measured")


def test_a_target_works_if_one_of_its_addresses_does():
    of = target("a")
    both = (seen(of, T, address="192.0.2.1"), seen(of, address="192.0.2.2"))
    found = diagnosis(evidence("a", observations=both))
    assert found.status is Status.OK
    assert found.targets[0].address == "192.0.2.2"
    none = (seen(of, T, address="192.0.2.1"), seen(of, T, address="192.0.2.2"))
    assert diagnosis(evidence("a", observations=none)).targets[0].address == "192.0.2.1"


def test_channels_are_apart():
    found = [evidence("a", T), evidence("b", channel="chat")]
    of = messenger(*(e.config for e in found))
    statuses = {d.channel: d.status for d in diagnose(of, found, judgement())}
    assert statuses == {"call": Status.UNREACHABLE, "chat": Status.OK}


# --- masks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [VantageStatus.OFFLINE, VantageStatus.PORTAL, VantageStatus.TUNNELLED, VantageStatus.FAULTY],
)
def test_a_line_that_is_broken_itself_accuses_nobody(status):
    found = diagnosis(*fleet(0, 5), vantage=judgement(status, reason="so it is"))
    assert (found.status, found.reason) == (Status.UNKNOWN, str(status))
    assert "so it is" in found.summary


def test_a_family_without_a_working_control_is_not_measured():
    of = target("a")
    both = (seen(of, T, family=Family.IPV6), seen(of))
    only_four = judgement(families=frozenset({Family.IPV4}))
    assert diagnosis(evidence("a", observations=both), vantage=only_four).status is Status.OK
    six = evidence("a", observations=(seen(of, T, family=Family.IPV6),))
    assert diagnosis(six).status is Status.UNREACHABLE
    found = diagnosis(six, vantage=only_four)
    assert (found.status, found.reason) == (Status.UNKNOWN, "not_measured")
    # What works, works, also where no control does.
    fine = evidence("a", observations=(seen(of, family=Family.IPV6),))
    assert diagnosis(fine, vantage=only_four).status is Status.OK


def test_where_no_name_resolves_names_say_nothing():
    dead = judgement(names=False)
    by_name = evidence("a", T, Step.RESOLVE, family=None)
    found = diagnosis(by_name, vantage=dead)
    assert (found.status, found.reason) == (Status.UNKNOWN, "names")
    assert diagnosis(by_name).status is Status.UNREACHABLE
    assert diagnosis(by_name, evidence("b", T), vantage=dead).status is Status.UNREACHABLE
    assert diagnosis(by_name, evidence("b"), vantage=dead).status is Status.OK


def test_where_nothing_abroad_answers_only_what_works_counts():
    dead = judgement(abroad=False)
    found = diagnosis(*fleet(0, 5), vantage=dead)
    assert (found.status, found.reason) == (Status.UNKNOWN, "abroad")
    one = diagnosis(*fleet(1, 4), vantage=dead)
    assert (one.status, one.working, one.measured) == (Status.OK, 1, 1)


def test_without_a_measured_control_nobody_is_accused():
    found = diagnosis(*fleet(0, 5), vantage=judgement(controls=False))
    assert (found.status, found.reason) == (Status.UNKNOWN, "not_measured")
    assert "control" in found.summary


def test_a_dead_udp_class_masks_nothing():
    limited = judgement(VantageStatus.RESTRICTED, reason="udp: no STUN operator answers")
    assert diagnosis(*fleet(0, 5), vantage=limited).status is Status.UNREACHABLE


@given(
    st.lists(
        st.tuples(st.sampled_from([None, *Failure]), st.booleans(), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
    st.booleans(),
)
def test_status_rules_hold_whatever_was_seen(rows, abroad, names):
    found = [
        evidence(f"t{n}", failure, proven=proven, fresh=fresh, informative=informative)
        for n, (failure, proven, fresh, informative) in enumerate(rows)
    ]
    made = diagnosis(*found, vantage=judgement(abroad=abroad, names=names))
    assert made.working <= made.measured <= made.deciding <= made.total == len(rows)
    match made.status:
        case Status.OK:
            assert made.working >= 0.8 * made.measured - 1e-9
            assert made.measured > 0
        case Status.DEGRADED:
            assert made.measured > 0
        case Status.UNREACHABLE:
            assert made.working == 0 < made.measured
            assert abroad
        case Status.UNKNOWN:
            assert made.measured == 0
        case Status.BLOCKED:
            pytest.fail("no rule names interference yet")
    assert made.summary.endswith(".")
    assert "\n" not in made.summary


# --- words -----------------------------------------------------------------------------------


def test_sentences_are_plain_and_name_what_failed():
    found = diagnosis(evidence("a"), *fleet(0, 3, Failure.REFUSED, step=Step.CONNECT))
    assert found.summary == (
        "Messy calls: degraded, only 1 of 4 servers answer; 3 failed at connecting (refused)."
    )
    found = diagnosis(*fleet(0, 2, Failure.NO_ADDRESS, step=Step.RESOLVE))
    assert found.summary == (
        "Messy calls: unreachable, none of 2 servers answers;"
        " 2 failed at resolving the name (no address)."
    )


def test_the_reason_is_what_most_failed_with():
    found = diagnosis(evidence("a", Failure.RESET, Step.TLS), *fleet(0, 2, T, step=Step.CONNECT))
    assert found.reason == "connect:timeout"


@pytest.mark.parametrize("channel", list(Channel))
def test_every_channel_has_a_word(channel):
    found = diagnosis(evidence("a", channel=str(channel)))
    assert found.summary.startswith("Messy ")


def test_before_the_first_round_nothing_is_said():
    relay = target("relay", proof=Proof.UNPROVEN)
    of = messenger(target("a"), relay, target("b", informative=True), target("c", channel="chat"))
    found = {d.channel: d for d in starting(of, lambda t: t.proof is Proof.DOCUMENTED)}
    assert {d.status for d in found.values()} == {Status.UNKNOWN}
    assert {d.reason for d in found.values()} == {"starting"}
    call, chat = found["call"], found["chat"]
    assert (call.deciding, call.total, call.measured) == (1, 3, 0)
    assert (chat.deciding, chat.total) == (1, 1)


def test_usable_leaves_the_works_in():
    fine = evidence("a")
    assert usable(fine, judgement(abroad=False, names=False, families=frozenset())) == (
        fine.observations
    )
    assert usable(evidence("a", fresh=False), judgement()) == ()


@pytest.mark.parametrize(("resolver", "says"), [("system", ()), ("quad9", ("o",))])
def test_a_dns_check_of_the_hosts_own_resolver_is_masked_with_the_names(resolver, says):
    found = evidence("dns", T, resolver=resolver)
    masked = usable(found, judgement(names=False))
    assert len(masked) == len(says)
    assert len(usable(found, judgement(names=True))) == 1
