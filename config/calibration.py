"""Calibration files: what an open network saw of each target, so that a blind agent can begin.

JSON, written by ``callpath calibrate`` on a network without interference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from config.document import read_json
from config.model import Calibrated, ConfigError
from config.provenance import Strict
from config.values import Identifier, PastDate, TargetName
from probes.model import Target

NETWORKS = ("fixed", "mobile", "hosting")
"""Kinds of network that a file may name; "" is one of which nothing was said."""
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


def read(file: Path) -> CalibrationFile:
    """One file by itself. Raises ConfigError with all that is wrong with it."""
    document = read_json(file)
    latest = {"latest": date.today() + timedelta(days=1)}
    try:
        return CalibrationFile.model_validate_json(json.dumps(document.data), context=latest)
    except ValidationError as error:
        problems = [document.problem(tuple(e["loc"]), e["msg"]) for e in error.errors()]
        raise ConfigError(problems) from error


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
