"""The censor in the router, between real stacks and real servers: what a client really sees."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import dns.message
import dns.query
import pytest
from cryptography import x509

from tests.lab import interceptor, names, servers, web
from tests.lab.actions import (
    BlockPage,
    Delay,
    Drop,
    Duplicate,
    InjectReset,
    Police,
    Reorder,
    RewriteToReset,
    Shape,
)
from tests.lab.censor import Censor, match
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.presets import preset
from tests.lab.talk import client_hello
from tests.lab.world import RESOLVER_V4

pytestmark = pytest.mark.lab

WAIT = 1.0  # far above the round trip, short enough for what stays silent
PLACE = ("91.108.9.121", 8443)  # nothing of the catalogue's
NAME = "web.whatsapp.net"
HELLO, NEUTRAL = client_hello(NAME), client_hello("example.org")
BLOCKED = match(sni=NAME)

BYTES_ACKED, TOTAL_RETRANS = 120, 100  # offsets in struct tcp_info, <linux/tcp.h>


class Peers:
    """A client and a server with a TCP connection between them, both ends in the test's hands."""

    def __init__(self, lab: Lab, place: tuple[str, int] = PLACE) -> None:
        lab.world.place([place[0]])
        started = time.perf_counter()
        with lab.world.call_server(socket.create_server, place) as listener:
            self.client = lab.world.call(socket.create_connection, place, WAIT)
            self.round_trip = time.perf_counter() - started
            listener.settimeout(WAIT)
            self.server, _ = listener.accept()
        self.server.settimeout(WAIT)

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


def info(sock: socket.socket, offset: int, form: str) -> int:
    data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from(form, data, offset)[0])


def timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def reads_reset(sock: socket.socket) -> float:
    """How long it takes until a read says that the connection was reset."""

    def read() -> None:
        with pytest.raises(ConnectionResetError):
            sock.recv(4096)

    return timed(read)


def reads_on(sock: socket.socket) -> tuple[bytes, str]:
    """Everything that comes, and how it ends."""
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except TimeoutError:
        return received, "silent"
    except ConnectionResetError:
        return received, "reset"
    return received, "closed"


def impose(lab: Lab, *rules: Censor) -> None:
    for rule in rules:
        lab.world.rules.add(rule)


# Teardown


@pytest.mark.parametrize("hello", [HELLO, client_hello(NAME, long=True)])
def test_an_injected_reset_is_quicker_than_any_answer(lab: Lab, hello: bytes) -> None:
    lab.world.rules.line(Line(delay=0.080))
    impose(lab, Censor(BLOCKED, InjectReset(both=True, count=3, ttl=200)))
    with Peers(lab) as peers:
        peers.client.sendall(hello)
        assert reads_reset(peers.client) < 0.8 * peers.round_trip
        assert reads_on(peers.server)[1] == "reset"
    with Peers(lab) as peers:
        peers.client.sendall(NEUTRAL)
        assert peers.server.recv(65536) == NEUTRAL


def test_a_rewritten_answer_takes_a_round_trip(lab: Lab) -> None:
    lab.world.rules.line(Line(delay=0.080))
    impose(lab, Censor(BLOCKED, RewriteToReset(), residual="4-tuple", seconds=75, hop=3))
    with Peers(lab) as peers:
        peers.client.sendall(HELLO)
        assert reads_reset(peers.client) > 0.8 * peers.round_trip
        assert peers.server.recv(65536) == HELLO  # nothing was done to what the client said


def secure_host(lab: Lab) -> tuple[web.Host, str]:
    host = next(h for h in lab.servers.hosts if h.secure and h.name.endswith("whatsapp.net"))
    return host, min(a for a in host.addresses if ":" not in a)


def shake_hands(lab: Lab, address: str, port: int, name: str) -> ssl.SSLSocket:
    sock = lab.world.call(socket.create_connection, (address, port), WAIT)
    context = ssl.create_default_context(cafile=lab.servers.ca_file)
    context.check_hostname = False  # a neutral name gets the server's own certificate
    try:
        return context.wrap_socket(sock, server_hostname=name)
    except OSError:
        sock.close()
        raise


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("sni_rewrite", ConnectionResetError),
        ("sni_reset", ConnectionResetError),
        ("sni_drop", TimeoutError),
    ],
)
def test_a_name_at_a_real_server_fails_and_a_neutral_one_does_not(
    lab: Lab, kind: str, error: type[OSError]
) -> None:
    host, address = secure_host(lab)
    impose(lab, *preset(kind, sni=host.name, hop=3))
    with pytest.raises(error):
        shake_hands(lab, address, host.port, host.name)
    shake_hands(lab, address, host.port, "example.org").close()


# Silence


def test_a_swallowed_hello_is_never_acknowledged_and_a_delayed_drop_acknowledges(lab: Lab) -> None:
    for action, acked in ((Drop(), 1), (Drop(after_packets=4), 1 + len(HELLO))):
        lab.world.rules.clear()
        impose(lab, Censor(BLOCKED, action, residual="4-tuple", seconds=420))
        with Peers(lab) as peers:
            peers.client.sendall(HELLO)
            with contextlib.suppress(TimeoutError):
                for _ in range(20):
                    peers.server.recv(65536)
                    peers.server.sendall(b"answer")
            assert reads_on(peers.client)[1] == "silent"
            assert info(peers.client, BYTES_ACKED, "=Q") == acked


def transfer(peers: Peers, size: int) -> int:
    """Send from the server until all has arrived or nothing more does; what arrived."""

    def send() -> None:
        with contextlib.suppress(OSError):
            peers.server.sendall(bytes(size))

    peers.server.settimeout(None)  # it would be for all of the data together
    sender = threading.Thread(target=send)
    sender.start()
    received = 0
    with contextlib.suppress(TimeoutError):
        while received < size and (data := peers.client.recv(65536)):
            received += len(data)
    with contextlib.suppress(OSError):
        peers.server.shutdown(socket.SHUT_RDWR)  # wakes a sender that waits for a frozen client
    sender.join()
    return received


def test_a_freeze_comes_after_so_many_bytes_on_every_connection(lab: Lab) -> None:
    impose(lab, *preset("freeze_bytes"))
    for _ in range(2):
        with Peers(lab) as peers:
            assert 10_000 < transfer(peers, 100_000) < 16_384


def test_a_burst_of_handshakes_freezes_hellos_and_not_connections(lab: Lab) -> None:
    impose(lab, *preset("burst"))
    host, address = secure_host(lab)
    for _ in range(3):
        shake_hands(lab, address, host.port, host.name).close()
    with pytest.raises(TimeoutError):
        shake_hands(lab, address, host.port, host.name)
    lab.world.call(socket.create_connection, (address, host.port), WAIT).close()


def test_a_stun_cookie_kills_real_relays_and_spares_other_datagrams(lab: Lab) -> None:
    target = lab.catalogue.select(messenger="telegram", probe="stun", transport="udp")[0]
    place = (target.addresses[0], target.port)
    impose(lab, *preset("stun"))
    with pytest.raises(TimeoutError):
        lab.world.call(servers.binds, place)
    lab.world.rules.clear()
    assert lab.world.call(servers.binds, place)


# Lies


def ask_twice(lab: Lab, name: str, resolver: str) -> list[str]:
    """Every answer to one query, in the order in which they come."""
    query = dns.message.make_query(name, "A")
    answers = []
    with lab.world.client_socket() as sock:
        sock.settimeout(WAIT / 2)
        sock.connect((resolver, 53))
        sock.send(query.to_wire())
        with contextlib.suppress(TimeoutError):
            while True:
                answer = dns.message.from_wire(sock.recv(4096))
                assert query.is_response(answer)
                found = [rdata.to_text() for rrset in answer.answer for rdata in rrset]
                answers.append(found[0] if found else dns.rcode.to_text(answer.rcode()))
    return answers


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("dns_nxdomain", ["NXDOMAIN"]),
        ("dns_forge", ["10.10.34.34"]),
        ("dns_inject", ["10.10.34.34", "the truth"]),
    ],
)
def test_forged_answers_come_instead_of_the_true_one_or_before_it(
    lab: Lab, kind: str, expected: list[str]
) -> None:
    name = next(n for n in sorted(lab.catalogue.names) if lab.catalogue.names[n])
    truth = ask_twice(lab, name, names.TRUSTED[0])
    impose(lab, *preset(kind, dns=name))
    for resolver in (names.TRUSTED[0], "8.8.4.4"):  # where no resolver is, a forger answers too
        wanted = [truth[0] if answer == "the truth" else answer for answer in expected]
        if resolver == "8.8.4.4":
            wanted = wanted[:1]
        assert ask_twice(lab, name, resolver) == wanted


def test_interception_answers_in_another_resolvers_name_over_udp_only(lab: Lab) -> None:
    name = next(n for n in sorted(lab.catalogue.names) if lab.catalogue.names[n])
    truth = ask_twice(lab, name, names.TRUSTED[0])
    lab.servers.lie(name, "185.1.2.3")
    impose(lab, *preset("dns_intercept"))
    assert ask_twice(lab, name, names.TRUSTED[0]) == ["185.1.2.3"]
    query = dns.message.make_query(name, "A")
    answer = lab.world.call(lambda: dns.query.tcp(query, names.TRUSTED[0], timeout=2))
    assert [rdata.to_text() for rrset in answer.answer for rdata in rrset] == truth
    assert ask_twice(lab, name, RESOLVER_V4) == ["185.1.2.3"]


def get(lab: Lab, address: str, port: int, name: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(name, port, timeout=WAIT)
    connection.sock = lab.world.call(socket.create_connection, (address, port), WAIT)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers={"Host": name})
        response = connection.getresponse()
        response.read()
        return response


@pytest.fixture
def plain_host(lab: Lab) -> tuple[str, int]:
    host = next(h for h in lab.servers.hosts if not h.secure)
    return min(a for a in host.addresses if ":" not in a), host.port


@pytest.mark.parametrize("genuine", [False, True])
def test_a_block_page_comes_in_the_servers_name(
    lab: Lab, plain_host: tuple[str, int], genuine: bool
) -> None:
    page = BlockPage(location="http://blocked.example/", genuine=genuine)
    impose(lab, Censor(match(host="forbidden.example"), page, residual="4-tuple", seconds=60))
    response = get(lab, *plain_host, "forbidden.example")
    assert (response.status, response.getheader("Location")) == (302, "http://blocked.example/")
    assert get(lab, *plain_host, "allowed.example").getheader("Server", "").startswith("nginx")


def test_a_portal_takes_every_page_and_nothing_else_passes(
    lab: Lab, plain_host: tuple[str, int]
) -> None:
    lab.servers.intercept()
    impose(lab, *preset("portal"))
    response = get(lab, plain_host[0], 80, "example.org")
    assert response.getheader("Location") == interceptor.PORTAL
    host, address = secure_host(lab)
    with pytest.raises(TimeoutError):
        shake_hands(lab, address, host.port, host.name)


def test_a_man_in_the_middle_shows_another_authority(lab: Lab) -> None:
    lab.servers.intercept()
    host, address = secure_host(lab)
    impose(lab, *preset("mitm"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(lab, address, host.port, host.name)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = lab.world.call(socket.create_connection, (address, host.port), WAIT)
    with context.wrap_socket(sock, server_hostname=host.name) as tls:
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    assert interceptor.AUTHORITY in certificate.issuer.rfc4514_string()
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.value.get_values_for_type(x509.DNSName) == [host.name]
    lab.world.rules.clear()
    shake_hands(lab, address, host.port, host.name).close()


# Quality


def test_policing_and_shaping_slow_down_and_only_policing_loses(lab: Lab) -> None:
    size, rate = 150_000, 100_000.0
    spent, resent = {}, {}
    for kind, action in (
        ("free", None),
        ("policed", Police(rate, burst=16_384)),
        ("shaped", Shape(rate, depth=2.0 * size)),
    ):
        lab.world.rules.clear()
        if action:
            impose(lab, Censor(BLOCKED, action, residual="4-tuple", seconds=600, restart=True))
        with Peers(lab) as peers:
            peers.client.sendall(HELLO)
            peers.server.recv(65536)
            peers.client.settimeout(10)
            received: list[int] = []
            spent[kind] = timed(lambda p=peers, r=received: r.append(transfer(p, size)))
            assert received == [size]
            resent[kind] = info(peers.server, TOTAL_RETRANS, "=I")
    assert spent["policed"] > 3 * spent["free"]
    assert spent["shaped"] > 3 * spent["free"]
    assert resent["free"] == resent["shaped"] == 0 < resent["policed"]


def datagrams(lab: Lab, action: Any, count: int) -> list[int]:
    """The numbers of what arrives, in its order, of so many sent two milliseconds apart."""
    place = (PLACE[0], 3478)
    lab.world.place([place[0]])
    impose(lab, Censor(match(remote=f"{place[0]}/32", protocol="udp"), action))

    def bind() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(place)
        sock.settimeout(0.5)
        return sock

    arrived = []
    with lab.world.call_server(bind) as server, lab.world.client_socket() as client:
        for number in range(count):
            client.sendto(number.to_bytes(2, "big"), place)
            time.sleep(0.002)  # one after the other, so that their order is the line's doing
        with contextlib.suppress(TimeoutError):
            while True:
                arrived.append(int.from_bytes(server.recv(16), "big"))
    return arrived


def test_duplicates_and_reordering_reach_the_server(lab: Lab) -> None:
    doubled = datagrams(lab, Duplicate(0.5), 60)
    assert set(doubled) == set(range(60))
    assert 70 < len(doubled) < 110
    lab.world.rules.clear()
    mixed = datagrams(lab, Reorder(0.2, seconds=0.05), 60)
    assert sorted(mixed) == list(range(60)) != mixed


def test_a_delay_adds_to_the_round_trip(lab: Lab) -> None:
    with Peers(lab) as before:
        impose(lab, Censor(match(protocol="tcp"), Delay(0.05)))
        with Peers(lab) as after:
            assert after.round_trip > 3 * before.round_trip


def test_a_censor_forgets_what_it_did_when_it_is_removed(lab: Lab) -> None:
    number = lab.world.rules.add(Censor(BLOCKED, Drop(), residual="2-tuple"))
    with Peers(lab) as peers:
        peers.client.sendall(HELLO)
        with pytest.raises(TimeoutError):
            peers.server.recv(64)
        assert lab.world.rules.taken(number) >= 1
    with pytest.raises(TimeoutError):
        Peers(lab)
    lab.world.rules.remove(number)
    with Peers(lab):
        pass
