"""What else may stand at a port: the first bytes of protocols that were not asked for."""

from __future__ import annotations

from typing import Literal

Spoken = Literal["", "echo", "http", "tls"]

_LEAST = 4
"""Bytes from which on a returned beginning is no accident."""
_TLS_TYPES = range(20, 24)  # RFC 8446 section 5.1
_TLS_MINORS = range(5)


def spoken(heard: bytes, said: bytes) -> Spoken:
    """What ``heard`` begins like, when ``said`` went before it; "" for what is none of these."""
    if len(heard) >= _LEAST and (said.startswith(heard) or heard.startswith(said)):
        return "echo"
    if heard[:5] == b"HTTP/" or heard[:1] == b"<":
        return "http"
    tls = len(heard) >= 3 and heard[0] in _TLS_TYPES and heard[1] == 3 and heard[2] in _TLS_MINORS
    return "tls" if tls else ""
