"""What another callpath on an open network sees, read from its status: the control for "is the
server up at all?". Whatever is wrong with it, it is only ever "not measured".
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from config.schema import OutsideSettings
from probes.model import Target, VantageStatus
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from probes.net.fetch import fetch
from probes.trail import NETWORK_ERRORS, classify

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""Messenger, target, probe."""

MAX_BYTES = 2 * 1024 * 1024
MAX_TARGETS = 10_000
MAX_DEPTH = 32
SECONDS = 20.0
"""For reading it, in all."""
AHEAD = 60.0
"""Seconds that the other clock may be ahead of ours."""
LEAST_PAUSE = 60.0
STATUS_BYTES = 50_000
"""For the byte plan: what the shipped catalogue's status takes, with headers and handshake."""
_OUTSIDE = Target("outside", "", "status", "outside")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def pause_of(settings: OutsideSettings) -> float:
    """Seconds between two readings: a fifth of the age, a minute at the least; in a laboratory,
    where all is faster, half of the age."""
    return min(max(LEAST_PAUSE, settings.max_age / 5), settings.max_age / 2)


class Malformed(Exception):
    """The document is not a status. The text is ours alone: nothing of the document is in it."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """``at``: when the other callpath last asked, Unix seconds; ``slow``: does a transfer crawl
    there?"""

    works: bool
    at: float
    slow: bool | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """``at``: when the status was made, Unix seconds; ``max_age``: seconds after which it, or one
    sighting in it, says nothing any more."""

    at: float
    max_age: float
    targets: Mapping[Key, Sighting]

    def sighting(self, messenger: str, target: str, probe: str, now: float) -> Sighting | None:
        """What is known of it out there, with its time; None when it was not measured lately."""
        seen = self.targets.get((messenger, target, probe))
        if seen is None or not self._is_fresh(self.at, now) or not self._is_fresh(seen.at, now):
            return None
        return seen

    def works(self, messenger: str, target: str, probe: str, now: float) -> bool | None:
        """Does it work out there? None when that was not measured."""
        seen = self.sighting(messenger, target, probe, now)
        return None if seen is None else seen.works

    def problem(self, now: float) -> str:
        """Why nothing in it says anything; "" when something may."""
        if self._is_fresh(self.at, now):
            return ""
        if self.at > now:
            return "the outside view is from the future: one of the two clocks is wrong"
        return f"the outside view is too old: more than {self.max_age / 60:g} min"

    def _is_fresh(self, at: float, now: float) -> bool:
        return now - self.max_age <= at <= now + AHEAD


def read_status(data: bytes, max_age: float) -> Outside:
    """Read the document of /api/v1/status (docs/commands.md). Raises Malformed.

    From a line that is not online only what works is taken over: its failures may be its own.
    """
    if len(data) > MAX_BYTES:
        raise Malformed("is too large")
    document = _mapping(_parsed(data))
    if document.get("version") != 1 or isinstance(document["version"], bool):
        raise Malformed("is of another version")
    trusted = _mapping(document.get("vantage")).get("status") == VantageStatus.ONLINE
    found: dict[Key, Sighting] = {}
    for channel in _list(document.get("channels")):
        messenger = _name(_mapping(channel).get("messenger"))
        for state in _list(channel.get("target_states")):
            key, sighting = _sighting(messenger, _mapping(state))
            if sighting is not None and (sighting.works or trusted):
                found[key] = sighting
            if len(found) > MAX_TARGETS:
                raise Malformed("names too many targets")
    return Outside(_instant(document.get("at")), max_age, found)


def _sighting(messenger: str, state: dict[str, Any]) -> tuple[Key, Sighting | None]:
    key = (messenger, _name(state.get("target")), _name(state.get("probe")))
    works, last_run = state.get("works"), state.get("last_run")
    if works is not None and not isinstance(works, bool):
        raise Malformed("has a target that neither works nor does not")
    slow = state.get("slow")
    if slow is not None and not isinstance(slow, bool):
        raise Malformed("has a pace that is neither slow nor not")
    if works is None or last_run is None:
        return key, None
    return key, Sighting(works, _instant(last_run), slow)


def _parsed(data: bytes) -> Any:
    """Strict JSON: no NaN, no key twice, no depth that only an attacker needs."""
    try:
        text = data.decode("utf-8")
        if _depth(text) > MAX_DEPTH:
            raise Malformed("is nested too deeply")
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Malformed("is not JSON") from None


def _depth(text: str) -> int:
    """At least how deep it is nested: brackets inside of strings count too."""
    deepest = depth = 0
    for found in re.finditer(r"[\[{\]}]", text):
        depth += 1 if found[0] in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("has no object where one belongs")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed("has no list where one belongs")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Malformed("has a name that is none")
    return value


def _instant(value: Any) -> float:
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Malformed("has a time that is none") from None
    if instant.tzinfo is None:
        raise Malformed("has a time without a zone")
    return instant.timestamp()


@dataclass(slots=True)
class OutsideView:
    """Keeps the newest outside view, read beside the measuring; ``current`` is None without one.
    ``problem``: why the last reading told nothing, in our words; "" when it did."""

    settings: OutsideSettings
    env: Environment
    current: Outside | None = None
    problem: str = ""
    _task: asyncio.Task[None] | None = None
    _read: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def configured(self) -> bool:
        return bool(self.settings.file or self.settings.url)

    def sees(self, targets: Iterable[Target], now: float) -> dict[Target, bool]:
        """Which of these work out there; those that were not measured there lately are left out."""
        if self.current is None:
            return {}
        found = {t: self.current.works(t.messenger, t.name, t.probe, now) for t in targets}
        return {target: works for target, works in found.items() if works is not None}

    def start(self) -> None:
        """Read it now and from then on, in a task of its own."""
        if self.configured and self._task is None:
            self._task = asyncio.create_task(self._keep_reading())

    async def first_read(self) -> None:
        """Until it was read once, or could not be; at once where nothing was started."""
        if self._task is not None:
            await self._read.wait()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def inherit(self, old: OutsideView) -> None:
        """After a reload: what was just read from the same place need not be missed."""
        same = (self.settings.file, self.settings.url) == (old.settings.file, old.settings.url)
        if same and old.current is not None:
            self.current = Outside(old.current.at, self.settings.max_age, old.current.targets)

    async def refresh(self) -> None:
        """Read it once. What was read before stays until it is too old to say anything."""
        if not self.configured:
            return
        try:
            self.current = read_status(await self._data(), self.settings.max_age)
        except Malformed as error:
            self._tell(f"the outside view {error}")
        except NotMeasured as error:
            self._tell(f"the outside view was not asked for: {error.reason}")
        except NETWORK_ERRORS as error:  # the words of a server are not ours to repeat
            self._tell(f"the outside view cannot be read: {self._reason(error)}")
        else:
            self._tell(self.current.problem(time.time()))

    def _reason(self, error: Exception) -> str:
        known = isinstance(error, OSError) and self.settings.file and error.strerror
        return known.lower() if known else str(classify(error))

    def slow(self, targets: Iterable[Target], now: float) -> dict[Target, bool]:
        """Which transfers crawl out there too; those of which that is not known are left out."""
        if self.current is None:
            return {}
        seen = {t: self.current.sighting(t.messenger, t.name, t.probe, now) for t in targets}
        return {t: s.slow for t, s in seen.items() if s is not None and s.slow is not None}

    async def _data(self) -> bytes:
        if self.settings.url:
            return await fetch(
                self.env, self.settings.url, _OUTSIDE, limit=MAX_BYTES, seconds=SECONDS
            )
        return await asyncio.to_thread(_read_file, Path(self.settings.file))

    async def _keep_reading(self) -> None:
        pause = pause_of(self.settings)
        while True:
            try:
                await self.refresh()
            except Exception:
                # A bug costs the view, which then is not measured, and never the agent.
                log.exception("bug in reading the outside view")
            self._read.set()
            await asyncio.sleep(pause)

    def _tell(self, problem: str) -> None:
        """Say it once, and once when it is over."""
        problem = problem and f"{problem}; it counts as not measured"
        if problem and problem != self.problem:
            log.warning("%s", problem)
        elif self.problem and not problem:
            log.info("the outside view is read again")
        self.problem = problem


def _read_file(path: Path) -> bytes:
    """At most one byte more than is allowed. Raises OSError, also for what is no plain file: a
    pipe could be waited for without end."""
    if not path.is_file():
        raise FileNotFoundError(2, "no such file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
