"""What the schedule and state settings come to, the byte budget's stretch in them."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, replace

from agent.plan import Cadence, stretched
from agent.state import Policy
from config.model import Config

log = logging.getLogger(__name__)

FIELD_INTERVAL = 60.0
"""Seconds between rounds where rates apply (limits.min_interval)."""
_PHASE = random.random()
"""Of this process: a reload leaves transfers where they are in the day."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """``cadence`` has the byte budget's stretch in it; the controls keep their own, but for
    transfers, which go with those of the messengers."""

    cadence: Cadence
    controls: Cadence
    policy: Policy

    @property
    def scale(self) -> float:
        """What the field's times are to be multiplied by: below 1 in a laboratory."""
        return min(1.0, self.cadence.interval / FIELD_INTERVAL)


def knobs_of(config: Config) -> Knobs:
    s = config.settings
    base = Cadence(
        s.schedule.interval,
        s.schedule.handshake_interval,
        s.schedule.transfer_interval,
        s.schedule.media_interval,
        _PHASE,
    )
    everything = [t for m in config.messengers for t in m.targets] + list(config.controls)
    # A laboratory's day is shorter: its plan is judged as if it ran at the pace of the field.
    pace = max(1.0, FIELD_INTERVAL / base.interval)
    rarer = stretched(everything, _slower(base, pace), s.limits.bytes_per_day)
    cadence = replace(_slower(rarer, 1 / pace), interval=base.interval)
    _say("handshakes", base.handshake_interval, cadence.handshake_interval)
    _say("transfers", base.transfer_interval, cadence.transfer_interval)
    _say("streams", base.media_interval, cadence.media_interval)
    controls = replace(cadence, handshake_interval=base.handshake_interval)
    return Knobs(cadence, controls, Policy(s.state.enter, s.state.leave, s.state.spacing))


def _slower(cadence: Cadence, factor: float) -> Cadence:
    return Cadence(
        cadence.interval * factor,
        cadence.handshake_interval * factor,
        cadence.transfer_interval * factor,
        cadence.media_interval * factor,
        cadence.phase,
    )


def _say(what: str, meant: float, planned: float) -> None:
    if planned > meant * 1.001:
        log.info(
            "limits.bytes_per_day: %s are asked every %.0f s instead of %.0f", what, planned, meant
        )
