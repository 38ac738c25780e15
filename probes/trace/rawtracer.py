# SPDX-License-Identifier: Apache-2.0 OR MIT
# This file may be used under the MIT licence as well, since it is run together with scapy, which is
# under GPL-2.0-only. For that reason it imports nothing of callpath's.
"""The tracer's own process: captures one peer's packets, and injects segments. Here lives scapy.

``python rawtracer.py FD ADDRESS [INTERFACE]``, FD a stream socket to whoever started it. Out come
lines of JSON: ``{"ready": true}`` or ``{"missing": WHY}``, then a packet each (``described``). In
come orders: ``{"source", "own", "port", "seq", "ack", "window", "timestamp", "hops", "flags",
"data"}``, data in hex, hops 0 for the host's own. Needs CAP_NET_RAW for the moment of its start:
once its two sockets are open it gives up every privilege. It ends when FD does, or its parent. No
rule of a firewall is made: the connections are the kernel's, which never hears of what is injected.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
from collections import OrderedDict
from typing import Any

NOBODY = 65534
ETH_P_ALL, OUTGOING = 0x0003, 4  # <linux/if_ether.h>, <linux/if_packet.h>
SO_ATTACH_FILTER, SO_TIMESTAMPNS, IPV6_HDRINCL = 26, 35, 36
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION_3 = 0x20080522
KEPT = 256
"""Packets of ours that an ICMP message's quotation is compared with."""
MOST_BYTES = 1 << 20
"""Of orders that are not complete, and of memory for what is told."""
MEMORY = 512 << 20

Described = dict[str, Any]
Key = tuple[int, int, int, int]


def drop_privileges() -> None:
    """Nothing is left but the open sockets, whoever this was started as."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # root without CAP_SETUID
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    if libc.capset(header, bytes(24)) != 0:  # the ambient ones go with the permitted ones
        raise OSError(ctypes.get_errno(), "capset")
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user would have undone it


def program(address: str) -> bytes:
    """Classic BPF: ICMP, and what has that address at either end. Offsets: from the IP header."""
    peer = ipaddress.ip_address(address)
    words = struct.unpack(f">{peer.max_prefixlen // 32}I", peer.packed)
    protocol, icmp, ends = (6, 58, (8, 24)) if peer.version == 6 else (9, 1, (12, 16))
    load_byte, load_word, mask, equal, give = 0x30, 0x20, 0x54, 0x15, 0x06
    steps: list[tuple[int, int, str, str]] = [
        (load_byte, 0, "", ""),
        (mask, 0xF0, "", ""),
        (equal, peer.version << 4, "", "no"),
        (load_byte, protocol, "", ""),
        (equal, icmp, "yes", ""),
    ]
    for end, other in ((ends[0], "second"), (ends[1], "no")):
        for number, word in enumerate(words):
            last = number == len(words) - 1
            steps.append((load_word, end + 4 * number, "", ""))
            steps.append((equal, word, "yes" if last else "", other))
    places = {"no": len(steps), "yes": len(steps) + 1, "second": 5 + 2 * len(words)}
    code = b""
    for at, (op, value, then, otherwise) in enumerate(steps):
        jumps = [places[label] - at - 1 if label else 0 for label in (then, otherwise)]
        code += struct.pack("=HBBI", op, *jumps, value)
    return code + struct.pack("=HBBI", give, 0, 0, 0) + struct.pack("=HBBI", give, 0, 0, 0x40000)


def listening(address: str) -> socket.socket:
    """Raises PermissionError without the capability."""
    # Of all kinds, since only then one's own packets come as well.
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
    code = ctypes.create_string_buffer(program(address))
    fprog = struct.pack("HL", len(code) // 8, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(1)  # what came before the filter was there
    return sock


def sending(address: str, interface: str) -> socket.socket:
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
    if interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    return sock


class Tracer:
    """``peer``: whose packets are told."""

    def __init__(self, door: socket.socket, peer: str, interface: str) -> None:
        self.listener, self.sender = listening(peer), sending(peer, interface)
        # After the sockets, since it takes a second and whoever lacks the right is told at once.
        from scapy.config import conf
        from scapy.layers import inet, inet6

        conf.padding = False
        self.inet, self.inet6 = inet, inet6
        self.door, self.peer = door, peer
        self.six = ":" in peer
        self.sent: OrderedDict[Key, Any] = OrderedDict()
        self.datagrams = itertools.count()

    def tell(self, what: Described) -> None:
        self.door.sendall(json.dumps(what).encode() + b"\n")

    def run(self) -> None:
        self.tell({"ready": True})
        orders = b""
        while True:
            ready, _, _ = select.select([self.door, self.listener], [], [])
            if self.listener in ready:
                self.hear()
            if self.door not in ready:
                continue
            more = self.door.recv(1 << 16)
            if not more or len(orders) > MOST_BYTES:
                return
            *lines, orders = (orders + more).split(b"\n")
            for line in lines:
                self.obey(json.loads(line))

    # --- what is heard ---

    def hear(self) -> None:
        for _ in range(64):
            try:
                data, told, _, sender = self.listener.recvmsg(1 << 16, 64)
            except BlockingIOError:
                return
            seconds, nanoseconds = struct.unpack("qq", told[0][2][:16]) if told else (0, 0)
            try:
                packet = self.inet6.IPv6(data) if self.six else self.inet.IP(data)
                one = self.described(packet, sender[2] == OUTGOING)
            except Exception:  # whatever a stranger's bytes do to scapy
                continue
            if one:
                self.tell({"at": seconds + nanoseconds / 1e9, **one})

    def described(self, packet: Any, out: bool) -> Described | None:
        """``out``: sent by this host. IPv6 has no identification: 0 there."""
        one: Described = {"out": out, **self.head(packet)}
        inet = self.inet
        if inet.TCP in packet:
            tcp = packet[inet.TCP]
            own, port = (tcp.sport, tcp.dport) if out else (tcp.dport, tcp.sport)
            one |= {
                "protocol": "tcp",
                "own": own,
                "port": port,
                "flags": str(tcp.flags),
                "seq": tcp.seq,
                "ack": tcp.ack,
                "window": tcp.window,
                "options": [[str(name), plain(value)] for name, value in tcp.options],
                "length": len(tcp.payload),
            }
            if out:
                self.keep((6, own, port, tcp.seq), packet)
            return one
        if inet.UDP in packet and inet.ICMP not in packet and packet[inet.UDP].underlayer is packet:
            udp = packet[inet.UDP]
            own, port = (udp.sport, udp.dport) if out else (udp.dport, udp.sport)
            if out:
                self.keep((17, own, port, next(self.datagrams)), packet)
            return one | {"protocol": "udp", "own": own, "port": port, "length": len(udp.payload)}
        return None if out else self.quoted(packet, one)

    def head(self, packet: Any) -> Described:
        if self.six:
            return {"from": packet.src, "ttl": packet.hlim, "id": 0, "tos": packet.tc}
        return {"from": packet.src, "ttl": packet.ttl, "id": packet.id, "tos": packet.tos}

    def keep(self, key: Key, packet: Any) -> None:
        known = self.sent.get(key)
        if known is None or len(known) <= len(packet):  # not the first byte of it, said again
            self.sent[key] = packet
        self.sent.move_to_end(key)
        while len(self.sent) > KEPT:
            self.sent.popitem(last=False)

    def quoted(self, packet: Any, one: Described) -> Described | None:
        """An ICMP message about a packet to the peer; ``differs``: in what the quotation is another
        than what was sent."""
        body = bytes(packet.payload)
        if len(body) < 8 or (packet.nh if self.six else packet.proto) not in (1, 58):
            return None
        inner = body[8:]
        quote = self.inet6.IPv6(inner) if self.six else self.inet.IP(inner)
        if quote.dst != self.peer or len(quote.payload) < 8:
            return None
        protocol = quote.nh if self.six else quote.proto
        own, port, seq = struct.unpack(">HHI", bytes(quote.payload)[:8])
        if protocol not in (6, 17):
            return None
        sent = [
            packet
            for kept, packet in self.sent.items()
            if kept[:3] == (protocol, own, port) and (protocol == 17 or kept[3] == seq)
        ]
        return one | {
            "protocol": "icmp",
            "icmp": [body[0], body[1]],
            "of": "tcp" if protocol == 6 else "udp",
            "own": own,
            "port": port,
            "seq": seq if protocol == 6 else 0,
            "quoted": len(inner),
            # Datagrams of one flow have no number: it quotes the one that is most like it.
            "differs": min((self.differences(one, quote) for one in sent), key=len, default=[]),
        }

    def differences(self, sent: Any, quote: Any) -> list[str]:
        """Checksums are left out: they follow from the rest, and the hardware fills ours in."""
        names = ("tc", "fl", "plen") if self.six else ("tos", "len", "id", "flags", "frag")
        found = [name for name in names if getattr(sent, name) != getattr(quote, name)]
        if (quote.hlim if self.six else quote.ttl) > 1:
            found.append("ttl")
        was, now = bytes(sent.payload), bytes(quote.payload)
        skipped = range(16, 18) if (sent.nh if self.six else sent.proto) == 6 else range(6, 8)
        both = enumerate(zip(was, now, strict=False))
        if any(a != b for at, (a, b) in both if at not in skipped):
            found.append("payload")
        return found

    # --- what is said ---

    def obey(self, order: Described) -> None:
        inet = self.inet
        tcp = inet.TCP(
            sport=order["own"],
            dport=order["port"],
            seq=order["seq"],
            ack=order["ack"],
            flags=order["flags"],
            window=order["window"],
            options=[("NOP", None)] * 2 + [("Timestamp", tuple(order["timestamp"]))]
            if order["timestamp"]
            else [],
        )
        hops = order["hops"] or 64
        if self.six:
            head = self.inet6.IPv6(src=order["source"], dst=self.peer, hlim=hops)
        else:
            number = random.randrange(1, 1 << 16)
            head = inet.IP(src=order["source"], dst=self.peer, ttl=hops, id=number, flags="DF")
        data = bytes(head / tcp / bytes.fromhex(order["data"]))
        with contextlib.suppress(OSError):  # a line that is down is silent
            self.sender.sendto(data, (self.peer, 0))


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value


def main(arguments: list[str]) -> int:
    fd, peer, *rest = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with socket.socket(fileno=int(fd)) as door:
        try:
            tracer = Tracer(door, peer, rest[0] if rest else "")
            drop_privileges()
        except (ImportError, OSError) as error:
            door.sendall(json.dumps({"missing": str(error)}).encode() + b"\n")
            return 1
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            tracer.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
