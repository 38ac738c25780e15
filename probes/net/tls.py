"""TLS over our own socket by memory BIO: any name against any address, phases timed, the
certificate kept when verification fails.

The ClientHello is OpenSSL's, not a browser's (no GREASE, other extension order); a filter that
keys on a browser's fingerprint is not seen by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import certifi

from probes.model import Failure, Step
from probes.net.stream import TcpStream
from probes.trail import Trail
from probes.wire import certificate
from probes.wire.error import WireError

HANDSHAKE_LIMIT = 10.0
_CHUNK = 16384


@lru_cache(maxsize=64)
def context(
    alpn: tuple[str, ...], ca_file: str, pinned: bool = False, authority: str = ""
) -> ssl.SSLContext:
    """A verifying client context; built once per setting, since building costs 30 ms.

    Trusts the system's store, certifi's where that is empty, and ``ca_file`` beside; with an
    ``authority``, certificates in PEM, those and nobody else. ``pinned``: verifies nothing, for a
    caller who compares the certificate itself.
    """
    anchors = b"".join(certificate.read_anchors(authority)) if authority else None
    made = ssl.create_default_context(cadata=anchors)
    if pinned:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    # Python 3.13 began to refuse chains that every client accepts (no key ids, say).
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not authority and made.cert_store_stats()["x509_ca"] == 0:
        made.load_verify_locations(certifi.where())
    if ca_file and not authority:
        made.load_verify_locations(ca_file)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


_OTHER = "ECDHE+AESGCM"
"""Suites of a hello that no list of fingerprints takes for OpenSSL's own."""


def believing(
    alpn: Sequence[str] = (), *, short: bool = False, other: bool = False
) -> ssl.SSLContext:
    """A client context that believes any chain: for what only asks whether the server speaks.

    ``short``: TLS 1.2 at most, whose hello has no key shares and so fits into one segment;
    ``other``: the same, with other suites, as another program greets. Without trust anchors to
    load it costs next to nothing.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if short or other:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if other:
        made.set_ciphers(_OTHER)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def padding(server_name: str, size: int, *, other: bool = False) -> tuple[str, ...]:
    """Application protocols that make a hello for ``server_name`` at least ``size`` bytes long;
    none where it is. OpenSSL pads short hellos itself, so that the length grows by leaps."""
    filler = 0
    while True:
        whole, rest = divmod(filler, 255)
        names = ["x" * 255] * whole + ["x" * rest] * bool(rest)
        alpn = ("http/1.1", *names) if names else ()
        missing = size - _hello_length(server_name, alpn, other)
        if missing <= 0:
            return alpn
        filler += max(missing, 16)


def _hello_length(server_name: str, alpn: Sequence[str], other: bool) -> int:
    return len(first_bytes(server_name, believing(alpn, other=other)))


def first_bytes(server_name: str, by: ssl.SSLContext) -> bytes:
    """The hello that a client of this context sends for ``server_name``."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = by.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@dataclass(slots=True)
class TlsStream:
    """A TLS session over a TcpStream. Raises OSError, EOFError; ``read`` returns b"" at a close."""

    tcp: TcpStream
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    session: ssl.SSLObject
    hello_size: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def handshake(self) -> None:
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
                continue
            except ssl.SSLError:
                await self._flush_quietly()  # our alert, as a client sends it
                raise
            await self._flush()
            return

    async def read(self, limit: int) -> bytes:
        while True:
            try:
                return self.session.read(limit)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self.tcp.read(_CHUNK)
                if not data:
                    return b""
                self._incoming.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        self.session.write(data)
        await self._flush()

    async def _feed(self) -> None:
        data = await self.tcp.read(_CHUNK)
        if not data:
            raise EOFError("closed in the handshake")
        self._incoming.write(data)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self.hello_size = self.hello_size or len(data)
            await self.tcp.write(data)

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except OSError:
            return  # the handshake's own error is the one to report


async def secure(
    trail: Trail,
    tcp: TcpStream,
    address: str,
    server_name: str,
    alpn: Sequence[str] = (),
    *,
    pin: str = "",
    authority: str = "",
    instead: ssl.SSLContext | None = None,
) -> TlsStream:
    """The ``tls`` step: a handshake for ``server_name``, verified unless ``instead`` is
    a context that does not.

    ``pin``: SHA-256 of the one certificate that will do, hexadecimal; then no chain and no name
    counts, and another certificate is ``bad_certificate``. ``authority``: whose certificates alone
    are believed, in PEM.

    Facts: clienthello_bytes, clienthello_acked (did the other side's kernel acknowledge it?),
    tls_version, tls_cipher, alpn, certificate_* (also when verification failed).
    """
    port = tcp.sock.getpeername()[1]
    await trail.env.courtesy.handshake(address, f"{server_name}:{port}")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    verifying = instead or context(tuple(alpn), trail.env.tls_ca_file, bool(pin), authority)
    session = verifying.wrap_bio(incoming, outgoing, server_side=False, server_hostname=server_name)
    stream = TlsStream(tcp, incoming, outgoing, session)
    try:
        async with trail.step(Step.TLS, trail.limit(HANDSHAKE_LIMIT)):
            await stream.handshake()
            if pin:
                _compare(session, pin)
    finally:
        info = tcp.info()
        trail.facts["clienthello_bytes"] = stream.hello_size
        trail.facts["clienthello_acked"] = stream.hello_size > 0 and (
            info.bytes_acked >= stream.hello_size or info.bytes_received > 0
        )
        _note_certificate(trail, session)
    trail.facts["tls_version"] = session.version() or ""
    cipher = session.cipher()
    trail.facts["tls_cipher"] = cipher[0] if cipher else ""
    if alpn:
        trail.facts["alpn"] = session.selected_alpn_protocol() or ""
    return stream


def _compare(session: ssl.SSLObject, pin: str) -> None:
    chain = _chain(session)
    if not chain or not hmac.compare_digest(hashlib.sha256(chain[0]).hexdigest(), pin):
        raise WireError(Failure.BAD_CERTIFICATE, "not the pinned certificate")


def _note_certificate(trail: Trail, session: ssl.SSLObject) -> None:
    chain = _chain(session)
    if not chain:
        return
    try:
        trail.facts.update(certificate.facts(chain))
    except WireError as error:
        trail.facts["certificate_error"] = str(error)


def _chain(session: ssl.SSLObject) -> list[bytes]:
    """The peer's chain, leaf first, verified or not.

    Public from Python 3.13 on; before that the same method sits on the inner object, which keeps
    the chain when verification failed while ``getpeercert`` does not.
    """
    inner: Any = getattr(session, "_sslobj", None)
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        found = inner.get_unverified_chain() or []
        return [c if isinstance(c, bytes) else bytes(_der(c)) for c in found]
    leaf = session.getpeercert(binary_form=True)
    return [leaf] if leaf else []


def _der(certificate_object: Any) -> bytes:
    encoding_der = 2  # _ssl.ENCODING_DER
    encoded: bytes = certificate_object.public_bytes(encoding_der)
    return encoded
