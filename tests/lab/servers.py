"""Starts the real programs that stand at the catalogue's names and addresses."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import dns.message
import dns.query
import dns.rcode

from probes.wire import quic, reflector
from tests.lab import greeters, interceptor, names, peertags, quicserver, relays, voices, web
from tests.lab.catalogue import Catalogue
from tests.lab.certificates import Authority
from tests.lab.names import Resolver
from tests.lab.noise import Vault
from tests.lab.web import Place
from tests.lab.world import RESOLVER_V4, RESOLVER_V6, ROOT, LabError, World, program, wait_until

BINDING_REQUEST = bytes.fromhex("000100002112a442")


class Servers:
    """All servers of a catalogue in one world. ``ca_file`` is the agent's ``tls_ca_file``,
    ``vault`` has the root from which the chat hosts' chains come."""

    def __init__(self, world: World, catalogue: Catalogue) -> None:
        self.world, self.catalogue = world, catalogue
        self.directory = world.directory / "servers"
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.ca_file = self.authority.root
        self.vault = Vault()
        self.processes: dict[str, subprocess.Popen[Any]] = {}
        self._lies: set[str] = set()

    def start(self) -> None:
        """All at once, then wait for all: the slowest decides how long it takes."""
        self.world.place((*self.catalogue.addresses(), *names.TRUSTED))
        self.resolvers = self._resolvers()
        self.operators = relays.operators(self.catalogue.targets, ipv6=self.world.ipv6)
        self.hosts = web.hosts(self.catalogue.targets)
        self.greeting = greeters.places(self.catalogue.targets)
        waits = [*self._start_resolvers(), *self._start_relays()]
        waits += [*self._start_greeters(), *self._start_web()]
        waits += self._start_sink() + self._start_reflectors() + self._start_quic()
        waits += self._start_voices()
        for name, happened in waits:
            self._wait(name, happened)

    def lie(self, name: str, *addresses: str) -> None:
        """From now on the provider's resolver gives these addresses for a name; none: NXDOMAIN."""
        self._set(name, addresses)
        self._lies.add(name)

    def tell_the_truth(self) -> None:
        for name in self._lies:
            self._set(name, self.catalogue.names.get(name, ()))
        self._lies.clear()

    def intercept(self) -> str:
        """Start what a censor redirects to, see ``interceptor``; returns its address."""
        address = interceptor.ADDRESS
        if "interceptor" not in self.processes:
            self.world.place([address])
            keys = self.directory / "interceptor"
            keys.mkdir()
            ports = (interceptor.TLS_PORT, interceptor.HTTP_PORT)
            command = [sys.executable, interceptor.__file__, address, *map(str, ports), str(keys)]
            self._run("interceptor", command)
            for port in ports:
                self._wait("interceptor", partial(connects, (address, port)))
        return address

    def _set(self, name: str, addresses: Sequence[str]) -> None:
        self._control("local_data_remove", name)
        for address in addresses:
            self._control("local_data", *names.record(name, address).split())

    def _control(self, *words: str) -> None:
        file = self.directory / f"{self.resolvers[0].name}.conf"
        command = (program("unbound-control"), "-c", str(file), *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"unbound-control {' '.join(words)}: {done.stdout}{done.stderr}")

    # Which servers, with which configuration

    def _resolvers(self) -> list[Resolver]:
        own = self._families((RESOLVER_V4, RESOLVER_V6))
        asked = [t.host for t in self.catalogue.select(probe="dns") if t.host]
        trusted = self._families(dict.fromkeys((*names.TRUSTED, *asked)))
        pair = self.authority.issue("trusted", (names.TRUSTED_NAME, *trusted))
        return [
            Resolver("provider", own),
            Resolver("trusted", tuple(a for a in trusted if a not in own), pair),
        ]

    def _families(self, addresses: Any) -> tuple[str, ...]:
        return tuple(a for a in addresses if self.world.ipv6 or ":" not in a)

    def _start_resolvers(self) -> list[Wait]:
        known = {names.TRUSTED_NAME: names.TRUSTED, **self.catalogue.names}
        waits: list[Wait] = []
        for resolver in self.resolvers:
            file = self.directory / f"{resolver.name}.conf"
            file.write_text(
                resolver.configuration(known, self.catalogue.texts, self.directory),
                encoding="utf-8",
            )
            self._run(resolver.name, [program("unbound"), "-d", "-c", str(file)])
            for address in resolver.addresses:
                waits.append((resolver.name, partial(resolves, address)))
                if resolver.pair:
                    waits += [
                        (resolver.name, partial(connects, (address, port)))
                        for port in (names.PORTS["tls"], names.PORTS["https"])
                    ]
        return waits

    def _start_relays(self) -> list[Wait]:
        waits: list[Wait] = []
        for operator in self.operators:
            pair = self.authority.issue(operator.slug, operator.names)
            command = operator.command(program("turnserver"), pair, self.directory)
            self._run(operator.slug, command)
            waits += [(operator.slug, partial(binds, place)) for place in operator.places]
        return waits

    def _start_greeters(self) -> list[Wait]:
        spoken = {p: k for p, k in self.greeting.items() if self.world.ipv6 or ":" not in p[0]}
        doors = {door for host in self.hosts for door in host.doors}
        if not spoken and not doors:
            return []
        file = self.directory / "greeters.json"
        file.write_text(greeters.order(self.directory, spoken, doors, self.vault))
        with file.open("rb") as given:
            self._run("greeters", [sys.executable, "-m", "tests.lab.greeters"], given, ROOT)
        return [("greeters", partial(connects, place)) for place in spoken]

    def _start_web(self) -> list[Wait]:
        pairs = web.certificates(self.hosts, self.authority)
        hosts = web.without(self.hosts, self.greeting)
        text = web.configuration(hosts, pairs, self.directory, ipv6=self.world.ipv6)
        file = self.directory / "nginx.conf"
        file.write_text(text, encoding="utf-8")
        self._run("nginx", [program("nginx"), "-p", str(self.directory), "-c", str(file)])
        return [("nginx", partial(connects, place)) for place in self._web_places()]

    def _web_places(self) -> list[Place]:
        places = web.places(web.without(self.hosts, self.greeting))
        return sorted(p for p in places if self.world.ipv6 or ":" not in p[0])

    def _start_sink(self) -> list[Wait]:
        """Whatever is asked over TCP and has no server yet."""
        taken = {*self._web_places(), *self.greeting}
        taken.update(place for operator in self.operators for place in operator.places)
        taken.update(
            (a, port) for r in self.resolvers for a in r.addresses for port in (53, 853, 443)
        )
        wanted = {
            (address, target.port)
            for target in self.catalogue.select(probe="tcp")
            for address in self._families(target.addresses)
        }
        places = sorted(wanted - taken)
        return self._ours("sink", places, connects) if places else []

    def _start_reflectors(self) -> list[Wait]:
        places = peertags.places(self.catalogue.targets, ipv6=self.world.ipv6)
        return self._ours("peertags", places, pings) if places else []

    def _start_quic(self) -> list[Wait]:
        waits: list[Wait] = []
        for owner in quicserver.owners(self.catalogue.targets, ipv6=self.world.ipv6):
            pair = self.authority.issue(owner.slug, owner.names)
            given = (str(pair.chain), str(pair.key))
            waits += self._ours("quicserver", owner.places, negotiates, *given, name=owner.slug)
        return waits

    def _start_voices(self) -> list[Wait]:
        waits: list[Wait] = []
        spoken = voices.places(self.catalogue.targets, ipv6=self.world.ipv6)
        for header, places in spoken.items():
            works = partial(echoes, header=bytes.fromhex(header))
            waits += self._ours("voices", places, works, header, name=f"voices-{header}")
        return waits

    def _ours(
        self, module: str, places: Sequence[Place], works: Works, *arguments: str, name: str = ""
    ) -> list[Wait]:
        """A program of the lab's own, which reads where it shall listen."""
        name = name or module
        file = self.directory / f"{name}.txt"
        file.write_text("".join(f"{a} {port}\n" for a, port in places), encoding="ascii")
        with file.open("rb") as given:
            command = [sys.executable, "-m", f"tests.lab.{module}", *arguments]
            self._run(name, command, given, ROOT)
        return [(name, partial(works, place)) for place in places]

    # Processes

    def _run(
        self,
        name: str,
        command: list[str],
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        directory: Path | None = None,
    ) -> None:
        with self._log(name).open("ab") as output:
            self.processes[name] = self.world.server(
                command, stdin=stdin, stdout=output, stderr=output, cwd=directory or self.directory
            )

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _wait(self, name: str, happened: Callable[[], bool]) -> None:
        def alive() -> bool:
            if self.processes[name].poll() is not None:
                raise LabError(f"{name} ended")
            return self.world.call_server(happened)

        try:
            wait_until(alive, name)
        except LabError as error:
            log = self._log(name).read_text(encoding="utf-8", errors="replace")
            raise LabError(f"{error}; its log ends:\n{log[-2000:]}") from error


Wait = tuple[str, Callable[[], bool]]
Works = Callable[[Place], bool]


# Does a server answer? Asked in the servers' namespace, so no path can disturb it.


def connects(place: Place) -> bool:
    with socket.create_connection(place, timeout=1):
        return True


def resolves(address: str) -> bool:
    query = dns.message.make_query(names.TRUSTED_NAME, "A")
    try:
        answer = dns.query.udp(query, address, timeout=0.2)
    except dns.exception.Timeout as error:
        raise TimeoutError from error
    return answer.rcode() == dns.rcode.NOERROR


def binds(place: Place) -> bool:
    """Does a STUN server answer a bare Binding request with its id?"""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(place)
        request = BINDING_REQUEST + secrets.token_bytes(12)
        sock.send(request)
        return sock.recv(2048)[4:20] == request[4:20]


def pings(place: Place) -> bool:
    """Does a reflector know the id of a ping?"""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    tag, query = secrets.token_bytes(reflector.TAG), secrets.token_bytes(reflector.QUERY)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(place)
        sock.send(reflector.ping(tag, query))
        return reflector.answers(sock.recv(2048), query)


def echoes(place: Place, header: bytes) -> bool:
    """Does a voice server send a ping back?"""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    ping = header + secrets.token_bytes(voices.COUNTER)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(place)
        sock.send(ping)
        return sock.recv(2048) == ping


def negotiates(place: Place) -> bool:
    """Does a QUIC server tell its versions?"""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    ids = quic.Ids(secrets.token_bytes(8), secrets.token_bytes(8))
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(place)
        sock.send(quic.ping(ids, secrets.token_bytes(quic.SMALLEST)))
        return quic.V1 in quic.read(sock.recv(2048), ids, quic.RESERVED).versions
