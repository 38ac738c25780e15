"""Signing with X25519 keys as libsignal does: the lab's own authority for Noise certificates.

Plain arithmetic on the curve (RFC 8032 section 5.1), slow and not constant in time: its keys are
made for a test and forgotten. Apart from the agent's verifier, so that each is the other's oracle.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int, int]  # extended coordinates
NOTHING: Point = (0, 1, 1, 0)


@cache
def base() -> Point:
    y = 4 * pow(5, -1, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    x = x if x % 2 == 0 else P - x
    return x, y, 1, x * y % P


def add(a: Point, b: Point) -> Point:
    one, two = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    three, four = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = two - one, four - three, four + three, two + one
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(scalar: int, point: Point) -> Point:
    result = NOTHING
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def encode(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def clamped(secret: bytes) -> int:
    """RFC 7748 section 5."""
    number = int.from_bytes(secret, "little")
    return (number & ~7 & ((1 << 255) - 1)) | 1 << 254


def sign(secret: bytes, message: bytes) -> bytes:
    """``secret``: an X25519 private key of 32 bytes."""
    scalar = clamped(secret)
    public = encode(times(scalar, base()))
    noise = secrets.token_bytes(64)
    r = _hash(b"\xfe" + b"\xff" * 31 + secret + message + noise)
    point = encode(times(r, base()))
    s = (r + _hash(point + public + message) * scalar) % L
    signature = bytearray(point + s.to_bytes(32, "little"))
    signature[63] |= public[31] & 0x80
    return bytes(signature)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little") % L
