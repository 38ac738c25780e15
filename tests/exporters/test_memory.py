"""What lives long is left out of collections, and what died since is not kept alive by that."""

from __future__ import annotations

import gc
import weakref

import pytest

from exporters import memory

pytestmark = pytest.mark.usefixtures("collector_as_it_was")


class Knot:
    """Only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def test_what_lives_is_left_out_and_the_young_are_looked_at_rarely():
    memory.settle()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == memory.YOUNG


def test_settling_again_frees_what_died_since():
    old = Knot()
    gone = weakref.ref(old)
    memory.settle()
    del old
    gc.collect()
    assert gone() is not None, "left out of collections, so it is still there"
    memory.settle()
    assert gone() is None
