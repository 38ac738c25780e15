"""Kind of probe to its class: every module of this package with a ``PROBE``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import probes

_NO_PROBES = {
    "model",
    "trail",
    "measure",
    "registry",
    "transaction",
    "shake",
    "twin",
    "contrast",
    "lanes",
    "trains",
    "greeting",
}


def _find() -> dict[str, Any]:
    found = {}
    for module in pkgutil.iter_modules(probes.__path__):
        if module.ispkg or module.name in _NO_PROBES:
            continue
        probe = importlib.import_module(f"probes.{module.name}").PROBE
        found[probe.kind] = probe
    return found


PROBES: Mapping[str, Any] = MappingProxyType(_find())


def needs_research(probe: Any) -> bool:
    """Whether a probe, or its class, sends more than an app does: not in the client profile."""
    return bool(getattr(probe, "research", False))
