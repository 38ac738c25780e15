"""Chances of counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.wire import chance


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0, 1))
def test_chances(count, of, share):
    low, high = chance.at_most(count, of, share), chance.at_least(count + 1, of, share)
    assert -1e-9 <= low <= 1 + 1e-9
    assert low + high == pytest.approx(1)
