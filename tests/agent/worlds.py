"""One small world per rule in which it fires, and the innocent ones in which none may accuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from agent.case import Case, Differs, Known, case_of
from agent.diagnosis import Evidence
from agent.vantage import ControlResult, Judgement
from config.model import MessengerConfig, TargetConfig
from probes.dns import DnsProbe
from probes.dtls import DtlsProbe
from probes.https import HttpsProbe
from probes.model import Contrast, Failure, Observation, Role, Step, VantageStatus
from probes.mtproto import MtprotoProbe
from probes.quic import QuicProbe
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from tests.agent.building import control, judgement, seen, target

A1, A2, A3 = "198.51.100.1", "203.0.113.1", "198.51.100.3"
PREFIXES = ("198.51.100.0/24", "203.0.113.0/24")
ELSEWHERE = "185.1.2.3"
RTT = 0.1
AFTER = 1000.0
"""When in a round something is seen that comes after its failures."""

W1, W2 = (
    target(n, channel="web", probe=HttpsProbe(f"https://{n}.test/"), host=f"{n}.test", port=443)
    for n in ("w1", "w2")
)
R1, R2, R3 = (
    target(f"r{i}", probe=StunProbe(), host=a, port=1400) for i, a in enumerate((A1, A2, A3))
)
T1, T2 = (
    target(f"t{i}", channel="chat", probe=TcpProbe(), host=a, port=5222)
    for i, a in enumerate((A1, A2))
)
M1, M2 = (
    target(f"m{i}", channel="chat", probe=MtprotoProbe(), host=a, port=443)
    for i, a in enumerate((A1, A2))
)
Q1, Q2 = (
    target(n, channel="web", probe=QuicProbe(), host=f"{n}.test", port=443) for n in ("q1", "q2")
)
D1, D2, D3 = (
    target(f"d{i}", probe=DtlsProbe(), host=a, port=3480) for i, a in enumerate((A1, A2, A3))
)
SIBLING = target("sibling", channel="media", probe=TcpProbe(), host="198.51.100.200", port=443)
MESSENGER = MessengerConfig("m", "Messy", 0.8, (), PREFIXES, (), ())
CHANNEL_OF = {"web": "web", "call": "call", "chat": "chat"}


# --- controls ----------------------------------------------------------------------------------


def _web(name: str, role: Role, failure: Failure | None, **facts: Any) -> ControlResult:
    probe = HttpsProbe(f"https://{name}.test/")
    config = control(name, role, probe=probe, host=f"{name}.test", port=443)
    before = (Step.RESOLVE, Step.CONNECT, Step.TLS) if failure is None else (Step.RESOLVE,)
    step = Step.EXCHANGE if failure is None else Step.CONNECT
    facts = {"at": AFTER, **facts}
    return ControlResult(config, (seen(config, failure, step, before=before, **facts),), True)


def _stun(
    name: str, failure: Failure | None, port: int = 3478, *, answered: int = 5
) -> ControlResult:
    config = control(name, Role.STUN, probe=StunProbe(), port=port)
    heard = {None: answered, Failure.LOSSY: 2}.get(failure, 0)
    facts = {"requests": 5, "answered": heard}
    return ControlResult(config, (seen(config, failure, before=(Step.RESOLVE,), **facts),), True)


def _resolver(resolver: str, failure: Failure | None, port: int = 53) -> ControlResult:
    probe = DnsProbe("example.com", resolver=resolver)
    config = control(resolver.replace("/", "-"), Role.RESOLVER, probe=probe, port=port)
    return ControlResult(config, (seen(config, failure, resolver=resolver),), True)


def _ad(answers: tuple[str, ...], *, refused: bool) -> ControlResult:
    config = control("ad", Role.AD, probe=DnsProbe("ad.test"))
    failure = Failure.NO_ADDRESS if refused else None
    facts: dict[str, Any] = {"resolver": "system", "rcode": "NXDOMAIN" if refused else "NOERROR"}
    if not refused:
        facts["answers"] = answers
    return ControlResult(config, (seen(config, failure, **facts),), True)


def controls(
    *,
    foreign: Failure | None = None,
    domestic: Failure | None = None,
    stun: Failure | None = None,
    udp_dns: Failure | None = None,
    ad_refused: bool = False,
    ad_answers: tuple[str, ...] = ("192.0.2.80",),
    again: int = 0,
    answered: int = 5,
) -> tuple[ControlResult, ...]:
    """``again``: segments of ten that each web control had to send again; ``answered``: requests of
    five that each STUN control was answered, if it was."""
    tcp = {"sent": 10, "retransmissions": again}
    return (
        *(_web(f"f{i}", Role.FOREIGN, foreign, **tcp) for i in range(3)),
        _web("d1", Role.DOMESTIC, domestic, **tcp),
        _stun("s1", stun, answered=answered),
        _stun("s2", stun, 19302, answered=answered),
        _resolver("system", None),
        _resolver("quad9/udp", udp_dns),
        _resolver("quad9/tcp", None),
        _resolver("quad9/tls", None, 853),
        _ad(ad_answers, refused=ad_refused),
    )


# --- cases -------------------------------------------------------------------------------------


def case(
    failed: Iterable[tuple[TargetConfig, Observation]],
    *,
    channel: str = "web",
    beside: Iterable[tuple[TargetConfig, Observation]] | None = None,
    contrasts: Iterable[Observation] = (),
    held_against: tuple[ControlResult, ...] | None = None,
    line: Judgement | None = None,
    messenger: MessengerConfig = MESSENGER,
    comes_and_goes: bool = False,
    **known: Any,
) -> Case:
    """A check by hand, in which what failed does so once more unless it ``comes_and_goes``.
    ``beside``: what else of the owner was seen, one working sibling by default."""
    beside = (
        [(SIBLING, seen(SIBLING, None, Step.CONNECT, address=SIBLING.host, at=AFTER))]
        if beside is None
        else beside
    )
    failed = list(failed)
    once_more = [] if comes_and_goes else [again(f) for f in failed]
    targets: dict[TargetConfig, list[Observation]] = {}
    for config, o in (*failed, *beside):
        targets.setdefault(config, []).append(o)
    evidence = [Evidence(c, tuple(seen), 0.0, True, True) for c, seen in targets.items()]
    settings: dict[str, Any] = {
        "contrasts": (*contrasts, *once_more),
        "by_hand": True,
        "controls": controls() if held_against is None else held_against,
        "verified": frozenset(c.target.name for c in targets),
        "nearest": {A1: RTT, A2: RTT, A3: RTT},
        **known,
    }
    settings.setdefault("least", settings["nearest"])
    return case_of(messenger, channel, evidence, line or judgement(), Known(**settings))


def contrast(
    of: tuple[TargetConfig, Observation],
    differs: Differs,
    failure: Failure | None = None,
    step: Step = Step.TLS,
    **facts: Any,
) -> Observation:
    config, o = of
    before = (Step.CONNECT,) if step in (Step.TLS,) else ()
    facts = {"address": o.address, "port": config.port, **facts}
    made = seen(config, failure, step, before=before, **facts)
    return replace(made, contrast=Contrast(o.id, differs))


Failed = tuple[TargetConfig, Observation]


def again(of: Failed) -> Observation:
    """It fails in the same way, three seconds later."""
    o = of[1]
    return replace(o, id=f"{o.id}-again", at=o.at + 3, contrast=Contrast(o.id, Differs.AGAIN))


def hello(config: TargetConfig, failure: Failure, address: str = A1, **facts: Any) -> Failed:
    steps = (Step.RESOLVE, Step.CONNECT)
    facts = {"clienthello_bytes": 517, "retransmissions": 5, **facts}
    o = seen(config, failure, Step.TLS, before=steps, address=address, at=10.0, **facts)
    return config, o


def neutral(of: Failed, failure: Failure | None = None, **facts: Any) -> Observation:
    facts = {"clienthello_bytes": 517, "server_spoke": failure is None, **facts}
    return contrast(of, Differs.NAME, failure, at=5.0, **facts)


def words(config: TargetConfig, failure: Failure, *, acked: bool = False, **facts: Any) -> Failed:
    """First words that get no byte back."""
    told = {"address": config.host, "hello_bytes": 42, "hello_acked": acked, "server_spoke": False}
    told |= {"retransmissions": 0 if acked else 5, **facts}
    return config, seen(config, failure, before=(Step.CONNECT,), at=10.0, **told)


def tls_there(of: Failed, *, acked: bool = True) -> Observation:
    """A server that speaks no TLS does not answer a hello, but its kernel has it."""
    return contrast(of, Differs.PROTOCOL, Failure.TIMEOUT, clienthello_acked=acked)


def otherwise(of: Failed, failure: Failure | None = None) -> Observation:
    return contrast(of, Differs.TRANSPORT, failure, Step.EXCHANGE)


def syn(config: TargetConfig, failure: Failure = Failure.TIMEOUT, **facts: Any) -> Failed:
    facts = {"address": config.host, "retransmissions": 3, **facts}
    return config, seen(config, failure, Step.CONNECT, **facts)


def port(of: Failed, number: int, failure: Failure | None) -> Observation:
    again = 3 if failure else 0
    return contrast(of, Differs.PORT, failure, Step.CONNECT, port=number, retransmissions=again)


def udp(config: TargetConfig, failure: Failure = Failure.TIMEOUT, **facts: Any) -> Failed:
    return config, seen(config, failure, address=config.host, requests=5, **facts)


def dress(
    of: Failed, answered: int, *, differs: Differs = Differs.DRESS, **facts: Any
) -> Observation:
    failure = None if answered >= 3 else Failure.TIMEOUT
    return contrast(of, differs, failure, Step.EXCHANGE, answered=answered, requests=5, **facts)


def climbed(config: TargetConfig, address: str = A1, **rungs: str) -> Failed:
    """A ladder of QUIC of which the target's name got no answer; ``rungs``: the others' words."""
    words = {"ping": "ok", "neutral": "ok", "name": "timeout", "v2": "timeout", **rungs}
    facts: dict[str, Any] = {f"quic_{rung}": word for rung, word in words.items()}
    facts |= {"quic_versions": ("00000001",), "quic_heard": False, "retransmissions": 4}
    steps = (Step.RESOLVE,)
    return config, seen(config, Failure.TIMEOUT, before=steps, address=address, at=10.0, **facts)


def over_tcp(of: Failed, failure: Failure | None = None) -> Observation:
    return contrast(of, Differs.OVER_TCP, failure)


def name(config: TargetConfig, failure: Failure, **facts: Any) -> Failed:
    family = facts.pop("family", None)
    return config, seen(config, failure, Step.RESOLVE, family=family, **facts)


def trusted(
    of: Failed, transport: str, answers: tuple[str, ...], rcode: str = "NOERROR", **facts: Any
) -> Observation:
    failure = None if answers else Failure.NO_ADDRESS
    facts = {
        "query": of[0].host,
        "transport": transport,
        "answers": answers,
        "rcode": rcode,
        **facts,
    }
    return contrast(of, Differs.RESOLVER, failure, Step.EXCHANGE, address="9.9.9.9", **facts)


TWIN = "192.0.2.7"


def echo(of: Failed, *, told: bool = True, port: int = 3478, **answered: int) -> list[Observation]:
    """What the operator's own server returned of five, by payload. ``told``: it said how many it
    had got, as with every answer."""
    made = []
    for payload, count in answered.items():
        facts = {"received_by_peer": count} if told or count else {}
        facts = {"address": TWIN, "payload": payload, "port": port, **facts}
        made.append(dress(of, count, differs=Differs.TWIN, **facts))
    return made


def border(*foreign: Failure | None) -> Case:
    few = [_web(f"f{i}", Role.FOREIGN, failure) for i, failure in enumerate(foreign)]
    line = judgement(VantageStatus.RESTRICTED, abroad=False)
    return case([], held_against=(*few, _web("d1", Role.DOMESTIC, None)), line=line)


def masked(status: VantageStatus, failure: Failure = Failure.TIMEOUT) -> Case:
    return case(
        [],
        line=judgement(status),
        held_against=controls(foreign=failure, domestic=failure, stun=failure, udp_dns=failure),
    )


# --- a world for every rule --------------------------------------------------------------------


def _r02() -> Case:
    f = name(W1, Failure.BAD_ANSWER, address="10.10.34.34", family="ipv4")
    return case([f], contrasts=[trusted(f, "tcp", (A1,))])


def _r03() -> Case:
    f = hello(W1, Failure.WRONG_NAME, ELSEWHERE)
    return case([f], contrasts=[trusted(f, "tcp", (A1,))])


def _r04() -> Case:
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    late = {"late_differs": True, "late_addresses": (A1,)}
    return case([f], contrasts=[trusted(f, "udp", (), "NXDOMAIN", **late)])


def _denied(**more: Any) -> Case:
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    return case([f], contrasts=[trusted(f, "tcp", (A1,))], **more)


def _r05() -> Case:
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    right = [trusted(f, t, (A1,)) for t in ("tcp", "tls")]
    return case([f], contrasts=[trusted(f, "udp", (), "NXDOMAIN"), *right])


def _r06s() -> Case:
    f = name(W1, Failure.TIMEOUT)
    pair = [dress(f, 0, differs=Differs.TIME), dress(f, 5, differs=Differs.QUERY)]
    return case([f], contrasts=[trusted(f, "tcp", (A1,)), *pair])


def _r07() -> Case:
    f = name(W1, Failure.NO_ADDRESS, rcode="NXDOMAIN")
    return case([f], contrasts=[trusted(f, "tcp", (), "NXDOMAIN")])


def _r09() -> Case:
    f = hello(W1, Failure.RESET, ELSEWHERE)
    nameless = replace(MESSENGER, owner_prefixes=())
    return case([f], contrasts=[trusted(f, "tcp", (A1,))], messenger=nameless)


def _r12() -> Case:
    failed = [syn(T1), syn(T2)]
    silent = [port(f, number, Failure.TIMEOUT) for f in failed for number in (443, 80)]
    return case(failed, channel="chat", contrasts=silent)


def _r13() -> Case:
    failed = [syn(T1), syn(T2)]
    return case(failed, channel="chat", contrasts=[port(f, 443, None) for f in failed])


def _r14() -> Case:
    failed = [syn(t, Failure.PROHIBITED, icmp_from_target=False) for t in (T1, T2)]
    return case(failed, channel="chat")


def _relays_told(failure: Failure, **more: Any) -> Case:
    failed = [udp(r, failure, icmp_from_target=False) for r in (R1, R2, R3)]
    return case(failed, channel="call", **more)


def _r14a() -> Case:
    return case([syn(T1, Failure.REFUSED), syn(T2, Failure.REFUSED)], channel="chat")


def _neutral_passes(failure: Failure, *, elsewhere: bool = False, **facts: Any) -> Case:
    f = hello(W1, failure, **facts)
    made = [neutral(f)]
    if elsewhere:
        made.append(contrast(f, Differs.ADDRESS, failure, address=ELSEWHERE, **facts))
    far = {} if facts.get("early") else {"nearest": {A1: 0.01}}
    return case([f], contrasts=made, **far)


def _r21() -> Case:
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=True)
    other = target("w1b", channel="web", probe=W1.probe, host=W1.host, port=443)
    works = (other, seen(other, None, Step.EXCHANGE, address=A2))
    asked = neutral(f, Failure.TIMEOUT, clienthello_acked=True)
    return case([f], beside=[works], contrasts=[asked])


def _r22() -> Case:
    f = hello(W1, Failure.TIMEOUT, clienthello_acked=False, clienthello_bytes=1700)
    return case([f], contrasts=[contrast(f, Differs.LENGTH, None, server_spoke=True)])


def _r25(*configs: TargetConfig) -> Case:
    return case([hello(c, Failure.UNKNOWN_ISSUER, certificate_issuer="stranger") for c in configs])


def _r27() -> Case:
    config = target("p", channel="web", probe=HttpsProbe("http://p.test/"), host="p.test", port=80)
    facts = {"http_status": 302, "http_location": "http://blocked.test/", "address": A1}
    o = seen(config, Failure.HTTP_STATUS, before=(Step.CONNECT,), **facts)
    portal = _web("portal", Role.PORTAL, None)
    return case([(config, o)], held_against=(*controls(), portal))


def _r49() -> Case:
    failed = [hello(W1, Failure.TIMEOUT, A1), hello(W2, Failure.TIMEOUT, A2)]
    asked = [neutral(f, Failure.TIMEOUT) for f in failed]
    asked += [contrast(f, Differs.BYTES, None, Step.EXCHANGE) for f in failed]
    return case(failed, contrasts=asked)


def _said(
    failure: Failure, *asked: Callable[[Failed], Observation], acked: bool = False, **more: Any
) -> Case:
    failed = [words(m, failure, acked=acked) for m in (M1, M2)]
    made = [ask(f) for f in failed for ask in asked]
    return case(failed, channel="chat", contrasts=made, **more)


def _random(of: Failed) -> Observation:
    return contrast(of, Differs.BYTES, None, Step.EXCHANGE)


FAR = {"nearest": {A1: 0.01, A2: 0.01}}
"""So near that nothing is too early."""


def _calls(
    contrasts: Callable[[list[Failed]], list[Observation]] = lambda _: [], **more: Any
) -> Case:
    failed = [udp(r) for r in (R1, R2, R3)]
    return case(failed, channel="call", contrasts=contrasts(failed), **more)


def _r37a() -> Case:
    return _calls(lambda f: [dress(f[0], 0, differs=Differs.TIME), dress(f[0], 5, cookie=False)])


def _r34() -> Case:
    return _calls_lossy(controls(stun=Failure.LOSSY))


def _calls_lossy(held_against: tuple[ControlResult, ...]) -> Case:
    return case([udp(R1, Failure.LOSSY)], channel="call", held_against=held_against)


def _r39() -> Case:
    config = target("dtls", probe=DtlsProbe(), host=A1, port=3478)
    works = (R2, seen(R2, None, address=A2))
    f = udp(config)
    twin = echo(f, random=5, stun=5, dtls=0)
    return case([f], channel="call", beside=[works], contrasts=twin)


def _r39f() -> Case:
    """One program's greeting is swallowed, and not another's."""
    return _greetings(lambda f: [dress(f, 5)])


def _r39a() -> Case:
    return _greetings(lambda f: [dress(f, 0), dress(f, 5, differs=Differs.STUN)])


def _greetings(contrasts: Callable[[Failed], list[Observation]], **more: Any) -> Case:
    failed = [udp(d) for d in (D1, D2, D3)]
    works = (R2, seen(R2, None, address=A2, at=AFTER))
    return case(failed, channel="call", beside=[works], contrasts=contrasts(failed[0]), **more)


def _r42() -> Case:
    failed = [climbed(q, a, neutral="timeout") for q, a in ((Q1, A1), (Q2, A2))]
    return case(failed, contrasts=[over_tcp(f) for f in failed])


def _r43() -> Case:
    return case([climbed(Q1)])


def _no_names() -> Case:
    line = judgement(VantageStatus.RESTRICTED, names=False)
    return case([], line=line, held_against=controls(udp_dns=Failure.TIMEOUT))


SILENT_STUN = controls(stun=Failure.TIMEOUT)
ALL_UDP = controls(stun=Failure.TIMEOUT, udp_dns=Failure.TIMEOUT)

WORLDS: dict[str, Callable[[], Case]] = {
    "M1": lambda: masked(VantageStatus.FAULTY),
    "M1t": lambda: masked(VantageStatus.TUNNELLED),
    "M2": lambda: masked(VantageStatus.PORTAL),
    "M3": lambda: case(
        [],
        line=judgement(VantageStatus.OFFLINE),
        held_against=(_web("f", Role.FOREIGN, Failure.UNREACHABLE),),
    ),
    "M3i": lambda: masked(VantageStatus.OFFLINE),
    "M9": lambda: case([syn(T1)], channel="chat", outside={T1.target: False}),
    "M9t": lambda: case([hello(W1, Failure.RESET)], outside={W1.target: False}),
    "R02": _r02,
    "R03": _r03,
    "R04": _r04,
    "R05": _r05,
    "R06": _denied,
    "R06s": _r06s,
    "R07": _r07,
    "R09": _r09,
    "R10": _no_names,
    "R12": _r12,
    "R13": _r13,
    "R14": _r14,
    "R14u": lambda: _relays_told(Failure.PROHIBITED),
    "R14r": lambda: _relays_told(Failure.REFUSED),
    "R14a": _r14a,
    "R15": lambda: _neutral_passes(Failure.RESET, elsewhere=True),
    "R16": lambda: _neutral_passes(Failure.RESET),
    "R17": lambda: _neutral_passes(Failure.RESET, early=True),
    "R18": lambda: _neutral_passes(Failure.TIMEOUT, elsewhere=True, clienthello_acked=False),
    "R19": lambda: _neutral_passes(Failure.TIMEOUT, clienthello_acked=False),
    "R20": lambda: _neutral_passes(Failure.TIMEOUT, clienthello_acked=True),
    "R21": _r21,
    "R22": _r22,
    "R25": lambda: _r25(W1, W2),
    "R25s": lambda: _r25(W1),
    "R27": _r27,
    "R30": lambda: border(None, Failure.TIMEOUT, Failure.TIMEOUT),
    "R31": lambda: border(Failure.TIMEOUT, Failure.TIMEOUT, Failure.TIMEOUT),
    "R34": _r34,
    "R36": lambda: _calls(lambda f: echo(f[0], random=0, stun=0), held_against=SILENT_STUN),
    "R36a": lambda: _calls(held_against=ALL_UDP),
    "R37": lambda: _calls(lambda f: echo(f[0], random=5, stun=0)),
    "R37a": _r37a,
    "R37b": lambda: _calls(held_against=SILENT_STUN),
    "R38": lambda: _calls(lambda f: echo(f[0], stun=5)),
    "R38a": lambda: _calls(lambda f: [dress(f[0], 0, cookie=False)]),
    "R39": _r39,
    "R39f": _r39f,
    "R39a": _r39a,
    "R42": _r42,
    "R43": _r43,
    "R49": _r49,
    "R49t": lambda: _said(Failure.RESET, otherwise, **FAR),
    "R49u": lambda: _said(Failure.TIMEOUT, otherwise),
    "R49w": lambda: _said(Failure.TIMEOUT, _random),
    "R49r": lambda: _said(Failure.RESET, _random, tls_there, **FAR),
    "R49n": lambda: _said(Failure.TIMEOUT, tls_there),
    "R49e": lambda: _said(Failure.RESET, tls_there),
    "D1": lambda: _denied(held_against=controls(ad_refused=True)),
}
