"""``probe_endpoint``: the ways in which /probe may be asked, and the places that it may ask."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from pydantic import AfterValidator, Field, create_model, model_validator

from config.options import build_probe, options_of
from config.provenance import Strict
from config.values import OPTION_FORMS, Duration, parse_host, parse_name
from probes.model import Family
from probes.registry import PROBES

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PLACES = frozenset({"url", "resolver"})
"""Options that say where to ask: the request's target does."""
_PORT = re.compile(r"(.+):([0-9]{1,5})")


class ModuleFields(Strict):
    """What every module has, whatever its probe."""

    family: Family = Family.ANY
    timeout: Annotated[Duration, Field(gt=0, le=120)] | None = None


def _is_short(probe: Any) -> bool:
    """Streams and downloads outlast a scrape, and the line's budget if one came every minute."""
    return not hasattr(probe, "stream_packets") and probe.kind != "transfer"


KINDS: Mapping[str, Any] = {kind: probe for kind, probe in PROBES.items() if _is_short(probe)}
"""The probes that a module may have."""


def _module_model(probe: Any) -> Any:
    options = {k: v for k, v in options_of(probe, OPTION_FORMS).items() if k not in _PLACES}
    if clash := options.keys() & {"probe", *ModuleFields.model_fields}:
        raise TypeError(f"{probe.__name__} has options that every module has: {clash}")

    def buildable(self: ModuleFields) -> ModuleFields:
        module_probe(self, "http://module.invalid/", "192.0.2.1")
        return self

    fields: dict[str, Any] = {"probe": (Literal[probe.kind], ...), **options}
    checks: dict[str, Any] = {"buildable": model_validator(mode="after")(buildable)}
    return create_model(
        f"{probe.kind.capitalize()}Module",
        __base__=ModuleFields,
        __validators__=checks,
        **fields,
    )


_MODELS: Mapping[str, Any] = {kind: _module_model(probe) for kind, probe in KINDS.items()}
Module: Any = Annotated[Union[tuple(_MODELS.values())], Field(discriminator="probe")]  # noqa: UP007 - made at run time


def module_probe(module: Any, url: str, resolver: str) -> Any:
    """The probe of a module, for a target that is this URL or resolver. Raises ValueError."""
    return build_probe(module, KINDS[module.probe], url=url, resolver=resolver)


def _needs_nothing(kind: str) -> bool:
    return not any(
        field.is_required() for k, field in _MODELS[kind].model_fields.items() if k != "probe"
    )


BUILT_IN: Mapping[str, Any] = {
    **{kind: _MODELS[kind](probe=kind) for kind in KINDS if _needs_nothing(kind)},
    "http_2xx": _MODELS["https"](probe="https", expect_status=tuple(range(200, 300))),
    "tcp_connect": _MODELS["tcp"](probe="tcp"),
}
"""Every kind by its name, and what a configuration made for blackbox_exporter asks for."""
DEFAULT_MODULE = "http_2xx"


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of ``probe_endpoint.allow``: a name, ``*.`` before it for all below it, or a
    prefix; ``port`` 0 is any."""

    name: str
    prefix: Network | None
    port: int

    def covers_name(self, name: str, port: int) -> bool:
        if not self.name or self.port not in (0, port):
            return False
        name = name.lower()
        return name.endswith(self.name[1:]) if self.name.startswith("*.") else name == self.name

    def covers_address(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
    ) -> bool:
        return (
            self.prefix is not None
            and self.port in (0, port)
            and address.version == self.prefix.version
            and address in self.prefix
        )


def parse_allowed(text: str) -> Allowed:
    """``example.org``, ``*.example.org``, ``192.0.2.0/24``, ``192.0.2.1``, ``2001:db8::/32``; each
    with ``:port`` behind it, an IPv6 one then in brackets. Raises ValueError."""
    place, port = text, 0
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::([0-9]{1,5}))?", text)
    if bracketed:
        place, port = bracketed[1], int(bracketed[2] or 0)
    elif text.count(":") == 1 and (match := _PORT.fullmatch(text)):
        place, port = match[1], int(match[2])
    if port > 65535 or text.endswith(":0"):
        raise ValueError("must have a port from 1 to 65535, or none")
    try:
        return Allowed("", ipaddress.ip_network(place), port)
    except ValueError:
        if "/" in place:
            raise ValueError(f"must be a prefix such as 192.0.2.0/24, not {place!r}") from None
    name = parse_name(place.removeprefix("*."))
    parse_host(name)  # numbers that only look like a name
    return Allowed(place.lower(), None, port)


def _readable(text: str) -> str:
    parse_allowed(text)
    return text


ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class ProbeEndpointSettings(Strict):
    """``modules`` beside the built-in ones, or instead of those of the same name."""

    modules: dict[ModuleName, Module] = {}  # noqa: RUF012 - pydantic copies it
    allow: tuple[Annotated[str, AfterValidator(_readable)], ...] = Field((), max_length=256)
