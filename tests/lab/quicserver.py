"""A QUIC server on aioquic: it shakes hands with whoever, whatever the name, and says no more.

``Server`` has no socket and no clock. A program of its own: arguments are certificate chain and
key, and "address port" lines come on standard input.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from probes.wire import quic
from tests.lab.catalogue import Target
from tests.lab.web import Place, slug

MOST = 64
"""Connections that are remembered; a client of ours is done within a second."""
Source = tuple[bytes | str, int]
Sent = tuple[bytes, Source]
logging.getLogger("quic").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose servers speak QUIC, for which names, and where."""

    slug: str
    names: tuple[str, ...]
    places: tuple[Place, ...]


def owners(targets: Iterable[Target], *, ipv6: bool) -> list[Owner]:
    names: dict[str, set[str]] = {}
    places: dict[str, set[Place]] = {}
    for target in targets:
        if target.probe == "quic":
            names.setdefault(target.owner, set()).add(
                target.fields.get("server_name") or target.host
            )
            here = {(a, target.port) for a in target.addresses if ipv6 or ":" not in a}
            places.setdefault(target.owner, set()).update(here)
    return [
        Owner(slug(f"quic {owner}"), tuple(sorted(names[owner])), tuple(sorted(places[owner])))
        for owner in sorted(names)
        if places[owner]
    ]


@dataclass
class Server:
    """Connections are told apart by whence they come: each of a probe's has a port of its own."""

    chain: Path
    key: Path
    versions: Sequence[int] = (quic.V1, quic.V2)
    alpn: Sequence[str] = ("h3",)
    connections: dict[Source, QuicConnection] = field(default_factory=dict)
    _configuration: QuicConfiguration = field(init=False)

    def __post_init__(self) -> None:
        self._configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=list(self.alpn),
            supported_versions=list(self.versions),
            idle_timeout=5.0,
        )
        self._configuration.load_cert_chain(self.chain, self.key)

    def datagram(self, data: bytes, source: Source, now: float) -> list[Sent]:
        """What is sent in answer; ``now`` in seconds of whatever clock."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=8)
        except ValueError:
            return []
        connection = self.connections.get(source)
        if header.version is not None and header.version not in self.versions:
            if len(data) < quic.SMALLEST or not header.version:
                return []
            versions = list(self.versions)
            ids = (header.destination_cid, header.source_cid)
            return [(encode_quic_version_negotiation(*ids, versions), source)]
        if connection is None:
            if header.packet_type is not QuicPacketType.INITIAL:
                return []
            while len(self.connections) >= MOST:
                self.connections.pop(next(iter(self.connections)))
            connection = self.connections[source] = QuicConnection(
                configuration=self._configuration,
                original_destination_connection_id=header.destination_cid,
            )
        connection.receive_datagram(data, source, now)
        return self._sent(connection, source, now)

    def timer(self) -> float | None:
        times = [t for c in self.connections.values() if (t := c.get_timer()) is not None]
        return min(times, default=None)

    def expire(self, now: float) -> list[Sent]:
        """What is sent because it is time."""
        sent: list[Sent] = []
        for source, connection in list(self.connections.items()):
            timer = connection.get_timer()
            if timer is None:
                del self.connections[source]  # its end
            elif timer <= now:
                connection.handle_timer(now)
                sent += self._sent(connection, source, now)
        return sent

    def _sent(self, connection: QuicConnection, source: Source, now: float) -> list[Sent]:
        return [(data, source) for data, _ in connection.datagrams_to_send(now)]


@dataclass(slots=True)
class Serving:
    """A server on a socket of the running loop."""

    server: Server
    sock: socket.socket
    change: Callable[[bytes], bytes] = bytes
    _timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self.sock, self._readable)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        if self._timer is not None:
            self._timer.cancel()

    def _readable(self) -> None:
        data, source = self.sock.recvfrom(65535)
        self._send(self.server.datagram(data, source[:2], self._now()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _send(self, sent: list[Sent]) -> None:
        for data, source in sent:
            self.sock.sendto(self.change(data), source)
        if self._timer is not None:
            self._timer.cancel()
        timer = self.server.timer()
        if timer is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(timer, lambda: self._send(self.server.expire(self._now())))


async def main(chain: Path, key: Path, places: list[tuple[str, int]]) -> None:
    for address, port in places:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((address, port))
        Serving(Server(chain, key), sock).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    lines = [line.split() for line in sys.stdin if line.strip()]
    given = [(address, int(port)) for address, port in lines]
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), given))
