"""``callpath trace``: what to say to whom, and the answer as a document.

A trace is for the research profile: no app sends packets that run out on the way.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.byhand import UsageProblem
from agent.case import within
from agent.checks import environment
from config.model import Config, TargetConfig
from config.values import parse_host, parse_name
from probes.model import Family, Role
from probes.net import resolver
from probes.net.address import is_bogon, parse, prefix_of
from probes.net.environment import Environment
from probes.net.raw import Raw, RawMissing, capable
from probes.trace.common import MOST_PACKETS, Control, Report, Word
from probes.trace.teardown import judged
from probes.trace.walk import Walk
from probes.trace.words import NEUTRAL, Words, kinds, words
from probes.wire.text import clean

PRIVATE = "private"
"""Instead of the address of a router within the vantage's own network."""
SHOWN = 20
"""Teardowns."""
_CONTROLS = {"udp": ("stun",), "tcp": ("tls", "tcp", "https", "mtproto", "noise")}
_MOST_NAMES = 12
"""Of an owner's, that are looked up for a neighbour."""
_STRANGERS = 2
_LONGEST_NAME = 80
_OPTIONS = {"name", "neutral", "control", "server", "address", "header", "transport", "dress"}


@dataclass(frozen=True, slots=True)
class Traced:
    kind: str
    target: str
    address: str
    port: int
    report: Report
    missing: str = ""
    """Why nothing was captured and injected; "" where it was."""
    quotes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Per router, in what it quoted another packet than was sent."""


async def trace(
    config: Config,
    kind: str,
    target: str,
    options: Mapping[str, str],
    *,
    limit: float,
    tell: Callable[[str], None] = lambda text: None,
) -> Traced:
    """One trace by hand. Raises UsageProblem, and OSError where nothing can be sent."""
    if config.settings.profile != "research":
        raise UsageProblem("a trace is not what an app does: it needs profile: research")
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        given = ", ".join(f"--{name}" for name in sorted(_OPTIONS))
        raise UsageProblem(f"--{unknown[0]}: unknown; options here: {given}")
    env, _ = environment(config)
    known = _known(config, target)
    said = _words(kind, target, known, options)
    address, port = await _place(env, kind, target, known, options)
    controls = await _controls(config, env, said, address, options.get("control", ""))
    tell(f"to {address} port {port}, at most {MOST_PACKETS} packets")
    async with AsyncExitStack() as stack:
        raw, missing = None, ""
        try:
            raw = await stack.enter_async_context(Raw(address, env.source))
        except RawMissing as error:
            missing = str(error)
        walk = Walk(said, address, port, env.source, controls, False, limit, tell, raw)
        try:
            report = await walk.trace()
        except RawMissing as error:
            tell(f"{error}: begun again without")
            missing = str(error)
            sent = walk.packets
            walk = Walk(said, address, port, env.source, controls, False, limit, tell)
            walk.packets = sent
            report = await walk.trace()
        quotes = raw.quotes() if raw else {}
    return Traced(kind, target, address, port, report, missing, quotes)


def _known(config: Config, target: str) -> TargetConfig | None:
    messenger, slash, name = target.partition("/")
    if not slash:
        return None
    for one in (*config.controls, *(t for m in config.messengers for t in m.targets)):
        if (one.target.messenger, one.target.name) == (messenger, name):
            return one
    raise UsageProblem(f"{target}: no such target is configured")


def _words(kind: str, target: str, known: TargetConfig | None, options: Mapping[str, str]) -> Words:
    more = {k: v for k, v in options.items() if k in ("header", "transport", "dress")}
    if known is not None and known.target.probe == kind:
        for field in ("header", "transport", "dress"):
            if field not in more and (value := getattr(known.probe, field, None)):
                more[field] = str(value)
    name = options.get("name", "")
    if not name and kind in ("tls", "quic"):
        host = known.host if known else target.rpartition(":")[0]
        name = "" if parse(host) else host
    if not name and kind == "dns":
        name = known.host if known else target
    try:
        for given in filter(None, (name, options.get("neutral", ""))):
            parse_name(given)
        return words(kind, name, options.get("neutral") or NEUTRAL, **more)
    except ValueError as error:
        raise UsageProblem(f"{kind} {target}: {error}") from error


async def _place(
    env: Environment,
    kind: str,
    target: str,
    known: TargetConfig | None,
    options: Mapping[str, str],
) -> tuple[str, int]:
    if kind == "dns":
        try:
            return resolver.endpoint(env, options.get("server", "system"))
        except (ValueError, KeyError) as error:
            raise UsageProblem("--server: system, ip, ip:port, or a trusted one's name") from error
    host, port = (known.host, known.port) if known is not None else host_port(target)
    if given := options.get("address"):
        host = given
    elif known is not None and known.addresses:
        host = known.addresses[0]
    return await _address(env, host), port


async def _address(env: Environment, host: str) -> str:
    if literal := parse(host):
        return str(literal)
    found = await resolver.lookup(env, host, Family.ANY, ())
    if not found.addresses:
        raise UsageProblem(f"{host}: no address; give one by --address")
    return found.addresses[0]


def host_port(target: str) -> tuple[str, int]:
    """``host:port``, IPv6 in brackets. Raises UsageProblem."""
    host, _, port = target.rpartition(":")
    try:
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not 0 < int(port) < 65536:
            raise ValueError
        return parse_host(host), int(port)
    except ValueError:
        raise UsageProblem(f"{target}: give host:port, or messenger/target") from None


async def _controls(
    config: Config, env: Environment, said: Words, address: str, given: str
) -> list[Control]:
    """Servers of the same family that take such packets: the address's neighbours, then strangers,
    or the one that is ``given``."""
    if given:
        host, port = host_port(given)
        other = await _address(env, host)
        return [Control(other, port, prefix_of(other) == prefix_of(address))]
    kinds = _CONTROLS[said.transport]
    owner = [m for m in config.messengers if within(address, m.owner_prefixes)]
    owners = _asked_so([t for m in owner for t in m.targets], kinds)
    # What is known by its address first: names cost a question each.
    owners.sort(key=lambda one: not (one.addresses or parse(one.host)))
    literal = sum(bool(one.addresses or parse(one.host)) for one in owners)
    found = [
        Control(other, one.port, near=True)
        for one, others in await _places(env, owners[: literal + _MOST_NAMES])
        for other in others
        if other != address and prefix_of(other) == prefix_of(address)
    ]
    asked = _asked_so(config.controls, kinds)
    # An owner's own network is hardly nearer than those; a cache within the provider's would be.
    domestic = [one for one in config.controls if owner and one.role is Role.DOMESTIC]
    home = _asked_so(domestic, _CONTROLS["tcp"])
    abroad = [one for one in asked if one.role not in (Role.DOMESTIC, Role.PORTAL)]
    strangers = [*abroad[:_STRANGERS], *home[:_STRANGERS]]
    for one, others in await _places(env, strangers):
        alike = [other for other in others if (":" in other) == (":" in address)]
        found += [Control(o, one.port, home=one.role is Role.DOMESTIC) for o in alike[:1]]
    return list(dict.fromkeys(found))


def _asked_so(targets: Sequence[TargetConfig], kinds: Sequence[str]) -> list[TargetConfig]:
    """Those that such a packet may be sent to, one of each place."""
    fit = [
        one
        for kind in kinds
        for one in targets
        if one.target.probe == kind and one.port and one.host
        if kind != "stun" or getattr(one.probe, "transport", "udp") == "udp"
    ]
    return list({(one.host, one.addresses, one.port): one for one in fit}.values())


async def _places(
    env: Environment, targets: Sequence[TargetConfig]
) -> list[tuple[TargetConfig, Sequence[str]]]:
    async def place(one: TargetConfig) -> Sequence[str]:
        if one.addresses or parse(one.host):
            return one.addresses or (one.host,)
        return (await resolver.lookup(env, one.host, Family.ANY, ())).addresses

    return list(zip(targets, await asyncio.gather(*map(place, targets)), strict=True))


# --- what it says ------------------------------------------------------------------------------


def document(traced: Traced, networks: Mapping[str, str]) -> dict[str, Any]:
    """``networks``: the AS of a router, as text, where a file says it."""
    report, place = traced.report, traced.report.place
    found = place.stretch if place else None
    routers = [shown(r) for r in place.routers] if place else []
    return {
        "version": 1,
        "kind": traced.kind,
        "target": traced.target,
        "address": traced.address,
        "port": traced.port,
        "result": str(report.word),
        "summary": sentence(traced),
        "signs": sorted(map(str, report.signs)) if report.word is not Word.NOTHING else [],
        "interval": {"low": found.low, "high": found.high} if found else None,
        "placement": str(place.placement) if place else "unknown",
        "agreement": {"agree": place.agree, "runs": place.runs} if place else None,
        "flows": {"acted_upon": place.caught, "of": place.flows} if place else None,
        "paths": place.paths if place else None,
        "routers": [
            {"hop": n, "address": r or None, "as": networks.get(r)}
            for n, r in enumerate(routers, 1)
        ],
        "distance": next((run.distance for run in report.runs if run.distance), None),
        "method": report.method,
        "packets": report.packets,
        "seconds": round(report.seconds, 1),
        "reason": report.why,
        "raw": {"used": not traced.missing, "capability": capable(), "why_not": traced.missing},
        "teardowns": _teardowns(report),
        "quotes": [
            {"router": shown(router), "differs": list(differs)}
            for router, differs in traced.quotes.items()
            if differs
        ],
    }


def _teardowns(report: Report) -> dict[str, Any] | None:
    """Whose they are, and the first of them as they were."""
    each = [one for run in report.runs for one in run.teardowns]
    distance = next((run.distance for run in report.runs if run.distance), None)
    whose = judged(each, distance)
    if whose is None:
        return None
    return {
        "origin": str(whose.origin),
        "evidence": list(whose.evidence),
        "copies_hop_limit": whose.copies,
        "count": len(each),
        "seen": [{**one._asdict(), "options": list(one.options)} for one in each[:SHOWN]],
    }


def shown(router: str) -> str:
    """Addresses of the vantage's own network stay there."""
    return PRIVATE if router and is_bogon(router) else router


def sentence(traced: Traced) -> str:
    """What was found, plainly."""
    report, place = traced.report, traced.report.place
    match report.word:
        case Word.NOTHING:
            return "No interference on the path."
        case Word.SERVER:
            return "The packets reach the server's network, and the server itself does not answer."
        case Word.UNCLEAR:
            return f"The place cannot be told: {report.why}."
    if place is None or place.stretch is None:
        return "The place cannot be told."
    low, high = place.stretch.low, place.stretch.high
    where = f"between hop {low} and hop {high}" if high else f"behind hop {low}"
    if low == 0:
        where = "before the first router" if high == 1 else f"within the first {high} hops"
        where = "somewhere on the way" if high is None else where
    if place.caught < place.flows:
        where += f", for {place.caught} of {place.flows} connections"
    done = " and ".join(_DONE[sign] for sign in sorted(report.signs, key=list(_DONE).index)[:1])
    return f"{done} {where}; {place.agree} of {place.runs} runs agree."


_DONE = {
    "reset": "Connections are reset",
    "refused": "Packets are refused",
    "forged answer": "An answer is forged",
    "drop": "Packets are dropped",
    "flow cut off": "The flow is cut off",
}


def networks(file: Path | None, routers: Sequence[str]) -> dict[str, str]:
    """The AS of each router by a local file: lines of ``PREFIX ASN [NAME]``, or of ``FIRST LAST ASN
    COUNTRY NAME`` parted by tabs. The longest prefix, or the smallest range, counts.
    Raises OSError; a line that is neither is passed over."""
    wanted = {r: parse(r) for r in routers if parse(r)}
    best: dict[str, tuple[int, str]] = {}
    if file is None or not wanted:
        return {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                first, last, text = _range(line)
            except ValueError:
                continue
            for router, address in wanted.items():
                if address is None or address.version != first.version:
                    continue
                size = int(last) - int(first)
                inside = int(first) <= int(address) <= int(last)
                if inside and (router not in best or size < best[router][0]):
                    best[router] = size, text
    return {router: text for router, (_, text) in best.items()}


def _range(line: str) -> tuple[Any, Any, str]:
    parts = line.rstrip("\n").split("\t") if line.count("\t") >= 4 else line.split(None, 2)
    if len(parts) >= 5:
        first, last = ipaddress.ip_address(parts[0]), ipaddress.ip_address(parts[1])
        return first, last, clean(f"AS{int(parts[2])} {parts[4]}".strip(), _LONGEST_NAME)
    if not parts:
        raise ValueError("an empty line")
    network = ipaddress.ip_network(parts[0])
    asn = int(parts[1].upper().removeprefix("AS")) if len(parts) > 1 else -1
    if asn < 0:
        raise ValueError(line)
    name = parts[2].strip() if len(parts) > 2 else ""
    return network[0], network[-1], clean(f"AS{asn} {name}".strip(), _LONGEST_NAME)


def known_kinds() -> str:
    return ", ".join(kinds())
