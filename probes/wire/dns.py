"""DNS queries and answers (RFC 1035, RFC 6891) on top of dnspython."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.text import clean

PAYLOAD = 1232  # bytes we take over UDP: DNS flag day 2020, fits every path
MAX_MESSAGE = 8192  # bytes; an answer about addresses has a few hundred
MAX_ADDRESSES = 64
MAX_RECORDS = 8

_HEADER = 12
_MAX_CHAIN = 16  # CNAMEs; resolvers give up at 8 to 16 of them
_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)
# Who answers so may not have read the question, and some servers then leave it out.
_WITHOUT_QUESTION = (
    dns.rcode.FORMERR,
    dns.rcode.SERVFAIL,
    dns.rcode.NOTIMP,
    dns.rcode.REFUSED,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resolver said about one name and type.

    ``rcode`` is its mnemonic. ``addresses`` is filled for A and AAAA, ``records`` (cleaned texts)
    for other types. ``min_ttl`` is the smallest, in seconds, of the records used and of the CNAMEs
    that lead to them; None if there were none. ``truncated`` is the TC flag, ``authentic`` AD.
    """

    rcode: str
    addresses: tuple[str, ...]
    records: tuple[str, ...]
    min_ttl: int | None
    truncated: bool
    edns: bool
    authentic: bool


def encode_query(name: str, type: str, query_id: int) -> bytes:
    """Build a recursive query of class IN with EDNS; ``query_id`` is a random 16-bit number.

    Raises ValueError if ``name`` or ``type`` does not exist in the DNS.
    """
    return query_id.to_bytes(2, "big") + _after_the_id(name, type)


@lru_cache(maxsize=1024)  # the same questions are asked all day, only their ids differ
def _after_the_id(name: str, type: str) -> bytes:
    try:
        query = dns.message.make_query(name, type, use_edns=0, payload=PAYLOAD, id=0)
    except dns.exception.DNSException as exc:
        raise ValueError(f"cannot ask for {type} of {name}: {exc}") from exc
    return query.to_wire()[2:]


def read_answer(data: bytes, *, query_id: int, name: str, type: str) -> Answer:
    """Read the answer to a query and check that it is ours.

    Raises WireError: OVERSIZED; TRUNCATED if the bytes end before what they announce; WRONG_ID;
    BAD_REPLY if it is no response, cannot be parsed or is about another question.
    """
    if len(data) > MAX_MESSAGE:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    if len(data) < _HEADER:
        raise WireError(Failure.TRUNCATED, f"{len(data)} bytes are no DNS header")
    if int.from_bytes(data[:2], "big") != query_id:
        raise WireError(Failure.WRONG_ID, f"id is {int.from_bytes(data[:2], 'big')}")
    if data[2] & 0xF8 != 0x80:  # RFC 1035 section 4.1.1: QR set, OPCODE 0
        raise WireError(Failure.BAD_REPLY, "not a response to a query")
    lifetimes = _lifetimes(data)
    answer, used = _read(_without_lifetimes(data, lifetimes), name, type)
    ttls = [_ttl(data[at : at + 4]) for at in lifetimes]
    return replace(answer, min_ttl=min((ttls[number] for number in used), default=None))


@lru_cache(maxsize=512)
def _read(data: bytes, name: str, type: str) -> tuple[Answer, tuple[int, ...]]:
    """The answer in a message whose id and lifetimes are taken out, its ``min_ttl`` to be filled
    in; and the numbers of the records whose lifetimes count for that. The same records come all
    day, and dnspython takes most of what a question costs."""
    try:
        message = dns.message.from_wire(data)
    except dns.exception.DNSException as exc:
        raise WireError(Failure.BAD_REPLY, f"not DNS: {clean(repr(exc))}") from exc
    asked, rdtype = _question(name, type)
    _check_question(message, asked, rdtype)
    chain, found = _follow(message, asked, rdtype)
    is_address = rdtype in _ADDRESS_TYPES
    kept = list(found or ())[: MAX_ADDRESSES if is_address else MAX_RECORDS]
    texts = tuple(clean(rdata.to_text()) for rdata in kept)
    answer = Answer(
        rcode=dns.rcode.to_text(message.rcode()),
        addresses=texts if is_address else (),
        records=() if is_address else texts,
        min_ttl=None,
        truncated=bool(message.flags & dns.flags.TC),
        edns=message.edns >= 0,
        authentic=bool(message.flags & dns.flags.AD),
    )
    return answer, tuple(rrset.ttl for rrset in chain)


@lru_cache(maxsize=1024)
def _question(name: str, type: str) -> tuple[dns.name.Name, dns.rdatatype.RdataType]:
    return dns.name.from_text(name), dns.rdatatype.from_text(type)


def _lifetimes(data: bytes) -> list[int]:
    """Where the TTLs of the answer section stand, in the order of its records; reads no pointer.

    Raises WireError(TRUNCATED) if the message stops before the records that its header counts.
    """
    questions, answers, *others = (int.from_bytes(data[at : at + 2], "big") for at in (4, 6, 8, 10))
    found, offset = [], _HEADER
    for number in range(questions + answers + sum(others)):
        offset = _after_name(data, offset)
        if number < questions:
            offset += 4  # type and class
        else:
            if number < questions + answers:
                found.append(offset + 4)
            offset += 10 + int.from_bytes(data[offset + 8 : offset + 10], "big")
        if offset > len(data):
            raise WireError(Failure.TRUNCATED, f"ends after {len(data)} bytes, inside a record")
    return found


def _ttl(field: bytes) -> int:
    """Seconds; with the highest bit set it is 0 (RFC 2181 section 8)."""
    return 0 if field[0] & 0x80 else int.from_bytes(field, "big")


def _without_lifetimes(data: bytes, lifetimes: list[int]) -> bytes:
    """The message with an id of 0, and in the place of each TTL the number of its record. Of a set
    of records the first one's counts then: they are the same (RFC 2181 section 5.2)."""
    plain = bytearray(data)
    plain[:2] = b"\0\0"
    for number, at in enumerate(lifetimes):
        plain[at : at + 4] = number.to_bytes(4, "big")
    return bytes(plain)


def _after_name(data: bytes, offset: int) -> int:
    """Where the name at ``offset`` ends; beyond the end of ``data`` if it does not end in it."""
    while offset < len(data) and 0 < data[offset] < 64:
        offset += 1 + data[offset]
    last = data[offset] if offset < len(data) else 0
    if 64 <= last < 192:  # RFC 6891 section 5: the other kinds of label are gone
        raise WireError(Failure.BAD_REPLY, f"a label of type {last >> 6}")
    return offset + (2 if last else 1)  # a pointer, or the root


def _check_question(
    message: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> None:
    if not message.question and message.rcode() in _WITHOUT_QUESTION:
        return
    asked = [(rrset.name, rrset.rdclass, rrset.rdtype) for rrset in message.question]
    if asked != [(name, dns.rdataclass.IN, rdtype)]:
        about = ", ".join(rrset.to_text() for rrset in message.question[:2])
        raise WireError(Failure.BAD_REPLY, f"answers another question: {clean(about)}")


def _follow(
    message: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> tuple[list[dns.rrset.RRset], dns.rrset.RRset | None]:
    """The records used, CNAMEs first, and those of the asked type at the end of the chain."""
    used: list[dns.rrset.RRset] = []
    for _ in range(_MAX_CHAIN):
        found = message.get_rrset(message.answer, name, dns.rdataclass.IN, rdtype)
        if found is not None:
            return [*used, found], found
        alias = message.get_rrset(message.answer, name, dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None:
            break
        used.append(alias)
        name = alias[0].target
    return used, None
