"""A fuzzing run over all codecs: ``python -m tests.fuzz.run --count 10000000 --seed 1``.

Inputs are damaged samples, mixtures of two, and noise. Each must be read or refused with WireError,
in bounded time; what is anything else is printed with the input in hexadecimal, and the exit code
is 1. The same seed and count make the same mutations of the same samples.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from probes.wire.error import WireError
from tests.fuzz.codecs import Codec, codecs

LONGEST = 4096
SLOW = 1.0
"""Seconds of CPU that no input may take: a thousand times what the dearest does."""
BATCH = 50_000
MOST_SHOWN = 20


@dataclass
class Found:
    """What a batch came to: inputs by codec, those that were read to the end, and what went wrong
    (codec, what, input in hexadecimal); the dearest single input, in seconds of CPU."""

    inputs: dict[str, int] = field(default_factory=dict)
    read: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    dearest: float = 0.0

    def add(self, other: Found) -> None:
        for name, count in other.inputs.items():
            self.inputs[name] = self.inputs.get(name, 0) + count
        self.read += other.read
        self.wrong += other.wrong
        self.dearest = max(self.dearest, other.dearest)


def mutated(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """One input."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(300))
    data = bytearray(rng.choice(samples))
    if kind < 0.15:
        other = rng.choice(samples)
        data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.randrange(1, 5)):
        _damage(rng, data)
    return bytes(data[:LONGEST])


def _damage(rng: random.Random, data: bytearray) -> None:
    at, kind = rng.randrange(len(data) + 1), rng.randrange(6)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + 2] = rng.randbytes(2)
    elif kind == 2:
        del data[at : at + rng.randrange(1, 9)]
    elif kind == 3:
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 4:
        data[at : at + 4] = rng.choice(
            (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1")
        )
    else:
        del data[at:]


def batch(chosen: Sequence[Codec], seed: str, count: int) -> Found:
    """``count`` inputs, to each codec in turn."""
    rng, found = random.Random(seed), Found()
    for number in range(count):
        codec = chosen[number % len(chosen)]
        data = mutated(rng, codec.samples)
        found.inputs[codec.name] = found.inputs.get(codec.name, 0) + 1
        began = time.thread_time()
        try:
            with contextlib.suppress(WireError):
                codec.read(data)
                found.read += 1
        except Exception as error:  # whatever it is: that is what is looked for
            found.wrong.append((codec.name, repr(error), data.hex()))
        spent = time.thread_time() - began
        found.dearest = max(found.dearest, spent)
        if spent > SLOW:
            found.wrong.append((codec.name, f"took {spent:.1f} s", data.hex()))
    return found


_chosen: tuple[Codec, ...] = ()


def _prepared() -> None:
    global _chosen
    _chosen = codecs()


def _one(work: tuple[str, int]) -> Found:
    return batch(_chosen, *work)


def run(count: int, seed: int, jobs: int) -> Found:
    sizes = [min(BATCH, count - at) for at in range(0, count, BATCH)]
    work = [(f"{seed}:{number}", size) for number, size in enumerate(sizes)]
    whole = Found()
    with ProcessPoolExecutor(jobs, initializer=_prepared) as pool:
        for done in pool.map(_one, work):
            whole.add(done)
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.count:,} inputs, {given.jobs} processes", flush=True)
    began = time.monotonic()
    found = run(given.count, given.seed, given.jobs)
    for name, inputs in found.inputs.items():
        print(f"{name}: {inputs:,}")
    print(
        f"{sum(found.inputs.values()):,} inputs in {time.monotonic() - began:.0f} s,"
        f" {found.read:,} read to the end; the dearest took {1000 * found.dearest:.1f} ms;"
        f" {len(found.wrong)} neither read nor refused"
    )
    for name, what, data in found.wrong[:MOST_SHOWN]:
        print(f"{name}: {what}\n    {data}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
