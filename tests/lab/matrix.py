"""The matrix of verdicts: every scenario many times on the virtual clock, and once for real.

python -m tests.lab.matrix                 everything, into docs/matrix.md (make lab)
python -m tests.lab.matrix --only relays --seeds 3 --innocent-seeds 3 --no-real --out -
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import IO

from tests.lab import rehearsal
from tests.lab.scenario import Expected, Scenario
from tests.lab.trial import Found
from tests.lab.trials import SCENARIOS, groups, played
from tests.lab.world import ROOT

SHARE = 0.97
"""Of the runs that must end with the right status and first mechanism."""
GROUP = 5
INNOCENT_GROUP = 25
QUICK = 20.0
"""Minutes of a scenario that a quick run still plays."""
PROFILES = ("client", "research")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    chosen = [s for s in SCENARIOS.values() if not given.only or given.only in s.name]
    if given.quick:
        chosen = [s for s in chosen if s.minutes <= QUICK]
    chosen = chosen[:: given.every]
    started = time.monotonic()
    with Path(given.keep or os.devnull).open("w") as kept:
        found = list(_keeping(_virtual(chosen, given), kept, real=False))
        real = list(_keeping(_real(chosen, given), kept, real=True))
    spent = time.monotonic() - started
    options = " ".join(sys.argv[1:] if arguments is None else arguments)
    text = page(chosen, found, real, spent, options)
    if given.out == "-":
        print(text)
    else:
        Path(given.out).write_text(text, encoding="utf-8")
    return 0 if holds(found) else 1


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.matrix")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--every", type=int, default=1, help="a sample: every so many scenarios")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--innocent-seeds", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--labs", type=int, default=2, help="laboratories at a time")
    parser.add_argument("--no-real", action="store_true", help="the virtual clock only")
    parser.add_argument("--no-research", action="store_true", help="profile: client only")
    parser.add_argument("--quick", action="store_true", help="without what takes hours")
    parser.add_argument("--keep", default="", help="file for every single run, one JSON a line")
    parser.add_argument("--out", default=str(ROOT / "docs" / "matrix.md"))
    return parser.parse_args(arguments)


def _keeping(runs: Iterable[Found], kept: IO[str], *, real: bool) -> Iterator[Found]:
    for number, one in enumerate(runs, 1):
        kept.write(json.dumps({**asdict(one), "real": real}) + "\n")
        kept.flush()
        if real or number % 100 == 0:
            print(f"{number} runs{' for real' * real}", file=sys.stderr, flush=True)
        yield one


def _virtual(chosen: Sequence[Scenario], given: argparse.Namespace) -> Iterator[Found]:
    guilty = [s for s in chosen if not s.innocent]
    innocent = [s for s in chosen if s.innocent]
    seeds = range(1, given.seeds + 1)
    work = []
    for profile in PROFILES[: 1 if given.no_research else 2]:
        work += groups(guilty, profile, seeds, GROUP)
    work += groups(innocent, "client", range(1, given.innocent_seeds + 1), INNOCENT_GROUP)
    return played(work, given.jobs)


def _real(chosen: Sequence[Scenario], given: argparse.Namespace) -> Iterator[Found]:
    if given.no_real:
        return iter(())
    names = [s.name for s in chosen if rehearsal.rehearsable(s) and not s.ipv6]
    return rehearsal.rehearsed(names, "client", given.labs)


def holds(found: Iterable[Found]) -> bool:
    """Is what must be shown shown?"""
    counted = [f for f in found if not SCENARIOS[f.scenario].later]
    innocent = [f for f in counted if SCENARIOS[f.scenario].innocent]
    guilty = [f for f in counted if not SCENARIOS[f.scenario].innocent]
    right = sum(f.right for f in guilty)
    clean = not any(f.accused or f.error for f in innocent)
    return clean and right >= SHARE * len(guilty)


# The page


def page(
    chosen: Sequence[Scenario],
    found: Sequence[Found],
    real: Sequence[Found],
    spent: float,
    options: str = "",
) -> str:
    lines = [*_head(found, real, spent, options), ""]
    guilty = [s for s in chosen if not s.innocent]
    lines += [
        "## Interference",
        "",
        "| scenario | what happens | expected | client | research | state after, minutes | named"
        " after, minutes | packets | for real |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_guilty_row(s, found, real) for s in guilty]
    lines += [
        "",
        "## Nobody's doing",
        "",
        "| world | what happens | runs | accused | for real |",
        "|---|---|---|---|---|",
    ]
    lines += [_innocent_row(s, found, real) for s in chosen if s.innocent]
    waiting = [f"- {s.name}: {s.later}" for s in chosen if s.later]
    if waiting:
        lines += ["", "## Cannot be told here (†)", "", *waiting]
    return "\n".join([*lines, "", *_misses(found)])


def _head(found: Sequence[Found], real: Sequence[Found], spent: float, options: str) -> list[str]:
    counted = [
        f for f in found if not SCENARIOS[f.scenario].innocent and not SCENARIOS[f.scenario].later
    ]
    right = sum(f.right for f in counted)
    innocent = [f for f in found if SCENARIOS[f.scenario].innocent]
    accused = sum(bool(f.accused) for f in innocent)
    share = f"{right / len(counted):.1%}" if counted else "–"
    return [
        "# The matrix of verdicts",
        "",
        f"Made by `{f'python -m tests.lab.matrix {options}'.strip()}`.",
        "`make lab` plays all of",
        "`tests/lab/interference` and `tests/lab/innocent.py`: the agent's own code on a clock",
        "that jumps, with the shipped catalogue, the default schedule, no twin, no outside view;",
        "and once for real in the network namespaces, as one `callpath check` after a healthy one.",
        "",
        f"- Right status and first mechanism: {right} of {len(counted)} runs ({share}), those",
        "  that cannot be told here (†) left out.",
        f"- Innocent worlds: {len(innocent)} runs, {accused} with somebody accused at likely or",
        "  better.",
        f"- For real: {sum(f.right for f in real)} of {len(real)}.",
        f"- It took {spent / 60:.0f} minutes.",
        "",
        'Times are median and longest, from the first packet that was interfered with. "State" is',
        'any bad state; "named" is the expected one with its mechanism. Packets are all that the',
        "agent sent until then.",
    ]


def _guilty_row(s: Scenario, found: Sequence[Found], real: Sequence[Found]) -> str:
    client = [f for f in found if f.scenario == s.name and f.profile == "client"]
    research = [f for f in found if f.scenario == s.name and f.profile == "research"]
    goal = f" (goal {s.goal:g})" if s.goal else ""
    expected = _told(s.client)
    if s.research:
        expected += f"; research: {_told(s.research)}"
    packets = [f.packets for f in client if f.packets is not None]
    cells = (
        s.name + (" †" if s.later else ""),
        s.what,
        expected,
        _share(client),
        _share(research),
        _times([f.entered for f in client]) + goal,
        _times([f.minutes for f in client]),
        f"{median(packets):.0f}" if packets else "–",
        _once(s, real),
    )
    return "| " + " | ".join(cells) + " |"


def _innocent_row(s: Scenario, found: Sequence[Found], real: Sequence[Found]) -> str:
    its = [f for f in found if f.scenario == s.name]
    accused = sum(bool(f.accused) for f in its)
    cells = (s.name, s.what, str(len(its)), str(accused), _once(s, real))
    return "| " + " | ".join(cells) + " |"


def _told(expected: Sequence[Expected]) -> str:
    return "; ".join(
        f"{e.messenger} {e.channel} {' or '.join(e.status)}"
        + (f" `{'` or `'.join(e.mechanism)}`" if e.mechanism else "")
        for e in expected
    )


def _share(found: Sequence[Found]) -> str:
    return f"{sum(f.right for f in found)}/{len(found)}" if found else "–"


def _times(minutes: Sequence[float | None]) -> str:
    known = [m for m in minutes if m is not None]
    return f"{median(known):.1f}, {max(known):.1f}" if known else "–"


def _once(s: Scenario, real: Sequence[Found]) -> str:
    its = [f for f in real if f.scenario == s.name]
    if not its:
        return s.virtual or "–"
    return "yes" if its[0].right else "no: " + ", ".join(its[0].accused or its[0].last.values())


def _misses(found: Sequence[Found]) -> list[str]:
    """What was found instead, most often first."""
    wrong: Counter[tuple[str, str, str]] = Counter()
    for f in found:
        s = SCENARIOS[f.scenario]
        if f.error:
            wrong[f.scenario, f.profile, f.error.strip().splitlines()[-1]] += 1
        elif f.accused:
            wrong[f.scenario, f.profile, "accused: " + ", ".join(sorted(f.accused))] += 1
        elif not f.right:
            places = [f"{e.messenger} {e.channel}" for e in s.expected(f.profile)]
            seen = "; ".join(f"{p}: {f.last.get(p, 'ok')}" for p in places)
            wrong[f.scenario, f.profile, seen] += 1
    if not wrong:
        return []
    lines = [
        "## What was found instead",
        "",
        "| scenario | profile | found | runs |",
        "|---|---|---|---|",
    ]
    lines += [f"| {n} | {p} | {what} | {count} |" for (n, p, what), count in wrong.most_common()]
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
