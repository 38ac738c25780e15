"""Which failure is traced by the agent, in which words, and whom it is held against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.diagnosis import Evidence
from agent.traceable import SURE_OF, choose
from agent.tracedoor import Order
from probes.dns import DnsProbe
from probes.https import HttpsProbe
from probes.model import Failure, Family, Mechanism, Role, Step
from probes.mtproto import MtprotoProbe
from probes.noise import NoiseProbe
from probes.stun import StunProbe
from probes.tls import TlsProbe
from probes.trace import words
from tests.agent.building import control, seen, target
from tests.agent.suspects import found, relay


def order_of(one: Any, mechanism: Mechanism = Mechanism.IP_DROP, **given: Any) -> Order | None:
    failed = given.pop("failed", None) or seen(one, Failure.TIMEOUT)
    evidence = (Evidence(one, (failed,), 0.0, True, True),)
    servers, controls = given.pop("servers", ()), given.pop("controls", ())
    choice = choose(found(mechanism=mechanism), evidence, controls, servers, lambda _: True)
    return choice.order if choice else None


@pytest.mark.parametrize(
    ("probe", "host", "kind", "name"),
    [
        (StunProbe(), "198.51.100.1", "stun", ""),
        (StunProbe(transport="tcp"), "198.51.100.1", "tcp", ""),
        (StunProbe(transport="tls"), "relay.example", "tls", "relay.example"),
        (TlsProbe(), "page.example", "tls", "page.example"),
        (TlsProbe(server_name="other.example"), "page.example", "tls", "other.example"),
        (TlsProbe(), "198.51.100.1", "tcp", ""),
        (MtprotoProbe(), "198.51.100.1", "mtproto", ""),
        (NoiseProbe(transport="websocket", root="00" * 32), "page.example", "tls", "page.example"),
        (DnsProbe("page.example", resolver="9.9.9.9"), "", "dns", "page.example"),
        (DnsProbe("page.example", resolver="quad9/tls"), "", None, ""),
    ],
)
def test_a_probe_is_said_in_the_tracers_words(probe, host, kind, name):
    order = order_of(target("one", host=host, probe=probe, port=443))
    assert (order.kind if order else None) == kind
    if order is not None:
        assert order.name == name
        words.words(order.kind, order.name, order.neutral or words.NEUTRAL, **order.more)


def test_plain_http_has_no_hello():
    one = target("one", host="page.example", probe=HttpsProbe("http://page.example/"), port=80)
    assert order_of(replace(one, url="http://page.example/")).kind == "tcp"
    assert order_of(replace(one, url="https://page.example/")).kind == "tls"


def test_every_kind_is_one_that_the_tracer_knows():
    from agent.traceable import _KINDS

    assert set(_KINDS.values()) <= set(words.kinds())
    assert all(mechanism.interference for mechanism in SURE_OF)


def test_a_name_that_is_answered_falsely_is_asked_for_on_the_way_to_the_resolver():
    page = target("page", host="page.example", probe=TlsProbe(), port=443)
    failed = seen(page, Failure.BAD_ANSWER, Step.RESOLVE, family=None)
    dns = Mechanism.DNS_INJECTION
    order = order_of(page, dns, failed=failed, servers=(("9.9.9.9", 53),))
    assert (order.kind, order.address, order.port, order.name) == ("dns", "9.9.9.9", 53, page.host)
    assert order_of(page, dns, failed=failed, servers=(("192.168.1.1", 53),)) is None
    assert order_of(page, dns, failed=failed) is None
    assert order_of(page, Mechanism.IP_DROP, failed=failed) is None, "there is no address"


def test_what_decides_and_fails_is_taken_and_of_the_findings_own_evidence_first():
    first, second = relay("first"), relay("second", address="198.51.100.2")

    def chosen(*evidence: Evidence, may: Any = lambda _: True, **given: Any) -> str | None:
        choice = choose(found(**given), evidence, (), (), may)
        return choice.target.name if choice else None

    assert chosen(first, second) == "first"
    assert chosen(first, second, evidence=(second.observations[0].id,)) == "second"
    assert chosen(first, second, may=lambda t: t.name == "second") == "second"
    assert chosen(replace(first, proven=False), second) == "second"
    assert chosen(replace(first, fresh=False), second) == "second"
    informative = replace(first, config=replace(first.config, informative=True))
    assert chosen(informative, second) == "second"
    works = replace(first, observations=(seen(first.config),))
    assert chosen(works, second) == "second"
    assert chosen(works, channel="call") is None
    assert chosen(relay(address="127.0.0.1")) is None
    assert chosen(first, channel="web") is None


def test_the_control_is_somebody_elses_that_answers_in_the_same_family():
    def stands(name: str, probe: Any, family: Family, works: bool, **given: Any) -> Evidence:
        one = control(name, **{"host": f"{name}.example", "probe": probe, "port": 443, **given})
        return Evidence(one, (seen(one, None if works else Failure.TIMEOUT, family=family),),
                        0.0, True, True)  # fmt: skip

    four, six = Family.IPV4, Family.IPV6
    controls = (
        stands("dead", StunProbe(), four, False, role=Role.STUN),
        stands("six", StunProbe(), six, True, role=Role.STUN),
        stands("four", StunProbe(), four, True, role=Role.STUN, port=3478),
        stands("site", HttpsProbe("https://site.example/"), four, True, role=Role.FOREIGN),
    )
    one = relay()
    order = order_of(one.config, controls=controls, failed=one.observations[0])
    assert order.controls == (("192.0.2.1", 3478, False),)
    assert order.neutral == "site.example"
    page = target("page", host="page.example", probe=TlsProbe(), port=443)
    failed = seen(page, Failure.TIMEOUT, address="198.51.100.1")
    held = order_of(page, controls=controls, failed=failed).controls
    assert held == (("192.0.2.1", 443, False),)
    assert order_of(page, failed=failed).controls == ()


def test_a_neighbour_of_the_same_network_goes_before_strangers():
    def answers(name: str, address: str) -> Evidence:
        one = target(name, host=address, probe=StunProbe(), port=3478)
        return Evidence(one, (seen(one, address=address),), 0.0, True, True)

    near, far = answers("near", "198.51.100.9"), answers("far", "203.0.113.9")
    stranger = control("stun", host="192.0.2.1", probe=StunProbe(), port=3478, role=Role.STUN)
    held = Evidence(stranger, (seen(stranger, address="192.0.2.1"),), 0.0, True, True)
    choice = choose(found(), (relay(), far, near), (held,), (), lambda _: True)
    assert choice is not None
    assert choice.order.controls == (("198.51.100.9", 3478, True), ("192.0.2.1", 3478, False))
    assert choice.order.sure
