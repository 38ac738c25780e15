"""Does a chat host answer a stranger's first message in Noise, and is it the operator's own?"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import ClassVar, Literal

from probes.greeting import Door, greet, way
from probes.trail import Peer, Trail
from probes.wire import noise

ROOT = "142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b"
"""WhatsApp's root, X25519: the same constant in tulir/whatsmeow, WhiskeySockets/Baileys and
oxidezap/whatsapp-rust, read 2026-11-20 (messenger-infrastructure 1.3 in the project's notes)."""
HEADER = "57410603"
""" "WA", protocol 6, dictionary 3: what WhatsApp's web clients begin with."""


@dataclass(frozen=True, slots=True)
class NoiseProbe:
    """A client hello in Noise XX, and the server's, decrypted, with a chain to ``root`` in it. It
    stops there: the next message would carry a login.

    ``header``: what a client sends before its first frame, hexadecimal; ``root``: the pinned key
    (X25519, 64 hexadecimal digits) from which the chain must come, another is ``unknown_issuer``;
    ``path`` and ``origin``: of the WebSocket. Facts: transport, hello_bytes, hello_acked,
    server_spoke, spoke_instead, chain_not_before, chain_not_after (Unix seconds).
    """

    kind: ClassVar[str] = "noise"
    takes: ClassVar[str] = "host"
    packets_per_run: ClassVar[int] = 1
    handshake: ClassVar[bool] = True

    transport: Literal["tcp", "websocket"] = "tcp"
    path: str = "/ws/chat"
    origin: str = ""
    header: str = HEADER
    root: str = ROOT

    def __post_init__(self) -> None:
        if len(bytes.fromhex(self.root)) != noise.KEY_SIZE:
            raise ValueError("root: must be a key of 64 hexadecimal digits")
        bytes.fromhex(self.header)

    @property
    def bytes_per_run(self) -> int:
        return 7900 if self.transport == "websocket" else 900

    def subject(self, host: str) -> str:
        return host.lower() if self.transport == "websocket" else ""

    async def run(self, trail: Trail, peer: Peer) -> None:
        socket = self.transport == "websocket"
        trail.facts["transport"] = self.transport
        async with way(trail, peer, Door(self.path, self.origin) if socket else None) as over:
            if over is None:
                return
            shake = noise.Handshake(bytes.fromhex(self.header), os.urandom(noise.KEY_SIZE))
            message = await greet(trail, over, shake.hello(), noise.Reader().feed)
            server = shake.read(message)
            chain = noise.read_chain(server.chain)
            trail.facts["chain_not_before"] = chain.not_before
            trail.facts["chain_not_after"] = chain.not_after
            noise.verify(chain, server.static, bytes.fromhex(self.root), time.time())


PROBE = NoiseProbe
