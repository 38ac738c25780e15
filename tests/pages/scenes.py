"""Three states of the world for the page: what an agent in the virtual world saw of each, with a
month before it that is made up."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.history import History
from agent.store import FILE, Store
from agent.trimming import Limits
from exporters.mirror import Mirror
from tests.lab.actions import Drop
from tests.lab.censor import Censor, match
from tests.lab.presets import preset
from tests.lab.scenario import prefixes
from tests.lab.virtual.world import Agent, VirtualWorld, configuration

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
VERSIONS = {"rules": "6", "catalogue": "2026-11-01"}
TELEGRAM_RELAYS = ("91.108.0.0/16",)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the web process has of an agent: its mirror, its state folder, Unix seconds."""

    mirror: Mirror
    folder: Path
    now: float


def _nothing(world: VirtualWorld) -> None:
    return None


def _august(world: VirtualWorld) -> None:
    """Telegram's calls connect and sound like metal, WhatsApp's relays do not answer any more."""
    relays = prefixes(world, messenger="whatsapp", channel="call")  # type: ignore[arg-type] # it has a catalogue
    for rule in (
        *preset("calls_lossy", remote=TELEGRAM_RELAYS),
        Censor(match(protocol="udp", remote=relays), Drop()),
    ):
        world.path.add(rule, world.clock.now)


def _offline(world: VirtualWorld) -> None:
    world.path.add(Censor(match(), Drop()), world.clock.now)


SCENES: dict[str, tuple[Callable[[VirtualWorld], None], float]] = {
    "healthy": (_nothing, 10.0),
    "august": (_august, 100.0),
    "offline": (_offline, 20.0),
}
"""What happens, and for how many minutes."""


def scene(name: str, folder: Path, healthy: float = 45.0, seed: int = 3) -> Scene:
    """``healthy``: minutes before it happens."""
    happen, minutes = SCENES[name]
    with VirtualWorld(seed) as world:
        clock = world.clock
        store = Store(folder / "state")
        history = History(
            store, Limits(30 * DAY, 2**30), MINUTE, lambda: VERSIONS, lambda: clock.now
        )
        agent = Agent(world, configuration("client", folder), store, history=history)
        began = clock.wall()
        world.run(agent.rounds(clock.now + healthy * MINUTE))
        happen(world)
        world.run(agent.rounds(clock.now + minutes * MINUTE))
        mirror, now = Mirror(), clock.wall()
        everything = agent.core.everything()
        everything.ready = True
        everything.agent.name = "kitchen"
        everything.agent.version, everything.agent.rules = "0.1.0", VERSIONS["rules"]
        world.run(agent.stop())
    mirror.apply(everything, 0.0)
    _month_before(folder / "state" / FILE, began, random.Random(seed))
    return Scene(mirror, folder / "state", now)


_PAST = (
    # days ago, hours, messenger, channel, status, mechanism, certainty, what was seen
    (21.3, 5.0, "telegram", "call", "blocked", "udp_relay_block", "confirmed",
     "Telegram calls: blocked, none of 16 servers answers."),
    (17.8, 0.7, "telegram", "web", "degraded", "tls_sni_reset", "likely",
     "Telegram web: degraded, 3 of 6 servers answer."),
    (12.1, 2.2, "whatsapp", "web", "degraded", "dns_tamper", "likely",
     "WhatsApp web: degraded, 2 of 4 servers answer."),
    (3.4, 1.5, "telegram", "call", "degraded", "media_degraded_targeted", "likely",
     "Telegram calls: degraded, its servers answer, and too much of a stream to them is lost."),
    (0.6, 0.4, "telegram", "call", "unreachable", "inconclusive", "none",
     "Telegram calls: unreachable, none of 16 servers answers."),
)  # fmt: skip
_ASLEEP = (6.2, 9.0)
"""Days ago, and hours, in which the agent did not run."""


def _month_before(file: Path, began: float, rng: random.Random) -> None:
    """Written below the first numbers, so that it comes before what was really seen."""
    with closing(sqlite3.connect(file)) as db, db:
        channels = db.execute("SELECT DISTINCT messenger, channel FROM changes").fetchall()
        changes = [
            (began - 30 * DAY, m, c, "ok", "none", "none", f"{m} {c}: ok.") for m, c in channels
        ]
        for days, hours, m, c, *told in _PAST:
            at = began - days * DAY
            changes.append((at, m, c, *told))
            changes.append((at + hours * HOUR, m, c, "ok", "none", "none", f"{m} {c}: ok."))
        changes.sort()
        for turn in (f"-id - {len(changes)}", "-id"):  # no number is there twice meanwhile
            db.execute(f"UPDATE changes SET id = {turn}")
        db.executemany(
            "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', ?, 0.9, 'R38a', '', ?, 9)",
            [(number, *row[:6], row[0], row[6]) for number, row in enumerate(changes, start=1)],
        )
        asleep = began - _ASLEEP[0] * DAY
        awake = asleep + _ASLEEP[1] * HOUR
        for number, span in enumerate(((began - 30 * DAY, asleep), (awake, began + MINUTE))):
            db.execute("INSERT INTO spans VALUES (?, ?, ?, ?)", (number - 2, *span, MINUTE))
        first = db.execute("SELECT min(at) FROM slots").fetchone()[0]
        model = db.execute(
            "SELECT slots.* FROM slots JOIN (SELECT target, min(at) AS at FROM slots"
            " WHERE at > ? GROUP BY target) USING (target, at)",
            (first,),
        ).fetchall()
        rows = []
        for slot in range(int(first - 30 * DAY), int(first), 600):
            if not asleep <= slot < awake:
                rows += [(row[0], slot, *_noisy(row[2:], slot, rng)) for row in model]
        db.executemany(f"INSERT INTO slots VALUES ({', '.join('?' * 15)})", rows)


def _noisy(row: tuple[float | None, ...], at: float, rng: random.Random) -> list[float | None]:
    """The evening is worse than the morning, and no ten minutes are like another."""
    busy = 1 + 0.3 * max(0.0, 1 - abs((at % DAY) / HOUR - 18) / 5)
    made = list(row)
    for index, spread in ((2, 0.05), (3, 0.1), (4, 0.4), (9, 0.8)):
        value = made[index]
        if value is not None:
            made[index] = value * busy * (1 + spread * rng.random())
    if made[7] is not None:
        made[7] = 0.004 * busy * rng.random()
    if made[10] is not None:
        made[10] = 4.4 - 0.1 * busy * rng.random()
    return made
