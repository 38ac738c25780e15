"""Addresses: which are believable, and how our own are kept out of what leaves the process."""

from __future__ import annotations

import ipaddress

import pytest

from probes.net.address import OwnAddresses, is_bogon, local_addresses, parse, prefix_of
from tests.probes.programs import in_namespace

OWN4, OWN6, MAPPED = "192.0.2.7", "2001:db8::a:7", "203.0.113.77"


@pytest.fixture
def own() -> OwnAddresses:
    return OwnAddresses(local=frozenset({OWN4, OWN6}), mapped={MAPPED})


@pytest.mark.parametrize(
    "text",
    [
        OWN4,
        MAPPED,
        OWN6,
        f"your ip:{OWN4}",
        f"{OWN4}:3478",
        f"x={OWN4}&y={MAPPED}",
        f"http://portal/?ip={OWN4}",
        f"http://portal/{OWN4}/blocked",
        f"user{OWN4}end",
        f"::ffff:{OWN4}",
        f"[{OWN6}]:443",
        f"addr={OWN6},",
        OWN6.upper(),
        "2001:0db8:0000:0000:0000:0000:000a:0007",
        f"{OWN6}.",
        f"{OWN6}%25eth0",
    ],
)
def test_our_addresses_are_scrubbed_however_they_are_written(own: OwnAddresses, text: str) -> None:
    scrubbed = own.scrub(text)
    assert "[vantage]" in scrubbed
    lower = scrubbed.lower()
    assert not any(a in lower for a in (OWN4, OWN6, MAPPED, "0db8", "a:7"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "coturn-4.6.1 'Gorst'",
        f"1{OWN4}",
        f"{OWN4}7",
        f"{OWN4}.1",
        f"1.{OWN4}",
        "2001:db8::a:77",
        "12:30:45",
        "a:7",
        "99.99.99.99 2001:db8::1",
    ],
)
def test_other_texts_stay_as_they_are(own: OwnAddresses, text: str) -> None:
    assert own.scrub(text) == text


@pytest.mark.parametrize(
    ("text", "bogon"),
    [
        ("8.8.8.8", False),
        ("198.51.100.1", False),
        ("2001:db8::1", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:192.168.0.1", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("nonsense", True),
        ("", True),
    ],
)
def test_bogons(text: str, bogon: bool) -> None:
    assert is_bogon(text) is bogon


def test_a_mapped_address_is_its_ipv4_self() -> None:
    assert parse("::ffff:192.0.2.1") == ipaddress.ip_address("192.0.2.1")
    assert parse("name.test") is None


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("64:ff9b::c000:201", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("64:ff9b:0:0:0:1:c000:201", "64:ff9b::1:c000:201"),
        ("64:ff9b:1::c000:201", "64:ff9b:1::c000:201"),
    ],
)
def test_an_address_of_dns64_is_the_ipv4_address_in_it(text: str, inside: str) -> None:
    assert parse(text) == ipaddress.ip_address(inside)
    assert is_bogon("64:ff9b::10.0.0.1")


def test_prefixes() -> None:
    assert prefix_of("192.0.2.77") == "192.0.2.0/24"
    assert prefix_of("2001:db8:1:2::3") == "2001:db8:1::/48"


def test_local_addresses_leave_loopback_out() -> None:
    for address in local_addresses():
        assert not ipaddress.ip_address(address).is_loopback


def test_local_addresses_are_read_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a namespace with an address of each family; the thread's own tables are read there."""
    from pathlib import Path

    real = Path

    def of_this_thread(text: str) -> Path:
        return real(text.replace("/proc/net", "/proc/thread-self/net"))

    monkeypatch.setattr("probes.net.address.Path", of_this_thread)

    async def scenario() -> None:
        assert local_addresses() == {"198.51.100.3", "2001:db8::3"}

    in_namespace(
        scenario,
        "ip address add 198.51.100.3/24 dev lo",
        "ip address add 2001:db8::3/64 dev lo nodad",
    )
