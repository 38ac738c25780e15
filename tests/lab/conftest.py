"""One lab for the whole test run; every test finds it without rules and with an honest resolver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.lab import PROGRAMS, Lab
from tests.lab.skipping import require_lab


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    require_lab(*PROGRAMS)
    with Lab() as lab:
        yield lab


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    running_lab.restore()
    return running_lab
