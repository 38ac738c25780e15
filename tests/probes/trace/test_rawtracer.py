"""The tracer's own process: it starts by its file, ends with its door, and reads what is quoted."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.net.raw import PROGRAM, capable

pytestmark = pytest.mark.skipif(not capable(), reason="needs CAP_NET_RAW")


@pytest.fixture
def started() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-P", str(PROGRAM), str(theirs.fileno()), "127.0.0.9"]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        ours.settimeout(20)
        try:
            assert json.loads(ours.makefile("rb").readline()) == {"ready": True}
            yield process, ours
        finally:
            process.kill()
            process.wait()


def test_nothing_is_left_of_its_rights(started):
    process, _ = started
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert status["Uid"].split() == ["65534"] * 4


def test_it_ends_with_its_door(started):
    process, door = started
    door.close()
    assert process.wait(5) == 0


def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path):
    """The door stays open, in another's hands: the kernel sees to it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        script = (
            "import subprocess, sys, time; "
            "p = subprocess.Popen(sys.argv[1:], pass_fds=[int(sys.argv[4])]); "
            "print(p.pid, flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-P", str(PROGRAM), str(theirs.fileno()), "127.0.0.9"]
        parent = subprocess.Popen(
            [sys.executable, "-c", script, *command],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
        )
        with parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            ours.settimeout(20)
            assert b"ready" in ours.recv(100)
            time.sleep(0.2)  # its last step before it listens
            parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 5
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_quotation_is_held_against_the_datagram_that_it_quotes():
    pytest.importorskip("scapy")
    from scapy.layers import inet

    from probes.trace.rawtracer import Tracer

    tracer = Tracer.__new__(Tracer)
    tracer.inet, tracer.peer, tracer.six = inet, "127.0.0.9", False
    tracer.sent, tracer.datagrams = OrderedDict(), itertools.count()

    def said(text: bytes) -> bytes:
        head = inet.IP(src="192.0.2.1", dst="127.0.0.9", ttl=1, id=1)
        return bytes(head / inet.UDP(sport=4000, dport=3478) / text)

    for text in (b"the first one", b"and a second"):
        tracer.described(inet.IP(said(text)), True)

    def quoted(text: bytes) -> list[str]:
        outer = inet.IP(src="192.0.2.7", dst="192.0.2.1") / inet.ICMP(type=11)
        told = tracer.described(inet.IP(bytes(outer / said(text))), False)
        assert told is not None
        return list(told["differs"])

    assert quoted(b"the first one") == quoted(b"and a second") == []
    assert quoted(b"and another!") == ["payload"]


def test_it_tells_of_its_peer_s_packets_and_of_no_other_s(started):
    _, door = started
    with (
        socket.create_server(("127.0.0.9", 0)) as server,
        socket.create_server(("127.0.0.8", 0)) as other,
    ):
        for one in (other, server):
            with socket.create_connection(one.getsockname()):
                pass
        port = server.getsockname()[1]
    lines = door.makefile("rb")
    told = []
    while not any(one["flags"] == "SA" for one in told):
        told.append(json.loads(lines.readline()))
    assert {one["port"] for one in told if one["out"]} | {port} == {port, *(o["own"] for o in told)}
    assert {one["from"] for one in told} <= {"127.0.0.9", "127.0.0.1"}
    assert [one["flags"] for one in told if one["from"] == "127.0.0.1"][:1] == ["S"]
