"""The models of callpath.yaml, of messenger files and of controls files.

Strict: unknown keys, wrong types and values out of range are refused. The models of targets are
derived from the probes' own dataclasses, so that a new probe needs nothing here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationInfo,
    create_model,
    model_validator,
)

from config import DEFAULT_LISTEN
from config.modules import ProbeEndpointSettings
from config.options import build_probe, options_of
from config.provenance import ListFields, OwnerFields, SourceFields, Strict
from config.values import (
    AT_LEAST_ONE,
    OPTION_FORMS,
    Address,
    Asn,
    Country,
    Duration,
    FilePath,
    Fingerprint,
    Host,
    Identifier,
    Listen,
    NotEmpty,
    OptionalAddress,
    OptionalName,
    OptionalResolver,
    OptionalUrl,
    Port,
    PositiveDuration,
    Prefix,
    PublicKey,
    Size,
    SourceAddress,
    TargetName,
    Unique,
    Url,
    is_address,
    split_address_port,
    url_host_port,
)
from probes.model import Channel, Family, Proof, Role
from probes.registry import PROBES

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Transport = Literal["udp", "tcp", "tls", "https"]


def _written(default: str) -> Any:
    """A default as a file would say it."""
    return Field(default=default)


def _section(model: type[BaseModel]) -> Any:
    return Field(default_factory=model)


# --- callpath.yaml ---------------------------------------------------------------------------


class VantageSettings(Strict):
    name: Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")] = ""
    country: Country = ""
    asn: Asn = 0
    network: Literal["", "fixed", "mobile", "hosting"] = ""


class ResolverPorts(Strict):
    udp: Port = 53
    tcp: Port = 53
    tls: Port = 853
    https: Port = 443


class TrustedResolver(Strict):
    """One operator over several transports; the address is literal: no bootstrap."""

    name: Identifier
    address: Address
    tls_name: OptionalName = ""
    doh_path: Annotated[str, Field(pattern=r"^/[!-~]*$")] = "/dns-query"
    transports: Annotated[tuple[Transport, ...], NotEmpty, AT_LEAST_ONE, Unique] = (
        "udp",
        "tcp",
        "tls",
        "https",
    )
    ports: ResolverPorts = _section(ResolverPorts)


class ResolverSettings(Strict):
    system: OptionalResolver = ""
    trusted: tuple[TrustedResolver, ...] = (
        TrustedResolver(name="quad9", address="9.9.9.9", tls_name="dns.quad9.net"),
    )


class OutsideSettings(Strict):
    """Where another callpath's status is read: a file or a URL."""

    file: FilePath = ""
    url: OptionalUrl = ""
    max_age: PositiveDuration = _written("15m")


class CatalogueSettings(Strict):
    """A signed update of the catalogue, and the public keys that may sign it."""

    file: FilePath = ""
    keys: Annotated[tuple[PublicKey, ...], Unique, Field(max_length=8)] = ()


class TwinSettings(Strict):
    """The companion server; the address is literal: no bootstrap."""

    address: OptionalAddress = ""
    udp_ports: Annotated[tuple[Port, ...], NotEmpty, AT_LEAST_ONE, Unique, Field(max_length=8)] = (
        3478,
    )
    tls_port: Port = 443
    key_file: FilePath = ""
    tls_sha256: Fingerprint = ""


class ScheduleSettings(Strict):
    interval: PositiveDuration = _written("60s")
    handshake_interval: PositiveDuration = _written("5m")
    media_interval: PositiveDuration = _written("10m")
    transfer_interval: PositiveDuration = _written("6h")


class StateSettings(Strict):
    enter: Count = 3
    leave: Count = 7
    spacing: Duration = _written("50s")


class LimitSettings(Strict):
    min_interval: Annotated[Duration, Field(ge=0.1)] = _written("60s")
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 64
    packets_per_target_per_minute: Count = 60
    bytes_per_day: Annotated[Size, Field(ge=1, le=2**50)] = _written("200MiB")
    fast_prefixes: Annotated[tuple[Prefix, ...], Unique] = ()


class MediaSettings(Strict):
    """The streams that every messenger gets by itself: to how many of its relays, at what pace."""

    profile: Literal["keepalive", "voip20", "voip60", "voip120"] = "keepalive"
    targets: Annotated[int, Field(ge=0, le=64)] = 2


class LocaliseSettings(Strict):
    """Does the agent look by itself where on the path a likely filter stands?"""

    enabled: bool = False
    per_day: Annotated[int, Field(ge=1, le=24)] = 3
    asn_file: FilePath = ""


class WebSettings(Strict):
    listen: Listen = DEFAULT_LISTEN
    hosts: Annotated[tuple[Host, ...], Unique] = ()
    allow_reload: bool = False
    insecure: bool = False
    config_file: FilePath = ""


class HistorySettings(Strict):
    """What is kept of the rounds, for how long, and how large the store may become."""

    enabled: bool = True
    keep: Annotated[Duration, Field(ge=3600, le=366 * 86400)] = _written("30d")
    max_size: Annotated[Size, Field(ge=8 * 2**20, le=2**40)] = _written("1GiB")


class LogSettings(Strict):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Settings(Strict):
    """``callpath.yaml``: every key is optional."""

    vantage: VantageSettings = _section(VantageSettings)
    profile: Literal["client", "research"] = "client"
    risks: Literal["", "accepted"] = ""
    messengers: Annotated[tuple[Identifier, ...], NotEmpty, AT_LEAST_ONE, Unique] = (
        "whatsapp",
        "telegram",
    )
    messenger_dirs: Annotated[tuple[FilePath, ...], Unique] = ()
    controls: FilePath = ""
    calibration: Annotated[tuple[FilePath, ...], Unique] = ()
    catalogue: CatalogueSettings = _section(CatalogueSettings)
    resolvers: ResolverSettings = _section(ResolverSettings)
    tls_ca_file: FilePath = ""
    source_address: SourceAddress = ""
    outside: OutsideSettings = _section(OutsideSettings)
    twin: TwinSettings = _section(TwinSettings)
    schedule: ScheduleSettings = _section(ScheduleSettings)
    state: StateSettings = _section(StateSettings)
    limits: LimitSettings = _section(LimitSettings)
    media: MediaSettings = _section(MediaSettings)
    localise: LocaliseSettings = _section(LocaliseSettings)
    probe_endpoint: ProbeEndpointSettings = _section(ProbeEndpointSettings)
    web: WebSettings = _section(WebSettings)
    state_dir: FilePath = ""
    history: HistorySettings = _section(HistorySettings)
    log: LogSettings = _section(LogSettings)


# --- messenger and controls files ------------------------------------------------------------


def _not_too_often(value: float | None, info: ValidationInfo) -> float | None:
    least = (info.context or {}).get("min_interval")
    if value is not None and least is not None and value < least:
        raise ValueError("must not be shorter than limits.min_interval")
    return value


def _beside_host(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Addresses are pinned beside a name, and at least one is of the family asked for."""
    host = info.data.get("host")
    if host is None and "url" in info.data:
        host = url_host_port(info.data["url"])[0]
    if host is None:
        return value
    if value and is_address(host):
        raise ValueError(f"has no meaning where the host is itself an address ({host})")
    addresses = (host,) if is_address(host) else value
    family = info.data.get("family", Family.ANY)
    unwanted = {Family.IPV4: 6, Family.IPV6: 4}.get(family)
    if addresses and all(ip_address(one).version == unwanted for one in addresses):
        raise ValueError(f"leaves no address of family {family}")
    return value


def resolver_problem(value: str, trusted: Sequence[TrustedResolver]) -> str | None:
    """Why no resolver can be meant by ``system``, ``ip``, ``ip:port``, ``name[/transport]``."""
    name, slash, transport = value.partition("/")
    known = {resolver.name: resolver.transports for resolver in trusted}
    if name in known:
        if slash and transport not in known[name]:
            return f"{name} is not configured for the transport {transport!r}"
        return None
    if value == "system":
        return None
    try:
        split_address_port(value, 53)
    except ValueError:
        names = ", ".join(["system", *known])
        return f"must be an address or the name of a resolver ({names}), not {value!r}"
    return None


def _known_resolver(value: str, info: ValidationInfo) -> str:
    trusted = (info.context or {}).get("trusted")
    if trusted is not None and (problem := resolver_problem(value, trusted)):
        raise ValueError(problem)
    return value


class TargetFields(Strict):
    """What every target has, whatever its probe."""

    name: TargetName
    family: Family = Family.ANY
    timeout: Annotated[Duration, Field(gt=0, le=60)] | None = None
    proof: Proof = Proof.DOCUMENTED
    interval: Annotated[PositiveDuration | None, AfterValidator(_not_too_often)] = None
    informative: bool = False


class ChannelFields(TargetFields):
    channel: Channel


# Domestic and foreign controls may ask in any way; the others stand for one kind of exchange.
_ROLE_KINDS: Mapping[Role, str] = {
    Role.PORTAL: "https",
    Role.STUN: "stun",
    Role.DTLS: "dtls",
    Role.RESOLVER: "dns",
    Role.AD: "dns",
}


class ControlFields(TargetFields):
    role: Role
    owner: Annotated[str, Field(min_length=1, max_length=64)]
    asn: Asn = 0

    @model_validator(mode="after")
    def _asks_what_its_role_means(self) -> Self:
        kind = _ROLE_KINDS.get(self.role)
        if kind is not None and getattr(self, "probe", kind) != kind:
            raise ValueError(f"has the role {self.role}, which needs the probe {kind}")
        return self


# What the file must say about where to ask, by what the probe ``takes``.
_Pinned = Annotated[tuple[Address, ...], Unique, AfterValidator(_beside_host)]
_PLACES: Mapping[str, dict[str, Any]] = {
    "host": {"host": (Host, ...), "port": (Port, ...), "address": (_Pinned, ())},
    "url": {"url": (Url, ...), "address": (_Pinned, ())},
    "resolver": {},
}

# Options whose values have a form that their type does not tell; values.py knows most.
_FORMS: Mapping[str, Any] = {
    **OPTION_FORMS,
    "resolver": Annotated[str, AfterValidator(_known_resolver)],
}


def _target_model(base: type[TargetFields], probe: Any) -> type[TargetFields]:
    fields = {"probe": (Literal[probe.kind], ...), **_PLACES[probe.takes]}
    options = {name: it for name, it in options_of(probe, _FORMS).items() if name not in fields}
    if clash := options.keys() & base.model_fields.keys():
        raise TypeError(f"{probe.__name__} has options that every target has: {clash}")

    def buildable(self: TargetFields) -> TargetFields:
        build_probe(self, probe)
        return self

    name = f"{probe.kind.capitalize()}{base.__name__.removesuffix('Fields')}"
    checks: dict[str, Any] = {"buildable": model_validator(mode="after")(buildable)}
    model: type[TargetFields] = create_model(
        name, __base__=base, __validators__=checks, **fields, **options
    )
    return model


def _targets_of(base: type[TargetFields], probes: Mapping[str, type]) -> Any:
    models = tuple(_target_model(base, probe) for probe in probes.values())
    one: Any = Union[models]  # noqa: UP007 - made at run time
    return Annotated[
        tuple[Annotated[one, Field(discriminator="probe")], ...], NotEmpty, AT_LEAST_ONE
    ]


_Sources = Annotated[tuple[SourceFields, ...], NotEmpty, AT_LEAST_ONE]
_Quorum = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class MessengerHead(Strict):
    """A messenger file without its targets."""

    messenger: Identifier
    title: Annotated[str, Field(min_length=1, max_length=64)]
    sources: _Sources
    owner: OwnerFields = OwnerFields()
    lists: Annotated[tuple[ListFields, ...], Unique] = ()
    quorum: _Quorum = 0.8


class ControlsHead(Strict):
    """A controls file without its targets."""

    messenger: Literal["control"]
    sources: _Sources


def messenger_model(probes: Mapping[str, type] = PROBES) -> type[MessengerHead]:
    return _shipped_messenger_model() if probes is PROBES else _messenger_model(probes)


def controls_model(probes: Mapping[str, type] = PROBES) -> type[ControlsHead]:
    return _shipped_controls_model() if probes is PROBES else _controls_model(probes)


@functools.cache
def _shipped_messenger_model() -> type[MessengerHead]:
    """Made once: every reload would leave the classes of the one before behind."""
    return _messenger_model(PROBES)


@functools.cache
def _shipped_controls_model() -> type[ControlsHead]:
    return _controls_model(PROBES)


def _messenger_model(probes: Mapping[str, type]) -> type[MessengerHead]:
    targets: Any = (_targets_of(ChannelFields, probes), ...)
    return create_model("MessengerFile", __base__=MessengerHead, targets=targets)


def _controls_model(probes: Mapping[str, type]) -> type[ControlsHead]:
    targets: Any = (_targets_of(ControlFields, probes), ...)
    return create_model("ControlsFile", __base__=ControlsHead, targets=targets)


def schema(probes: Mapping[str, type] = PROBES) -> dict[str, Any]:
    """The JSON schemas of the three kinds of file."""
    return {
        "callpath": Settings.model_json_schema(),
        "messenger": messenger_model(probes).model_json_schema(),
        "controls": controls_model(probes).model_json_schema(),
    }
