"""A short fuzzing run, and that a long one would find what is wrong."""

from __future__ import annotations

import pkgutil

import probes.wire
from probes.model import Failure
from probes.wire.error import WireError
from tests.fuzz import run
from tests.fuzz.codecs import Codec, codecs

SEED = "1"
NO_BYTES = {"error", "badness", "chance", "emodel", "paired", "quality", "rtp"}
"""Modules that read nothing from the network: arithmetic, and what is only sent."""


def test_a_short_run():
    chosen = codecs()
    found = run.batch(chosen, SEED, 500 * len(chosen))
    assert found.wrong == []
    assert set(found.inputs.values()) == {500}
    assert 0 < found.read < 500 * len(chosen)


def test_every_sample_is_read():
    """Or a mutation of it would be refused at its first byte. Ours, and errors, are refused."""
    refused = {"dtls": 1, "noise chain": 1, "twin": 1, "stun": 0}
    for codec in codecs():
        wrong = 0
        for sample in codec.samples:
            try:
                codec.read(sample)
            except WireError:
                wrong += 1
        assert wrong <= refused.get(codec.name, 0), codec.name


def test_no_codec_is_left_out():
    modules = {m.name for m in pkgutil.iter_modules(probes.wire.__path__)}
    taken = {codec.name.split()[0] for codec in codecs()}
    assert modules - NO_BYTES == taken


def test_what_it_looks_for_is_found():
    def bad(data):
        if len(data) > 3:
            raise WireError(Failure.BAD_REPLY, "as it should")
        raise IndexError("as it should not")

    found = run.batch([Codec("bad", bad, (b"abcdef",))], SEED, 300)
    assert {what for _, what, _ in found.wrong} == {"IndexError('as it should not')"}
    assert all(len(data) <= 6 for _, _, data in found.wrong)


def test_the_same_seed_makes_the_same_inputs():
    heard: list[list[bytes]] = []
    for seed in ("1", "1", "2"):
        heard.append([])
        run.batch([Codec("any", heard[-1].append, (b"abcdef", b"xyz" * 50))], seed, 200)
    assert heard[0] == heard[1] != heard[2]
    assert max(map(len, heard[0])) <= run.LONGEST
