"""Which addresses names get, and which server each target leads to."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import catalogue, relays, web


def files(tmp_path: Path, *documents: dict[str, Any]) -> list[Path]:
    written = []
    for number, document in enumerate(documents):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        written.append(file)
    return written


def messenger(*targets: dict[str, Any], name: str = "post", **more: Any) -> dict[str, Any]:
    return {"messenger": name, "targets": list(targets), **more}


WEB: dict[str, Any] = {
    "name": "web",
    "channel": "web",
    "probe": "https",
    "url": "https://web.post.example/",
}
OWNER = {"prefixes": ["149.154.160.0/20", "2001:67c:4e8::/48"]}


def test_names_live_in_their_owners_prefixes(tmp_path: Path) -> None:
    loaded = catalogue.load(files(tmp_path, messenger(WEB, owner=OWNER)))
    v4, v6 = loaded.names["web.post.example"]
    assert ipaddress.ip_address(v4) in ipaddress.ip_network("149.154.160.0/20")
    assert ipaddress.ip_address(v6) in ipaddress.ip_network("2001:67c:4e8::/48")


def test_addresses_are_stable_global_and_distinct(tmp_path: Path) -> None:
    targets = [
        {"name": f"n{i}", "channel": "web", "probe": "tcp", "host": f"n{i}.example", "port": 443}
        for i in range(20)
    ]
    whole = catalogue.load(files(tmp_path, messenger(*targets)))
    part = catalogue.load(files(tmp_path, messenger(*targets[5:15])))
    addresses = [address for known in whole.names.values() for address in known]
    assert len(set(addresses)) == 40
    assert all(ipaddress.ip_address(address).is_global for address in addresses)
    moved = [name for name in part.names if part.names[name] != whole.names[name]]
    assert len(moved) < 3  # only where two names want the same address


def test_owners_have_networks_of_their_own(tmp_path: Path) -> None:
    targets = [
        {"name": owner, "role": "foreign", "owner": owner, "probe": "tcp", "port": 443}
        | {"host": f"www.{owner}.example"}
        for owner in ("one", "two", "three", "four", "five", "six")
    ]
    loaded = catalogue.load(files(tmp_path, messenger(*targets, name="control")))
    networks = {ipaddress.ip_network(f"{v4}/24", strict=False) for v4, _ in loaded.names.values()}
    assert len(networks) == len(targets)


def test_pinned_addresses_are_placed_and_never_given_to_a_name(tmp_path: Path) -> None:
    everything = [f"149.154.160.{n}" for n in range(1, 255) if n != 77]
    loaded = catalogue.load(
        files(
            tmp_path,
            messenger({**WEB, "address": everything}, owner={"prefixes": ["149.154.160.0/24"]}),
        )
    )
    assert loaded.names["web.post.example"][0] == "149.154.160.77"
    assert set(loaded.targets[0].addresses) >= {*everything, "149.154.160.77"}


def test_single_machines_in_the_owners_prefixes_are_not_given_to_names(tmp_path: Path) -> None:
    owner = {"prefixes": ["3.33.221.48/32", "157.240.0.0/16"]}
    loaded = catalogue.load(files(tmp_path, messenger(WEB, owner=owner)))
    assert loaded.names["web.post.example"][0].startswith("157.240.")


def test_a_full_network_is_an_error_not_a_search_without_end(tmp_path: Path) -> None:
    everything = [f"149.154.160.{n}" for n in range(1, 255)]
    owner = {"prefixes": ["149.154.160.0/24"]}
    with pytest.raises(ValueError, match="no address left"):
        catalogue.load(files(tmp_path, messenger({**WEB, "address": everything}, owner=owner)))


def test_whatsapps_chat_hosts_share_four_addresses(tmp_path: Path) -> None:
    hosts = [
        {"name": f"e{n}", "channel": "chat", "probe": "tcp", "host": f"e{n}.whatsapp.net"}
        | {"port": 443}
        for n in range(1, 17)
    ]
    loaded = catalogue.load(files(tmp_path, messenger(*hosts)))
    assert len({address for known in loaded.names.values() for address in known}) == 4


@pytest.mark.parametrize(
    ("resolver", "host", "port"),
    [
        ("system", "", 0),
        ("quad9/tls", "", 0),
        ("8.8.8.8", "8.8.8.8", 53),
        ("8.8.8.8:5353", "8.8.8.8", 5353),
        ("[2001:4860:4860::8888]:53", "2001:4860:4860::8888", 53),
    ],
)
def test_resolvers_given_by_address_are_placed(
    tmp_path: Path, resolver: str, host: str, port: int
) -> None:
    entry = {"name": "r", "probe": "dns", "query": "a.example", "resolver": resolver}
    loaded = catalogue.load(files(tmp_path, messenger(entry)))
    assert (loaded.targets[0].host, loaded.targets[0].port) == (host, port)
    assert set(loaded.names) == {"a.example"}


def test_an_operator_has_one_realm_and_all_its_places(tmp_path: Path) -> None:
    relay = {"channel": "call", "host": "91.108.9.113", "port": 1400}
    loaded = catalogue.load(
        files(
            tmp_path,
            messenger(
                {"name": "a", "probe": "stun", **relay},
                {"name": "b", "probe": "turn", "realm": "post.example", **relay},
                {"name": "c", "probe": "dtls", **relay, "port": 3480},
                {"name": "d", "probe": "stun", **relay, "host": "2001:67c:4e8::5"},
            ),
        )
    )
    (operator,) = relays.operators(loaded.targets, ipv6=False)
    assert operator.realm == "post.example"
    assert operator.places == (("91.108.9.113", 1400), ("91.108.9.113", 3480))
    (operator,) = relays.operators(loaded.targets, ipv6=True)
    assert ("2001:67c:4e8::5", 1400) in operator.places


def test_web_hosts_answer_what_their_file_expects(tmp_path: Path) -> None:
    targets = [
        {**WEB, "expect_status": [400, 404]},
        {**WEB, "name": "ws", "url": "https://web.post.example/ws/chat"},
        {**WEB, "name": "portal", "url": "http://ok.example/x", "expect_body": 'say "hi"\n'},
        {**WEB, "name": "dc", "url": "http://149.154.167.51/api", "method": "POST"},
    ]
    hosts = web.hosts(catalogue.load(files(tmp_path, messenger(*targets))).targets)
    answers = {host.name: host.answers for host in hosts}
    assert answers["web.post.example"] == {"/": (400, ""), "/ws/chat": (200, "")}
    assert answers["ok.example"] == {"/x": (200, 'say "hi"\n')}
    assert answers["149.154.167.51"] == {"/api": (501, "")}
    text = web.configuration(hosts, {}, tmp_path, ipv6=False)
    assert 'location = /x { return 200 "say \\"hi\\"\\n"; }' in text


def test_one_port_cannot_be_asked_with_and_without_tls(tmp_path: Path) -> None:
    targets = [
        {**WEB, "url": "https://149.154.167.51/"},
        {**WEB, "name": "plain", "url": "http://149.154.167.51:443/"},
    ]
    loaded = catalogue.load(files(tmp_path, messenger(*targets)))
    with pytest.raises(ValueError, match="with and without TLS"):
        web.hosts(loaded.targets)
