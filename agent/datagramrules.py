"""The rules on the first words of QUIC and DTLS. Read by ``rules.py``; ``R39``, which takes a twin,
is there."""

from __future__ import annotations

from typing import Final

from agent.case import Symptom as Y
from agent.rule import Rule
from agent.sighting import Sign as S

DATAGRAMS: Final = (
    Rule(
        "R39f",
        (Y.DTLS_SILENT,),
        (S.OTHER_DTLS_OK, S.UP),
        "udp_dtls_fingerprint",
        0.85,
        "the greeting of a call's encryption is swallowed as one program says it; the same relays"
        " answer it as another does",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
        without_outside=0.0,  # the relay answers, from here
    ),
    Rule(
        "R39a",
        (Y.DTLS_SILENT,),
        (S.STUN_HERE_OK, S.OTHER_DTLS_SILENT, S.UP),
        "udp_dtls_signature",
        0.80,
        "the greeting of a call's encryption is swallowed, whichever program's; the same relays"
        " answer other datagrams",
        firm=(S.RELAYS, S.FULL_EVIDENCE, S.FAILED_AGAIN),
        without_outside=0.0,
    ),
    Rule(
        "R42",
        (Y.QUIC_SILENT,),
        (S.QUIC_PING_OK, S.QUIC_NEUTRAL_SILENT, S.TLS_HERE_OK, S.UP),
        "quic_v1_block",
        0.90,
        "QUIC's version 1 is swallowed whatever the name; packets of another version pass to the"
        " same servers, and so does TCP",
        firm=(S.SEVERAL_PREFIXES, S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R43",
        (Y.QUIC_SILENT,),
        (S.QUIC_NEUTRAL_OK, S.UP),
        "quic_sni_drop",
        0.95,
        "QUIC is swallowed when it carries the name; the same servers answer a neutral one",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
)
