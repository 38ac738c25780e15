"""Noise XX (X25519, AES-256-GCM, SHA-256) as far as the server's hello, and the chain in it.

The Noise protocol framework, revision 34, section 7; framing, protobuf and certificates are those
of the project's notes on messengers' infrastructure, 1.3. The client's second message would carry
the login: there is no code for it here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from probes.model import Failure
from probes.wire import protobuf
from probes.wire.error import WireError

KEY_SIZE = 32
SIGNATURE_SIZE = 64
MAX_FRAME = 16384
"""Bytes of a server's hello: it has about 350, a few kilobytes with post-quantum keys."""

_PATTERN = b"Noise_XX_25519_AESGCM_SHA256".ljust(32, b"\0")  # 32 bytes: used unhashed
_TAG = 16
_P = 2**255 - 19
_CLIENT_HELLO, _SERVER_HELLO = 2, 3
_EPHEMERAL, _STATIC, _PAYLOAD = 1, 2, 3
_LEAF, _INTERMEDIATE = 1, 2
_DETAILS, _SIGNATURE = 1, 2
_SERIAL, _ISSUER_SERIAL, _KEY, _NOT_BEFORE, _NOT_AFTER = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class ServerHello:
    """``static``: the server's long-lived key; ``chain``: what is to vouch for it, decrypted."""

    static: bytes
    chain: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """``details`` are signed as they are. Dates are Unix seconds, 0 for none."""

    details: bytes
    signature: bytes
    serial: int
    issuer_serial: int
    key: bytes
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class Chain:
    leaf: Certificate
    intermediate: Certificate

    @property
    def not_before(self) -> int:
        return max(self.leaf.not_before, self.intermediate.not_before)

    @property
    def not_after(self) -> int:
        """The sooner end; 0 where neither has one."""
        ends = [c.not_after for c in (self.leaf, self.intermediate) if c.not_after]
        return min(ends, default=0)


# --- framing -----------------------------------------------------------------------------------


def frame(message: bytes) -> bytes:
    """``message`` behind its length, three bytes, big-endian."""
    return len(message).to_bytes(3, "big") + message


@dataclass(slots=True)
class Reader:
    """Collects the first frame, however it is cut into pieces. Holds ``MAX_FRAME`` bytes and the
    last piece at the most: a longer one is refused by its length."""

    _data: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> bytes | None:
        """The frame's message once it is complete. Raises WireError."""
        self._data += data
        if len(self._data) < 3:
            return None
        size = int.from_bytes(self._data[:3], "big")
        if size > MAX_FRAME:
            raise WireError(Failure.OVERSIZED, f"a frame of {size} bytes")
        if len(self._data) < 3 + size:
            return None
        return bytes(self._data[3 : 3 + size])


# --- the handshake -----------------------------------------------------------------------------


class Handshake:
    """The client's side. ``header``: what it sends before its first frame, which is the prologue;
    ``secret``: 32 random bytes, its ephemeral key."""

    def __init__(self, header: bytes, secret: bytes) -> None:
        self._header = header
        self._ephemeral = X25519PrivateKey.from_private_bytes(secret)
        self._public = self._ephemeral.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._chaining = self._key = _PATTERN
        self._hash = _hash(_PATTERN, header)
        self._mix_hash(self._public)

    @property
    def transcript(self) -> bytes:
        """The hash of all that both sides have said so far."""
        return self._hash

    def hello(self) -> bytes:
        """All that the client says first: the header, and the client hello in a frame."""
        ephemeral = protobuf.field(_EPHEMERAL, self._public)
        return self._header + frame(protobuf.field(_CLIENT_HELLO, ephemeral))

    def read(self, message: bytes) -> ServerHello:
        """The server hello in a frame's message. Raises WireError: what does not decrypt was not
        said by whoever holds the keys in it, to us."""
        fields = protobuf.message(protobuf.blob(protobuf.message(message), _SERVER_HELLO))
        ephemeral = protobuf.blob(fields, _EPHEMERAL, KEY_SIZE)
        sealed = protobuf.blob(fields, _STATIC, KEY_SIZE + _TAG)
        payload = protobuf.blob(fields, _PAYLOAD)
        self._mix_hash(ephemeral)
        self._mix_key(ephemeral)
        static = self._decrypt(sealed)
        self._mix_key(static)
        return ServerHello(static, self._decrypt(payload))

    def _mix_hash(self, data: bytes) -> None:
        self._hash = _hash(self._hash, data)

    def _mix_key(self, public: bytes) -> None:
        try:
            shared = self._ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:  # a point of low order: the secret would be zero
            raise WireError(Failure.BAD_REPLY, "the server's key is no key") from error
        made = HKDF(hashes.SHA256(), 64, salt=self._chaining, info=b"").derive(shared)
        self._chaining, self._key = made[:32], made[32:]

    def _decrypt(self, sealed: bytes) -> bytes:
        """With the first counter of a key: each key here opens one thing."""
        try:
            opened = AESGCM(self._key).decrypt(bytes(12), sealed, self._hash)
        except (InvalidTag, ValueError) as error:
            raise WireError(Failure.BAD_REPLY, "the server hello does not decrypt") from error
        self._mix_hash(sealed)
        return opened


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# --- the chain ---------------------------------------------------------------------------------


def read_chain(data: bytes) -> Chain:
    """Nothing is verified yet. Raises WireError."""
    fields = protobuf.message(data)
    leaf, intermediate = (protobuf.blob(fields, which) for which in (_LEAF, _INTERMEDIATE))
    return Chain(_certificate(leaf), _certificate(intermediate))


def _certificate(data: bytes) -> Certificate:
    fields = protobuf.message(data)
    details = protobuf.blob(fields, _DETAILS)
    known = protobuf.message(details)
    return Certificate(
        details,
        protobuf.blob(fields, _SIGNATURE, SIGNATURE_SIZE),
        protobuf.integer(known, _SERIAL),
        protobuf.integer(known, _ISSUER_SERIAL),
        protobuf.blob(known, _KEY, KEY_SIZE),
        protobuf.integer(known, _NOT_BEFORE),
        protobuf.integer(known, _NOT_AFTER),
    )


def verify(chain: Chain, static: bytes, root: bytes, now: float) -> None:
    """Is ``static`` the key of a server for which the holder of ``root`` vouches, at Unix time
    ``now``? Raises WireError: UNKNOWN_ISSUER for another root, BAD_CERTIFICATE for what does not
    fit together below it, EXPIRED."""
    leaf, intermediate = chain.leaf, chain.intermediate
    if intermediate.issuer_serial != 0 or not _signed(intermediate, root):
        raise WireError(Failure.UNKNOWN_ISSUER, "not signed by the pinned root")
    if leaf.issuer_serial != intermediate.serial or not _signed(leaf, intermediate.key):
        raise WireError(Failure.BAD_CERTIFICATE, "the leaf is not signed by its intermediate")
    if leaf.key != static:
        raise WireError(Failure.BAD_CERTIFICATE, "the leaf is another server's")
    for certificate in (leaf, intermediate):
        begun = certificate.not_before <= now
        if not begun or (certificate.not_after and now > certificate.not_after):
            raise WireError(Failure.EXPIRED, "the certificate is not of this time")


def _signed(certificate: Certificate, key: bytes) -> bool:
    return xeddsa_verifies(key, certificate.signature, certificate.details)


def xeddsa_verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    """XEdDSA (signal.org/docs/specifications/xeddsa, 2016): an Ed25519 signature by a key that is
    given as X25519's. The key's sign travels in the signature's last bit."""
    sign = signature[63] & 0x80
    plain = signature[:63] + bytes([signature[63] & 0x7F])
    try:
        edwards = bytearray(edwards_key(key))
        edwards[31] |= sign
        Ed25519PublicKey.from_public_bytes(bytes(edwards)).verify(plain, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=64)  # roots and intermediates stay for months
def edwards_key(key: bytes) -> bytes:
    """The Edwards y of a Montgomery u, (u - 1) / (u + 1), with sign 0; both little-endian, 32
    bytes. Raises ValueError for the one u that has none."""
    u = int.from_bytes(key, "little") % (1 << 255)
    return ((u - 1) * pow(u + 1, -1, _P) % _P).to_bytes(32, "little")
