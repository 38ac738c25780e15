"""What the rounds saw, in the form of OONI's measurements (ooni/spec, df-000 version 0.2.0).

Of three experiments, each with what that one asks and no more: ts-020 telegram, ts-018 whatsapp,
ts-025 stun_reachability. What was not asked in a round is null, and never "blocked", other than in
OONI's own probe. Our address is in none of it, and nothing here is sent to anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporters.experiments import EXPERIMENTS, Experiment
from exporters.ooniwords import Asked, failure, works
from probes.model import Failure, Observation, Step, StepResult

FORMAT = "0.2.0"
STUN = "stunreachability"


@dataclass(frozen=True, slots=True)
class Place:
    """Who measured: as configured, and never looked up. ``asn`` 0 and ``country`` "" are unknown,
    which OONI writes as AS0 and ZZ."""

    asn: int
    country: str
    version: str
    platform: str
    architecture: str


def measurements(
    experiment: str,
    seen: Iterable[Observation],
    asked: Mapping[str, Asked],
    place: Place,
) -> Iterator[dict[str, Any]]:
    """One round of a messenger, as the experiment of that name if OONI has one; and every question
    in it to a STUN server. ``asked``: by the names of targets. Contrasts are left out."""
    plain = [
        (o, asked[o.target.name])
        for o in seen
        if o.contrast is None and not o.partial and o.target.name in asked
    ]
    test = EXPERIMENTS.get(experiment)
    if test is not None and (its := [(o, a) for o, a in plain if test.asks(a)]):
        yield _messenger(experiment, test, its, place)
    for o, a in plain:
        if a.udp and o.target.probe == "stun" and o.steps:
            yield _stun(o, a, place)


def _head(
    name: str, version: str, given: str | None, seen: Sequence[Observation], place: Place
) -> dict[str, Any]:
    start = min(map(_began, seen))
    network = f"AS{place.asn}"
    at = f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M:%S}"
    return {
        "annotations": {
            "architecture": place.architecture,
            "engine_name": "callpath",
            "engine_version": place.version,
            "platform": place.platform,
        },
        "data_format_version": FORMAT,
        "extensions": {"dnst": 0, "netevents": 0},
        "input": given,
        "measurement_start_time": at,
        "probe_asn": network,
        "probe_cc": place.country or "ZZ",
        "probe_ip": "127.0.0.1",
        "probe_network_name": "",
        "report_id": "",
        "resolver_asn": "AS0",
        "resolver_ip": "",
        "resolver_network_name": "",
        "software_name": "callpath",
        "software_version": place.version,
        "test_name": name,
        "test_runtime": round(max(_began(o) + o.seconds for o in seen) - start, 6),
        "test_start_time": at,
        "test_version": version,
    }


def _messenger(
    name: str, test: Experiment, its: Sequence[tuple[Observation, Asked]], place: Place
) -> dict[str, Any]:
    made = _head(name, test.version, None, [o for o, _ in its], place)
    made["extensions"] |= {"httpt": 0, "tcpconnect": 0, "tlshandshake": 0, "tunnel": 0}
    start = min(_began(o) for o, _ in its)
    made["test_keys"] = {
        "agent": "redirect",
        "failed_operation": None,
        "failure": None,
        "network_events": [e for o, a in its if (e := _connect_event(o, a, start, "tcp"))],
        "queries": _queries(its, start),
        "requests": [r for o, a in reversed(its) if (r := _request(o, a, start))],
        "tcp_connect": [c for o, a in its if (c := _tcp_connect(o, a, start))],
        "tls_handshakes": [h for o, a in its if (h := _handshake(o, a, start))],
        **test.keys(its),
    }
    return made


def _stun(o: Observation, a: Asked, place: Place) -> dict[str, Any]:
    """OONI's probe repeats itself until something comes back, so one answer of five is success
    there; how many there were is in the annotations."""
    endpoint = f"{_bracketed(a.host)}:{a.port}"
    made = _head(STUN, "0.4.0", f"stun://{endpoint}", [o], place)
    answered = o.facts.get("answered", 0)
    for fact in ("requests", "answered"):
        if fact in o.facts:
            made["annotations"][fact] = str(o.facts[fact])
    heard = o.failed is not None and o.failed.failure is Failure.LOSSY and bool(answered)
    events = [_event("resolve_start", 0.0)] if _resolve(o) else []
    if resolved := _resolve(o):
        problem = failure(o) if resolved.failure else None
        events.append(_event("resolve_done", resolved.seconds, problem))
    if o.address and _step(o, Step.EXCHANGE):
        address = f"{_bracketed(o.address)}:{a.port}"
        at = resolved.seconds if resolved else 0.0
        events.append(_event("connect", at, None, address=address, proto="udp"))
    made["test_keys"] = {
        "endpoint": endpoint,
        "failure": None if heard else failure(o),
        "network_events": events,
        "queries": _queries([(o, a)], _began(o)),
    }
    return made


# --- lists ---


def _queries(its: Sequence[tuple[Observation, Asked]], start: float) -> list[dict[str, Any]]:
    """One lookup has one observation per address; OONI has an entry per type of record."""
    found: dict[tuple[str, str, float], dict[str, Any]] = {}
    for o, a in its:
        resolved = _resolve(o)
        if resolved is None:
            continue
        kind = "AAAA" if o.family == "ipv6" else "A"
        entry = found.setdefault(
            (a.host, kind, resolved.seconds),
            {
                "answers": [],
                "engine": "system",
                "failure": failure(o) if resolved.failure else None,
                "hostname": a.host,
                "query_type": kind,
                "resolver_address": "",
                "resolver_hostname": None,
                "resolver_port": None,
                "t": round(_began(o) - start + resolved.seconds, 6),
                "t0": round(_began(o) - start, 6),
            },
        )
        if o.address and not resolved.failure:
            key = "ipv6" if kind == "AAAA" else "ipv4"
            answer = {"answer_type": kind, key: o.address, "ttl": None}
            if answer not in entry["answers"]:
                entry["answers"].append(answer)
    return [{**e, "answers": e["answers"] or None} for e in found.values()]


def _tcp_connect(o: Observation, a: Asked, start: float) -> dict[str, Any] | None:
    step, t = _timed(o, Step.CONNECT, start)
    if step is None or not o.address:
        return None
    problem = failure(o) if step.failure else None
    status = {"failure": problem, "success": problem is None}
    return {"ip": o.address, "port": a.port, "status": status, "t": t}


def _connect_event(o: Observation, a: Asked, start: float, proto: str) -> dict[str, Any] | None:
    step, t = _timed(o, Step.CONNECT, start)
    if step is None or not o.address:
        return None
    problem = failure(o) if step.failure else None
    address = f"{_bracketed(o.address)}:{a.port}"
    return _event("connect", t, problem, address=address, proto=proto)


def _handshake(o: Observation, a: Asked, start: float) -> dict[str, Any] | None:
    step, t = _timed(o, Step.TLS, start)
    if step is None or not o.address:
        return None
    return {
        "address": f"{_bracketed(o.address)}:{a.port}",
        "cipher_suite": o.facts.get("tls_cipher", ""),
        "failure": failure(o) if step.failure else None,
        "negotiated_protocol": o.facts.get("alpn", ""),
        "network": "tcp",
        "no_tls_verify": False,
        "peer_certificates": None,
        "server_name": a.host,
        "t": t,
        "tls_version": o.facts.get("tls_version", ""),
    }


def _request(o: Observation, a: Asked, start: float) -> dict[str, Any] | None:
    """Headers and bodies are not kept."""
    if not a.url:
        return None
    nothing = {"body": "", "body_is_truncated": False, "headers": {}, "headers_list": []}
    code = o.facts.get("http_status", 0)
    return {
        "failure": None if works(o) else failure(o),
        "request": {
            **nothing,
            "method": a.method,
            "tor": {"exit_ip": None, "exit_name": None, "is_tor": False},
            "url": a.url,
            "x_transport": "tcp",
        },
        "response": {**nothing, "body_is_truncated": bool(code), "code": code},
        "t": round(_began(o) - start + o.seconds, 6),
    }


def _event(operation: str, t: float, problem: str | None = None, **more: Any) -> dict[str, Any]:
    return {"failure": problem, "operation": operation, "t": round(t, 6), **more}


def _began(o: Observation) -> float:
    """An observation's time is that of its first packet to the address: names come before."""
    resolved = _resolve(o)
    return o.at - resolved.seconds if resolved and len(o.steps) > 1 else o.at


def _resolve(o: Observation) -> StepResult | None:
    return _step(o, Step.RESOLVE)


def _step(o: Observation, step: Step) -> StepResult | None:
    return next((s for s in o.steps if s.step is step), None)


def _timed(o: Observation, step: Step, start: float) -> tuple[StepResult | None, float]:
    """The step, and when it ended, in seconds since ``start``."""
    t = _began(o) - start
    for s in o.steps:
        t += s.seconds
        if s.step is step:
            return s, round(t, 6)
    return None, 0.0


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
