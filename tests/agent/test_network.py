"""Which network is this?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent import network
from agent.network import KEPT, Network, recognise

NONE: frozenset[str] = frozenset()
HOME = Network("home", frozenset({"p1"}), "wlan")


def seen(*prefixes: str) -> frozenset[str]:
    return frozenset(prefixes)


def test_the_first_network_is_named_by_what_is_seen():
    assert recognise(None, [], seen("p1"), "wlan") == Network("p1", seen("p1"), "wlan")
    assert recognise(None, [], NONE, "wlan") == Network("wlan", NONE, "wlan")
    assert recognise(None, [], NONE, "").id, "kept under a name, also when it began in the dark"


def test_the_same_prefix_is_the_same_network_also_over_another_interface():
    assert recognise(HOME, [HOME], seen("p1"), "wlan") == HOME
    assert recognise(HOME, [HOME], seen("p1"), "lan").id == "home"


def test_carrier_nat_shows_one_line_with_several_prefixes():
    grown = recognise(HOME, [HOME], seen("p1", "p2"), "wlan")
    assert (grown.id, grown.prefixes) == ("home", seen("p1", "p2"))
    assert recognise(grown, [grown], seen("p2"), "wlan").id == "home"


def test_another_prefix_is_another_network():
    assert recognise(HOME, [HOME], seen("p9"), "wlan").id == "p9"


def test_without_a_mapped_address_the_last_network_stands_while_the_attachment_does():
    assert recognise(HOME, [HOME], NONE, "wlan") is HOME
    assert recognise(HOME, [HOME], NONE, "lte").id == "lte"


def test_a_line_seen_from_outside_for_the_first_time_is_the_same_line():
    blind = Network("wlan", NONE, "wlan")
    found = recognise(blind, [blind], seen("p1"), "wlan")
    assert (found.id, found.prefixes) == ("wlan", seen("p1"))


def test_back_on_a_known_network():
    work = Network("work", seen("p2"), "lan")
    assert recognise(work, [work, HOME], seen("p1"), "wlan").id == "home"


def test_back_on_a_known_network_that_at_first_hid_its_address():
    """STUN was silent when the line came up: it still is home as soon as it can be seen."""
    work = Network("work", seen("p2"), "lan")
    blind = recognise(work, [work, HOME], NONE, "wlan")
    assert blind.id == "wlan"
    assert recognise(blind, [blind, work, HOME], seen("p1"), "wlan").id == "home"


def test_a_network_of_very_many_prefixes_stays_one_network():
    current = recognise(None, [], seen("00"), "lte")
    for number in range(4 * KEPT):
        step = seen(f"{number * 37 % 200:02x}", f"{(number + 1) * 37 % 200:02x}", "00")
        current = recognise(current, [current], step, "lte")
        assert current.id == "00"
        assert step <= current.prefixes
        assert len(current.prefixes) <= KEPT


names = st.text("abcdef", min_size=1, max_size=4)
networks = st.builds(Network, names, st.frozensets(names, max_size=5), names)


@given(st.lists(networks, max_size=8))
def test_written_and_read(kept):
    assert network.load(network.dump(kept)) == kept


def test_what_was_not_written_by_us_is_no_network():
    for data in (None, b"", b"{}", b"[1]", b"[[1,2]]", b"\xff\xfe", b'[["a", 3, "b"]]', b"null"):
        assert network.load(data) == []


def test_hashes_are_keyed_and_of_the_prefix():
    one, other = b"1" * 32, b"2" * 32
    hashed = network.mapped_hashes(one, ["198.51.100.7"])
    assert network.mapped_hashes(one, ["198.51.100.99"]) == hashed
    assert network.mapped_hashes(one, ["198.51.101.7"]) != hashed
    assert network.mapped_hashes(other, ["198.51.100.7"]) != hashed
    assert "198" not in "".join(hashed)
    v6 = network.mapped_hashes(one, ["2001:db8:1:2::3"])
    assert network.mapped_hashes(one, ["2001:db8:1:ffff::9"]) == v6


def test_attachment_and_tunnel_read_this_host_without_failing():
    assert network.attachment(b"k" * 32) == network.attachment(b"k" * 32)
    assert not network.is_tunnel("")
    assert not network.is_tunnel("lo")
    assert not network.is_tunnel("no-such-device")


def test_a_pulled_cable_leads_to_no_other_network():
    """No default route and no mapped address: the line is dark, and what was confirmed stands."""
    assert recognise(HOME, [HOME], NONE, "") == HOME
    assert recognise(HOME, [HOME], NONE, HOME.attachment) == HOME, "and it is back"
    assert recognise(HOME, [HOME], seen("p9"), "").id != HOME.id, "seen from outside: another"


def test_without_a_default_route_there_is_no_attachment(monkeypatch):
    monkeypatch.setattr(network, "default_route", lambda: ("", ""))
    assert network.attachment(b"k" * 32) == ""
