"""``callpath probe``: one probe by hand, of a configured target or of anything."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from agent.checks import environment, to_check
from config.model import Config, TargetConfig
from probes.measure import Check, measure
from probes.model import Family, Observation, Target
from probes.net import resolver
from probes.net.environment import Environment, NoCourtesy
from probes.net.errors import NotMeasured
from probes.registry import PROBES

BY_HAND = "probe"
"""The messenger name under which targets given on the command line run."""


class UsageProblem(Exception):
    """The command line cannot be understood; the text says why."""


def parse_options(arguments: Sequence[str]) -> dict[str, str]:
    """``--server-name NAME`` or ``--server-name=NAME`` to field and text."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageProblem(f"unexpected argument: {word}")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise UsageProblem(f"--{name} needs a value")
            value = rest.pop(0)
        options[name.replace("-", "_")] = value
    return options


async def probe_once(
    config: Config, kind: str, target: str, options: Mapping[str, str], rfc_timers: bool
) -> tuple[Observation, ...]:
    """Every observation of one run. Raises UsageProblem."""
    if kind not in PROBES:
        raise UsageProblem(f"unknown probe {kind!r}; there are {', '.join(sorted(PROBES))}")
    env, _ = environment(config)
    env.courtesy = NoCourtesy()
    known = _find(config, target)
    if known is not None and not options and known.target.probe == kind:
        try:
            check = to_check(known, env)
        except NotMeasured as error:
            raise UsageProblem(f"{target}: {error.reason}") from error
    else:
        check = _build(kind, target, known, dict(options), env)
    check = dataclasses.replace(check, rfc_timers=rfc_timers)
    measured = await measure(check, env)
    if not measured.observations:
        raise UsageProblem("no address of a family that this host can use")
    return measured.observations


def _find(config: Config, target: str) -> TargetConfig | None:
    messenger, slash, name = target.partition("/")
    if not slash:
        return None
    everything = (*config.controls, *(t for m in config.messengers for t in m.targets))
    wanted = (messenger, name)
    return next((t for t in everything if (t.target.messenger, t.target.name) == wanted), None)


def _build(
    kind: str, target: str, known: TargetConfig | None, options: dict[str, str], env: Environment
) -> Check:
    family = Family(_one_of(options.pop("family", "any"), list(Family), "family"))
    timeout = _seconds(options.pop("timeout", ""))
    pinned = tuple(a for a in options.pop("address", "").split(",") if a)
    probe_class = PROBES[kind]
    if known is not None:
        host, port, pinned = known.host, known.port, pinned or known.addresses
        target_url = known.url
    else:
        host, port, target_url = _place(probe_class.takes, target, env)
    if probe_class.takes == "url":
        options.setdefault("url", target_url or f"https://{host}:{port}/")
    if probe_class.takes == "resolver" and known is None:
        options.setdefault("resolver", target)
    probe = _make(probe_class, options)
    return Check(Target(BY_HAND, "", target, kind), probe, host, port, pinned, family, timeout)


def _place(takes: str, target: str, env: Environment) -> tuple[str, int, str]:
    if takes == "resolver":
        try:
            return (*resolver.endpoint(env, target), "")
        except (ValueError, KeyError) as error:
            raise UsageProblem(
                f"{target}: give a resolver: system, ip, ip:port, or a trusted one's name/transport"
            ) from error
    if takes == "url" or "://" in target:
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageProblem(f"{target}: give a URL that begins with https:// or http://")
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), target
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageProblem(f"{target}: give host:port, or messenger/target of a selected messenger")
    return host.strip("[]"), int(port), ""


def _make(probe_class: Any, options: Mapping[str, str]) -> Any:
    hints = typing.get_type_hints(probe_class)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(probe_class)}
    unknown = [name for name in options if name not in fields]
    if unknown:
        known = ", ".join("--" + name.replace("_", "-") for name in fields) or "none"
        raise UsageProblem(f"--{unknown[0].replace('_', '-')}: unknown; options here: {known}")
    try:
        return probe_class(**{k: _convert(k, v, fields[k]) for k, v in options.items()})
    except TypeError as error:
        missing = [
            f.name
            for f in dataclasses.fields(probe_class)
            if f.default is dataclasses.MISSING and f.name not in options
        ]
        raise UsageProblem(f"needed: {', '.join('--' + m for m in missing)}") from error


def _convert(name: str, text: str, hint: Any) -> Any:
    if hint is str:
        return text
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(_one_of(text, list(hint), name))
    if typing.get_origin(hint) is typing.Literal:
        return _one_of(text, list(typing.get_args(hint)), name)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_convert(name, part.strip(), inner) for part in text.split(",") if part)
    if hint is int and text.isdigit():
        return int(text)
    raise UsageProblem(f"--{name}: cannot read {text!r} as {getattr(hint, '__name__', hint)}")


def _one_of(text: str, choices: Sequence[str], name: str) -> str:
    if text not in choices:
        raise UsageProblem(f"--{name}: one of {', '.join(map(str, choices))}")
    return text


def _seconds(text: str) -> float | None:
    if not text:
        return None
    from config.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageProblem(f"--timeout: {error}") from error
