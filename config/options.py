"""A probe's options as fields of a file: their types, forms and defaults."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any


def options_of(probe: type, forms: Mapping[str, Any]) -> dict[str, Any]:
    """Option to type and default (``...``: required), as pydantic wants fields; ``forms`` say what
    the type of an option of that name does not tell."""
    hints = typing.get_type_hints(probe)
    options: dict[str, Any] = {}
    for option in dataclasses.fields(probe):
        default: Any = ...
        if option.default is not dataclasses.MISSING:
            default = option.default
        elif option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        options[option.name] = (forms.get(option.name, hints[option.name]), default)
    return options


def build_probe(target: Any, probe: Any, **instead: Any) -> Any:
    """The probe with its options as ``target`` has them, or those of ``instead``; what it has no
    option for there counts for nothing. Raises ValueError."""
    names = [option.name for option in dataclasses.fields(probe)]
    given = {n: instead[n] if n in instead else getattr(target, n) for n in names}
    return probe(**given)
