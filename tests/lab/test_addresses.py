"""Traces of addresses among routers of the kernel's, where the server is nearer than its control.

client - r1 - server, and r1 - r2 - r3 - control: what is done at hop 2 may well be the server's.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from probes.trace.common import Control, Report, Word
from probes.trace.walk import Walk
from probes.trace.words import words
from tests.lab import netns
from tests.lab.skipping import require_lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

SERVER, NOBODY, FAR, NEIGHBOUR = "95.1.2.2", "95.1.2.77", "95.1.5.2", "95.1.2.3"
LINKS = (
    ("client", "r1", "95.1.1"),
    ("r1", "server", "95.1.2"),
    ("r1", "r2", "95.1.3"),
    ("r2", "r3", "95.1.4"),
    ("r3", "far", "95.1.5"),
)
ROUTES = (
    ("client", "default", "95.1.1.1"),
    ("server", "default", "95.1.2.1"),
    ("far", "default", "95.1.5.1"),
    ("r3", "default", "95.1.4.1"),
    ("r2", "default", "95.1.3.1"),
    ("r2", "95.1.5.0/24", "95.1.4.2"),
    ("r1", "95.1.4.0/24", "95.1.3.2"),
    ("r1", "95.1.5.0/24", "95.1.3.2"),
)
CONTROL = Control(FAR, 443)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def inside(name: str, *command: str) -> None:
    subprocess.run(["ip", "netns", "exec", name, *command], check=True, capture_output=True)


def accepting(stack: ExitStack, name: str, address: str, port: int) -> None:
    """A server that says nothing, until the stack is left."""
    sock = netns.call_in(name, lambda: socket.create_server((address, port), backlog=64))
    over = threading.Event()

    def accept() -> None:
        sock.settimeout(0.1)
        while not over.is_set():
            with suppress(TimeoutError):
                sock.accept()[0].close()

    thread = threading.Thread(target=accept)
    thread.start()
    stack.callback(sock.close)
    stack.callback(thread.join)
    stack.callback(over.set)


Names = Callable[[str], str]


@pytest.fixture(scope="module")
def row() -> Iterator[Names]:
    """The names of its namespaces."""
    require_lab("ip", "nft")

    def name(who: str) -> str:
        return f"addr-{who}"

    ends = dict.fromkeys(end for link in LINKS for end in link[:2])
    with ExitStack() as stack:
        for end in ends:
            ip("netns", "add", name(end))
            stack.callback(ip, "netns", "delete", name(end))
            ip("-n", name(end), "link", "set", "lo", "up")
            for setting in ("ip_forward=1", "icmp_ratelimit=0", "icmp_msgs_per_sec=100000"):
                inside(name(end), "sysctl", "-qw", f"net.ipv4.{setting}")
        for left, right, prefix in LINKS:
            first, second = (1, 2) if left != "client" else (2, 1)
            veth = ("type", "veth", "peer", "name", f"to-{left}", "netns", name(right))
            ip("link", "add", f"to-{right}", "netns", name(left), *veth)
            for end, other, number in ((left, right, first), (right, left, second)):
                ip("-n", name(end), "addr", "add", f"{prefix}.{number}/24", "dev", f"to-{other}")
                ip("-n", name(end), "link", "set", f"to-{other}", "up")
        ip("-n", name("server"), "addr", "add", f"{NEIGHBOUR}/24", "dev", "to-r1")
        for end, to, by in ROUTES:
            ip("-n", name(end), "route", "add", to, "via", by)
        accepting(stack, name("far"), FAR, 443)
        accepting(stack, name("server"), NEIGHBOUR, 443)
        accepting(stack, name("server"), SERVER, 80)
        yield name


@pytest.fixture
def rule(row: Names) -> Iterator[Callable[[str, str], None]]:
    """A rule of nft in a namespace, for what goes through it or ends there."""

    def add(who: str, text: str) -> None:
        inside(row(who), "nft", "add", "table", "ip", "t")
        for hook in ("input", "forward"):
            chain = f"{{ type filter hook {hook} priority 0; }}"
            inside(row(who), "nft", "add", "chain", "ip", "t", hook, chain)
            inside(row(who), "nft", "add", "rule", "ip", "t", hook, *text.split())

    yield add
    for who in ("server", "r1", "r2"):
        inside(row(who), "nft", "flush", "ruleset")


def traced(row: Names, address: str, port: int, *controls: Control, **more: bool) -> Report:
    def walk() -> Report:
        given = Walk(words("tcp"), address, port, controls=controls, **more)
        return asyncio.run(given.trace())

    return netns.call_in(row("client"), walk)


def test_a_closed_port_is_nobodys_filter(row: Names) -> None:
    report = traced(row, SERVER, 8181, CONTROL)
    assert report.word is Word.SERVER, report
    assert report.place
    assert report.place.stretch
    assert report.place.stretch.low == 1


@pytest.mark.long
def test_a_host_that_its_router_does_not_find_accuses_nobody(row: Names) -> None:
    assert traced(row, NOBODY, 443, CONTROL).word is Word.UNCLEAR
    near = Control(NEIGHBOUR, 443, near=True)
    assert traced(row, NOBODY, 443, near, CONTROL).word is Word.SERVER


@pytest.mark.long
def test_a_silent_host_accuses_nobody(row: Names, rule: Callable[[str, str], None]) -> None:
    rule("server", f"ip daddr {SERVER} drop")
    assert traced(row, SERVER, 443, CONTROL).word is Word.UNCLEAR
    near = Control(NEIGHBOUR, 443, near=True)
    assert traced(row, SERVER, 443, near, CONTROL).word is Word.SERVER


@pytest.mark.long
def test_a_port_that_is_dropped_on_the_way_is_placed_by_another(
    row: Names, rule: Callable[[str, str], None]
) -> None:
    rule("r2", f"ip daddr {FAR} tcp dport 8443 drop")
    report = traced(row, FAR, 8443)  # held against its own port 443
    assert report.word is Word.FOUND, report
    assert report.place
    assert report.place.stretch
    assert (report.place.stretch.low, report.place.stretch.high) == (2, 3)


def test_who_refuses_as_forbidden_is_accused(row: Names, rule: Callable[[str, str], None]) -> None:
    rule("r2", f"ip daddr {FAR} reject with icmp type admin-prohibited")
    report = traced(row, FAR, 443)
    assert report.word is Word.FOUND, report
    assert report.place
    assert report.place.stretch
    assert report.place.stretch.low == 2
