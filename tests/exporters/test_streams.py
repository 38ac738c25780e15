"""The series of media streams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporters.feed import TargetFigures, record
from exporters.mirror import Mirror
from exporters.prometheus import render
from probes.model import Failure, Observation, Step, StepResult, Target
from probes.wire.quality import RTT_BOUNDS

MEDIA = Target("m", "call", "media-r", "media")
NOW = 1_800_000_000.0
COUNTS = ("0",) * 3 + ("57",) + ("0",) * (len(RTT_BOUNDS) - 3)
FACTS: dict[str, Any] = {
    "address": "192.0.2.1",
    "family": "ipv4",
    "requests": 60,
    "answered": 57,
    "loss_ratio": 0.05,
    "late_60ms_ratio": 0.1,
    "jitter_seconds": 0.002,
    "mos_g711": 3.9,
    "mos_opus": 3.5,
    "rtt_buckets": COUNTS,
    "rtt_sum_seconds": 1.71,
    "twin_requests": 60,
    "twin_answered": 60,
    "twin_loss_ratio": 0.0,
}


def run(**facts: Any) -> Observation:
    steps = (StepResult(Step.STREAM, 60.0, Failure.LOSSY),)
    return Observation("o", MEDIA, NOW, steps, {**FACTS, **facts})


def series(*runs: Observation, expires: float = NOW + 100) -> dict[str, float]:
    figures = TargetFigures(MEDIA, "", "documented", expires=expires)
    for one in runs:
        record(figures, (one,), one)
    mirror = Mirror()
    mirror.targets = {("m", "media-r"): figures}
    text, _ = render(mirror, "", NOW)
    lines = [
        line.rpartition(" ")
        for line in text.decode().splitlines()
        if line.startswith("callpath_media")
    ]
    return {name: float(value) for name, _, value in lines}


def of(name: str, stream: str = "target", **labels: str) -> str:
    known = {"channel": "call", "messenger": "m", "stream": stream, "target": "media-r", **labels}
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(known.items()))
    return f"callpath_media_{name}{{{inside}}}"


def sorted_labels(shown: dict[str, float]) -> dict[str, float]:
    def name(line: str) -> str:
        head, _, labels = line.partition("{")
        return f"{head}{{{','.join(sorted(labels.rstrip('}').split(',')))}}}"

    return {name(line): value for line, value in shown.items()}


def test_a_stream_and_its_control_have_series_of_their_own():
    shown = sorted_labels(series(run()))
    assert shown[of("loss_ratio")] == 0.05
    assert shown[of("late_ratio")] == 0.1
    assert shown[of("jitter_seconds")] == 0.002
    assert shown[of("mos", profile="g711")] == 3.9
    assert shown[of("mos", profile="opus")] == 3.5
    assert shown[of("packets_sent_total", "control")] == 60
    assert shown[of("loss_ratio", "control")] == 0
    assert of("jitter_seconds", "control") not in shown, "what was not measured is absent"


def test_packets_and_round_trips_add_up():
    shown = sorted_labels(series(run(), run()))
    assert shown[of("packets_sent_total")] == 120
    assert shown[of("packets_received_total")] == 114
    assert shown[of("rtt_distribution_seconds_count")] == 114
    assert shown[of("rtt_distribution_seconds_sum")] == pytest.approx(3.42)
    assert shown[of("rtt_distribution_seconds_bucket", le="0.02")] == 0
    assert shown[of("rtt_distribution_seconds_bucket", le="0.03")] == 114


def test_gauges_of_the_last_run_go_and_counters_stay():
    shown = sorted_labels(series(run(), expires=NOW - 1))
    assert of("loss_ratio") not in shown
    assert shown[of("packets_sent_total")] == 60


def test_a_control_that_was_not_there_this_time_has_no_gauge():
    alone = run()
    facts = {k: v for k, v in alone.facts.items() if not k.startswith("twin_")}
    shown = sorted_labels(series(run(), replace(alone, facts=facts)))
    assert of("loss_ratio", "control") not in shown
    assert shown[of("packets_sent_total", "control")] == 60


def test_a_strangers_server_is_a_control_too():
    facts = {k.replace("twin_", "stun_"): v for k, v in FACTS.items()}
    shown = sorted_labels(series(replace(run(), facts=facts)))
    assert shown[of("loss_ratio", "control")] == 0
