"""What the rules read of one channel: its failures by symptom, and all there is to compare with.

Pure values. What is absent was not measured, and a rule that needs it is silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import ip_network

from agent import callflow, pace
from agent.diagnosis import Evidence, usable, works
from agent.streams import is_bad, is_stream
from agent.symptom import Symptom as Symptom
from agent.vantage import ControlResult, Judgement
from config.model import MessengerConfig
from probes.model import Failure, Observation, Role, Step, Target
from probes.net.address import is_bogon, parse


class Differs(StrEnum):
    """The one attribute in which a contrast differs from what it explains."""

    NAME = "name"
    """A neutral name at the same address and port."""
    ADDRESS = "address"
    """The target's name at a control's address."""
    PORT = "port"
    LENGTH = "length"
    """A shorter hello with the same name."""
    BYTES = "bytes"
    """Random bytes of the hello's length."""
    DRESS = "dress"
    """Another form of the same STUN question, from a source port of its own."""
    TIME = "time"
    """The very same, again: the other half of an interleaved pair."""
    AGAIN = "again"
    """The very same, after what it was held against was asked: did it only come and go?"""
    RESOLVER = "resolver"
    """A trusted resolver, by one of its transports."""
    NOWHERE = "nowhere"
    """The name at an address at which there is no resolver."""
    ANSWER = "answer"
    """The same check at the address that a trusted resolver named."""
    OVER_TCP = "over_tcp"
    """The same name at the same address and port over TLS, where it failed over QUIC."""
    STUN = "stun"
    """STUN to the address and port at which DTLS failed."""
    QUERY = "query"
    """A control's name at the same resolver."""
    SIBLING = "sibling"
    """Another server of the owner's, over TCP: is it still there after the failure?"""
    CONTROL = "control"
    """A control, over TLS: is its certificate still its own after the failure?"""
    TWIN = "twin"
    """The operator's own server: the same bytes there, or what those are held against there."""
    SERVER = "server"
    """A control's object, while the target's is fetched once more."""
    SEGMENTS = "segments"
    """The same few bytes in many segments, or in one."""
    HELLO = "hello"
    """The same name in another program's hello, no shorter."""
    TRANSPORT = "transport"
    """The same first words in another transport of their protocol."""
    PROTOCOL = "protocol"
    """TLS with a neutral name instead of the protocol's own first words."""
    BURST = "burst"  # several handshakes at once; what came of each says the contrast itself


@dataclass(frozen=True, slots=True)
class Known:
    """What a round knows beside its messenger's own observations.

    ``verified`` names targets that answered here within seven days or to a calibration within
    thirty; ``nearest`` is the smallest RTT by address, in seconds, and ``least`` those of them
    below which nothing can come from there; ``flapped``: a control changed between this round and
    the one before; ``private_resolver``: the host's own resolver is in a private network or on this
    host; ``outside``: does a target answer on an open network now (C14)? One that is not in it was
    not measured there. ``vouched``: addresses at which a target showed its own certificate lately.
    ``transfers``: the controls', of about the same time; ``past``: what earlier rounds saw of the
    messenger's failing channels, contrasts as well; ``spacing``: seconds from which on two attempts
    count as two; ``streams``: the last runs of each media target, the newest last; ``by_hand``: no
    rounds come before and after this one; ``peers``: messengers whose calls get through meanwhile.
    """

    contrasts: tuple[Observation, ...] = ()
    controls: tuple[ControlResult, ...] = ()
    verified: frozenset[str] = frozenset()
    nearest: Mapping[str, float] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    vouched: frozenset[tuple[Target, str]] = frozenset()
    flapped: bool = False
    private_resolver: bool = False
    outside: Mapping[Target, bool] = field(default_factory=dict)
    transfers: tuple[Observation, ...] = ()
    slow_outside: Mapping[Target, bool] = field(default_factory=dict)
    past: tuple[Observation, ...] = ()
    streams: Mapping[str, tuple[Observation, ...]] = field(default_factory=dict)
    spacing: float = 50.0
    by_hand: bool = False
    peers: tuple[str, ...] = ()
    by_difference: Mapping[str, Sequence[Observation]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        made: dict[str, list[Observation]] = {}
        for c in self.contrasts:
            if c.contrast is not None:
                made.setdefault(c.contrast.differs, []).append(c)
        object.__setattr__(self, "by_difference", made)


LINE = (Symptom.MASKED, Symptom.NO_NAMES, Symptom.BORDER)
HELLO = (Symptom.HELLO_RESET, Symptom.HELLO_UNACKED, Symptom.HELLO_ACKED)
WORDS = (Symptom.WORDS_RESET, Symptom.WORDS_UNACKED, Symptom.WORDS_ACKED)
NAMES = (Symptom.NAME_REFUSED, Symptom.NAME_SILENT, Symptom.NAME_BOGON, Symptom.NAME_LIE)
UDP = (
    Symptom.UDP_SILENT,
    Symptom.UDP_PROHIBITED,
    Symptom.UDP_REFUSED,
    Symptom.DTLS_SILENT,
    Symptom.QUIC_SILENT,
    Symptom.LOSSY,
)
WINDOWS = {
    Symptom.HELLO_RESET: 90.0,
    Symptom.HELLO_UNACKED: 60.0,
    Symptom.HELLO_ACKED: 450.0,
}
"""Seconds for which a filter may remember that it saw the name (2.2 in the project's notes)."""
CONNECT = (Symptom.ADDRESS_SILENT, Symptom.PORT_SILENT, Symptom.CONNECT_REFUSED)
_STRANGE = (Failure.UNKNOWN_ISSUER, Failure.WRONG_NAME, Failure.BAD_CERTIFICATE)
_HEARD = (None, Failure.REFUSED, Failure.RESET)
_AT_RESOLVE = {Failure.TIMEOUT: Symptom.NAME_SILENT, Failure.BAD_ANSWER: Symptom.NAME_BOGON}
_AT_CONNECT = {
    Failure.TIMEOUT: Symptom.ADDRESS_SILENT,
    Failure.REFUSED: Symptom.CONNECT_REFUSED,
    Failure.RESET: Symptom.CONNECT_REFUSED,
    Failure.PROHIBITED: Symptom.CONNECT_PROHIBITED,
}


def symptom_of(o: Observation) -> Symptom | None:
    """From one observation alone; None when no rule has a use for it."""
    failed = o.failed
    if failed is None or o.works:
        return None
    failure, step = failed.failure, failed.step
    if step is Step.RESOLVE:
        return _AT_RESOLVE.get(failure, Symptom.NAME_REFUSED) if failure else None
    if step is Step.CONNECT:
        if failure is Failure.REFUSED and o.facts.get("icmp_from_target") is False:
            return Symptom.CONNECT_PROHIBITED
        return _AT_CONNECT.get(failure) if failure else None
    if step is Step.TLS:
        if failure is Failure.RESET:
            return Symptom.HELLO_RESET
        if failure is Failure.TIMEOUT:
            acked = o.facts.get("clienthello_acked")
            return Symptom.HELLO_ACKED if acked else Symptom.HELLO_UNACKED
        return Symptom.STRANGE_CERTIFICATE if failure in _STRANGE else None
    return _of_exchange(o, failure)


def _of_exchange(o: Observation, failure: Failure | None) -> Symptom | None:
    if pace.is_transfer(o) and pace.froze(o):
        return Symptom.FLOW_FROZEN
    if o.target.probe in ("stun", "turn", "dtls", "reflector", "echo") and not took(
        o, Step.CONNECT
    ):
        if failure is Failure.LOSSY:
            return Symptom.LOSSY
        if failure is Failure.PROHIBITED:
            return Symptom.UDP_PROHIBITED
        if failure is Failure.REFUSED and o.facts.get("icmp_from_target") is False:
            return Symptom.UDP_REFUSED
        if failure is not Failure.TIMEOUT or "dtls_version" in o.facts:
            return None  # the latter: a handshake that began
        return Symptom.DTLS_SILENT if o.target.probe == "dtls" else Symptom.UDP_SILENT
    if says_words(o):
        if failure is Failure.RESET:
            return Symptom.WORDS_RESET
        if failure is not Failure.TIMEOUT or o.facts.get("server_spoke"):
            return None
        return Symptom.WORDS_ACKED if o.facts.get("hello_acked") else Symptom.WORDS_UNACKED
    if o.target.probe == "quic":
        silent = failure is Failure.TIMEOUT and o.facts.get("quic_heard") is False
        return Symptom.QUIC_SILENT if silent else None
    if took(o, Step.TLS):
        return Symptom.HELLO_ACKED if failure is Failure.TIMEOUT else None
    page = failure in (Failure.HTTP_STATUS, Failure.BAD_REPLY)
    return Symptom.WRONG_PAGE if page and "http_status" in o.facts else None


def says_words(o: Observation) -> bool:
    """Did it come to a messenger's own first words, in the clear?"""
    return "hello_bytes" in o.facts and not took(o, Step.TLS)


def took(o: Observation, step: Step) -> bool:
    """Did it come to this step, however that ended?"""
    return any(s.step is step for s in o.steps)


@dataclass(frozen=True, slots=True)
class Case:
    """One channel of a messenger in one round. ``seen`` has every target of the messenger, all
    channels, with the observations that masks leave."""

    messenger: MessengerConfig
    channel: str
    seen: tuple[tuple[Evidence, tuple[Observation, ...]], ...]
    judgement: Judgement
    known: Known
    by_target: Mapping[Target, Evidence]

    def of_channel(self) -> Iterator[tuple[Evidence, tuple[Observation, ...]]]:
        return ((e, seen) for e, seen in self.seen if e.config.target.channel == self.channel)

    def port_of(self, o: Observation) -> int:
        port = o.facts.get("port")
        if isinstance(port, int):
            return port  # a contrast says for itself
        found = self.by_target.get(o.target)
        return found.config.port if found else 0

    def host_of(self, o: Observation) -> str:
        found = self.by_target.get(o.target)
        return found.config.host if found else ""

    def contrasts(self, differs: Differs) -> Sequence[Observation]:
        return self.known.by_difference.get(differs, ())

    def owned(self, address: str) -> bool | None:
        """Is it in the prefixes that the messenger's file states? None when it states none."""
        if not self.messenger.owner_prefixes:
            return None
        return within(address, self.messenger.owner_prefixes)

    def is_owners(self, o: Observation) -> bool:
        """Was it asked at an address that is known to be its owner's, silent or not?"""
        if o.address is None:
            return False
        return bool(self.owned(o.address)) or (o.target, o.address) in self.known.vouched


def differs_in(o: Observation, differs: Differs) -> bool:
    """Is it a contrast of this kind?"""
    return o.contrast is not None and o.contrast.differs == differs


@lru_cache(maxsize=4096)
def within(address: str, prefixes: tuple[str, ...]) -> bool:
    ip = parse(address)
    nets = map(ip_network, prefixes)
    return ip is not None and any(ip.version == net.version and ip in net for net in nets)


def case_of(
    messenger: MessengerConfig,
    channel: str,
    evidence: Sequence[Evidence],
    judgement: Judgement,
    known: Known,
) -> Case:
    seen = tuple((e, usable(e, judgement)) for e in evidence)
    by_target = {e.config.target: e for e in evidence}
    return Case(messenger, channel, seen, judgement, known, by_target)


@dataclass(frozen=True)
class Group:
    """Failures of one kind, which one rule may explain."""

    symptom: Symptom
    observations: tuple[Observation, ...]

    @cached_property
    def addresses(self) -> frozenset[str]:
        return frozenset(o.address for o in self.observations if o.address)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(o.id for o in self.observations)

    @cached_property
    def members(self) -> frozenset[str]:
        return frozenset(self.ids)

    @cached_property
    def since(self) -> float:
        """When the first of them was asked."""
        return min(o.at for o in self.observations)


def groups(case: Case) -> list[Group]:
    """What failed of the channel's deciding targets, by symptom. What does not answer on an open
    network either is a group of its own: nobody is to be accused of that.

    An untrusted answer discards what was seen at its address (interference-methods 1.6 in the
    project's notes).
    """
    if case.judgement.masks:
        return [Group(Symptom.MASKED, ())]
    found: dict[tuple[Symptom, bool], list[Observation]] = {}
    answering = _answering_addresses(case)
    relays_work = any(
        o.works and not took(o, Step.CONNECT) and o.target.probe in ("stun", "turn")
        for _, seen in case.of_channel()
        for o in seen
    )
    cut, lies = cut_off(case), _lies(case)
    for e, seen in case.of_channel():
        for o in seen if e.proven else ():
            symptom = _symptom(case, e, seen, o, answering, relays_work, cut, lies)
            if symptom:
                down = case.known.outside.get(o.target) is False
                found.setdefault((symptom, down), []).append(o)
    made = [Group(symptom, tuple(seen)) for (symptom, _), seen in found.items()]
    made += _resolvers(case, {o.id for g in made for o in g.observations})
    if not case.judgement.names:
        made.append(Group(Symptom.NO_NAMES, ()))
    if not case.judgement.abroad:
        made.append(Group(Symptom.BORDER, ()))
    return made


def _symptom(
    case: Case,
    e: Evidence,
    seen: tuple[Observation, ...],
    o: Observation,
    answering: set[str],
    relays_work: bool,
    cut: CutOff,
    lies: frozenset[str | None],
) -> Symptom | None:
    """Of one observation among its like."""
    if pace.is_bad(o):  # though it may decide nothing else
        return Symptom.FLOW_FROZEN if pace.froze(o) else Symptom.FLOW_SLOW
    if is_stream(o):
        return Symptom.HEARD_BADLY if is_bad(o) and _has_sound(case, e, o) else None
    if callflow.is_call(o):
        return _of_call(case, o)
    symptom = symptom_of(o)
    if e.config.informative:
        return None
    if any(other.works for other in seen):
        silent = symptom in (Symptom.ADDRESS_SILENT, Symptom.UDP_SILENT)
        return Symptom.PARTLY_SILENT if silent and o.address in case.known.nearest else None
    if symptom and o.address in lies and _is_led(case, o):
        return Symptom.NAME_LIE
    if symptom in CONNECT and in_window(cut, o):
        return Symptom.IN_WINDOW
    if symptom is Symptom.ADDRESS_SILENT and o.address in answering:
        return Symptom.PORT_SILENT
    if symptom is Symptom.DTLS_SILENT and not relays_work:
        return Symptom.UDP_SILENT
    return symptom


def _has_sound(case: Case, e: Evidence, o: Observation) -> bool:
    """A relay that answers nothing at all has none, and others say why."""
    relay = case.by_target.get(e.config.relay) if e.config.relay else None
    return relay is None or bool(o.facts.get("answered")) or works(relay.observations) is True


def _of_call(case: Case, o: Observation) -> Symptom | None:
    """What a server does to everyone is its own affair."""
    if case.known.outside.get(o.target) is False:
        return None
    if callflow.died(o, callflow.CALL):
        return Symptom.CALL_CUT
    return Symptom.SIZE_CUT if callflow.is_split(o) else None


CutOff = Mapping[str | None, Sequence[Observation]]


def cut_off(case: Case) -> CutOff:
    """Hellos with names of ours that were cut off, by address, in this round and before it."""
    found: dict[str | None, list[Observation]] = {}
    for o in (*case.known.past, *(o for _, seen in case.seen for o in seen)):
        if symptom_of(o) in WINDOWS and not differs_in(o, Differs.PROTOCOL):
            found.setdefault(o.address, []).append(o)
    return found


def in_window(cut: CutOff, o: Observation) -> tuple[Observation, ...]:
    """Those at the same address, so lately that a filter may remember it."""
    return tuple(
        h
        for h in cut.get(o.address, ())
        if (symptom := symptom_of(h)) and 0 < o.at - h.at <= WINDOWS[symptom]
    )


def _resolvers(case: Case, failed: set[str]) -> list[Group]:
    """Trusted resolvers that were asked about what failed, and fail in TLS themselves."""
    found: dict[Symptom, list[Observation]] = {}
    for c in case.contrasts(Differs.RESOLVER):
        if c.contrast is not None and c.contrast.of in failed and symptom_of(c) in HELLO:
            reset = symptom_of(c) is Symptom.HELLO_RESET
            symptom = Symptom.RESOLVER_RESET if reset else Symptom.RESOLVER_SILENT
            found.setdefault(symptom, []).append(c)
    return [Group(symptom, tuple(seen)) for symptom, seen in found.items()]


def is_lie(case: Case, o: Observation) -> bool:
    """Did the target fail at an answered address that is not known to be the owner's, while a
    trusted resolver names others?"""
    return _is_led(case, o) and bool(trusted_answers(case, o)) and may_be_strangers(case, o)


def may_be_strangers(case: Case, o: Observation) -> bool:
    """Was it led by a resolver to where neither the owner's file, nor a certificate seen there, nor
    a trusted resolver says that the owner is?"""
    return _is_led(case, o) and all(
        is_elsewhere(o, addresses) for _, addresses in trusted_answers(case, o)
    )


def _is_led(case: Case, o: Observation) -> bool:
    by_name = bool(o.steps) and o.steps[0].step is Step.RESOLVE and o.steps[0].failure is None
    return by_name and o.address is not None and not case.is_owners(o)


def _lies(case: Case) -> frozenset[str | None]:
    """Where one name was led by a lie, no other belongs: trusted resolvers hear of a few."""
    everything = (o for _, seen in case.seen for o in seen)
    return frozenset(o.address for o in everything if symptom_of(o) and is_lie(case, o))


def is_elsewhere(o: Observation, answers: tuple[str, ...]) -> bool:
    """Is none of these its address? One of DNS64 is the IPv4 address in it."""
    return parse(o.address or "") not in map(parse, answers)


def trusted_answers(
    case: Case, o: Observation, transports: tuple[str, ...] = ("tcp", "tls", "https")
) -> list[tuple[Observation, tuple[str, ...]]]:
    """What trusted resolvers said about the name that ``o`` asked for, where they said anything."""
    host = case.host_of(o)
    return [
        (c, answers)
        for c in case.contrasts(Differs.RESOLVER)
        if c.facts.get("query") == host
        and c.facts.get("transport") in transports
        and isinstance(answers := c.facts.get("answers"), tuple)
        and answers
        and not all(map(is_bogon, answers))
    ]


def _answering_addresses(case: Case) -> set[str]:
    """Addresses whose host was heard in this round over TCP, at whatever port: a refusal is heard
    too."""
    heard = set()
    everything = [o for _, seen in case.seen for o in seen]
    everything += case.contrasts(Differs.PORT)
    for o in everything:
        for s in o.steps:
            if s.step is Step.CONNECT and s.failure in _HEARD and o.address:
                heard.add(o.address)
    return heard


def of_role(case: Case, *roles: Role) -> list[ControlResult]:
    return [r for r in case.known.controls if r.config.role in roles]


def answered(result: ControlResult) -> bool:
    return any(o.works for o in result.observations)


def operators(results: Sequence[ControlResult]) -> set[str]:
    return {r.config.owner or r.config.target.name for r in results}
