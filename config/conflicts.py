"""What is right key by key in callpath.yaml, and wrong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from config.document import KeyPath
from config.modules import module_probe
from config.schema import ResolverSettings, Settings, TwinSettings
from config.values import is_loopback, split_listen
from probes.registry import needs_research


@dataclass(frozen=True, slots=True)
class Conflict:
    """Keys that are right one by one and wrong together; the first is the one to name."""

    keys: tuple[KeyPath, ...]
    message: str


def conflicts(settings: Settings) -> Iterator[Conflict]:
    limits, schedule, web = settings.limits, settings.schedule, settings.web
    if settings.profile == "research" and settings.risks != "accepted":
        yield Conflict((("profile",), ("risks",)), "research needs risks: accepted")
    if settings.media.profile != "keepalive" and settings.profile != "research":
        yield Conflict(
            (("media", "profile"), ("profile",)), "a voice's rate needs profile: research"
        )
    if settings.localise.enabled and settings.profile != "research":
        yield Conflict(
            (("localise", "enabled"), ("profile",)),
            "no app sends packets that run out on the way: needs profile: research",
        )
    min_interval: KeyPath = ("limits", "min_interval")
    if limits.min_interval < 60 and not limits.fast_prefixes:
        yield Conflict(
            (min_interval, ("limits", "fast_prefixes")),
            "may be below 60s only together with limits.fast_prefixes",
        )
    for name in type(schedule).model_fields:
        if getattr(schedule, name) < limits.min_interval:
            yield Conflict(
                (("schedule", name), min_interval), "must not be shorter than limits.min_interval"
            )
    yield from _module_conflicts(settings)
    if not web.insecure and not web.config_file and not is_loopback(split_listen(web.listen)[0]):
        yield Conflict(
            (("web", "listen"), ("web", "insecure")),
            "is not loopback: needs web.config_file (TLS, passwords), or web.insecure: true",
        )
    if settings.outside.file and settings.outside.url:
        yield Conflict((("outside", "url"), ("outside", "file")), "is one too many beside file")
    if settings.catalogue.file and not settings.catalogue.keys:
        yield Conflict(
            (("catalogue", "keys"), ("catalogue", "file")), "is required beside file: who may sign?"
        )
    yield from _twin_conflicts(settings.twin)
    yield from _resolver_conflicts(settings.resolvers)


def _module_conflicts(settings: Settings) -> Iterator[Conflict]:
    for name, module in settings.probe_endpoint.modules.items():
        probe = module_probe(module, "http://module.invalid/", "192.0.2.1")
        if needs_research(probe) and settings.profile != "research":
            yield Conflict(
                (("probe_endpoint", "modules", name, "probe"), ("profile",)),
                "asked in this way is not what an app does: it needs profile: research",
            )


def _twin_conflicts(twin: TwinSettings) -> Iterator[Conflict]:
    needed = ("address", "key_file", "tls_sha256")
    missing = [name for name in needed if not getattr(twin, name)]
    if 0 < len(missing) < len(needed):
        given: Iterator[KeyPath] = (("twin", name) for name in needed if name not in missing)
        message = f"is required beside the others: {', '.join(missing)}"
        yield Conflict((("twin", missing[0]), *given), message)


def _resolver_conflicts(resolvers: ResolverSettings) -> Iterator[Conflict]:
    seen = {"system"}
    for index, resolver in enumerate(resolvers.trusted):
        path: KeyPath = ("resolvers", "trusted", index)
        if resolver.name in seen:
            yield Conflict(((*path, "name"),), f"{resolver.name} is already taken")
        seen.add(resolver.name)
        if not resolver.tls_name and {"tls", "https"} & set(resolver.transports):
            yield Conflict(((*path, "tls_name"),), "is required for the transports tls and https")
