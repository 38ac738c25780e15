"""How often media streams tell the truth: thousands of runs over path models.

python -m tests.lab.hearing                        all, into docs/call-quality.md (make lab)
python -m tests.lab.hearing --trials 100 --only transit --out -

Nothing is sent and no clock runs: packets go through ``ways.py``, then through the agent's own
arithmetic (probes/wire/quality.py and paired.py) and judgement (agent/hearing.py).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agent.hearing import LAST, Pair, Run, hear, is_bad
from agent.state import ChannelState, Policy, fold
from probes.model import Mechanism, Status
from probes.wire.paired import compare, turns
from probes.wire.quality import Packet, Quality, quality
from tests.lab.chance import Loss, draw
from tests.lab.path import Line
from tests.lab.ways import (
    Drifting,
    Event,
    Limit,
    Lossy,
    Queue,
    Segment,
    Shared,
    among,
    played,
)

ROOT = Path(__file__).parents[2]
TARGETED = Mechanism.MEDIA_DEGRADED_TARGETED
APART = 600.0
"""Seconds from one run to the next."""
TCP_PACE = 8.0
"""Round trips a second over TCP to the same site, on connections of their own."""
MARKS = "<!-- figures -->", "<!-- end of figures -->"

Make = Callable[[int], list[Segment]]
"""The segments of a way, from a seed; with state, so made anew for each trial."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Packets a second, seconds of sound in each, seconds of a run."""

    pace: float
    ptime: float
    seconds: float


VOIP20 = Profile(50.0, 0.020, 30.0)
VOIP60 = Profile(1 / 0.06, 0.060, 30.0)
VOIP120 = Profile(1 / 0.12, 0.120, 30.0)
KEEPALIVE = Profile(1.0, 0.020, 120.0)
URGENT = Profile(1.0, 0.020, 50.0)
"""A keepalive run that fits into a round."""


@dataclass(frozen=True, slots=True)
class World:
    """``least``: the share of trials that must name a target singled out; None for what is only
    reported; 0 for the innocent, where none may."""

    name: str
    make: Make
    least: float | None = 0.0
    profile: Profile = VOIP20
    nearest: float | None = None
    """The relay's RTT at other times, as an agent remembers it, seconds."""


# --- the streams of a run ---


def sends(profile: Profile, seed: int, *, beside: bool = True) -> list[Event]:
    """Target and twin take turns in a random order, so that neither always meets a queue first."""
    count = round(profile.pace * profile.seconds)
    step = 1 / profile.pace
    rng = random.Random(seed)
    order = turns(count, rng.randbytes(count // 8 + 2))
    made = []
    for n, first in enumerate(order):
        pair = ("target", "twin") if first else ("twin", "target")
        made += [Event(n * step + k * step / 2, stream, n) for k, stream in enumerate(pair)]
    if beside:
        phase, pause = rng.random() / TCP_PACE, 1 / TCP_PACE
        tcp = range(int(profile.seconds * TCP_PACE) - 1)
        made += [Event(phase + n * pause, "tcp", n) for n in tcp]
        made += [
            Event(rng.random() * 0.02 + n, "companion", n) for n in range(int(profile.seconds))
        ]
    return sorted(made)


def judged(at: float, packets: dict[str, list[Packet]], profile: Profile) -> Run:
    ours = quality(packets["target"], profile.ptime)
    beside = [name for name in ("tcp", "twin") if name in packets]
    pairs = [_pair(name, packets, profile, ours) for name in beside]
    companion = quality(packets.get("companion", []), profile.ptime)
    return Run(
        at=at,
        requests=ours.requests,
        bad_ratio=ours.bad or 0.0,
        burst_ratio=ours.burst_ratio or 1.0,
        mouth_to_ear=ours.mouth_to_ear,
        dispersion=ours.dispersion,
        pairs=tuple(pairs),
        companion_requests=companion.requests,
        companion_bad_ratio=companion.bad or 0.0,
        rtt=ours.rtt_median,
        rtt_min=ours.rtt_min,
        rtt_p95=ours.rtt_p95,
        loss_ratio=ours.lost,
        silent=ours.silent_after is not None,
    )


def _pair(name: str, packets: dict[str, list[Packet]], profile: Profile, ours: Quality) -> Pair:
    theirs = quality(packets[name], profile.ptime)
    both = packets["target"], packets[name]
    seen = compare(*both, profile.ptime, figures=(ours, theirs))
    rtts = theirs.rtt_median, theirs.rtt_min, theirs.rtt_p95
    return Pair(name, seen.worse, seen.z, theirs.requests, theirs.bad or 0.0, *rtts)


# --- the worlds ---


def near(loss: float = 0.0, burst: float = 0.0, jitter: float = 0.004) -> Make:
    """A line that loses that share of round trips."""
    each = loss / 2

    def make(seed: int) -> list[Segment]:
        there, back = Loss(each, burst, seed), Loss(each, burst, seed + 1)
        return [Shared.line(Line(0.02, jitter, there, back))]

    return make


def streams_apart(loss: float, burst: float) -> Make:
    """The same, but runs of lost packets hit one stream at a time: harder to tell."""

    def make(seed: int) -> list[Segment]:
        there, back = Loss(loss / 2, burst, seed), Loss(loss / 2, burst, seed + 1)
        return [Shared.line(Line(0.02, 0.004)), Lossy(there, back, apart=True)]

    return make


def and_then(make: Make, *more: Callable[[int], Segment]) -> Make:
    return lambda seed: [*make(seed), *(one(seed + 100 + n) for n, one in enumerate(more))]


def relay(loss: float, burst: float = 0.0) -> Callable[[int], Segment]:
    """Somebody drops what goes to the relay over UDP."""
    return lambda seed: Lossy(Loss(loss, burst, seed), chosen=among("target", "companion"))


def transit(loss: float, burst: float = 0.0) -> Callable[[int], Segment]:
    """The way to one operator loses, whatever goes there."""
    site = among("target", "companion", "tcp")
    return lambda seed: Lossy(Loss(loss / 2, burst, seed), Loss(loss / 2, burst, seed + 1), site)


def transit_evening(seed: int) -> Segment:
    return Drifting(seed, 0.3, 0.15, chosen=among("target", "companion", "tcp"))


def parallel(seed: int) -> Segment:
    """One of two links to the operator loses; which one a flow takes, its ports decide, and every
    run has new ones."""

    def on_it(event: Event) -> bool:
        if event.stream == "twin":
            return False
        run, flow = int(event.when // APART), event.number % 8 if event.stream == "tcp" else 0
        return draw(seed + sum(event.stream.encode()), run * 16 + flow) < 0.5

    return Lossy(Loss(0.15, 0.0, seed), chosen=on_it)


def link(rate: float, room: float, allowance: float = 0.0, others: float = 0.0) -> Make:
    return lambda seed: [
        Queue(rate, room, allowance, others, seed),
        Shared.line(Line(0.02, 0.002)),
    ]


def busy(seed: int) -> Segment:
    """A share of a full link in front of the relays, with a buffer for a quarter of a second."""
    mine = among("target", "companion")
    return Queue(125_000, 31_250, others=150_000, seed=seed, chosen=mine)


def limited(rate: float, *, together: bool) -> Callable[[int], Segment]:
    return lambda seed: Limit(rate, 2 * rate, among("target", "companion"), together)


GUILTY = (
    World("5 points more on the relay, nothing else", and_then(near(), relay(0.05)), 0.95),
    World("5 points more on the relay, 2 % on the line", and_then(near(0.02), relay(0.05)), 0.95),
    World(
        "5 points more, 2 % in runs of 3 on each stream",
        and_then(streams_apart(0.02, 3), relay(0.05)),
        0.90,
    ),
    World(
        "5 points more, 2 % in runs of 10 on each stream",
        and_then(streams_apart(0.02, 10), relay(0.05)),
        None,
    ),
    World(
        "5 points more, 2 % in runs of 10 on the line",
        and_then(near(0.02, 10), relay(0.05)),
        None,
    ),
    World("15 points more on the relay", and_then(near(0.02), relay(0.15)), 0.95),
    World("15 points more in runs of 3", and_then(near(0.02), relay(0.15, 3)), None),
    World("5 points more, 60 ms packets", and_then(near(0.02), relay(0.05)), None, VOIP60),
    World("5 points more, 120 ms packets", and_then(near(0.02), relay(0.05)), None, VOIP120),
    World("15 points more, 120 ms packets", and_then(near(0.02), relay(0.15)), None, VOIP120),
)
INNOCENT = (
    World("nothing", near()),
    World("7 % on everything", near(0.07)),
    World("15 % on everything", near(0.15)),
    World("7 % on everything, in runs of 10", near(0.07, 10)),
    World("2 % on everything, in runs of 10", near(0.02, 10)),
    World("2 % on everything, in runs of 30", near(0.02, 30)),
    World("2 % in runs of 10 on each stream", streams_apart(0.02, 10)),
    World("7 % in runs of 10 on each stream", streams_apart(0.07, 10)),
    World("evening congestion", and_then(near(0.01), lambda seed: Drifting(seed, 0.3, 0.15))),
    World("a slow line, 96 kbit/s", link(12_000, 6_000)),
    World("a line with room for one of both streams", link(7_400, 6_000)),
    World("a slow line with others on it", link(32_000, 16_000, others=14_000)),
    World("a shaped line, 110 kbit/s after 20 kB", link(13_750, 8_000, allowance=20_000)),
    World("5 points more on the transit to the operator", and_then(near(0.02), transit(0.05))),
    World("15 points more on the transit", and_then(near(0.02), transit(0.15))),
    World("15 points more on the transit, in runs of 10", and_then(near(0.02), transit(0.15, 10))),
    World("15 points more on the transit, in runs of 30", and_then(near(0.02), transit(0.15, 30))),
    World("an evening on the transit", and_then(near(0.01), transit_evening)),
    World("a server that limits flows to 20/s", and_then(near(0.01), limited(20, together=False))),
    World("a server that limits hosts to 40/s", and_then(near(0.01), limited(40, together=True))),
    World("relays with too much to do", and_then(near(0.01), busy), nearest=0.04),
    World("one of two links to the operator", and_then(near(0.01), parallel), None),
)
WORLDS = (*GUILTY, *INNOCENT)
RUNS = 3


# --- trials ---


@dataclass(frozen=True, slots=True)
class Heard:
    """``first``: after how many runs somebody was said to be singled out, 0 for never; ``last``:
    what the last run said."""

    world: str
    first: int
    last: str


def trial(world: World, seed: int) -> Heard:
    segments = world.make(seed * 1000)
    runs: list[Run] = []
    for number in range(RUNS):
        start = number * APART
        packets = played(sends(world.profile, seed * 10 + number), segments, start)
        runs.append(judged(start, packets, world.profile))
        heard = hear(runs, world.nearest)
        if heard.mechanism is TARGETED:
            return Heard(world.name, number + 1, heard.mechanism)
    last = heard.mechanism or ("bad" if heard.bad else "fine")
    return Heard(world.name, 0, str(last))


INTERVAL, ROUND = 600.0, 60.0
BEGINS = 1000.0
"""When the loss of the client profile's trials begins."""
ENTER, LEAVE, SPACING = 3, 7, 50.0


def minutes_until_degraded(loss: float, seed: int, limit: float = 3600.0) -> float | None:
    """From the first lost packet to the state, as the client profile runs: two targets, 120 packets
    every ten minutes; after a bad run fifty in every round until it is decided. None: never.

    The loss begins somewhere between two runs or within one.
    """
    rng = random.Random(seed)
    starts = BEGINS - rng.random() * INTERVAL
    segments = [
        Shared.line(Line(0.02, 0.004, Loss(0.01, 0, seed), Loss(0.01, 0, seed + 1))),
        Lossy(Loss(loss, 0, seed + 2), chosen=lambda event: event.when >= BEGINS),
    ]
    policy = Policy(ENTER, LEAVE, SPACING)
    state = ChannelState(confirmed=Status.OK, since=0.0)
    urgent = False
    while starts < BEGINS + limit:
        profile = URGENT if urgent else KEEPALIVE
        packets = played(sends(profile, rng.randrange(1 << 30), beside=False), segments, starts)
        # The second stream stands for a second relay of the same messenger.
        bad = any(is_bad(judged(0, {"target": packets[name]}, profile)) for name in packets)
        ended = starts + profile.seconds + 2.0
        state = fold(state, Status.DEGRADED if bad else Status.OK, ended, 1.0, policy)
        if state.confirmed is Status.DEGRADED:
            return (ended - BEGINS) / 60
        urgent = state.undecided()
        beats = 1 if urgent and profile is URGENT else 3
        starts += beats * ROUND if urgent else INTERVAL
    return None


# --- many of them ---


def _group(work: tuple[str, range]) -> list[Heard]:
    world = next(world for world in WORLDS if world.name == work[0])
    return [trial(world, seed) for seed in work[1]]


def _waits(work: tuple[float, range]) -> list[float | None]:
    return [minutes_until_degraded(work[0], seed) for seed in work[1]]


def pieces(trials: int, size: int = 25) -> list[range]:
    return [range(n + 1, min(n + size, trials) + 1) for n in range(0, trials, size)]


def heard(worlds: Sequence[World], trials: int, jobs: int) -> Iterator[Heard]:
    work = [(world.name, seeds) for world in worlds for seeds in pieces(trials)]
    with ProcessPoolExecutor(jobs) as pool:
        for group in pool.map(_group, work):
            yield from group


def waited(loss: float, trials: int, jobs: int) -> list[float | None]:
    with ProcessPoolExecutor(jobs) as pool:
        groups = pool.map(_waits, [(loss, seeds) for seeds in pieces(trials)])
        return [one for group in groups for one in group]


KEPT_WITHIN, KEPT_SHARE = 15.0, 0.90
LOSSES = (0.0, 0.05, 0.10, 0.15, 0.25)


def holds(world: World, found: Sequence[Heard]) -> bool:
    named = sum(bool(one.first) for one in found)
    return world.least is None or (
        named == 0 if world.least == 0 else named >= world.least * len(found)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.hearing")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--only", default="", help="worlds with this in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", default=str(ROOT / "docs" / "call-quality.md"))
    given = parser.parse_args(arguments)
    worlds = [world for world in WORLDS if given.only in world.name]
    found: dict[str, list[Heard]] = {world.name: [] for world in worlds}
    for one in heard(worlds, given.trials, given.jobs):
        found[one.world].append(one)
        if len(found[one.world]) == given.trials:
            print(one.world, Counter(h.last for h in found[one.world]), file=sys.stderr)
    waits = {loss: waited(loss, given.trials, given.jobs) for loss in LOSSES if not given.only}
    text = table(worlds, found, waits, given.trials)
    if given.out == "-":
        print(text)
    else:
        written(Path(given.out), text)
    soon = sum(m is not None and m <= KEPT_WITHIN for m in waits.get(0.15, []))
    kept = not waits or (
        soon >= KEPT_SHARE * given.trials and not any(m is not None for m in waits[0.0])
    )
    return 0 if kept and all(holds(w, found[w.name]) for w in worlds) else 1


def written(page: Path, text: str) -> None:
    """Between the marks of the page; the rest is written by hand. What is no page yet becomes one:
    an hour's figures are not lost for a mistyped name."""
    start, end = MARKS
    whole = page.read_text(encoding="utf-8") if page.exists() else ""
    before, _, rest = whole.partition(start)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{start}\n\n{text}\n{end}{after}", encoding="utf-8")


def table(
    worlds: Sequence[World],
    found: dict[str, list[Heard]],
    waits: dict[float, list[float | None]],
    trials: int,
) -> str:
    lines = [
        f"{trials:,} trials each, up to three runs of 30 s, 10 minutes apart.",
        "",
        "| what happens | wanted | `media_degraded_targeted` | after run 2 | otherwise said |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(world, found[world.name]) for world in worlds]
    if waits:
        lines += [
            "",
            "The client profile: two relays, 2 % on the line, and so much more to both relays.",
            "",
            "| more loss | degraded within 15 minutes | ever within an hour | median minutes |",
            "|---|---|---|---|",
        ]
        lines += [_waiting(loss, its) for loss, its in waits.items()]
    return "\n".join([*lines, ""])


def _row(world: World, found: Sequence[Heard]) -> str:
    named = [one.first for one in found if one.first]
    said = Counter(one.last for one in found if not one.first)
    wanted = "–" if world.least is None else f"≥ {world.least:.0%}" if world.least else "0"
    share = f"{len(named) / len(found):.1%}" if world.least != 0 else str(len(named))
    early = f"{sum(n <= LAST - 1 for n in named) / len(found):.1%}" if named else "–"
    others = ", ".join(f"`{what}` {count / len(found):.1%}" for what, count in said.most_common(3))
    return f"| {world.name} | {wanted} | {share} | {early} | {others or '–'} |"


def _waiting(loss: float, waits: Sequence[float | None]) -> str:
    known = sorted(m for m in waits if m is not None)
    soon = sum(m <= KEPT_WITHIN for m in known) / len(waits)
    middle = f"{known[len(known) // 2]:.1f}" if known else "–"
    return f"| {loss:.0%} | {soon:.1%} | {len(known) / len(waits):.1%} | {middle} |"


if __name__ == "__main__":
    sys.exit(main())
