"""The worlds of what is gradual, partial, or takes several attempts; as ``worlds.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.case import Case, Differs
from agent.vantage import ControlResult
from probes.model import Contrast, Failure, Family, Observation, Role, Step, Target
from probes.tcp import TcpProbe
from probes.transfer import TransferProbe
from tests.agent.building import control, seen, target
from tests.agent.calling import CALLING
from tests.agent.streaming import STREAMS
from tests.agent.worlds import (
    A1,
    A2,
    A3,
    ELSEWHERE,
    R1,
    R2,
    RTT,
    T1,
    T2,
    W1,
    Failed,
    case,
    contrast,
    controls,
    dress,
    hello,
    name,
    neutral,
    syn,
    udp,
)
from tests.agent.worlds import WORLDS as OTHERS

URL = "https://objects.test/big"
X1 = target(
    "x1", channel="web", probe=TransferProbe(URL), host="objects.test", port=443, informative=True
)
Y = control("y", Role.FOREIGN, probe=TransferProbe(URL), host="y.test", port=443)
PACE = 140_000
"""Bits per second."""


def series(bits: float, seconds: int, unsteady: float = 0.0) -> tuple[str, ...]:
    """Totals at the end of each quarter of a second."""
    made, total = [], 0.0
    for slot in range(4 * seconds):
        total += bits / 8 / 4 * (1 + (unsteady if slot // 4 % 2 else -unsteady))
        made.append(str(round(total)))
    return (*made, made[-1])


def crawl(at: float = 0.0, *, bits: float = PACE, unsteady: float = 0.0, **facts: Any) -> Failed:
    """A transfer that goes on for 30 seconds at a pace; by loss, if nothing else is said."""
    facts = {
        "address": A1,
        "series": series(bits, 30, unsteady),
        "series_slot_seconds": 0.25,
        "received_bytes": round(bits / 8 * 30),
        "throughput_bits_per_second": round(bits),
        "segments_in": 400,
        "out_of_order": 100,
        "min_rtt_seconds": 0.05,
        "receive_rtt_seconds": 0.06,
        **facts,
    }
    return X1, seen(X1, None, Step.STREAM, before=(Step.CONNECT, Step.TLS), at=at, **facts)


QUEUED = {"out_of_order": 0, "receive_rtt_seconds": 0.9}


def flies(at: float = 0.0, bits: float = 8_000_000) -> Observation:
    facts = {"throughput_bits_per_second": bits, "received_bytes": 500_000, "series": ("500000",)}
    return seen(Y, None, Step.STREAM, at=at, series_slot_seconds=0.25, **facts)


def freeze(at: float = 0.0, *, stopped: int = 16_000, **facts: Any) -> Failed:
    facts = {
        "address": A1,
        "received_bytes": stopped,
        "segments_in": 14,
        "segments_out": 11,
        **facts,
    }
    before = (Step.CONNECT, Step.TLS, Step.EXCHANGE)
    return X1, seen(X1, Failure.TIMEOUT, Step.STREAM, before=before, at=at, **facts)


def once_more(of: Failed, o: Observation, differs: Differs = Differs.TIME) -> Observation:
    """``o`` as a contrast of the first."""
    return replace(o, target=of[0].target, contrast=Contrast(of[1].id, differs))


def in_turn(
    made: Callable[[float], Failed] = crawl, more: int = 4, bits: float = 8_000_000
) -> tuple[Failed, list[Observation]]:
    first = made(0.0)
    again = [once_more(first, made(60.0 * n)[1]) for n in range(1, more + 1)]
    theirs = [once_more(first, flies(60.0 * n, bits), Differs.SERVER) for n in range(1, more + 1)]
    return first, [*again, *theirs]


def pieces(of: Failed, failure: Failure | None) -> list[Observation]:
    """Many segments, which may fail, and one."""
    return [
        contrast(of, Differs.SEGMENTS, failure, Step.EXCHANGE, pieces=32),
        contrast(of, Differs.SEGMENTS, None, Step.EXCHANGE, pieces=1),
    ]


def frozen(failure: Failure | None = Failure.TIMEOUT, more: int = 2, **known: Any) -> Case:
    first, asked = in_turn(freeze, more)
    settings = {"transfers": (flies(),), **known}
    return case([first], contrasts=[*asked, *pieces(first, failure)], **settings)


def throttled(
    more: int = 4,
    bits: float = 8_000_000,
    slow_outside: dict[Target, bool] | None = None,
    **facts: Any,
) -> Case:
    first, asked = in_turn(lambda at: crawl(at, **facts), more, bits)
    known = {"transfers": (flies(0.0, bits),), "slow_outside": slow_outside or {}}
    return case([first], contrasts=asked, **known)


def _r34t() -> Case:
    first = crawl()
    theirs = replace(crawl()[1], target=Y.target)
    return case([first], transfers=(theirs,))


def hellos_in_turn(
    times: int = 3, failure: Failure = Failure.TIMEOUT, again: int = 5, **known: Any
) -> Case:
    """Ours fails and another program's passes, one after the other."""
    facts = {"clienthello_acked": False, "retransmissions": again}
    rounds = [hello(W1, failure, **facts) for _ in range(times)]
    own = [replace(o, at=100.0 * n) for n, (_, o) in enumerate(rounds, 1)]
    last = (W1, own[-1])
    other = [
        replace(contrast(last, Differs.HELLO, None, server_spoke=True), at=o.at + 2) for o in own
    ]
    return case([last], contrasts=other[-1:], past=(*own[:-1], *other[:-1]), **known)


def burst(*, answered: int = 3, stuck: int = 3, recovers: bool = True, far: int = 3) -> Case:
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=False)
    single = contrast(f, Differs.TIME, None if recovers else Failure.TIMEOUT, at=200.0)
    facts = {"handshakes": 6, "at": 300.0}
    there = contrast(f, Differs.BURST, None, answered=answered, frozen=stuck, **facts)
    facts["address"] = ELSEWHERE
    elsewhere = contrast(f, Differs.BURST, None, answered=6 - far, frozen=far, **facts)
    return case([f], contrasts=[single, there, elsewhere], verified=frozenset())


def at_random(
    failure: Failure = Failure.RESET,
    every: int = 2,
    times: int = 24,
    neutral_fails: int = 0,
    spaced: float = 60.0,
    **facts: Any,
) -> Case:
    """One attempt in ``every`` works; the last one fails."""
    f = hello(W1, failure, **facts)
    f = (W1, replace(f[1], at=spaced * times))
    works = hello(W1, failure, **facts)[1]
    works = replace(works, steps=(*works.steps[:-1], replace(works.steps[-1], failure=None)))
    past: list[Observation] = []
    for n in range(times):
        own = works if n % every == 0 else f[1]
        past.append(replace(own, id=f"own{n}", at=spaced * n))
        asked = neutral(f, failure if n < neutral_fails else None)
        past.append(replace(asked, at=spaced * n - 1))
    return case([f], past=tuple(past), verified=frozenset())


def resolver_fails(failure: Failure) -> Case:
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    facts = {"query": W1.host, "transport": "tls", "address": "9.9.9.9", "port": 853}
    asked = contrast(f, Differs.RESOLVER, failure, Step.TLS, **facts)
    passed = contrast((W1, asked), Differs.NAME, None, **{**facts, "server_spoke": True})
    return case([f], contrasts=[asked, passed])


def _r26() -> Case:
    failed = [syn(t, Failure.REFUSED) for t in (T1, T2)]
    dead = {t.target: False for t in (T1, T2)}
    return case(failed, channel="chat", outside=dead, nearest={A1: 0.01, A2: 0.01})


PAIR = target("pair", channel="chat", probe=TcpProbe(), host="pair.test", port=5222)
SIX = "2001:db8:1::1", "2001:db8:2::1"


def parted(
    silent: tuple[str, ...] = (A1, A2), works: tuple[str, ...] = (A3,), **given: Any
) -> Case:
    """One name, some of whose addresses are silent."""

    def at(address: str, failure: Failure | None) -> Failed:
        family = Family.IPV6 if ":" in address else Family.IPV4
        return PAIR, seen(
            PAIR, failure, Step.CONNECT, family=family, **{"address": address, "retransmissions": 3}
        )

    made = [*(at(a, Failure.TIMEOUT) for a in silent), *(at(a, None) for a in works)]
    known = {"nearest": dict.fromkeys((A1, A2, A3, *SIX), RTT), **given}
    return case(made, channel="chat", **known)


def over_six() -> tuple[ControlResult, ...]:
    """Controls that answer over both families."""
    return tuple(
        replace(
            r,
            observations=(
                *r.observations,
                *(
                    replace(o, id=f"{o.id}six", facts={**o.facts, "family": "ipv6"})
                    for o in r.observations
                ),
            ),
        )
        for r in controls()
    )


def bad_path(again: int = 2, held_against: tuple[ControlResult, ...] | None = None) -> Case:
    """Calls lose packets, and so does what else goes to this operator."""
    beside = [
        (t, seen(t, None, Step.CONNECT, address=t.host, retransmissions=again)) for t in (T1, T2)
    ]
    lossy = [udp(r, Failure.LOSSY) for r in (R1, R2)]
    return case(lossy, channel="call", beside=beside, held_against=held_against)


def limited(*, first: bool = True) -> Case:
    lossy = [udp(r, Failure.LOSSY, answered=2, answered_first=first) for r in (R1, R2)]
    return case(lossy, channel="call")


def _r54() -> Case:
    cut = replace(hello(W1, Failure.RESET)[1], at=70.0)
    f = syn(T1)
    return case([(T1, replace(f[1], at=100.0))], channel="chat", past=(cut,))


def without_cookie(answered: int = 5) -> Case:
    """Public call servers are silent, and answer what has no cookie; nobody asked UDP DNS."""
    held = tuple(r for r in controls(stun=Failure.TIMEOUT) if r.config.role is not Role.RESOLVER)
    f = udp(R1)
    asked = dress(f, answered, cookie=False, address="192.0.2.33")
    return case([f], channel="call", contrasts=[asked], held_against=held)


def nowhere() -> Case:
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    facts = {"address": ELSEWHERE, "port": 53, "rcode": "NXDOMAIN"}
    return case(
        [f], contrasts=[contrast(f, Differs.NOWHERE, Failure.NO_ADDRESS, Step.EXCHANGE, **facts)]
    )


GRADUAL: dict[str, Callable[[], Case]] = {
    "R37c": without_cookie,
    "R04n": nowhere,
    "R28": frozen,
    "R29": lambda: frozen(None, outside={X1.target: True}),
    "R32": throttled,
    "R33": lambda: throttled(slow_outside={X1.target: False}, **QUEUED),
    "R34t": _r34t,
    "R35": lambda: case([crawl()], slow_outside={X1.target: True}),
    "R23": hellos_in_turn,
    "R24": burst,
    "R47": at_random,
    "R47d": lambda: at_random(Failure.TIMEOUT, clienthello_acked=False),
    "R47a": lambda: at_random(Failure.TIMEOUT, clienthello_acked=True),
    "R11": lambda: resolver_fails(Failure.TIMEOUT),
    "R11r": lambda: resolver_fails(Failure.RESET),
    "R26": _r26,
    "R51": parted,
    "R51f": lambda: parted(SIX, (A1, A2), held_against=over_six()),
    "R52": bad_path,
    "R53": limited,
    "R54": _r54,
}

WORLDS = {**OTHERS, **GRADUAL, **CALLING, **STREAMS}
