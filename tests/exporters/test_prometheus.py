"""Metrics: names, labels, and what is absent."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from config import CATALOGUE_VERSION
from exporters.mirror import Mirror
from exporters.prometheus import SKIP_REASONS, Collector, _Registry, render
from probes.model import Certainty, Mechanism, Status, VantageStatus
from tests.exporters.building import (
    AT,
    CONTROL,
    NOW,
    RELAY,
    agent_figures,
    diagnosis,
    finding,
    located,
    mirror,
    report,
    target_figures,
    update,
)
from tests.probes.programs import need

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CHANNEL = {"messenger", "channel"}
TARGET = {*CHANNEL, "target", "probe"}
LABELS = {
    "callpath_channel_status": {*CHANNEL, "status"},
    "callpath_channel_deciding_targets": CHANNEL,
    "callpath_channel_working_targets": CHANNEL,
    "callpath_channel_mechanism": {"messenger", "channel", "mechanism"},
    "callpath_channel_interference": {"messenger", "channel"},
    "callpath_channel_certainty": {"messenger", "channel", "certainty"},
    "callpath_channel_confidence_ratio": {"messenger", "channel"},
    "callpath_interference_hop": {*CHANNEL, "target", "kind"},
    "callpath_contrasts_skipped_total": {"reason"},
    "callpath_channel_success_ratio": CHANNEL,
    "callpath_channel_status_since_timestamp_seconds": CHANNEL,
    "callpath_check_success": {*TARGET, "family"},
    "callpath_rtt_seconds": {*TARGET, "family"},
    "callpath_check_step_seconds": {*TARGET, "family", "step"},
    "callpath_check_runs_total": TARGET,
    "callpath_check_failures_total": {*TARGET, "step", "failure"},
    "callpath_check_packets_sent_total": TARGET,
    "callpath_check_packets_received_total": TARGET,
    "callpath_check_last_run_timestamp_seconds": TARGET,
    "callpath_target_proven": TARGET,
    "callpath_tls_certificate_expiry_timestamp_seconds": {*CHANNEL, "target"},
    "callpath_check_duration_seconds": {"probe"},
    "callpath_vantage_status": {"status"},
    "callpath_vantage_info": {"name", "country", "asn", "network"},
    "callpath_vantage_network_changes_total": set(),
    "callpath_schedule_lag_seconds": set(),
    "callpath_rounds_total": {"messenger"},
    "callpath_rounds_skipped_total": {"reason"},
    "callpath_checks_skipped_total": {"reason"},
    "callpath_budget_bytes": set(),
    "callpath_sent_bytes_total": set(),
    "callpath_received_bytes_total": set(),
    "callpath_storage_healthy": set(),
    "callpath_config_last_reload_successful": set(),
    "callpath_config_last_reload_success_timestamp_seconds": set(),
    "callpath_build_info": {"version", "rules", "catalogue"},
    "callpath_catalogue_timestamp_seconds": set(),
    "callpath_calibration_timestamp_seconds": set(),
}


def page(of: Mirror, accept: str = "", now: float = NOW) -> str:
    return render(of, accept, now)[0].decode()


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def base(name: str) -> str:
    return re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name)


def test_every_metric_of_the_design_with_its_labels_and_no_other():
    placed = diagnosis(findings=(finding(),), place=located())
    found = samples(page(mirror(report=report(placed))))
    assert {base(name) for name in found} == set(LABELS)
    for name, rows in found.items():
        for labels, _ in rows:
            assert set(labels) - {"le"} == LABELS[base(name)], name


@pytest.mark.parametrize("one", list(Status))
def test_exactly_one_channel_status_is_one(one):
    found = samples(page(mirror(report=report(diagnosis(status=one)))))
    rows = {labels["status"]: value for labels, value in found["callpath_channel_status"]}
    assert rows == {str(s): float(s is one) for s in Status}


def test_every_mechanism_is_there_from_the_start_and_one_of_them_is_one():
    found = samples(page(mirror(report=report(diagnosis()))))
    rows = {labels["mechanism"]: value for labels, value in found["callpath_channel_mechanism"]}
    assert rows == {str(m): float(m is Mechanism.INCONCLUSIVE) for m in Mechanism}
    ok = samples(page(mirror(report=report(diagnosis(status=Status.OK)))))
    assert [la["mechanism"] for la, v in ok["callpath_channel_mechanism"] if v] == ["none"]
    assert "callpath_channel_confidence_ratio" not in ok


@pytest.mark.parametrize(
    ("mechanism", "certainty", "interference"),
    [
        (Mechanism.IP_DROP, Certainty.LIKELY, 1.0),
        (Mechanism.IP_DROP, Certainty.CONFIRMED, 1.0),
        (Mechanism.IP_DROP, Certainty.SUSPECTED, 0.0),
        (Mechanism.CONGESTION, Certainty.LIKELY, 0.0),
    ],
)
def test_interference_is_said_when_it_is_likely(mechanism, certainty, interference):
    named = replace(finding(), mechanism=mechanism, certainty=certainty)
    found = samples(page(mirror(report=report(diagnosis(findings=(named,))))))
    assert [v for _, v in found["callpath_channel_interference"]] == [interference]
    assert [la["mechanism"] for la, v in found["callpath_channel_mechanism"] if v] == [mechanism]
    assert [la["certainty"] for la, v in found["callpath_channel_certainty"] if v] == [certainty]
    assert [v for _, v in found["callpath_channel_confidence_ratio"]] == [0.8]


def test_the_hops_are_there_while_the_place_is_known():
    def shown(place):
        found = samples(page(mirror(report=report(diagnosis(place=place)))))
        rows = found.get("callpath_interference_hop", [])
        return {(la["target"], la["kind"]): value for la, value in rows}

    assert shown(located()) == {("relay", "low"): 2, ("relay", "high"): 3}
    assert shown(located(high=None)) == {("relay", "low"): 2}
    assert shown(None) == {}


def test_exactly_one_vantage_status_is_one():
    rows = samples(page(mirror()))["callpath_vantage_status"]
    assert {labels["status"] for labels, _ in rows} == {str(s) for s in VantageStatus}
    assert [labels["status"] for labels, value in rows if value] == ["online"]


def test_values():
    found = samples(page(mirror()))
    relay = {"messenger": "m", "channel": "call", "target": "relay", "probe": "stun"}

    def value(name: str, **labels: str) -> float:
        (row,) = [v for of, v in found[name] if {**relay, **labels}.items() >= of.items()]
        return row

    four = {"family": "ipv4"}
    assert value("callpath_check_success", **four) == 1
    assert value("callpath_rtt_seconds", **four) == 0.031
    assert value("callpath_check_step_seconds", **four, step="exchange") == 3.5
    assert value("callpath_check_runs_total") == 5
    assert value("callpath_check_failures_total", step="exchange", failure="timeout") == 2
    assert value("callpath_check_packets_sent_total") == 25
    assert value("callpath_check_packets_received_total") == 15
    assert value("callpath_check_last_run_timestamp_seconds") == AT
    assert value("callpath_channel_success_ratio") == 0.75
    assert found["callpath_rounds_total"] == [
        ({"messenger": "m"}, 7),
        ({"messenger": "control"}, 7),
    ]
    skipped = {labels["reason"]: v for labels, v in found["callpath_checks_skipped_total"]}
    assert skipped == {**dict.fromkeys(SKIP_REASONS, 0), "packet_budget": 3}
    lag = [(labels["le"], v) for labels, v in found["callpath_schedule_lag_seconds_bucket"]]
    assert lag == [("0.1", 1), ("1.0", 1), ("+Inf", 2)]
    assert found["callpath_schedule_lag_seconds_sum"] == [({}, 30.05)]
    assert found["callpath_schedule_lag_seconds_count"] == [({}, 2)]


# --- absent when not measured ----------------------------------------------------------------

LAST_RUN = {
    "callpath_check_success",
    "callpath_rtt_seconds",
    "callpath_check_step_seconds",
    "callpath_check_last_run_timestamp_seconds",
    "callpath_tls_certificate_expiry_timestamp_seconds",
}
ALWAYS = {"callpath_check_runs_total", "callpath_target_proven", "callpath_check_failures_total"}


def one_target(**given):
    return mirror(targets={("m", "relay"): target_figures(**given)})


def test_last_run_gauges_vanish_when_they_have_expired_and_counters_stay():
    of = one_target(expires=NOW + 1)
    assert samples(page(of)).keys() >= LAST_RUN | ALWAYS
    late = samples(page(of, now=NOW + 1))
    assert not LAST_RUN & late.keys()
    assert late.keys() >= ALWAYS


def test_what_was_never_run_has_no_last_run():
    never = samples(page(one_target(last_run=None, expires=0.0, runs=0)))
    assert not LAST_RUN & never.keys()
    assert never["callpath_check_runs_total"][0][1] == 0


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("success", "callpath_check_success"),
        ("rtt", "callpath_rtt_seconds"),
        ("certificate_expiry", "callpath_tls_certificate_expiry_timestamp_seconds"),
    ],
)
def test_what_was_not_measured_is_absent(field, name):
    found = samples(page(one_target(**{field: None})))
    assert name not in found
    assert "callpath_check_last_run_timestamp_seconds" in found


def test_a_channel_that_was_not_measured_has_no_working_targets():
    blind = diagnosis(status=Status.UNKNOWN, working=0, measured=0, since=None)
    found = samples(page(mirror(report=report(blind), channels={})))
    assert "callpath_channel_working_targets" not in found
    assert "callpath_channel_success_ratio" not in found
    assert "callpath_channel_status_since_timestamp_seconds" not in found
    assert found["callpath_channel_deciding_targets"][0][1] == 2
    # None of them working is something that was measured.
    found = samples(page(mirror(report=report(diagnosis()))))
    assert found["callpath_channel_working_targets"][0][1] == 0


def test_the_catalogues_day_is_a_point_in_time():
    name = "callpath_catalogue_timestamp_seconds"
    assert samples(page(mirror()))[name] == [({}, 1_795_132_800.0)]  # 2026-11-20 00:00 UTC
    assert name not in samples(page(Mirror()))
    shipped = samples(page(mirror(agent=agent_figures(catalogue=CATALOGUE_VERSION))))
    assert shipped[name][0][1] % 86400 == 0


def test_without_calibration_there_is_no_date_of_it():
    found = samples(page(mirror(agent=agent_figures(calibrated_at=None))))
    assert "callpath_calibration_timestamp_seconds" not in found


def test_before_the_first_update_there_is_a_page_all_the_same():
    found = samples(page(Mirror()))
    assert "callpath_channel_status" not in found
    assert "callpath_vantage_status" not in found
    assert found["callpath_rounds_skipped_total"]


def test_removed_targets_disappear_at_a_reset_only():
    of = mirror()
    rest = {("control", "c"): target_figures(CONTROL, "foreign")}
    of.apply(update(targets=rest, reset=False), 1.0)
    assert 'target="relay"' in page(of)
    of.apply(update(targets=rest, channels={}, report=None), 2.0)
    assert 'target="relay"' not in page(of)
    assert 'target="c"' in page(of)
    assert "callpath_channel_status{" not in page(of)


# --- formats ---------------------------------------------------------------------------------


def test_both_formats_parse_and_say_the_same():
    of = mirror()
    text, content_type = render(of, "", NOW)
    assert content_type.startswith("text/plain")
    opened, content_type = render(of, OPENMETRICS, NOW)
    assert content_type.startswith("application/openmetrics-text")
    assert opened.endswith(b"# EOF\n")

    def rows(families):
        return {
            (s.name, tuple(sorted(s.labels.items())), s.value)
            for family in families
            for s in family.samples
        }

    assert rows(parse_text(text.decode())) == rows(parse_openmetrics(opened.decode()))


@pytest.mark.parametrize("scheme", ["underscores", "dots", "values", "allow-utf-8"])
def test_each_scheme_of_names_is_as_the_library_makes_it(scheme):
    of = mirror()
    accept = f"application/openmetrics-text; version=1.0.0; escaping={scheme}; q=0.5, text/plain"
    encode, expected = choose_encoder(accept)
    body, content_type = render(of, accept, NOW)
    assert content_type == expected
    assert content_type.endswith(f"escaping={scheme}")
    assert body == encode(_Registry(Collector(of, NOW)))


def test_prometheus_own_linter_has_nothing_to_say():
    promtool = need("promtool")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=page(mirror()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_labels_are_escaped():
    odd = 'a"b\\c\nd'
    found = samples(page(mirror(agent=agent_figures(name=odd))))
    assert found["callpath_vantage_info"][0][0]["name"] == odd


def test_a_target_has_one_series_of_each_gauge():
    found = samples(page(mirror()))
    for name in ("callpath_check_success", "callpath_target_proven"):
        rows = [tuple(sorted(labels.items())) for labels, _ in found[name]]
        assert len(rows) == len(set(rows)) == 3
    assert RELAY.name == "relay"
