"""Paced streams in the virtual world, and the path models of whole streams."""

from __future__ import annotations

import asyncio

import pytest

from probes.model import Failure
from probes.net.address import Source
from probes.net.knock import knock
from probes.net.streams import Played, Send, Stream
from probes.wire import stun
from probes.wire.quality import Packet, quality
from tests.lab import hearing
from tests.lab.actions import Drop
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.path import Line
from tests.lab.virtual.streams import VirtualStreams
from tests.lab.virtual.world import VirtualWorld
from tests.lab.ways import Drifting, Event, Limit, Lossy, Queue, Shared, among, played

RELAY, PORT = "91.108.9.35", 1400
DELAY = 0.03


def binding(number: int) -> bytes:
    return stun.binding_request(stun.Dress.BARE, number.to_bytes(12, "big"), bytes(32))


def stream(
    count: int = 50, *, address: str = RELAY, port: int = PORT, flow: str = "", pace: float = 0.02
) -> Stream:
    sends = tuple(Send(n * pace, binding(n)) for n in range(count))
    return Stream(address, port, sends, count * pace + 2, flow)


def matched(seen: Played) -> list[Packet]:
    """As a probe does it: by transaction id."""
    came = {int.from_bytes(r.data[8:20], "big"): r.at for r in seen.received}
    ranks = {n: rank for rank, n in enumerate(came)}
    start = seen.sent[0]
    return [
        Packet(
            (at - start) / 1e9,
            (came[n] - at) / 1e9 if n in came else None,
            int(n in came),
            ranks.get(n),
        )
        for n, at in enumerate(seen.sent)
    ]


@pytest.fixture
def world():
    with VirtualWorld(1, line=Line(delay=DELAY)) as world:
        yield world


def play(world: VirtualWorld, *streams: Stream, streams_of: VirtualStreams | None = None):
    player = streams_of or VirtualStreams(world.kernel)
    return world.run(player.play(streams, Source()))


def test_all_is_answered_in_time(world):
    (seen,) = play(world, stream())
    packets = matched(seen)
    assert quality(packets, 0.02).lost == 0
    assert [p.rtt for p in packets] == pytest.approx([2 * DELAY] * 50, abs=1e-6)
    assert [p.sent for p in packets] == pytest.approx([n * 0.02 for n in range(50)], abs=1e-6)
    assert (seen.failures, seen.overflowed, seen.stepped) == ((), 0, False)


def test_loss_of_the_line_is_the_loss_that_is_seen(world):
    world.path.set_line(Line(DELAY, 0, Loss(0.1, 0, 3)))
    (seen,) = play(world, stream(1000))
    lost = sum(draws for draws in (Loss(0.1, 0, 3).takes(n, False) for n in range(1000)))
    assert len(seen.received) == 1000 - lost


def test_rules_of_a_censor_hold(world):
    world.path.add(Censor(match(protocol="udp", remote=RELAY), Drop()))
    bad, good = play(world, stream(), stream(address="91.108.9.120", port=PORT))
    assert (len(bad.received), len(good.received)) == (0, 50)
    assert bad.sent[-1] > bad.sent[0]


def test_a_closed_port_says_so(world):
    (seen,) = play(world, stream(5, port=9))
    assert seen.failures == (Failure.REFUSED,) * 5


def test_a_knock_is_answered_refused_or_unheard(world):
    """Of what stands beside a stream: is the way to the owner's other servers as bad?"""
    site, closed = ("149.154.175.50", 443), ("149.154.175.50", 81)
    assert world.run(knock(*site, Source())) == pytest.approx(2 * DELAY, abs=0.002)
    assert world.run(knock(*closed, Source())) == pytest.approx(2 * DELAY, abs=0.002)
    assert world.run(knock("149.154.175.249", 443, Source())) is None
    world.path.set_line(Line(delay=DELAY, loss_out=Loss(0.2, seed=5)))
    heard = [world.run(knock(*site, Source())) is not None for _ in range(100)]
    assert 70 <= sum(heard) <= 90, "a SYN that is lost is not sent again within a knock"


def test_without_a_way_nothing_was_sent(world):
    (seen,) = play(world, stream(5, address="2001:b28:f23f:f005::a"))
    assert seen.sent == (0,) * 5


def test_a_flow_keeps_its_port_and_others_do_not(world):
    player = VirtualStreams(world.kernel)
    ports = []
    for _ in range(2):
        for name in ("kept", ""):
            (seen,) = play(world, stream(1, flow=name), streams_of=player)
            ports.append(stun.read_answer(seen.received[0].data, bytes(12)).mapped[1])
    kept, fresh, kept_again, fresh_again = ports
    assert kept == kept_again
    assert fresh != fresh_again
    player.close()
    assert not world.kernel.ports


def test_who_watches_sees_it_grow(world):
    looks: list[int] = []

    async def run() -> None:
        player = VirtualStreams(world.kernel)
        await player.play([stream(100)], Source(), lambda seen: looks.append(len(seen[0].received)))

    world.run(run())
    assert looks == sorted(looks)
    assert (len(looks), looks[-1]) == (17, 100)


def test_a_clock_that_is_set_is_told(world):
    async def run() -> list[Played]:
        world.loop.call_later(0.5, setattr, world.clock, "skew", 7.0)
        return await VirtualStreams(world.kernel).play([stream()], Source())

    assert world.run(run())[0].stepped


def test_cancelled_it_stops_sending(world):
    async def run() -> int:
        task = asyncio.create_task(VirtualStreams(world.kernel).play([stream(500)], Source()))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        before = world.kernel.sent
        await asyncio.sleep(5)
        return world.kernel.sent - before

    assert world.run(run()) == 0


# --- whole streams without a clock ---


def evenly(*streams: str, count: int = 500, pace: float = 50.0) -> list[Event]:
    made = [Event(n / pace + k * 0.001, s, n) for n in range(count) for k, s in enumerate(streams)]
    return sorted(made)


def test_a_way_delays_and_keeps_the_order():
    packets = played(evenly("target"), [Shared.line(Line(0.02, 0.004))], 100.0)["target"]
    rtts = [p.rtt for p in packets if p.rtt is not None]
    assert len(rtts) == 500
    assert min(rtts) >= 0.04
    assert max(rtts) <= 0.048 + 1e-9
    assert [p.rank for p in packets] == list(range(500))


def test_the_same_seed_fares_the_same():
    def once() -> dict[str, list[Packet]]:
        return played(evenly("target"), [Lossy(Loss(0.2, 3, 5), Loss(0.1, 0, 6))], 0)

    assert once() == once()


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("burst", [0, 3, 10])
def test_loss_has_its_share_and_its_runs(burst, apart):
    way = Lossy(Loss(0.1, burst, 4), chosen=among("target"), apart=apart)
    seen = played(evenly("target", "twin", count=8000), [way], 0)
    assert quality(seen["twin"], 0.02).lost == 0
    figures = quality(seen["target"], 0.02)
    assert figures.lost == pytest.approx(0.1, abs=0.02)
    assert figures.burst_ratio == pytest.approx(burst * 0.9 if burst else 1, rel=0.25)


def test_a_full_queue_drops_and_delays():
    seen = played(evenly("target", "twin"), [Queue(12_000, 6_000)], 0)
    both = [quality(seen[name], 0.02) for name in ("target", "twin")]
    assert 0.1 < both[0].lost + both[1].lost < 0.6
    assert both[0].rtt_p95 > 0.3


def test_who_always_comes_second_loses_all():
    """Why target and control take turns in a random order."""

    def losses(sends: list[Event]) -> list[float]:
        seen = played(sends, [Queue(148 * 50.0, 6_000)], 0)
        return [quality(seen[name], 0.02).lost for name in ("target", "twin")]

    step = enumerate(("target", "twin"))
    orderly = sorted(Event(n / 50 + k / 100, name, n) for k, name in step for n in range(1500))
    assert abs(losses(orderly)[0] - losses(orderly)[1]) > 0.9
    by_turns = losses(hearing.sends(hearing.VOIP20, 1, beside=False))
    assert by_turns[0] == pytest.approx(by_turns[1], abs=0.03)


def test_a_bucket_lets_the_first_pass():
    packets = played(evenly("target"), [Queue(4_000, 1_000, allowance=30_000)], 0)["target"]
    assert all(p.rtt is not None and p.rtt < 0.01 for p in packets[:200])
    assert packets[-1].rtt is None or packets[-1].rtt > 0.2


def test_congestion_is_shared_and_comes_and_goes():
    way = Drifting(3, 0.4, 0.2)
    seen = played(evenly("target", "twin", count=9000), [way], 0)
    shares = []
    for start in range(0, 180, 20):
        within = [[p for p in seen[s] if start <= p.sent < start + 20] for s in ("target", "twin")]
        shares.append([quality(packets, 0.02).lost for packets in within])
    assert all(a == pytest.approx(b, abs=0.05) for a, b in shares)
    assert max(shares)[0] > 2 * min(shares)[0]


def test_a_limit_lets_a_fixed_number_through():
    seen = played(evenly("target"), [Limit(20, 20, among("target"))], 0)["target"]
    figures = quality(seen, 0.02)
    assert figures.answered == pytest.approx(20 * 10 + 20, abs=2)
