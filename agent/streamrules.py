"""The rules for what is heard badly: media streams. Read by ``rules.py``."""

from __future__ import annotations

from typing import Final

from agent.case import Symptom as Y
from agent.rule import Rule
from agent.sighting import Sign as S

STREAMS: Final = (
    Rule(
        "R45",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_TWIN, S.SITE_CLEAN, S.NO_QUEUE, S.PLACE_IS_BAD, S.NOT_AS_BAD_OUTSIDE),
        "media_degraded_targeted",
        0.85,
        "a stream like a call's to the relays loses packets that the same stream to your own server"
        " does not, packet by packet at the same time; what is not lost is not delayed, and the"
        " owner's other servers are reached well",
        firm=(S.SEVERAL_PREFIXES,),  # one relay alone may be ill
    ),
    Rule(
        "R45d",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_DRESS, S.PLACE_IS_BAD, S.NOT_AS_BAD_OUTSIDE),
        "media_degraded_targeted",
        0.70,  # it goes from another port, and so perhaps over another of several links
        "a stream like a call's loses packets that another form of it to the same relay does not;"
        " one bad link of several may do it",
    ),
    Rule(
        "R45p",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_TWIN, S.SITE_BAD),
        "path_degraded",
        0.20,
        "the way to this operator is bad, for its other servers as for a call's",
    ),
    Rule(
        "R45s",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_STRANGER, S.PLACE_IS_BAD),
        "path_degraded",
        0.40,
        "a stream like a call's to the relays loses packets that one to another operator's server"
        " does not; whether the way or somebody on it is to blame, only a twin can tell",
    ),
    Rule(
        "R45t",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_TWIN, S.PLACE_IS_BAD),
        "path_degraded",
        0.40,
        "a stream like a call's to the relays loses packets that the same stream to your own server"
        " does not; whether the way or somebody on it is to blame was not measured",
    ),
    Rule(
        "R45o",
        (Y.HEARD_BADLY,),
        (S.BAD_OUTSIDE,),
        "server_slow",
        0.10,
        "a stream like a call's to the relays is as bad on an open network",
    ),
    Rule(
        "R46",
        (Y.HEARD_BADLY,),
        (S.STREAM_BESIDE_BAD,),
        "media_degraded_general",
        0.10,
        "a stream like a call's to another server is no better: it is the line",
    ),
    Rule(
        "R53s",
        (Y.HEARD_BADLY,),
        (S.PACE_IS_BAD,),
        "rate_limited",
        0.30,
        "only so many packets a second are answered; a slow stream to the same relay loses nothing",
    ),
    Rule(
        "R50",
        (Y.HEARD_BADLY,),
        (S.ONE_WAY, S.PLACE_IS_BAD, S.CONTROLS_CLEAN),
        "media_one_way",
        0.80,
        "packets pass one way only: your own server counted them",
    ),
)
