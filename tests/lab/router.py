"""Every router of the simulated internet, as one process between two TUN devices.

It reads whole packets from a device in the client's namespace and one in the servers', lets the
path model decide what becomes of them and writes them out when they are due. Rules and the line's
delay, jitter and loss change at run time through a Unix socket that speaks JSON lines: one request,
one answer, and an answer means that the change holds for every packet from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, TextIO

if not __package__:  # started by path instead of with -m
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.lab import netns, packet
from tests.lab import path as model
from tests.lab.actions import IN, OUT

DEVICE = "wan0"  # the same name at both ends: each is the only uplink of its namespace
MTU = 1500
HEAD = 20  # bytes of payload that tell packets apart
BATCH = 64  # packets read in one go before those that are due get their turn


class Router:
    """The event loop. ``tuns`` are the descriptors at the client's and the servers' end."""

    def __init__(self, path: model.Path, tuns: tuple[int, int], control: socket.socket) -> None:
        self.path = path
        self.enters = {tuns[0]: OUT, tuns[1]: IN}
        self.leaves = {OUT: tuns[1], IN: tuns[0]}
        self.due: list[tuple[float, int, model.Arrival]] = []
        self.packets = self.arrivals = 0
        self.log: TextIO | None = None
        self.crossings: TextIO | None = None
        self.control = control
        # Not epoll: it rounds time-outs up to milliseconds, which would show in every round trip.
        self.selector = selectors.SelectSelector()
        for descriptor in (*tuns, control):
            self.selector.register(descriptor, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            wait = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            for key, _ in self.selector.select(wait):
                if key.fd in self.enters:
                    self._take_in(key.fd)
                elif key.fileobj is self.control:
                    connection, _ = self.control.accept()
                    reader = connection.makefile("rwb", buffering=0)
                    self.selector.register(connection, selectors.EVENT_READ, (connection, reader))
                else:
                    self._answer(*key.data)
            self._let_out()

    def _take_in(self, tun: int) -> None:
        direction = self.enters[tun]
        for _ in range(BATCH):
            try:
                data = os.read(tun, 65535)
            except BlockingIOError:
                return
            came = time.time()  # before anything is done with it, or our own work is in its time
            try:
                parsed = packet.parse(data)
            except packet.PacketError:
                continue
            if _is_local_traffic(parsed):
                continue
            self.packets += 1
            fate = self.path.carry(parsed, direction, time.monotonic())
            for arrival in fate.arrivals:
                self.arrivals += 1
                heapq.heappush(self.due, (arrival.due, self.arrivals, arrival))
            if self.log:
                self.log.write(log_line(came, direction, parsed, fate.word))
            if self.crossings:
                self.crossings.write(crossing_line(came, "came", direction, parsed))

    def _let_out(self) -> None:
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            arrival = heapq.heappop(self.due)[2]
            if self.crossings:
                leaves = crossing_line(time.time(), "left", arrival.direction, arrival.packet)
                self.crossings.write(leaves)
            with contextlib.suppress(BlockingIOError):  # a full queue loses packets, as ever
                os.write(self.leaves[arrival.direction], arrival.data)
        for file in (self.log, self.crossings):
            if file:
                file.flush()

    def _answer(self, connection: socket.socket, reader: Any) -> None:
        line = reader.readline()  # our own client sends whole lines
        if not line:
            self.selector.unregister(connection)
            connection.close()
            return
        try:
            reply = {"ok": self.obey(json.loads(line))}
        except (KeyError, TypeError, ValueError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        reader.write(json.dumps(reply).encode() + b"\n")

    def obey(self, request: dict[str, Any]) -> Any:
        match request["do"]:
            case "add":
                return self.path.add(model.from_json(request["rule"]), time.monotonic())
            case "remove":
                self.path.remove(request["number"])
            case "clear":
                self.path.clear()
            case "line":
                self.path.set_line(model.from_json(request["line"]))
            case "topology":
                self.path.set_topology(model.from_json(request["topology"]))
            case "log":
                self.log = _reopened(self.log, request["file"])
                self.crossings = _reopened(self.crossings, request["crossings"])
            case "counts":
                return {
                    "packets": self.packets,
                    "rules": [
                        {"number": number, "hits": rule.hits, "taken": rule.taken}
                        for number, rule in self.path.rules.items()
                    ],
                }
            case unknown:
                raise ValueError(f"cannot do {unknown!r}")
        return None


def _reopened(old: TextIO | None, file: str) -> TextIO | None:
    if old:
        old.close()
    return open(file, "a", encoding="ascii") if file else None


def _is_local_traffic(parsed: packet.Packet) -> bool:
    """Multicast and link-local packets (router solicitations and the like) never leave a link."""
    address = parsed.destination
    if parsed.version == 4:
        return address[0] >= 224
    return address[0] == 0xFF or parsed.source[:2] == b"\xfe\x80" or not any(parsed.source)


def log_line(at: float, direction: str, parsed: packet.Packet, word: str) -> str:
    fields = (
        f"{at:.6f}",
        direction,
        packet.text(parsed.source),
        parsed.source_port,
        packet.text(parsed.destination),
        parsed.destination_port,
        parsed.protocol,
        len(parsed.data),
        word,
    )
    return "\t".join(map(str, fields)) + "\n"


def crossing_line(at: float, event: str, direction: str, parsed: packet.Packet) -> str:
    """A packet at one end of the path; the beginning of its payload says which it is."""
    return f"{at:.6f}\t{event}\t{direction}\t{parsed.payload[:HEAD].hex()}\n"


def open_tuns(client: str, servers: str) -> tuple[int, int]:
    """The process stays in the servers' namespace: it has no business on the host's network."""
    descriptors = []
    for name in (client, servers):
        netns.enter(name)
        descriptors.append(netns.open_tun(DEVICE))
    return descriptors[0], descriptors[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", required=True, help="namespace of the client")
    parser.add_argument("--servers", required=True, help="namespace of the servers")
    parser.add_argument("--control", required=True, help="path of the control socket")
    parser.add_argument("--hop", action="append", required=True, help="IPv4,IPv6 of a router")
    options = parser.parse_args()
    hops = []
    for pair in options.hop:
        v4, v6 = pair.split(",")
        hops.append((socket.inet_aton(v4), socket.inet_pton(socket.AF_INET6, v6)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    tuns = open_tuns(options.client, options.servers)
    control = socket.socket(socket.AF_UNIX)
    control.bind(options.control)
    control.listen()
    Router(model.Path(hops), tuns, control).run()


if __name__ == "__main__":
    main()
