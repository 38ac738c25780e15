from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("2d", 172800.0),
        ("0s", 0.0),
        (0, 0.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["60", "", "s", "1:30", "-5s", "1e3s", "5 m", "5M", "٣s", "401d", 60, 0.0, True, False]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.parse_duration(text)


@given(st.integers(0, 400 * 86_400_000).map(lambda ms: ms / 1000))
def test_a_duration_is_read_back_as_it_was_written(seconds: float) -> None:
    assert values.parse_duration(values.format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("200MiB", 200 * 2**20), ("64KiB", 65536), ("1GiB", 2**30), ("7B", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size
    assert values.format_size(size) == text


@pytest.mark.parametrize("text", ["200", "200MB", "1.5GiB", "-1KiB", "", 200, None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.parse_size(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.ORG", "example.org"),
        ("_stun._udp.example.org", "_stun._udp.example.org"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("xn--80ak6aa92e.com", "xn--80ak6aa92e.com"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert values.parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a..b",
        "a.",
        "-a.org",
        "a b",
        "1.2.3",
        "127.1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "fe80::1%e",
        "пример.рф",
        "a/b",
        "a:443",
        "[::1]",
        "x" * 64 + ".org",
        ".".join(["abcdefg"] * 33),
    ],
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|is neither"):
        values.parse_host(text)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://example.org/", ("example.org", 443)),
        ("http://example.org", ("example.org", 80)),
        ("http://192.0.2.1:443/", ("192.0.2.1", 443)),
        ("https://[2001:db8::1]:8443/a?b=c", ("2001:db8::1", 8443)),
    ],
)
def test_urls(url: str, place: tuple[str, int]) -> None:
    assert values.parse_url(url) == url
    assert values.url_host_port(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "https://",
        "https:///x",
        "https://u@example.org/",
        "https://u:p@example.org/",
        "https://example.org/#a",
        "https://example.org/a b",
        "https://example.org:0/",
        "https://example.org:/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://exämple.org/",
        "https://1.2.3/",
        "https://example.org\\x",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|is neither"):
        values.parse_url(url)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("9.9.9.9:5353", ("9.9.9.9", 5353)),
        ("2620:fe::fe", ("2620:fe::fe", 53)),
        ("[2620:fe::fe]:5353", ("2620:fe::fe", 5353)),
    ],
)
def test_resolver_addresses(text: str, place: tuple[str, int]) -> None:
    assert values.split_address_port(text, 53) == place


@pytest.mark.parametrize(
    "text", ["", "dns.quad9.net", "9.9.9.9:", "9.9.9.9:x", "[::1]", ":53", "1:2:3"]
)
def test_what_is_no_resolver_address(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        values.split_address_port(text, 53)
