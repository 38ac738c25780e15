"""The record of one run at one address, and the one place where network errors become words."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Protocol

from probes.model import Fact, Failure, Step, StepResult
from probes.net.environment import Environment
from probes.net.errors import Refusal, of_errno
from probes.wire.error import WireError

NETWORK_ERRORS = (OSError, EOFError, WireError, Refusal)
"""All that the network may do to us. Anything else is our bug and escapes (``TimeoutError`` and
``ssl.SSLError`` are OSErrors)."""

log = logging.getLogger(__name__)


class StepFailed(Exception):
    """Ends the run; the reason is on the trail."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where one run goes: a literal address, and the name it stands for ("" for none)."""

    address: str
    port: int
    host: str


class Probe(Protocol):
    """How to ask. A frozen dataclass: its fields are its options.

    ``takes`` says what a target of this kind is given by: "host", "url" or "resolver".
    ``handshake`` marks kinds that make the peer do public-key work and are asked more rarely.
    ``packets_per_run`` counts datagrams and connection attempts towards one address;
    ``bytes_per_run`` is the planning figure, both directions with headers, one address.
    """

    kind: ClassVar[str]
    takes: ClassVar[str]
    packets_per_run: ClassVar[int]

    @property
    def handshake(self) -> bool: ...

    @property
    def bytes_per_run(self) -> int: ...

    def subject(self, host: str) -> str:
        """What the peer is asked for beside its address: a name; "" for kinds that name nothing.
        One check a minute counts per address, port, kind and this."""

    async def run(self, trail: Trail, peer: Peer) -> None: ...


class Timed:
    """One step under way. A class, since a generator's context manager costs twice as much."""

    __slots__ = ("_limit", "_started", "_step", "_steps")

    def __init__(self, steps: list[StepResult], step: Step, limit: float) -> None:
        self._steps, self._step = steps, step
        self._limit = asyncio.timeout(limit)

    async def __aenter__(self) -> None:
        self._started = time.monotonic()
        await self._limit.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cause = error
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as late:  # instead of the cancellation that it caused
            cause = late
        seconds = time.monotonic() - self._started
        if cause is None:
            self._steps.append(StepResult(self._step, seconds))
        elif isinstance(cause, NETWORK_ERRORS):
            self._steps.append(StepResult(self._step, seconds, classify(cause), str(cause)))
            raise StepFailed from cause


@dataclass(slots=True)
class Trail:
    """Steps and facts of one run at one address; nothing of it outlives the run.

    ``timeout`` replaces the default limit of each step; ``partial`` asks the probe to stop after
    ``connect``; ``rfc_timers`` retransmits as RFC 8489 says instead of counting single packets.
    ``sites``: address and port of other servers of the owner's that answer over TCP.
    """

    env: Environment
    timeout: float | None = None
    partial: bool = False
    rfc_timers: bool = False
    sites: tuple[tuple[str, int], ...] = ()
    steps: list[StepResult] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    mapped: str = ""
    """Our address as a STUN server saw it. Not a fact: it must not leave the process."""

    def step(self, step: Step, limit: float) -> Timed:
        """Time one operation: ``async with``. A network error, or its being longer than ``limit``
        seconds, becomes a failed step and raises StepFailed."""
        return Timed(self.steps, step, limit)

    def limit(self, default: float) -> float:
        return min(default, self.env.patience) if self.timeout is None else self.timeout

    def count(self, sent: int, received: int, bytes_sent: int, bytes_received: int) -> None:
        """Add packets and bytes (IP headers included) to this run and to the agent's totals."""
        self.facts["sent"] = int(self.facts.get("sent", 0)) + sent  # type: ignore[arg-type] # ours: always int
        self.facts["received"] = int(self.facts.get("received", 0)) + received  # type: ignore[arg-type] # as above
        self.env.traffic.add(bytes_sent, bytes_received)


# X509_V_ERR_* of OpenSSL's x509_vfy.h
_BY_VERIFY_CODE = {
    2: Failure.UNKNOWN_ISSUER,  # UNABLE_TO_GET_ISSUER_CERT
    9: Failure.EXPIRED,  # CERT_NOT_YET_VALID
    10: Failure.EXPIRED,  # CERT_HAS_EXPIRED
    18: Failure.UNKNOWN_ISSUER,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: Failure.UNKNOWN_ISSUER,  # SELF_SIGNED_CERT_IN_CHAIN
    20: Failure.UNKNOWN_ISSUER,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: Failure.UNKNOWN_ISSUER,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    62: Failure.WRONG_NAME,  # HOSTNAME_MISMATCH
    64: Failure.WRONG_NAME,  # IP_ADDRESS_MISMATCH
}


def by_verify_code(code: int) -> Failure:
    """The word for what OpenSSL found wrong with a chain."""
    return _BY_VERIFY_CODE.get(code, Failure.BAD_CERTIFICATE)


def classify(error: BaseException) -> Failure:
    """The word for a network error. Pure; unknown errors are ``other``."""
    match error:
        case WireError() | Refusal():
            return error.failure
        case ssl.SSLCertVerificationError():
            return by_verify_code(error.verify_code)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return Failure.CLOSED
        case ssl.SSLError():
            return Failure.TLS_ALERT if _is_alert(error) else Failure.BAD_REPLY
        case TimeoutError():
            return Failure.TIMEOUT
        case EOFError():
            return Failure.CLOSED
        case OSError():
            return of_errno(error.errno)
    return Failure.OTHER


def _is_alert(error: ssl.SSLError) -> bool:
    """The server spoke, unlike with "WRONG_VERSION_NUMBER" (not TLS) or "UNKNOWN_ALERT_TYPE".

    OpenSSL prefixes the alerts it received by the version that brought them; not all of them say
    "alert" ("TLSV1_UNRECOGNIZED_NAME"), and Python has no ``reason`` for the newer ones.
    """
    word = error.reason or str(error).removeprefix("[SSL] ").replace(" ", "_").upper()
    return word.startswith(("SSLV3_ALERT_", "TLSV1_", "TLSV13_"))
