"""What contrasts are made of: failures to explain, what there is to ask with, the asks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.case import HELLO, WINDOWS, Differs, Symptom, symptom_of, took
from agent.companion import Companion
from agent.vantage import ControlResult
from config.model import TargetConfig
from probes.dtls import DtlsProbe
from probes.echo import EchoProbe
from probes.https import HttpsProbe
from probes.model import Fact, Observation, Role, Step
from probes.mtproto import MtprotoProbe
from probes.net.address import parse, prefix_of
from probes.net.environment import TrustedResolver
from probes.noise import NoiseProbe
from probes.quic import QuicProbe
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from probes.turn import TurnProbe

MOST = 3
"""Addresses (for names: names) per channel and symptom in one round: a sample tells as much."""
_VARIED = (
    *(TcpProbe, TlsProbe, HttpsProbe, StunProbe, TurnProbe, DtlsProbe),
    *(MtprotoProbe, NoiseProbe, QuicProbe, EchoProbe),
)


@dataclass(frozen=True, slots=True)
class Neutral:
    """A working foreign https control: its name is neutral, its address known to answer."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A control's transfer of about this time, and how it was asked."""

    config: TargetConfig
    seen: Observation


@dataclass(frozen=True, slots=True)
class Around:
    """What contrasts can be made of. ``neutral`` lends its name, ``far`` its address; ``system`` is
    the host's own resolver, ``twin`` the operator's own server. ``heard``: address and port of
    everything asked over TCP in the round; ``siblings``: those of the owner's that connected in it,
    the newest last; ``public``: STUN operators silent in it. ``patient``: may it be waited?
    """

    research: bool
    neutral: Neutral | None
    far: Neutral | None
    trusted: tuple[TrustedResolver, ...]
    system: tuple[str, int] | None
    heard: frozenset[tuple[str, int]] = frozenset()
    verified: frozenset[str] = frozenset()
    siblings: tuple[tuple[str, int], ...] = ()
    twin: Companion | None = None
    fetched: Fetched | None = None
    public: tuple[tuple[str, int], ...] = ()
    patient: bool = False


@dataclass(frozen=True, slots=True)
class FollowUp:
    """One contrast to ask. ``facts`` are added to what it sees; ``wait``: seconds before it."""

    of: Observation
    config: TargetConfig
    differs: Differs
    probe: Any
    address: str
    port: int
    host: str = ""
    facts: dict[str, Fact] = field(default_factory=dict)
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A contrast that is not asked now, and why."""

    of: Observation
    differs: Differs
    reason: str


Failed = Sequence[tuple[TargetConfig, Observation]]
Plan = tuple[list[FollowUp], list[LeftOut]]


def window_of(o: Observation) -> float:
    """Seconds for which the name may not be asked again after ``o``, 0 for what needs no wait."""
    symptom = symptom_of(o)
    return WINDOWS.get(symptom, 0.0) if symptom else 0.0


def neutrals(controls: Iterable[ControlResult]) -> list[Neutral]:
    """The foreign https controls that answer, in their order."""
    found = []
    for r in controls:
        named = parse(r.config.host) is None
        if r.config.role is not Role.FOREIGN or r.config.target.probe != "https" or not named:
            continue
        works = next((o for o in r.observations if o.works and o.address), None)
        if works is not None and works.address is not None:
            found.append(Neutral(r.config.host, works.address, r.config.port))
    return found


def with_symptom(failed: Failed, *symptoms: Symptom) -> list[tuple[TargetConfig, Observation]]:
    """Of the kinds of probe that contrasts know how to vary."""
    return [(c, o) for c, o in failed if symptom_of(o) in symptoms and o.address and is_varied(c)]


def is_varied(config: TargetConfig) -> bool:
    return isinstance(config.probe, _VARIED)


def sample(
    failed: Sequence[tuple[TargetConfig, Observation]], most: int = MOST
) -> list[tuple[TargetConfig, Observation]]:
    """One per address, other networks first."""
    per_address: dict[tuple[str, int], tuple[TargetConfig, Observation]] = {}
    for config, o in failed:
        per_address.setdefault((str(o.address), config.port), (config, o))
    chosen: list[tuple[TargetConfig, Observation]] = []
    seen: set[str] = set()
    for again in (False, True):
        for config, o in per_address.values():
            prefix = prefix_of(str(o.address))
            if (prefix in seen) is again and (config, o) not in chosen:
                chosen.append((config, o))
                seen.add(prefix)
    return chosen[:most]


def hellos(failed: Failed) -> Failed:
    """Those that failed when a name had been said, a sample."""
    return sample(with_symptom(failed, *HELLO))


def is_late(o: Observation) -> bool:
    """Did it fail only when something was asked through TLS, so that a contrast must go as far?"""
    return took(o, Step.EXCHANGE)
