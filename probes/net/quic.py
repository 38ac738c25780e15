"""The client's side of one QUIC handshake, without a socket: datagrams and times in, datagrams out.

The one place for aioquic. What it does not tell by its public interface is read from its private
attributes here: whether the server was heard, how it closed, and its chain. The tests hold it to
that. It verifies nothing but the server's signature; ``chain.py`` does the rest.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionState
from cryptography.hazmat.primitives.serialization import Encoding

from probes.model import Failure
from probes.wire import quic
from probes.wire.error import WireError
from probes.wire.text import clean

FIRST_RTT = 0.1
"""Seconds. RFC 9002 section 6.2.2 says 333 ms; with this a first flight that is not answered leaves
at 0, 0.2, 0.6, 1.4 and 3 s, nearly as the requests of stun do."""
_CRYPTO_ERROR = range(0x100, 0x200)  # RFC 9000 section 20.1: a TLS alert
_SERVER = ("server", 0)
logging.getLogger("quic").setLevel(logging.CRITICAL)  # what it tells is the network's doing


@dataclass(slots=True)
class Handshake:
    """``name`` goes into the hello; ``version`` is the only one that is offered.

    ``heard``: something came that only who read our first packet can have sent. ``versions``: those
    of a server that does not speak ours. ``done``: nothing is left to wait for; ``error`` is then
    the word for what ended it, None for a whole handshake.
    """

    name: str
    version: int
    alpn: tuple[str, ...]
    heard: bool = False
    done: bool = False
    error: WireError | None = None
    versions: tuple[int, ...] = ()
    _connection: QuicConnection = field(init=False)
    _ids: quic.Ids | None = None

    def __post_init__(self) -> None:
        configuration = QuicConfiguration(
            alpn_protocols=list(self.alpn),
            server_name=self.name,
            supported_versions=[self.version],
            verify_mode=ssl.CERT_NONE,
            initial_rtt=FIRST_RTT,
        )
        self._connection = QuicConnection(configuration=configuration)

    def start(self, now: float) -> list[bytes]:
        """The first flight. ``now`` is in seconds of a clock that never goes back."""
        self._connection.connect(_SERVER, now)
        first = self._written(now)  # its timer means nothing before something was sent
        self._ids = quic.ids_of(first[0])
        return first

    def due(self, now: float) -> list[bytes]:
        """What is to be sent now; the last packet of a handshake that is done closes it."""
        if self.done and self.error is None:
            self._connection.close()
        timer = self._connection.get_timer()
        if timer is not None and timer <= now and not self.done:
            self._connection.handle_timer(now)
        return self._written(now)

    def _written(self, now: float) -> list[bytes]:
        return [data for data, _ in self._connection.datagrams_to_send(now)]

    def timer(self, now: float) -> float | None:
        """When ``due`` has something to say at the latest."""
        return self._connection.get_timer()

    def receive(self, data: bytes, now: float) -> None:
        """Raises WireError for what is no answer to our packets, and changes nothing then."""
        assert self._ids is not None, "not started"
        seen = quic.read(data, self._ids, self.version)
        if self.done:
            return
        if seen.versions:
            self.done, self.heard, self.versions = True, True, seen.versions
            self.error = WireError(Failure.BAD_REPLY, "the server speaks other versions")
            return
        try:
            self._connection.receive_datagram(data, _SERVER, now)
        except Exception as error:
            # Whoever sees our first packet can encrypt whatever he likes for us, and the library
            # answers some of it with an IndexError or the like.
            raise WireError(Failure.BAD_REPLY, f"{type(error).__name__}: {error}") from error
        self._look()

    def chain(self) -> list[bytes]:
        """The server's certificates in DER, leaf first; empty before they were shown."""
        tls = self._connection.tls
        shown = [tls._peer_certificate, *tls._peer_certificate_chain]
        return [c.public_bytes(Encoding.DER) for c in shown if c is not None]

    def _look(self) -> None:
        connection = self._connection
        self.heard |= connection._state is not QuicConnectionState.FIRSTFLIGHT
        closed = connection._close_event
        if closed is not None:
            self.done = True
            told = clean(closed.reason_phrase) or f"code {closed.error_code:#x}"
            if connection._state is not QuicConnectionState.DRAINING:  # it was us who closed
                self.error = WireError(Failure.BAD_REPLY, told)
            elif closed.error_code in _CRYPTO_ERROR:
                self.error = WireError(Failure.TLS_ALERT, f"alert {closed.error_code - 0x100}")
            else:
                self.error = WireError(Failure.CLOSED, told)
        elif connection._handshake_complete:
            self.done = True
