"""OONI's measurements: every key of its field tables, and what was not asked is null."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from exporters.ooni import Place, measurements
from exporters.ooniwords import Asked, failure
from probes.model import Contrast, Failure, Observation, Step, StepResult, Target

AT = 1_767_607_200.0  # 2026-01-05 10:00:00 UTC
PLACE = Place(64512, "XX", "0.1.0", "linux", "amd64")
NEEDED = {
    "annotations", "data_format_version", "extensions", "input", "measurement_start_time",
    "probe_asn", "probe_cc", "probe_ip", "probe_network_name", "report_id", "resolver_asn",
    "resolver_ip", "resolver_network_name", "software_name", "software_version", "test_keys",
    "test_name", "test_runtime", "test_start_time", "test_version",
}  # fmt: skip
"""df-000, version 0.2.0; no other key may be there."""
LISTS = {
    "queries": {"answers", "engine", "failure", "hostname", "query_type", "resolver_address",
                "resolver_hostname", "resolver_port", "t", "t0"},
    "tcp_connect": {"ip", "port", "status", "t"},
    "tls_handshakes": {"address", "cipher_suite", "failure", "negotiated_protocol", "network",
                       "no_tls_verify", "peer_certificates", "server_name", "t", "tls_version"},
    "requests": {"failure", "request", "response", "t"},
    "network_events": {"address", "failure", "operation", "proto", "t"},
}  # fmt: skip
"""df-002, df-005, df-006, df-001, df-008."""
COMMON = {*LISTS, "agent", "failed_operation", "failure"}
ASKED = {
    "e1-443": Asked("e1.whatsapp.net", 443),
    "e1-5222": Asked("e1.whatsapp.net", 5222),
    "e2-443": Asked("e2.whatsapp.net", 443),
    "g-443": Asked("g.whatsapp.net", 443),
    "registration": Asked("v.whatsapp.net", 443, "https://v.whatsapp.net/v2/register", "GET"),
    "wa-web": Asked("web.whatsapp.com", 443, "https://web.whatsapp.com/", "HEAD"),
    "dc1": Asked("149.154.175.50", 443, "http://149.154.175.50:443/", "POST"),
    "dc2": Asked("149.154.167.51", 80, "http://149.154.167.51/", "POST"),
    "tg-web": Asked("web.telegram.org", 443, "https://web.telegram.org/", "HEAD"),
    "site": Asked("telegram.org", 443, "https://telegram.org/", "HEAD"),
    "call": Asked("91.108.9.35", 1400, udp=True),
    "call6": Asked("2001:67c:4e8:f102::1", 1400, udp=True),
    "stun": Asked("stun.example.net", 3478, udp=True),
}
GOOD = {"tcp": "connect", "https": "resolve connect tls exchange", "stun": "exchange"}


def seen(
    name: str, steps: str, why: Failure | None = None, *, probe: str = "https", **facts: Any
) -> Observation:
    made = [StepResult(Step(word), 0.1) for word in steps.split()]
    if why:
        made[-1] = StepResult(made[-1].step, 4.0, why)
    facts = {"address": "203.0.113.10", "family": "ipv4", **facts}
    return Observation(f"{name}-{steps}", Target("m", "", name, probe), AT, tuple(made), facts)


def of(experiment: str, *observations: Observation) -> dict[str, Any]:
    [made] = measurements(experiment, observations, ASKED, PLACE)
    return json.loads(json.dumps(made))


WEB = "resolve connect tls exchange"
PAGE = {"http_status": 200, "tls_version": "TLSv1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256"}


def whatsapp(*more: Observation) -> dict[str, Any]:
    return of("whatsapp", seen("wa-web", WEB, **PAGE), *more)


def test_the_head_has_every_key_and_no_other():
    for made in (whatsapp(), of("telegram", seen("dc1", "connect exchange", http_status=501))):
        assert set(made) == NEEDED
        assert made["input"] is None
        assert made["data_format_version"] == "0.2.0"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", made["test_start_time"])
        assert (made["probe_asn"], made["probe_cc"]) == ("AS64512", "XX")
        assert made["probe_ip"] == "127.0.0.1"
        assert made["software_name"] == "callpath"
        assert made["report_id"] == ""


def test_nothing_configured_is_nothing_known():
    [made] = measurements(
        "telegram", [seen("dc1", "connect")], ASKED, Place(0, "", "0.1.0", "linux", "amd64")
    )
    assert (made["probe_asn"], made["probe_cc"]) == ("AS0", "ZZ")


def test_the_lists_have_every_key_and_no_other():
    keys = whatsapp(seen("e1-443", "resolve connect"))["test_keys"]
    assert keys.keys() >= COMMON
    for name, its in LISTS.items():
        assert keys[name], name
        for entry in keys[name]:
            assert set(entry) == its, name
    assert keys["agent"] == "redirect"
    [request] = keys["requests"]
    assert set(request["request"]) == {
        "body", "body_is_truncated", "headers", "headers_list", "method", "tor", "url",
        "x_transport",
    }  # fmt: skip
    assert request["response"]["code"] == 200
    handshake = keys["tls_handshakes"][0]
    assert handshake["address"] == "203.0.113.10:443"
    assert handshake["tls_version"] == "TLSv1.3"


def test_times_are_since_the_start_and_names_come_before():
    keys = whatsapp()["test_keys"]
    assert whatsapp()["measurement_start_time"] == "2026-01-05 09:59:59"
    assert keys["queries"][0]["t0"] == 0
    assert keys["queries"][0]["t"] == pytest.approx(0.1)
    assert keys["tcp_connect"][0]["t"] == pytest.approx(0.2)
    assert keys["tls_handshakes"][0]["t"] == pytest.approx(0.3)
    assert keys["requests"][0]["t"] == pytest.approx(0.4)


def test_two_addresses_of_one_lookup_are_one_entry():
    other = seen("wa-web", "resolve connect", Failure.RESET, address="203.0.113.11")
    six = seen("wa-web", "resolve connect", address="2001:db8::1", family="ipv6")
    queries = whatsapp(other, six)["test_keys"]["queries"]
    assert [len(q["answers"]) for q in queries] == [2, 1]
    assert queries[1]["answers"][0]["ipv6"] == "2001:db8::1"


# --- whatsapp ---


def dead(name: str) -> Observation:
    return seen(name, "resolve connect", Failure.TIMEOUT, probe="tcp")


def test_whatsapp_all_well():
    keys = whatsapp(seen("registration", WEB), seen("e1-443", "connect"))["test_keys"]
    assert keys["whatsapp_web_status"] == keys["registration_server_status"] == "ok"
    assert keys["whatsapp_endpoints_status"] == "ok"
    assert keys["whatsapp_endpoints_blocked"] == []
    assert keys["whatsapp_web_failure"] is None


def test_whatsapp_blocked():
    keys = of(
        "whatsapp",
        *map(dead, ("e1-443", "e1-5222", "e2-443")),
        seen("wa-web", "resolve connect tls", Failure.RESET),
    )["test_keys"]
    assert keys["whatsapp_endpoints_status"] == "blocked"
    assert keys["whatsapp_endpoints_blocked"] == ["e1.whatsapp.net"]
    assert (keys["whatsapp_web_status"], keys["whatsapp_web_failure"]) == (
        "blocked",
        "connection_reset",
    )
    status = keys["tcp_connect"][0]["status"]
    assert status == {"failure": "generic_timeout_error", "success": False}


def test_what_was_not_asked_is_null():
    keys = of("whatsapp", seen("e1-443", "connect"))["test_keys"]
    assert keys["whatsapp_web_status"] is keys["registration_server_status"] is None
    keys = whatsapp()["test_keys"]
    assert keys["whatsapp_endpoints_status"] is None
    keys = of("telegram", seen("tg-web", WEB))["test_keys"]
    assert keys["telegram_http_blocking"] is keys["telegram_tcp_blocking"] is None


def test_only_the_experiments_own_targets_are_in_it():
    assert len(whatsapp(seen("g-443", "connect"))["test_keys"]["tcp_connect"]) == 1
    assert list(measurements("telegram", [seen("site", WEB)], ASKED, PLACE)) == []
    assert list(measurements("other", [seen("dc1", "connect")], ASKED, PLACE)) == []
    contrast = Contrast("x", "name")
    asked = seen("wa-web", WEB)
    again = Observation("c", asked.target, AT, asked.steps, asked.facts, contrast=contrast)
    assert list(measurements("whatsapp", [again], ASKED, PLACE)) == []


# --- telegram ---


@pytest.mark.parametrize(
    ("steps", "why", "http", "tcp"),
    [
        ("connect exchange", None, False, False),
        ("connect exchange", Failure.HTTP_STATUS, False, False),
        ("connect exchange", Failure.RESET, True, False),
        ("connect", Failure.TIMEOUT, True, True),
    ],
)
def test_telegram(steps, why, http, tcp):
    keys = of("telegram", seen("dc1", steps, why))["test_keys"]
    assert (keys["telegram_http_blocking"], keys["telegram_tcp_blocking"]) == (http, tcp)
    other = seen("dc2", "connect exchange")
    keys = of("telegram", seen("dc1", steps, why), other)["test_keys"]
    assert (keys["telegram_http_blocking"], keys["telegram_tcp_blocking"]) == (False, False)


def test_the_newest_request_is_first():
    made = of("telegram", seen("dc1", "connect exchange"), seen("tg-web", WEB))
    urls = [r["request"]["url"] for r in made["test_keys"]["requests"]]
    assert urls == ["https://web.telegram.org/", "http://149.154.175.50:443/"]
    assert made["test_keys"]["telegram_web_status"] == "ok"


# --- stun ---


def stun(name: str, why: Failure | None = None, steps: str = "exchange", **facts: Any) -> Any:
    asked = {"requests": 5, "answered": 0 if why else 5, **facts}
    return of("other", seen(name, steps, why, probe="stun", **asked))


def test_stun():
    made = stun("stun", steps="resolve exchange", address="198.51.100.7")
    assert set(made) == NEEDED
    assert made["input"] == "stun://stun.example.net:3478"
    assert made["test_name"] == "stunreachability"
    keys = made["test_keys"]
    assert set(keys) == {"endpoint", "failure", "network_events", "queries"}
    assert [e["operation"] for e in keys["network_events"]] == [
        "resolve_start",
        "resolve_done",
        "connect",
    ]
    assert keys["network_events"][2]["address"] == "198.51.100.7:3478"
    assert keys["failure"] is None
    assert made["annotations"]["answered"] == "5"


def test_stun_that_fails_or_nearly():
    assert stun("call", Failure.TIMEOUT)["test_keys"]["failure"] == "generic_timeout_error"
    assert stun("call", Failure.LOSSY, answered=1)["test_keys"]["failure"] is None
    keys = stun("stun", Failure.NO_ADDRESS, "resolve", rcode="NXDOMAIN", address="")["test_keys"]
    assert keys["failure"] == "dns_nxdomain_error"
    assert keys["queries"][0]["answers"] is None
    assert stun("call6")["input"] == "stun://[2001:67c:4e8:f102::1]:1400"


def test_every_failure_has_a_word_of_theirs():
    for why in Failure:
        word = failure(seen("dc1", "connect", why))
        assert word
        assert re.fullmatch(r"[a-z_]+|unknown_failure: [a-z_]+", word)
    assert failure(seen("dc1", "connect")) is None
