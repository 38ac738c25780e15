"""A chat host's side of Noise XX, as far as its hello; bytes in, bytes out.

Written apart from the agent's codec, so that a misreading in one shows against the other: the key
schedule is by HMAC, the protobuf by hand, the chain signed by an authority of the lab's own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab import xeddsa

DAY = 86400
HEADER = bytes.fromhex("57410603")
NAME = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"


def public_of(secret: bytes) -> bytes:
    made = X25519PrivateKey.from_private_bytes(secret).public_key()
    return made.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _key() -> bytes:
    return secrets.token_bytes(32)


@dataclass(frozen=True)
class Vault:
    """Keys of a root, an intermediate and a host, and what stands in its certificates. Each part
    may be replaced by a wrong one. Dates in days from now."""

    root: bytes = field(default_factory=_key)
    intermediate: bytes = field(default_factory=_key)
    static: bytes = field(default_factory=_key)
    signs_intermediate: bytes = b""  # other keys than they should be, where not empty
    signs_leaf: bytes = b""
    leaf_key: bytes = b""
    serials: tuple[int, int] = (7, 9)  # of the intermediate and the leaf
    issuers: tuple[int, int] = (0, 7)
    leaf_days: tuple[int, int] = (-1, 29)
    intermediate_days: tuple[int, int] = (-1, 29)

    @property
    def root_hex(self) -> str:
        return public_of(self.root).hex()

    def chain(self) -> bytes:
        public = public_of(self.intermediate)
        inner = details(self.serials[0], self.issuers[0], public, self.intermediate_days)
        leaf_key = self.leaf_key or public_of(self.static)
        leaf = details(self.serials[1], self.issuers[1], leaf_key, self.leaf_days)
        return _bytes(1, _signed(leaf, self.signs_leaf or self.intermediate)) + _bytes(
            2, _signed(inner, self.signs_intermediate or self.root)
        )

    def but(self, **changes: object) -> Vault:
        return replace(self, **changes)  # type: ignore[arg-type] # names and types are its fields'


def details(serial: int, issuer: int, key: bytes, days: tuple[int, int]) -> bytes:
    begins, ends = (int(time.time()) + DAY * day for day in days)
    return (
        _number(1, serial)
        + _number(2, issuer)
        + _bytes(3, key)
        + _number(4, begins)
        + _number(5, ends)
    )


def _signed(text: bytes, secret: bytes) -> bytes:
    return _bytes(1, text) + _bytes(2, xeddsa.sign(secret, text))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    return bytes([value % 0x80 + 0x80]) + _varint(value // 0x80)


def _bytes(number: int, value: bytes) -> bytes:
    return bytes([number * 8 + 2]) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return bytes([number * 8]) + _varint(value)


class ChatHost:
    """One connection. Whatever does not begin as a client does is read in silence. ``chain``: what
    vouches for ``static``; ``change``: a last hand on the message before it is framed; ``more``:
    what the client said after its hello."""

    def __init__(
        self,
        static: bytes,
        chain: bytes,
        header: bytes = HEADER,
        change: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self.static, self.chain, self.header, self.change = static, chain, header, change
        self.data = b""
        self.more = b""
        self.greeted = False

    def said(self, data: bytes) -> bytes:
        if self.greeted:
            self.more += data
            return b""
        self.data += data
        begins = len(self.header)
        if self.data[:begins] != self.header or len(self.data) < begins + 3:
            return b""
        size = int.from_bytes(self.data[begins : begins + 3], "big")
        message = self.data[begins + 3 : begins + 3 + size]
        if len(message) < size:
            return b""
        self.greeted, self.more = True, self.data[begins + 3 + size :]
        if message[:4] != bytes.fromhex("12220a20") or size != 36:
            return b""
        answer = self.change(_bytes(3, self._hello(message[4:])))
        return len(answer).to_bytes(3, "big") + answer

    def _hello(self, theirs: bytes) -> bytes:
        ours = _key()
        h = _sha(_sha(NAME, self.header), theirs)
        h = _sha(h, public_of(ours))
        chaining, key = _keys(NAME, _shared(ours, theirs))
        static = AESGCM(key).encrypt(bytes(12), public_of(self.static), h)
        h = _sha(h, static)
        _, key = _keys(chaining, _shared(self.static, theirs))
        payload = AESGCM(key).encrypt(bytes(12), self.chain, h)
        return _bytes(1, public_of(ours)) + _bytes(2, static) + _bytes(3, payload)


def _shared(secret: bytes, public: bytes) -> bytes:
    ours = X25519PrivateKey.from_private_bytes(secret)
    return ours.exchange(X25519PublicKey.from_public_bytes(public))


def _sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _keys(chaining: bytes, shared: bytes) -> tuple[bytes, bytes]:
    """The Noise framework's HKDF of two outputs (section 4.3)."""
    made = hmac.digest(chaining, shared, "sha256")
    first = hmac.digest(made, b"\1", "sha256")
    return first, hmac.digest(made, first + b"\2", "sha256")
