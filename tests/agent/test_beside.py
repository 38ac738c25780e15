"""What a stream is held against."""

from __future__ import annotations

from agent.beside import SITES, sites
from probes.model import Failure, Step
from tests.agent.building import FakeTls, World, seen, target

STREAM = target("voice", channel="call", host="198.51.100.1")
CHAT = target("chat", channel="chat", probe=FakeTls(World()), host="198.51.100.50", port=5222)
OVER_TCP = target("relay-tcp", channel="call", probe=FakeTls(World()), host=STREAM.host, port=443)


def at(of, address, failure=None, step=Step.TLS):
    before = (Step.CONNECT,) if step is Step.TLS else ()
    return seen(of, failure, step, address=address, before=before)


def test_other_servers_that_connected_are_asked_at_their_ports():
    found = sites(STREAM, (STREAM, CHAT), [at(CHAT, "198.51.100.50")])
    assert found == (("198.51.100.50", 5222),)


def test_a_relay_is_not_held_against_itself():
    """Loss for all that goes to the relays would hide behind its own TCP."""
    assert sites(STREAM, (STREAM, OVER_TCP), [at(OVER_TCP, STREAM.host)]) == ()


def test_who_did_not_answer_last_time_or_never_over_tcp_is_not_asked():
    failed = at(CHAT, "198.51.100.50", Failure.TIMEOUT, Step.CONNECT)
    datagram = at(CHAT, "198.51.100.51", None, Step.EXCHANGE)
    assert sites(STREAM, (STREAM, CHAT), [failed, datagram]) == ()


def test_a_few_are_enough():
    many = [at(CHAT, f"198.51.100.{n}") for n in range(60, 80)]
    assert len(sites(STREAM, (STREAM, CHAT), many)) == SITES
