"""Does a TLS handshake for a name succeed at this address, and with whose certificate?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probes.net import stream, tls
from probes.trail import Peer, Trail


@dataclass(frozen=True, slots=True)
class TlsProbe:
    """``server_name``: the name to ask for and to verify, the target's host when empty.

    ``authority``: certificates in PEM that alone are trusted, for a service that has an authority
    of its own; empty, the usual ones.
    """

    kind: ClassVar[str] = "tls"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = True
    bytes_per_run: ClassVar[int] = 6500

    server_name: str = ""
    alpn: tuple[str, ...] = ()
    authority: str = ""

    def subject(self, host: str) -> str:
        return (self.server_name or host).lower()

    async def run(self, trail: Trail, peer: Peer) -> None:
        async with stream.connect(trail, peer) as tcp:
            if not trail.partial:
                name = self.server_name or peer.host or peer.address
                await tls.secure(
                    trail, tcp, peer.address, name, self.alpn, authority=self.authority
                )


PROBE = TlsProbe
