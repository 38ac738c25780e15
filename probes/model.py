"""The vocabulary every part of callpath speaks. No I/O; imports nothing of ours.

Durations are seconds, instants are Unix time (UTC). Everything is frozen: a value that was
published is never changed, only replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Fact = str | int | float | bool | tuple[str, ...]

CONTROL = "control"
"""The messenger name under which the controls run."""


class Step(StrEnum):
    """One operation that can fail in exactly one way."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    EXCHANGE = "exchange"
    STREAM = "stream"


class Failure(StrEnum):
    """Why a step failed. A closed list: it is a metric label. Meanings in docs/failures.md."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"
    NO_ADDRESS = "no_address"
    BAD_ANSWER = "bad_answer"
    TLS_ALERT = "tls_alert"
    BAD_CERTIFICATE = "bad_certificate"
    WRONG_NAME = "wrong_name"
    UNKNOWN_ISSUER = "unknown_issuer"
    EXPIRED = "expired"
    BAD_REPLY = "bad_reply"
    WRONG_ID = "wrong_id"
    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    HTTP_STATUS = "http_status"
    LOSSY = "lossy"
    BLOCKED_LOCALLY = "blocked_locally"
    OTHER = "other"


class Channel(StrEnum):
    """What a user loses if it fails."""

    CHAT = "chat"
    CALL = "call"
    MEDIA = "media"
    WEB = "web"


class Proof(StrEnum):
    """How sure we are that a stranger is answered at all."""

    DOCUMENTED = "documented"
    CAPTURED = "captured"
    UNPROVEN = "unproven"


class Role(StrEnum):
    """What a control stands for."""

    DOMESTIC = "domestic"
    FOREIGN = "foreign"
    PORTAL = "portal"
    STUN = "stun"
    DTLS = "dtls"
    RESOLVER = "resolver"
    AD = "ad"


class Family(StrEnum):
    ANY = "any"
    IPV4 = "ipv4"
    IPV6 = "ipv6"


class Status(StrEnum):
    """How a channel works, best first; ``blocked`` needs a rule that names interference."""

    OK = "ok"
    DEGRADED = "degraded"
    BLOCKED = "blocked"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


class VantageStatus(StrEnum):
    ONLINE = "online"
    RESTRICTED = "restricted"
    OFFLINE = "offline"
    PORTAL = "portal"
    TUNNELLED = "tunnelled"
    FAULTY = "faulty"


class Certainty(StrEnum):
    NONE = "none"
    SUSPECTED = "suspected"
    LIKELY = "likely"
    CONFIRMED = "confirmed"


class Mechanism(StrEnum):
    """What was done to the traffic. A closed list: it is a metric label. docs/verdicts.md."""

    DNS_TAMPER = "dns_tamper"
    DNS_INJECTION = "dns_injection"
    DNS_INTERCEPTION = "dns_interception"
    DNS_UDP_BLOCK = "dns_udp_block"
    IP_DROP = "ip_drop"
    IP_REJECT = "ip_reject"
    PORT_BLOCK = "port_block"
    ALLOWLIST = "allowlist"
    TLS_SNI_RESET = "tls_sni_reset"
    TLS_SNI_DROP = "tls_sni_drop"
    TLS_SNI_DROP_DELAYED = "tls_sni_drop_delayed"
    TLS_MITM = "tls_mitm"
    TLS_FINGERPRINT_BLOCK = "tls_fingerprint_block"
    TLS_BURST_POLICING = "tls_burst_policing"
    HTTP_BLOCKPAGE = "http_blockpage"
    PROTOCOL_SIGNATURE = "protocol_signature"
    FLOW_FREEZE = "flow_freeze"
    THROTTLE_POLICED = "throttle_policed"
    THROTTLE_SHAPED = "throttle_shaped"
    UDP_BLOCK_ALL = "udp_block_all"
    UDP_STUN_SIGNATURE = "udp_stun_signature"
    UDP_DTLS_SIGNATURE = "udp_dtls_signature"
    UDP_RELAY_BLOCK = "udp_relay_block"
    UDP_AFTER_N = "udp_after_n"
    UDP_SIZE_RULE = "udp_size_rule"
    QUIC_BLOCK = "quic_block"
    CALL_FLOW_BLOCK = "call_flow_block"
    MEDIA_DEGRADED_TARGETED = "media_degraded_targeted"
    MEDIA_ONE_WAY = "media_one_way"
    PARTIAL_BLOCK = "partial_block"
    # Not interference.
    SERVER_OUTAGE = "server_outage"
    SERVER_REFUSAL = "server_refusal"
    SERVER_SLOW = "server_slow"
    TARGET_RETIRED = "target_retired"
    RATE_LIMITED = "rate_limited"
    CONGESTION = "congestion"
    PATH_DEGRADED = "path_degraded"
    MEDIA_DEGRADED_GENERAL = "media_degraded_general"
    MTU_BLACKHOLE = "mtu_blackhole"
    LOCAL_FILTER = "local_filter"
    # The place that measures.
    LOCAL_OUTAGE = "local_outage"
    ISP_OUTAGE = "isp_outage"
    INTERNATIONAL_OUTAGE = "international_outage"
    CAPTIVE_PORTAL = "captive_portal"
    TUNNELLED = "tunnelled"
    PROBE_FAULT = "probe_fault"
    RESIDUAL = "residual"
    # No answer.
    INCONCLUSIVE = "inconclusive"
    NONE = "none"

    @property
    def interference(self) -> bool:
        """Is it somebody's doing, not an outage, an accident or the vantage's own trouble?"""
        return self in _INTERFERENCE


_INTERFERENCE = frozenset(list(Mechanism)[: list(Mechanism).index(Mechanism.SERVER_OUTAGE)])


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to ask. ``name`` is unique within its messenger; ``channel`` is "" for controls."""

    messenger: str
    channel: str
    name: str
    probe: str

    def __reduce__(self) -> tuple[object, ...]:
        return _pickled(self)


@dataclass(frozen=True, slots=True)
class StepResult:
    step: Step
    seconds: float
    failure: Failure | None = None
    detail: str = ""
    """The exception's own words: for logs, never a label, never JSON."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Marks an observation as a follow-up of a failed one, different in exactly one attribute."""

    of: str
    differs: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run of one check saw at one address: steps in order, only the last may have failed.

    ``partial`` marks a run that was told to stop after ``connect``: its success says nothing about
    what it did not ask.
    """

    id: str
    target: Target
    at: float
    steps: tuple[StepResult, ...]
    facts: Mapping[str, Fact]
    partial: bool = False
    contrast: Contrast | None = None

    @property
    def failed(self) -> StepResult | None:
        return self.steps[-1] if self.steps and self.steps[-1].failure else None

    @property
    def ok(self) -> bool:
        return self.failed is None

    @property
    def works(self) -> bool:
        """The server spoke: a TLS alert, or any HTTP status over a valid chain, proves it."""
        failed = self.failed
        if failed is None or failed.failure is Failure.TLS_ALERT:
            return True
        if failed.failure is not Failure.HTTP_STATUS:
            return False
        return any(step.step is Step.TLS for step in self.steps)

    @property
    def address(self) -> str | None:
        return _text(self.facts.get("address"))

    @property
    def family(self) -> str | None:
        return _text(self.facts.get("family"))

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


def _pickled(value: Any) -> tuple[object, ...]:
    """For ``__reduce__`` of what goes to the web process by the thousand: a frozen dataclass with
    slots looks its fields up anew for every object that is pickled."""
    return type(value), tuple(getattr(value, name) for name in value.__slots__)


def _text(fact: Fact | None) -> str | None:
    return fact if isinstance(fact, str) else None


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that fired. ``evidence`` are ids of observations, those of the controls among them;
    ``told`` says it in words, ``decided`` the contrasts that decided, and ``controls`` are those'
    numbers (docs/verdicts.md)."""

    mechanism: Mechanism
    certainty: Certainty
    confidence: float
    rule: str
    variant: str
    evidence: tuple[str, ...]
    told: str = ""
    decided: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetState:
    """The newest evidence about one target. ``works`` is None when it was not measured; ``slow``:
    does its transfer crawl? None for what transfers nothing, or did not come that far;
    ``informative``: it never decides."""

    target: Target
    address: str | None
    works: bool | None
    proof: Proof
    proven: bool
    last_run: float | None
    slow: bool | None = None
    informative: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        return _pickled(self)


@dataclass(frozen=True, slots=True)
class Located:
    """Where on the path to ``target`` it is done, as a trace found: its packets passed hop ``low``
    (0 is this host) unharmed, and not hop ``high``, None where nobody can tell. ``agree`` of
    ``runs`` said this very stretch; ``method`` and ``placement`` as docs/trace.md has them;
    ``networks`` are those of the two hops, "" where that is not known."""

    target: str
    low: int
    high: int | None
    agree: int
    runs: int
    method: str
    placement: str
    at: float
    networks: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One channel of one messenger: how it works, in one word and one plain sentence."""

    messenger: str
    channel: str
    status: Status
    reason: str
    summary: str
    working: int
    measured: int
    """Deciding targets of which this round or the recent past knows something."""
    deciding: int
    total: int
    targets: tuple[TargetState, ...] = ()
    findings: tuple[Finding, ...] = ()
    intermittent: bool = False
    since: float | None = None
    place: Located | None = None

    @property
    def first(self) -> Finding | None:
        """The most certain finding."""
        return self.findings[0] if self.findings else None

    @property
    def mechanism(self) -> Mechanism:
        if self.first is not None:
            return self.first.mechanism
        return Mechanism.NONE if self.status is Status.OK else Mechanism.INCONCLUSIVE

    @property
    def certainty(self) -> Certainty:
        return self.first.certainty if self.first is not None else Certainty.NONE

    @property
    def interference(self) -> bool:
        """Does a rule at likely or better name interference?"""
        return any(f.mechanism.interference and f.certainty in SURE for f in self.findings)


SURE = (Certainty.LIKELY, Certainty.CONFIRMED)


@dataclass(frozen=True, slots=True)
class Vantage:
    """The place that measures."""

    name: str
    status: VantageStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that one round, or one ``check``, has to say."""

    at: float
    vantage: Vantage
    diagnoses: tuple[Diagnosis, ...]
    observations: tuple[Observation, ...] = field(default=())
    left_out: tuple[str, ...] = ()
    """Contrasts that were not asked, in words, each with the reason."""
    without: str = ""
    """What was configured and told nothing, in words, with the reason."""
