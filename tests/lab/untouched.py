"""Traces where nobody filters, over lines and routers drawn from seeds: what do they say?

``python -m tests.lab.untouched [--seeds 20] [--first 1]`` prints a table. Per seed one line and one
row of routers; on it, at the same time, a trace of every kind to a server that answers, and one of
every kind to a dead one. Routers that report seldom do so for each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probes.trace.common import Control, Word
from probes.trace.walk import Walk
from probes.trace.words import words
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.topology import Answers, Branches, Detour, Topology

HOPS = 9
NAME = "web.whatsapp.com"
ALIVE = ("stun", "turn", "dtls", "quic", "tls", "tcp", "dns")
DEAD = ("stun", "turn", "dtls", "quic", "tls", "tcp", "closed udp")
"""A closed port of TCP answers, by a reset: that is nobody dead."""
AT_ONCE = len(ALIVE) + len(DEAD)
RESOLVER = "9.9.9.9"
CLOSED = 45999
"""A port that no server of the lab has."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one trace said. ``wanted`` is the word that is true."""

    seed: int
    kind: str
    wanted: Word
    word: Word
    low: int | None
    packets: int
    seconds: float

    @property
    def accuses(self) -> bool:
        return self.word is Word.FOUND


def line(seed: int) -> Line:
    """Up to 25 ms of delay, 15 of jitter, 2 % of loss each way."""
    chance = random.Random(f"line {seed}")
    loss = chance.choice((0.0, 0.0, 0.01, 0.02))
    return Line(
        delay=chance.uniform(0.002, 0.025),
        jitter=chance.choice((0.0, 0.005, 0.015)),
        loss_out=Loss(loss, seed=2 * seed),
        loss_in=Loss(loss, seed=2 * seed + 1),
    )


def topology(seed: int) -> Topology:
    """Each router silent or limited by chance, branches and a longer way back on some paths."""
    chance = random.Random(f"routers {seed}")
    answers = []
    for hop in range(1, HOPS + 1):
        drawn = chance.random()
        if drawn < 0.12:
            answers.append(Answers(hop, silent=True))
        elif drawn < 0.3:
            rate = chance.choice((1.0, 5.0)) * AT_ONCE
            answers.append(Answers(hop, icmp_rate=rate, icmp_burst=3 * AT_ONCE))
    branches = (Branches(3, 6, count=chance.choice((2, 4)), seed=seed),)
    return Topology(
        answers=tuple(answers),
        branches=branches if chance.random() < 0.4 else (),
        detour=Detour(chance.choice((0, 0, 1, 3))),
    )


def walks(lab: Lab, seed: int) -> list[tuple[str, Word, Walk]]:
    """One of each kind, to who answers and to who does not."""
    stun = _place(lab, "stun", "whatsapp")
    web = lab.catalogue.names[NAME][0], 443
    dead = f"{web[0].rpartition('.')[0]}.9"  # routed, and nobody has it
    controls = {
        "udp": [Control(*_place(lab, "stun", "telegram"))],
        "tcp": [Control(*_place(lab, "tcp", "telegram"))],
    }
    if seed % 2:  # with a neighbour, and without
        controls["udp"].insert(0, Control(*stun, near=True))
        controls["tcp"].insert(0, Control(*web, near=True))

    def walk(kind: str, place: tuple[str, int]) -> Walk:
        said = words(kind, NAME if kind in ("quic", "tls", "dns") else "")
        return Walk(said, *place, controls=controls[said.transport])

    servers = {
        "stun": stun,
        "turn": stun,
        "dtls": stun,
        "quic": web,
        "tls": web,
        "tcp": web,
        "dns": (RESOLVER, 53),
    }
    made = [(kind, Word.NOTHING, walk(kind, servers[kind])) for kind in ALIVE]
    for kind in DEAD:
        closed = kind.startswith("closed")
        place = (stun[0], CLOSED) if closed else (dead, servers[kind][1])
        made.append((kind, Word.SERVER, walk(kind.removeprefix("closed "), place)))
    return made


def _place(lab: Lab, probe: str, messenger: str) -> tuple[str, int]:
    """The first server of a messenger that is asked so, by its IPv4 address."""
    found = lab.catalogue.select(messenger=messenger, probe=probe)
    return next((a, t.port) for t in found for a in t.addresses if ":" not in a)


def traced(lab: Lab, seed: int) -> list[Told]:
    """All of them on one path."""
    lab.restore()
    lab.world.rules.line(line(seed))
    lab.world.rules.topology(topology(seed))
    try:
        made = walks(lab, seed)

        async def together() -> list[Told]:
            reports = await asyncio.gather(*(walk.trace() for _, _, walk in made))
            return [
                Told(
                    seed,
                    kind,
                    wanted,
                    report.word,
                    report.place.stretch.low if report.place and report.place.stretch else None,
                    report.packets,
                    report.seconds,
                )
                for (kind, wanted, _), report in zip(made, reports, strict=True)
            ]

        return lab.world.call(lambda: asyncio.run(together()))
    finally:
        lab.restore()


def table(told: Sequence[Told]) -> str:
    """A row per kind: how often it was right, and what else it said."""
    rows = [f"{'to':<12}{'kind':<12}right"]
    for wanted, who in ((Word.NOTHING, "a server"), (Word.SERVER, "a dead one")):
        for kind in dict.fromkeys(t.kind for t in told if t.wanted is wanted):
            these = [t for t in told if t.kind == kind and t.wanted is wanted]
            right = sum(t.word is wanted for t in these)
            wrong = Counter(str(t.word) for t in these if t.word is not wanted)
            other = ", ".join(f"{n} {word}" for word, n in wrong.items())
            rows.append(f"{who:<12}{kind:<12}{right:>4} of {len(these)}  {other}".rstrip())
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    given = parser.parse_args()
    told: list[Told] = []
    with Lab(hops=HOPS) as lab:
        for seed in range(given.first, given.first + given.seeds):
            told += traced(lab, seed)
            wrong = [t for t in told if t.seed == seed and t.word is not t.wanted]
            seconds = max(t.seconds for t in told if t.seed == seed)
            print(f"seed {seed}: {seconds:.0f} s", *wrong, sep="\n  ", flush=True)
    print(table(told))


if __name__ == "__main__":
    main()
