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
        (S.WORSE_THAN_TWIN, S.OWNER_TCP_CLEAN),
        "media_degraded_targeted",
        0.85,
        "a stream like a call's to the relays loses packets that the same stream to your own server"
        " does not, packet by packet at the same time; the owner's other connections lose none",
        firm=(S.CONTROL_STREAM_CLEAN,),
    ),
    Rule(
        "R45s",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_STRANGER,),
        "path_degraded",
        0.40,
        "a stream like a call's to the relays loses packets that one to another operator's server"
        " does not; whether the way or somebody on it is to blame, only a twin can tell",
    ),
    Rule(
        "R45p",
        (Y.HEARD_BADLY,),
        (S.WORSE_THAN_TWIN, S.PATH_DRAGS),
        "path_degraded",
        0.30,
        "the way to this operator is bad, for its other connections as for a call's",
    ),
    Rule(
        "R46",
        (Y.HEARD_BADLY,),
        (S.CONTROL_STREAM_BAD,),
        "media_degraded_general",
        0.10,
        "a stream like a call's to another server is no better: it is the line",
    ),
    Rule(
        "R53s",
        (Y.HEARD_BADLY,),
        (S.COMPANION_CLEAN,),
        "rate_limited",
        0.30,
        "a slow stream to the same relay loses nothing: it answers only so many packets a second",
    ),
    Rule(
        "R50",
        (Y.HEARD_BADLY,),
        (S.ONE_WAY,),
        "media_one_way",
        0.80,
        "packets pass one way only: your own server counted them",
    ),
)
