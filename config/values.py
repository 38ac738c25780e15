"""The kinds of value a configuration holds, each with its own way of being wrong.

Durations become float seconds and sizes int bytes. Addresses and prefixes stay text, in their
canonical spelling, so that two spellings of one address are one address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core.core_schema import ValidationInfo

from probes.wire.certificate import read_anchors
from probes.wire.error import WireError

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {
    unit: Decimal(seconds)
    for unit, seconds in (("ms", "0.001"), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400))
}
_LONGEST = Decimal(400 * 86400)
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,14}")  # IFNAMSIZ is 16 with the NUL

# ISO 3166-1 alpha-2, officially assigned, plus XK, which Kosovo uses.
_COUNTRIES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS
BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE
EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM
HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC
LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA
NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW
SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO
TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
"""


def parse_duration(value: object) -> float:
    """Seconds; a bare number has no unit and is refused, except 0."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0.0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a number with a unit (ms, s, m, h, d), for example 60s")
    seconds = Decimal(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST:
        raise ValueError("must be at most 400d")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The shortest spelling that ``parse_duration`` reads back as the same number."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{Decimal(repr(seconds)).normalize():f}s"


def parse_size(value: object) -> int:
    """Bytes."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a whole number with a unit (B, KiB, MiB, GiB), such as 200MiB")
    return int(match[1]) * _BYTES[match[2]]


def format_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def parse_address(value: str) -> str:
    """An IP literal that a packet can be sent to, in its canonical spelling."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address") from None
    if "%" in value or address.is_multicast or address.is_unspecified:
        raise ValueError("must be the address of one host")
    return str(address)


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def parse_name(value: str) -> str:
    """A DNS name without the final dot, in lower case."""
    name = value.lower()
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must be a host name (letters, digits, hyphens; IDN as xn--)")
    if labels[-1].isdigit():
        raise ValueError("is neither a host name nor a complete IP address")
    return name


def parse_host(value: str) -> str:
    return parse_address(value) if is_address(value) else parse_name(value)


def parse_prefix(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as exc:
        raise ValueError(f"must be a prefix such as 192.0.2.0/24: {exc}") from None


def split_address_port(value: str, default_port: int) -> tuple[str, int]:
    """``ip``, ``ip:port``, ``[ip6]`` or ``[ip6]:port``."""
    if is_address(value):
        return parse_address(value), default_port
    host, port = split_host_port(value)
    return parse_address(host), port


def split_listen(value: str) -> tuple[str, int]:
    """``host:port`` of our own socket; the host is an IP literal or ``localhost``."""
    host, port = split_host_port(value)
    if host != "localhost" and not is_address(host):
        raise ValueError("must be an IP address or localhost, with a port: 127.0.0.1:22550")
    return host, port


def is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def split_host_port(value: str) -> tuple[str, int]:
    """``host:port``, an IPv6 address in brackets; the host may be anything. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError("must be host:port, an IPv6 address in brackets")
    if int(port) > 65535:
        raise ValueError("must have a port up to 65535")
    return host[1:-1] if bracketed else host, int(port)


def parse_url(value: str) -> str:
    """An absolute http or https URL that names a host and carries no credentials."""
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError as exc:
        raise ValueError(f"must be a URL: {exc}") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be a URL that starts with http:// or https:// and names a host")
    if not value.isascii() or " " in value or "\\" in value:
        raise ValueError("must be plain ASCII without spaces (percent-encode the rest)")
    if "@" in url.netloc:
        raise ValueError("must not carry a user name or password")
    if "#" in value:
        raise ValueError("must not carry a fragment (#...)")
    if port == 0 or url.netloc.endswith(":"):
        raise ValueError("must have a port from 1 to 65535, or none")
    parse_host(url.hostname)
    return value


def url_host_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parse_host(parts.hostname or ""), parts.port or default


def _optional(parse: Callable[[str], Any]) -> AfterValidator:
    """The empty string means "not set"; anything else must parse, and stays as written."""

    def check(value: str) -> str:
        if value:
            parse(value)
        return value

    return AfterValidator(check)


def _source_address(value: str) -> None:
    if is_address(value):
        parse_address(value)
    elif not _INTERFACE.fullmatch(value):
        raise ValueError("must be an IP address or the name of an interface")


def parse_fingerprint(value: str) -> str:
    """A SHA-256 in hexadecimal, with or without colons, as 64 digits in lower case."""
    digits = value.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("must be a SHA-256 fingerprint of 64 hexadecimal digits")
    return digits


def parse_path(value: str) -> str:
    """The path of a URL, as it goes into a request."""
    if not re.fullmatch(r"/[!-~]{0,255}", value):
        raise ValueError("must be a path: a slash, and no spaces")
    return value


def parse_digits(value: str, least: int, most: int) -> str:
    """So many bytes, at least and at most, written as two hexadecimal digits each."""
    if not re.fullmatch(rf"(?:[0-9a-f]{{2}}){{{least},{most}}}", value):
        how_many = f"{2 * least}" if least == most else f"{2 * least} to {2 * most}"
        raise ValueError(f"must be {how_many} hexadecimal digits in lower case")
    return value


def parse_public_key(value: str) -> str:
    return parse_digits(value, 32, 32)


def parse_key_number(value: str) -> str:
    """A 64-bit fingerprint of a key, as the number is written."""
    return parse_digits(value, 8, 8)


def parse_authority(value: str) -> str:
    """Certificates in PEM, one after another."""
    try:
        read_anchors(value)
    except WireError as error:
        raise ValueError("must be certificates in PEM") from error
    return value


def parse_header(value: str) -> str:
    return parse_digits(value, 1, 32)


def _fingerprint(value: str) -> str:
    return parse_fingerprint(value) if value else value


def _country(value: str) -> None:
    if value not in _COUNTRIES.split():
        raise ValueError("must be an ISO 3166 country code of two capital letters")


def _listen(value: str) -> str:
    split_listen(value)
    return value


def _path(value: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder")
    return str(Path(folder, value)) if value and folder is not None else value


def _past(value: date, info: ValidationInfo) -> date:
    latest = (info.context or {}).get("latest")
    if latest is not None and value > latest:
        raise ValueError("lies in the future")
    return value


def _unique(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) < len(value):
        raise ValueError("must not name anything twice")
    return value


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Unlike ``min_length``, asked only once every entry is right: a wrong entry is no lack."""
    if not value:
        raise ValueError("must not be empty")
    return value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{_DURATION.pattern}$"}),
]
PositiveDuration = Annotated[Duration, Field(gt=0)]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]
Address = Annotated[str, AfterValidator(parse_address)]
Name = Annotated[str, AfterValidator(parse_name)]
Host = Annotated[str, AfterValidator(parse_host)]
Prefix = Annotated[str, AfterValidator(parse_prefix)]
Url = Annotated[str, AfterValidator(parse_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Asn = Annotated[int, Field(ge=0, le=2**32 - 1)]
Country = Annotated[str, _optional(_country)]
SourceAddress = Annotated[str, _optional(_source_address)]
OptionalAddress = Annotated[str, AfterValidator(lambda value: value and parse_address(value))]
OptionalUrl = Annotated[str, _optional(parse_url)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
OptionalName = Annotated[str, _optional(parse_name)]
OptionalResolver = Annotated[str, _optional(lambda value: split_address_port(value, 53))]
UrlPath = Annotated[str, AfterValidator(parse_path)]
PublicKey = Annotated[str, AfterValidator(parse_public_key)]
KeyNumber = Annotated[str, AfterValidator(parse_key_number)]
OptionalAuthority = Annotated[str, _optional(parse_authority)]
Header = Annotated[str, AfterValidator(parse_header)]
Listen = Annotated[str, AfterValidator(_listen)]
FilePath = Annotated[str, AfterValidator(_path)]
PastDate = Annotated[date, AfterValidator(_past)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
TargetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Unique = AfterValidator(_unique)
NotEmpty = AfterValidator(_not_empty)
AT_LEAST_ONE = Field(json_schema_extra={"minItems": 1})

OPTION_FORMS: Mapping[str, Any] = {
    "server_name": OptionalName,
    "fingerprint": Fingerprint,
    "query": Name,
    "type": Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{0,9}$")],
    "seconds": Annotated[float, Field(ge=0, le=300)],
    "max_bytes": Annotated[int, Field(ge=1, le=1_000_000)],
    "path": UrlPath,
    "origin": OptionalUrl,
    "header": Header,
    "root": PublicKey,
    "authority": OptionalAuthority,
    "dc": Annotated[int, Field(ge=-32768, le=32767)],
    "fingerprints": Annotated[tuple[KeyNumber, ...], NotEmpty, AT_LEAST_ONE, Unique],
    "expect_status": Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Unique],
}
"""Options of probes whose values have a form that their type does not tell."""
