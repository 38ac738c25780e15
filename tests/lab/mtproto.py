"""A data centre's side of MTProto, as far as ``resPQ``; bytes in, bytes out.

It knows the transport by the first bytes, as the real ones do, and answers bare HTTP with 501.
Written apart from the agent's codec, so that a misreading in one shows against the other.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable
from email.utils import formatdate

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PRODUCTION = "d09d1d85de64fd85"
PQ = 0x17ED48941A08F981  # 0x494c553b x 0x53911073: the sample on core.telegram.org
HTTP = (b"POST ", b"GET ", b"HEAD ")


def res_pq(
    nonce: bytes,
    fingerprints: tuple[str, ...] = (PRODUCTION,),
    *,
    now: float | None = None,
    pq: int = PQ,
) -> bytes:
    """The whole payload."""
    body = struct.pack("<I", 0x05162463) + nonce + secrets.token_bytes(16)
    body += b"\x08" + pq.to_bytes(8, "big") + bytes(3)
    body += struct.pack("<II", 0x1CB5C415, len(fingerprints))
    body += b"".join(int(one, 16).to_bytes(8, "little") for one in fingerprints)
    seconds = int(time.time() if now is None else now)
    return bytes(8) + struct.pack("<QI", seconds << 32 | 1, len(body)) + body


def not_implemented() -> bytes:
    lines = [
        "HTTP/1.1 501 Not Implemented",
        "Server: nginx/0.3.33",
        f"Date: {formatdate(time.time(), usegmt=True)}",
        "Content-Length: 0",
        "Connection: close",
    ]
    return "\r\n".join((*lines, "", "")).encode()


class DataCentre:
    """One connection. ``answer``: the payload for a nonce; ``hangs_up`` after bare HTTP."""

    def __init__(self, answer: Callable[[bytes], bytes] = res_pq) -> None:
        self.answer = answer
        self.data = b""
        self.framing = ""
        self.hangs_up = False
        self.number = 0  # of the data centre that an obfuscated client means
        self.opened: Callable[[bytes], bytes] = bytes
        self.sealed: Callable[[bytes], bytes] = bytes

    def said(self, data: bytes) -> bytes:
        self.data += self.opened(data)
        if not self.framing and not self._begin():
            return not_implemented() if self.hangs_up else b""
        payload = self._frame()
        if payload is None or payload[20:24] != bytes.fromhex("f18e7ebe"):
            return b""
        return self.sealed(self.framed(self.answer(payload[24:40])))

    def framed(self, payload: bytes) -> bytes:
        if self.framing == "abridged":
            words = len(payload) // 4
            return (bytes([words]) if words < 127 else b"\x7f" + struct.pack("<I", words)[:3]) + (
                payload
            )
        if self.framing == "padded":
            payload += secrets.token_bytes(secrets.randbelow(16))
        return struct.pack("<I", len(payload)) + payload

    def _begin(self) -> bool:
        """Is it known how the client frames?"""
        for start, framing in ((b"\xef", "abridged"), (b"\xee" * 4, ""), (b"\xdd" * 4, "padded")):
            if self.data.startswith(start):
                self.framing = framing or "intermediate"
                self.data = self.data[len(start) :]
                return True
        if self.data.startswith(HTTP):
            self.hangs_up = b"\r\n\r\n" in self.data
            return False
        if len(self.data) >= 64:
            return self._unveil()
        return False

    def _unveil(self) -> bool:
        """An obfuscated stream; what is none looks like one of an unknown kind."""
        header = self.data[:64]
        incoming = _stream(header[8:40], header[40:56])
        plain = incoming(header)
        if plain[56:60] not in (b"\xef" * 4, b"\xee" * 4, b"\xdd" * 4):
            return False
        back = header[8:56][::-1]
        self.opened, self.sealed = incoming, _stream(back[:32], back[32:])
        self.framing = {0xEF: "abridged", 0xEE: "intermediate", 0xDD: "padded"}[plain[56]]
        self.number = int.from_bytes(plain[60:62], "little", signed=True)
        self.data = self.opened(self.data[64:])
        return True

    def _frame(self) -> bytes | None:
        """The first frame, whole."""
        if self.framing == "abridged":
            at, size = 1, 4 * self.data[0] if self.data else 0
        else:
            at, size = 4, int.from_bytes(self.data[:4], "little")
        if size == 0 or len(self.data) < at + size:
            return None
        return self.data[at : at + size]


def _stream(key: bytes, counter: bytes) -> Callable[[bytes], bytes]:
    return Cipher(algorithms.AES256(key), modes.CTR(counter)).encryptor().update
