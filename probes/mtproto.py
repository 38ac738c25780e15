"""Does a Telegram data centre answer a stranger's first question in MTProto?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from probes.greeting import Door, greet, way
from probes.trail import Peer, Trail
from probes.wire import mtproto
from probes.wire.mtproto import Answer, Transport

Feed = Callable[[bytes], Answer | None]
PROTOCOL = "binary"
"""The subprotocol that a WebSocket of MTProto must ask for (mtproto-transports, WebSocket)."""
FINGERPRINTS = (
    # Production, then the test data centres, older keys, and those of the CDN era: computed from
    # the public keys in tdlib/td, telegramdesktop/tdesktop and LonamiWebs/Telethon, read 2026-11-20
    # (messenger-infrastructure 2.3 in the project's notes).
    "d09d1d85de64fd85",
    "b25898df208d2603",
    "0bc35f3509f7b7a5",
    "c3b42b026ce86b21",
    "9a996a1db11c729b",
    "b05b2a6f70cdea78",
    "71e025b6c76033e3",
    "15ae5fa8b5529542",
    "aeae98e13cd7f94f",
    "5a181b2235057d98",
)


@dataclass(frozen=True, slots=True)
class MtprotoProbe:
    """``req_pq_multi``, and ``resPQ`` with our nonce and a known key in it; it stops there.

    A transport error is an answer of an MTProto server as well. ``dc``: the data centre's number
    in the header of obfuscated transports; ``path``: of the WebSocket; ``fingerprints``: the RSA
    keys of which the server must name one, another is ``unknown_issuer``; another nonce is
    ``wrong_id``. Facts: transport, hello_bytes, hello_acked, server_spoke, spoke_instead, keys,
    clock_offset_seconds (the server's minus ours), transport_error, rate_limited.
    """

    kind: ClassVar[str] = "mtproto"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = True  # the server has to keep the nonces for a while

    transport: Transport = Transport.ABRIDGED
    path: str = "/apiws"
    dc: int = 0
    fingerprints: tuple[str, ...] = FINGERPRINTS

    @property
    def research(self) -> bool:
        """Obfuscation in clear TCP is what proxies do (probes.registry.needs_research)."""
        return self.transport is Transport.OBFUSCATED

    @property
    def bytes_per_run(self) -> int:
        return 7600 if self.transport is Transport.WEBSOCKET else 600

    def subject(self, host: str) -> str:
        return host.lower() if self.transport is Transport.WEBSOCKET else ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        socket = self.transport is Transport.WEBSOCKET
        trail.facts["transport"] = str(self.transport)
        async with way(trail, peer, Door(self.path, protocol=PROTOCOL) if socket else None) as over:
            if over is None:
                return
            nonce = os.urandom(mtproto.NONCE_SIZE)
            payload = mtproto.request(mtproto.message_id(time.time_ns()), nonce)
            framed = mtproto.frame(self.transport, payload, os.urandom(os.urandom(1)[0] % 16))
            reader = mtproto.Reader(self.transport, nonce)
            feed: Feed = reader.feed
            if self.transport.hides:
                hidden = mtproto.Obfuscation(_header(), self.dc)
                hello = hidden.start + hidden.seal(framed)
                feed = lambda data: reader.feed(hidden.open(data))  # noqa: E731
            else:
                hello = mtproto.start(self.transport) + framed
            self._judge(trail, await greet(trail, over, hello, feed))

    def _judge(self, trail: Trail, answer: Answer) -> None:
        if isinstance(answer, mtproto.TransportError):
            trail.facts["transport_error"] = answer.code
            trail.facts["rate_limited"] = answer.code == mtproto.RATE_LIMITED
            return
        trail.facts["keys"] = len(answer.fingerprints)
        trail.facts["clock_offset_seconds"] = round(answer.server_time - time.time(), 3)
        mtproto.check_keys(answer, self.fingerprints)


def _header() -> bytes:
    """Random bytes that look like no other protocol."""
    while not mtproto.is_header(header := os.urandom(mtproto.HEADER_SIZE)):
        pass
    return header


PROBE = MtprotoProbe
