"""How Python's cyclic collector is set for a process that runs for months.

A round makes tens of thousands of short-lived objects and hardly a cycle; at the default setting
the collector walks everything that lives every few hundred of them, which cost as much as
interpreting the code did (docs/performance.md).
"""

from __future__ import annotations

import gc

YOUNG = 20_000
"""Objects made and not freed before the youngest are looked at; 700 by default."""


def settle() -> None:
    """What lives now stays: leave it out of every later collection. Again after a reload."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
