"""How long it takes to say what was done to a thousand failing observations (goal: 20 ms)."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from agent.case import Case
from agent.verdicts import find
from probes.model import Failure
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from tests.agent import worlds
from tests.agent.building import target

COUNT = 1000
RUNS = 5


def _address(number: int) -> str:
    return f"198.51.{number // 250}.{number % 250}"


def _connects() -> Case:
    silent = [
        worlds.syn(
            target(f"t{n}", channel="chat", probe=TcpProbe(), host=_address(n // 2), port=port)
        )
        for n in range(COUNT)
        for port in ((443, 5222)[n % 2],)
    ]
    nearest = {config.host: 0.1 for config, _ in silent}
    return worlds.case(silent, channel="chat", nearest=nearest)


def _hellos() -> Case:
    probe = worlds.W1.probe
    reset = [
        worlds.hello(
            target(f"w{n}", channel="web", probe=probe, host=f"w{n}.test", port=443),
            Failure.RESET,
            _address(n),
        )
        for n in range(COUNT)
    ]
    return worlds.case(reset, contrasts=[worlds.neutral(f) for f in reset[:3]])


def _names() -> Case:
    denied = [
        worlds.name(
            target(f"w{n}", channel="web", probe=worlds.W1.probe, host=f"w{n}.test", port=443),
            Failure.NO_ADDRESS,
            rcode="NXDOMAIN",
        )
        for n in range(COUNT)
    ]
    told = [worlds.trusted(f, t, (worlds.A1,)) for f in denied[:2] for t in ("udp", "tcp", "tls")]
    return worlds.case(denied, contrasts=told)


def _relays() -> Case:
    silent = [
        worlds.udp(target(f"r{n}", probe=StunProbe(), host=_address(n), port=1400))
        for n in range(COUNT)
    ]
    return worlds.case(silent, channel="call", contrasts=[worlds.dress(silent[0], 0, cookie=False)])


WORLDS: dict[str, Callable[[], Case]] = {
    "connects": _connects,
    "hellos": _hellos,
    "names": _names,
    "relays": _relays,
}


def main() -> None:
    for name, world in WORLDS.items():
        case, spent = world(), []
        for _ in range(RUNS):
            started = time.process_time()
            found = find(case)
            spent.append(time.process_time() - started)
        rules = ", ".join(f.rule for f in found)
        text = f"diagnosing {COUNT} {name}: {1000 * statistics.median(spent):.1f} ms ({rules})\n"
        sys.stdout.write(text)
