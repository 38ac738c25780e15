"""Lists that owners publish: what they look like, and what is none."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.published import (
    MAX_BYTES,
    MAX_ENTRIES,
    WIDEST,
    Server,
    parse_prefixes,
    parse_servers,
)

# The form of the recorded copies of getProxyConfig and getProxyConfigV6.
LIST = b"""# force_probability 10 10
default 2;
proxy_for 1 149.154.175.50:8888;
proxy_for -1 149.154.175.50:8888;
proxy_for 4 91.108.4.134:8888;
proxy_for 4 91.108.4.227:8888;
proxy_for -4 149.154.165.250:8888;
proxy_for 203 91.105.192.110:443;
"""
LIST_V6 = b"default 2;\n" + 2 * b"proxy_for 2 [2001:67c:4e8:f002::d]:8888;\n"
PREFIXES = b"91.108.56.0/22\r\n91.108.4.0/22\n\n2001:b28:f23d::/48 # one of several\n"


def failure(read: object, data: bytes) -> Failure:
    with pytest.raises(WireError) as caught:
        read(data)  # type: ignore[operator] # one of the two readers
    return caught.value.failure


def test_servers() -> None:
    assert parse_servers(LIST) == (
        Server(1, "149.154.175.50", 8888),
        Server(-1, "149.154.175.50", 8888),
        Server(4, "91.108.4.134", 8888),
        Server(4, "91.108.4.227", 8888),
        Server(-4, "149.154.165.250", 8888),
        Server(203, "91.105.192.110", 443),
    )
    assert parse_servers(LIST_V6) == (Server(2, "2001:67c:4e8:f002::d", 8888),)


def test_prefixes() -> None:
    found = parse_prefixes(PREFIXES)
    assert found == ("91.108.56.0/22", "91.108.4.0/22", "2001:b28:f23d::/48")


@pytest.mark.parametrize(
    "statement",
    [
        "proxy_for 1 10.0.0.1:8888",
        "proxy_for 1 127.0.0.1:8888",
        "proxy_for 1 224.0.0.1:8888",
        "proxy_for 1 [::1]:8888",
        "proxy_for 1 [fe80::1]:8888",
        "proxy_for 1 [149.154.175.50]:8888",
        "proxy_for 1 149.154.175.50:0",
        "proxy_for 1 149.154.175.50:65536",
        "proxy_for 1 149.154.175.50",
        "proxy_for 1 149.154.175.500:8888",
        "proxy_for x 149.154.175.50:8888",
        "proxy_for 1 core.telegram.org:8888",
        "proxy_for 1",
        "<html>",
    ],
)
def test_one_wrong_statement_and_it_is_no_list(statement: str) -> None:
    assert failure(parse_servers, LIST + statement.encode()) is Failure.BAD_REPLY


@pytest.mark.parametrize(
    "line",
    [
        "0.0.0.0/0",
        "91.0.0.0/7",
        "10.0.0.0/8",
        "::/0",
        "2000::/3",
        "91.108.4.1/22",
        "91.108.4.1",
        "91.108.4.0/33",
        "<p>/</p>",
    ],
)
def test_one_wrong_prefix_and_it_is_no_list(line: str) -> None:
    assert failure(parse_prefixes, PREFIXES + line.encode()) is Failure.BAD_REPLY


@pytest.mark.parametrize("read", [parse_servers, parse_prefixes])
@pytest.mark.parametrize("data", [b"", b"\n\n# nothing\n", b"default 2;", "\N{BULLET}".encode()])
def test_an_empty_or_foreign_text_is_no_list(read: object, data: bytes) -> None:
    assert failure(read, data) is Failure.BAD_REPLY


@pytest.mark.parametrize("read", [parse_servers, parse_prefixes])
def test_more_than_a_list_has_is_refused(read: object) -> None:
    assert failure(read, b"#" * (MAX_BYTES + 1)) is Failure.OVERSIZED
    addresses = [f"91.{n >> 8}.{n & 255}" for n in range(MAX_ENTRIES + 1)]
    form = "proxy_for 1 {}.1:80" if read is parse_servers else "{}.0/24"
    assert failure(read, "\n".join(map(form.format, addresses)).encode()) is Failure.OVERSIZED


ADDRESSES = st.ip_addresses().filter(lambda a: a.is_global and not a.is_multicast).map(str)
SERVERS = st.builds(Server, st.integers(-99999, 99999), ADDRESSES, st.integers(1, 65535))


@given(st.lists(SERVERS, min_size=1, max_size=20, unique=True))
def test_what_is_written_is_read(servers: list[Server]) -> None:
    def host(address: str) -> str:
        return f"[{address}]" if ":" in address else address

    text = "".join(f"proxy_for {s.centre} {host(s.address)}:{s.port};\n" for s in servers)
    assert parse_servers(text.encode()) == tuple(servers)


PIECES = st.binary(min_size=1, max_size=4) | st.text("0123456789./:[];#-\n ", max_size=4).map(
    str.encode
)
MUTATED = st.builds(
    lambda data, at, put: data[: at % len(data)] + put + data[at % len(data) + len(put) :],
    st.sampled_from([LIST, LIST_V6, PREFIXES]),
    st.integers(0, 500),
    PIECES,
)


@given(st.binary(max_size=300) | MUTATED)
@example(b"proxy_for 1 149.154.175.50:8888" + b";" * 1000)
@example(b"proxy_for \x1b[31m1\x07 149.154.175.50:8888")
def test_any_bytes_are_a_list_of_public_places_or_none(data: bytes) -> None:
    said = ""
    try:
        for server in parse_servers(data):
            assert ipaddress.ip_address(server.address).is_global
            assert 0 < server.port < 65536
    except WireError as error:
        said += str(error)
    try:
        for prefix in map(ipaddress.ip_network, parse_prefixes(data)):
            assert prefix.prefixlen >= WIDEST[prefix.version]
    except WireError as error:
        said += str(error)
    assert re.fullmatch(r"[ -~…]*", said)
