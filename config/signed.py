"""A signed file: one line that says whose signature follows, and of how many bytes.

``callpath-catalogue 1 KEY SIGNATURE LENGTH``, a line feed, and LENGTH bytes. KEY is an Ed25519
public key and SIGNATURE a signature by it (RFC 8032 section 5.1) over a fixed purpose and the
bytes, both in lower-case hexadecimal. Nothing of the bytes is looked at before the signature holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_CONTENT = 8 * 2**20
MAX_BYTES = MAX_CONTENT + 256
"""Of the whole file: the line has less than 256."""
KEY_SIZE = 32
_MARK = b"callpath-catalogue 1 "
_LINE = re.compile(_MARK + rb"([0-9a-f]{64}) ([0-9a-f]{128}) ([1-9][0-9]{0,7})\n")
# A key that also signs something else gives no signature that could stand here.
_PURPOSE = b"callpath signed catalogue, form 1\n"


class Refused(Exception):
    """A file that is not taken; the text says why, and quotes nothing of it that was not signed."""


def public_key(private: bytes) -> str:
    """The public key of a private one of 32 bytes, in hexadecimal."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex()


def new_key() -> bytes:
    """A private key of 32 bytes."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def sealed(content: bytes, private: bytes) -> bytes:
    """``content`` as a signed file; the same for the same key. Raises Refused when it is too
    much."""
    if not 0 < len(content) <= MAX_CONTENT:
        raise Refused(f"would hold {len(content)} bytes; at most {MAX_CONTENT} are taken")
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(_PURPOSE + content)
    key, length = public_key(private).encode(), str(len(content)).encode()
    return _MARK + key + b" " + signature.hex().encode() + b" " + length + b"\n" + content


def opened(data: bytes, keys: Collection[str]) -> tuple[bytes, str]:
    """The content of a signed file and the one of ``keys`` that signed it. Raises Refused."""
    if len(data) > MAX_BYTES:
        raise Refused(f"is larger than {MAX_BYTES} bytes")
    line = _LINE.match(data)
    if line is None:
        raise Refused("does not begin as a signed catalogue does")
    key, length = line[1].decode(), int(line[3])
    if key not in keys:
        raise Refused(f"is signed by {key}, which is none of the keys that may")
    content = data[line.end() :]
    if len(content) < length:
        raise Refused(f"is cut off: {len(content)} of {length} bytes are there")
    if len(content) > length:
        raise Refused(f"goes on after its {length} bytes")
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(line[2].decode()), _PURPOSE + content)
    except (InvalidSignature, ValueError) as error:
        raise Refused(f"has a signature that is not of {key} over these bytes") from error
    return content, key
