"""The client's side of a handshake, fed without a socket."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.model import Failure
from probes.net.quic import Handshake
from probes.wire import quic
from probes.wire.error import WireError
from tests.lab import content
from tests.lab.quicserver import Server
from tests.probes.certificates import Certificate
from tests.probes.wire.conftest import broken

NAME = "good.test"


def test_a_first_flight_is_sent_five_times_within_four_seconds() -> None:
    """Whoever is silent then was asked often enough (design 6: full evidence)."""
    handshake = Handshake(NAME, quic.V1, ("h3",))
    began = now = 1000.0
    sent = [(now, data) for data in handshake.start(now)]
    while (now := handshake.timer(now) or 9999.0) < began + 4.0:
        sent += [(now, data) for data in handshake.due(now)]
    assert [round(at - began, 3) for at, _ in sent] == [0.0, 0.2, 0.6, 1.4, 3.0]
    assert {len(data) for _, data in sent} == {quic.SMALLEST}
    assert not handshake.heard
    assert not handshake.done


@pytest.mark.parametrize("version", [quic.V1, quic.V2])
def test_the_name_is_in_the_first_packet(version: int) -> None:
    (first,) = Handshake(NAME, version, ("h3",)).start(0.0)
    hello = content.quic_hello(first, version)
    assert hello is not None
    assert hello.name == NAME
    assert content.quic_hello(first, quic.V1 + quic.V2 - version) is None


def test_a_whole_handshake_and_its_end(good: Certificate) -> None:
    handshake, server = Handshake(NAME, quic.V1, ("h3",)), Server(good.chain, good.key)
    outgoing = handshake.start(0.0)
    assert handshake.chain() == []
    for _ in range(4):
        answers = [d for data in outgoing for d, _ in server.datagram(data, ("c", 1), 0.0)]
        for data in answers:
            if not handshake.done:
                handshake.receive(data, 0.0)
        outgoing = handshake.due(0.0)
        if handshake.done:
            break
    assert handshake.done
    assert handshake.heard
    assert handshake.error is None
    assert len(handshake.chain()) == 1
    for data in outgoing:
        server.datagram(data, ("c", 1), 0.0)
    assert server.connections["c", 1].next_event() is not None
    assert handshake.due(9.0) == [], "it was closed"


def answers(server: Server, handshake: Handshake) -> list[bytes]:
    return [d for data in handshake.start(0.0) for d, _ in server.datagram(data, ("c", 1), 0.0)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_damaged_answers_are_words_and_nothing_else(good: Certificate, seed: int) -> None:
    """Bytes that were changed on the way do not decrypt: they are dropped, or have a word."""
    rng = random.Random(seed)
    handshake, server = Handshake(NAME, quic.V1, ("h3",)), Server(good.chain, good.key)
    for datagram in answers(server, handshake):
        changed = broken(datagram, rng)
        for now in (0.0, 0.1):
            with contextlib.suppress(WireError):
                handshake.receive(changed, now)
        handshake.due(0.2)
        assert len(handshake.due(0.2)) <= 2


def test_a_forger_who_knows_the_keys_gets_a_word(good: Certificate, monkeypatch) -> None:
    """The library lets some exceptions escape for what is well encrypted and makes no sense."""
    handshake, server = Handshake(NAME, quic.V1, ("h3",)), Server(good.chain, good.key)
    (first, *_) = answers(server, handshake)

    def stumble(*_: object) -> None:
        raise IndexError("pop from an empty list")

    monkeypatch.setattr(handshake._connection, "receive_datagram", stumble)
    with pytest.raises(WireError, match="IndexError") as caught:
        handshake.receive(first, 0.0)
    assert caught.value.failure is Failure.BAD_REPLY
