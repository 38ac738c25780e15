"""What a run needs from its surroundings, made once per agent."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from probes.model import Target
from probes.net.address import OwnAddresses, Source
from probes.net.streams import Streams
from probes.wire.quality import Quality

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class TrustedResolver:
    """One operator's resolver over several transports; the address is literal."""

    name: str
    address: str
    tls_name: str
    doh_path: str
    transports: tuple[str, ...]
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Beside:
    """What a paced stream is held against: ``kind`` is ``twin``, the operator's own server, with
    its ``key`` and where it is asked over TLS, or ``stun``, a stranger's."""

    kind: str
    address: str
    port: int
    key: bytes = field(default=b"", repr=False)
    tls_port: int = 0
    tls_sha256: str = ""


class Courtesy(Protocol):
    """Decides whether a packet may leave now. Raises NotMeasured when it may not."""

    async def check(self, target: Target, address: str, port: int, kind: str, packets: int) -> None:
        """Before a check sends up to ``packets`` datagrams or connection attempts to ``address``:
        at most one check per address, port and kind in the interval. ``kind`` has the name that is
        asked for in it, where there is one."""

    async def handshake(self, address: str, name: str) -> None:
        """Before a TLS handshake: at most two a minute per destination and name, 500 ms apart.
        ``name`` has the port in it, since another port is another service."""

    async def stream(
        self, target: Target, address: str, port: int, packets: int, rate: float, allowed: bool
    ) -> None:
        """Before a paced stream of so many packets, ``rate`` of them a second. ``allowed``: is its
        target said to bear a voice's rate?"""


class NoCourtesy:
    """For a single probe asked for by hand: nothing to space out."""

    async def check(self, target: Target, address: str, port: int, kind: str, packets: int) -> None:
        return None

    async def handshake(self, address: str, name: str) -> None:
        return None

    async def stream(
        self, target: Target, address: str, port: int, packets: int, rate: float, allowed: bool
    ) -> None:
        return None


@dataclass(slots=True)
class Traffic:
    """Bytes on the wire, IP headers included, both directions."""

    sent: int = 0
    received: int = 0

    def add(self, sent: int, received: int) -> None:
        self.sent += sent
        self.received += received


@dataclass(slots=True)
class Environment:
    """``system`` is "" for the host's own resolver, else "ip" or "ip:port"; ``patience`` bounds
    the probes' default time limits (seconds), so that a check ends in its round; ``streams`` plays
    what is paced, None where nothing is."""

    system: str = ""
    trusted: tuple[TrustedResolver, ...] = ()
    tls_ca_file: str = ""
    patience: float = math.inf
    source: Source = field(default_factory=Source)
    courtesy: Courtesy = field(default_factory=NoCourtesy)
    traffic: Traffic = field(default_factory=Traffic)
    own: OwnAddresses = field(default_factory=OwnAddresses)
    streams: Streams | None = None
    beside: tuple[Beside, ...] = ()
    """What streams are held against now, the best first."""
    private: tuple[Prefix, ...] = ()
    """Private ranges that a name may lead to all the same."""
    watch: Callable[[Mapping[str, Quality]], None] | None = None
    """Shown what a stream came to so far, by the stream's name, some times a second."""
