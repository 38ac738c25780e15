"""From observations to one word and one sentence per channel. Pure: no clock, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent import pace
from agent.vantage import Judgement
from config.model import MessengerConfig, TargetConfig
from probes.model import (
    Diagnosis,
    Failure,
    Observation,
    Status,
    Step,
    TargetState,
    VantageStatus,
)

SEEN_FOR = 3
"""Intervals after which a target's last observation is no longer evidence."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The newest conclusive run of one target; ``fresh`` when it is not older than three of its
    intervals. ``proven``: may it decide (trust.py)?"""

    config: TargetConfig
    observations: tuple[Observation, ...]
    last_run: float | None
    fresh: bool
    proven: bool


def diagnose(
    messenger: MessengerConfig, evidence: Sequence[Evidence], vantage: Judgement
) -> tuple[Diagnosis, ...]:
    """One diagnosis per channel of ``messenger``, from what this round and the recent past saw."""
    channels = dict.fromkeys(e.config.target.channel for e in evidence)
    return tuple(
        _channel(
            messenger, channel, [e for e in evidence if e.config.target.channel == channel], vantage
        )
        for channel in channels
    )


def paced(
    raw: Sequence[Diagnosis],
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    vantage: Judgement,
    again: Sequence[Observation],
) -> tuple[Diagnosis, ...]:
    """``raw``, where a channel works but for its transfers. ``again``: those that were asked once
    more; the newest one of each tells."""
    return tuple(
        _slowed(
            d,
            messenger,
            [e for e in evidence if e.config.target.channel == d.channel],
            vantage,
            again,
        )
        if d.status is Status.OK
        else d
        for d in raw
    )


def _slowed(
    d: Diagnosis,
    messenger: MessengerConfig,
    evidence: Sequence[Evidence],
    vantage: Judgement,
    again: Sequence[Observation],
) -> Diagnosis:
    bad = [
        newest
        for e in evidence
        if e.proven
        for o in usable(e, vantage)
        if pace.is_transfer(o) and pace.is_bad(newest := _newest(o, again))
    ]
    if not bad:
        return d
    what = f"{messenger.title} {CHANNEL_WORDS[d.channel]}"
    status, reason, summary = _say_slowed(what, any(map(pace.froze, bad)))
    return replace(d, status=status, reason=reason, summary=summary)


def _newest(o: Observation, again: Sequence[Observation]) -> Observation:
    same = [
        c
        for c in again
        if c.contrast is not None
        and c.contrast.of == o.id
        and c.contrast.differs == "time"
        and (c.ok or pace.froze(c))
    ]
    return max((o, *same), key=lambda it: it.at)


def _say_slowed(what: str, frozen: bool) -> tuple[Status, str, str]:
    if frozen:
        return (
            Status.DEGRADED,
            "frozen",
            f"{what}: degraded, its servers answer, and larger transfers stop on the way.",
        )
    return (
        Status.DEGRADED,
        "slow",
        f"{what}: degraded, its servers answer, and larger transfers crawl.",
    )


PACED = ("frozen", "slow")
"""Reasons that only a transfer can give or take."""


def starting(
    messenger: MessengerConfig, proven: Callable[[TargetConfig], bool]
) -> tuple[Diagnosis, ...]:
    """What there is to say of each channel before the first round has ended."""
    deciding = Counter(
        t.target.channel for t in messenger.targets if not t.informative and proven(t)
    )
    channels = dict.fromkeys(t.target.channel for t in messenger.targets)
    return tuple(
        Diagnosis(
            messenger=messenger.name,
            channel=channel,
            status=Status.UNKNOWN,
            reason="starting",
            summary=f"{messenger.title} {CHANNEL_WORDS[channel]}: no round has ended yet.",
            working=0,
            measured=0,
            deciding=deciding[channel],
            total=sum(t.target.channel == channel for t in messenger.targets),
        )
        for channel in channels
    )


def usable(evidence: Evidence, vantage: Judgement) -> tuple[Observation, ...]:
    """Those observations of a target that still say something about it."""
    return unmasked(evidence.observations, vantage) if evidence.fresh else ()


def unmasked(observations: Sequence[Observation], vantage: Judgement) -> tuple[Observation, ...]:
    """The observations that say something about their target: masks discard layers, not targets.

    Out go families in which no control works here, failed look-ups where no name resolves, and
    failures abroad where nothing abroad answers; what worked, worked.
    """
    return tuple(o for o in observations if o.works or not _masked(o, vantage))


def _masked(observation: Observation, vantage: Judgement) -> bool:
    if not vantage.controls:
        return True
    family = observation.family
    if family and family not in vantage.families:
        return True
    if not vantage.names and is_lookup(observation):
        return True
    return not vantage.abroad


def is_lookup(observation: Observation) -> bool:
    """Did it fail at the host's own resolver, in the resolve step or as a dns check of it?"""
    failed = observation.failed
    at_resolve = failed is not None and failed.step is Step.RESOLVE
    return at_resolve or observation.facts.get("resolver") == "system"


def works(observations: Sequence[Observation]) -> bool | None:
    """A target works if any of its addresses does; None when nothing usable was seen."""
    return any(o.works for o in observations) if observations else None


def fallen(before: Sequence[Evidence], now: Sequence[Evidence]) -> frozenset[str]:
    """The channels with a deciding target that worked in the round before and fails now."""
    then = {e.config.target.name: e.observations for e in before}
    return frozenset(
        e.config.target.channel
        for e in now
        if e.proven
        and not e.config.informative
        and works(e.observations) is False
        and works(then.get(e.config.target.name, ())) is True
    )


def _channel(
    messenger: MessengerConfig, channel: str, evidence: Sequence[Evidence], vantage: Judgement
) -> Diagnosis:
    seen = {e.config.target.name: usable(e, vantage) for e in evidence}
    outcomes = _outcomes(evidence, seen)
    deciding = [e for e in evidence if e.proven and not e.config.informative]
    measured = [e for e in deciding if outcomes[e.config.target.name] is not None]
    working = sum(outcomes[e.config.target.name] is True for e in measured)
    status, reason, summary = _say(messenger, channel, deciding, measured, working, seen, vantage)
    return Diagnosis(
        messenger=messenger.name,
        channel=channel,
        status=status,
        reason=reason,
        summary=summary,
        working=working,
        measured=len(measured),
        deciding=len(deciding),
        total=len(evidence),
        targets=tuple(_state(e, seen, outcomes) for e in evidence),
    )


def _outcomes(
    evidence: Sequence[Evidence], seen: Mapping[str, tuple[Observation, ...]]
) -> dict[str, bool | None]:
    """Does each target work? That a connection is taken is no working chat where the protocol's own
    first words over such a connection, to the same address and port, get no answer: a box on the
    way can take it."""
    mute = {
        (o.address, e.config.port)
        for e in evidence
        if e.proven and not e.config.informative
        for o in seen[e.config.target.name]
        if "hello_bytes" in o.facts and not o.works and all(s.step is not Step.TLS for s in o.steps)
    }
    outcomes = {}
    for e in evidence:
        observations = seen[e.config.target.name]
        mere = e.config.target.probe == "tcp"
        heard = [o for o in observations if not (mere and (o.address, e.config.port) in mute)]
        outcomes[e.config.target.name] = works(heard) if heard or not observations else False
    return outcomes


def _state(
    e: Evidence, seen: Mapping[str, tuple[Observation, ...]], outcomes: Mapping[str, bool | None]
) -> TargetState:
    name = e.config.target.name
    shown = main_observation(seen[name])
    return TargetState(
        target=e.config.target,
        address=shown.address if shown else None,
        works=outcomes[name],
        proof=e.config.proof,
        proven=e.proven,
        last_run=e.last_run,
        slow=_crawls(seen[name]) if e.config.target.probe == "transfer" else None,
        informative=e.config.informative,
    )


def _crawls(observations: Sequence[Observation]) -> bool | None:
    paced = [o for o in observations if o.ok and pace.pace(o) is not None]
    return any(map(pace.is_slow, paced)) if paced else None


def main_observation(observations: Sequence[Observation]) -> Observation | None:
    """The one that stands for the target: the first working address, else the first tried."""
    return next((o for o in observations if o.works), observations[0] if observations else None)


_VANTAGE_WORDS = {
    VantageStatus.OFFLINE: "this line is offline",
    VantageStatus.PORTAL: "a captive portal stands before this line",
    VantageStatus.TUNNELLED: "this line leads through a tunnel and shows another network",
    VantageStatus.FAULTY: "this vantage is at fault itself",
}

CHANNEL_WORDS = {
    "chat": "chat",
    "call": "calls",
    "media": "media",
    "web": "web pages",
}


def _say(
    messenger: MessengerConfig,
    channel: str,
    deciding: Sequence[Evidence],
    measured: Sequence[Evidence],
    working: int,
    seen: Mapping[str, tuple[Observation, ...]],
    vantage: Judgement,
) -> tuple[Status, str, str]:
    what = f"{messenger.title} {CHANNEL_WORDS[channel]}"
    if vantage.masks:
        return (
            Status.UNKNOWN,
            str(vantage.status),
            f"{what}: not known, {_VANTAGE_WORDS[vantage.status]}: {vantage.reason}.",
        )
    if not deciding:
        return (
            Status.UNKNOWN,
            "uncalibrated",
            f"{what}: not known, no server of this channel has yet been seen to answer a stranger"
            " from here, so silence would prove nothing.",
        )
    if not measured:
        if not vantage.controls:
            return Status.UNKNOWN, "not_measured", f"{what}: not known, no control was measured."
        if not vantage.abroad:
            return (
                Status.UNKNOWN,
                "abroad",
                f"{what}: not known, no foreign host answers on this line.",
            )
        if not vantage.names:
            return Status.UNKNOWN, "names", f"{what}: not known, no name resolves on this line."
        return Status.UNKNOWN, "not_measured", f"{what}: not measured in this round."
    count = f"{working} of {len(measured)} servers answer"
    if working >= messenger.quorum * len(measured) - 1e-9:  # 0.55 * 20 is more than 11
        return Status.OK, "ok", f"{what}: ok, {count} as they should."
    failures = _failures(measured, seen)
    lossy = any(failure is Failure.LOSSY for _, failure in failures)
    why = _why(failures)
    if working:
        return Status.DEGRADED, "quorum", f"{what}: degraded, only {count}; {why}."
    if lossy:
        return (
            Status.DEGRADED,
            "lossy",
            f"{what}: degraded, the servers answer only part of the packets; {why}.",
        )
    step, failure = failures.most_common(1)[0][0]
    return (
        Status.UNREACHABLE,
        f"{step}:{failure}",
        f"{what}: unreachable, none of {len(measured)} servers answers; {why}.",
    )


def _failures(
    measured: Sequence[Evidence], seen: Mapping[str, tuple[Observation, ...]]
) -> Counter[tuple[Step, Failure]]:
    found: Counter[tuple[Step, Failure]] = Counter()
    for e in measured:
        shown = main_observation(seen[e.config.target.name])
        if shown and not shown.works and shown.failed and shown.failed.failure:
            found[(shown.failed.step, shown.failed.failure)] += 1
    return found


_STEP_WORDS = {
    Step.RESOLVE: "resolving the name",
    Step.CONNECT: "connecting",
    Step.TLS: "the TLS handshake",
    Step.EXCHANGE: "the exchange",
    Step.STREAM: "the stream",
}


def _why(failures: Counter[tuple[Step, Failure]]) -> str:
    parts = [
        f"{count} failed at {_STEP_WORDS[step]} ({failure.replace('_', ' ')})"
        for (step, failure), count in failures.most_common(2)
    ]
    return ", ".join(parts)
