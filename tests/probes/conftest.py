"""What the probes' tests share: an authority, surroundings that never leave loopback, programs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes.net import resolver
from probes.net.address import OwnAddresses
from probes.net.environment import Environment
from tests.probes.certificates import Authority, Certificate
from tests.probes.programs import need, running
from tests.probes.servers import closed_port


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("trusted") / "ca", "callpath test authority")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("foreign") / "ca", "somebody else")


@pytest.fixture(scope="session")
def good(authority: Authority) -> Certificate:
    return authority.issue("good")


@pytest.fixture
def env(authority: Authority) -> Environment:
    own = OwnAddresses(local=frozenset())
    return Environment(tls_ca_file=str(authority.root), own=own, system="127.0.0.1:9")


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks this host's resolvers or believes its hosts file."""
    monkeypatch.setattr(resolver, "_RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(resolver, "_HOSTS", tmp_path / "hosts")


@dataclass(frozen=True, slots=True)
class Relay:
    """A running coturn: ``port`` for UDP, DTLS and TCP, ``tls_port`` for TLS."""

    port: int
    tls_port: int
    realm: str


@pytest.fixture(scope="session")
def relay(good: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    home = tmp_path_factory.mktemp("coturn")
    port, tls_port = (closed_port(socket.SOCK_STREAM) for _ in range(2))
    command = [need("turnserver"), "-n", "--no-cli", "--lt-cred-mech", "--realm=relay.test"]
    command += ["-L", "127.0.0.1", "-p", str(port), f"--tls-listening-port={tls_port}"]
    command += ["--cert", str(good.chain), "--pkey", str(good.key), "--user=a:b"]
    command += ["--pidfile", str(home / "pid"), "--db", str(home / "db"), "--log-file=stdout"]
    with running(command, tls_port):
        yield Relay(port, tls_port, "relay.test")


@pytest.fixture(scope="session")
def unbound(good: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A running unbound: the value is its port for UDP and TCP, TLS is on the next one.

    It forwards nothing: every name that it does not know is refused without a packet.
    """
    port = closed_port(socket.SOCK_STREAM)
    config = tmp_path_factory.mktemp("unbound") / "unbound.conf"
    config.write_text(
        f"""
server:
    interface: 127.0.0.1@{port}
    interface: 127.0.0.1@{port + 1}
    tls-port: {port + 1}
    tls-service-pem: "{good.chain}"
    tls-service-key: "{good.key}"
    use-syslog: no
    do-daemonize: no
    chroot: ""
    username: ""
    pidfile: ""
    directory: "{config.parent}"
    module-config: "iterator"
    do-not-query-localhost: yes
    local-zone: "." refuse
    local-zone: "test." static
    local-data: "known.test. 300 A 198.51.100.7"
    local-data: "known.test. 300 A 198.51.100.8"
    local-data: "known.test. 300 AAAA 2001:db8::7"
    local-data: "text.test. 60 TXT hello"
    local-data: "private.test. 60 A 10.0.0.1"
remote-control:
    control-enable: no
"""
    )
    with running([need("unbound"), "-d", "-c", str(config)], port + 1):
        yield port
