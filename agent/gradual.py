"""The rules for what is gradual, partial, or takes several attempts. Read by ``rules.py``."""

from __future__ import annotations

from typing import Final

from agent.case import HELLO, NAMES
from agent.case import Symptom as Y
from agent.rule import Rule
from agent.sighting import Sign as S

_TRANSFERS = (
    Rule(
        "R28",
        (Y.FLOW_FROZEN,),
        (S.CONTROL_WENT_ON, S.SEGMENTS_FREEZE),
        "flow_freeze_packets",
        0.95,
        "connections freeze after so many packets, however few bytes are in them; a control's go"
        " on",
        firm=(S.FROZE_ALIKE,),
    ),
    Rule(
        "R29",
        (Y.FLOW_FROZEN,),
        (S.CONTROL_WENT_ON, S.SEGMENTS_PASS),
        "flow_freeze_bytes",
        0.85,
        "connections freeze after so many bytes, in however many packets; a control's go on",
        firm=(S.FROZE_ALIKE, S.WHOLE_OUTSIDE),
    ),
    Rule(
        "R32",
        (Y.FLOW_SLOW,),
        (S.SLOWER, S.STEADY_PACE, S.BY_LOSS),
        "throttle_policed",
        0.85,
        "whatever exceeds a fixed pace is lost on the way; a control's transfer is far faster",
        firm=(S.SLOWER_AGAIN,),
    ),
    Rule(
        "R33",
        (Y.FLOW_SLOW,),
        (S.SLOWER, S.STEADY_PACE, S.BY_DELAY),
        "throttle_shaped",
        0.80,
        "transfers wait in a queue that lets a fixed pace through; a control's is far faster",
        firm=(S.SLOWER_AGAIN, S.FAST_OUTSIDE),
    ),
    Rule(
        "R34t",
        (Y.FLOW_SLOW, Y.FLOW_FROZEN),
        (S.CONTROL_AS_SLOW,),
        "congestion",
        0.05,
        "transfers are slow for everyone on this line",
    ),
    Rule(
        "R35",
        (Y.FLOW_SLOW, Y.FLOW_FROZEN),
        (S.SLOW_OUTSIDE,),
        "server_slow",
        0.10,
        "the server is as slow on an open network",
    ),
)

_HELLOS = (
    Rule(
        "R23",
        HELLO,
        (S.OTHER_HELLO_OK, S.TLS_ELSEWHERE, S.UP),
        "tls_fingerprint_block",
        0.90,
        "one program's way to greet is cut off; another's with the same name is answered",
        firm=(S.HELLOS_IN_TURN,),
    ),
    Rule(
        "R24",
        (Y.HELLO_UNACKED,),
        (S.BURST_FREEZES, S.RECOVERED),
        "tls_burst_policing",
        0.85,
        "several handshakes at once freeze, and for a while every one after them; one alone after"
        " a quiet time is answered",
        firm=(S.BURST_ELSEWHERE, S.FULL_EVIDENCE),
    ),
    *(
        Rule(
            rule,
            (symptom,),
            (S.AT_RANDOM, S.NEUTRAL_STEADY, S.BEYOND_CHANCE),
            f"{mechanism}_stochastic",
            0.80,
            f"some of the connections with the name {what}, at random; none with a neutral name",
        )
        for rule, symptom, mechanism, what in (
            ("R47", Y.HELLO_RESET, "tls_sni_reset", "are cut"),
            ("R47d", Y.HELLO_UNACKED, "tls_sni_drop", "are swallowed"),
            ("R47a", Y.HELLO_ACKED, "tls_sni_drop_delayed", "fall silent"),
        )
    ),
    *(
        Rule(
            rule,
            (symptom,),
            (S.NEUTRAL_OK, S.TLS_ELSEWHERE),
            variant,
            0.70,  # what fails of the messenger is another matter, and not explained by it
            f"the encrypted resolver's own name {what}; its address answers a neutral one",
        )
        for rule, symptom, variant, what in (
            ("R11", Y.RESOLVER_SILENT, "doh_sni_block", "is swallowed"),
            ("R11r", Y.RESOLVER_RESET, "doh_sni_reset", "is cut off"),
        )
    ),
)

_PARTS = (
    Rule(
        "R37c",
        (Y.UDP_SILENT,),
        (S.STUN_SILENT, S.PUBLIC_COOKIELESS_OK, S.TCP_OK),
        "udp_stun_signature",
        0.70,
        "no call server anywhere answers but without a mark in the datagram; a router of your own"
        " may do it",
    ),
    Rule(
        "R04n",
        NAMES,
        (S.ANSWERED_NOWHERE, S.UNFILTERED),
        "dns_interception",
        0.70,
        "questions for names are answered from where there is no resolver; a router of your own"
        " may do it",
    ),
    Rule(
        "R26",
        (Y.CONNECT_REFUSED,),
        (S.DOWN_OUTSIDE, S.IN_TIME),
        "server_refusal",
        0.20,
        "the servers refuse, and are not to be had on an open network either",
    ),
    Rule(
        "R51",
        (Y.PARTLY_SILENT,),
        (S.MANY_ADDRESSES, S.SEVERAL_PREFIXES, S.NEIGHBOUR_OK),
        "partial_block",
        0.70,
        "some of the addresses that answered before are silent, others of the same servers answer",
        firm=(S.FULL_EVIDENCE,),
    ),
    Rule(
        "R51f",
        (Y.PARTLY_SILENT,),
        (S.ONE_FAMILY, S.FAMILY_OK),
        "one_family_block",
        0.60,
        "these servers answer over one of IPv4 and IPv6 only, others over both",
        firm=(S.FULL_EVIDENCE,),
    ),
    Rule(
        "R52",
        (Y.LOSSY,),
        (S.CONTROLS_CLEAN, S.PATH_DRAGS),
        "path_degraded",
        0.30,
        "the way to this operator is bad, for whatever goes there; elsewhere it is fine",
    ),
    Rule(
        "R53",
        (Y.LOSSY,),
        (S.CONTROLS_CLEAN, S.FIRST_ANSWERED),
        "rate_limited",
        0.30,
        "the servers answer the first questions and not those soon after",
    ),
    Rule(
        "R54",
        (Y.IN_WINDOW,),
        (S.CUT_OFF_BEFORE,),
        "residual",
        0.25,
        "nothing is said of addresses at which a filter may remember a question just asked",
    ),
)

GRADUAL: Final = (*_TRANSFERS, *_HELLOS, *_PARTS)
