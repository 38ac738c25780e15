"""The rules for a messenger's own first words, as data (words.py says when their signs hold)."""

from __future__ import annotations

from typing import Final

from agent.rule import Rule
from agent.sighting import Sign as S
from agent.symptom import Symptom as Y

FIRST_WORDS: Final = (
    Rule(
        "R49t",
        (Y.WORDS_RESET,),
        (S.OTHER_TRANSPORT_OK, S.UP),
        "protocol_signature",
        0.90,
        "connections are cut when the messenger's first words go over them; the same in another"
        " form is answered there",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R49u",
        (Y.WORDS_UNACKED, Y.WORDS_ACKED),
        (S.OTHER_TRANSPORT_OK, S.UP),
        "protocol_signature",
        0.90,
        "the messenger's first words get no answer; the same words in another form do, there",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R49w",
        (Y.WORDS_UNACKED,),
        (S.RANDOM_SURVIVES, S.UP),
        "protocol_signature",
        0.85,
        "the messenger's first words are swallowed, and random bytes pass to the same servers",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R49r",
        (Y.WORDS_RESET,),
        (S.RANDOM_SURVIVES, S.TLS_PASSES, S.SEVERAL_PREFIXES, S.UP),
        "protocol_signature",
        0.70,  # a front whose servers are down may do so too
        "connections are cut when the messenger's first words go over them; random bytes and TLS"
        " pass to the same servers",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R49e",
        (Y.WORDS_RESET,),
        (S.TLS_PASSES, S.EARLY),
        "protocol_signature",
        0.90,
        "connections are cut, sooner than the server can have done it, when the messenger's first"
        " words go over them; TLS passes",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R49n",
        (Y.WORDS_UNACKED,),
        (S.TLS_PASSES, S.UP),
        "protocol_signature",
        0.80,
        "the messenger's first words are swallowed, and TLS passes to the same servers and ports",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
)
