"""OONI's words for how a target was asked and what came of it (ooni/spec, df-007)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probes.model import Failure, Observation

_FAILURES: Mapping[Failure, str] = {
    Failure.TIMEOUT: "generic_timeout_error",
    Failure.REFUSED: "connection_refused",
    Failure.RESET: "connection_reset",
    Failure.CLOSED: "eof_error",
    Failure.UNREACHABLE: "host_unreachable",
    Failure.PROHIBITED: "host_unreachable",  # what the kernel makes of it
    Failure.BLOCKED_LOCALLY: "permission_denied",
    Failure.WRONG_NAME: "ssl_invalid_hostname",
    Failure.UNKNOWN_ISSUER: "ssl_unknown_authority",
    Failure.BAD_CERTIFICATE: "ssl_invalid_certificate",
    Failure.EXPIRED: "ssl_invalid_certificate",
}
"""Words of df-007; what it has no word for is an ``unknown_failure`` with ours."""
_RCODES: Mapping[str, str] = {
    "NXDOMAIN": "dns_nxdomain_error",
    "SERVFAIL": "dns_servfail_error",
    "REFUSED": "dns_refused_error",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A target: ``host`` and ``port``, and ``url`` with ``method`` where it is a page; ``udp``: is
    it a STUN server over UDP?"""

    host: str
    port: int
    url: str = ""
    method: str = ""
    udp: bool = False


def works(o: Observation) -> bool:
    """As OONI means it: any status is an answer, and an alert is none."""
    return o.ok or (o.failed is not None and o.failed.failure is Failure.HTTP_STATUS)


def failure(o: Observation) -> str | None:
    failed = o.failed
    if failed is None or failed.failure is None:
        return None
    if failed.failure is Failure.NO_ADDRESS:
        return _RCODES.get(str(o.facts.get("rcode", "")).upper(), "dns_no_answer")
    return _FAILURES.get(failed.failure, f"unknown_failure: {failed.failure}")
