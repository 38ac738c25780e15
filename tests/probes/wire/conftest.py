"""What all codec tests share: bytes that were damaged on the way."""

from __future__ import annotations

import random

import pytest
from hypothesis import strategies as st


@st.composite
def damaged(draw, valid: bytes) -> bytes:
    """``valid`` after one to four bit flips, overwritten pairs, cuts and insertions."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(("flip", "set", "remove", "insert", "end")))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            data[at : at + 2] = draw(st.binary(min_size=2, max_size=2))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del data[at:]
    return bytes(data)


def broken(valid: bytes, rng: random.Random) -> bytes:
    """The same by a generator's dice, for bytes that are not the same in every run."""
    data = bytearray(valid)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.choice(("flip", "remove", "insert", "end"))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "remove":
            del data[at : at + rng.randint(1, 8)]
        elif kind == "insert":
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == "end" and rng.random() < 0.3:
            del data[at:]
    return bytes(data)


@pytest.fixture(scope="session")
def mutated():
    """The strategy ``mutated(valid)``, for ``data.draw``."""
    return damaged
