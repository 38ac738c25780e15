"""Calibration files: what an open network saw of each target, so that a blind agent can begin.

JSON, written by ``callpath calibrate`` on a network without interference.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from config.model import Calibrated
from config.schema import Strict
from config.values import Identifier, PastDate, TargetName
from probes.model import Target

_Count = Annotated[int, Field(ge=0, le=1_000_000_000)]


class CalibratedFields(Strict):
    messenger: Identifier
    target: TargetName
    probe: Identifier
    dress: Annotated[str, Field(pattern=r"^[a-z0-9]{0,20}$")]
    asked: Annotated[_Count, Field(ge=1)]
    answered: _Count
    last_answered: PastDate | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.answered > self.asked:
            raise ValueError("was answered more often than asked")
        if (self.answered > 0) != (self.last_answered is not None):
            raise ValueError("needs last_answered if, and only if, it was answered")
        return self


class CalibrationFile(Strict):
    version: Literal[1]
    catalogue: Annotated[str, Field(min_length=1, max_length=64)]
    network: Literal["", "fixed", "mobile", "hosting"]
    at: AwareDatetime
    targets: tuple[CalibratedFields, ...]

    def entries(self) -> tuple[Calibrated, ...]:
        return tuple(
            Calibrated(
                **dict(entry),
                at=self.at.timestamp(),
                network=self.network,
                catalogue=self.catalogue,
            )
            for entry in self.targets
        )


def covers(entries: Iterable[Calibrated], target: Target, dress: str) -> Calibrated | None:
    """The newest entry in which this target, asked in this dress, was answered at all."""
    wanted = (target.messenger, target.name, target.probe, dress)
    answered = [
        entry
        for entry in entries
        if (entry.messenger, entry.target, entry.probe, entry.dress) == wanted and entry.answered
    ]
    return max(
        answered, key=lambda entry: (entry.last_answered or date.min, entry.at), default=None
    )
