"""The servers of the simulated internet, asked from the client's side."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import ssl
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.lab import names, servers, web
from tests.lab.catalogue import Target
from tests.lab.lab import Lab
from tests.lab.world import CLIENT_V4, RESOLVER_V4, LabError

pytestmark = pytest.mark.lab


class Fetched(NamedTuple):
    status: int
    body: str
    date: str


def ask_name(lab: Lab, name: str, kind: str = "A", resolver: str = RESOLVER_V4) -> list[str]:
    query = dns.message.make_query(name, kind)
    answer = lab.world.call(lambda: dns.query.udp(query, resolver, timeout=2))
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return ["NXDOMAIN"]
    return sorted(rdata.to_text() for rrset in answer.answer for rdata in rrset)


def test_both_resolvers_know_every_name(lab: Lab) -> None:
    for name, addresses in lab.catalogue.names.items():
        known = [address for address in addresses if ":" not in address]
        for resolver in (RESOLVER_V4, names.TRUSTED[0]):
            assert ask_name(lab, name, resolver=resolver) == sorted(known), name
    for name in lab.catalogue.texts:
        assert ask_name(lab, name, "TXT") == ['"lab"']
    assert ask_name(lab, "nobody.example") == ["NXDOMAIN"]


def post_h2(sock: ssl.SSLSocket, body: bytes) -> bytes:
    """The least of HTTP/2 (RFC 9113) that posts a DNS message: unbound speaks no HTTP/1.1."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (
            struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload
        )

    fields = {
        b":method": b"POST",
        b":scheme": b"https",
        b":authority": names.TRUSTED_NAME.encode(),
        b":path": b"/dns-query",
        b"content-type": b"application/dns-message",
        b"content-length": str(len(body)).encode(),
    }
    # RFC 7541 section 6.2.2: literal, not indexed, no Huffman code.
    headers = b"".join(
        b"\0" + bytes((len(key),)) + key + bytes((len(value),)) + value
        for key, value in fields.items()
    )
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    sock.sendall(preface + frame(1, 4, 1, headers) + frame(0, 1, 1, body))
    received = b""
    with sock.makefile("rb") as reader:
        while True:
            length, kind, flags, _ = struct.unpack("!xIBBI", b"\0" + b"\0" + reader.read(9))
            payload = reader.read(length)
            if kind == 0:
                received += payload
                if flags & 1:
                    return received


def test_the_trusted_resolver_speaks_every_transport(lab: Lab) -> None:
    name, addresses = next(iter(sorted(lab.catalogue.names.items())))
    query = dns.message.make_query(name, "A")
    context = ssl.create_default_context(cafile=lab.servers.ca_file)
    trusted = names.TRUSTED[0]

    def https() -> dns.message.Message:
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(
            socket.create_connection((trusted, 443), timeout=2),
            server_hostname=names.TRUSTED_NAME,
        ) as sock:
            return dns.message.from_wire(post_h2(sock, query.to_wire()))

    asked = {
        "tcp": lambda: dns.query.tcp(query, trusted, timeout=2),
        "tls": lambda: dns.query.tls(
            query, trusted, timeout=2, server_hostname=names.TRUSTED_NAME, ssl_context=context
        ),
        "https": https,
    }
    for transport, ask in asked.items():
        answer = lab.world.call(ask)
        given = [rdata.to_text() for rrset in answer.answer for rdata in rrset]
        assert set(given) <= set(addresses), transport
        assert given, transport


def test_a_lie_is_told_by_the_provider_only_and_ends(lab: Lab) -> None:
    name, addresses = next(iter(sorted(lab.catalogue.names.items())))
    truth = sorted(address for address in addresses if ":" not in address)
    lab.servers.lie(name, "127.0.0.1", "169.254.169.254")
    assert ask_name(lab, name) == ["127.0.0.1", "169.254.169.254"]
    assert ask_name(lab, name, resolver=names.TRUSTED[0]) == truth
    lab.servers.lie(name)
    assert ask_name(lab, name) in (["NXDOMAIN"], [])
    lab.servers.tell_the_truth()
    assert ask_name(lab, name) == truth


def fetch(lab: Lab, host: web.Host, address: str, method: str, path: str) -> Fetched:
    """One request at one address; over TLS the lab's authority and the name are checked."""
    sock = lab.world.call(lambda: socket.create_connection((address, host.port), timeout=3))
    if host.secure:
        context = ssl.create_default_context(cafile=lab.servers.ca_file)
        sock = context.wrap_socket(sock, server_hostname=host.name)
    with contextlib.closing(http.client.HTTPConnection(host.name, host.port)) as connection:
        connection.sock = sock
        connection.request(method, path, body=b"" if method == "POST" else None)
        response = connection.getresponse()
        return Fetched(response.status, response.read().decode(), response.getheader("Date") or "")


def test_every_web_host_answers_as_its_file_expects(lab: Lab) -> None:
    asked = 0
    for host in lab.servers.hosts:
        for address in host.addresses:
            if ":" in address:
                continue
            for path, (status, body) in (host.answers or {"/": (200, "")}).items():
                fetched = fetch(lab, host, address, "GET", path)
                assert fetched.status == status, (host.name, path)
                assert body in fetched.body
                assert fetched.date
                asked += 1
    assert asked


def test_a_telegram_data_centre_does_not_implement_posts(lab: Lab) -> None:
    plain = [
        host
        for host in lab.servers.hosts
        if host.owner == "telegram" and not host.secure and host.port in (80, 443)
    ]
    assert plain
    for host in plain:
        for address in host.addresses:
            if ":" not in address:
                for path in host.answers:
                    assert fetch(lab, host, address, "POST", path).status == 501


def test_a_wrong_name_gets_a_certificate_that_does_not_fit(lab: Lab) -> None:
    host = next(h for h in lab.servers.hosts if h.secure and h.owner == "telegram")
    address = next(address for address in host.addresses if ":" not in address)
    sock = lab.world.call(lambda: socket.create_connection((address, host.port), timeout=3))
    context = ssl.create_default_context(cafile=lab.servers.ca_file)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        context.wrap_socket(sock, server_hostname="neutral.example")
    assert caught.value.verify_code == 62  # X509_V_ERR_HOSTNAME_MISMATCH


def test_every_tcp_target_accepts(lab: Lab) -> None:
    targets = lab.catalogue.select(probe="tcp")
    assert targets
    for target in targets:
        for address in target.addresses:
            if ":" not in address:
                lab.world.call(
                    lambda a=address, p=target.port: socket.create_connection((a, p), timeout=2)
                ).close()


def relay_targets(lab: Lab, probe: str, **fields: str) -> list[tuple[Target, str]]:
    return [
        (target, address)
        for target in lab.catalogue.select(probe=probe)
        if all(target.fields.get(key, "udp") == value for key, value in fields.items())
        for address in target.addresses
        if ":" not in address
    ]


def test_every_stun_target_answers_a_binding(lab: Lab) -> None:
    asked = relay_targets(lab, "stun", transport="udp")
    assert asked
    for target, address in asked:
        assert lab.world.call(servers.binds, (address, target.port)), target.name


def test_every_turn_target_asks_for_credentials_in_its_realm(lab: Lab) -> None:
    asked = relay_targets(lab, "turn", transport="udp")
    assert asked
    for target, address in asked:
        identity = secrets.token_bytes(12)
        attribute = bytes.fromhex("0019000411000000")  # REQUESTED-TRANSPORT: UDP
        with lab.world.client_socket() as sock:
            sock.settimeout(2)
            sock.connect((address, target.port))
            sock.send(struct.pack("!HHI", 3, 8, 0x2112A442) + identity + attribute)
            answer = sock.recv(2048)
        assert answer[:2] == b"\x01\x13"
        assert answer[8:20] == identity
        assert b"\x00\x00\x04\x01" in answer  # ERROR-CODE 401
        assert target.fields.get("realm", "").encode() in answer


def test_every_reflector_answers_its_ping(lab: Lab) -> None:
    asked = relay_targets(lab, "reflector")
    assert asked
    for target, address in asked:
        assert lab.world.call(servers.pings, (address, target.port)), target.name


def test_every_dtls_target_shakes_hands(lab: Lab) -> None:
    asked = relay_targets(lab, "dtls")
    assert asked
    for target, address in asked[:3]:
        command = ["openssl", "s_client", "-dtls1_2", "-connect", f"{address}:{target.port}"]
        process = lab.world.client(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        output = process.communicate(timeout=10)[0]
        lab.world.stop(process)
        assert b"BEGIN CERTIFICATE" in output, target.name


def test_a_mapped_address_is_the_subscribers(lab: Lab) -> None:
    """So a leak test knows what to look for."""
    target, address = relay_targets(lab, "stun", transport="udp")[0]
    with lab.world.client_socket() as sock:
        sock.settimeout(2)
        sock.connect((address, target.port))
        sock.send(servers.BINDING_REQUEST + secrets.token_bytes(12))
        answer = sock.recv(2048)
    mapped = answer[answer.index(b"\x00\x20\x00\x08") + 8 :][:4]
    cookie = servers.BINDING_REQUEST[4:8]
    assert socket.inet_ntoa(bytes(a ^ b for a, b in zip(mapped, cookie, strict=True))) == CLIENT_V4


def test_a_rule_for_one_messengers_calls_spares_the_other(lab: Lab) -> None:
    lab.world.rules.add("drop", **lab.call_relays("telegram"))
    telegram = lab.catalogue.select(messenger="telegram", probe="stun", transport="udp")[0]
    whatsapp = lab.catalogue.select(messenger="whatsapp", probe="stun", transport="udp")[0]
    with pytest.raises(TimeoutError):
        lab.world.call(servers.binds, (telegram.addresses[0], telegram.port))
    assert lab.world.call(servers.binds, (whatsapp.addresses[0], whatsapp.port))


def test_a_server_that_dies_is_reported_with_its_log(lab: Lab) -> None:
    lab.servers.processes["crashed"] = lab.world.server(["false"])
    lab.servers.processes["crashed"].wait()
    (lab.servers.directory / "crashed.log").write_text("why it crashed")
    with pytest.raises(LabError, match="why it crashed"):
        lab.servers._wait("crashed", lambda: False)
    del lab.servers.processes["crashed"]


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("mtproto", "telegram/dc1-mtproto"),
        ("mtproto", "telegram/dc2-mtproto-intermediate"),
        ("mtproto", "telegram/dc4-mtproto-padded"),
        ("mtproto", "telegram/venus-mtproto"),
        ("noise", "whatsapp/e1-noise-5222"),
        ("noise", "whatsapp/g-noise-80"),
        ("noise", "whatsapp/web-noise"),
    ],
)
def test_first_words_are_answered(lab: Lab, tmp_path: Path, kind: str, target: str) -> None:
    """By the shipped catalogue, in which the lab's root stands instead of the operator's."""
    file = lab.configuration(tmp_path)
    command = ["probe", kind, target, "--json", "--config", str(file)]
    process = lab.agent(command, stdout=subprocess.PIPE, text=True)
    seen = json.loads(process.communicate(timeout=30)[0])["observations"]
    assert [o["failure"] for o in seen] == [None] * len(seen)
    assert {o["facts"]["address"] for o in seen} <= lab.catalogue.addresses()
    assert seen
