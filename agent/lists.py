"""The lists that owners publish, held against the catalogue. Nothing is taken from them silently:
what differs is told, and a messenger file with it in is written only when asked for.
"""

from __future__ import annotations

import asyncio
import copy
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.checks import environment
from agent.store import Store
from config.model import Config, MessengerConfig, PublishedList
from probes.model import Channel, Proof, Target
from probes.net.address import parse
from probes.net.errors import NotMeasured
from probes.net.fetch import fetch
from probes.trail import NETWORK_ERRORS, classify
from probes.wire.published import MAX_BYTES, Server, parse_prefixes, parse_servers

SECONDS = 30.0
"""For one list, in all."""
TRIES = 3
"""Times that manners may ask to come again."""
_LATER = frozenset({"min_interval", "handshake_rate"})
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Read:
    """What the lists of one messenger said. ``servers`` by what the names of their targets begin
    with; ``unread``: the URLs of lists that could not be read, with the reason."""

    prefixes: tuple[str, ...] | None
    servers: Mapping[str, tuple[Server, ...]]
    read: tuple[str, ...]
    unread: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """Between the lists of one messenger and its file. ``new`` and ``foreign`` are listed servers
    that no target asks, by what the names of such targets begin with; the latter are not the
    owner's by any prefix, listed or known, and are never taken. ``gone``: targets whose place is
    listed no more. Prefixes that are not listed stay: a list need not be complete."""

    messenger: str
    new: Mapping[str, tuple[Server, ...]]
    foreign: Mapping[str, tuple[Server, ...]]
    gone: tuple[str, ...]
    new_prefixes: tuple[str, ...]
    unlisted_prefixes: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Would a messenger file that follows the lists be another one?"""
        return bool(any(self.new.values()) or self.gone or self.new_prefixes)


# --- reading -----------------------------------------------------------------------------------


async def read_lists(
    config: Config, chosen: Sequence[MessengerConfig], store: Store, tell: Callable[[str], None]
) -> dict[str, Read]:
    """The lists of these messengers, one after the other, within manners."""
    env, manners = environment(config)
    manners.restore(store.get("bytes_today") or b"")

    async def body(messenger: str, one: PublishedList) -> bytes:
        of = Target(messenger, "", "lists", "list")
        for left in reversed(range(TRIES)):
            try:
                return await fetch(env, one.url, of, limit=MAX_BYTES, seconds=SECONDS)
            except NotMeasured as error:
                if error.reason not in _LATER or not left:
                    raise
                wait = manners.limits.min_interval
                tell(f"{one.url} in {wait:.0f} s: no server is asked more often")
                await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    found = {}
    try:
        for messenger in chosen:
            found[messenger.name] = await _read(messenger, body)
    finally:
        store.put("bytes_today", manners.spent())
    return found


async def _read(messenger: MessengerConfig, body: Callable[..., Any]) -> Read:
    prefixes: tuple[str, ...] | None = None
    servers: dict[str, tuple[Server, ...]] = {}
    read, unread = [], {}
    for one in messenger.lists:
        try:
            data = await body(messenger.name, one)
            if one.form == "prefixes":
                prefixes = (*(prefixes or ()), *parse_prefixes(data))
            else:
                servers[one.targets] = servers.get(one.targets, ()) + parse_servers(data)
        except NotMeasured as error:
            unread[one.url] = f"not asked: {error.reason}"
        except NETWORK_ERRORS as error:  # the words of a server are not ours to repeat
            unread[one.url] = str(classify(error))
        else:
            read.append(one.url)
    return Read(prefixes, servers, tuple(read), unread)


# --- comparing, pure ---------------------------------------------------------------------------


def difference(messenger: MessengerConfig, read: Read) -> Difference:
    """Of a family that no list read has, no target is gone."""
    asked = {place for t in messenger.targets for place in _places((t.host, *t.addresses), t.port)}
    owned = [*messenger.owner_prefixes, *(read.prefixes or ())]
    new, foreign, gone = {}, {}, []
    for begin, listed in read.servers.items():
        unasked: dict[Place, Server] = {}
        for server in listed:
            if (server.address, server.port) not in asked:
                unasked.setdefault((server.address, server.port), server)
        ours = [s for s in unasked.values() if _within(s.address, owned)]
        new[begin] = tuple(ours)
        foreign[begin] = tuple(s for s in unasked.values() if s not in ours)
        places = {(s.address, s.port) for s in listed}
        families = {":" in address for address, _ in places}
        for target in messenger.targets:
            own = _places((target.host,), target.port)
            told = (":" in target.host) in families
            begins = target.target.name.startswith(begin) and target.relay is None
            if begins and told and own and not own & places:
                gone.append(target.target.name)
    known = {str(ipaddress.ip_network(p)) for p in messenger.owner_prefixes}
    listed_prefixes = read.prefixes or ()
    unlisted = known - set(listed_prefixes) if read.prefixes is not None else set()
    return Difference(
        messenger.name,
        new,
        foreign,
        tuple(gone),
        tuple(p for p in dict.fromkeys(listed_prefixes) if p not in known),
        tuple(sorted(unlisted)),
    )


def _places(hosts: Iterable[str], port: int) -> set[Place]:
    literal = (parse(host) for host in hosts if host)
    return {(str(address), port) for address in literal if address is not None}


def _within(address: str, prefixes: Iterable[str]) -> bool:
    ip = ipaddress.ip_address(address)
    nets = map(ipaddress.ip_network, prefixes)
    return any(ip.version == net.version and ip in net for net in nets)


def sentences(found: Difference, read: Read) -> list[str]:
    """For a person; one when nothing differs."""
    said = [f"{url} could not be read ({why})" for url, why in read.unread.items()]
    for begin, servers in found.new.items():
        if servers:
            said.append(f"listed, and asked by no target ({begin}…): {_named(servers)}")
    for servers in found.foreign.values():
        if servers:
            said.append(f"listed outside the owner's prefixes, and never taken: {_named(servers)}")
    if found.gone:
        said.append(f"targets that are listed no more: {', '.join(found.gone)}")
    if found.new_prefixes:
        said.append(f"prefixes listed and not known: {', '.join(found.new_prefixes)}")
    if found.unlisted_prefixes:
        said.append(f"prefixes known and not listed: {', '.join(found.unlisted_prefixes)}")
    if not said:
        said.append("the lists say what the catalogue says")
    return [f"{found.messenger}: {sentence}" for sentence in said]


def _named(servers: Sequence[Server]) -> str:
    return ", ".join(f"{_place(s)} (centre {s.centre})" for s in servers)


def _place(server: Server) -> str:
    host = f"[{server.address}]" if ":" in server.address else server.address
    return f"{host}:{server.port}"


# --- a file that follows the lists, pure ---------------------------------------------------------


def refreshed(data: Mapping[str, Any], found: Difference, read: Read, today: str) -> dict[str, Any]:
    """A messenger file's values with what is new in them and without what is gone. New targets have
    still to show that they answer, and decide nothing. ``today``: an ISO date."""
    made: dict[str, Any] = copy.deepcopy(dict(data))
    gone = set(found.gone)
    kept = [t for t in made["targets"] if t["name"] not in gone]
    names = {t["name"] for t in made["targets"]}
    for begin, servers in found.new.items():
        channels = [t["channel"] for t in made["targets"] if t["name"].startswith(begin)]
        for server in servers:
            name = _free(
                f"{begin}{'media-' if server.centre < 0 else ''}{abs(server.centre)}", names
            )
            names.add(name)
            kept.append(
                {
                    "name": name,
                    "channel": next(iter(channels), str(Channel.CHAT)),
                    "probe": "tcp",
                    "host": server.address,
                    "port": server.port,
                    "proof": str(Proof.UNPROVEN),
                    "informative": True,
                }
            )
    made["targets"] = kept
    owner = made.setdefault("owner", {})
    owner["prefixes"] = [*owner.get("prefixes", ()), *found.new_prefixes]
    sources = {s["url"]: dict(s) for s in made["sources"]}
    for url in read.read:
        sources[url] = {"url": url, "read": today}
    made["sources"] = list(sources.values())
    return made


def _free(name: str, taken: set[str]) -> str:
    number, found = 1, name
    while found in taken:
        number, found = number + 1, f"{name}-{number + 1}"
    return found
