"""Every rule fires on its evidence, and is silent when any of it is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent import verdicts
from agent.case import Case, Differs, Known, groups
from agent.diagnosis import Evidence, diagnose
from agent.rules import MECHANISMS, RULES, Rule
from agent.sighting import Sighting, Sign
from agent.signs import see
from agent.verdicts import explain, find
from probes.model import Certainty, Contrast, Failure, Mechanism, Status, Step, VantageStatus
from probes.stun import StunProbe
from tests.agent.building import judgement, seen, target
from tests.agent.gradual import WORLDS
from tests.agent.innocent import proxy_begins
from tests.agent.worlds import (
    A1,
    A2,
    A3,
    ALL_UDP,
    ELSEWHERE,
    MESSENGER,
    R1,
    SIBLING,
    T1,
    T2,
    W1,
    case,
    contrast,
    controls,
    dress,
    echo,
    hello,
    name,
    neutral,
    syn,
    trusted,
    udp,
)

BY_ID = {rule.id: rule for rule in RULES}
NEEDS = [(rule.id, need) for rule in RULES for need in rule.needs]


def fired(case: Case) -> set[str]:
    return {f.rule for group in groups(case) for f in verdicts._fire(case, group)}


def test_there_is_a_world_for_every_rule():
    assert set(WORLDS) == set(BY_ID)
    assert len(BY_ID) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_fires_on_its_evidence(rule):
    case = WORLDS[rule.id]()
    assert rule.id in fired(case)
    first = find(case)[0]
    assert first.rule == rule.id, "and is the first to be named in its world"
    assert first.mechanism is rule.mechanism
    assert first.told


@pytest.mark.parametrize(("rule", "need"), NEEDS, ids=lambda it: getattr(it, "name", it))
@pytest.mark.parametrize("instead", [None, Sighting(False)], ids=["unmeasured", "not so"])
def test_a_rule_is_silent_without_any_of_its_needs(rule, need, instead, monkeypatch):
    case = WORLDS[rule]()
    monkeypatch.setattr(
        verdicts, "see", lambda sign, *of: instead if sign is need else see(sign, *of)
    )
    assert rule not in fired(case)


OF_THE_LINE = {"M1", "M1t", "M2", "M3i"}
"""What the judgement of the vantage says by itself."""


def without(case: Case, rule: Rule, need: Sign) -> Case:
    """The same world, but what shows ``need`` was not measured."""
    group = next(g for g in groups(case) if g.symptom in rule.symptoms)
    sighting = see(need, case, group)
    assert sighting is not None
    gone = set(sighting.evidence) - set(group.ids)
    known = case.known
    controls = [
        replace(r, observations=tuple(o for o in r.observations if o.id not in gone))
        for r in known.controls
    ]
    known = replace(
        known,
        contrasts=tuple(o for o in known.contrasts if o.id not in gone),
        controls=tuple(r for r in controls if r.observations),
        transfers=tuple(o for o in known.transfers if o.id not in gone),
        past=tuple(o for o in known.past if o.id not in gone),
    )
    streams = {n: tuple(o for o in s if o.id not in gone) for n, s in known.streams.items()}
    known = replace(known, streams=streams)
    if not gone or need is Sign.UP:
        known = replace(known, verified=frozenset(), nearest={}, least={}, outside={})
        known = replace(known, slow_outside={})
    kept = tuple((e, tuple(o for o in seen if o.id not in gone)) for e, seen in case.seen)
    return replace(case, known=known, seen=kept)


# What the failing observation itself shows cannot be left unmeasured.
SHOWN = {
    Sign.SEVERAL_PREFIXES,
    Sign.ICMP_FROM_PATH,
    Sign.ONE_ISSUER,
    Sign.STRANGE_ISSUER,
    Sign.ANSWER_FAILS,
    Sign.UNVERIFIABLE,
    Sign.PAGE_REDIRECTS,
    Sign.STEADY_PACE,
    Sign.BY_LOSS,
    Sign.BY_DELAY,
    Sign.FIRST_ANSWERED,
    Sign.STREAM_BESIDE_BAD,
    Sign.PACE_IS_BAD,
    Sign.PLACE_IS_BAD,
    Sign.OTHER_UDP_OK,  # as the next
    Sign.NOT_AS_BAD_OUTSIDE,  # it takes an accusation back, and stands for none
    Sign.CANARIES_LIVE,
    Sign.RANDOM_LIVES_ON,
    Sign.OTHER_FLOW_LIVES,
    Sign.TWIN_CALL_CUT,
    Sign.ALL_FLOWS_END,
    Sign.ENDS_ALIKE,
    Sign.OTHER_ENDS_ALIKE,
    Sign.SIZE_SPLIT,
    Sign.TWIN_SIZES_PASS,
    Sign.TWIN_SIZES_SPLIT,
    Sign.QUIC_PING_OK,
    Sign.QUIC_NEUTRAL_OK,
    Sign.QUIC_NEUTRAL_SILENT,
    Sign.OFFLINE_LOCALLY,
    Sign.OFFLINE,
    Sign.PORTAL,
    Sign.TUNNEL,
    Sign.FAULTY,
}


@pytest.mark.parametrize(
    ("rule", "need"),
    [(rule, need) for rule, need in NEEDS if need not in SHOWN],
    ids=lambda it: getattr(it, "name", it),
)
def test_a_rule_is_silent_when_the_observations_of_a_contrast_are_missing(rule, need):
    case = WORLDS[rule]()
    assert rule not in fired(without(case, BY_ID[rule], need))


@pytest.mark.parametrize("rule", [r for r in RULES if r.firm], ids=lambda rule: rule.id)
def test_what_is_not_firm_is_suspected_at_the_most(rule, monkeypatch):
    case = WORLDS[rule.id]()
    for firm in rule.firm:
        monkeypatch.setattr(
            verdicts, "see", lambda sign, *of, f=firm: None if sign is f else see(sign, *of)
        )
        finding = next(
            f for g in groups(case) for f in verdicts._fire(case, g) if f.rule == rule.id
        )
        assert finding.certainty is Certainty.SUSPECTED
        assert finding.confidence <= 0.74


def test_every_variant_has_a_mechanism_and_every_mechanism_is_a_variant():
    assert {rule.variant for rule in RULES} <= set(MECHANISMS)
    assert {str(m) for m in Mechanism} <= set(MECHANISMS)
    finer = {variant for variant in MECHANISMS if variant not in set(Mechanism)}
    assert finer <= {rule.variant for rule in RULES}, "a word that no rule uses"


def test_needs_and_firmness_are_signs_that_can_be_seen():
    for rule in RULES:
        case = WORLDS[rule.id]()
        group = next(g for g in groups(case) if g.symptom in rule.symptoms)
        for sign in (*rule.needs, *rule.firm):
            see(sign, case, group)


def test_few_controls_and_flapping_ones_weaken():
    case = WORLDS["R15"]()
    assert find(case)[0].confidence == 0.95
    few = replace(case, known=replace(case.known, controls=case.known.controls[:2]))
    assert find(few)[0].confidence == pytest.approx(0.83, abs=0.01)
    flapped = replace(case, known=replace(case.known, flapped=True))
    assert find(flapped)[0].confidence == pytest.approx(0.86, abs=0.01)


def test_what_is_inferred_is_worth_less_than_what_is_seen_from_outside():
    case = WORLDS["R12"]()
    outside = {T1.target: True, T2.target: True}
    seen_up = replace(case, known=replace(case.known, outside=outside))
    assert find(case)[0].confidence == 0.85
    assert find(seen_up)[0].confidence == 0.90


def test_a_round_never_confirms():
    for world in WORLDS.values():
        assert all(f.certainty is not Certainty.CONFIRMED for f in find(world()))


def test_evidence_is_cited_by_id():
    case = WORLDS["R16"]()
    ids = {o.id for _, seen in case.seen for o in seen}
    ids |= {o.id for o in case.known.contrasts}
    ids |= {o.id for r in case.known.controls for o in r.observations}
    (finding,) = find(case)
    assert set(finding.evidence) <= ids
    assert case.known.contrasts[0].id in finding.evidence


def test_a_dead_channel_with_a_likely_rule_is_blocked_and_a_working_one_degraded():
    case = WORLDS["R16"]()
    evidence = [e for e, _ in case.seen]
    raw = diagnose(MESSENGER, evidence, judgement())
    (web,) = [
        d for d in explain(raw, MESSENGER, evidence, judgement(), case.known) if d.channel == "web"
    ]
    assert (web.status, web.reason) == (Status.BLOCKED, "interference")
    assert ": blocked, " in web.summary
    works = target("w9", channel="web", port=443)
    evidence.append(Evidence(works, (seen(works),), 0.0, True, True))
    raw = diagnose(MESSENGER, evidence, judgement())
    (web,) = [
        d for d in explain(raw, MESSENGER, evidence, judgement(), case.known) if d.channel == "web"
    ]
    assert (web.status, web.mechanism) == (Status.DEGRADED, Mechanism.TLS_SNI_RESET)


def test_a_neutral_name_that_fails_proves_nothing_after_the_targets_own():
    """The filter may remember; that it passes all the same counts."""
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=True)
    fails = neutral(f, Failure.TIMEOUT, clienthello_acked=True)
    for at, holds in ((5.0, Sighting(True, (fails.id,))), (20.0, None)):
        made = case([f], contrasts=[replace(fails, at=at)])
        (group,) = groups(made)
        assert see(Sign.NEUTRAL_FAILS, made, group) == holds
    passes = case([f], contrasts=[replace(neutral(f), at=20.0)])
    (group,) = groups(passes)
    assert see(Sign.NEUTRAL_OK, passes, group).holds


@pytest.mark.parametrize(("kind", "firm"), [("transfer", True), ("tcp", False)])
def test_what_a_long_transfer_lost_some_hours_ago_makes_no_way_lossy(kind, firm):
    """It sends many segments, of which some are lost on any line."""
    whole = WORLDS["R38a"]()
    beside = []
    for n in range(3):
        config = target(f"x{n}", kind=kind, channel="web", host=f"198.51.100.{50 + n}")
        o = seen(config, None, Step.CONNECT, address=config.host, retransmissions=2, sent=60)
        beside.append((Evidence(config, (o,), 0.0, True, True), (o,)))
    found = find(replace(whole, seen=(*whole.seen, *beside)))
    assert (found[0].rule, found[0].certainty is Certainty.LIKELY) == ("R38a", firm)


@pytest.mark.parametrize("answers", [(A1,), (ELSEWHERE,)], ids=["the owner's", "a stranger's"])
def test_an_encrypted_answer_for_another_name_of_the_messenger_serves_a_third_channel(answers):
    """Encrypted resolvers are dealt out, one to a channel, and there are fewer than channels."""
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    other = (replace(W1, host="chat.example.org"), f[1])
    asked = [trusted(f, "udp", (), "NXDOMAIN"), trusted(f, "tcp", (A1,))]
    found = find(case([f], contrasts=[*asked, trusted(other, "tls", answers)]))
    assert found[0].rule == ("R05" if answers == (A1,) else "R06")


def test_where_a_few_packets_passed_the_neutral_name_must_complete():
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=True)
    begun = neutral(f, Failure.TIMEOUT, server_spoke=True, clienthello_acked=True)
    made = case([f], contrasts=[begun])
    (group,) = groups(made)
    assert not see(Sign.NEUTRAL_OK, made, group).holds
    unacked = hello(W1, Failure.TIMEOUT, clienthello_acked=False)
    made = case([unacked], contrasts=[replace(begun, contrast=Contrast(unacked[1].id, "name"))])
    (group,) = groups(made)
    assert see(Sign.NEUTRAL_OK, made, group).holds


def sight(sign, *contrasts, told=True, **answered):
    """Of relays that are silent here, with what the twin returned."""
    f = udp(R1)
    made = case([f], channel="call", contrasts=[*contrasts, *echo(f, told=told, **answered)])
    (group,) = groups(made)
    sighting = see(sign, made, group)
    return sighting and sighting.holds


def test_a_silent_twin_counts_only_while_it_believes_us():
    assert sight(Sign.TWIN_STUN_SILENT, stun=0)
    assert sight(Sign.TWIN_STUN_SILENT, stun=0, told=False) is None
    assert sight(Sign.TWIN_STUN_SILENT, stun=0, random=5, told=False), "the answers vouch for it"
    assert sight(Sign.TWIN_STUN_SILENT, random=5) is None, "not asked"
    assert sight(Sign.TWIN_STUN_SILENT, stun=1) is False
    assert sight(Sign.TWIN_STUN_OK, stun=4)
    assert sight(Sign.TWIN_STUN_OK, stun=3) is False


def test_no_udp_is_said_only_where_random_bytes_do_not_pass_either():
    assert sight(Sign.TWIN_SILENT, stun=0, random=0)
    assert sight(Sign.TWIN_SILENT, stun=0, random=0, told=False) is None
    assert sight(Sign.TWIN_SILENT, stun=0) is None
    assert sight(Sign.TWIN_SILENT, stun=0, random=0, dtls=1) is False


def test_a_closed_port_of_the_twin_is_no_silence():
    f = udp(R1)
    refused = replace(
        contrast(f, Differs.TWIN, Failure.REFUSED, Step.EXCHANGE, payload="stun"),
    )
    refused = replace(refused, facts={**refused.facts, "requests": 5, "answered": 0})
    assert sight(Sign.TWIN_STUN_SILENT, refused, random=5) is False


def test_an_odd_port_of_the_twin_that_answers_shows_that_such_ports_are_open():
    f = udp(R1)
    held = tuple(r for r in controls() if r.config.port not in (853, 19302, 53))
    for number, shown in ((3478, False), (1400, True)):
        asked = echo(f, stun=5, port=number)
        made = case([f], channel="call", contrasts=asked, held_against=held)
        (group,) = groups(made)
        sighting = see(Sign.OTHER_ODD_PORT, made, group)
        assert (sighting is not None and sighting.holds) is shown


def up(**given):
    made = case([hello(W1, Failure.RESET)], **given)
    (group,) = groups(made)
    return see(Sign.UP, made, group)


def test_a_server_is_thought_up_on_three_conditions_at_once():
    inferred = up()
    assert inferred.holds
    assert inferred.inferred
    assert not up(verified=frozenset({"sibling"})).holds, "it has to have answered here itself"
    assert up(beside=[]) is None, "nothing else of the owner was measured"
    silent = seen(SIBLING, Failure.TIMEOUT, Step.CONNECT, address=SIBLING.host)
    assert not up(beside=[(SIBLING, silent)]).holds, "nor does anything else of the owner answer"
    dead = controls(foreign=Failure.TIMEOUT, domestic=Failure.TIMEOUT)
    assert not up(held_against=dead).holds, "no control of the kind answers"
    one = tuple(r for r in controls() if r.config.target.name not in ("f1", "f2"))
    assert up(held_against=one) is None, "one operator's answer says nothing"


def test_one_pair_of_queries_serves_every_channel_of_the_round():
    """The control's name is asked once: its queries explain the silence of each channel's name."""
    of_another = seen(SIBLING, Failure.TIMEOUT, Step.RESOLVE)
    made = WORLDS["R06s"]()
    moved = tuple(
        replace(c, contrast=Contrast(of_another.id, c.contrast.differs))
        if c.contrast.differs == Differs.QUERY
        else c
        for c in made.known.contrasts
    )
    made = replace(made, known=replace(made.known, contrasts=moved))
    assert [f.rule for f in find(made)] == ["R06s"]


def test_what_answered_only_before_the_failure_is_asked_again_after_it():
    before = (SIBLING, seen(SIBLING, None, Step.CONNECT, address=SIBLING.host, at=-5.0))
    made = WORLDS["R38a"]()
    own = tuple((e, o) for e, o in made.seen if e.config is not SIBLING)
    evidence = Evidence(SIBLING, (before[1],), 0.0, True, True)
    made = replace(made, seen=(*own, (evidence, (before[1],))))
    assert find(made) == ()
    again = replace(
        seen(R1, None, Step.CONNECT, address=SIBLING.host, at=30.0, port=443),
        contrast=Contrast("o", Differs.SIBLING),
    )
    known = replace(made.known, contrasts=(*made.known.contrasts, again))
    assert [f.rule for f in find(replace(made, known=known))] == ["R38a"]


def test_an_outside_view_is_believed_before_any_inference():
    alive = up(outside={W1.target: True}, verified=frozenset(), beside=[])
    assert (alive.holds, alive.inferred) == (True, False)
    assert not up(outside={W1.target: False}).holds
    assert up(outside={T1.target: False}).inferred, "not measured there"


def test_relays_and_dresses_must_have_answered_here():
    made = WORLDS["R38a"]()
    (group,) = groups(made)
    few = replace(made, known=replace(made.known, verified=frozenset({"r0", "r1"})))
    assert see(Sign.RELAYS, made, group).holds
    assert not see(Sign.RELAYS, few, group).holds
    made = WORLDS["R37a"]()
    (group,) = groups(made)
    other = replace(made, known=replace(made.known, verified=frozenset({"r1", "r2"})))
    assert see(Sign.COOKIE_SILENT, made, group).holds
    assert not see(Sign.COOKIE_SILENT, other, group).holds


def _voices(*contrasts, beside=None, comes_and_goes=True, **known):
    """Three servers that answer a ping and need not know STUN, silent."""
    failed = [udp(target(f"v{i}", kind="echo", host=a)) for i, a in enumerate((A1, A2, A3))]
    made = case(
        failed,
        channel="call",
        beside=beside,
        contrasts=[c(failed[0]) for c in contrasts],
        comes_and_goes=comes_and_goes,
        **known,
    )
    return made, groups(made)[0]


def _in_stun(answered):
    return lambda of: dress(of, answered, cookie=False, said="stun")


def test_silence_in_a_protocol_that_nobody_owes_is_no_dress():
    assert see(Sign.EVERY_DRESS_SILENT, *_voices(_in_stun(0))) is None
    known = target("s", kind="stun", host=A1)
    beside = [(known, seen(known, Failure.TIMEOUT, address=A1))]
    there = _voices(_in_stun(0), beside=beside)
    assert see(Sign.EVERY_DRESS_SILENT, *there).holds
    there = _voices(_in_stun(0), beside=beside, verified=frozenset({"v0", "v1", "v2"}))
    assert see(Sign.EVERY_DRESS_SILENT, *there) is None


def test_where_other_protocols_tell_nothing_the_servers_own_words_do():
    made, group = _voices(_in_stun(0), comes_and_goes=False)
    its = see(Sign.EVERY_DRESS_SILENT, made, group)
    assert its.holds
    assert {o.contrast.differs for o in made.known.contrasts if o.id in its.evidence} == {
        Differs.AGAIN
    }
    assert not see(Sign.EVERY_DRESS_SILENT, *_voices(_in_stun(5), comes_and_goes=False)).holds


@pytest.mark.parametrize(
    ("addresses", "enough"),
    [
        (("198.51.100.1", "198.51.100.2", "203.0.113.1"), True),
        (("198.51.100.1", "198.51.100.2", "198.51.100.3"), False),
        (("198.51.100.1", "203.0.113.1"), False),
    ],
)
def test_a_fleet_is_three_relays_in_two_networks(addresses, enough):
    relays = [target(f"r{i}", probe=StunProbe(), host=a) for i, a in enumerate(addresses)]
    failed = [udp(relay) for relay in relays]
    for outside in ({}, {relay.target: True for relay in relays}):
        verified = frozenset() if outside else {"r0", "r1", "r2"}
        made = case(failed, channel="call", outside=outside, verified=verified)
        (group,) = groups(made)
        assert see(Sign.RELAYS, made, group).holds is enough


def test_what_works_is_not_looked_at():
    works = target("w9", channel="web")
    evidence = [Evidence(works, (seen(works),), 0.0, True, True)]
    raw = diagnose(MESSENGER, evidence, judgement())
    assert explain(raw, MESSENGER, evidence, judgement(), Known()) == raw


def test_diagnosing_a_thousand_observations_is_cheap(monkeypatch):
    """How often all of it is gone through does not grow with it. The time is benched."""
    case = WORLDS["R12"]()
    counted = [0]

    class Counting(tuple):
        def __iter__(self):
            counted[0] += 1
            return super().__iter__()

    def looks(copies: int) -> int:
        counted[0] = 0
        find(replace(case, seen=Counting(case.seen * copies)))
        return counted[0]

    assert looks(100) <= looks(1) + 5


def test_what_the_controls_lose_between_them_is_congestion_too():
    """Three of five answers each: they work, and the line does not."""
    channel = {"channel": "call"}
    one = udp(R1, Failure.LOSSY)
    assert "R34" not in fired(case([one], **channel, held_against=controls(answered=5)))
    assert "R34" in fired(case([one], **channel, held_against=controls(answered=3)))
    assert "R34" not in fired(case([one], **channel, held_against=controls(answered=4)))


def test_a_reset_refuses_and_icmp_from_the_way_forbids():
    """A server that does not listen resets; a firewall's usual word is "port unreachable"."""
    for from_target, expected in ((None, set()), (True, set()), (False, {"R14"})):
        told = {} if from_target is None else {"icmp_from_target": from_target}
        failed = [syn(t, Failure.REFUSED, **told) for t in (T1, T2)]
        found = fired(case(failed, channel="chat", nearest={}))
        assert found & {"R14", "R14a"} == expected


def test_a_control_asked_after_a_strangers_certificate_makes_it_firm():
    made = proxy_begins()
    again = contrast((W1, made.seen[0][1][0]), Differs.CONTROL, at=11.0)
    sure = find(replace(made, known=replace(made.known, contrasts=(again,))))[0]
    assert (sure.rule, sure.certainty) == ("R25", Certainty.LIKELY)
    before = replace(again, at=1.0)
    held = find(replace(made, known=replace(made.known, contrasts=(before,))))[0]
    assert (held.rule, held.certainty) == ("R25", Certainty.SUSPECTED)


# --- other messengers ---------------------------------------------------------------------------


def strengths(rule: str, *peers: str) -> dict[str, float]:
    made = WORLDS[rule]()
    return {
        f.rule: f.confidence for f in find(replace(made, known=replace(made.known, peers=peers)))
    }


def test_calls_of_others_that_get_through_make_a_finding_stronger():
    alone, among_others = strengths("R37a"), strengths("R37a", "other")
    assert alone["R37a"] == 0.80
    assert among_others["R37a"] == pytest.approx(3 * 4 / (3 * 4 + 1), abs=0.005)


@pytest.mark.parametrize("rule", ["R37b", "R45", "R45s", "R46", "R12"])
def test_they_make_nothing_of_a_suspicion_and_tell_nothing_of_chats(rule):
    """Trouble at one operator leaves the others alone as well."""
    assert strengths(rule, "other") == strengths(rule)


def test_where_all_of_udp_is_dead_nobody_is_said_to_drop_questions_for_names():
    """As behind a router that forgets its flows: R10 was likely while nothing over UDP passed."""
    line = judgement(VantageStatus.RESTRICTED, names=False)
    names_only = case([], line=line, held_against=controls(udp_dns=Failure.TIMEOUT))
    everything = case([], line=line, held_against=ALL_UDP)
    assert "R10" in {f.rule for f in find(names_only)}
    assert "R10" not in {f.rule for f in find(everything)}
