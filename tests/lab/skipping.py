"""Where the lab cannot run its tests skip and say why, except in CI, where that is a failure."""

from __future__ import annotations

import os

import pytest

from tests.lab.world import Missing, require


def require_lab(*programs: str) -> None:
    """Skip the running test, or fail it in CI, where something for the lab is missing."""
    try:
        require(*programs)
    except Missing as missing:
        reason = f"the lab needs {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
