"""One probe on request, for /probe: of a place that a scrape names, where the list allows it.

Whoever reaches the endpoint must not be able to make this host ask anything else: names and
addresses are held against the list where they are used, at the door to the network.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agent.manners import Manners
from config.model import Config
from config.modules import BUILT_IN, DEFAULT_MODULE, KINDS, Allowed, module_probe, parse_allowed
from config.values import (
    parse_host,
    parse_name,
    parse_url,
    split_address_port,
    split_host_port,
    url_host_port,
)
from exporters.feed import ProbeAnswer
from probes.measure import Check, Measured, measure, measure_at
from probes.model import Contrast, Target
from probes.net import address as addresses
from probes.net.address import OwnAddresses
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from probes.registry import needs_research

OFFSET = 0.5
"""Seconds by which a probe ends before the scrape that asked for it gives up, as blackbox's."""
LONGEST = 120.0
REPEAT = 30.0
"""Seconds for which an answer is given again: two Prometheis, or one that is in a hurry, do not
double what is sent; more than two handshakes a minute with one name trip burst rules."""
NOT_ALLOWED = "not_allowed"
"""Why an address was not asked: told to whoever asked, and in no metric."""
_KEPT = 512

_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "240.0.0.0/4",
        "168.63.129.16/32",
    )
)
"""More ranges that may lead inside, beside those of probes/net/address.py: IPv4 in IPv6's clothes
(RFC 4291 2.5.5.1, 2765, 8215, 4380, 3056), what was site-local (RFC 3879), a carrier's own (RFC
6598), the IETF's (RFC 6890; one cloud's metadata), what no one has (RFC 1112), and the address at
which another cloud's hosts answer their guests."""


_Key = tuple[str, str, str, float]
"""Module, target, hostname, limit in seconds."""


class Unaskable(Exception):
    """The request cannot be answered: ``status`` is that of HTTP, the text says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Question:
    """A request, as it came. ``timeout``: the scrape's, in seconds; None where it says nothing."""

    module: str
    target: str
    hostname: str
    timeout: float | None

    @classmethod
    def read(cls, said: Mapping[str, object]) -> Question:
        """From the web process, which faces the network. Raises Unaskable."""
        texts = [said.get(key, "") for key in ("module", "target", "hostname")]
        timeout = said.get("timeout")
        if not all(isinstance(t, str) and len(t) <= 2048 for t in texts):
            raise Unaskable(400, "too long")
        if timeout is not None and not (isinstance(timeout, float | int) and timeout > 0):
            raise Unaskable(400, "the scrape's timeout is no time")
        module, target, hostname = map(str, texts)
        if not target:
            raise Unaskable(400, "the parameter target is missing")
        return cls(module or DEFAULT_MODULE, target, hostname, timeout)


class AllowList:
    """What may be asked. A name is allowed by name, at public addresses; every address by prefix,
    and one inside (private, loopback, link-local, this host's own) only by a prefix that lies
    inside altogether, so that 0.0.0.0/0 is not an invitation to the cloud's metadata."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._entries: tuple[Allowed, ...] = tuple(map(parse_allowed, entries))
        self.inside = tuple(e.prefix for e in self._entries if e.prefix and _inside(e.prefix))

    def name(self, name: str, port: int) -> bool:
        return any(e.covers_name(name, port) for e in self._entries)

    def address(self, text: str, port: int, *, own: bool, named: bool) -> bool:
        """``own``: it is one of this host's; ``named``: a name that is allowed led to it."""
        ip = addresses.parse(text)
        if ip is None:
            return False
        covering = [e.prefix for e in self._entries if e.covers_address(ip, port)]
        if own or addresses.is_bogon(text) or any(_in(text, net) for net in _SPECIAL):
            return any(prefix is not None and _inside(prefix, own=own) for prefix in covering)
        return named or bool(covering)


def _in(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """As it is written, or without its clothes, which parse() takes off."""
    return any(
        ip is not None and ip.version == network.version and ip in network
        for ip in (ipaddress.ip_address(text), addresses.parse(text))
    )


def _inside(prefix: Any, *, own: bool = False) -> bool:
    if own and prefix.num_addresses == 1:
        return True  # this host's public address, named as such
    within = (*addresses.BOGONS, *_SPECIAL)
    return any(prefix.version == net.version and prefix.subnet_of(net) for net in within)


@dataclass(slots=True)
class _Requested:
    """Courtesy for one request: the list first, then the manners, without their spacing: the
    scrape's interval is the operator's."""

    manners: Manners
    allowed: AllowList
    own: OwnAddresses
    named: bool

    async def check(self, target: Target, address: str, port: int, kind: str, packets: int) -> None:
        own = self.own.holds(address)
        if not self.allowed.address(address, port, own=own, named=self.named):
            raise NotMeasured(NOT_ALLOWED)
        place = dataclasses.replace(target, name=f"{address} {port}")
        await self.manners.on_request(place, address, packets)

    async def handshake(self, address: str, name: str) -> None:
        await self.manners.handshake(address, name)

    async def stream(
        self, target: Target, address: str, port: int, packets: int, rate: float, allowed: bool
    ) -> None:
        raise NotMeasured(NOT_ALLOWED)


class AdHoc:
    """Answers requests, one configuration long. Whoever asks the same while it is under way, or
    shortly after, gets the same answer."""

    def __init__(self, config: Config, env: Environment, manners: Manners) -> None:
        settings = config.settings
        self._modules = {**BUILT_IN, **settings.probe_endpoint.modules}
        self._allowed = AllowList(settings.probe_endpoint.allow)
        self._research = settings.profile == "research"
        self._env, self._manners = env, manners
        self._gate = asyncio.Semaphore(settings.limits.concurrency)
        self._answers: dict[_Key, tuple[float, asyncio.Task[ProbeAnswer]]] = {}

    async def answer(self, said: Mapping[str, object]) -> ProbeAnswer:
        try:
            question = Question.read(said)
            check, limit, pinned = self._check(question)
        except Unaskable as error:
            return ProbeAnswer(error.status, str(error))
        # The limit too: what was cut off for one who was in a hurry is no answer for another.
        key = (question.module, question.target, question.hostname, limit)
        now = time.monotonic()
        at, task = self._answers.get(key, (0.0, None))
        if task is None or now - at > REPEAT or (task.done() and _unusable(task)):
            self._forget(now)
            work = self._ask(question, check, limit, pinned)
            at, task = now, asyncio.create_task(work)
            self._answers[key] = at, task
        try:
            made = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            return ProbeAnswer(503, "stopped: the agent pauses, reads its configuration, or ends")
        age = max(0.0, time.monotonic() - at - made.seconds)
        return dataclasses.replace(made, age=age if now > at else 0.0)

    async def stop(self) -> None:
        tasks = [task for _, task in self._answers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, now: float) -> None:
        self._answers = {
            key: (at, task)
            for key, (at, task) in self._answers.items()
            if now - at <= REPEAT or not task.done()
        }
        while len(self._answers) >= _KEPT:
            self._answers.pop(next(iter(self._answers)))

    def _check(self, question: Question) -> tuple[Check, float, str]:
        """The check, its limit in seconds, and the address to ask where the request gives another
        ``hostname`` than the target's. Raises Unaskable."""
        module = self._modules.get(question.module)
        if module is None:
            known = ", ".join(sorted(self._modules))
            raise Unaskable(400, f"unknown module {question.module!r}; there are {known}")
        limit = min(LONGEST, question.timeout or LONGEST) - OFFSET
        limit = min(limit, module.timeout or limit)
        if limit <= 0:
            raise Unaskable(400, "the scrape's timeout leaves no time to measure")
        kind = KINDS[module.probe]
        try:
            host, port, url = _place(kind.takes, question.target)
            probe = module_probe(module, url, question.target)
            pinned = ""
            if question.hostname:
                probe, host, pinned = _named(probe, host, question.hostname)
        except ValueError as error:
            raise Unaskable(400, f"{question.target}: {error}") from error
        if needs_research(probe) and not self._research:
            text = "asked in this way is not what an app does: it needs profile: research"
            raise Unaskable(403, f"{kind.kind} {text}")
        if not self._permitted(pinned or host, port):
            raise Unaskable(403, f"{host} port {port} is not allowed; see probe_endpoint.allow")
        target = Target("probe", "", question.target, kind.kind)
        return Check(target, probe, host, port, (), module.family, module.timeout), limit, pinned

    def _permitted(self, host: str, port: int) -> bool:
        """Before a name is even looked up."""
        if addresses.parse(host) is None:
            return self._allowed.name(host, port)
        own = self._env.own.holds(host)
        return self._allowed.address(host, port, own=own, named=False)

    async def _ask(
        self, question: Question, check: Check, limit: float, pinned: str
    ) -> ProbeAnswer:
        named = not pinned and addresses.parse(check.host) is None
        env = dataclasses.replace(
            self._env,
            patience=limit,
            streams=None,
            beside=(),
            watch=None,
            private=self._allowed.inside if named else (),
        )
        env.courtesy = _Requested(self._manners, self._allowed, env.own, named)
        started = begun = time.monotonic()
        turn, late = False, False
        measured = Measured((), (), frozenset())
        try:
            async with asyncio.timeout(limit), self._gate:
                turn, begun = True, time.monotonic()
                if pinned:
                    measured = await _at(check, env, pinned)
                else:
                    measured = await measure(check, env)
        except TimeoutError:
            late = True
        except NotMeasured as error:
            measured = Measured((), (error.reason,), frozenset())
        if late and not (turn and time.monotonic() - begun >= limit / 2):
            # Its turn came late or never: cut off after so little, nobody has failed.
            return ProbeAnswer(503, "not measured: too many probes are under way")
        if measured.observations or late:
            return ProbeAnswer(
                200,
                kind=check.target.probe,
                observations=measured.observations,
                seconds=time.monotonic() - started,
                limit=limit,
                late=late,
                module=self._modules[question.module].model_dump(mode="json"),
            )
        if NOT_ALLOWED in measured.skipped:
            return ProbeAnswer(403, f"{check.host} leads to what is not allowed")
        why = ", ".join(r.replace("_", " ") for r in dict.fromkeys(measured.skipped))
        return ProbeAnswer(503, f"not measured: {why or 'no address of a family at hand'}")


def _unusable(task: asyncio.Task[ProbeAnswer]) -> bool:
    return task.cancelled() or task.exception() is not None or task.result().status != 200


async def _at(check: Check, env: Environment, address: str) -> Measured:
    """At one address, whatever the name leads to."""
    own = Contrast("", "hostname")
    made = await measure_at(check, env, address, own, {})
    return Measured((dataclasses.replace(made, contrast=None),), (), frozenset())


def _place(takes: str, target: str) -> tuple[str, int, str]:
    """Host, port and URL of a target. Raises ValueError."""
    if takes == "url":
        url = target if "://" in target else f"http://{target}"
        return (*url_host_port(parse_url(url)), url)
    if takes == "resolver":
        return (*split_address_port(target, 53), "")
    host, port = split_host_port(target)
    return parse_host(host), port, ""


def _named(probe: Any, host: str, hostname: str) -> tuple[Any, str, str]:
    """The probe with another name than its target's: for TLS the server's, for HTTP the host's.
    Returns probe, host and the address to ask. Raises ValueError."""
    name = parse_name(hostname)
    if hasattr(probe, "url"):
        if addresses.parse(host) is None:
            raise ValueError("beside hostname the target must be an address")
        parts = urlsplit(probe.url)
        port = f":{parts.port}" if parts.port else ""
        moved = parts._replace(netloc=f"{name}{port}").geturl()
        return dataclasses.replace(probe, url=moved), name, host
    if hasattr(probe, "server_name"):
        return dataclasses.replace(probe, server_name=probe.server_name or name), host, ""
    raise ValueError(f"{probe.kind} names nobody; hostname means nothing")
