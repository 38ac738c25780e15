"""A target that fails, and a finding on it, as the localiser is told of them."""

from __future__ import annotations

from typing import Any

from agent.diagnosis import Evidence
from probes.model import Certainty, Diagnosis, Failure, Finding, Mechanism, Status
from probes.stun import StunProbe
from tests.agent.building import seen, target


def relay(name: str = "relay", **given: Any) -> Evidence:
    one = target(name, host="198.51.100.1", probe=StunProbe(), port=3478)
    failed = seen(one, Failure.TIMEOUT, address=given.pop("address", "198.51.100.1"))
    known = {"fresh": True, "proven": True, "last_run": 0.0, **given}
    return Evidence(one, (failed,), **known)


def found(
    mechanism: Mechanism = Mechanism.UDP_STUN_SIGNATURE,
    certainty: Certainty = Certainty.LIKELY,
    evidence: tuple[str, ...] = (),
    **given: Any,
) -> Diagnosis:
    one = Finding(mechanism, certainty, 0.8, "R1", "", evidence, told="it is dropped")
    known = {"channel": "call", "status": Status.BLOCKED, "findings": (one,), **given}
    return Diagnosis("m", reason="interference", summary="M calls: blocked.", working=0,
                     measured=1, deciding=1, total=1, **known)  # fmt: skip
