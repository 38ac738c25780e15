"""How an interference is declared: what it looks for, what it does, and what it remembers.

```
Censor(match(sni="*.whatsapp.net"), RewriteToReset(), residual="4-tuple", seconds=75, hop=3)
```

A packet that fits ``match`` triggers. Without ``residual`` the action is done to that packet alone;
with it, to every packet of the same connection (4-tuple), server and port (3-tuple), or server
(2-tuple) for ``seconds``. A declaration is a value without state: ``engine.py`` puts it to work.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.lab import packet as packets
from tests.lab.actions import IN, OUT, Action, Drop, Lose, Redirect, Refuse, Reject
from tests.lab.chance import Loss

PROTOCOLS = {
    "any": frozenset[int](),
    "tcp": frozenset({packets.TCP}),
    "udp": frozenset({packets.UDP}),
    "icmp": frozenset({packets.ICMP, packets.ICMPV6}),
}
RESIDUALS = ("", "4-tuple", "3-tuple", "2-tuple")
OWN = ("hop", "name", "branch", "early")
ACTS = ("both", OUT, IN, "matching")
FOREVER = math.inf


@dataclass(frozen=True, slots=True)
class Match:
    """Which packets trigger: all that is set must hold. Empty lists and None match everything.

    ``remote`` and ``ports`` name the servers' end of a packet, whichever way it goes; ``exempt``
    are prefixes, ``exempt_names`` names that the rule leaves alone. A name is exact, ``*.`` and a
    domain for everything below it, or ``*`` for any. Names are read from the first bytes of a TCP
    connection, across segments and records, and the packet that completes them triggers.

    Counts include the packet itself and are of its flow, ``counting`` one direction or both;
    ``segments_over`` counts the client's segments with payload. ``window`` is in seconds since the
    rule was added, again in every ``period``.

    ``burst_over`` is the number of handshakes (with a name or ``hello``) or else of new flows to
    one destination within ``burst_seconds``, none further than ``burst_gap`` from the next, that
    pass; one more triggers.
    """

    direction: str = "both"
    protocol: str = "any"
    family: int = 0  # 4, 6, or 0 for both
    remote: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()

    sni: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    exempt_names: tuple[str, ...] = ()
    hello: bool = False  # a ClientHello of TLS, whatever its name
    dtls: bool = False  # a ClientHello of DTLS
    quic: bool = False  # a ClientHello in QUIC's version 1, with ``sni`` one with such a name
    fingerprint: tuple[str, ...] = ()  # of TLS or DTLS, see content.Hello
    extension: int | None = None  # that the hello has
    stun: bool = False
    payload: tuple[tuple[int, str], ...] = ()  # offset and hexadecimal bytes
    size: tuple[int, int] | None = None  # of the payload, both ends included

    packets_over: int | None = None
    bytes_over: int | None = None  # of IP packets
    counting: str = "both"
    segments_over: int | None = None
    age_over: float | None = None  # seconds since the flow's first packet
    voice_over: int | None = None  # RTP of one source in order, of a flow that spoke STUN before
    window: tuple[float, float] | None = None
    period: float = FOREVER

    burst_over: int | None = None
    burst_seconds: float = 60.0
    burst_gap: float = FOREVER

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS or self.family not in (0, 4, 6):
            raise ValueError(f"unknown protocol or family in {self}")
        if not {self.direction, self.counting} <= {OUT, IN, "both"}:
            raise ValueError(f"unknown direction in {self}")
        networks((*self.remote, *self.exempt))  # raises
        for _, pattern in self.payload:
            bytes.fromhex(pattern)  # raises
        if self.burst_over is not None and self.burst_seconds <= 0:
            raise ValueError("a burst takes time")

    @property
    def reads_stream(self) -> bool:
        """Does it look into TCP connections?"""
        if self.quic:
            return False
        told = self.sni or self.host or self.dns or self.hello
        hello = self.fingerprint or self.extension is not None
        return bool(told or (hello and not self.dtls))

    @property
    def counts(self) -> bool:
        """Does it need to remember every packet of a flow?"""
        limits = (self.packets_over, self.bytes_over, self.segments_over, self.age_over)
        return any(limit is not None for limit in (*limits, self.voice_over, self.burst_over))


def match(**fields: Any) -> Match:
    """A Match whose lists may be given as one value: ``match(sni="*.whatsapp.net", ports=443)``."""
    kinds = {f.name: str(f.type) for f in dataclasses.fields(Match)}
    for key, value in fields.items():
        if kinds.get(key, "").endswith(", ...]"):
            fields[key] = (value,) if isinstance(value, str | int) else tuple(value)
    return Match(**fields)


@dataclass(frozen=True, slots=True)
class Censor:
    """One rule of one filter, behind the router number ``hop`` (the client's gateway is 1).

    ``seconds`` is how long a mark lasts; with ``restart`` every further packet of it starts that
    time anew. ``acts`` names which packets of a marked scope are concerned: those of one direction,
    or those that are ``matching`` themselves, counts aside. ``probability`` is that a flow triggers
    at all, drawn once from seed and flow; ``per_packet`` that the action is done to a packet.

    Where the path branches (``topology.py``), ``branch`` is the one that the filter stands on, None
    all of them. ``early``: the filter sees a packet before its router lowers the hop count, so one
    that would expire there meets the filter first.
    """

    match: Match
    action: Action
    residual: str = ""
    seconds: float = FOREVER
    restart: bool = False
    acts: str = "both"
    probability: float = 1.0
    per_packet: float = 1.0
    hop: int = 2
    seed: int = 1
    name: str = ""
    branch: int | None = None
    early: bool = False

    def __post_init__(self) -> None:
        if self.residual not in RESIDUALS or self.acts not in ACTS:
            raise ValueError(f"unknown residual or acts in {self}")
        if not self.residual and (self.restart or self.seconds != FOREVER or self.acts != "both"):
            raise ValueError(f"nothing is marked without a residual: {self}")
        if self.action.needs_residual and not self.residual:
            raise ValueError(f"{self.action} needs a residual")
        if not (0 <= self.probability <= 1 and 0 <= self.per_packet <= 1 and self.seconds > 0):
            raise ValueError(f"probability or seconds out of range in {self}")
        if isinstance(self.action, Redirect) and (self.residual or self.match.reads_stream):
            raise ValueError("a connection is redirected from its first packet on, or not at all")


def plain(action: str, **fields: Any) -> Censor:
    """The rules that need one word: drop, reject (``code``), reset, loss (``loss``).

    Further fields are those of Match, and ``hop``, ``name``, ``branch`` and ``early``.
    """
    own = {key: fields.pop(key) for key in OWN if key in fields}
    done: Action
    if action == "reject":
        done = Reject(fields.pop("code", packets.ADMIN_PROHIBITED))
    elif action == "loss":
        done = Lose(fields.pop("loss", Loss()))
    elif action in ("drop", "reset"):
        done = Drop() if action == "drop" else Refuse()
    else:
        raise ValueError(f"unknown action {action!r}")
    return Censor(match(**fields), done, **own)


# Prefixes and names


class Network(NamedTuple):
    length: int  # of an address, in bytes
    shift: int
    prefix: int

    def holds(self, address: bytes) -> bool:
        if len(address) != self.length:
            return False
        return int.from_bytes(address, "big") >> self.shift == self.prefix


def networks(prefixes: Sequence[str]) -> tuple[Network, ...]:
    """Parsed once, since a filter compares every packet."""
    parsed = [ipaddress.ip_network(prefix) for prefix in prefixes]
    return tuple(
        Network(net.max_prefixlen // 8, shift, int(net.network_address) >> shift)
        for net in parsed
        for shift in [net.max_prefixlen - net.prefixlen]
    )


def holds_name(patterns: Sequence[str], name: str) -> bool:
    """No name at all is never held."""
    return bool(name) and any(
        p == "*" or p == name or (p.startswith("*.") and name.endswith(p[1:])) for p in patterns
    )
