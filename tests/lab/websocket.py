"""A server's side of a WebSocket (RFC 6455) around another conversation; bytes in, bytes out."""

from __future__ import annotations

import base64
import hashlib
from typing import Protocol


class Talk(Protocol):
    """One connection's server: what it answers to what was said."""

    def said(self, data: bytes) -> bytes: ...


class Upgraded:
    """Takes the handshake for ``path``, then gives ``inner`` what comes in binary messages and puts
    its answers into such; ``protocol``: the subprotocol that it insists on."""

    def __init__(self, inner: Talk, path: str, protocol: str = "") -> None:
        self.inner, self.path, self.protocol = inner, path, protocol
        self.data = b""
        self.upgraded = self.hangs_up = False
        self.fields: dict[str, str] = {}

    def said(self, data: bytes) -> bytes:
        self.data += data
        answers = b""
        if not self.upgraded:
            head, complete, self.data = self.data.partition(b"\r\n\r\n")
            if not complete:
                self.data = head
                return b""
            answers = self._upgrade(head.decode("latin-1"))
        while self.upgraded and (message := self._message()) is not None:
            answer = self.inner.said(message)
            answers += framed(answer) if answer else b""
        return answers

    def _upgrade(self, head: str) -> bytes:
        first, *lines = head.split("\r\n")
        self.fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        wanted = self.fields.get("sec-websocket-protocol", "") == self.protocol
        if first != f"GET {self.path} HTTP/1.1" or not wanted:
            self.hangs_up = True
            return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
        key = self.fields["sec-websocket-key"].encode()
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        ]
        if self.protocol:
            answer.append(f"Sec-WebSocket-Protocol: {self.protocol}")
        self.upgraded = True
        return "\r\n".join((*answer, "", "")).encode()

    def _message(self) -> bytes | None:
        """The next binary message, unmasked; other kinds are skipped."""
        while len(self.data) >= 6:
            size, at = self.data[1] & 0x7F, 2
            if size == 126:
                size, at = int.from_bytes(self.data[2:4], "big"), 4
            end = at + 4 + size
            if len(self.data) < end:
                return None
            kind, mask = self.data[0] & 15, self.data[at : at + 4]
            body = bytes(b ^ mask[i % 4] for i, b in enumerate(self.data[at + 4 : end]))
            self.data = self.data[end:]
            if kind == 2:
                return body
        return None


def framed(payload: bytes, first: int = 0x82) -> bytes:
    """A server's frame; ``first``: its first byte."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes([first]) + length + payload
