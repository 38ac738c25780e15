"""What stands at the catalogue's addresses on a virtual clock, answering as the lab's servers do.

The same places as in ``servers.py``: coturn, nginx, unbound, hosts that read in silence, and what a
censor redirects to. Servers that are down, hang, refuse or are slow are made by rules behind the
last hop, so that a scenario is declared once for both labs.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

import dns.message
import dns.rcode
import dns.rrset

from agent.twin import Twin
from probes.wire import stun
from tests.lab import (
    content,
    greeters,
    interceptor,
    names,
    peertags,
    quicserver,
    relays,
    voices,
    web,
)
from tests.lab.actions import IN
from tests.lab.catalogue import Catalogue
from tests.lab.noise import DAY, Vault
from tests.lab.packet import ACK, RST, SYN, Ends
from tests.lab.virtual import secrecy
from tests.lab.virtual.kernel import Kernel, packed, refusal
from tests.lab.virtual.tcp import Endpoint
from tests.lab.websocket import Upgraded
from tests.lab.world import RESOLVER_V4, RESOLVER_V6

Place = tuple[bytes, int]
Datagrams = Callable[[bytes, Place], list[bytes]]
"""A datagram and who sent it to the answers."""

_TWINS = secrecy.shown("twin", ("callpath twin",))
SOFTWARE = b"Coturn-4.6.1 'Gorst'"
NONCE = b"0123456789abcdef"
VAULT = Vault()
"""Of every virtual world: signing takes longer than a round of one."""


class Internet:
    """``lie`` and ``tell_the_truth`` as the lab's servers."""

    def __init__(self, kernel: Kernel, catalogue: Catalogue) -> None:
        self.kernel, self.catalogue = kernel, catalogue
        kernel.world = self
        self.placed: set[bytes] = set()
        self.datagrams: dict[Place, Datagrams] = {}
        self.streams: dict[Place, Callable[[Conversation], Any]] = {}
        self.open: dict[Ends, Conversation] = {}
        self.lies: dict[str, tuple[str, ...]] = {}
        self.gone: set[str] = set()
        self.tunnelled = False
        self._answers: dict[tuple[str, bytes], bytes] = {}
        self._place_all()

    def lie(self, name: str, *addresses: str) -> None:
        """From now on the provider's resolver gives these addresses for a name; none: NXDOMAIN."""
        self.lies[name.lower()] = addresses
        self._answers.clear()

    def retire(self, name: str) -> None:
        """No resolver knows the name any more."""
        self.gone.add(name.lower())
        self._answers.clear()

    def cache(self, address: str, names: Sequence[str]) -> None:
        """A machine of their owner's in the provider's network, to which its resolver leads."""
        hosts = [h for h in web.hosts(self.catalogue.targets) if h.name in names]
        self.placed.add(packed(address))
        self._web([replace(h, addresses={address}) for h in hosts])
        for host in hosts:
            self.lie(host.name, address)

    def tell_the_truth(self) -> None:
        self.lies.clear()
        self.gone.clear()
        self._answers.clear()

    # --- who is where ---

    def _place_all(self) -> None:
        catalogue = self.catalogue
        addresses = {*catalogue.addresses(), *names.TRUSTED, RESOLVER_V4, RESOLVER_V6}
        self.placed = {packed(a) for a in addresses} | {packed(interceptor.ADDRESS)}
        own = (RESOLVER_V4, RESOLVER_V6)
        asked = [t.host for t in catalogue.select(probe="dns") if t.host]
        trusted = [a for a in dict.fromkeys((*names.TRUSTED, *asked)) if a not in own]
        for address in own:
            self._resolver(address, "provider")
        for address in trusted:
            self._resolver(address, "trusted")
            shown = secrecy.shown("trusted", (names.TRUSTED_NAME, *trusted))
            self._at(address, 853, secrecy.serving(shown, lambda c: FramedDns(self, c, "trusted")))
            self._at(address, 443, secrecy.serving(shown, lambda c: Https(self, c, {}, "trusted")))
        for operator in relays.operators(catalogue.targets, ipv6=True):
            answer = self._relay(operator.realm.encode())
            for address, port in operator.places:
                self.datagrams[packed(address), port] = answer
                self._at(address, port, lambda c, answer=answer: FramedStun(c, answer))
        for address, port in peertags.places(catalogue.targets, ipv6=True):
            self.datagrams[packed(address), port] = self._reflector
        for header, known in voices.places(catalogue.targets, ipv6=True).items():
            echoed = self._voice(bytes.fromhex(header))
            self.datagrams.update(((packed(address), port), echoed) for address, port in known)
        for owner in quicserver.owners(catalogue.targets, ipv6=True):
            spoken = Quic(kernel=self.kernel, owner=owner)
            for address, port in owner.places:
                self.datagrams[packed(address), port] = spoken.at((packed(address), port))
        self._web(web.hosts(self.catalogue.targets))
        for (address, port), kind in greeters.places(catalogue.targets).items():
            self._at(address, port, lambda c, kind=kind: Greeter(c, kind))
        for target in catalogue.select(probe="tcp"):
            for address in target.addresses:
                self.streams.setdefault((packed(address), target.port), Sink)
        self._at(
            interceptor.ADDRESS,
            interceptor.TLS_PORT,
            secrecy.serving(secrecy.impostor, lambda c: Https(self, c, {})),
        )
        portal = {"": {"/": (302, interceptor.PORTAL)}}
        self._at(interceptor.ADDRESS, interceptor.HTTP_PORT, lambda c: Https(self, c, portal))

    def place_twin(self, address: str, udp_port: int, twin: Twin) -> None:
        """The operator's own server."""

        def answer(data: bytes, source: Place) -> list[bytes]:
            said = twin.answer(data, str(ip_address(source[0])), source[1], time.time())
            return [] if said is None else [said]

        self.placed.add(packed(address))
        self.datagrams[packed(address), udp_port] = answer
        self._at(address, 443, secrecy.serving(_TWINS, lambda c: Https(self, c, {})))

    @staticmethod
    def twin_pin() -> str:
        """The SHA-256 of its certificate."""
        return hashlib.sha256(_TWINS("").der).hexdigest()

    def _resolver(self, address: str, whose: str) -> None:
        place = packed(address), 53
        self.datagrams[place] = lambda query, _: [self.answer(whose, query)]
        self.streams[place] = lambda c: FramedDns(self, c, whose)

    def _relay(self, realm: bytes) -> Datagrams:
        """coturn on one port: STUN in old and new form, Allocate without credentials, DTLS."""
        exit_address = bytes((185, 199, 1 + realm[0] % 50, 7))  # of a tunnel's way out

        def answer(data: bytes, source: Place) -> list[bytes]:
            if len(data) >= 25 and data[0] == content.HANDSHAKE and data[13] == 1:
                return [_hello_verify()]
            if len(data) < 20 or data[0] >= 0x40:
                return []
            if self.tunnelled:
                source = exit_address, source[1]
            kind = int.from_bytes(data[:2], "big")
            if data[4:8] != content.STUN_COOKIE:
                return [_binding_rfc3489(data, source)] if kind == stun.BINDING_REQUEST else []
            if kind == stun.BINDING_REQUEST:
                return [_binding(data, source)]
            if kind == stun.ALLOCATE_REQUEST:
                return [_unauthorized(data, realm)]
            return []

        return answer

    def _reflector(self, data: bytes, source: Place) -> list[bytes]:
        address = str(ipaddress.ip_address(source[0]))
        return peertags.answer(data, address, source[1], self.kernel.loop.clock.true)

    @staticmethod
    def _voice(header: bytes) -> Datagrams:
        return lambda data, _: voices.answer(data, header)

    def _web(self, hosts: Sequence[web.Host]) -> None:
        owners: dict[str, set[str]] = {}
        for host in hosts:
            if host.secure:
                owners.setdefault(host.owner, set()).add(host.name)
        doors = {(h.name, door.path): door for h in hosts for door in h.doors}
        pages: dict[Place, dict[str, dict[str, tuple[int, str]]]] = {}
        secure: dict[Place, dict[str, str]] = {}
        for host in hosts:
            for address in host.addresses:
                place = packed(address), host.port
                large = dict.fromkeys(host.objects, (200, "0" * web.OBJECT))
                answers = {"/": (200, ""), **host.answers, **large}
                pages.setdefault(place, {})["" if web.is_literal(host.name) else host.name] = (
                    answers
                )
                if host.secure:
                    secure.setdefault(place, {})[host.name] = host.owner
        for place, its in pages.items():
            if place not in secure:
                self.streams[place] = lambda c, its=its: Https(self, c, its)
                continue
            chosen = secure[place]

            def shown(name: str, chosen: dict[str, str] = chosen) -> secrecy.Certificate:
                # As nginx: the first server of a place for names that it does not know.
                owner = chosen.get(name) or next(iter(chosen.values()))
                return secrecy.issued(owner, tuple(sorted(owners[owner])))

            self.streams[place] = secrecy.serving(
                shown, lambda c, its=its: Https(self, c, its, doors=doors)
            )

    def _at(self, address: str, port: int, accept: Callable[[Conversation], Any]) -> None:
        self.streams[packed(address), port] = accept

    # --- what arrives ---

    def udp(self, ends: Ends, payload: bytes, ttl: int) -> None:
        if ends[2] not in self.placed:
            return
        answers = self.datagrams.get(ends[2:])
        if answers is None:
            self.kernel.unreachable(ends, payload)
            return
        back = (*ends[2:], *ends[:2])
        for answer in answers(payload, ends[:2]):
            self.kernel.datagram(IN, back, answer)

    def tcp(self, ends: Ends, sequence: int, acknowledged: int, flags: int, payload: bytes) -> None:
        if ends[2] not in self.placed:
            return
        conversation = self.open.get(ends)
        if conversation is None:
            accept = self.streams.get(ends[2:])
            if flags & (SYN | ACK) == SYN and accept is not None:
                self.open[ends] = Conversation(self, ends, accept, sequence)
            elif not flags & RST:
                back = (*ends[2:], *ends[:2])
                answer = refusal(ends, sequence, acknowledged, flags, len(payload))
                self.kernel.transmit(IN)(back, *answer, b"")
            return
        conversation.endpoint.segment(sequence, acknowledged, flags, payload)
        if conversation.endpoint.state == "closed":
            self.open.pop(ends, None)

    # --- names ---

    def answer(self, whose: str, query: bytes) -> bytes:
        """A resolver's whole answer to one query."""
        key = (whose, query[2:])
        made = self._answers.get(key)
        if made is None:
            made = self._answers[key] = self._made(whose, query)[2:]
        return query[:2] + made

    def _made(self, whose: str, query: bytes) -> bytes:
        asked = dns.message.from_wire(query)
        question = asked.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        response = dns.message.make_response(asked, recursion_available=True)
        known: Sequence[str] | None = {names.TRUSTED_NAME: names.TRUSTED}.get(
            name, self.catalogue.names.get(name)
        )
        if whose == "provider" and name in self.lies:
            known = self.lies[name] or None
        if name in self.gone:
            known = None
        kind = question.rdtype
        if known is None and name not in self.catalogue.texts:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif kind in (1, 28):
            right = [a for a in known or () if (":" in a) == (kind == 28)]
            if right:
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *right))
        elif kind == 16 and name in self.catalogue.texts:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "TXT", '"lab"'))
        return response.to_wire()

    def date(self) -> str:
        return formatdate(self.kernel.loop.clock.true, usegmt=True)


@dataclass(slots=True)
class Quic:
    """An owner's QUIC servers, whose cryptography is real. Made when one is first asked."""

    kernel: Kernel
    owner: quicserver.Owner
    servers: dict[Place, quicserver.Server] = field(default_factory=dict)
    timers: dict[Place, asyncio.TimerHandle] = field(default_factory=dict)

    def at(self, place: Place) -> Datagrams:
        def answer(data: bytes, source: Place) -> list[bytes]:
            server = self._server(place)
            self._send(place, server.datagram(data, source, self.kernel.loop.time()))
            return []

        return answer

    def _server(self, place: Place) -> quicserver.Server:
        if place not in self.servers:
            pair = secrecy.pair(self.owner.slug, self.owner.names)
            self.servers[place] = quicserver.Server(pair.chain, pair.key)
        return self.servers[place]

    def _send(self, place: Place, sent: list[quicserver.Sent]) -> None:
        for data, source in sent:
            self.kernel.datagram(IN, (*place, *source), data)  # type: ignore[arg-type] # ours
        if place in self.timers:
            self.timers.pop(place).cancel()
        loop, server = self.kernel.loop, self.servers[place]
        timer = server.timer()
        if timer is not None:
            self.timers[place] = loop.call_at(
                timer, lambda: self._send(place, server.expire(loop.time()))
            )


class Conversation:
    """A server's side of one TCP connection; ``handler`` is what its program makes of it."""

    def __init__(
        self,
        internet: Internet,
        ends: Ends,
        accept: Callable[[Conversation], Any],
        sequence: int,
    ) -> None:
        self.internet, self.ends = internet, ends
        self.accept = accept
        self.handler: Any = None
        kernel = internet.kernel
        back = (*ends[2:], *ends[:2])
        first = kernel.rng.randrange(1 << 24)
        self.endpoint = Endpoint(kernel.loop, kernel.transmit(IN), back, self, first)
        self.endpoint.accept(sequence)

    def opened(self) -> None:
        self.handler = self.accept(self)

    def arrived(self, data: bytes) -> None:
        if self.handler is not None:
            self.handler.said(data)

    def ended(self) -> None:
        """Probes close for good: nobody is there any more to read the rest."""
        self.endpoint.die()
        self.internet.open.pop(self.ends, None)

    def broken(self, error: int) -> None:
        self.internet.open.pop(self.ends, None)

    def send(self, data: bytes) -> None:
        self.endpoint.write(data)

    def finish(self) -> None:
        self.endpoint.finish()


class Sink:
    """Accepts, reads, says nothing."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def said(self, data: bytes) -> None:
        return None


class Greeter:
    """A data centre or a chat host."""

    def __init__(self, conversation: Conversation, kind: str) -> None:
        self.conversation = conversation
        self.talk = greeters.talk(kind, VAULT, _chain(_today()))

    def said(self, data: bytes) -> None:
        if answer := self.talk.said(data):
            self.conversation.send(answer)
        if getattr(self.talk, "hangs_up", False):
            self.conversation.finish()


def _today() -> int:
    """On the virtual clock, which is the one that this process shows."""
    return int(time.time() // DAY)


@lru_cache(maxsize=64)
def _chain(_day: int) -> bytes:
    return VAULT.chain()


class Https:
    """One request, one answer, by host and path; over TLS or not. ``resolver``: DNS over it;
    ``doors``: WebSockets by name and path."""

    def __init__(
        self,
        internet: Internet,
        out: Any,
        pages: dict[str, dict[str, tuple[int, str]]],
        resolver: str = "",
        doors: Mapping[tuple[str, str], greeters.Door] = MappingProxyType({}),
    ) -> None:
        self.doors = doors
        self.upgraded: Upgraded | None = None
        self.internet, self.out, self.pages, self.resolver = internet, out, pages, resolver
        self.data = b""
        self.left = 0

    def said(self, data: bytes) -> None:
        if self.upgraded is not None:
            self.out.send(self.upgraded.said(data))
            return
        if self.left:  # the rest of a body that nobody wants
            self.left = max(0, self.left - len(data))
            return
        self.data += data
        head, complete, body = self.data.partition(b"\r\n\r\n")
        if not complete:
            if not any(self.data.startswith(m[: len(self.data)]) for m in content.METHODS):
                self._say(400, "")  # not HTTP at all
                self.out.finish()
            return
        lines = head.decode("latin-1").split("\r\n")
        fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        length = int(fields.get("content-length", 0))
        if self.resolver and len(body) < length:
            return
        method, target, _ = lines[0].split(" ", 2)
        door = self.doors.get((fields.get("host", "").partition(":")[0], target))
        if door is not None and fields.get("upgrade") == "websocket":
            self.upgraded = greeters.behind(door, VAULT, _chain(_today()))
            self.out.send(self.upgraded.said(self.data))
            return
        stays = "close" not in fields.get("connection", "").lower()
        self.left = max(0, length - len(body))
        self.data = b""
        if self.resolver:
            message = self.internet.answer(self.resolver, body[:length])
            self._head(200, len(message), "application/dns-message", stays)
            self.out.send(message)
        else:
            name = fields.get("host", "").partition(":")[0]
            answers = self.pages.get(name) or next(iter(self.pages.values()), {"/": (200, "")})
            status, text = answers.get(target) or answers["/"]
            self._say(status, text, head=method == "HEAD", stays=stays)
        if not stays:
            self.out.finish()

    def _say(self, status: int, text: str, *, head: bool = False, stays: bool = False) -> None:
        location = text if 300 <= status < 400 else ""
        body = b"" if location else text.encode()
        self._head(status, len(body), "text/plain", stays, location)
        if not head and body:
            self.out.send(body)

    def _head(self, status: int, length: int, kind: str, stays: bool, location: str = "") -> None:
        lines = [
            f"HTTP/1.1 {status} x",
            "Server: nginx",
            f"Date: {self.internet.date()}",
            f"Content-Type: {kind}",
            f"Content-Length: {length}",
            f"Connection: {'keep-alive' if stays else 'close'}",
        ]
        if location:
            lines.append(f"Location: {location}")
        self.out.send("\r\n".join((*lines, "", "")).encode())


class FramedDns:
    """DNS over a stream: two bytes of length before each message."""

    def __init__(self, internet: Internet, out: Any, whose: str) -> None:
        self.internet, self.out, self.whose = internet, out, whose
        self.data = b""

    def said(self, data: bytes) -> None:
        self.data += data
        while len(self.data) >= 2:
            end = 2 + int.from_bytes(self.data[:2], "big")
            if len(self.data) < end:
                return
            query, self.data = self.data[2:end], self.data[end:]
            message = self.internet.answer(self.whose, query)
            self.out.send(len(message).to_bytes(2, "big") + message)


class FramedStun:
    """STUN over a stream."""

    def __init__(self, out: Conversation, answer: Datagrams) -> None:
        self.out, self.answer = out, answer
        self.data = b""

    def said(self, data: bytes) -> None:
        self.data += data
        while len(self.data) >= 20:
            end = 20 + int.from_bytes(self.data[2:4], "big")
            if self.data[0] >= 0x40 or len(self.data) < end:
                return
            request, self.data = self.data[:end], self.data[end:]
            for answer in self.answer(request, self.out.ends[:2]):
                self.out.send(answer)


def _binding(data: bytes, source: Place) -> bytes:
    plain = _mapped(source)
    mask = data[4:8] + data[8:20]
    masked = bytes((0, plain[1], plain[2] ^ mask[0], plain[3] ^ mask[1])) + bytes(
        a ^ b for a, b in zip(plain[4:], mask, strict=False)
    )
    attributes = [
        (stun.XOR_MAPPED_ADDRESS, masked),
        (stun.MAPPED_ADDRESS, plain),
        (stun.SOFTWARE, SOFTWARE),
    ]
    return stun.encode(stun.BINDING_SUCCESS, data[8:20], attributes, fingerprint=True)


def _unauthorized(data: bytes, realm: bytes) -> bytes:
    attributes = [
        (stun.ERROR_CODE, b"\0\0\4\1Unauthorized"),
        (0x0015, NONCE),
        (stun.REALM, realm),
        (stun.SOFTWARE, SOFTWARE),
    ]
    return stun.encode(stun.ALLOCATE_ERROR, data[8:20], attributes, fingerprint=True)


def _binding_rfc3489(data: bytes, source: Place) -> bytes:
    plain = _mapped(source)
    padded = SOFTWARE + bytes(-len(SOFTWARE) % 4)
    body = struct.pack("!HH", stun.MAPPED_ADDRESS, len(plain)) + plain
    body += struct.pack("!HH", stun.SOFTWARE, len(SOFTWARE)) + padded
    return struct.pack("!HH", stun.BINDING_SUCCESS, len(body)) + data[4:20] + body


def _mapped(source: Place) -> bytes:
    family = 1 if len(source[0]) == 4 else 2
    return struct.pack("!BBH", 0, family, source[1]) + source[0]


def _hello_verify() -> bytes:
    cookie = hashlib.sha256(b"cookie").digest()[:20]
    body = b"\xfe\xff" + bytes((len(cookie),)) + cookie
    length = len(body).to_bytes(3, "big")
    handshake = b"\3" + length + bytes(2) + bytes(3) + length + body
    return struct.pack("!BHQH", content.HANDSHAKE, 0xFEFF, 0, len(handshake)) + handshake
