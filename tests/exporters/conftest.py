from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exporters.written import Written

WRITTEN_UNTIL = 1_800_000_600.0
DAY = 86_400.0


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    """Forty days of history in which nothing has been noted yet."""
    made = Written(tmp_path / "s")
    made.span(WRITTEN_UNTIL - 40 * DAY, WRITTEN_UNTIL)
    yield made
    made.db.close()
