"""What a scenario is: a world that changes, and what the agent should make of it.

One declaration runs on the virtual clock and in the namespaces: a ``Stage`` is either. What servers
do wrong is a rule behind the last hop, where nobody can tell it from the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.lab.catalogue import Catalogue
from tests.lab.censor import Censor
from tests.lab.path import Line
from tests.lab.relays import RELAYS

LAST_HOP = 5
"""Behind it are the servers: a rule there is a server's own doing."""

Rules = Iterable[Censor]


class Stage(Protocol):
    """What a scenario does to a world. ``seed`` is for whatever is drawn."""

    @property
    def seed(self) -> int: ...

    @property
    def catalogue(self) -> Catalogue: ...

    def add(self, rules: Rules) -> None: ...
    def clear(self) -> None: ...
    def lie(self, name: str, *addresses: str) -> None: ...
    def tell_the_truth(self) -> None: ...
    def line(self, line: Line) -> None: ...


Happening = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a channel should be said to be. Several words: any of them. ``mechanism`` empty: any."""

    messenger: str
    channel: str
    status: tuple[str, ...]
    mechanism: tuple[str, ...] = ()


def says(place: str, status: str, mechanism: str = "") -> Expected:
    """``says("telegram call", "blocked", "udp_relay_block")``; alternatives by ``|``."""
    messenger, channel = place.split()
    words = tuple(mechanism.split("|")) if mechanism else ()
    return Expected(messenger, channel, tuple(status.split("|")), words)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``happens``: what is done at which minute after the healthy start.

    ``client`` is what the client profile should say; ``research``, where it says more, what that
    one should. ``beside`` names channels that are hit as well and about which nothing is claimed.
    ``minutes`` is how long it is watched; ``goal``: minutes within which design 6 wants the state.
    ``later``: what is missing until it can be told; until then it does not count for the share.
    ``transfers``: minutes between two, where they decide (the schedule's six hours would make one
    run a day long). ``virtual``: why it cannot be played in the namespaces. ``cold``: without a
    healthy start. ``most``: seeds that are enough.
    ``decides``: kinds of probe that decide by a messenger file of one's own (deciding.py).
    """

    name: str
    what: str
    happens: tuple[tuple[float, Happening], ...]
    client: tuple[Expected, ...] = ()
    research: tuple[Expected, ...] = ()
    beside: tuple[str, ...] = ()
    minutes: float = 14.0
    goal: float | None = None
    innocent: bool = False
    later: str = ""
    transfers: float | None = None
    virtual: str = ""
    ipv6: bool = False
    cold: bool = False
    decides: tuple[str, ...] = ()
    most: int = 1_000_000
    tags: frozenset[str] = field(default_factory=frozenset)

    def expected(self, profile: str) -> tuple[Expected, ...]:
        return self.research if profile != "client" and self.research else self.client


# Addresses and names of the shipped catalogue


def prefixes(stage: Stage, **wanted: str) -> tuple[str, ...]:
    return stage.catalogue.prefixes(**wanted)


def relays(stage: Stage, messenger: str = "telegram") -> tuple[str, ...]:
    """A messenger's call relays over UDP."""
    wanted = {"messenger": messenger, "channel": "call", "transport": "udp"}
    found = {p for probe in RELAYS for p in stage.catalogue.prefixes(probe=probe, **wanted)}
    return tuple(sorted(found))


def data_centres(stage: Stage) -> tuple[str, ...]:
    """Telegram's chat servers, those of its pages left out."""
    pages = set(prefixes(stage, messenger="telegram", channel="web"))
    return tuple(p for p in prefixes(stage, messenger="telegram", channel="chat") if p not in pages)


WHATSAPP = ("web.whatsapp.com", "*.whatsapp.net", "*.whatsapp.com", "wa.me", "whatsapp.net")
TELEGRAM = ("*.telegram.org", "telegram.org", "t.me")


def names_of(stage: Stage, patterns: tuple[str, ...]) -> list[str]:
    """The names of the catalogue that fit."""
    from tests.lab.censor import holds_name

    return [name for name in stage.catalogue.names if holds_name(patterns, name)]
