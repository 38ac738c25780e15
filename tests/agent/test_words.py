"""A messenger's own first words: how they failed, what is held against them, what they overrule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent import words
from agent.asks import Around, Neutral
from agent.case import Differs, Symptom, groups, symptom_of
from agent.contrasts import first
from agent.diagnosis import Evidence, diagnose
from agent.sighting import Sign
from agent.signs import see
from config.model import MessengerConfig, TargetConfig
from probes.contrast import BytesProbe, HelloProbe
from probes.model import Failure, Observation, Status, Step
from probes.mtproto import MtprotoProbe
from probes.noise import NoiseProbe
from probes.tcp import TcpProbe
from probes.wire.mtproto import Transport
from tests.agent.building import judgement, seen, target
from tests.agent.worlds import A1, A2, M1, M2, MESSENGER, case, contrast
from tests.agent.worlds import words as said

NEUTRAL = Neutral("www.neutral.test", "192.0.2.80", 443)


def around(**given: Any) -> Around:
    known = {"research": False, "neutral": NEUTRAL, "far": None, "trusted": (), "system": None}
    return Around(**{**known, **given})


# --- symptoms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "facts", "symptom"),
    [
        (Failure.RESET, {}, Symptom.WORDS_RESET),
        (Failure.TIMEOUT, {}, Symptom.WORDS_UNACKED),
        (Failure.TIMEOUT, {"acked": True}, Symptom.WORDS_ACKED),
        (Failure.TIMEOUT, {"acked": True, "server_spoke": True}, None),
        (Failure.CLOSED, {"acked": True}, None),
        (Failure.WRONG_ID, {"acked": True, "server_spoke": True}, None),
        (Failure.UNKNOWN_ISSUER, {"acked": True, "server_spoke": True}, None),
    ],
)
def test_how_first_words_fail(failure: Failure, facts: dict[str, Any], symptom: Symptom) -> None:
    assert symptom_of(said(M1, failure, **facts)[1]) is symptom


def test_behind_tls_it_is_the_hello_that_may_have_been_read() -> None:
    probe = NoiseProbe("websocket")
    config = target("w", channel="web", probe=probe, host="w.test", port=443)
    before = (Step.CONNECT, Step.TLS)
    o = seen(config, Failure.TIMEOUT, before=before, hello_bytes=43, server_spoke=False)
    assert symptom_of(o) is Symptom.HELLO_ACKED


# --- contrasts ---------------------------------------------------------------------------------


def test_what_is_asked_of_a_data_centre() -> None:
    failed = [said(M1, Failure.TIMEOUT)]
    asks, left = words.first(failed, around())
    assert [a.differs for a in asks] == [Differs.TRANSPORT, Differs.PROTOCOL]
    other, hello = asks
    assert other.probe == MtprotoProbe(Transport.INTERMEDIATE)
    assert isinstance(hello.probe, HelloProbe)
    assert hello.probe.server_name == NEUTRAL.name
    assert {(a.address, a.port) for a in asks} == {(A1, 443)}
    assert [(it.differs, it.reason) for it in left] == [(Differs.BYTES, "profile")]


@pytest.mark.parametrize(
    "transport", [Transport.INTERMEDIATE, Transport.PADDED, Transport.OBFUSCATED]
)
def test_other_transports_are_held_against_the_plainest(transport: Transport) -> None:
    config = replace(M1, probe=MtprotoProbe(transport, fingerprints=("0123456789abcdef",)))
    asks, _ = words.first([said(config, Failure.RESET)], around())
    assert asks[0].probe == MtprotoProbe(fingerprints=("0123456789abcdef",))


def test_random_bytes_as_long_in_research() -> None:
    asks, left = words.first([said(M1, Failure.TIMEOUT)], around(research=True))
    assert asks[-1].differs is Differs.BYTES
    assert asks[-1].probe == BytesProbe(42)
    assert left == []


def test_noise_has_no_other_transport_at_its_port() -> None:
    config = target("n", channel="chat", probe=NoiseProbe(), host=A1, port=5222)
    asks, _ = words.first([said(config, Failure.TIMEOUT)], around())
    assert [a.differs for a in asks] == [Differs.PROTOCOL]


def test_without_a_neutral_name_tls_is_left_out() -> None:
    asks, left = words.first([said(M1, Failure.TIMEOUT)], around(neutral=None))
    assert [a.differs for a in asks] == [Differs.TRANSPORT]
    assert (Differs.PROTOCOL, "no_control") in [(it.differs, it.reason) for it in left]


def test_they_are_asked_once_more_and_a_sibling_with_them() -> None:
    failed = [said(m, Failure.RESET) for m in (M1, M2)]
    asks, _ = first(MESSENGER, failed, around(siblings=(("198.51.100.200", 443),)))
    again = [a for a in asks if a.differs is Differs.AGAIN]
    assert [(a.address, a.probe) for a in again] == [(A1, M1.probe), (A2, M2.probe)]
    assert all(a.wait > 0 for a in again)
    assert Differs.SIBLING in {a.differs for a in asks}


# --- what they overrule ------------------------------------------------------------------------

TCP = target("tcp", channel="chat", probe=TcpProbe(), host=A1, port=443)
ELSEWHERE = target("tcp-80", channel="chat", probe=TcpProbe(), host=A1, port=80)
MESSY = MessengerConfig("m", "Messy", 0.8, (), (), (), ())


def takes(config: TargetConfig) -> Observation:
    return seen(config, None, Step.CONNECT, address=config.host)


def evidence(*of: tuple[TargetConfig, Observation], proven: bool = True) -> list[Evidence]:
    return [Evidence(c, (o,), 0.0, True, proven or c.probe.kind == "tcp") for c, o in of]


def test_a_connection_over_which_first_words_get_no_answer_is_no_working_chat() -> None:
    known = evidence((TCP, takes(TCP)), said(M1, Failure.TIMEOUT))
    (found,) = diagnose(MESSY, known, judgement())
    assert (found.status, found.working, found.measured) == (Status.UNREACHABLE, 0, 2)
    assert found.reason == "exchange:timeout"
    assert [t.works for t in found.targets] == [False, False]


def test_another_port_stands_for_itself() -> None:
    known = evidence((TCP, takes(TCP)), (ELSEWHERE, takes(ELSEWHERE)), said(M1, Failure.TIMEOUT))
    (found,) = diagnose(MESSY, known, judgement())
    assert (found.status, found.working, found.measured) == (Status.DEGRADED, 1, 3)


def test_first_words_that_are_answered_overrule_nothing() -> None:
    answered = seen(M1, None, before=(Step.CONNECT,), address=A1, hello_bytes=42)
    (found,) = diagnose(MESSY, evidence((TCP, takes(TCP)), (M1, answered)), judgement())
    assert found.status is Status.OK


@pytest.mark.parametrize("why", ["unproven", "informative", "not so far"])
def test_what_decides_nothing_overrules_nothing(why: str) -> None:
    config, o = said(M1, Failure.TIMEOUT)
    if why == "informative":
        config = replace(config, informative=True)
    if why == "not so far":
        o = seen(config, Failure.TIMEOUT, Step.CONNECT, address=A1)
    known = evidence((TCP, takes(TCP)), (config, o), proven=why != "unproven")
    (found,) = diagnose(MESSY, known, judgement())
    assert found.targets[0].works is True


# --- what TLS at the same port tells -----------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "facts", "passes"),
    [
        (Failure.TIMEOUT, {"clienthello_acked": True}, True),
        (Failure.TIMEOUT, {"clienthello_acked": False}, False),
        (Failure.CLOSED, {"clienthello_acked": True}, True),
        (Failure.BAD_REPLY, {"clienthello_acked": True, "server_spoke": True}, True),
        (Failure.RESET, {"clienthello_acked": True}, False),
    ],
)
def test_a_hello_must_arrive_and_not_be_cut(
    failure: Failure, facts: dict[str, Any], passes: bool
) -> None:
    of = said(M1, Failure.RESET)
    made = case([of], channel="chat", contrasts=[contrast(of, Differs.PROTOCOL, failure, **facts)])
    sighting = see(Sign.TLS_PASSES, made, groups(made)[0])
    assert sighting is not None
    assert sighting.holds is passes
