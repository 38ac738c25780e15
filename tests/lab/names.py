"""unbound as the provider's resolver and as the trusted one, with the lab's whole DNS inside.

Each is a process of its own, since only the provider's ever lies. Neither forwards or recurses: a
name that the lab does not have is NXDOMAIN at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.certificates import Pair

TRUSTED_NAME = "dns.quad9.net"
TRUSTED = ("9.9.9.9", "2620:fe::fe")

PORTS = {"udp": 53, "tls": 853, "https": 443}

_SERVER = """\
server:
    do-daemonize: no
    use-syslog: no
    logfile: ""
    verbosity: 1
    chroot: ""
    username: ""
    pidfile: ""
    directory: "{directory}"
    num-threads: 1
    msg-cache-size: 1m
    rrset-cache-size: 1m
    module-config: "iterator"
    root-hints: ""
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    do-not-query-localhost: no
    local-zone: "." static
"""

_CONTROL = """\
remote-control:
    control-enable: yes
    control-use-cert: no
    control-interface: "{socket}"
"""


@dataclass(frozen=True, slots=True)
class Resolver:
    """One unbound: ``addresses`` for UDP and TCP, and with ``pair`` also for TLS and HTTPS."""

    name: str
    addresses: tuple[str, ...]
    pair: Pair | None = None

    def configuration(
        self, names: Mapping[str, Sequence[str]], texts: Iterable[str], directory: Path
    ) -> str:
        lines = [f'interface: "{address}@53"' for address in self.addresses]
        if self.pair:
            lines += [f'interface: "{a}@{PORTS["tls"]}"' for a in self.addresses]
            lines += [f'interface: "{a}@{PORTS["https"]}"' for a in self.addresses]
            lines.append(f'tls-service-pem: "{self.pair.chain}"')
            lines.append(f'tls-service-key: "{self.pair.key}"')
            lines.append(f"tls-port: {PORTS['tls']}")
            lines.append(f"https-port: {PORTS['https']}")
            lines.append('http-endpoint: "/dns-query"')
        for name, addresses in sorted(names.items()):
            lines += [f'local-data: "{record(name, address)}"' for address in addresses]
        lines += [f"local-data: '{name}. 60 IN TXT \"lab\"'" for name in texts]
        server = _SERVER.format(directory=directory) + "".join(f"    {line}\n" for line in lines)
        return server + _CONTROL.format(socket=self.control(directory))

    def control(self, directory: Path) -> Path:
        return directory / f"{self.name}.sock"


def record(name: str, address: str) -> str:
    """A resource record in the form of ``local-data`` and of unbound-control(8)."""
    return f"{name}. 60 IN {'AAAA' if ':' in address else 'A'} {address}"
