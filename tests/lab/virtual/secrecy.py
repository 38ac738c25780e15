"""TLS without cryptography: real hellos, real certificates, and records that hide nothing.

The probes' own code drives a session that stands in for OpenSSL's: what is timed, counted and
written down is theirs. Verifying compares names, issuer and dates as OpenSSL would.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from probes.net import tls
from tests.lab import content, interceptor
from tests.lab.catalogue import is_literal
from tests.lab.certificates import Authority, Pair

HANDSHAKE, ALERT, DATA, CHANGE = 22, 21, 23, 20
FLIGHT = 1_500
"""Bytes of a server's first flight beside its certificate: extensions, signature, Finished."""
FINISHED = 80 - 12
TICKETS = 2 * 255
TAG = 17
_UNKNOWN_ISSUER, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 20, 10, 62, 64  # OpenSSL's x509_vfy.h

LAB = "callpath lab authority"
_context, _believing = tls.context, tls.believing


@dataclass(frozen=True, slots=True)
class Certificate:
    """A leaf, and what a client finds out about it."""

    der: bytes
    names: tuple[str, ...]
    trusted: bool
    until: float


_known: dict[bytes, Certificate] = {}


@cache
def _authority(name: str) -> Authority:
    return Authority(Path(tempfile.mkdtemp(prefix="callpath-virtual-")), name)


@cache
def issued(stem: str, names: tuple[str, ...], authority: str = LAB) -> Certificate:
    pair = _authority(authority).issue(stem.replace("/", "-"), names)
    leaf = x509.load_pem_x509_certificate(pair.chain.read_bytes())
    der = leaf.public_bytes(Encoding.DER)
    until = leaf.not_valid_after_utc.replace(tzinfo=datetime.UTC).timestamp()
    trusted = authority != interceptor.AUTHORITY
    made = _known[der] = Certificate(der, names, trusted, until)
    return made


def pair(stem: str, names: tuple[str, ...]) -> Pair:
    """A certificate and its key for what is encrypted in earnest."""
    return _authority(LAB).issue(stem, names)


def root() -> Path:
    """What verifies those."""
    return _authority(LAB).root


def shown(stem: str, names: tuple[str, ...]) -> Callable[[str], Certificate]:
    return lambda name: issued(stem, names)


def impostor(name: str) -> Certificate:
    """As the interceptor: a certificate for whatever it is asked for, by nobody's authority."""
    asked = name or interceptor.NAMELESS
    return issued(f"impostor-{asked}", (asked,), interceptor.AUTHORITY)


def serving(
    certificate: Callable[[str], Certificate], inner: Callable[[Any], Any]
) -> Callable[[Any], Served]:
    """A TLS server that shows a certificate by name and talks as ``inner`` behind it."""
    return lambda conversation: Served(conversation, certificate, inner)


@lru_cache(maxsize=4096)
def _opening(data: bytes) -> content.Opening | None:
    return content.opening(data)


class Served:
    """The server's side of one connection: whoever speaks over it calls ``send`` and ``finish``."""

    def __init__(
        self,
        conversation: Any,
        certificate: Callable[[str], Certificate],
        inner: Callable[[Any], Any],
    ) -> None:
        self.conversation, self.certificate = conversation, certificate
        self.handler = inner(self)
        self.data = b""
        self.greeted = self.finished = False

    def said(self, data: bytes) -> None:
        self.data += data
        if not self.greeted:
            self._greet()
        else:
            self._listen()

    def _greet(self) -> None:
        opening = _opening(self.data)
        if opening is None:
            return
        if not isinstance(opening.said, content.Hello):
            self.conversation.send(_record(ALERT, b"\2\x0a"))  # unexpected_message
            self.conversation.finish()
            return
        self.greeted = True
        self.data = self.data[opening.end :]
        shown = self.certificate(opening.said.name)
        body = len(shown.der).to_bytes(2, "big") + shown.der
        self.conversation.send(_record(HANDSHAKE, body + bytes(FLIGHT)))

    def _listen(self) -> None:
        while (found := _first(self.data)) is not None:
            kind, body, self.data = found
            if kind == CHANGE:
                continue
            if not self.finished:
                self.finished = True
                self.conversation.send(_record(HANDSHAKE, bytes(TICKETS)))
            elif kind == DATA:
                self.handler.said(body[:-TAG])

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), 16_000):
            self.conversation.send(_record(DATA, data[at : at + 16_000] + bytes(TAG)))

    def finish(self) -> None:
        self.conversation.finish()


def _record(kind: int, body: bytes) -> bytes:
    return bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body


def _first(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind and body of the first record, and what is behind it."""
    if len(data) < 5 or len(data) < (end := 5 + int.from_bytes(data[3:5], "big")):
        return None
    return data[0], data[5:end], data[end:]


# The client's side, in the place of ssl.SSLContext


def context(
    alpn: tuple[str, ...], ca_file: str, pinned: bool = False, authority: str = ""
) -> Context:
    """``authority``: every server's here is the lab's own, whatever a file says."""
    return Context(alpn, verifies=not pinned)


def believing(alpn: Any = (), **form: bool) -> Context:
    """``form``: as ``tls.believing`` takes it."""
    return Context(tuple(alpn), verifies=False, form=frozenset(k for k, v in form.items() if v))


@lru_cache(maxsize=4096)
def _hello(name: str, alpn: tuple[str, ...], form: frozenset[str]) -> bytes:
    """OpenSSL's own, once per name and setting."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = _believing(alpn, **dict.fromkeys(form, True))
    session = made.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


class Context:
    def __init__(
        self, alpn: tuple[str, ...], *, verifies: bool, form: frozenset[str] = frozenset()
    ) -> None:
        self.alpn, self.verifies, self.form = alpn, verifies, form

    def wrap_bio(
        self, incoming: Any, outgoing: Any, server_side: bool = False, server_hostname: str = ""
    ) -> Session:
        return Session(self, incoming, outgoing, server_hostname)


class Session:
    """What the probes use of ssl.SSLObject."""

    def __init__(self, made: Context, incoming: Any, outgoing: Any, name: str) -> None:
        self.made, self.incoming, self.outgoing, self.name = made, incoming, outgoing, name
        self.data = b""
        self.greeted = False
        self.shown: Certificate | None = None
        self._sslobj = SimpleNamespace(get_unverified_chain=self._chain)

    def do_handshake(self) -> None:
        if not self.greeted:
            self.greeted = True
            self.outgoing.write(_hello(self.name, self.made.alpn, self.made.form))
            raise ssl.SSLWantReadError
        self.data += self.incoming.read()
        if self.data and self.data[0] not in (HANDSHAKE, ALERT):
            raise _error("WRONG_VERSION_NUMBER")
        found = _first(self.data)
        if found is None:
            raise ssl.SSLWantReadError
        kind, body, self.data = found
        if kind == ALERT:
            raise _error("TLSV1_ALERT_INTERNAL_ERROR")
        self.shown = _known[body[2 : 2 + int.from_bytes(body[:2], "big")]]
        if self.made.verifies:
            self._verify(self.shown)
        self.outgoing.write(_record(CHANGE, b"\1") + _record(DATA, bytes(FINISHED)))

    def _verify(self, shown: Certificate) -> None:
        code = 0
        if not shown.trusted:
            code = _UNKNOWN_ISSUER
        elif not any(_fits(name, self.name) for name in shown.names):
            code = _WRONG_ADDRESS if is_literal(self.name) else _WRONG_NAME
        if code:
            self.outgoing.write(_record(ALERT, b"\2\x30"))
            refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
            refused.verify_code = code
            raise refused

    def read(self, limit: int) -> bytes:
        self.data += self.incoming.read()
        while (found := _first(self.data)) is not None:
            kind, body, rest = found
            if kind != DATA:
                self.data = rest
                continue
            plain = body[:-TAG]
            if len(plain) > limit:
                left = plain[limit:]
                self.data = _record(DATA, left + bytes(TAG)) + rest
                return plain[:limit]
            self.data = rest
            return plain
        raise ssl.SSLWantReadError

    def write(self, data: bytes) -> int:
        for at in range(0, len(data), 16_000):
            self.outgoing.write(_record(DATA, bytes(data[at : at + 16_000]) + bytes(TAG)))
        return len(data)

    def version(self) -> str:
        return "TLSv1.2" if self.made.form else "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        return ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)

    def selected_alpn_protocol(self) -> str | None:
        return next((p for p in self.made.alpn if p in ("http/1.1", "dot")), None)

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        return self.shown.der if self.shown else None

    def _chain(self) -> list[bytes]:
        return [self.shown.der] if self.shown else []


def _fits(pattern: str, name: str) -> bool:
    return pattern == name or (pattern.startswith("*.") and name.partition(".")[2] == pattern[2:])


def _error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()}")
    error.reason = reason
    return error
