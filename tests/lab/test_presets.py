"""The known kinds of interference: does each do what its source says, and leave the rest alone?"""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import pytest

from probes.wire import quic, rtp
from tests.lab import interceptor
from tests.lab import packet as packets
from tests.lab.actions import IN, OUT
from tests.lab.packet import RST
from tests.lab.path import Path, from_json, to_json
from tests.lab.presets import PRESETS, preset
from tests.lab.talk import (
    SERVER,
    STUN_REQUEST,
    Talk,
    address,
    arrivals,
    client_hello,
    dns_query,
    dtls_hello,
    passed,
    path,
    quic_hello,
)
from tests.lab.world import RESOLVER_V4

BLOCKED, NEUTRAL = client_hello("web.whatsapp.net"), client_hello("example.org")
NAMES = {"sni": "*.whatsapp.net"}
PREFIX = {"remote": f"{SERVER}/32"}
ELSEWHERE = "185.70.40.1"
GET = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n"
FOR_ALL = {
    "sni": "*",
    "host": "*",
    "dns": "*",
    "fingerprint": "0",
    "remote": "91.0.0.0/8",
    "exempt": "9.9.9.9/32",
    "exempt_names": "*",
    "ports": 443,
}


def exchange(carried: Path, said: bytes, now: float = 0.0, **ends: Any) -> str:
    """A TCP connection with one message each way, as the client sees it."""
    talk = Talk(carried, **ends)
    fate = talk.opens(now)
    if not passed(fate, OUT):
        heard = arrivals(fate, IN)
        return "silent" if not heard else "refused" if heard[0].tcp_flags & RST else "rejected"
    fate = talk.says(OUT, said, now)
    heard = arrivals(fate, IN)
    if heard:
        return "reset" if heard[0].tcp_flags & RST else "page"
    if not passed(fate, OUT):
        return "unheard"
    heard = arrivals(talk.says(IN, b"answer", now), IN)
    if not heard:
        return "unanswered"
    return "reset" if heard[0].tcp_flags & RST else "ok"


@pytest.mark.parametrize(
    ("name", "fields", "said", "ends", "seen"),
    [
        ("sni_rewrite", NAMES, BLOCKED, {}, "reset"),
        ("sni_rewrite", NAMES, NEUTRAL, {}, "ok"),
        ("sni_drop", NAMES, BLOCKED, {}, "unheard"),
        ("sni_drop", NAMES, NEUTRAL, {}, "ok"),
        ("sni_drop_delayed", NAMES, BLOCKED, {}, "ok"),  # at first: see below
        ("sni_reset", NAMES, BLOCKED, {}, "reset"),
        ("sni_reset_both", NAMES, BLOCKED, {}, "reset"),
        ("sni_reset_both", NAMES, NEUTRAL, {}, "ok"),
        ("ech", {}, client_hello("cloudflare-ech.com"), {}, "ok"),  # the name alone
        ("ip_drop", PREFIX, NEUTRAL, {}, "silent"),
        ("ip_drop", PREFIX, BLOCKED, {"server": ELSEWHERE}, "ok"),
        ("ip_refuse", PREFIX, NEUTRAL, {}, "refused"),
        ("ip_reject", PREFIX, NEUTRAL, {}, "rejected"),
        ("port_block", {"ports": 443}, NEUTRAL, {}, "silent"),
        ("port_block", {"ports": 443}, NEUTRAL, {"server_port": 5222}, "ok"),
        ("allowlist", {"exempt": "185.70.40.0/24"}, NEUTRAL, {}, "silent"),
        ("allowlist", {"exempt": "185.70.40.0/24"}, NEUTRAL, {"server": ELSEWHERE}, "ok"),
        ("allowlist_names", {"exempt_names": "example.org"}, NEUTRAL, {}, "ok"),
        ("allowlist_names", {"exempt_names": "example.org"}, BLOCKED, {}, "unheard"),
        ("allowlist_names", {"exempt_names": "example.org"}, b"SSH-2.0-x", {}, "ok"),
        ("http_blockpage", {"host": "a.example"}, GET % b"a.example", {}, "page"),
        ("http_blockpage", {"host": "a.example"}, GET % b"b.example", {}, "ok"),
        ("udp_all", {}, BLOCKED, {}, "ok"),
    ],
)
def test_what_a_connection_meets(
    name: str, fields: dict[str, Any], said: bytes, ends: dict[str, Any], seen: str
) -> None:
    assert exchange(path(*preset(name, **fields)), said, **ends) == seen


@pytest.mark.parametrize(
    ("name", "seconds"), [("sni_rewrite", 75), ("sni_drop", 40), ("sni_drop_delayed", 420)]
)
def test_how_long_a_flow_stays_marked(name: str, seconds: float) -> None:
    carried = path(*preset(name, **NAMES))
    talk = Talk(carried)
    talk.opens()
    talk.says(OUT, BLOCKED)
    for _ in range(9):
        talk.says(IN, b"x")
    for now, honest in ((seconds - 1, False), (seconds + 1, True)):
        heard = arrivals(talk.says(IN, b"x", now), IN)
        assert bool(heard and heard[0].payload == b"x") is honest


@pytest.mark.parametrize(
    ("name", "fields", "said", "port", "seen"),
    [
        ("stun", {}, STUN_REQUEST, 3478, "silent"),
        ("stun", {}, bytes(20), 3478, "ok"),
        ("dtls", {}, dtls_hello(), 3478, "silent"),
        ("dtls", {}, STUN_REQUEST, 3478, "ok"),
        ("udp_all", {}, b"x", 3478, "silent"),
        ("quic_v1", {}, b"\xc0\0\0\0\1" + bytes(1195), 443, "silent"),
        ("quic_v1", {}, b"\xc0\xba\xba\xba\xba" + bytes(1195), 443, "ok"),
        ("quic_v1", {}, b"\xc0\0\0\0\1" + bytes(900), 443, "ok"),
        ("quic_v1", {}, b"\xc0\0\0\0\1" + bytes(1195), 8443, "ok"),
        ("dns_udp_block", {}, dns_query("a.example"), 53, "silent"),
        ("dns_nxdomain", {"dns": "a.example"}, dns_query("a.example"), 53, "forged"),
        ("dns_nxdomain", {"dns": "a.example"}, dns_query("b.example"), 53, "ok"),
        ("dns_forge", {"dns": "a.example"}, dns_query("a.example"), 53, "forged"),
        ("dns_inject", {"dns": "a.example"}, dns_query("a.example"), 53, "both"),
        ("dns_inject_copying", {"dns": "a.example"}, dns_query("a.example"), 53, "both"),
        ("udp_large", {}, bytes(200), 3478, "silent"),
        ("udp_large", {}, bytes(199), 3478, "ok"),
        ("mtu", {}, bytes(1261), 3478, "silent"),
        ("mtu", {}, bytes(1260), 3478, "ok"),
    ],
)
def test_what_a_datagram_meets(
    name: str, fields: dict[str, Any], said: bytes, port: int, seen: str
) -> None:
    fate = Talk(path(*preset(name, **fields)), server_port=port).sends(OUT, said)
    words = {(True, False): "ok", (False, True): "forged", (True, True): "both"}
    assert words.get((passed(fate, OUT), bool(arrivals(fate, IN))), "silent") == seen


@pytest.mark.parametrize(
    ("said", "version", "port", "seen"),
    [
        ("a.example", quic.V1, 8443, False),
        ("b.example", quic.V1, 443, True),
        ("a.example", quic.V2, 443, True),
    ],
)
def test_a_name_in_quic(said: str, version: int, port: int, seen: bool) -> None:
    """Its flow is dead both ways from then on, and stays so while anything is sent."""
    talk = Talk(path(*preset("quic_sni", sni="a.example")), server_port=port)
    assert passed(talk.sends(OUT, quic_hello(said, version)), OUT) is seen
    for now in (400.0, 800.0):
        assert passed(talk.sends(OUT, b"\x40" + bytes(40), now), OUT) is seen
    assert passed(talk.sends(IN, b"\x40" + bytes(40), 801.0), IN) is seen
    assert passed(talk.sends(IN, b"\x40" + bytes(40), 1230.0), IN)


def test_the_nxdomain_over_udp_and_the_truth_over_tcp() -> None:
    carried = path(*preset("dns_nxdomain", dns="a.example"))
    (forged,) = arrivals(Talk(carried, server_port=53).sends(OUT, dns_query("a.example")), IN)
    assert dns.message.from_wire(forged.payload).rcode() == dns.rcode.NXDOMAIN
    query = dns_query("a.example")
    assert exchange(carried, len(query).to_bytes(2, "big") + query, server_port=53) == "ok"


def test_stun_kills_the_five_tuple_and_no_other() -> None:
    carried = path(*preset("stun"))
    talk = Talk(carried, server_port=3478)
    talk.sends(OUT, STUN_REQUEST)
    assert not talk.sends(OUT, b"not STUN", 1.0).arrivals
    assert passed(Talk(carried, port=2, server_port=3478).sends(OUT, b"not STUN", 1.0), OUT)


@pytest.mark.parametrize(
    ("name", "through"),
    [
        ("freeze_bytes", 11),
        ("freeze_packets", 25 - 3),
        ("udp_after_packets", 20),
        ("udp_first_packets", 4),
    ],
)
def test_what_freezes_after_how_many_packets(name: str, through: int) -> None:
    """After three segments of handshake, 1,400 bytes each from the server."""
    carried = path(*preset(name))
    for port in (1, 2):  # a new connection gets just as far
        talk = Talk(carried, port=port)
        if name.startswith("udp"):
            alive = [bool(talk.sends(IN, b"x").arrivals) for _ in range(40)]
        else:
            talk.opens()
            alive = [bool(talk.says(IN, bytes(1400)).arrivals) for _ in range(40)]
        assert alive == [True] * through + [False] * (40 - through)


VOICE = [rtp.packet(65_530 + number, number, 7, b"voice", first=False) for number in range(40)]


@pytest.mark.parametrize(
    ("before", "said", "through"),
    [
        (STUN_REQUEST, VOICE, 31),  # the first is followed by thirty
        (b"hello", VOICE, 40),
        (STUN_REQUEST, [bytes([192 + n]) * 17 for n in range(40)], 40),
        (STUN_REQUEST, [bytes([128 + n]) * 17 for n in range(40)], 40),
        (STUN_REQUEST, [STUN_REQUEST] * 40, 40),
    ],
    ids=["a call", "no STUN", "random", "random that begins like RTP", "canaries"],
)
def test_only_a_flow_that_carries_a_call_is_cut(
    before: bytes, said: list[bytes], through: int
) -> None:
    carried = path(*preset("call_shape"))
    talk = Talk(carried, server_port=3478)
    talk.sends(OUT, before)
    alive = [passed(talk.sends(OUT, one, n / 10), OUT) for n, one in enumerate(said)]
    assert alive == [True] * through + [False] * (40 - through)
    assert passed(talk.sends(IN, STUN_REQUEST, 4.0), IN) is (through == 40), "and then all of it"
    assert passed(Talk(carried, port=2, server_port=3478).sends(OUT, STUN_REQUEST, 4.0), OUT)


def test_the_burst_rule_and_the_agents_own_manners() -> None:
    def start(apart: float) -> list[str]:
        carried = path(*preset("burst"))
        return [exchange(carried, BLOCKED, n * apart, port=n + 1) for n in range(6)]

    assert start(0.4) == ["ok"] * 3 + ["unheard"] * 3
    assert start(0.5) == ["ok"] * 6


def test_first_segment_freezes_about_half_of_the_flows() -> None:
    carried = path(*preset("first_segment", seed=5))
    fates = []
    for port in range(1, 201):
        talk = Talk(carried, port=port)
        talk.opens()
        assert passed(talk.says(OUT, b"first"), OUT)
        fates.append(passed(talk.says(OUT, b"second"), OUT))
    assert 70 < sum(fates) < 130


def test_twitter_is_policed_for_as_long_as_it_is_used() -> None:
    for said, share in ((BLOCKED, (0.05, 0.2)), (NEUTRAL, (1, 1))):
        talk = Talk(path(*preset("twitter", **NAMES)))
        talk.opens()
        talk.says(OUT, said)
        alive = [bool(talk.says(IN, bytes(1400), n / 100).arrivals) for n in range(3000)]
        assert share[0] <= sum(alive) / 3000 <= share[1]


def test_the_portal_and_the_mitm_take_connections_over() -> None:
    for name, port in (("portal", 80), ("mitm", 443)):
        carried = path(*preset(name))
        talk = Talk(carried, server_port=port)
        (there,) = arrivals(talk.opens(), OUT)
        assert there.destination == address(interceptor.ADDRESS)
        back = Talk(carried, server=interceptor.ADDRESS, server_port=port)
        (answer,) = arrivals(back.says(IN, b"x"), IN)
        assert answer.source == address(SERVER)
    assert exchange(path(*preset("portal")), NEUTRAL) == "silent"
    resolver = Talk(path(*preset("portal")), server=RESOLVER_V4, server_port=53)
    assert passed(resolver.sends(OUT, b"x"), OUT)


def test_interception_spares_the_providers_own_resolver() -> None:
    carried = path(*preset("dns_intercept"))
    (there,) = arrivals(Talk(carried, server="9.9.9.9", server_port=53).sends(OUT, b"x"), OUT)
    assert there.destination == address(RESOLVER_V4)
    own = Talk(carried, server=RESOLVER_V4, server_port=53)
    assert own.sends(OUT, b"x").word == "passed"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_complete(name: str) -> None:
    chosen = PRESETS[name]
    given = {key: FOR_ALL[key] for key in chosen.needs}
    rules = preset(name, hop=4, seed=9, **given)
    assert chosen.source
    assert {(rule.hop, rule.seed, rule.name) for rule in rules} == {(4, 9, name)}
    assert tuple(from_json(to_json(rule)) for rule in rules) == rules
    if chosen.needs:
        with pytest.raises(ValueError, match=f"{name} needs"):
            preset(name)
    talk = Talk(path(*rules))
    talk.opens()
    for said in (BLOCKED, b"x" * packets.QUOTE_V4):
        talk.says(OUT, said)
        talk.sends(OUT, said)
