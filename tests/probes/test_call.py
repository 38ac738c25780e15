"""The call probe against ways that swallow what they dislike: what is sent, and what it says."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from probes.call import CANARIES, SIZES, CallProbe
from probes.lanes import SILENT
from probes.measure import Check, measure
from probes.model import Failure, Observation, Step, Target
from probes.net.environment import Beside, Environment
from probes.net.errors import NotMeasured
from probes.net.streams import Stream
from probes.trail import Peer, Trail
from probes.wire import stun
from tests.probes.playing import KEY, PlayedStreams, Way, clean

RELAY, TWIN, STRANGER = "192.0.2.10", "192.0.2.7", "192.0.2.99"
OURS = Beside("twin", TWIN, 3478, KEY)
THEIRS = Beside("stun", STRANGER, 3478)
DENIED = (0x0009, b"\0\0\4\1Unauthorized"), (0x0014, b"relay.test")


@dataclasses.dataclass(slots=True)
class Played(PlayedStreams):
    """A relay that refuses Allocates as a TURN server does, and swallows a voice."""

    def _answer(self, twin: Any, stream: Stream, data: bytes, now: float) -> bytes | None:
        if twin is None and data[:2] == b"\0\3":
            return stun.encode(0x0113, data[8:20], DENIED)
        return PlayedStreams._answer(self, twin, stream, data, now)


async def run(
    way: Way = clean, beside: tuple[Beside, ...] = (OURS,), **options: Any
) -> tuple[Observation, Played]:
    streams = Played(way, TWIN if OURS in beside else "")
    env = Environment(streams=streams, beside=beside)
    target = Target("m", "call", "flow", "call")
    check = Check(target, CallProbe(**options), RELAY, 1400)
    (seen,) = (await measure(check, env)).observations
    return seen, streams


def is_binding(data: bytes) -> bool:
    return data[:2] == b"\0\1"


def is_voice(data: bytes) -> bool:
    return data[0] == 0x80


def swallowing(dead: Callable[[Stream, int, float], bool]) -> Way:
    return lambda stream, number, at: None if dead(stream, number, at) else 0.05


def talks(stream: Stream) -> bool:
    return any(is_voice(send.data) for send in stream.sends)


def by_shape(address: str = RELAY, after: int = 30) -> Way:
    """Swallow a flow in which so many packets of a voice were seen."""

    def dead(stream: Stream, number: int, at: float) -> bool:
        said = sum(is_voice(send.data) for send in stream.sends[:number])
        return stream.address in (address, "") and said > after

    return swallowing(dead)


# --- what is sent ------------------------------------------------------------------------------


async def test_the_arms_differ_in_one_thing_and_take_turns():
    _, streams = await run()
    (played,) = streams.calls
    call, canary, random = played[:3]
    assert {s.flow for s in played} == {""}, "each from a source port of its own"
    canaries = [
        [s for s in arm.sends if is_binding(s.data) and len(s.data) == 20] for arm in played
    ]
    assert [len(c) for c in canaries[:3]] == [CANARIES + 2] * 3
    assert len(canary.sends) == CANARIES + 2
    assert sorted(len(s.data) for s in call.sends) == sorted(len(s.data) for s in random.sends)
    late = random.sends[-1].at - call.sends[-1].at
    assert 0 < late < CallProbe().voice.interval
    first_bytes = {s.data[0] for s in random.sends} - {0}
    assert all(byte >= 0xC0 for byte in first_bytes), "nothing that a call says"
    ids = [s.data[8:20] for arm in played for s in arm.sends if is_binding(s.data)]
    assert len(set(ids)) == len(ids)


async def test_a_call_says_what_callers_say_in_their_order():
    _, streams = await run(dtls=True, profile="voip20")
    said = [s.data for s in streams.calls[0][0].sends]
    words = [stun.allocate_request(bytes(12))[:2], b"\x16\xfe"]
    assert is_binding(said[0])
    places = [next(n for n, data in enumerate(said) if data[:2] == word) for word in words]
    voice = [data for data in said if is_voice(data)]
    assert places == sorted(places)
    assert places[-1] < said.index(voice[0])
    assert {len(data) for data in voice} == {100}
    numbers = [int.from_bytes(data[2:4], "big") for data in voice]
    assert {(b - a) % 65536 for a, b in itertools.pairwise(numbers)} == {1}
    clocks = [int.from_bytes(data[4:8], "big") for data in voice]
    assert {(b - a) % 2**32 for a, b in itertools.pairwise(clocks)} == {960}
    assert len({data[8:12] for data in voice}) == 1


async def test_the_twin_gets_the_same_call_and_its_voice_keeps_its_header():
    _, streams = await run()
    call = streams.calls[0][0]
    there = [s for s in streams.calls[0] if s.address == TWIN]
    twin = next(s for s in there if talks(s))
    assert [len(s.data) for s in twin.sends] == [len(s.data) for s in call.sends]
    voice = [s.data for s in twin.sends if is_voice(s.data)]
    assert len({data[8:12] for data in voice}) == 1, "one source, though each is sealed"
    assert len(there) == 1 + len(SIZES)


async def test_a_stranger_is_asked_once_a_second_and_hears_no_voice():
    for seconds in (0.0, 4.0):
        _, streams = await run(beside=(THEIRS,), seconds=seconds)
        (there,) = [s for s in streams.calls[0] if s.address == STRANGER]
        assert not talks(there)
        times = [send.at for send in there.sends]
        assert min(b - a for a, b in itertools.pairwise(times)) > 0.55
        assert len(times) <= (seconds or 20) + 2


async def test_nothing_to_compare_with_and_another_family():
    _, streams = await run(beside=(Beside("twin", "2001:db8::7", 3478, KEY),))
    assert {s.address for s in streams.calls[0]} == {RELAY}


@pytest.mark.parametrize("seconds", [1.0, 61.0, -1.0])
def test_a_length_that_makes_no_sense(seconds):
    with pytest.raises(ValueError, match="seconds"):
        CallProbe(seconds=seconds)


async def test_what_it_says_to_cost_is_what_it_sends():
    for options in ({}, {"profile": "voip20", "seconds": 8.0}, {"dtls": True}):
        seen, streams = await run(**options)
        probe = CallProbe(**options)
        sent = sum(len(s.sends) for s in streams.calls[0] if s.address == RELAY)
        assert sent <= probe.stream_packets[0] <= sent + 4
        both = seen.facts["sent"] + seen.facts["received"]
        assert both * 40 < probe.bytes_per_run


# --- what it says ------------------------------------------------------------------------------


async def test_a_call_that_lives():
    seen, _ = await run()
    facts = seen.facts
    assert seen.ok
    assert seen.steps[-1].step is Step.STREAM
    for arm in ("call", "canary", "random", "twin"):
        assert facts[f"{arm}_canaries"] == facts[f"{arm}_canaries_answered"] == CANARIES + 2
        assert facts[f"{arm}_first_answered"] is True
        assert f"{arm}_silent_after_seconds" not in facts
    assert (facts["allocate_requests"], facts["allocate_answered"]) == (2, 2)
    assert (facts["allocate_error_code"], facts["realm"]) == (401, "relay.test")
    assert facts["ice_answered"] is True
    assert facts["sizes_answered"] == facts["twin_sizes_answered"] == tuple(map(str, SIZES))
    assert facts["sizes_silent"] == ()
    assert facts["twin_received"] == facts["twin_packets"] == facts["twin_answers"]
    assert "198.51.100.7" not in str(facts), "our address is no fact"


async def test_a_call_that_dies_of_its_shape():
    seen, _ = await run(by_shape())
    facts = seen.facts
    assert seen.failed.failure is Failure.LOSSY
    assert facts["call_first_answered"] is True
    assert 1.3 < facts["call_silent_after_seconds"] < facts["call_dead_from_seconds"] < 5
    # Two canaries, the check, the Allocates and the voice until then, a canary a second.
    assert facts["call_silent_after_packets"] < 2 + 3 + 31 + 4 < facts["call_dead_from_packets"] + 8
    for arm in ("canary", "random", "twin"):
        assert facts[f"{arm}_canaries_answered"] == CANARIES + 2
    assert facts["requests"] == CANARIES + 2
    assert facts["answered"] == facts["call_canaries_answered"] < 8


async def test_every_flow_that_dies_says_after_how_many_packets_and_seconds():
    seen, _ = await run(swallowing(lambda stream, number, at: number >= 20))
    facts = seen.facts
    for arm in ("call", "random"):
        assert facts[f"{arm}_silent_after_packets"] <= 20 < facts[f"{arm}_dead_from_packets"]
    assert "canary_silent_after_packets" not in facts, "it has only two more: that is no end"
    seen, _ = await run(swallowing(lambda stream, number, at: at > 10))
    for arm in ("call", "random", "canary", "twin"):
        assert (
            seen.facts[f"{arm}_silent_after_seconds"] <= 10 < seen.facts[f"{arm}_dead_from_seconds"]
        )


async def test_a_few_that_are_lost_at_the_end_are_no_death():
    def lost(stream: Stream, number: int, at: float) -> bool:
        return at > CallProbe().length + 1.3 - (SILENT - 1)

    seen, _ = await run(swallowing(lost))
    assert seen.ok
    assert "call_silent_after_seconds" not in seen.facts


async def test_silence_and_half_an_answer():
    seen, _ = await run(swallowing(lambda stream, number, at: stream.address == RELAY))
    assert seen.failed.failure is Failure.TIMEOUT
    assert seen.facts["call_silent_after_packets"] == 0
    assert seen.facts["call_first_answered"] is False
    seen, _ = await run(swallowing(lambda stream, number, at: bool(number % 2)))
    assert seen.facts["canary_canaries_answered"] == (CANARIES + 2) // 2


async def test_sizes_that_do_not_pass():
    def large(stream: Stream, number: int, at: float) -> bool:
        return len(stream.sends[number].data) > 200

    seen, _ = await run(swallowing(large))
    assert seen.ok, "what is answered lives"
    assert seen.facts["sizes_answered"] == ("20", "60", "100")
    assert seen.facts["sizes_silent"] == seen.facts["twin_sizes_silent"] == ("250", "500", "1000")

    some = swallowing(lambda s, number, at: len(s.sends[number].data) > 200 and number != 2)
    seen, _ = await run(some)
    assert "250" not in seen.facts["sizes_silent"] + seen.facts["sizes_answered"]


async def test_strays_and_answers_to_others_are_no_answers():
    @dataclasses.dataclass(slots=True)
    class Stray(Played):
        def _answer(self, twin: Any, stream: Stream, data: bytes, now: float) -> bytes | None:
            made = Played._answer(self, twin, stream, data, now)
            return made and made[:8] + bytes(12) + made[20:]

    streams = Stray()
    check = Check(Target("m", "call", "flow", "call"), CallProbe(), RELAY, 1400)
    (seen,) = (await measure(check, Environment(streams=streams))).observations
    assert seen.failed.failure is Failure.TIMEOUT
    assert seen.facts["unexpected"] > CANARIES


async def test_a_host_that_is_late_or_loses_datagrams_measures_nothing():
    for fault in ({"late": 1.5}, {"overflowed": 3}):
        streams = Played(**fault)
        trail = Trail(Environment(streams=streams))
        with pytest.raises(NotMeasured, match="probe_fault"):
            await CallProbe().run(trail, Peer(RELAY, 1400, ""))


async def test_without_an_engine_nothing_is_measured():
    with pytest.raises(NotMeasured, match="no_engine"):
        await CallProbe().run(Trail(Environment()), Peer(RELAY, 1400, ""))
