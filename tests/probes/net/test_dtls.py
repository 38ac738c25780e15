"""The client's side of a DTLS handshake, fed without a socket."""

from __future__ import annotations

import base64
import contextlib
import random
import ssl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.net.dtls import Handshake
from probes.wire import dtls
from probes.wire.error import WireError
from tests.lab import content
from tests.probes.certificates import Certificate
from tests.probes.test_dtls import HELLO_VERIFY, Server
from tests.probes.wire.conftest import broken


@pytest.mark.parametrize("dress", dtls.Dress)
def test_the_hello_wears_the_suites_of_its_dress(dress: dtls.Dress) -> None:
    (hello,) = Handshake(dress).start(0.0)
    ours = dtls.client_hello(dress, bytes(32))
    assert _suites(hello) - {0x00FF} == _suites(ours) - {0x00FF}
    read = content.dtls_hello(hello)
    assert read is not None
    assert 14 in read.extensions, "use_srtp"


def _suites(hello: bytes) -> set[int]:
    at = 25 + 34 + 2  # version and random, no session, no cookie
    size = int.from_bytes(hello[at : at + 2], "big")
    listed = hello[at + 2 : at + 2 + size]
    return {int.from_bytes(listed[i : i + 2], "big") for i in range(0, size, 2)}


def test_a_cookie_is_returned() -> None:
    handshake = Handshake(dtls.Dress.OPENSSL)
    (first,) = handshake.start(0.0)
    assert b"cook" not in first
    handshake.receive(HELLO_VERIFY, 0.0)
    (second,) = handshake.due(0.0)
    assert b"\x04cook" in second
    assert handshake.heard
    assert not handshake.done


def test_what_comes_after_the_end_changes_nothing(good: Certificate) -> None:
    handshake, server = Handshake(dtls.Dress.OPENSSL), Server(good)
    outgoing = handshake.start(0.0)
    while not handshake.done:
        for data in [d for sent in outgoing for d in server(0, sent)]:
            handshake.receive(data, 0.0)
        outgoing = handshake.due(0.0)
    assert handshake.error is None
    handshake.receive(b"\x15\xfe\xfd" + bytes(9) + b"\2\2\x28", 0.0)
    assert handshake.error is None
    assert len(handshake.chain()) == 1


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_damaged_flights_are_words_and_nothing_else(good: Certificate, seed: int) -> None:
    rng = random.Random(seed)
    handshake, server = Handshake(dtls.Dress.BROWSER), Server(good)
    for answer in [d for sent in handshake.start(0.0) for d in server(0, sent)]:
        with contextlib.suppress(WireError):
            handshake.receive(broken(answer, rng), 0.0)
        handshake.due(0.0)
    assert handshake.error is None or isinstance(handshake.error, WireError)
    handshake.chain()


def test_a_certificate_that_no_reader_takes_is_handed_on(good: Certificate, tmp_path: Path) -> None:
    """OpenSSL asks a date's form only of who verifies; the chain is judged by whoever reads it."""
    pem = good.chain.read_text().partition("-----END CERTIFICATE-----")[0]
    der = bytearray(base64.b64decode(pem.partition("-----BEGIN CERTIFICATE-----")[2]))
    expiry = der.index(b"\x17\x0d", der.index(b"\x17\x0d") + 15)  # a second UTCTime
    der[expiry + 14] = ord("?")
    (tmp_path / "odd.pem").write_text(ssl.DER_cert_to_PEM_cert(bytes(der)))
    handshake, server = (
        Handshake(dtls.Dress.OPENSSL),
        Server(Certificate(tmp_path / "odd.pem", good.key)),
    )
    outgoing = handshake.start(0.0)
    while not handshake.done:
        for data in [d for sent in outgoing for d in server(0, sent)]:
            handshake.receive(data, 0.0)
        outgoing = handshake.due(0.0)
    assert handshake.chain() == [bytes(der)]
