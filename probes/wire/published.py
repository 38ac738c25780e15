"""Lists of servers and prefixes that a messenger's owner publishes: text in, values out.

``proxy_for`` is the configuration of Telegram's MTProxy: statements that end with a semicolon or
their line, ``#`` begins a comment (github.com/TelegramMessenger/MTProxy; recorded copies in many
implementations). Whoever publishes a list is believed in nothing but what it lists: an address that
is not global, or a prefix as wide as a country, makes the whole list none.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.text import clean

MAX_BYTES = 256 * 1024
MAX_ENTRIES = 2000
WIDEST = {4: 8, 6: 16}
"""Bits that a prefix has at least: an owner of more is none."""
_SERVER = re.compile(r"(-?[0-9]{1,5}) (?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})")
_WORD = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """One server of a list, and for which of the owner's centres it is (negative for media)."""

    centre: int
    address: str
    port: int


def parse_servers(data: bytes) -> tuple[Server, ...]:
    """The servers of a ``proxy_for`` list, each once. Raises WireError."""
    found: dict[Server, None] = {}
    for line in _lines(data):
        for statement in line.split(";"):
            words = statement.split()
            if not words:
                continue
            if not _WORD.fullmatch(words[0]):
                raise WireError(Failure.BAD_REPLY, f"not a statement: {clean(words[0][:40])}")
            if words[0] == "proxy_for":
                found[_server(" ".join(words[1:]))] = None
        if len(found) > MAX_ENTRIES:
            raise WireError(Failure.OVERSIZED, f"more than {MAX_ENTRIES} servers")
    if not found:
        raise WireError(Failure.BAD_REPLY, "no server in the list")
    return tuple(found)


def _server(text: str) -> Server:
    match = _SERVER.fullmatch(text)
    if match is None:
        raise WireError(Failure.BAD_REPLY, f"not a server: {clean(text[:60])}")
    try:
        address = ipaddress.ip_address(match[2] or match[3])
    except ValueError as error:
        raise WireError(Failure.BAD_REPLY, f"not an address: {clean(text[:60])}") from error
    port = int(match[4])
    if not 0 < port < 65536 or not address.is_global or address.is_multicast:
        raise WireError(Failure.BAD_REPLY, f"no public server: {clean(text[:60])}")
    if (address.version == 6) is not bool(match[2]):
        raise WireError(Failure.BAD_REPLY, f"brackets are for IPv6: {clean(text[:60])}")
    return Server(int(match[1]), str(address), port)


def parse_prefixes(data: bytes) -> tuple[str, ...]:
    """The prefixes of a list with one on each line, each once. Raises WireError."""
    found: dict[str, None] = {}
    for line in _lines(data):
        if not (text := line.strip()):
            continue
        if "/" not in text or len(text) > 49:
            raise WireError(Failure.BAD_REPLY, f"not a prefix: {clean(text[:60])}")
        try:
            prefix = ipaddress.ip_network(text)
        except ValueError as error:
            raise WireError(Failure.BAD_REPLY, f"not a prefix: {clean(text[:60])}") from error
        if prefix.prefixlen < WIDEST[prefix.version] or not prefix.is_global:
            raise WireError(Failure.BAD_REPLY, f"nobody's prefix: {clean(text[:60])}")
        found[str(prefix)] = None
        if len(found) > MAX_ENTRIES:
            raise WireError(Failure.OVERSIZED, f"more than {MAX_ENTRIES} prefixes")
    if not found:
        raise WireError(Failure.BAD_REPLY, "no prefix in the list")
    return tuple(found)


def _lines(data: bytes) -> list[str]:
    """Without comments."""
    if len(data) > MAX_BYTES:
        raise WireError(Failure.OVERSIZED, f"more than {MAX_BYTES} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise WireError(Failure.BAD_REPLY, "not plain text") from error
    return [line.partition("#")[0] for line in text.split("\n")]
