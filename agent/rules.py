"""The rules, as data: what each needs to be seen, and what it then says, with how much confidence.

Numbers and bases are those of the project's notes on interference methods (1.5); design 6 changes
them. ``signs.py`` says when a sign holds, ``verdicts.py`` weighs what fired. What is gradual, or
takes several rounds to tell, is in ``gradual.py``.
"""

from __future__ import annotations

from typing import Final

from agent.callrules import CALLS
from agent.case import HELLO, NAMES, WORDS
from agent.case import Symptom as Y
from agent.datagramrules import DATAGRAMS
from agent.gradual import GRADUAL
from agent.rule import MECHANISMS, Rule
from agent.sighting import Sign as S
from agent.streamrules import STREAMS
from agent.wordrules import FIRST_WORDS

__all__ = ["MECHANISMS", "RULES", "Rule"]

_LINE = (
    Rule("M1", (Y.MASKED,), (S.FAULTY,), "probe_fault", 0.05, "this vantage is at fault itself"),
    Rule("M1t", (Y.MASKED,), (S.TUNNEL,), "tunnelled", 0.05, "this line leads through a tunnel"),
    Rule(
        "M2", (Y.MASKED,), (S.PORTAL,), "captive_portal", 0.01, "a portal stands before this line"
    ),
    Rule(
        "M3",
        (Y.MASKED,),
        (S.OFFLINE, S.OFFLINE_LOCALLY),
        "local_outage",
        0.05,
        "this host has no way out",
    ),
    Rule(
        "M3i",
        (Y.MASKED,),
        (S.OFFLINE,),
        "isp_outage",
        0.40,
        "nothing at all answers on this line",
    ),
    Rule(
        "R10",
        (Y.NO_NAMES,),
        # TCP shows the line; sites at home go by name too.
        (S.UDP_DNS_SILENT, S.TCP_DNS_OK, S.OTHER_UDP_OK),
        "dns_udp_block",
        0.85,
        "questions for names are not answered over UDP, while the same resolver answers over TCP",
    ),
    Rule(
        "R30",
        (Y.BORDER,),
        (S.DOMESTIC, S.FEW_FOREIGN),
        "allowlist_mode",
        0.70,
        "domestic sites and a few chosen foreign ones answer, everything else abroad does not",
    ),
    Rule(
        "R31",
        (Y.BORDER,),
        (S.DOMESTIC, S.NO_FOREIGN),
        "international_outage",
        0.20,
        "domestic sites answer and nothing abroad does",
    ),
)

_NAMES = (
    Rule(
        "R02",
        (Y.NAME_BOGON,),
        (S.TRUSTED_DIFFERS, S.UNFILTERED),
        "dns_tamper",
        0.95,
        "the resolver answers with an address that no public server can have",
        firm=(S.PUBLIC_RESOLVER,),
    ),
    Rule(
        "R03",
        (Y.NAME_LIE,),
        (S.ANSWER_FAILS, S.TRUSTED_PASSES, S.UNFILTERED),
        "dns_tamper",
        0.90,
        "the resolver sends to a stranger's server; a trusted resolver names the owner's",
        firm=(S.PUBLIC_RESOLVER,),
    ),
    Rule(
        "R04",
        NAMES,
        (S.TWO_ANSWERS,),
        "dns_injection",
        0.97,
        "two answers come to one question, a false one first and the true one after it",
    ),
    Rule(
        "R05",
        NAMES,
        (S.TRUSTED_UDP_WRONG, S.TRUSTED_TCP_RIGHT, S.TRUSTED_SECURED_RIGHT),
        "dns_interception",
        0.95,
        "a trusted resolver's answers over UDP are false, and true over TCP and encrypted",
    ),
    Rule(
        "R06",
        (Y.NAME_REFUSED,),
        (S.OTHER_NAMES_OK, S.TRUSTED_PASSES, S.UNFILTERED),
        "dns_tamper",
        0.90,
        "the resolver denies the name and answers others; a trusted resolver knows it",
        firm=(S.PUBLIC_RESOLVER,),
    ),
    Rule(
        "R06s",
        (Y.NAME_SILENT,),
        (S.INTERLEAVED_OK, S.TRUSTED_PASSES, S.UNFILTERED),
        "dns_tamper",
        0.90,
        "questions for the name are not answered, those for other names in between are",
        firm=(S.PUBLIC_RESOLVER, S.FULL_EVIDENCE),
    ),
    Rule(
        "R07",
        (Y.NAME_REFUSED,),
        (S.TRUSTED_DENIES,),
        "name_broken",
        0.10,
        "no resolver knows the name any more",
    ),
    Rule(
        "R09",
        (Y.NAME_LIE,),
        (S.UNVERIFIABLE,),
        "dns_suspect",
        0.50,
        "the resolver's answer is not a trusted one's, and neither could be tested",
    ),
    Rule(
        "D1",
        NAMES,
        (S.FILTERED,),
        "local_filter",
        0.05,
        "the resolver filters for its owner, advertising among the rest",
    ),
)

_ADDRESSES = (
    Rule(
        "R12",
        (Y.ADDRESS_SILENT,),
        (S.OTHER_PORTS_SILENT, S.NEIGHBOUR_OK, S.ANSWERED_BEFORE, S.UP),
        "ip_drop",
        0.90,
        "nothing at all comes back from these addresses, which answered before; others answer",
        firm=(S.SEVERAL_PREFIXES, S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R13",
        (Y.PORT_SILENT,),
        (S.OTHER_PORT_OK, S.ANSWERED_BEFORE, S.UP),
        "port_block",
        0.80,
        "one port of these servers is silent and others of the same servers answer",
        firm=(S.SEVERAL_PREFIXES, S.OTHER_ODD_PORT, S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R14",
        (Y.CONNECT_PROHIBITED,),
        (S.ICMP_FROM_PATH, S.NEIGHBOUR_OK, S.UP),
        "ip_reject",
        0.90,
        "a router on the way says that these addresses are forbidden",
        firm=(S.SEVERAL_PREFIXES, S.OTHER_ODD_PORT),
    ),
    Rule(
        "R14u",
        (Y.UDP_PROHIBITED,),
        (S.ICMP_FROM_PATH, S.STUN_OK, S.UP),
        "ip_reject",
        0.90,
        "a router on the way says that the call relays are forbidden; other call servers answer",
        firm=(S.SEVERAL_PREFIXES, S.OTHER_ODD_PORT),
    ),
    Rule(
        "R14r",
        (Y.UDP_REFUSED,),
        (S.ICMP_FROM_PATH, S.STUN_OK, S.UP),
        "ip_reject",
        0.65,
        "a router on the way says that nothing listens at the call relays; it may be their own",
        firm=(S.SEVERAL_PREFIXES, S.OTHER_ODD_PORT),
    ),
    Rule(
        "R14a",
        (Y.CONNECT_REFUSED,),
        (S.EARLY, S.SEVERAL_PREFIXES, S.NEIGHBOUR_OK, S.UP),
        "ip_reject",
        0.85,
        "connections are refused sooner than an answer from these servers can arrive",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "M9",
        (
            *(Y.ADDRESS_SILENT, Y.PORT_SILENT, Y.CONNECT_PROHIBITED),
            *(Y.UDP_SILENT, Y.UDP_PROHIBITED, Y.UDP_REFUSED, Y.DTLS_SILENT, Y.QUIC_SILENT),
            *WORDS,
        ),
        (S.DOWN_OUTSIDE,),
        "server_outage",
        0.25,
        "the servers do not answer on an open network either",
    ),
)

_TLS = (
    Rule(
        "R15",
        (Y.HELLO_RESET,),
        (S.NEUTRAL_OK, S.NAME_FAILS_ELSEWHERE),
        "tls_sni_reset",
        0.95,
        "connections are cut as soon as the name is read, at a stranger's server too; a neutral"
        " name passes",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R16",
        (Y.HELLO_RESET,),
        (S.NEUTRAL_OK, S.UP),
        "tls_sni_reset",
        0.85,
        "connections are cut as soon as the name is read; the same servers answer a neutral name",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R17",
        (Y.HELLO_RESET,),
        (S.NEUTRAL_OK, S.EARLY),
        "rst_injection",
        0.97,
        "connections are cut, sooner than the server can have done it, once the name is read; a"
        " neutral name passes",
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R18",
        (Y.HELLO_UNACKED,),
        (S.NEUTRAL_OK, S.NEUTRAL_AS_LONG, S.NAME_FAILS_ELSEWHERE),
        "tls_sni_drop",
        0.95,
        "whatever carries the name is swallowed, on the way to a stranger's server too; a neutral"
        " name passes",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R19",
        (Y.HELLO_UNACKED,),
        (S.NEUTRAL_OK, S.NEUTRAL_AS_LONG, S.UP),
        "tls_sni_drop",
        0.80,
        "whatever carries the name is swallowed; the same servers answer a neutral name",
        firm=(S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R20",
        (Y.HELLO_ACKED,),
        (S.NEUTRAL_OK, S.UP),
        "tls_sni_drop_delayed",
        0.85,
        "after the name was read nothing more comes; the same servers complete with a neutral name",
        firm=(S.FULL_EVIDENCE,),  # a few packets pass: a short answer may, the second time
    ),
    Rule(
        "R21",
        (Y.HELLO_ACKED,),
        (S.NEUTRAL_FAILS, S.OTHER_ADDRESS_OK),
        "server_outage_partial",
        0.30,
        "these servers take every greeting and answer none, others of the same name answer",
    ),
    Rule(
        "R22",
        (Y.HELLO_UNACKED,),
        (S.SHORT_HELLO_OK,),
        "mtu_blackhole",
        0.05,
        "large packets do not pass on this line, small ones do",
    ),
    Rule(
        "R25",
        (Y.STRANGE_CERTIFICATE,),
        (S.ONE_ISSUER, S.CLEAN_CONTROLS),
        "tls_mitm",
        0.80,
        "a stranger's certificate stands before several of these servers and before no other",
        firm=(S.CLEAN_SINCE,),
    ),
    Rule(
        "R25s",
        (Y.STRANGE_CERTIFICATE,),
        (S.STRANGE_ISSUER, S.CLEAN_CONTROLS),
        "tls_mitm_suspect",
        0.55,
        "a stranger's certificate stands before this server",
    ),
    Rule(
        "R27",
        (Y.WRONG_PAGE,),
        (S.PAGE_REDIRECTS, S.EARLY, S.NO_PORTAL),
        "http_blockpage",
        0.99,
        "a page of somebody else comes, sooner than the server's own can",
    ),
    Rule(
        "M9t",
        (*HELLO, Y.STRANGE_CERTIFICATE),
        (S.DOWN_OUTSIDE,),
        "server_outage",
        0.20,
        "the servers fail in TLS on an open network too",
    ),
    Rule(
        "R49",
        (Y.HELLO_RESET, Y.HELLO_UNACKED),
        (S.NEUTRAL_FAILS, S.RANDOM_SURVIVES, S.TLS_ELSEWHERE, S.SEVERAL_PREFIXES, S.UP),
        "protocol_signature",
        0.80,
        "TLS is cut off at these servers whatever the name, while random bytes pass",
        firm=(S.FULL_EVIDENCE,),
    ),
)

_UDP = (
    Rule(
        "R34",
        (Y.LOSSY,),
        (S.CONTROLS_LOSSY,),
        "congestion",
        0.05,
        "packets are lost to everyone on this line",
    ),
    Rule(
        "R36",
        (Y.UDP_SILENT,),
        (S.TWIN_SILENT, S.STUN_SILENT, S.TCP_OK),
        "udp_block_all",
        0.85,
        "no UDP passes at all, not to your own server either; TCP does",
    ),
    Rule(
        "R36a",
        (Y.UDP_SILENT,),
        (S.STUN_SILENT, S.UDP_DNS_SILENT, S.TCP_OK),
        "udp_block_all",
        0.85,
        "no UDP passes abroad at all; TCP does",
        firm=(S.FULL_EVIDENCE,),
    ),
    Rule(
        "R37",
        (Y.UDP_SILENT,),
        (S.TWIN_RANDOM_OK, S.TWIN_STUN_SILENT),
        "udp_stun_signature",
        0.95,
        "datagrams that look like a call's first words are swallowed on the way to your own"
        " server; random ones pass",
    ),
    Rule(
        "R37a",
        (Y.UDP_SILENT,),
        (S.COOKIE_SILENT, S.COOKIELESS_OK, S.STUN_OK, S.UP),
        "udp_stun_signature",
        0.80,
        "the relays' answer depends on a mark in the datagram: with it silence, without it an"
        " answer",
        without_outside=0.0,
        after_three=0.90,
        firm=(S.FAILED_AGAIN,),
    ),
    Rule(
        "R37b",
        (Y.UDP_SILENT,),
        (S.STUN_SILENT, S.UDP_DNS_OK, S.TCP_OK),
        "udp_stun_signature",
        0.70,
        "no call server anywhere answers while other UDP passes; a router of your own may do it",
    ),
    Rule(
        "R38",
        (Y.UDP_SILENT,),
        (S.TWIN_STUN_OK, S.NEIGHBOUR_OK, S.UP),
        "udp_relay_ip_block",
        0.90,
        "the relays are silent while the same datagrams pass to your own server",
        firm=(S.RELAYS, S.OTHER_ODD_PORT, S.FULL_EVIDENCE, S.FAILED_AGAIN),
    ),
    Rule(
        "R38a",
        (Y.UDP_SILENT,),
        (S.RELAYS, S.EVERY_DRESS_SILENT, S.STUN_OK, S.OWNER_TCP, S.UP),
        "udp_relay_block",
        0.80,
        "the call relays are silent in every form of asking, other call servers answer, and so do"
        " the messenger's own over TCP",
        firm=(S.OTHER_ODD_PORT, S.FULL_EVIDENCE, S.FAILED_AGAIN),
        without_outside=0.0,
    ),
    Rule(
        "R39",
        (Y.DTLS_SILENT,),
        (S.TWIN_RANDOM_OK, S.TWIN_STUN_OK, S.TWIN_DTLS_SILENT),
        "udp_dtls_signature",
        0.90,
        "the greeting of a call's encryption is swallowed; other datagrams pass",
    ),
)

RULES: Final = (
    *(*_LINE, *_NAMES, *_ADDRESSES, *_TLS, *FIRST_WORDS, *_UDP),
    *(*DATAGRAMS, *GRADUAL, *STREAMS, *CALLS),
)
