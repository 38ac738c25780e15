"""The client's side of one DTLS handshake, without a socket. The one place for OpenSSL's DTLS, of
which Python's ssl has none.

The hello is OpenSSL's; of a dress it wears the cipher suites, and use_srtp. It believes any
certificate: who pins one compares it, and the handshake has shown that the server has its key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from OpenSSL import SSL, crypto

from probes.model import Failure
from probes.wire import dtls
from probes.wire.error import WireError
from probes.wire.text import clean

MTU = 1200
_FLIGHT = 65_536
_SRTP = b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM"
_SUITES = {
    dtls.Dress.OPENSSL: b"",  # the library's own
    dtls.Dress.BROWSER: (
        b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
        b"ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
        b"ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:AES128-GCM-SHA256:AES128-SHA:AES256-SHA"
    ),
    dtls.Dress.PION: (
        b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
        b"ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
        b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ),
}


@lru_cache(maxsize=len(_SUITES))
def _context(dress: dtls.Dress) -> SSL.Context:
    made = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    made.set_verify(SSL.VERIFY_NONE)
    made.set_tlsext_use_srtp(_SRTP)
    if suites := _SUITES[dress]:
        made.set_cipher_list(suites)
    return made


@dataclass(slots=True)
class Handshake:
    """As ``probes.shake`` wants it. Its repetitions go by OpenSSL's own clock, at 1, 2 and 4 s."""

    dress: dtls.Dress
    heard: bool = False
    done: bool = False
    error: WireError | None = None
    _session: SSL.Connection = field(init=False)

    def __post_init__(self) -> None:
        self._session = SSL.Connection(_context(self.dress), None)
        self._session.set_connect_state()
        self._session.set_ciphertext_mtu(MTU)

    def start(self, now: float) -> list[bytes]:
        self._go_on()
        return self._written()

    def due(self, now: float) -> list[bytes]:
        """Also the repetition of what is not answered, and at the end a close_notify."""
        try:
            if not self.done:
                self._session.DTLSv1_handle_timeout()
            elif self.error is None:
                self._session.shutdown()
        except SSL.Error:
            pass  # it has repeated often enough, or there is nothing left to close
        return self._written()

    def timer(self, now: float) -> float | None:
        left = self._session.DTLSv1_get_timeout()
        return None if left is None else now + left

    def receive(self, data: bytes, now: float) -> None:
        alert = dtls.check(data)
        if self.done:
            return
        self.heard = True
        if alert:
            self._end(WireError(Failure.TLS_ALERT, alert))
            return
        self._session.bio_write(data)
        self._go_on()

    def chain(self) -> list[bytes]:
        """The server's certificates in DER, leaf first; empty before they were shown."""
        # As the library's own objects: cryptography refuses what OpenSSL lets through.
        shown = self._session.get_peer_cert_chain() or []
        return [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in shown]

    @property
    def version(self) -> str:
        return self._session.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        return self._session.get_cipher_name() or ""

    def _go_on(self) -> None:
        try:
            self._session.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            # A list of what was wrong; of some records the library only says "unexpected EOF".
            self._end(WireError(Failure.BAD_REPLY, clean(str(error)) or type(error).__name__))
            return
        self._end(None)

    def _end(self, error: WireError | None) -> None:
        self.done, self.error = True, error

    def _written(self) -> list[bytes]:
        try:
            return dtls.split(self._session.bio_read(_FLIGHT))
        except SSL.WantReadError:
            return []  # nothing
