"""Metrics in the Prometheus and OpenMetrics text formats, built afresh from the mirror.

What was not measured is absent, never 0 or -1. Labels are closed sets; docs/metrics.md lists all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from exporters import media
from exporters.feed import TargetFigures
from exporters.histogram import buckets
from exporters.mirror import Mirror
from probes.model import Certainty, Mechanism, Status, VantageStatus

CHANNEL = ["messenger", "channel"]
TARGET = [*CHANNEL, "target", "probe"]


class Collector:
    """One pass over the mirror. ``now`` decides which last-run gauges have gone stale."""

    def __init__(self, mirror: Mirror, now: float) -> None:
        self._mirror = mirror
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._channels()
        yield from self._verdicts()
        yield from self._checks()
        yield from self._vantage()
        yield from self._agent()

    def _channels(self) -> Iterator[Metric]:
        status = GaugeMetricFamily(
            "callpath_channel_status",
            "Status of a messenger's channel; exactly one status is 1.",
            labels=[*CHANNEL, "status"],
        )
        deciding = GaugeMetricFamily(
            "callpath_channel_deciding_targets",
            "Targets that may decide the channel's status.",
            labels=CHANNEL,
        )
        working = GaugeMetricFamily(
            "callpath_channel_working_targets",
            "Deciding targets that worked when last measured.",
            labels=CHANNEL,
        )
        since = GaugeMetricFamily(
            "callpath_channel_status_since_timestamp_seconds",
            "When the confirmed status began.",
            labels=CHANNEL,
        )
        ratio = GaugeMetricFamily(
            "callpath_channel_success_ratio",
            "Share of the last 20 counted rounds in which the channel was ok.",
            labels=CHANNEL,
        )
        for d in self._mirror.diagnoses:
            labels = [d.messenger, d.channel]
            for one in Status:
                status.add_metric([*labels, str(one)], float(one is d.status))
            deciding.add_metric(labels, d.deciding)
            if d.measured:
                working.add_metric(labels, d.working)
            if d.since is not None:
                since.add_metric(labels, d.since)
            figures = self._mirror.channels.get((d.messenger, d.channel))
            if figures is not None and figures.success_ratio is not None:
                ratio.add_metric(labels, figures.success_ratio)
        yield from (status, deciding, working, ratio, since)

    def _verdicts(self) -> Iterator[Metric]:
        mechanism = GaugeMetricFamily(
            "callpath_channel_mechanism",
            "What is done to the channel's traffic, as the most certain finding names it.",
            labels=[*CHANNEL, "mechanism"],
        )
        interference = GaugeMetricFamily(
            "callpath_channel_interference",
            "Whether a rule at likely or better names interference.",
            labels=CHANNEL,
        )
        certainty = GaugeMetricFamily(
            "callpath_channel_certainty",
            "How sure the first finding is; exactly one certainty is 1.",
            labels=[*CHANNEL, "certainty"],
        )
        confidence = GaugeMetricFamily(
            "callpath_channel_confidence_ratio",
            "Confidence of the first finding; absent without one.",
            labels=CHANNEL,
        )
        hop = GaugeMetricFamily(
            "callpath_interference_hop",
            "Between which hops it is done to the packets; absent where that is not known.",
            labels=[*CHANNEL, "target", "kind"],
        )
        for d in self._mirror.diagnoses:
            labels = [d.messenger, d.channel]
            if d.place is not None:
                hop.add_metric([*labels, d.place.target, "low"], d.place.low)
                if d.place.high is not None:
                    hop.add_metric([*labels, d.place.target, "high"], d.place.high)
            for each in Mechanism:
                mechanism.add_metric([*labels, str(each)], float(each is d.mechanism))
            interference.add_metric(labels, float(d.interference))
            for one in Certainty:
                certainty.add_metric([*labels, str(one)], float(one is d.certainty))
            if d.first is not None:
                confidence.add_metric(labels, d.first.confidence)
        yield from (mechanism, interference, certainty, confidence, hop)

    def _checks(self) -> Iterator[Metric]:
        yield from self._last_runs()
        yield from self._totals()
        yield from media.metrics(
            (f.target, f.expires > self._now, f.streams)
            for f in self._mirror.targets.values()
            if f.streams
        )
        duration = HistogramMetricFamily(
            "callpath_check_duration_seconds",
            "Duration of whole checks, all addresses and steps.",
            labels=["probe"],
        )
        for probe, histogram in self._mirror.agent.durations.items():
            duration.add_metric([probe], *buckets(histogram))
        yield duration

    def _last_runs(self) -> Iterator[Metric]:
        """What the last run of each target said, while it is not stale."""
        success = GaugeMetricFamily(
            "callpath_check_success",
            "Whether the target worked when last asked.",
            labels=[*TARGET, "family"],
        )
        rtt = GaugeMetricFamily(
            "callpath_rtt_seconds",
            "Round-trip time of the last run, timed by the kernel.",
            labels=[*TARGET, "family"],
        )
        steps = GaugeMetricFamily(
            "callpath_check_step_seconds",
            "Duration of each step of the last run.",
            labels=[*TARGET, "family", "step"],
        )
        last = GaugeMetricFamily(
            "callpath_check_last_run_timestamp_seconds",
            "When the target was last asked.",
            labels=TARGET,
        )
        certificate = GaugeMetricFamily(
            "callpath_tls_certificate_expiry_timestamp_seconds",
            "End of validity of the certificate that the target presented.",
            labels=[*CHANNEL, "target"],
        )
        for f in self._mirror.targets.values():
            if f.last_run is None or f.expires <= self._now:
                continue
            labels = _target_labels(f)
            last.add_metric(labels, f.last_run)
            if f.success is not None:
                success.add_metric([*labels, f.family], float(f.success))
            if f.rtt is not None:
                rtt.add_metric([*labels, f.family], f.rtt)
            for step, seconds in f.steps.items():
                steps.add_metric([*labels, f.family, str(step)], seconds)
            if f.certificate_expiry is not None:
                certificate.add_metric([*labels[:3]], f.certificate_expiry)
        yield from (success, rtt, steps, last, certificate)

    def _totals(self) -> Iterator[Metric]:
        """What stays true of each target, however long ago it was asked."""
        runs = CounterMetricFamily(
            "callpath_check_runs", "Runs of a check that ended.", labels=TARGET
        )
        failures = CounterMetricFamily(
            "callpath_check_failures",
            "Observations that failed, by step and failure; a run has one per address.",
            labels=[*TARGET, "step", "failure"],
        )
        sent = CounterMetricFamily(
            "callpath_check_packets_sent", "Packets sent by a check.", labels=TARGET
        )
        received = CounterMetricFamily(
            "callpath_check_packets_received", "Packets received by a check.", labels=TARGET
        )
        proven = GaugeMetricFamily(
            "callpath_target_proven",
            "Whether the target is known to answer strangers, so that its silence counts.",
            labels=TARGET,
        )
        for f in self._mirror.targets.values():
            labels = _target_labels(f)
            runs.add_metric(labels, f.runs)
            sent.add_metric(labels, f.sent)
            received.add_metric(labels, f.received)
            proven.add_metric(labels, float(f.proven))
            for (step, failure), count in f.failures.items():
                failures.add_metric([*labels, str(step), str(failure)], count)
        yield from (runs, failures, sent, received, proven)

    def _vantage(self) -> Iterator[Metric]:
        agent = self._mirror.agent
        status = GaugeMetricFamily(
            "callpath_vantage_status",
            "Status of the place that measures; exactly one status is 1.",
            labels=["status"],
        )
        if self._mirror.report is not None and self._mirror.ready:
            for one in VantageStatus:
                shown = self._mirror.report.vantage.status
                status.add_metric([str(one)], float(one is shown))
        yield status
        info = InfoMetricFamily("callpath_vantage", "Name and place of the vantage.")
        info.add_metric(
            [],
            {
                "name": agent.name,
                "country": agent.country,
                "asn": str(agent.asn) if agent.asn else "",
                "network": agent.network,
            },
        )
        yield info
        yield CounterMetricFamily(
            "callpath_vantage_network_changes",
            "Times that the vantage came to another network.",
            value=agent.network_changes,
        )

    def _agent(self) -> Iterator[Metric]:
        yield from self._schedule()
        yield from self._spending()
        yield from self._versions()

    def _schedule(self) -> Iterator[Metric]:
        agent = self._mirror.agent
        lag = HistogramMetricFamily(
            "callpath_schedule_lag_seconds", "How late rounds started.", labels=[]
        )
        lag.add_metric([], *buckets(agent.lag))
        yield lag
        yield _counter("callpath_rounds", "Rounds that ended.", "messenger", agent.rounds)
        yield _counter(
            "callpath_rounds_skipped",
            "Rounds that were dropped: late, or the one before still running.",
            "reason",
            {"late": 0, "overlap": 0, **agent.rounds_skipped},
        )
        yield _counter(
            "callpath_checks_skipped",
            "Addresses left unasked for manners or budget; they are not measured.",
            "reason",
            {**dict.fromkeys(SKIP_REASONS, 0), **agent.checks_skipped},
        )
        yield _counter(
            "callpath_contrasts_skipped",
            "Follow-up checks that were deferred or forbidden; what they would tell is not known.",
            "reason",
            {**dict.fromkeys(CONTRAST_SKIP_REASONS, 0), **agent.contrasts_skipped},
        )

    def _spending(self) -> Iterator[Metric]:
        agent = self._mirror.agent
        yield _gauge("callpath_budget_bytes", "Bytes a day that may be used.", agent.budget_bytes)
        yield CounterMetricFamily(
            "callpath_sent_bytes", "Bytes sent, IP headers included.", value=agent.sent_bytes
        )
        yield CounterMetricFamily(
            "callpath_received_bytes",
            "Bytes received, IP headers included.",
            value=agent.received_bytes,
        )
        yield _gauge(
            "callpath_storage_healthy",
            "Whether what is learned is being written to disk.",
            agent.storage_healthy,
        )

    def _versions(self) -> Iterator[Metric]:
        agent = self._mirror.agent
        yield _gauge(
            "callpath_config_last_reload_successful",
            "Whether the configuration was last loaded without a problem.",
            agent.reload_ok,
        )
        yield _gauge(
            "callpath_config_last_reload_success_timestamp_seconds",
            "When a configuration was last loaded without a problem.",
            agent.reloaded_at,
        )
        build = GaugeMetricFamily(
            "callpath_build_info",
            "Versions of the program, its rules and its catalogue.",
            labels=["version", "rules", "catalogue"],
        )
        build.add_metric([agent.version, agent.rules, agent.catalogue], 1)
        yield build
        if agent.catalogue:
            yield _gauge(
                "callpath_catalogue_timestamp_seconds",
                "Day of the catalogue in use.",
                catalogue_day(agent.catalogue),
            )
        if agent.calibrated_at is not None:
            yield _gauge(
                "callpath_calibration_timestamp_seconds",
                "Date of the newest calibration in use.",
                agent.calibrated_at,
            )


SKIP_REASONS = (
    "byte_budget",
    "engine_died",
    "handshake_rate",
    "min_interval",
    "no_engine",
    "no_resolver",
    "not_fast",
    "outside_fast_prefixes",
    "packet_budget",
    "paused",
    "probe_fault",
    "residual",
    "stream_budget",
)
CONTRAST_SKIP_REASONS = tuple(sorted((*SKIP_REASONS, "no_control", "profile", "time")))


def catalogue_day(version: str) -> float:
    """Unix time at which the day of a catalogue version, ``YYYY.MM.DD[.N]``, began in UTC."""
    day = ".".join(version.split(".")[:3])
    return datetime.strptime(day, "%Y.%m.%d").replace(tzinfo=UTC).timestamp()


def _target_labels(f: TargetFigures) -> list[str]:
    return [f.target.messenger, f.target.channel, f.target.name, f.target.probe]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


class _Registry(CollectorRegistry):
    """A registry that asks one collector and nothing else."""

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self._only = collector

    def collect(self) -> Iterable[Metric]:
        return self._only.collect()


def render(mirror: Mirror, accept: str, now: float | None = None) -> tuple[bytes, str]:
    """The metrics page and its content type, as the ``Accept`` header asks."""
    encoder, content_type = choose_encoder(accept)
    if content_type.endswith("escaping=underscores"):
        # Names like ours are the same in UTF-8, but are not looked at letter by letter.
        encoder, _ = choose_encoder(content_type.replace("=underscores", "=allow-utf-8"))
    registry = _Registry(Collector(mirror, time.time() if now is None else now))
    return encoder(registry), content_type
