"""``web.config_file``: TLS and authentication of our endpoints, in exporter-toolkit's form.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core.core_schema import ValidationInfo

from config.provenance import Strict

_GO_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# A salt's last character stands for two bits: other ones are an error for bcrypt.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")

CIPHERS: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
"""Go's names to OpenSSL's; those of TLS 1.3 are always on, in both."""


def _go_duration(value: object) -> object:
    if isinstance(value, str) and _GO_DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if value == 0 and not isinstance(value, bool):
        return 0.0
    raise ValueError("must be a time such as 1s or 500ms")


def _hash(value: str) -> str:
    if not _BCRYPT.fullmatch(value):
        raise ValueError("must be a bcrypt hash of cost 4 to 15 ($2y$10$...), not a password")
    return value


def _beside_file(value: str, info: ValidationInfo) -> str:
    """Relative to the folder of the web file; it must be there."""
    if not value:
        return value
    path = Path((info.context or {}).get("folder", "."), value)
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return str(path)


_File = Annotated[str, AfterValidator(_beside_file)]
_Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
# The other two ask for a certificate and look at none; Python's ssl has no such mode.
_ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
_Header = Literal[
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
]


class TlsServer(Strict):
    cert_file: _File = ""
    key_file: _File = ""
    cert: str = ""
    key: str = ""
    client_auth_type: _ClientAuth = "NoClientCert"
    client_ca_file: _File = ""
    client_ca: str = ""
    client_allowed_sans: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    min_version: _Version = "TLS12"
    max_version: _Version = "TLS13"
    cipher_suites: tuple[Literal[tuple(CIPHERS)], ...] = ()  # type: ignore[valid-type] # a closed list, made above
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.cert_file) == bool(self.cert) or bool(self.key_file) == bool(self.key):
            raise ValueError("needs one of cert_file and cert, and one of key_file and key")
        verified = self.client_auth_type != "NoClientCert"
        if verified != bool(self.client_ca_file or self.client_ca):
            raise ValueError("client_auth_type that verifies and a client_ca_file go together")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        if len(self.curve_preferences) > 1:
            raise ValueError("curve_preferences: one curve, or none to leave it to OpenSSL")
        return self


class HttpServer(Strict):
    http2: bool = True
    headers: dict[_Header, Annotated[str, Field(max_length=1024, pattern=r"^[ -~]*$")]] = {}  # noqa: RUF012 - pydantic copies it


class RateLimit(Strict):
    """``burst`` requests at once, and one more every ``interval`` seconds."""

    interval: Annotated[float, BeforeValidator(_go_duration), Field(ge=0)] = 0.0
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 20


class WebFile(Strict):
    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = Field(default_factory=HttpServer)
    basic_auth_users: dict[
        Annotated[str, Field(pattern=r"^[^:\x00-\x1f]{1,128}$")],
        Annotated[str, AfterValidator(_hash)],
    ] = Field({}, max_length=64)
    rate_limit: RateLimit = Field(default_factory=RateLimit)

    @property
    def wants_certificates(self) -> bool:
        tls = self.tls_server_config
        return tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert"
