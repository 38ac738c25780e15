"""What is asked to explain a failure, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.asks import MOST, Around, FollowUp, Neutral, neutrals, window_of
from agent.case import WINDOWS, Differs, Symptom, symptom_of
from agent.companion import Companion
from agent.contrasts import AGAIN_AFTER, RELAYS, first, last, second
from config.model import TargetConfig
from probes.contrast import BytesProbe, HelloProbe, PacedQuery
from probes.dtls import DtlsProbe
from probes.model import Failure, Role, Step
from probes.net.environment import TrustedResolver
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from probes.turn import TurnProbe
from probes.twin import Dress, size_of
from probes.wire import dtls, stun
from tests.agent.building import seen, target
from tests.agent.worlds import (
    A1,
    A2,
    D1,
    ELSEWHERE,
    MESSENGER,
    Q1,
    R1,
    R2,
    R3,
    T1,
    T2,
    W1,
    W2,
    climbed,
    contrast,
    controls,
    hello,
    name,
    neutral,
    syn,
    trusted,
    udp,
)

TRUSTED = TrustedResolver(
    "quad9",
    "9.9.9.9",
    "dns.quad9.net",
    "/dns-query",
    ("udp", "tcp", "tls", "https"),
    {"udp": 53, "tcp": 53, "tls": 853, "https": 443},
)
CALM = Neutral("neutral.test", "192.0.2.80", 443)
FAR = Neutral("far.test", "192.0.2.81", 443)


def around(**given: Any) -> Around:
    values: dict[str, Any] = {
        "research": False,
        "neutral": CALM,
        "far": FAR,
        "trusted": (TRUSTED,),
        "system": ("192.0.2.53", 53),
        **given,
    }
    return Around(**values)


def asked(*failed: Any, **given: Any) -> list[FollowUp]:
    return first(MESSENGER, failed, around(**given))[0]


@pytest.mark.parametrize(
    ("failed", "differs"),
    [
        (hello(W1, Failure.RESET), {Differs.NAME}),
        (hello(W1, Failure.TIMEOUT, clienthello_acked=True), {Differs.NAME}),
        (hello(W1, Failure.UNKNOWN_ISSUER), {Differs.CONTROL}),
        (syn(T1), {Differs.PORT, Differs.AGAIN}),
        (syn(T1, Failure.REFUSED), {Differs.AGAIN}),
        (udp(R1), {Differs.DRESS, Differs.TIME, Differs.AGAIN}),
        (udp(R1, Failure.LOSSY), set()),
        (name(W1, Failure.NO_ADDRESS), {Differs.RESOLVER}),
        (name(W1, Failure.TIMEOUT), {Differs.RESOLVER, Differs.TIME, Differs.QUERY}),
        (hello(W1, Failure.WRONG_NAME, ELSEWHERE), {Differs.RESOLVER, Differs.CONTROL}),
    ],
)
def test_each_failure_has_its_own_contrasts(failed, differs):
    found = asked(failed)
    assert {a.differs for a in found} == differs
    assert all(a.of is failed[1] for a in found)


def test_the_neutral_name_goes_to_the_same_address_and_is_no_shorter():
    f = hello(W1, Failure.RESET, clienthello_bytes=1700)
    (follow,) = asked(f)
    assert (follow.address, follow.port) == (A1, 443)
    assert follow.probe == HelloProbe("neutral.test", pad_to=1700)


def test_it_is_carried_as_far_as_the_step_that_failed():
    steps = (Step.RESOLVE, Step.CONNECT, Step.TLS)
    late = (W1, seen(W1, Failure.TIMEOUT, before=steps, address=A1))
    (follow,) = asked(late)
    assert follow.probe.url == "https://neutral.test/"


def test_without_a_working_control_there_is_no_neutral_name_and_it_is_said():
    f = hello(W1, Failure.RESET)
    asks, left = first(MESSENGER, [f], around(neutral=None))
    assert asks == []
    assert [(o.differs, o.reason) for o in left] == [(Differs.NAME, "no_control")]


def test_one_address_is_asked_once_and_other_networks_come_first():
    same = [hello(w, Failure.RESET, A1) for w in (W1, W2)]
    assert len(asked(*same)) == 1
    many = [
        hello(target(f"w{i}", channel="web", probe=W1.probe, port=443), Failure.RESET, a)
        for i, a in enumerate(("198.51.100.1", "198.51.100.2", "198.51.100.3", A2))
    ]
    assert [a.address for a in asked(*many)][:2] == ["198.51.100.1", A2]
    assert len(asked(*many)) == MOST


def test_every_channel_has_a_sample_of_its_own():
    many = [syn(T1), hello(W1, Failure.RESET)]
    assert {a.config.target.channel for a in asked(*many)} == {"chat", "web"}


def test_ports_that_the_round_has_asked_are_not_asked_again():
    def ports(**given: Any) -> set[int]:
        return {a.port for a in asked(syn(T1), **given) if a.differs is Differs.PORT}

    assert ports() == {443, 80}
    assert ports(heard=frozenset({(A1, 443)})) == {80}


def test_a_relay_is_asked_in_a_dress_without_the_cookie_and_again_in_its_own():
    found = asked(udp(R1))
    dresses = {a.differs: a.probe for a in found}
    assert dresses[Differs.DRESS].dress is stun.Dress.RFC3489
    assert dresses[Differs.TIME] == R1.probe
    assert {a.facts.get("cookie") for a in found} == {False, None}


def test_the_mark_goes_first_so_that_a_servers_limit_does_not_look_like_a_filter_on_it():
    asks = [a.differs for a in asked(udp(R1)) if a.differs in (Differs.TIME, Differs.DRESS)]
    assert asks == [Differs.TIME, Differs.DRESS]


def test_two_relays_are_a_sample_and_those_known_to_answer_come_first():
    three = [udp(r) for r in (R1, R2, R3)]
    found = asked(*three, verified=frozenset({"r2"}))
    relays = list(dict.fromkeys(a.address for a in found))
    assert relays[0] == R3.host
    assert len(relays) == RELAYS


def dressed(relay: TargetConfig) -> FollowUp:
    (follow,) = (a for a in asked(udp(relay)) if a.differs is Differs.DRESS)
    return follow


def test_other_kinds_of_relay_are_asked_in_another_dress_too():
    legacy = target("legacy", probe=StunProbe(dress=stun.Dress.RFC3489), host=A1, port=3478)
    follow = dressed(legacy)
    assert (follow.probe.dress, follow.facts["cookie"]) == (stun.Dress.BARE, True)
    greeting = target("dtls", probe=DtlsProbe(), host=A1, port=3478)
    follow = dressed(greeting)
    assert follow.probe.dress != greeting.probe.dress


def test_the_resolver_matrix_deals_out_its_handshakes():
    failed = [
        name(W1, Failure.NO_ADDRESS),
        name(W2, Failure.NO_ADDRESS),
        name(replace(T1, host="chat.test"), Failure.NO_ADDRESS),
    ]
    by_name: dict[str, set[str]] = {}
    for a in asked(*failed):
        by_name.setdefault(a.config.host, set()).add(str(a.facts["transport"]))
    assert by_name == {
        "w1.test": {"udp", "tcp", "tls"},
        "w2.test": {"udp", "tcp"},
        "chat.test": {"udp", "tcp", "https"},
    }


def test_without_a_trusted_resolver_that_is_said():
    asks, left = first(MESSENGER, [name(W1, Failure.NO_ADDRESS)], around(trusted=()))
    assert (asks, [o.reason for o in left]) == ([], ["no_resolver"])


def test_an_address_of_the_owner_is_no_matter_of_names():
    assert {a.differs for a in asked(hello(W1, Failure.RESET, A1))} == {Differs.NAME}
    assert Differs.RESOLVER in {a.differs for a in asked(hello(W1, Failure.RESET, ELSEWHERE))}


def test_a_silent_name_is_held_against_a_controls():
    pair = [a for a in asked(name(W1, Failure.TIMEOUT)) if isinstance(a.probe, PacedQuery)]
    assert {(a.differs, a.probe.query) for a in pair} == {
        (Differs.TIME, "w1.test"),
        (Differs.QUERY, "neutral.test"),
    }
    assert {a.address for a in pair} == {"192.0.2.53"}


def test_each_channels_silent_name_is_held_against_one_pair_of_queries():
    media = target("w3", channel="media", probe=W1.probe, host="w3.test", port=443)
    asks = asked(name(W1, Failure.TIMEOUT), name(media, Failure.TIMEOUT))
    pair = [(a.differs, a.probe.query) for a in asks if isinstance(a.probe, PacedQuery)]
    assert sorted(pair) == [
        (Differs.QUERY, "neutral.test"),
        (Differs.TIME, "w1.test"),
        (Differs.TIME, "w3.test"),
    ]


def test_another_server_of_the_owner_is_asked_once_after_the_failure():
    relays = [udp(R1), udp(R2), udp(R3)]
    asks = asked(*relays, siblings=((ELSEWHERE, 443), ("198.51.100.200", 80), (A1, 80)))
    (follow,) = [a for a in asks if a.differs is Differs.SIBLING]
    assert (follow.address, follow.port, follow.probe) == ("198.51.100.200", 80, TcpProbe())
    assert Differs.SIBLING not in {a.differs for a in asked(*relays)}


def test_the_target_is_asked_where_a_trusted_resolver_says_it_is():
    f = hello(W1, Failure.WRONG_NAME, ELSEWHERE)
    told = trusted(f, "tcp", ("10.0.0.1", A1))
    (follow,) = second([f], [told], around())[0]
    assert (follow.differs, follow.address, follow.host) == (Differs.ANSWER, A1, "w1.test")
    assert follow.probe == W1.probe
    assert second([f], [trusted(f, "udp", (A1,))], around())[0] == []


def test_what_failed_is_asked_once_more_after_what_may_pass():
    """A name only where a neutral one passed, and one hello to each address."""
    f = hello(W1, Failure.RESET)
    (follow,), _ = second([f], [neutral(f)], around())
    assert (follow.differs, follow.address, follow.port) == (Differs.AGAIN, A1, 443)
    assert (follow.probe, follow.host) == (W1.probe, "w1.test")
    assert follow.wait == AGAIN_AFTER
    assert second([f], [neutral(f, Failure.RESET)], around())[0] == []
    silent = [a for a in asked(syn(T1), syn(T2)) if a.differs is Differs.AGAIN]
    assert [(a.address, a.port, a.probe) for a in silent] == [
        (t.host, t.port, TcpProbe()) for t in (T1, T2)
    ]
    assert {a.wait for a in silent} == {AGAIN_AFTER}


def test_random_bytes_are_for_research_and_only_where_a_neutral_name_fails():
    f = hello(W1, Failure.RESET)
    fails = neutral(f, Failure.RESET)
    (once_more,), left = second([f], [neutral(f)], around(research=True))
    assert (once_more.differs, left) == (Differs.AGAIN, [])
    asks, left = second([f], [fails], around())
    assert (asks, [o.reason for o in left]) == ([], ["profile"])
    (follow,), left = second([f], [fails], around(research=True))
    assert follow.probe == BytesProbe(517)
    assert left == []


def test_a_long_hello_has_a_short_one_beside_it():
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=False, clienthello_bytes=1700)
    (follow,) = second([f], [neutral(f, Failure.TIMEOUT)], around())[0]
    assert (follow.differs, follow.probe.short) == (Differs.LENGTH, True)
    assert follow.probe.server_name == "w1.test"


def test_the_targets_name_goes_to_a_control_last_and_for_research_only():
    failed = [hello(W1, Failure.RESET), hello(W2, Failure.RESET, A2)]
    passed = [neutral(f) for f in failed]
    (follow,), left = last(failed, passed, around(research=True))
    assert (follow.differs, follow.address) == (Differs.ADDRESS, FAR.address)
    assert follow.probe.server_name == "w1.test"
    assert left == []
    assert [o.reason for o in last(failed, passed, around())[1]] == ["profile"]
    deferred = last(failed, passed, around(research=True, far=None))
    assert (deferred[0], [o.reason for o in deferred[1]]) == ([], ["residual"])
    assert last(failed, [], around(research=True)) == ([], [])


def test_neutral_names_are_those_of_foreign_https_controls_that_answer():
    working = neutrals(controls())
    assert [n.name for n in working] == ["f0.test", "f1.test", "f2.test"]
    assert neutrals(controls(foreign=Failure.TIMEOUT)) == []
    assert all(r.config.role is Role.FOREIGN for r in controls()[:3])


@pytest.mark.parametrize(
    ("failed", "seconds"),
    [
        (hello(W1, Failure.RESET), 90),
        (hello(W1, Failure.TIMEOUT, clienthello_acked=False), 60),
        (hello(W1, Failure.TIMEOUT, clienthello_acked=True), 450),
        (hello(W1, Failure.UNKNOWN_ISSUER), 0),
        (syn(T1), 0),
        (udp(R1), 0),
    ],
)
def test_how_long_a_filter_may_remember(failed, seconds):
    assert window_of(failed[1]) == seconds


def companion(*ports: int) -> Companion:
    return Companion("192.0.2.7", ports or (3478,), 8443, bytes(32), "0" * 64)


def at_twin(*failed: Any, **given: Any) -> dict[str, FollowUp]:
    asks = asked(*failed, **{"twin": companion(), **given})
    return {str(a.facts["payload"]): a for a in asks if a.differs is Differs.TWIN}


@pytest.mark.parametrize(
    "failed",
    [udp(R1), hello(W1, Failure.RESET), name(W1, Failure.TIMEOUT), syn(T1)],
    ids=["udp", "hello", "name", "syn"],
)
def test_without_a_twin_none_is_asked_and_none_is_missed(failed):
    for research in (False, True):
        given = around(research=research)
        asks, left = first(MESSENGER, [failed], given)
        asks += second([failed], [neutral(failed)], given)[0]
        asks += last([failed], [neutral(failed)], given)[0]
        assert not any(a.differs is Differs.TWIN or a.address == "192.0.2.7" for a in asks)
        assert not any(one.differs is Differs.TWIN for one in left)


@pytest.mark.parametrize(
    ("probe", "payload", "dress"),
    [
        (StunProbe(), "stun", Dress.STUN_BARE),
        (StunProbe(dress=stun.Dress.APP), "stun", Dress.STUN_APP),
        (TurnProbe(), "stun", Dress.STUN_BARE),
        (DtlsProbe(dtls.Dress.BROWSER), "dtls", Dress.DTLS_BROWSER),
        (DtlsProbe(dtls.Dress.OPENSSL), "dtls", Dress.DTLS_OPENSSL),
    ],
    ids=lambda it: str(getattr(it, "kind", it)),
)
def test_the_twin_is_sent_the_same_bytes(probe, payload, dress):
    f = udp(target("relay", probe=probe, host=A1, port=1400))
    found = at_twin(f)
    assert found[payload].probe.dress is dress
    assert set(found) == {payload, "stun"}, "what else fails there is held against STUN"
    assert {(a.address, a.of.id) for a in found.values()} == {("192.0.2.7", f[1].id)}


def test_the_twin_is_asked_once_for_all_relays_and_at_their_port_where_it_has_it():
    found = at_twin(udp(R1), udp(R2), udp(R3), twin=companion(3478, 1400))
    assert [a.port for a in found.values()] == [1400]
    assert at_twin(udp(R1))["stun"].port == 3478
    greeting = target("dtls", probe=DtlsProbe(), host=A2, port=3478)
    both = at_twin(udp(greeting), udp(R1), twin=companion(1400, 3478), research=True)
    assert set(both) == {"dtls", "stun", "random"}
    assert len({a.port for a in both.values()}) == 1, "or a port's trouble were the bytes'"
    assert at_twin(udp(R1, Failure.LOSSY)) == {}


def test_random_bytes_to_the_twin_are_for_research_and_of_the_same_size():
    f = udp(R1)
    _, left = first(MESSENGER, [f], around(twin=companion()))
    assert [(one.differs, one.reason) for one in left] == [(Differs.TWIN, "profile")]
    found = at_twin(f, research=True)
    assert set(found) == {"stun", "random"}
    assert found["random"].probe.size == size_of(Dress.STUN_BARE)


def test_the_targets_name_goes_to_the_twin_once_that_has_taken_a_neutral_one():
    f = hello(W1, Failure.RESET)
    given = around(research=True, twin=companion())
    (once_more,), _ = second([f], [neutral(f)], around(twin=companion()))
    assert once_more.differs is Differs.AGAIN, "no app sends it there"
    (_, greeting), _ = second([f], [neutral(f)], given)
    assert (greeting.differs, greeting.address, greeting.port) == (Differs.TWIN, "192.0.2.7", 8443)
    assert greeting.probe.server_name == "neutral.test"
    for failure, address in ((None, "192.0.2.7"), (Failure.TIMEOUT, FAR.address)):
        greeted = contrast(f, Differs.TWIN, failure, address="192.0.2.7", payload="tls")
        (follow,), _ = last([f], [neutral(f), greeted], given)
        assert (follow.differs, follow.address) == (Differs.ADDRESS, address)
        assert follow.probe.server_name == "w1.test"


def test_a_name_that_fails_after_the_handshake_is_asked_where_somebody_answers_requests():
    steps = (Step.RESOLVE, Step.CONNECT, Step.TLS)
    late = (W1, seen(W1, Failure.TIMEOUT, before=steps, address=A1))
    greeted = contrast(late, Differs.TWIN, address="192.0.2.7", payload="tls")
    given = around(research=True, twin=companion())
    assert {a.differs for a in second([late], [neutral(late)], given)[0]} == {Differs.AGAIN}
    (follow,), _ = last([late], [neutral(late), greeted], given)
    assert follow.address == FAR.address


def test_a_probe_that_nobody_knows_how_to_vary_is_left_alone():
    strange = target("x", host=A1, port=1)  # a kind that only tests have
    assert asked((strange, udp(R1)[1])) == []


def test_each_contrast_differs_in_one_attribute_only():
    """The probe, or the address, or the port, or the host asked: never two of them."""
    f = syn(T2)
    for follow in asked(f):
        assert follow.address == f[1].address
    for follow in asked(hello(W1, Failure.RESET)):
        assert (follow.address, follow.port) == (A1, W1.port)
    spoken = contrast(hello(W1, Failure.RESET), Differs.NAME)
    assert spoken.contrast is not None
    assert Symptom.HELLO_RESET in WINDOWS


def test_quic_that_is_silent_is_held_against_tcp_and_asked_once_more():
    f = climbed(Q1)
    asks = asked(f, research=True)
    (beside,) = [a for a in asks if a.differs is Differs.OVER_TCP]
    assert beside.probe == TlsProbe("q1.test")
    assert (beside.address, beside.port) == (A1, 443)
    (again,) = [a for a in asks if a.differs is Differs.AGAIN]
    assert again.probe == Q1.probe
    assert again.host == "q1.test"
    assert again.wait > 0
    assert {a.differs for a in asks} <= {Differs.OVER_TCP, Differs.AGAIN, Differs.RESOLVER}
    alert = (Q1, seen(Q1, Failure.TLS_ALERT, address=A1))
    assert asked(alert, research=True) == []


def test_quic_that_was_heard_is_not_silent():
    _, o = climbed(Q1)
    heard = replace(o, facts={**o.facts, "quic_heard": True})
    assert symptom_of(o) is Symptom.QUIC_SILENT
    assert symptom_of(heard) is None


def test_a_greeting_that_is_silent_is_held_against_another_and_against_stun():
    f = udp(D1)
    asks = asked(f)
    by_kind = {a.differs: a for a in asks}
    assert by_kind[Differs.DRESS].probe == DtlsProbe(dtls.Dress.BROWSER)
    assert by_kind[Differs.STUN].probe == StunProbe()
    assert by_kind[Differs.AGAIN].probe == D1.probe
    assert {(a.address, a.port) for a in asks} == {(A1, 3480)}
    pion = udp(target("d", probe=DtlsProbe(dtls.Dress.PION), host=A1, port=3480))
    (other,) = [a for a in asked(pion) if a.differs is Differs.DRESS]
    assert other.probe == DtlsProbe(dtls.Dress.BROWSER)
    assert Differs.STUN not in {a.differs for a in asked(udp(R1))}


# --- less common ones --------------------------------------------------------------------------


def test_a_resolver_that_takes_no_hello_is_asked_with_a_neutral_name():
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    facts = {"query": W1.host, "transport": "tls", "address": "9.9.9.9", "port": 853}
    cut = contrast(f, Differs.RESOLVER, Failure.RESET, Step.TLS, clienthello_bytes=517, **facts)
    fine = contrast(f, Differs.RESOLVER, None, Step.TLS, **facts)
    (ask,) = [a for a in second([f], [cut], around())[0] if a.differs is Differs.NAME]
    assert (ask.of, ask.address, ask.port) == (cut, "9.9.9.9", 853)
    assert ask.probe == HelloProbe(CALM.name, pad_to=517)
    assert [a for a in second([f], [fine], around())[0] if a.differs is Differs.NAME] == []
    assert second([f], [cut], around(neutral=None))[0] == []


def test_silent_call_servers_are_asked_without_the_cookie_too():
    public = (("192.0.2.33", 3478), ("192.0.2.34", 19302), ("192.0.2.35", 3478))
    there = [a for a in asked(udp(R1), public=public) if a.address.startswith("192.0.2.3")]
    assert [(a.address, a.port) for a in there] == list(public[:2])
    assert {a.probe for a in there} == {StunProbe(dress=stun.Dress.RFC3489)}
    assert all(a.facts == {"cookie": False} for a in there)
    assert Differs.DRESS not in {a.differs for a in asked(syn(T1), public=public)}


def test_a_name_is_asked_where_no_resolver_is_by_research_only():
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    (ask,) = [a for a in asked(f, research=True) if a.differs is Differs.NOWHERE]
    assert (ask.address, ask.port, ask.probe.query) == (FAR.address, 53, W1.host)
    for given in ({}, {"research": True, "far": None}):
        assert Differs.NOWHERE not in {a.differs for a in asked(f, **given)}


def test_a_strangers_certificate_has_a_control_asked_once_more():
    f = hello(W1, Failure.UNKNOWN_ISSUER, certificate_issuer="stranger")
    asks, _ = first(MESSENGER, [f], around())
    again = [a for a in asks if a.differs is Differs.CONTROL]
    assert [(a.probe, a.address, a.port) for a in again] == [
        (TlsProbe(CALM.name), CALM.address, CALM.port)
    ]
    reset = hello(W1, Failure.RESET)
    asks, _ = first(MESSENGER, [reset], around())
    assert not [a for a in asks if a.differs is Differs.CONTROL]
