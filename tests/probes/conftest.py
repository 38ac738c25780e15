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
def no_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test asks this host's resolvers or believes its hosts file."""
    monkeypatch.setattr(resolver, "_RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(resolver, "_HOSTS", tmp_path / "hosts")
    yield


@dataclass(frozen=True, slots=True)
class Relay:
    """A running coturn: ``port`` for UDP, TCP and TLS alike, as it tells them apart itself."""

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
