"""What /probe answers, in blackbox_exporter's metric names, and word by word for ``debug=true``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from exporters.feed import ProbeAnswer
from probes.model import Observation, Step

_PHASES: Mapping[str, Mapping[Step, str]] = {
    "https": {
        Step.RESOLVE: "resolve",
        Step.CONNECT: "connect",
        Step.TLS: "tls",
        Step.EXCHANGE: "processing",
    },
    "dns": {Step.RESOLVE: "resolve", Step.CONNECT: "connect", Step.EXCHANGE: "request"},
}
"""Blackbox's words for our steps, in the metrics that it has by phase."""
_PREFIX = {"https": "http", "dns": "dns"}


def chosen(answer: ProbeAnswer) -> Observation | None:
    """The first address that worked, else the first that was tried."""
    seen = answer.observations
    return next((o for o in seen if o.ok), seen[0] if seen else None)


def render(answer: ProbeAnswer, accept: str) -> tuple[bytes, str]:
    """The metrics of one answer, and their content type."""
    encoder, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(answer))
    return encoder(registry), content_type


class _Collector:
    def __init__(self, answer: ProbeAnswer) -> None:
        self._answer = answer

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        answer, seen = self._answer, chosen(self._answer)
        success = seen is not None and seen.ok and not answer.late
        yield _gauge("probe_success", "Displays whether or not the probe was a success", success)
        yield _gauge("probe_duration_seconds", "Seconds the probe took to complete", answer.seconds)
        yield _gauge("probe_timeout_seconds", "Seconds the probe was given", answer.limit)
        yield _gauge("callpath_probe_age_seconds", "Seconds since this was measured", answer.age)
        yield from _failure(answer, seen)
        if seen is not None:
            yield from _of_address(seen)
            yield from _of_steps(answer.kind, seen)
            yield from _of_facts(answer.kind, seen)


def _gauge(name: str, text: str, value: float | bool) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _failure(answer: ProbeAnswer, seen: Observation | None) -> Iterator[Metric]:
    failure = GaugeMetricFamily(
        "callpath_probe_failure",
        "What failed, and how; absent where nothing did.",
        labels=["step", "failure"],
    )
    failed = seen.failed if seen is not None else None
    if failed is not None and failed.failure is not None:
        failure.add_metric([str(failed.step), str(failed.failure)], 1)
        yield failure
    elif answer.late:
        failure.add_metric(["", "timeout"], 1)
        yield failure


def _of_address(seen: Observation) -> Iterator[Metric]:
    lookup = next((s for s in seen.steps if s.step is Step.RESOLVE), None)
    yield _gauge(
        "probe_dns_lookup_time_seconds",
        "Seconds that the name's look-up took",
        lookup.seconds if lookup else 0.0,
    )
    if seen.address is None:
        return
    ip = ipaddress.ip_address(seen.address)
    yield _gauge("probe_ip_protocol", "Version of IP that was used: 4 or 6", ip.version)
    yield _gauge("probe_ip_addr_hash", "Hash of the address, to see it change", fnv1a(ip.packed))


def fnv1a(data: bytes) -> int:
    """FNV-1a, 32 bits (draft-eastlake-fnv), which blackbox_exporter takes of an address."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def _of_steps(kind: str, seen: Observation) -> Iterator[Metric]:
    steps = GaugeMetricFamily(
        "callpath_probe_step_seconds", "Seconds that each step took.", labels=["step"]
    )
    for step in seen.steps:
        steps.add_metric([str(step.step)], step.seconds)
    yield steps
    if phases := _PHASES.get(kind):
        took = {step.step: step.seconds for step in seen.steps}
        family = GaugeMetricFamily(
            f"probe_{_PREFIX[kind]}_duration_seconds", "Seconds by phase.", labels=["phase"]
        )
        for named, phase in phases.items():
            family.add_metric([phase], took.get(named, 0.0))
        yield family


def _of_facts(kind: str, seen: Observation) -> Iterator[Metric]:
    facts = seen.facts
    if kind == "https":
        yield _gauge(
            "probe_http_status_code", "Status of the answer", _number(facts, "http_status")
        )
        yield _gauge("probe_http_redirects", "Redirects followed: none, ever", 0)
        spoke = any(s.step is Step.TLS for s in seen.steps)
        yield _gauge("probe_http_ssl", "Whether it was over TLS", spoke)
    if kind == "dns":
        answers = facts.get("answers")
        count = len(answers) if isinstance(answers, tuple) else 0
        yield _gauge("probe_dns_answer_rrs", "Records in the answer", count)
        answered = "rcode" in facts
        yield _gauge("probe_dns_query_succeeded", "Whether any answer came", answered)
    if isinstance(expiry := facts.get("certificate_not_after"), float | int):
        yield _gauge(
            "probe_ssl_earliest_cert_expiry", "When the certificate expires, Unix seconds", expiry
        )
    if isinstance(version := facts.get("tls_version"), str):
        info = GaugeMetricFamily("probe_tls_version_info", "Version of TLS", labels=["version"])
        info.add_metric([version], 1)
        yield info
    if isinstance(rtt := facts.get("rtt_seconds"), float | int):
        yield _gauge("callpath_probe_rtt_seconds", "Round trip, timed by the kernel", rtt)
    if isinstance(sent := facts.get("requests"), int) and sent:
        yield _gauge("callpath_probe_requests", "Requests sent, each once", sent)
        yield _gauge("callpath_probe_answered", "Requests answered", _number(facts, "answered"))


def _number(facts: Mapping[str, object], name: str) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, float | int) else 0.0


def debug(answer: ProbeAnswer) -> str:
    """Every step at every address with its facts, then the metrics, then the module."""
    lines = [f"{answer.kind}: {answer.seconds:.3f} s of {answer.limit:.1f} s"]
    if answer.late:
        lines.append("cut off at its limit: what it saw until then is lost")
    for seen in answer.observations:
        lines.append(f"{seen.address or 'no address'}:")
        for step in seen.steps:
            outcome = f"{step.failure} {step.detail}".rstrip() if step.failure else "ok"
            lines.append(f"  {step.step:<9} {step.seconds:8.4f} s  {outcome}")
        lines += [f"  {name} = {_shown(value)}" for name, value in seen.facts.items()]
    lines += ["", "Metrics:", render(answer, "text/plain")[0].decode().rstrip(), "", "Module:"]
    lines += [f"  {key}: {value}" for key, value in answer.module.items()]
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
