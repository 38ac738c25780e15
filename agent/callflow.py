"""What one run of the call probe says: which of its flows died, and after how much. Pure.

The same is read of a media stream, which is one flow with one beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.diagnosis import CHANNEL_WORDS, Evidence, usable
from agent.facts import count, number
from agent.vantage import Judgement
from config.model import MessengerConfig
from probes.model import Diagnosis, Observation, Status

KIND = "call"
CALL, CANARY, RANDOM, TWIN, CONTROL = "call", "canary", "random", "twin", "control"
STRANGER = "stun"
"""The arm of a media stream at a public server."""
AT_RELAY = (CALL, RANDOM, CANARY)
LIVES = 0.8
"""Share of a flow's canaries that must be answered for it to have lived."""
SLACK = 0.2
"""Relative difference within which two flows ended at the same place."""
HALF = 0.5
"""Share of a channel's calls that must be cut off for the channel to be degraded."""
CUT_OFF = "cut_off"
"""The reason that only a call's run can give or take."""


@dataclass(frozen=True, slots=True)
class End:
    """Between which two seconds, packets of its own, and packets of both directions a flow ended:
    the last that is known to have passed, and the first that is known not to have."""

    seconds: tuple[float, float]
    packets: tuple[float, float]
    both: tuple[float, float]


def is_call(o: Observation) -> bool:
    return o.target.probe == KIND


def lives(o: Observation, arm: str) -> bool | None:
    """Did the canaries of this arm live to the end? None where it was not asked."""
    asked = _asked(o, arm)
    if not asked:
        return None
    return end(o, arm) is None and _answered(o, arm) >= LIVES * asked


def died(o: Observation, arm: str) -> bool | None:
    """Did it live at first, and then no more?"""
    return end(o, arm) is not None if _asked(o, arm) else None


def end(o: Observation, arm: str) -> End | None:
    """Where a flow that was answered at first fell silent for good; None where it did not."""
    named = prefix(o, arm)
    seconds, packets = (
        number(o, f"{named}silent_after_seconds"),
        count(o, f"{named}silent_after_packets"),
    )
    if seconds is None or not packets:
        return None
    dead_seconds = number(o, f"{named}dead_from_seconds")
    dead = count(o, f"{named}dead_from_packets", packets + 1)
    answers = count(o, f"{named}answers") or _answered(o, arm)
    return End(
        (seconds, seconds if dead_seconds is None else dead_seconds),
        (packets, dead),
        (packets + answers, dead + answers),
    )


def prefix(o: Observation, arm: str) -> str:
    """What its facts begin with: a media stream is its own call."""
    if is_call(o):
        return f"{arm}_"
    return "" if arm == CALL else f"{arm}_"


def _asked(o: Observation, arm: str) -> int:
    return count(o, f"{prefix(o, arm)}{'canaries' if is_call(o) else 'requests'}")


def _answered(o: Observation, arm: str) -> int:
    return count(o, f"{prefix(o, arm)}{'canaries_answered' if is_call(o) else 'answered'}")


def beside(o: Observation) -> str:
    """The arm at another server: the twin's, where there is one."""
    if _asked(o, TWIN):
        return TWIN
    return CONTROL if is_call(o) else STRANGER


def at_twin(o: Observation) -> str | None:
    """The arm at the operator's own server, None without one."""
    return TWIN if _asked(o, TWIN) else None


def alike(runs: Iterable[Observation], *others: str) -> bool:
    """Did every flow that died end after the same number of packets, or of seconds, and did none
    that lived get any further? ``others``: arms beside those at the relay."""
    ends: list[End] = []
    living: list[tuple[Observation, str]] = []
    for o in runs:
        for arm in (*(AT_RELAY if is_call(o) else (CALL,)), *others):
            found = end(o, arm)
            if found is not None:
                ends.append(found)
            elif _asked(o, arm):
                living.append((o, arm))
    if not ends:
        return False
    sent = [float(_packets(o, arm)) for o, arm in living]
    both = [float(_packets(o, arm) + _answers(o, arm)) for o, arm in living]
    return (
        (not living and _meet([e.seconds for e in ends], []))
        or _meet([e.packets for e in ends], sent)
        or _meet([e.both for e in ends], both)
    )


def _meet(ends: Sequence[tuple[float, float]], living: Sequence[float]) -> bool:
    """Is there a place within all of these, which nothing that lived has passed?"""
    last, first = max(low for low, _ in ends), min(high for _, high in ends)
    return max([last, *living]) <= (1 + SLACK) * first


def _packets(o: Observation, arm: str) -> int:
    named = prefix(o, arm)
    return count(o, f"{named}packets") or count(o, f"{named}requests")


def _answers(o: Observation, arm: str) -> int:
    return count(o, f"{prefix(o, arm)}answers") or _answered(o, arm)


# --- sizes -------------------------------------------------------------------------------------


def sizes(o: Observation, named: str = "") -> tuple[set[int], set[int]]:
    """Bytes of the padded requests that were answered, and of those that were not at all."""
    both = (o.facts.get(f"{named}sizes_{word}") for word in ("answered", "silent"))
    answered, silent = (
        {int(it) for it in told} if isinstance(told, tuple) else set() for told in both
    )
    return answered, silent


def is_split(o: Observation, named: str = "") -> bool:
    """Is there one size below which all of them pass and above which none does, or the other way
    about?"""
    answered, silent = sizes(o, named)
    if not answered or not silent:
        return False
    return max(answered) < min(silent) or max(silent) < min(answered)


def small_fail(o: Observation) -> bool:
    """No server answers what is long and not what is short."""
    answered, silent = sizes(o)
    return is_split(o) and min(silent) < min(answered)


def is_path_split(o: Observation) -> bool:
    """Is it the way for sure? A server may refuse what is padded; the twin does not."""
    return is_split(o) and (small_fail(o) or is_split(o, "twin_"))


# --- the channel -------------------------------------------------------------------------------


def is_cut(o: Observation) -> bool:
    return is_call(o) and (died(o, CALL) is True or is_path_split(o))


def cut(
    raw: Sequence[Diagnosis],
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    vantage: Judgement,
) -> tuple[Diagnosis, ...]:
    """``raw``, where a channel works and half of what looks like a call in it is cut off."""
    return tuple(
        _cut(d, messenger, [e for e in evidence if e.config.target.channel == d.channel], vantage)
        if d.status is Status.OK
        else d
        for d in raw
    )


def _cut(
    d: Diagnosis,
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    vantage: Judgement,
) -> Diagnosis:
    runs = [o for e in evidence if e.proven for o in usable(e, vantage) if is_call(o)]
    bad = [o for o in runs if is_cut(o)]
    if not bad or len(bad) < HALF * len(runs):
        return d
    what = f"{messenger.title} {CHANNEL_WORDS[d.channel]}"
    summary = f"{what}: degraded, its servers answer, and what looks like a call is cut off."
    return replace(d, status=Status.DEGRADED, reason=CUT_OFF, summary=summary)
