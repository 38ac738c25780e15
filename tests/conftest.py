"""What tests of more than one folder need."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: at the end of a run everybody would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_alerts.py")


@pytest.fixture
def collector_as_it_was() -> Iterator[None]:
    """A running agent sets the collector of its process for months (exporters/memory.py); the test
    run's own is to find what other tests leave behind."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sets the level and the handlers of its process (agent/logs.py), which the next test
    of the same process would have as well."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = [one for one in root.handlers if one in handlers]
