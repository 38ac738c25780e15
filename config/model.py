"""What the loader hands out: one configuration, or every problem it found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from probes.model import Family, Proof, Role, Target

if TYPE_CHECKING:
    from config.schema import Settings
    from config.webfile import WebFile


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. ``line`` counts from 1, and is 0 where a file has no lines to speak of."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(Exception):
    """The configuration is not usable; carries all problems of all files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts of a file come from, and the day they were read."""

    url: str
    read: date


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list that the owner keeps up to date: ``form`` says how it is written, ``targets`` with
    what the names of the targets begin that were taken from it."""

    url: str
    form: str
    targets: str


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """One entry of a messenger or controls file, with its probe built.

    ``host`` and ``port`` are those of ``url`` where the probe takes one, and "" and 0 where it
    asks a resolver. ``timeout`` and ``interval`` are seconds; None leaves them to the schedule.
    ``role``, ``owner`` and ``asn`` are set for controls only; asn 0 is unknown. ``relay``: the
    target to which this is the stream, and whose trust it shares.
    """

    target: Target
    probe: Any
    host: str
    port: int
    addresses: tuple[str, ...]
    family: Family
    timeout: float | None
    proof: Proof
    interval: float | None
    informative: bool
    role: Role | None = None
    owner: str = ""
    asn: int = 0
    url: str = ""
    relay: Target | None = None


@dataclass(frozen=True, slots=True)
class MessengerConfig:
    """One messenger file; ``file`` is where it was read."""

    name: str
    title: str
    quorum: float
    owner_asns: tuple[int, ...]
    owner_prefixes: tuple[str, ...]
    sources: tuple[Source, ...]
    targets: tuple[TargetConfig, ...]
    lists: tuple[PublishedList, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What an open network saw of one target in one dress: ``answered`` of ``asked`` runs.

    ``at`` is the Unix time of the calibration, ``network`` where it was made ("" if not said).
    """

    messenger: str
    target: str
    probe: str
    dress: str
    asked: int
    answered: int
    last_answered: date | None
    at: float
    network: str
    catalogue: str


@dataclass(frozen=True, slots=True)
class Update:
    """A signed catalogue in use: its file, the digest of its bytes, the public key it holds by;
    both in hexadecimal."""

    file: str
    sha256: str
    key: str


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the agent was told. ``catalogue`` is the version of the catalogue in use, which
    ``update`` is, or else the shipped one; ``superseded`` that of an update which is older than the
    shipped one, and so not in use. ``available``: messengers that are described and not selected.
    ``web``: what ``web.config_file`` says.
    """

    settings: Settings
    messengers: tuple[MessengerConfig, ...]
    controls: tuple[TargetConfig, ...]
    calibration: tuple[Calibrated, ...]
    catalogue: str
    available: tuple[str, ...] = ()
    update: Update | None = None
    superseded: str = ""
    web: WebFile | None = None

    @property
    def serves_tls(self) -> bool:
        return self.web is not None and self.web.tls_server_config is not None

    @property
    def wants_certificates(self) -> bool:
        return self.web is not None and self.web.wants_certificates
