"""From configuration to what the probes take: checks and their environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from agent.manners import Limits, Manners
from config.model import Config, TargetConfig
from config.schema import Settings
from probes.measure import Check
from probes.net import address, resolver
from probes.net.address import OwnAddresses, Source
from probes.net.environment import Environment, Traffic, TrustedResolver
from probes.net.errors import NotMeasured
from probes.net.files import exposed


def dress_of(target: TargetConfig) -> str:
    """What the packets look like: part of what trust belongs to."""
    return str(getattr(target.probe, "dress", ""))


def to_check(target: TargetConfig, env: Environment) -> Check:
    """Raises NotMeasured when the resolver that a dns target names is not to be had here."""
    host, port, addresses = target.host, target.port, target.addresses
    if target.probe.takes == "resolver":
        try:
            host, port = resolver.endpoint(env, target.probe.resolver)
        except (ValueError, KeyError) as error:
            raise NotMeasured("no_resolver") from error
        addresses = ()
    return Check(
        target=target.target,
        probe=target.probe,
        host=host,
        port=port,
        pinned=addresses,
        family=target.family,
        timeout=target.timeout,
    )


def limits_of(settings: Settings) -> Limits:
    given = settings.limits
    return Limits(
        min_interval=given.min_interval,
        packets_per_target_per_minute=given.packets_per_target_per_minute,
        bytes_per_day=given.bytes_per_day,
        fast_prefixes=tuple(map(str, given.fast_prefixes)),
    )


def environment(config: Config, base: Path | None = None) -> tuple[Environment, Manners]:
    """The surroundings in which every probe of this configuration runs."""
    settings = config.settings
    traffic = Traffic()
    manners = Manners(limits_of(settings), traffic)
    env = Environment(
        system=settings.resolvers.system,
        trusted=tuple(
            TrustedResolver(
                name=r.name,
                address=str(r.address),
                tls_name=r.tls_name,
                doh_path=r.doh_path,
                transports=tuple(r.transports),
                ports=dict(r.ports),
            )
            for r in settings.resolvers.trusted
        ),
        tls_ca_file=str(settings.tls_ca_file or ""),
        source=_source(settings.source_address),
        courtesy=manners,
        traffic=traffic,
        own=OwnAddresses(),
    )
    return env, manners


def source_problem(config: Config) -> str:
    """Why ``source_address`` cannot be used on this host; "" when it can."""
    return address.source_problem(_source(config.settings.source_address))


def key_problem(config: Config) -> str:
    """Why the twin's key is no secret on this host; "" when it is."""
    file = config.settings.twin.key_file
    return f"twin.key_file: {problem}" if file and (problem := exposed(Path(file))) else ""


def catalogue_problem(config: Config) -> str:
    """Why a signed catalogue that is right is not the one in use; "" when it is."""
    if not config.superseded:
        return ""
    return (
        f"catalogue.file: {config.superseded} is older than the shipped catalogue,"
        f" {config.catalogue}, which is used"
    )


def _source(text: str) -> Source:
    if not text:
        return Source()
    try:
        return Source(address=str(ipaddress.ip_address(text)))
    except ValueError:
        return Source(interface=text)
