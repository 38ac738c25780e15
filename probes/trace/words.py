"""What a tracer says on the way: the words that are acted upon, and others that are not.

Everything is said to the messenger's own server or on the way to it, as the probe of the same name
says it; the control has the same size and nothing in it that a filter looks for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from probes.net import quic, tls
from probes.wire import dns, dtls, mtproto, noise, reflector, stun
from probes.wire import quic as quicwire

Make = Callable[[], bytes]
NEUTRAL = "www.wikipedia.org"
"""A name that no rule about messengers knows, where the configuration has no better one."""
QUIC_V1 = 1
_OPT = b"\x00\x00\x29"
_FRONT = 9
"""Bytes before a name in a hello: the extension's type and lengths."""


@dataclass(frozen=True, slots=True)
class Words:
    """``trigger`` and ``control`` over ``transport``, ``udp`` or ``tcp``; no trigger: the packet to
    that address is trigger enough. ``harmless``: datagrams that some server answers, and a filter
    on the trigger has no quarrel with; ``split``: bytes of the trigger that say nothing yet;
    ``forged``: is this no answer of who answered that? Only for what may be answered on the way."""

    transport: str
    trigger: Make | None = None
    control: Make | None = None
    harmless: tuple[Make, ...] = ()
    split: int = 0
    forged: Callable[[bytes, bytes], bool] | None = None


def kinds() -> tuple[str, ...]:
    return tuple(sorted(_MAKERS))


def words(kind: str, name: str = "", neutral: str = NEUTRAL, **more: str) -> Words:
    """``name`` is what the hello or the question is about. ``more``: ``header`` of noise,
    ``transport`` of mtproto, ``dress`` of stun and dtls. Raises ValueError."""
    if kind not in _MAKERS:
        raise ValueError(f"there are {', '.join(kinds())}")
    if kind in ("tls", "quic", "dns") and not name:
        raise ValueError(f"{kind} needs a name")
    return _MAKERS[kind](name, neutral, more)


def _like(made: Make) -> Make:
    """Random bytes, as many; the first is that of no protocol."""
    return lambda: b"\xff" + os.urandom(len(made()) - 1)


def stranger() -> bytes:
    """What any STUN server answers."""
    return stun.binding_request(stun.Dress.BARE, os.urandom(12), os.urandom(32))


def _legacy() -> bytes:
    return stun.binding_request(stun.Dress.RFC3489, os.urandom(12), os.urandom(32))


def _versions() -> bytes:
    return quicwire.ping(quicwire.Ids(os.urandom(8), os.urandom(8)), os.urandom(quicwire.SMALLEST))


def _tcp(name: str, neutral: str, more: dict[str, str]) -> Words:
    return Words("tcp")


def _udp(name: str, neutral: str, more: dict[str, str]) -> Words:
    return Words("udp", harmless=(stranger,))


def _stun(name: str, neutral: str, more: dict[str, str]) -> Words:
    dress = stun.Dress(more.get("dress", "bare"))
    ask: Make = lambda: stun.binding_request(dress, os.urandom(12), os.urandom(32))  # noqa: E731
    return Words("udp", ask, _legacy, (_legacy,))


def _turn(name: str, neutral: str, more: dict[str, str]) -> Words:
    return Words("udp", lambda: stun.allocate_request(os.urandom(12)), _legacy, (_legacy,))


def _dtls(name: str, neutral: str, more: dict[str, str]) -> Words:
    dress = dtls.Dress(more.get("dress", "openssl"))
    hello: Make = lambda: dtls.client_hello(dress, os.urandom(32))  # noqa: E731
    return Words("udp", hello, _like(hello), (stranger, _legacy))


def _quic(name: str, neutral: str, more: dict[str, str]) -> Words:
    def hello(name: str) -> Make:
        return lambda: quic.Handshake(name, QUIC_V1, ("h3",)).start(0.0)[0]

    return Words("udp", hello(name), hello(neutral), (_versions,))


def _reflector(name: str, neutral: str, more: dict[str, str]) -> Words:
    ask: Make = lambda: reflector.ping(os.urandom(16), os.urandom(8))  # noqa: E731
    return Words("udp", ask, _like(ask), (stranger, _legacy))


def _dns(name: str, neutral: str, more: dict[str, str]) -> Words:
    def ask(name: str) -> Make:
        return lambda: dns.encode_query(name, "A", int.from_bytes(os.urandom(2), "big"))

    return Words("udp", ask(name), ask(neutral), (ask(neutral),), forged=_forged)


def _forged(answer: bytes, other: bytes) -> bool:
    """A server that answers another question with EDNS does so always (RFC 6891 section 7); the
    last record of an answer, OPT, is the one whose name is the root."""
    return _OPT in other and _OPT not in answer


def _tls(name: str, neutral: str, more: dict[str, str]) -> Words:
    # Short: a hello in one segment is what every filter reads.
    by = tls.believing(short=True)
    hello = tls.first_bytes(name, by)
    split = max(hello.find(name.encode("idna")) - _FRONT, 1)
    return Words(
        "tcp",
        lambda: tls.first_bytes(name, by),
        lambda: tls.first_bytes(neutral, by),
        split=split,
    )


def _noise(name: str, neutral: str, more: dict[str, str]) -> Words:
    header = bytes.fromhex(more.get("header", ""))
    hello: Make = lambda: noise.Handshake(header, os.urandom(noise.KEY_SIZE)).hello()  # noqa: E731
    return Words("tcp", hello, _like(hello), split=1)


def _mtproto(name: str, neutral: str, more: dict[str, str]) -> Words:
    transport = mtproto.Transport(more.get("transport", "abridged"))

    def hello() -> bytes:
        asked = mtproto.request(mtproto.message_id(time.time_ns()), os.urandom(mtproto.NONCE_SIZE))
        return mtproto.start(transport) + mtproto.frame(transport, asked)

    return Words("tcp", hello, _like(hello), split=1)


_MAKERS: dict[str, Callable[[str, str, dict[str, str]], Words]] = {
    "tcp": _tcp,
    "udp": _udp,
    "stun": _stun,
    "turn": _turn,
    "dtls": _dtls,
    "quic": _quic,
    "reflector": _reflector,
    "dns": _dns,
    "tls": _tls,
    "noise": _noise,
    "mtproto": _mtproto,
}
