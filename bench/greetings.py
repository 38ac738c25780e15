"""CPU of a messenger's own first words: one probe against a server of another process on loopback.

The probe's own process only, everything in it: the socket, asyncio, the cryptography. Aims: Noise
with its chain verified 3 ms, MTProto in its abridged transport 0.4 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from probes.mtproto import MtprotoProbe
from probes.net.address import OwnAddresses
from probes.net.environment import Environment
from probes.noise import NoiseProbe
from probes.tcp import TcpProbe
from probes.trail import Peer, Trail
from probes.wire.mtproto import Transport
from tests.lab.noise import Vault
from tests.lab.world import ROOT, wait_until

HERE = "127.0.0.1"
BATCHES, RUNS = 5, 300


def main() -> None:
    vault = Vault()
    centre, host = _free(), _free()
    with _servers(vault, centre, host):
        _bench("tcp, to compare", TcpProbe(), centre)
        for transport in (Transport.ABRIDGED, Transport.INTERMEDIATE, Transport.OBFUSCATED):
            aim = ", aim 0.4" if transport is Transport.ABRIDGED else ""
            _bench(f"mtproto {transport}{aim}", MtprotoProbe(transport), centre)
        _bench("noise with verification, aim 3", NoiseProbe(root=vault.root_hex), host)


def _bench(what: str, probe: Any, port: int) -> None:
    asyncio.run(_batch(probe, port))  # imports, caches
    spent = sorted(asyncio.run(_batch(probe, port)) for _ in range(BATCHES))
    each = ", ".join(f"{one:.3f}" for one in spent)
    print(f"{what}: {statistics.median(spent):.3f} ms of CPU ({each})", flush=True)


async def _batch(probe: Any, port: int) -> float:
    """Milliseconds of CPU for one probe."""
    env = Environment(own=OwnAddresses(local=frozenset()))
    began = time.process_time()
    for _ in range(RUNS):
        trail = Trail(env, 5.0)
        await probe.run(trail, Peer(HERE, port, ""))
        assert trail.steps[-1].failure is None, trail.steps[-1]
    return 1000 * (time.process_time() - began) / RUNS


def _free() -> int:
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        port: int = sock.getsockname()[1]
    return port


@contextlib.contextmanager
def _servers(vault: Vault, centre: int, host: int) -> Iterator[None]:
    told = {
        "places": [[HERE, centre, "mtproto"], [HERE, host, "noise"]],
        "doors": [],
        "static": vault.static.hex(),
        "chain": vault.chain().hex(),
    }
    command = [sys.executable, "-m", "tests.lab.greeters"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    try:
        wait_until(lambda: not _refused(host), "the servers", 20)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _refused(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HERE, port)) != 0
