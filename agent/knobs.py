"""What the settings of schedule, state and limits come to."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from agent.plan import Cadence, stretched
from agent.rounds import FIELD_INTERVAL
from agent.state import Policy
from config.model import Config

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Knobs:
    """What the schedule and state settings come to. ``cadence`` has the byte budget's stretch in
    it; the controls keep their own."""

    cadence: Cadence
    controls: Cadence
    policy: Policy


def knobs_of(config: Config) -> Knobs:
    s = config.settings
    base = Cadence(s.schedule.interval, s.schedule.handshake_interval)
    everything = [t for m in config.messengers for t in m.targets] + list(config.controls)
    # A laboratory's day is shorter: its plan is judged as if it ran at the pace of the field.
    pace = max(1.0, FIELD_INTERVAL / base.interval)
    field = Cadence(base.interval * pace, base.handshake_interval * pace)
    rarer = stretched(everything, field, s.limits.bytes_per_day).handshake_interval
    cadence = Cadence(base.interval, rarer / pace)
    if rarer > field.handshake_interval:
        log.info(
            "limits.bytes_per_day: handshakes are asked every %.0f s instead of %.0f",
            cadence.handshake_interval,
            base.handshake_interval,
        )
    return Knobs(cadence, base, Policy(s.state.enter, s.state.leave, s.state.spacing))
