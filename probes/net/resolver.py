"""Names: the host's own resolver, asked as a client asks it, and which answers to believe."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.model import Fact, Failure, Family, Step, StepResult
from probes.net.address import family_of, is_bogon, parse
from probes.net.environment import Environment, Prefix, TrustedResolver
from probes.net.errors import NotMeasured, Refusal
from probes.net.nameserver import DEADLINE, UdpQuery, ask_secured, ask_tcp
from probes.trail import NETWORK_ERRORS, Peer, StepFailed, Trail, classify
from probes.wire import dns as wire
from probes.wire.error import WireError

STRAGGLER = 1.0
"""How long the other family's answer is waited for once one family has addresses."""
MAX_ADDRESSES = 32
"""Per look-up; a hostile resolver must not choose how many strangers are asked."""
_HOSTS = Path("/etc/hosts")
_RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the system resolver said about a name. ``distrusted`` were answered but are not to be
    connected to: loopback, link-local, private or this host's own."""

    step: StepResult
    addresses: tuple[str, ...]
    distrusted: tuple[str, ...]
    facts: dict[str, Fact]


async def lookup(
    env: Environment, name: str, family: Family, pinned: Sequence[str] = ()
) -> Resolution:
    """Resolve as a client does: /etc/hosts, then A and AAAA at the system resolver.

    An answered bogon stays out unless ``pinned`` or a trusted resolver names it too.
    """
    started = time.monotonic()
    facts: dict[str, Fact] = {}
    try:
        found = _from_hosts(name, family) if not env.system else ()
        if not found:
            found = await _ask_both(env, name, family, facts)
    except NETWORK_ERRORS as error:
        spent = time.monotonic() - started
        return Resolution(
            StepResult(Step.RESOLVE, spent, classify(error), str(error)), (), (), facts
        )
    believed, distrusted = await _sift(env, name, found, pinned)
    spent = time.monotonic() - started
    step = StepResult(Step.RESOLVE, spent)
    if not believed:
        step = StepResult(Step.RESOLVE, spent, Failure.BAD_ANSWER, "no believable address")
    if len(found) > MAX_ADDRESSES:
        facts["addresses_left_out"] = len(found) - MAX_ADDRESSES
    return Resolution(step, believed, distrusted, facts)


async def _sift(
    env: Environment, name: str, found: tuple[str, ...], pinned: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    named = {str(parse(address)) for address in pinned}
    suspects = [
        a
        for a in found
        if (is_bogon(a) or env.own.holds(a))
        and str(parse(a)) not in named
        and not any(_holds(prefix, a) for prefix in env.private)
    ]
    if suspects:
        backed = {parse(a) for a in await trusted_addresses(env, name)}
        suspects = [a for a in suspects if parse(a) not in backed]
    believed = tuple(a for a in found if a not in suspects)[:MAX_ADDRESSES]
    return believed, tuple(suspects)[:MAX_ADDRESSES]


def _holds(prefix: Prefix, text: str) -> bool:
    address = parse(text)
    return address is not None and address.version == prefix.version and address in prefix


async def _ask_both(
    env: Environment, name: str, family: Family, facts: dict[str, Fact]
) -> tuple[str, ...]:
    types = {Family.ANY: ("A", "AAAA"), Family.IPV4: ("A",), Family.IPV6: ("AAAA",)}[family]
    tasks = [asyncio.create_task(_ask_system(env, name, kind)) for kind in types]
    try:
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if waiting and any(not t.exception() and t.result().addresses for t in done):
            await asyncio.wait(waiting, timeout=STRAGGLER)
        elif waiting:
            await asyncio.wait(waiting)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # their sockets are closed then
    answers = [t.result() for t in tasks if not t.cancelled() and not t.exception()]
    found = tuple(dict.fromkeys(a for answer in answers for a in answer.addresses))
    if found:
        return found
    errors = [e for t in tasks if not t.cancelled() and (e := t.exception())]
    if errors and all(a.rcode == "NOERROR" for a in answers):
        raise errors[0]  # that a name has no AAAA says nothing about the A that never came
    worst = next((a.rcode for a in answers if a.rcode != "NOERROR"), "NOERROR")
    facts["rcode"] = worst
    raise Refusal(Failure.NO_ADDRESS, f"the resolver answered {worst} without an address")


async def _ask_system(env: Environment, name: str, kind: str) -> wire.Answer:
    servers = nameservers(env)
    if not servers:
        raise Refusal(Failure.UNREACHABLE, "no name server is configured on this host")
    with UdpQuery(env, servers, name, kind, min(DEADLINE, env.patience)) as query:
        answer = await query.first()
    if not answer.truncated:
        return answer
    trail = Trail(env, timeout=DEADLINE)
    address, port = query.answered_by
    try:
        return await ask_tcp(trail, Peer(address, port, ""), name, kind, _any)
    except StepFailed as error:
        raise WireError(Failure.TRUNCATED, "cut over UDP, and TCP failed") from error


def nameservers(env: Environment) -> list[tuple[str, int]]:
    """Address and port of the system resolver(s), in the order in which a client asks them."""
    if env.system:
        return [split_endpoint(env.system, 53)]
    try:
        lines = _RESOLV_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    found = [w[1] for w in words if len(w) >= 2 and w[0] == "nameserver"]
    return [(a, 53) for a in found if parse(a.split("%")[0])][:3]


def split_endpoint(text: str, default_port: int) -> tuple[str, int]:
    """ "ip", "ip:port", "[ip6]:port" to address and port. Raises ValueError."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return str(ipaddress.ip_address(address)), int(port.lstrip(":") or default_port)
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return str(ipaddress.ip_address(address)), int(port)
    return str(ipaddress.ip_address(text)), default_port


def _from_hosts(name: str, family: Family) -> tuple[str, ...]:
    try:
        lines = _HOSTS.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    wanted = name.rstrip(".").lower()
    found = []
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (n.lower() for n in names) and parse(address):
            found.append(address)
    return tuple(a for a in found if family in (Family.ANY, family_of(a)))


def _any(_answer: wire.Answer) -> None:
    """Every well-formed answer will do."""


def choose(env: Environment, resolver: str) -> tuple[str, TrustedResolver | None]:
    """Transport and resolver for a probe's ``resolver`` text; see probes/dns.py."""
    name, _, transport = resolver.partition("/")
    for known in env.trusted:
        if known.name == name:
            return transport or known.transports[0], known
    return "udp", None


def endpoint(env: Environment, resolver: str) -> tuple[str, int]:
    """Address and port for a probe's ``resolver`` text. Raises ValueError for an unknown one."""
    if resolver == "system":
        servers = nameservers(env)
        if not servers:
            raise ValueError("no name server is configured on this host")
        return servers[0]
    transport, trusted = choose(env, resolver)
    if trusted is not None:
        return trusted.address, trusted.ports[transport]
    return split_endpoint(resolver, 53)


def judge(answer: wire.Answer) -> wire.Answer:
    """Raise the word for an answer that leaves a client without what it asked for."""
    if answer.truncated and not answer.addresses and not answer.records:
        raise WireError(Failure.TRUNCATED, "cut, and the rest was not sent")
    if answer.rcode != "NOERROR" or not (answer.addresses or answer.records):
        raise Refusal(Failure.NO_ADDRESS, f"{answer.rcode} without an answer")
    if answer.addresses and all(is_bogon(a) for a in answer.addresses):
        raise Refusal(Failure.BAD_ANSWER, "only addresses that a public name cannot have")
    return answer


async def trusted_addresses(env: Environment, name: str) -> frozenset[str]:
    """Addresses that a trusted resolver names, by the transport hardest to forge that answers."""
    for trusted in env.trusted:
        for transport in ("https", "tls", "tcp", "udp"):
            if transport not in trusted.transports:
                continue
            trail = Trail(env, timeout=3.0)
            peer = Peer(trusted.address, trusted.ports[transport], trusted.tls_name)
            found: set[str] = set()
            answered = False
            try:
                for kind in ("A", "AAAA"):
                    if transport in ("tls", "https"):
                        answer = await ask_secured(trail, trusted, transport, name, kind, _any)
                    elif transport == "tcp":
                        answer = await ask_tcp(trail, peer, name, kind, _any)
                    else:
                        with UdpQuery(env, [(peer.address, peer.port)], name, kind, 2.0) as query:
                            answer = await query.first()
                    found.update(answer.addresses)
                    answered = True
            except (StepFailed, NotMeasured, *NETWORK_ERRORS):
                if not answered:
                    continue
            return frozenset(found)
    return frozenset()
