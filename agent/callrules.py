"""The rules for calls that are cut off: by their shape, after a while, by size. Read by
``rules.py``."""

from __future__ import annotations

from typing import Final

from agent.case import Symptom as Y
from agent.rule import Rule
from agent.sighting import Sign as S

_SHAPE = (S.CANARIES_LIVE, S.RANDOM_LIVES_ON)

CALLS: Final = (
    Rule(
        "R55",
        (Y.CALL_CUT,),
        (*_SHAPE, S.OTHER_FLOW_LIVES),
        "call_flow_block",
        0.90,
        "what looks like a call to the relays falls silent, while single questions there go on"
        " being answered, alone and among random bytes of the same sizes, and so does another"
        " server",
        firm=(S.CUT_AGAIN, S.BORNE),
    ),
    Rule(
        "R55t",
        (Y.CALL_CUT,),
        (*_SHAPE, S.TWIN_CALL_CUT),
        "call_flow_block",
        0.90,
        "what looks like a call falls silent, to your own server as to the relays; single questions"
        " go on being answered, alone and among random bytes of the same sizes",
        firm=(S.CUT_AGAIN,),
    ),
    Rule(
        "R55s",
        (Y.CALL_CUT,),
        _SHAPE,
        "call_flow_block",
        0.70,
        "what looks like a call to the relays falls silent, and single questions there do not; no"
        " other server was asked at the time",
    ),
    Rule(
        "R40",
        (Y.CALL_CUT, Y.HEARD_BADLY),
        (S.ALL_FLOWS_END, S.ENDS_ALIKE, S.OTHER_FLOW_LIVES),
        "udp_after_n",
        0.90,
        "whatever flows to the relays falls silent after the same number of packets, or the same"
        " time; a flow to another server goes on. So may a server that limits flows: only an open"
        " network can tell",
        firm=(S.ENDS_AGAIN, S.BORNE_ELSEWHERE),
    ),
    Rule(
        "R40e",
        (Y.CALL_CUT, Y.HEARD_BADLY),
        (S.ALL_FLOWS_END, S.ENDS_ALIKE, S.OTHER_ENDS_ALIKE),
        "udp_after_n",
        0.70,
        "flows fall silent after the same number of packets, or the same time, whoever they go to;"
        " a router of your own may do it",
    ),
    Rule(
        "R41",
        (Y.SIZE_CUT,),
        (S.SIZE_SPLIT, S.TWIN_SIZES_PASS),
        "udp_size_rule",
        0.85,
        "datagrams of some sizes are answered by the relays and of others are not; to your own"
        " server all of them pass",
        firm=(S.SMALL_ONES_FAIL, S.SIZES_AGAIN),
    ),
    Rule(
        "R41t",
        (Y.SIZE_CUT,),
        (S.SIZE_SPLIT, S.TWIN_SIZES_SPLIT, S.TCP_OK),
        "udp_size_rule",
        0.85,
        "datagrams of some sizes pass and of others do not, to your own server as to the relays;"
        " TCP passes",
        firm=(S.SIZES_AGAIN,),
    ),
)
