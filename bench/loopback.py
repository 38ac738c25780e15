"""Servers on loopback that both tools are measured against, and a configuration that asks them.

Everything lives in a network namespace of its own, in which there is nothing but loopback.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.world import program, wait_until

NAME = "bench.example"
HTTPS_ADDRESS = "127.1.0.1"
HTTPS_PORTS = 600
TCP, TLS, DNS, STUN = 8080, 8443, 5300, 3478
PORTS = {"tcp": TCP, "tls": TLS, "dns": DNS}
PER_GROUP = 8
"""Targets per messenger, channel and kind: larger groups rotate (agent.plan.PER_ROUND)."""
CHANNELS = ("chat", "call", "media", "web")


def alone() -> None:
    """Run again in a network namespace of its own with nothing but loopback. Needs root."""
    if os.environ.get("CALLPATH_BENCH_ALONE"):
        return
    os.environ["CALLPATH_BENCH_ALONE"] = "1"
    inner = 'ip link set lo up; exec "$0" -m bench "$@"'
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", inner, sys.executable, *sys.argv[1:]])


@contextmanager
def servers(folder: Path) -> Iterator[None]:
    """nginx (TCP; TLS 1.3 with an ECDSA certificate and no resumption), unbound, STUN."""
    with ExitStack() as stack:
        certificate(folder)
        for command in (_nginx(folder), _unbound(folder), [sys.executable, "-m", "bench.stun"]):
            with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        wait_until(_listening, "the servers", 20)
        yield


def certificate(folder: Path) -> None:
    """An authority, and a server certificate of it for NAME; ECDSA, P-256."""
    today = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in ("bench", NAME)]
    made = []
    for index, (key, name) in enumerate(zip(keys, names, strict=True)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=index == 0, path_length=None), critical=True)
        )
        if index:
            at = x509.IPAddress(ipaddress.ip_address(HTTPS_ADDRESS))
            also = x509.SubjectAlternativeName([x509.DNSName(NAME), at])
            builder = builder.add_extension(also, critical=False)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(made[0].public_bytes(pem))
    (folder / "server.pem").write_bytes(made[1].public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(keys[1].private_bytes(pem, form, plain))


def _nginx(folder: Path) -> list[str]:
    more = "".join(f"listen {TLS + 1 + n} ssl;" for n in range(HTTPS_PORTS))
    file = folder / "nginx.conf"
    file.write_text(f"""
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {TCP} backlog=4096; return 204; }}
  server {{
    listen {TLS} ssl backlog=4096; {more} server_name {NAME};
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.3; ssl_session_tickets off; ssl_session_cache off;
    return 200 "ok";
  }}
}}
""")
    return [program("nginx"), "-c", str(file), "-e", "stderr", "-p", str(folder)]


def _unbound(folder: Path) -> list[str]:
    file = folder / "unbound.conf"
    file.write_text(f"""
server:
  port: {DNS}
  interface-automatic: yes
  access-control: 127.0.0.0/8 allow
  do-daemonize: no
  chroot: ""
  username: ""
  pidfile: "{folder}/unbound.pid"
  use-syslog: no
  num-threads: 1
  local-zone: "{NAME}." static
  local-data: "{NAME}. 60 IN A 192.0.2.1"
remote-control:
  control-enable: no
""")
    return [program("unbound"), "-c", str(file)]


def _listening() -> bool:
    listing = subprocess.run(["ss", "-Hlntu"], capture_output=True, text=True, check=True).stdout
    return all(re.search(rf":{port}\s", listing) for port in (TCP, TLS, DNS, STUN))


def address(index: int) -> str:
    """A loopback address of its own for each target: the same question is asked once per round."""
    return str(ipaddress.ip_address("127.1.0.1") + index)


def target(kind: str, index: int) -> dict[str, Any]:
    """One target of a messenger file, at an address of its own."""
    at = address(index)
    base = {"name": f"{kind}-{index}", "probe": kind, "proof": "documented"}
    match kind:
        case "tcp":
            return {**base, "host": at, "port": TCP}
        case "stun":
            return {**base, "host": at, "port": STUN}
        case "dns":
            return {**base, "query": NAME, "resolver": f"{at}:{DNS}"}
        case "tls":
            return {**base, "host": at, "port": TLS, "server_name": NAME}
        case "https":
            # By address and at a port of its own: no name is looked up, as for the others.
            return {**base, "url": f"https://{HTTPS_ADDRESS}:{TLS + 1 + index}/"}
    raise ValueError(kind)


def blackbox_target(kind: str, index: int) -> str:
    """The same target as blackbox_exporter is asked for it."""
    if kind == "https":
        return f"https://{HTTPS_ADDRESS}:{TLS + 1 + index}/"
    return f"{address(index)}:{PORTS[kind]}"


@dataclass(frozen=True, slots=True)
class Load:
    """What an agent is asked to do: how many targets of which kinds, every ``interval`` seconds."""

    kinds: Sequence[str]
    targets: int
    interval: float

    @property
    def a_minute(self) -> float:
        return self.targets * 60 / (self.interval * 1.1)  # a round is late by 5 % of jitter x 2


def configuration(folder: Path, load: Load) -> Path:
    """``callpath.yaml`` with its messenger and controls files for a load."""
    files = folder / "messengers"
    files.mkdir()
    size = PER_GROUP * len(CHANNELS) * len(load.kinds)
    names = []
    for start in range(0, load.targets, size):
        rows = []
        for index in range(start, min(start + size, load.targets)):
            kind = load.kinds[index % len(load.kinds)]
            channel = CHANNELS[index // len(load.kinds) % len(CHANNELS)]
            rows.append({**target(kind, index), "channel": channel})
        names.append(f"bench-{start // size}")
        head = {"messenger": names[-1], "title": "Bench"}
        _write(files / f"{names[-1]}.yaml", {**head, "targets": rows})
    controls = [
        {"role": "domestic", **_control("https", 0)},
        *({"role": "foreign", **_control("https", n)} for n in (1, 2)),
        *({"role": "stun", **_control("stun", n)} for n in (3, 4)),
    ]
    _write(folder / "controls.yaml", {"messenger": "control", "targets": controls})
    pace = f"{round(load.interval * 1000)}ms"
    local = {
        "name": "local",
        "address": address(1),
        "tls_name": NAME,
        "transports": ["udp"],
        "ports": {"udp": DNS},
    }
    settings = {
        "vantage": {"name": "bench"},
        "messengers": names,
        "messenger_dirs": [str(files)],
        "controls": str(folder / "controls.yaml"),
        "resolvers": {"system": f"{address(1)}:{DNS}", "trusted": [local]},
        "tls_ca_file": str(folder / "ca.pem"),
        "schedule": {"interval": pace, "handshake_interval": pace},
        "state": {"spacing": pace},
        "limits": {
            "min_interval": pace,
            "fast_prefixes": ["127.0.0.0/8"],
            "bytes_per_day": "1000GiB",
            "concurrency": 512,
        },
        "state_dir": str(folder / "state"),
    }
    _write(folder / "callpath.yaml", settings)
    return folder / "callpath.yaml"


def _control(kind: str, number: int) -> dict[str, Any]:
    row = target(kind, HTTPS_PORTS - 10 + number)
    return {**row, "owner": f"operator-{number}", "asn": 64512 + number}


def _write(file: Path, content: dict[str, Any]) -> None:
    sources = {"sources": [{"url": "https://bench.example/", "read": "2026-11-20"}]}
    given = {**sources, **content} if "targets" in content else content
    file.write_text(yaml.safe_dump(given, sort_keys=False))
