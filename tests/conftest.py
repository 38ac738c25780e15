"""What tests of more than one folder need."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def collector_as_it_was() -> Iterator[None]:
    """A running agent sets the collector of its process for months (exporters/memory.py); the test
    run's own is to find what other tests leave behind."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
