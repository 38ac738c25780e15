"""The first flight of DTLS 1.2 (RFC 6347): our hello, and the server's first words."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from probes.model import Failure
from probes.wire.error import WireError

MAX_RECORD = 2**14 + 2048  # bytes of content: RFC 6347 section 4.1, a DTLSCiphertext
MAX_DATAGRAM = 13 + MAX_RECORD

_RECORD_HEADER = 13
_HANDSHAKE_HEADER = 12
_ALERT, _HANDSHAKE = 21, 22  # RFC 5246 section 6.2.1
_CLIENT_HELLO, _SERVER_HELLO, _HELLO_VERIFY_REQUEST = 1, 2, 3  # RFC 6347 section 4.3.2
_VERSIONS = {0xFEFF: "DTLSv1", 0xFEFD: "DTLSv1.2"}  # written as OpenSSL writes them
_WRITTEN = {version.to_bytes(2, "big") for version in _VERSIONS}
_FIRST_BYTES = range(20, 64)  # RFC 9443 section 3

# RFC 8446 section 6, RFC 5246 section 7.2 and RFC 7301 section 3.2
_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}


class Dress(StrEnum):
    """Whose hello ours looks like: some are filtered by their fingerprint alone."""

    OPENSSL = "openssl"
    BROWSER = "browser"
    PION = "pion"
    """The Go library of many programs; its hello was filtered in Russia in 2026."""


# Cipher suites and extensions, in order. OpenSSL's are what ``openssl s_client -dtls1_2`` 3.0.22
# sends with its defaults and use_srtp. The browser's are BoringSSL's as libwebrtc configures it
# for DTLS 1.2, in the order of BoringSSL's own table of extensions. Pion's are those of pion/dtls 3
# as pion/webrtc 4 configures it (both read 2026-11-28).
_CIPHERS = {
    Dress.OPENSSL: bytes.fromhex(
        "c02c c030 009f cca9 cca8 ccaa c02b c02f 009e c024 c028 006b c023 c027 0067 c00a c014 0039"
        "c009 c013 0033 009d 009c 003d 003c 0035 002f 00ff"
    ),
    Dress.BROWSER: bytes.fromhex("c02b c02f cca9 cca8 c009 c013 c00a c014 009c 002f 0035"),
    Dress.PION: bytes.fromhex("c02b c02f cca9 cca8 c00a c014 c02c c030"),
}
_EXTENSIONS = {
    Dress.OPENSSL: bytes.fromhex(
        "000b 0004 03000102"  # ec_point_formats
        "000a 000c 000a 001d 0017 001e 0019 0018"  # supported_groups: x25519 p256 x448 p521 p384
        "0023 0000"  # session_ticket
        "000e 0009 0006 0001 0007 0008 00"  # use_srtp: AES-CM with SHA-1 80, AES-GCM 128 and 256
        "0016 0000"  # encrypt_then_mac
        "0017 0000"  # extended_master_secret
        "000d 002a 0028 0403 0503 0603 0807 0808 0809 080a 080b 0804 0805 0806 0401 0501 0601"
        "0303 0301 0302 0402 0502 0602"  # signature_algorithms
    ),
    Dress.BROWSER: bytes.fromhex(
        "0017 0000"  # extended_master_secret
        "ff01 0001 00"  # renegotiation_info
        "000a 0008 0006 001d 0017 0018"  # supported_groups: x25519 p256 p384
        "000b 0002 0100"  # ec_point_formats
        "0023 0000"  # session_ticket
        "000d 0014 0012 0403 0804 0401 0503 0805 0501 0806 0601 0201"  # signature_algorithms
        "000e 0009 0006 0001 0007 0008 00"  # use_srtp
    ),
    Dress.PION: bytes.fromhex(
        # signature_algorithms
        "000d 0016 0014 0403 0503 0603 0807 0804 0805 0806 0401 0501 0601"
        "ff01 0001 00"  # renegotiation_info
        "000a 0008 0006 001d 0017 0018"  # supported_groups: x25519 p256 p384
        "000b 0002 0100"  # ec_point_formats
        "000e 0009 0006 0008 0007 0001 00"  # use_srtp
        "0017 0000"  # extended_master_secret
    ),
}
_FIRST_RECORD = {Dress.OPENSSL: 0xFEFF, Dress.BROWSER: 0xFEFF, Dress.PION: 0xFEFD}
"""A first hello's record says DTLS 1.0 with most clients."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's first words; ``size`` is the whole datagram in bytes.

    ``version`` is that of the hello, or of the record that carries an alert. ``alert`` is its name
    in the RFC and "" otherwise; ``cookie`` is that of a HelloVerifyRequest.
    """

    kind: Literal["hello_verify_request", "server_hello", "alert"]
    version: str
    alert: str
    cookie: bytes
    size: int


def client_hello(dress: Dress, random: bytes) -> bytes:
    """Build a ClientHello without cookie, session and name; ``random`` has 32 bytes.

    It is one datagram of one record: 218 bytes as ``openssl``, 157 as ``browser``, 149 as ``pion``.
    """
    if len(random) != 32:
        raise ValueError(f"random has {len(random)} bytes, not 32")
    ciphers, extensions = _CIPHERS[dress], _EXTENSIONS[dress]
    hello = (
        struct.pack("!H32sBBH", 0xFEFD, random, 0, 0, len(ciphers))
        + ciphers
        + struct.pack("!BBH", 1, 0, len(extensions))  # one compression method: none
        + extensions
    )
    length = len(hello).to_bytes(3, "big")
    # Message 0, whole: the fragment begins at 0 and is as long as the message.
    handshake = bytes([_CLIENT_HELLO]) + length + bytes(2) + bytes(3) + length + hello
    # Epoch and sequence number are 0.
    return struct.pack("!BHQH", _HANDSHAKE, _FIRST_RECORD[dress], 0, len(handshake)) + handshake


def split(flight: bytes) -> list[bytes]:
    """A flight as a library writes it, into its records, of which each may be a datagram."""
    return [record for _, record in _cut(flight)]


def check(data: bytes) -> str:
    """Look at a datagram of a handshake under way, encrypted or not; returns the name of a fatal
    alert in the clear, "" without one.

    Raises WireError: OVERSIZED; TRUNCATED if a record ends early; BAD_REPLY if it is not DTLS, or a
    hello like our own.
    """
    if len(data) > MAX_DATAGRAM:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    for kind, record in _cut(data):
        epoch, content = record[3:5], record[_RECORD_HEADER:]
        if kind == _HANDSHAKE and epoch == bytes(2) and content[:1] == bytes([_CLIENT_HELLO]):
            raise WireError(Failure.BAD_REPLY, "a hello like our own came back")
        if kind == _ALERT and epoch == bytes(2) and content[:1] == b"\2":
            return _alert(content)
    return ""


def _cut(data: bytes) -> list[tuple[int, bytes]]:
    """Type and whole of each record, whatever its epoch (RFC 6347 section 4.1); at least one."""
    if data and data[0] not in _FIRST_BYTES:
        raise WireError(Failure.BAD_REPLY, f"not DTLS: begins with {data[:4].hex()}")
    found: list[tuple[int, bytes]] = []
    start = 0
    while start < len(data) or not found:
        if start + _RECORD_HEADER > len(data):
            raise WireError(Failure.TRUNCATED, "the datagram ends inside a record's header")
        if data[start + 1 : start + 3] not in _WRITTEN:
            raise WireError(Failure.BAD_REPLY, f"not DTLS: {data[start : start + 4].hex()}")
        length = int.from_bytes(data[start + 11 : start + 13], "big")
        if length > MAX_RECORD:
            raise WireError(Failure.OVERSIZED, f"a record announces {length} bytes")
        end = start + _RECORD_HEADER + length
        if end > len(data):
            raise WireError(Failure.TRUNCATED, f"{len(data) - start} of {end - start} bytes")
        found.append((data[start], data[start:end]))
        start = end
    return found


def read_answer(data: bytes) -> Answer:
    """Read the first datagram that follows a ClientHello; its first record decides.

    Raises WireError: OVERSIZED; TRUNCATED if a record or message ends early; BAD_REPLY if it is
    not DTLS or not what follows a ClientHello.
    """
    if len(data) > MAX_DATAGRAM:
        raise WireError(Failure.OVERSIZED, f"{len(data)} bytes")
    content_type, version, content = _records(data)[0]
    if content_type == _ALERT:
        return Answer("alert", version, _alert(content), b"", len(data))
    if content_type != _HANDSHAKE:
        raise WireError(Failure.BAD_REPLY, f"record type {content_type} follows no ClientHello")
    kind, body, whole = _fragment(content)
    if kind == _HELLO_VERIFY_REQUEST and whole:
        return Answer("hello_verify_request", _version(body), "", _cookie(body), len(data))
    if kind == _SERVER_HELLO and len(body) >= 34:  # its version and random
        return Answer("server_hello", _version(body), "", b"", len(data))
    raise WireError(Failure.BAD_REPLY, f"handshake type {kind} with {len(body)} bytes is no answer")


def _records(data: bytes) -> list[tuple[int, str, bytes]]:
    """Type, version and content of each record (RFC 6347 section 4.1); at least one."""
    if data and data[0] not in _FIRST_BYTES:
        raise WireError(Failure.BAD_REPLY, f"not DTLS: begins with {data[:4].hex()}")
    found: list[tuple[int, str, bytes]] = []
    offset = 0
    while offset < len(data) or not found:
        start = offset + _RECORD_HEADER
        if start > len(data):
            raise WireError(Failure.TRUNCATED, "the datagram ends inside a record's header")
        content_type, version, epoch, _, length = struct.unpack_from("!BHH6sH", data, offset)
        if version not in _VERSIONS or epoch:
            raise WireError(Failure.BAD_REPLY, f"not DTLS: version {version:04x}, epoch {epoch}")
        if length > MAX_RECORD:
            raise WireError(Failure.OVERSIZED, f"a record announces {length} bytes")
        offset = start + length
        if offset > len(data):
            raise WireError(Failure.TRUNCATED, f"{len(data) - start} of {length} bytes of a record")
        found.append((content_type, _VERSIONS[version], data[start:offset]))
    return found


def _alert(content: bytes) -> str:
    """The alert's name in the RFC, "alert_<number>" for a number without one."""
    if len(content) != 2 or content[0] not in (1, 2):  # level: warning or fatal
        raise WireError(Failure.BAD_REPLY, f"malformed alert {content[:4].hex()}")
    return _ALERTS.get(content[1], f"alert_{content[1]}")


def _fragment(content: bytes) -> tuple[int, bytes, bool]:
    """Type and body of a handshake message's first fragment, and whether it is the whole message.

    RFC 6347 section 4.2.2. The server's first message has number 0; its hello, should it come
    after a HelloVerifyRequest, 1.
    """
    if len(content) < _HANDSHAKE_HEADER:
        raise WireError(Failure.TRUNCATED, "the record ends inside a handshake header")
    kind, number = content[0], int.from_bytes(content[4:6], "big")
    total, offset, length = (int.from_bytes(content[at : at + 3], "big") for at in (1, 6, 9))
    if number > 1 or offset or length > total:
        raise WireError(Failure.BAD_REPLY, f"message {number} at {offset} is no first fragment")
    if _HANDSHAKE_HEADER + length > len(content):
        raise WireError(Failure.TRUNCATED, f"the record ends before the fragment's {length} bytes")
    return kind, content[_HANDSHAKE_HEADER : _HANDSHAKE_HEADER + length], length == total


def _version(body: bytes) -> str:
    """The server_version that both hellos begin with."""
    version = int.from_bytes(body[:2], "big")
    if version not in _VERSIONS:
        raise WireError(Failure.BAD_REPLY, f"the server speaks version {version:04x}")
    return _VERSIONS[version]


def _cookie(body: bytes) -> bytes:
    """RFC 6347 section 4.2.1: after the version one length byte, then that many bytes."""
    if len(body) < 3 or len(body) != 3 + body[2]:
        raise WireError(Failure.BAD_REPLY, "the cookie does not fill the HelloVerifyRequest")
    return body[3:]
