"""What rules look for, and what it is to have seen it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.case import Case, Differs, Group, answered, of_role, operators, took
from agent.vantage import ControlResult
from probes.model import Failure, Observation, Role, Step, Target

ENOUGH = 5
"""Packets, or transmissions of one, that must be lost to count as silence."""
OF_FIVE = 4
"""Of five requests, the answers from which on they pass."""
SOONER = 0.8
"""Share of the smallest RTT below which an answer cannot have come from there."""


class Sign(StrEnum):
    """Something that holds, does not hold, or was not measured. The control that it rests on is in
    brackets, by its number in the notes."""

    DOMESTIC = "a domestic control answers [C1]"
    NO_FOREIGN = "no foreign control answers [C2]"
    FEW_FOREIGN = "hardly any foreign control answers [C2]"
    NEUTRAL_OK = "the same address answers a neutral name [C3]"
    NEUTRAL_FAILS = "the same address fails for a neutral name too [C3]"
    NEUTRAL_AS_LONG = "the neutral hello is no shorter [C11]"
    NAME_FAILS_ELSEWHERE = "the name fails in the same way at a control's address [C4]"
    OTHER_ADDRESS_OK = "another address answers the same name [C5]"
    OTHER_PORTS_SILENT = "further ports of the same address are silent [C6]"
    OTHER_PORT_OK = "another port of the same address answers [C6]"
    NEIGHBOUR_OK = "another server of the owner, or another owner's, answers over TCP [C7]"
    UP = "the server is up elsewhere, or has every sign of it [C14]"
    DOWN_OUTSIDE = "it does not answer on an open network either [C14]"
    ANSWERED_BEFORE = "the address has answered here before"
    SEVERAL_PREFIXES = "two addresses in two networks"
    EARLY = "the answer came sooner than any from there can"
    ICMP_FROM_PATH = "a router on the way forbids it"
    SHORT_HELLO_OK = "a shorter hello with the same name is answered [C11]"
    RANDOM_SURVIVES = "random bytes of the same length pass [C12]"
    OTHER_TRANSPORT_OK = "the same question in another transport is answered there [C16]"
    TLS_PASSES = "TLS with a neutral name passes at the same address and port [C3]"
    TLS_ELSEWHERE = "TLS works to other operators [C2]"
    ONE_ISSUER = "one stranger's certificate stands before several targets [C5]"
    STRANGE_ISSUER = "the certificate is of an unknown issuer"
    CLEAN_CONTROLS = "the controls' certificates are in order [C9]"
    CLEAN_SINCE = "a control's certificate was in order after the failure"
    TRUSTED_PASSES = "a trusted resolver's answer passes the certificate or owner test [C9]"
    TRUSTED_DIFFERS = "no trusted resolver gives that answer [C8]"
    TRUSTED_DENIES = "a trusted resolver knows no address either [C8]"
    TRUSTED_UDP_WRONG = "the trusted resolver's answer over UDP is wrong [C8]"
    TRUSTED_TCP_RIGHT = "over TCP it is right [C8]"
    TRUSTED_SECURED_RIGHT = "over TLS or HTTPS it is right [C8]"
    ANSWER_FAILS = "the answered address fails the certificate or owner test [C9]"
    UNVERIFIABLE = "the answer can be tested against nothing"
    OTHER_NAMES_OK = "the same resolver answers other names [C8]"
    INTERLEAVED_OK = "of five queries none, of a control's five at least four were answered [C8]"
    TWO_ANSWERS = "a wrong answer and the right one came to one query"
    UNFILTERED = "the resolver answers an advertising name [C8]"
    FILTERED = "the resolver filters for its owner [C8]"
    PUBLIC_RESOLVER = "the resolver is the provider's, or another one tells the same lie"
    OTHER_UDP_OK = "nothing says that other datagrams are lost as well"
    STUN_OK = "two STUN operators answer [C12]"
    STUN_SILENT = "two STUN operators are silent [C12]"
    UDP_DNS_OK = "DNS over UDP abroad works [C12]"
    UDP_DNS_SILENT = "DNS over UDP abroad is silent [C12]"
    TCP_DNS_OK = "the same resolver answers over TCP, TLS or HTTPS [C8]"
    TCP_OK = "TCP works [C2]"
    OWNER_TCP = "the owner's servers answer over TCP [C6]"
    RELAYS = "three relays in two networks"
    EVERY_DRESS_SILENT = "silent in every dress [C12]"
    COOKIE_SILENT = "STUN's cookie is not answered, again [C12]"
    COOKIELESS_OK = "the same question without the cookie is answered [C12]"
    PUBLIC_COOKIELESS_OK = "a public call server answers the question without the cookie [C12]"
    ANSWERED_NOWHERE = "an answer came from where there is no resolver [C8]"
    OTHER_ODD_PORT = "other odd ports answer, or the port is an ordinary one [C6]"
    FULL_EVIDENCE = "five packets were not answered while four fifths of the controls were"
    FAILED_AGAIN = "it failed once more afterwards, and does not come and go [C15]"
    CONTROLS_LOSSY = "the controls lose packets too [C2]"
    PAGE_REDIRECTS = "the page leads to another site"
    NO_PORTAL = "no portal stands before the line [C0]"
    TWIN_SILENT = "nothing returns from the twin [C12]"
    TWIN_RANDOM_OK = "random bytes return from the twin [C12]"
    TWIN_STUN_OK = "STUN returns from the twin [C12]"
    TWIN_STUN_SILENT = "STUN does not return from the twin [C12]"
    TWIN_DTLS_SILENT = "DTLS does not return from the twin [C12]"
    CONTROL_WENT_ON = "a control's transfer goes on where these stop [C2]"
    SEGMENTS_FREEZE = "the same few bytes pass in one segment and freeze in many [C11]"
    SEGMENTS_PASS = "a few bytes pass in many segments as in one [C11]"
    FROZE_ALIKE = "three of three transfers stopped at the same place"
    WHOLE_OUTSIDE = "an open network gets the whole of it"
    SLOWER = "a control's transfer is more than twice as fast [C2]"
    SLOWER_AGAIN = "five transfers in turn with a control's leave nothing to chance"
    STEADY_PACE = "the pace is constant"
    BY_LOSS = "packets are lost"
    BY_DELAY = "packets wait in a queue"
    CONTROL_AS_SLOW = "a control's transfer is no better [C2]"
    SLOW_OUTSIDE = "it is slow on an open network too [C14]"
    FAST_OUTSIDE = "it is not on an open network"
    OTHER_HELLO_OK = "another program's hello with the same name is answered [C16]"
    HELLOS_IN_TURN = "three of each in turn, and always so"
    BURST_FREEZES = "of several handshakes at once the later ones freeze [C17]"
    RECOVERED = "after a quiet time a single handshake is answered [C15]"
    BURST_ELSEWHERE = "it is so at another owner's server too"
    AT_RANDOM = "a fifth to four fifths of twenty attempts succeed"
    NEUTRAL_STEADY = "of twenty with a neutral name hardly one fails [C3]"
    BEYOND_CHANCE = "which is no chance [C3]"
    IN_TIME = "the refusal takes as long as one from there"
    MANY_ADDRESSES = "a fifth of the addresses that answered before"
    ONE_FAMILY = "all addresses of one family, none of the other [C13]"
    FAMILY_OK = "controls answer over that family [C13]"
    CONTROLS_CLEAN = "the controls lose nothing [C2]"
    PATH_DRAGS = "the owner's TCP connections lose packets or have become slow too [C7]"
    FIRST_ANSWERED = "the first requests are answered and the later ones are not"
    CUT_OFF_BEFORE = "a name of ours was cut off at the same address a moment before [C15]"
    WORSE_THAN_TWIN = "the same stream to the twin is better, in two of three runs [C12]"
    WORSE_THAN_DRESS = "another form of it to the same relay is better, in two of three runs [C12]"
    WORSE_THAN_STRANGER = "one to another operator's server is better, in two of three runs [C12]"
    SITE_CLEAN = "the owner's other servers are reached over TCP without such losses [C7]"
    NO_QUEUE = "and what is not lost comes as soon as ever: no queue is full"
    NOT_AS_BAD_OUTSIDE = "it is not known to be as bad on an open network"
    BAD_OUTSIDE = "streams to it are as bad on an open network [C14]"
    SITE_BAD = "the owner's other servers are reached no better [C7]"
    STREAM_BESIDE_BAD = "the stream beside it is no better [C12]"
    PACE_IS_BAD = "a slow stream to the same relay is good, or as many pass every second [C15]"
    PLACE_IS_BAD = "it is not for the number of packets a second"
    ONE_WAY = "the twin heard all and we nothing, or it nothing [C12]"
    CANARIES_LIVE = "single questions to the same server go on being answered [C12]"
    RANDOM_LIVES_ON = "so do they among random bytes of the same sizes [C12]"
    OTHER_FLOW_LIVES = "a flow to another server goes on meanwhile [C2]"
    TWIN_CALL_CUT = "the same call to the twin falls silent too [C12]"
    CUT_AGAIN = "three runs, and in all of them the call alone"
    BORNE = "the server bears it elsewhere, or has done so here"
    BORNE_ELSEWHERE = "an open network's flows go on [C14]"
    ALL_FLOWS_END = "random bytes fall silent as well [C12]"
    ENDS_ALIKE = "all of them after as many packets, or seconds"
    ENDS_AGAIN = "three runs, and all of them at the same place"
    OTHER_ENDS_ALIKE = "a flow to another server falls silent at the same place [C2]"
    SIZE_SPLIT = "on one side of a size all requests are answered, on the other none [C11]"
    SIZES_AGAIN = "three runs, and always the same sizes"
    SMALL_ONES_FAIL = "the short ones are not"
    TWIN_SIZES_PASS = "the twin answers all of these sizes [C12]"
    TWIN_SIZES_SPLIT = "the twin does not answer the same sizes [C12]"
    QUIC_PING_OK = "QUIC's question for versions is answered, with version 1 among them [C12]"
    QUIC_NEUTRAL_OK = "over QUIC a neutral name is answered at the same address [C3]"
    QUIC_NEUTRAL_SILENT = "over QUIC a neutral name is not answered there either [C3]"
    TLS_HERE_OK = "the same name is answered over TCP at the same address [C6]"
    STUN_HERE_OK = "STUN is answered at the same address and port [C12]"
    OTHER_DTLS_OK = "another program's greeting is answered there [C16]"
    OTHER_DTLS_SILENT = "another program's greeting is not answered there either [C16]"
    OFFLINE_LOCALLY = "this host has no way out [C0]"
    OFFLINE = "no control answers [C1]"
    PORTAL = "a portal answers instead of the internet [C0]"
    TUNNEL = "the line leads through a tunnel [C0]"
    FAULTY = "this vantage is at fault itself [C0]"

    @property
    def control(self) -> str:
        """The control's number, "" for what the failure itself shows."""
        return self.value.partition("[")[2].rstrip("]")

    @property
    def words(self) -> str:
        return self.value.partition(" [")[0]


@dataclass(frozen=True, slots=True)
class Sighting:
    """``evidence``: ids of the observations that say so. ``inferred``: concluded, not seen."""

    holds: bool
    evidence: tuple[str, ...] = ()
    inferred: bool = False


def holds_of(seen: Sequence[Observation], holds: Callable[[Observation], bool]) -> Sighting | None:
    """Does it hold of any? Nothing was measured where nothing was seen."""
    if not seen:
        return None
    found = [o for o in seen if holds(o)]
    return Sighting(bool(found), ids_of(found))


def of_results(results: Iterable[ControlResult]) -> Sighting | None:
    """Does any of these controls answer?"""
    asked = list(results)
    if not asked:
        return None
    working = [r for r in asked if answered(r)]
    return Sighting(bool(working), ids(working))


def of_targets(known: Mapping[Target, bool], group: Group) -> list[bool]:
    """What is known of the group's targets from outside; empty when nothing is of any."""
    return [known[target] for target in {o.target for o in group.observations} & known.keys()]


def marked(case: Case, group: Group, differs: Differs) -> list[Observation]:
    """The contrasts of this kind that were asked for one of the group's failures."""
    asked = case.contrasts(differs)
    return [c for c in asked if c.contrast is not None and c.contrast.of in group.members]


def spoke(o: Observation) -> bool:
    """Did the other side send anything at all?"""
    return o.works or bool(o.facts.get("server_spoke"))


def timed_out(o: Observation) -> bool:
    return o.failed is not None and o.failed.failure is Failure.TIMEOUT


def web(case: Case) -> list[ControlResult]:
    """Controls over TCP, at home and abroad."""
    both = of_role(case, Role.FOREIGN, Role.DOMESTIC)
    return [r for r in both if r.config.target.probe in ("https", "tls", "tcp")]


def stun(case: Case) -> list[ControlResult]:
    return [
        r for r in of_role(case, Role.STUN) if getattr(r.config.probe, "transport", "udp") == "udp"
    ]


def two_operators(results: Sequence[ControlResult]) -> Sighting | None:
    """Do two operators answer? None with fewer than two in the configuration."""
    if len(operators(results)) < 2:
        return None
    working = [r for r in results if answered(r)]
    return Sighting(len(operators(working)) >= 2, ids(working))


def over_tcp(seen: Iterable[Observation]) -> list[Observation]:
    return [o for o in seen if took(o, Step.CONNECT)]


def connects(o: Observation) -> bool:
    return any(s.step is Step.CONNECT and s.failure is None for s in o.steps)


def ids(results: Iterable[ControlResult]) -> tuple[str, ...]:
    return tuple(o.id for r in results for o in r.observations)


def ids_of(*seen: Iterable[Observation]) -> tuple[str, ...]:
    return tuple(o.id for part in seen for o in part)
