"""``callpath probe``: one probe by hand, of a configured target or of anything."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from agent.beside import besides, over_udp
from agent.checks import environment, to_check
from agent.companion import companion
from agent.diagnosis import Evidence
from agent.enginedoor import EngineDoor
from config.model import Config, TargetConfig
from config.values import (
    parse_address,
    parse_authority,
    parse_duration,
    parse_fingerprint,
    parse_header,
    parse_host,
    parse_key_number,
    parse_name,
    parse_path,
    parse_public_key,
    parse_url,
    url_host_port,
)
from probes.measure import Check, measure
from probes.model import Family, Observation, Role, Target
from probes.net import resolver
from probes.net.address import is_bogon, parse
from probes.net.environment import Beside, Environment, NoCourtesy
from probes.net.errors import NotMeasured
from probes.registry import PROBES, needs_research
from probes.wire.dns import encode_query
from probes.wire.quality import Quality

BY_HAND = "probe"
"""The messenger name under which targets given on the command line run."""
_STRANGERS = 3
"""Public STUN servers that are asked whether a stream may be held against them."""


class UsageProblem(Exception):
    """The command line cannot be understood; the text says why."""


def fields_of(kind: str) -> dict[str, Any]:
    """The fields of a probe, with their types; none of what is no probe."""
    return _fields(PROBES[kind]) if kind in PROBES else {}


def _fields(probe_class: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(probe_class)
    return {f.name: hints[f.name] for f in dataclasses.fields(probe_class)}


def parse_options(arguments: Sequence[str], kind: str = "") -> dict[str, str]:
    """``--server-name NAME`` or ``--server-name=NAME`` to field and text; ``--fast`` alone where
    the probe's field is a yes or no."""
    flags = {name for name, hint in fields_of(kind).items() if hint is bool}
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageProblem(f"unexpected argument: {word}")
        name, equals, value = word[2:].partition("=")
        if not equals and name.replace("-", "_") in flags:
            value = rest.pop(0) if rest[:1] in (["true"], ["false"]) else "true"
        elif not equals:
            if not rest:
                raise UsageProblem(f"--{name} needs a value")
            value = rest.pop(0)
        options[name.replace("-", "_")] = value
    return options


async def probe_once(
    config: Config,
    kind: str,
    target: str,
    options: Mapping[str, str],
    rfc_timers: bool,
    watch: Callable[[Mapping[str, Quality]], None] | None = None,
) -> tuple[Observation, ...]:
    """Every observation of one run; ``watch`` sees a stream while it plays. Raises UsageProblem."""
    if kind not in PROBES:
        raise UsageProblem(f"unknown probe {kind!r}; there are {', '.join(sorted(PROBES))}")
    if watch is not None and kind != "media":
        raise UsageProblem(f"--watch: of {kind} there is no stream to watch; media has one")
    env, _ = environment(config)
    env.courtesy, env.watch = NoCourtesy(), watch
    known = _find(config, target)
    if known is not None and not options and known.target.probe == kind:
        try:
            check = to_check(known, env)
        except NotMeasured as error:
            raise UsageProblem(f"{target}: {error.reason}") from error
    else:
        check = _build(kind, target, known, dict(options), env)
    check = dataclasses.replace(check, rfc_timers=rfc_timers)
    if needs_research(check.probe) and config.settings.profile != "research":
        raise UsageProblem(
            f"{kind} asked in this way is not what an app does: it needs profile: research"
        )
    if hasattr(check.probe, "stream_packets"):
        env.beside = await _beside(config, check, env)
    async with EngineDoor() as env.streams:
        measured = await measure(check, env)
    if not measured.observations:
        why = ", ".join(reason.replace("_", " ") for reason in dict.fromkeys(measured.skipped))
        raise UsageProblem(
            f"not measured: {why}" if why else "no address of a family that this host can use"
        )
    return measured.observations


async def _beside(config: Config, check: Check, env: Environment) -> tuple[Beside, ...]:
    """The twin, or one of the public STUN servers; those are left alone for a server of one's own:
    what is private or on this host has no business abroad."""
    twin = companion(config)
    own = check.host == "localhost" or (parse(check.host) and is_bogon(check.host))
    if twin is not None or own:
        return besides(twin, (), None, 0, 0.0)
    asked = [t for t in config.controls if t.role is Role.STUN and over_udp(t)]
    seen = await asyncio.gather(*(measure(to_check(t, env), env) for t in asked[:_STRANGERS]))
    evidence = [
        Evidence(t, m.observations, None, True, True)
        for t, m in zip(asked[:_STRANGERS], seen, strict=True)
    ]
    return besides(None, evidence, None, 0, 0.0)


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
    """A check of a place, or of a configured target in another way than it is configured."""
    same = known if known is not None and known.target.probe == kind else None
    default = str(known.family) if known else "any"
    family = Family(_one_of(options.pop("family", default), list(Family), "family"))
    timeout = _seconds(options.pop("timeout", "")) or (known.timeout if known else None)
    pinned = tuple(_literal(a.strip()) for a in options.pop("address", "").split(",") if a)
    probe_class = PROBES[kind]
    if probe_class.takes == "resolver":
        given = options.get("resolver") or (same.probe.resolver if same else target)
        host, port, url = _place("resolver", given, env)
        options["resolver"] = given
    elif known is not None:
        host, port, url = known.host, known.port, known.url
        pinned = pinned or known.addresses
        if not host:
            raise UsageProblem(f"{target} asks a resolver; it can only be asked as dns")
    else:
        host, port, url = _place(probe_class.takes, target, env)
    if probe_class.takes == "url" and same is None:
        options.setdefault("url", url or f"https://{_bracketed(host)}:{port}/")
    probe = _make(probe_class, options, same.probe if same else None)
    return Check(Target(BY_HAND, "", target, kind), probe, host, port, pinned, family, timeout)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _literal(text: str) -> str:
    try:
        return parse_address(text)
    except ValueError as error:
        raise UsageProblem(f"--address: {text}: {error}") from error


def _place(takes: str, target: str, env: Environment) -> tuple[str, int, str]:
    if takes == "resolver":
        try:
            return (*resolver.endpoint(env, target), "")
        except (ValueError, KeyError) as error:
            raise UsageProblem(
                f"{target}: give a resolver: system, ip, ip:port, or a trusted one's name/transport"
            ) from error
    if takes == "url" or "://" in target:
        try:
            return (*url_host_port(parse_url(target)), target)
        except ValueError as error:
            raise UsageProblem(f"{target}: {error}") from error
    host, _, port = target.rpartition(":")
    try:
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise ValueError
        bracketed = host.startswith("[") and host.endswith("]")
        return parse_host(host[1:-1] if bracketed else host), int(port), ""
    except ValueError:
        raise UsageProblem(
            f"{target}: give host:port, or messenger/target of a selected messenger"
        ) from None


def _make(probe_class: Any, options: Mapping[str, str], base: Any) -> Any:
    """The probe with these options, the others as ``base`` has them."""
    fields = _fields(probe_class)
    unknown = [name for name in options if name not in fields]
    if unknown:
        known = ", ".join("--" + name.replace("_", "-") for name in fields) or "none"
        raise UsageProblem(f"--{unknown[0].replace('_', '-')}: unknown; options here: {known}")
    given = {k: _convert(k, v, fields[k]) for k, v in options.items()}
    try:
        return dataclasses.replace(base, **given) if base else probe_class(**given)
    except ValueError as error:
        raise UsageProblem(str(error)) from error
    except TypeError as error:
        missing = [
            f.name
            for f in dataclasses.fields(probe_class)
            if f.default is dataclasses.MISSING and f.name not in options
        ]
        raise UsageProblem(f"needed: {', '.join('--' + m for m in missing)}") from error


def _record_type(text: str) -> None:
    encode_query("example.test", text, 0)


_FORMS: Mapping[str, Callable[[str], object]] = {
    "server_name": parse_name,
    "query": parse_name,
    "fingerprint": parse_fingerprint,
    "url": parse_url,
    "type": _record_type,
    "path": parse_path,
    "origin": parse_url,
    "header": parse_header,
    "root": parse_public_key,
    "authority": parse_authority,
    "fingerprints": parse_key_number,
}
"""What an option's type does not tell; the same as in the files (config/schema.py)."""


def _convert(name: str, text: str, hint: Any) -> Any:
    if hint is str:
        try:
            if text and name in _FORMS:
                _FORMS[name](text)
        except ValueError as error:
            raise UsageProblem(f"--{name.replace('_', '-')}: {error}") from error
        return text
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(_one_of(text, list(hint), name))
    if typing.get_origin(hint) is typing.Literal:
        return _one_of(text, list(typing.get_args(hint)), name)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_convert(name, part.strip(), inner) for part in text.split(",") if part)
    if hint is bool and text in ("true", "false"):
        return text == "true"
    if hint is float and re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", text):
        return float(text)
    if hint is int and re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    raise UsageProblem(f"--{name}: cannot read {text!r} as {getattr(hint, '__name__', hint)}")


def _one_of(text: str, choices: Sequence[str], name: str) -> str:
    if text not in choices:
        raise UsageProblem(f"--{name}: one of {', '.join(map(str, choices))}")
    return text


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageProblem(f"--timeout: {error}") from error
    if seconds <= 0:
        raise UsageProblem("--timeout: must be more than 0")
    return seconds
