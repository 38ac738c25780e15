"""Worlds in which nobody interferes, and what looks like interference in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.case import Case, Differs
from agent.diagnosis import Evidence
from probes.model import Failure, Observation, Role, Step, VantageStatus
from tests.agent.building import seen, target
from tests.agent.gradual import (
    PACE,
    QUEUED,
    SIX,
    WORLDS,
    at_random,
    burst,
    freeze,
    frozen,
    hellos_in_turn,
    parted,
    resolver_fails,
    throttled,
)
from tests.agent.worlds import (
    A1,
    A2,
    AFTER,
    D1,
    D2,
    D3,
    ELSEWHERE,
    FAR,
    M1,
    M2,
    Q1,
    Q2,
    R1,
    R2,
    R3,
    SIBLING,
    T1,
    T2,
    W1,
    W2,
    Failed,
    _calls,
    _calls_lossy,
    _denied,
    border,
    case,
    climbed,
    contrast,
    controls,
    dress,
    echo,
    hello,
    masked,
    name,
    neutral,
    otherwise,
    over_tcp,
    port,
    syn,
    tls_there,
    trusted,
    udp,
    words,
)

SLOW = {A1: 0.01, A2: 0.01}


def server_down() -> Case:
    """One address of many, all its ports."""
    f = syn(T1)
    return case([f], channel="chat", contrasts=[port(f, n, Failure.TIMEOUT) for n in (443, 80)])


def owner_down() -> Case:
    """Everything of one owner, and nobody outside to ask."""
    failed = [syn(T1), syn(T2)]
    silent = [port(f, n, Failure.TIMEOUT) for f in failed for n in (443, 80)]
    return case(failed, channel="chat", beside=[], contrasts=silent)


def owner_goes_down(channel: str = "chat") -> Case:
    """During this round: what it asked before then still answered, and so did another port."""
    before = (SIBLING, seen(SIBLING, None, Step.CONNECT, address=SIBLING.host, at=5.0))
    if channel == "call":
        failed = [_later(udp(r), 8.0) for r in (R1, R2, R3)]
        asked = [dress(failed[0], 0, cookie=False)]
    else:
        failed = [_later(syn(t), 8.0) for t in (T1, T2)]
        asked = [port(f, n, Failure.TIMEOUT) for f in failed for n in (443, 80)]
    return case(failed, channel=channel, beside=[before], contrasts=asked)


def family_goes_down() -> Case:
    """IPv6 breaks during this round: the controls were asked over it before, and answered."""
    six = {"family": "ipv6"}
    relays = [
        (r, seen(r, Failure.TIMEOUT, at=8.0, requests=5, address=f"2001:db8:{n}::1", **six))
        for n, r in enumerate((R1, R2, R3))
    ]
    held = tuple(
        replace(r, observations=(*r.observations, *(_over_six(o) for o in r.observations)))
        for r in controls()
    )
    asked = [dress(relays[0], 0, cookie=False)]
    return case(relays, channel="call", contrasts=asked, held_against=held)


def _over_six(o: Observation) -> Observation:
    return replace(o, at=5.0, facts={**o.facts, "family": "ipv6", "address": "2001:db8::7"})


def port_goes_down() -> Case:
    """The whole machine does, during this round: the other port was asked before."""
    failed = [_later(syn(t), 8.0) for t in (T1, T2)]
    return case(failed, channel="chat", contrasts=[port(f, 443, None) for f in failed])


def _later(failed: Failed, at: float) -> Failed:
    return failed[0], replace(failed[1], at=at)


def lossy_transit(of: str) -> Case:
    """An evening on the way to one operator: some packets of every connection to it are lost, and
    of a few connections all."""
    whole = WORLDS[of]()
    others = [
        (t, seen(t, None, Step.CONNECT, address=t.host, at=AFTER, retransmissions=n % 2))
        for n in range(12)
        for t in [target(f"x{n}", channel="media", probe=T1.probe, host=f"198.51.100.{50 + n}")]
    ]
    beside = tuple((Evidence(t, (o,), 0.0, True, True), (o,)) for t, o in others)
    return replace(whole, seen=(*whole.seen, *beside))


def very_lossy_transit(of: str) -> Case:
    """Nine of ten packets to one operator are lost: who answers at all is one server, at the third
    try."""
    whole = WORLDS[of]()
    one = target("x", channel="media", probe=T1.probe, host="198.51.100.50")
    heard = seen(one, None, Step.CONNECT, address=one.host, at=AFTER, retransmissions=2)
    return replace(whole, seen=(*whole.seen, (Evidence(one, (heard,), 0.0, True, True), (heard,))))


def hanging(failure: Failure = Failure.TIMEOUT, **facts: object) -> Case:
    """It takes every hello and answers none, whatever the name."""
    failed = [hello(w, failure, a, **facts) for w, a in ((W1, A1), (W2, A2))]
    asked = [neutral(f, failure, **facts) for f in failed]
    asked += [contrast(f, Differs.BYTES, None, Step.EXCHANGE) for f in failed if facts]
    return case(failed, contrasts=asked, nearest=SLOW)


def contaminated() -> Case:
    """The neutral name failed too, but only after the target's: who knows what that left behind."""
    f = hello(W1, Failure.RESET)
    return case([f], contrasts=[replace(neutral(f, Failure.RESET), at=20.0)], nearest=SLOW)


def refusing() -> Case:
    """Stopped servers: refused, in the time that a refusal takes from there."""
    failed = [syn(t, Failure.REFUSED) for t in (T1, T2)]
    return case(failed, channel="chat", nearest=SLOW)


def retired() -> Case:
    """Relays that have not answered for weeks."""
    return _calls(lambda f: [dress(f[0], 0, cookie=False)], verified=frozenset())


def fleet_down() -> Case:
    """The whole fleet, which another network sees as well."""
    dead = {r.target: False for r in (R1, R2, R3)}
    return _calls(lambda f: [dress(f[0], 0, cookie=False)], outside=dead)


def mostly_down() -> Case:
    """Of three relays one is up on another network: one alone is no fleet."""
    one = {R1.target: True, R2.target: False, R3.target: False}
    return _calls(
        lambda f: [dress(f[0], 0, cookie=False)], outside=one, verified=frozenset({"r1", "r2"})
    )


def half_down() -> Case:
    """Of two servers one does not answer anywhere: the other is but one address."""
    failed = [syn(T1), syn(T2)]
    silent = [port(f, n, Failure.TIMEOUT) for f in failed for n in (443, 80)]
    half = {T1.target: True, T2.target: False}
    return case(failed, channel="chat", contrasts=silent, outside=half)


def mute_twin(**given: Any) -> Case:
    """The relays were taken down, and so was the twin; or it is asked with a wrong key or clock."""
    return _calls(lambda f: echo(f[0], told=False, stun=0, random=0), **given)


def shielded_twin() -> Case:
    """The twin's host lets no UDP in, and it says so over TLS; the relays are down."""
    return _calls(lambda f: echo(f[0], stun=0, random=0))


def odd_ports_closed_to_relays() -> Case:
    """What passes to the twin's ordinary port says nothing of theirs."""
    held = tuple(r for r in controls() if r.config.port not in (853, 19302, 53))
    return _calls(lambda f: echo(f[0], stun=5), held_against=held)


def cdn() -> Case:
    """Another address than a trusted resolver names, of the owner all the same, and it is down."""
    f = hello(W1, Failure.TIMEOUT, A2, clienthello_acked=True)
    return case([f], contrasts=[trusted(f, "tcp", (A1,))])


def own_cache_down() -> Case:
    """The provider has a cache of the owner's, outside of the prefixes that the file states: it
    showed the right certificate before, and has gone silent."""
    f = led_to(ELSEWHERE)
    place = (f[0].target, ELSEWHERE)
    return case([f], contrasts=[trusted(f, "tcp", (A1,))], vouched=frozenset({place}))


def behind_dns64() -> Case:
    """The resolver makes IPv6 addresses of IPv4 ones, and the owner's server is down."""
    f = led_to("64:ff9b::c633:6401")  # of A1
    return case([f], contrasts=[trusted(f, "tcp", (A2,))])


def led_to(address: str, failure: Failure = Failure.TIMEOUT) -> Failed:
    """A name resolved, and nothing there takes the connection."""
    return W1, seen(W1, failure, Step.CONNECT, before=(Step.RESOLVE,), address=address, at=10.0)


def filtering_to_a_page() -> Case:
    """Advertising and the messenger lead to the same page, which says so."""
    issuer = {"certificate_issuer": "stranger"}
    failed = [hello(w, Failure.UNKNOWN_ISSUER, ELSEWHERE, **issuer) for w in (W1, W2)]
    held = controls(ad_answers=("192.0.2.9", ELSEWHERE))
    return case(failed, contrasts=[trusted(failed[0], "tcp", (A1,))], held_against=held)


def filtering(family: str = "ipv4") -> Case:
    f = name(W1, Failure.BAD_ANSWER, address="0.0.0.0", family="ipv4")
    return case([f], contrasts=[trusted(f, "tcp", (A1,))])


def router_lies() -> Case:
    """A resolver at home: what it denies, its owner may have denied."""
    return _denied(private_resolver=True)


def own_certificate() -> Case:
    """The owner's own mistake at one name."""
    return case([hello(W1, Failure.UNKNOWN_ISSUER, certificate_issuer="Messy internal")])


def company_proxy() -> Case:
    """Its certificate stands before the controls too."""
    stranger = {"certificate_issuer": "proxy"}
    failed = [hello(w, Failure.UNKNOWN_ISSUER, **stranger) for w in (W1, W2)]
    held = controls()
    web = (Role.FOREIGN, Role.DOMESTIC)
    theirs = tuple(
        replace(
            r, observations=tuple(replace(o, facts={**o.facts, **stranger}) for o in r.observations)
        )
        for r in held
        if r.config.role in web
    )
    return case(failed, held_against=(*theirs, *(r for r in held if r.config.role not in web)))


def small_packets_only() -> Case:
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=False, clienthello_bytes=1700)
    asked = [neutral(f, Failure.TIMEOUT), contrast(f, Differs.LENGTH, None, server_spoke=True)]
    return case([f], contrasts=asked)


def odd_ports_closed() -> Case:
    """A firewall at the office lets 443 and 3478 out and nothing else."""
    held = tuple(r for r in controls() if r.config.port not in (853, 19302, 53))
    failed = [syn(t) for t in (T1, T2)]
    open_ports = [port(f, 443, None) for f in failed]
    return case(failed, channel="chat", contrasts=open_ports, held_against=held)


def office_that_says_so() -> Case:
    """Its firewall refuses odd ports to everyone, by ICMP, and DNS over TLS among them."""
    failed = [syn(t, Failure.PROHIBITED, icmp_from_target=False) for t in (T1, T2)]
    ordinary = [
        c
        if c.config.port != 853
        else replace(c, observations=(seen(c.config, Failure.PROHIBITED),))
        for c in controls()
    ]
    return case(failed, channel="chat", held_against=tuple(ordinary))


def balanced_relays() -> Case:
    """Nothing listens at the relays any more; their load balancer says so in its own name."""
    return WORLDS["R14r"]()


def office_without_udp() -> Case:
    """Relays on odd ports only are closed, and no operator on another odd port is to be had."""
    held = tuple(r for r in controls() if r.config.port != 19302)
    return _calls(lambda f: [dress(f[0], 0, cookie=False)], held_against=held)


def mangling_router() -> Case:
    """It swallows STUN, wherever it goes; other UDP passes."""
    return _calls(held_against=controls(stun=Failure.TIMEOUT))


def one_packet_lost() -> Case:
    """A SYN each, in a round in which controls did not answer either."""
    failed = [syn(t, retransmissions=0) for t in (T1, T2)]
    silent = [port(f, 443, Failure.TIMEOUT) for f in failed]
    silent = [replace(o, facts={**o.facts, "retransmissions": 0}) for o in silent]
    return case(failed, channel="chat", contrasts=silent)


def line_drops() -> Case:
    """Half of the controls are silent in the same round."""
    held = controls()
    dead = controls(foreign=Failure.TIMEOUT)[:3]
    failed = [syn(t) for t in (T1, T2)]
    silent = [port(f, n, Failure.TIMEOUT) for f in failed for n in (443, 80)]
    both = (dead[0], dead[1], *held[2:])
    return case(failed, channel="chat", contrasts=silent, held_against=both)


def flap() -> Case:
    return replace(base := WORLDS["R12"](), known=replace(base.known, flapped=True))


def broken_ipv6() -> Case:
    return case([], channel="chat")


def rate_limited() -> Case:
    """Two relays stop answering us; the third does."""
    works = (R3, seen(R3, None, address=R3.host))
    return case([udp(R1), udp(R2)], channel="call", beside=[works])


def one_relay() -> Case:
    f = udp(R1)
    return case([f], channel="call", contrasts=[dress(f, 0, cookie=False)])


def congestion() -> Case:
    return _calls_lossy(controls(stun=Failure.LOSSY))


def lossy_line(rule: str) -> Case:
    """Half of the packets are lost to everyone: the controls answer, at the second or third try."""
    made = WORLDS[rule]()
    lossy = controls(again=4, answered=3)
    return replace(made, known=replace(made.known, controls=lossy))


def proxy_begins() -> Case:
    """What reads everything begins in the middle of a round, after the controls were asked."""
    made = WORLDS["R25"]()
    controls = tuple(
        replace(r, observations=tuple(replace(o, at=1.0) for o in r.observations))
        for r in made.known.controls
    )
    return replace(made, known=replace(made.known, controls=controls))


def slow_servers() -> Case:
    """Nine seconds to every answer: the neutral name came through by luck."""
    made = WORLDS["R20"]()
    slow = tuple(
        replace(
            c, steps=tuple(replace(s, seconds=9.2) if s.step is Step.TLS else s for s in c.steps)
        )
        for c in made.known.contrasts
    )
    return replace(made, known=replace(made.known, contrasts=slow))


def resolver_cut() -> Case:
    """What fails of the messenger is its own matter, while an encrypted resolver is cut off."""
    return WORLDS["R11"]()


def transit() -> Case:
    """Loss on the way to one operator, in the evening."""
    return _calls_lossy(controls())


def cached_abroad() -> Case:
    """The border is down, and one foreign operator answers from a cache inside."""
    return border(None, Failure.TIMEOUT, Failure.TIMEOUT, Failure.TIMEOUT)


def evening_transit() -> Case:
    """Transfers from one operator crawl, at whatever pace the others leave."""
    return throttled(unsteady=0.4)


def server_paces() -> Case:
    """It sends at a pace of its own, and nobody outside has looked."""
    return throttled(**QUEUED)


def server_stops() -> Case:
    """After so many bytes, each time."""
    return frozen(None)


def everything_freezes() -> Case:
    """The control's transfer too."""
    return frozen(transfers=(freeze()[1],))


def limits_bursts() -> Case:
    """The owner's servers take so many handshakes at a time; a control's take all."""
    return burst(far=0)


def resolver_down() -> Case:
    """A trusted resolver takes no hello, whatever the name."""
    whole = resolver_fails(Failure.TIMEOUT)
    asked, passed, *rest = whole.known.contrasts
    silent = replace(passed, steps=asked.steps, facts={**passed.facts, "server_spoke": False})
    return replace(whole, known=replace(whole.known, contrasts=(asked, silent, *rest)))


def quic_given_up() -> Case:
    """The servers speak HTTP/3 no more: nothing of QUIC is answered, whatever it is."""
    failed = [climbed(q, a, ping="timeout", neutral="timeout") for q, a in ((Q1, A1), (Q2, A2))]
    return case(failed, contrasts=[over_tcp(f) for f in failed])


def quic_ports_closed() -> Case:
    """A firewall at the office lets no UDP out but DNS and calls; the servers are as they were."""
    failed = [climbed(q, a, ping="timeout", neutral="timeout") for q, a in ((Q1, A1), (Q2, A2))]
    return case(failed)


def greeting_given_up(relays: int = 1, **more: Any) -> Case:
    """Relays that no longer take DTLS; that one has not is no fleet."""
    failed = [udp(d) for d in (D1, D2, D3)[:relays]]
    asked = [dress(failed[0], 0), dress(failed[0], 5, differs=Differs.STUN)]
    works = (R2, seen(R2, None, address=A2, at=AFTER))
    return case(failed, channel="call", beside=[works], contrasts=asked, **more)


def half_asleep() -> Case:
    """Half of all attempts fail, with a neutral name too."""
    return at_random(neutral_fails=12)


def mute_front(failure: Failure, **more: Any) -> Case:
    """The machines behind the owner's fronts are down: those take connections, and whatever comes,
    but answer no first words, in no form."""
    failed = [words(m, failure, acked=True) for m in (M1, M2)]
    asked = [tls_there(f) for f in failed] + [otherwise(f, failure) for f in failed]
    asked += [contrast(f, Differs.BYTES, None, Step.EXCHANGE) for f in failed]
    return case(failed, channel="chat", contrasts=asked, **FAR, **more)


INNOCENT: list[Callable[[], Case]] = [
    *(
        (lambda s=s: masked(s))
        for s in (
            VantageStatus.OFFLINE,
            VantageStatus.PORTAL,
            VantageStatus.TUNNELLED,
            VantageStatus.FAULTY,
        )
    ),
    lambda: border(Failure.TIMEOUT, Failure.TIMEOUT, Failure.TIMEOUT),
    cached_abroad,
    congestion,
    proxy_begins,
    slow_servers,
    resolver_cut,
    WORLDS["R11r"],
    *((lambda r=r: lossy_line(r)) for r in ("R12", "R13", "R18", "R19", "R20", "R38a", "R49")),
    *((lambda r=r: lossy_line(r)) for r in ("R39a", "R39f", "R42", "R43")),
    *((lambda r=r: very_lossy_transit(r)) for r in ("R39a", "R39f", "R42", "R43")),
    quic_given_up,
    quic_ports_closed,
    greeting_given_up,
    lambda: greeting_given_up(3, outside={d.target: False for d in (D1, D2, D3)}),
    transit,
    server_down,
    owner_down,
    owner_goes_down,
    lambda: owner_goes_down("call"),
    port_goes_down,
    family_goes_down,
    *((lambda rule=rule: lossy_transit(rule)) for rule in ("R12", "R13", "R19", "R20", "R38a")),
    *((lambda r=r: very_lossy_transit(r)) for r in ("R12", "R13", "R19", "R20", "R38a")),
    *(hanging, lambda: hanging(clienthello_acked=True), lambda: hanging(Failure.RESET)),
    contaminated,
    refusing,
    retired,
    fleet_down,
    mostly_down,
    mute_twin,
    lambda: mute_twin(held_against=controls(stun=Failure.TIMEOUT)),
    shielded_twin,
    odd_ports_closed_to_relays,
    half_down,
    rate_limited,
    one_relay,
    *(cdn, own_cache_down, behind_dns64, filtering, filtering_to_a_page),
    router_lies,
    own_certificate,
    company_proxy,
    small_packets_only,
    odd_ports_closed,
    office_without_udp,
    office_that_says_so,
    balanced_relays,
    mangling_router,
    one_packet_lost,
    line_drops,
    flap,
    broken_ipv6,
    evening_transit,
    lambda: throttled(bits=PACE),
    server_paces,
    server_stops,
    everything_freezes,
    limits_bursts,
    resolver_down,
    half_asleep,
    *(lambda s=s: mute_front(s) for s in (Failure.TIMEOUT, Failure.RESET)),
    lambda: mute_front(Failure.TIMEOUT, verified=frozenset()),
    lambda: lossy_line("R49n"),
    lambda: lossy_line("R49w"),
    lambda: hellos_in_turn(verified=frozenset()),
    parted,
    lambda: parted(SIX, (A1, A2)),
    *(WORLDS[rule] for rule in ("R07", "R09", "R21", "R22", "R26", "R34t", "R35", "R37c", "R04n")),
    *(WORLDS[rule] for rule in ("R51", "R51f", "R52", "R53", "R54", "D1", "M9", "M9t")),
]
