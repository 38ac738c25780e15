"""The series of media streams, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric

from exporters.histogram import buckets
from exporters.streams import GAUGES, MODELS, StreamFigures
from probes.model import Target

LABELS = ["messenger", "channel", "target", "stream"]
Row = tuple[Target, bool, Mapping[str, StreamFigures]]
"""A target, whether its last run still counts, and its streams."""


def metrics(rows: Iterable[Row]) -> Iterator[Metric]:
    """The families ``callpath_media_*``; a gauge goes when its last run is too old."""
    sent = CounterMetricFamily(
        "callpath_media_packets_sent", "Packets of media streams that were sent.", labels=LABELS
    )
    received = CounterMetricFamily(
        "callpath_media_packets_received",
        "Packets of media streams that were answered.",
        labels=LABELS,
    )
    rtts = HistogramMetricFamily(
        "callpath_media_rtt_distribution_seconds",
        "Round-trip times of all answered packets, timed by the kernel.",
        labels=LABELS,
    )
    mos = GaugeMetricFamily(
        "callpath_media_mos",
        "Estimated mean opinion score of the last stream, by the model of a codec (G.107).",
        labels=[*LABELS, "profile"],
    )
    gauges = {
        name: GaugeMetricFamily(f"callpath_media_{name}", text, labels=LABELS)
        for name, text in GAUGES
    }
    for target, fresh, streams in rows:
        for stream, its in streams.items():
            labels = [target.messenger, target.channel, target.name, stream]
            sent.add_metric(labels, its.sent)
            received.add_metric(labels, its.received)
            rtts.add_metric(labels, *buckets(its.rtts))
            if not fresh:
                continue
            for name, family in gauges.items():
                if name in its.last:
                    family.add_metric(labels, its.last[name])
            for model in MODELS:
                if f"mos_{model}" in its.last:
                    mos.add_metric([*labels, model], its.last[f"mos_{model}"])
    yield from (sent, received, rtts, *gauges.values(), mos)
