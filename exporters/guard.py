"""Who may ask our endpoints: TLS, client certificates, passwords, and how often."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import ssl
import time
from dataclasses import dataclass, field

import bcrypt
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

OPEN = ("/-/healthy", "/-/ready")
"""Answered to anybody: a container's health check has no password, and they say one word."""
_REMEMBERED = 256
HEADERS = 10.0
"""Seconds within which a request's headers must have come."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Our certificate and key as PEM; ``client_ca`` as PEM, "" where nobody shows one."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: str = ""
    required: bool = False
    sans: tuple[str, ...] = ()
    least: str = "TLS12"
    most: str = "TLS13"
    ciphers: str = ""
    curve: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """``users`` to bcrypt hashes; ``interval`` seconds for one more request beyond ``burst``, 0 is
    without a limit; ``headers`` are added to every answer that has them not."""

    tls: Tls | None = None
    users: dict[str, str] = field(default_factory=dict, repr=False)
    headers: dict[str, str] = field(default_factory=dict)
    interval: float = 0.0
    burst: int = 20

    @property
    def authenticates(self) -> bool:
        """Does whoever asks have to show who he is?"""
        return bool(self.users) or (self.tls is not None and self.tls.required)


_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}


def context(tls: Tls) -> ssl.SSLContext:
    """Raises ssl.SSLError or ValueError where certificate and key do not belong together."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _file(tls.cert) as cert, _file(tls.key) as key:
        made.load_cert_chain(cert.path, key.path, password=lambda: b"")
    made.minimum_version, made.maximum_version = _VERSIONS[tls.least], _VERSIONS[tls.most]
    if tls.ciphers:
        made.set_ciphers(tls.ciphers)
    if tls.curve:
        made.set_ecdh_curve(_CURVES[tls.curve])
    if tls.client_ca:
        made.load_verify_locations(cadata=tls.client_ca)
        made.verify_mode = ssl.CERT_REQUIRED if tls.required else ssl.CERT_OPTIONAL
    made.set_alpn_protocols(["http/1.1"])
    return made


class _file:
    """Bytes under a path, for a library that takes nothing else; on no disk."""

    def __init__(self, data: bytes) -> None:
        self._fd = os.memfd_create("callpath")
        os.write(self._fd, data)
        self.path = f"/proc/self/fd/{self._fd}"

    def __enter__(self) -> _file:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Prompt(H11Protocol):
    """Ends connections on which no request comes to the end of its headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._expect()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect()

    def _expect(self) -> None:
        self.loop.call_later(HEADERS, self._end, self.cycle)

    def _end(self, last: object) -> None:
        if self.cycle is last:
            self.transport.abort()


def protocol(sans: tuple[str, ...]) -> type[H11Protocol]:
    """Connections of those whose certificate has one of these names, or of anybody."""
    if not sans:
        return Prompt

    class Named(Prompt):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
            super().connection_made(transport)
            shown = transport.get_extra_info("ssl_object").getpeercert() or {}
            if not {value for _, value in shown.get("subjectAltName", ())} & set(sans):
                transport.abort()

    return Named


class Guarded:
    """Asks for the password, counts requests, adds headers."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard
        self._known: set[bytes] = set()
        self._comparing = asyncio.Semaphore(2)
        self._tokens, self._at = float(guard.burst), time.monotonic()
        self._headers = [(k.lower().encode(), v.encode()) for k, v in guard.headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                there = {name.lower() for name, _ in headers}
                headers += [pair for pair in self._headers if pair[0] not in there]
                message = {**message, "headers": headers}
            await send(message)

        if scope["path"] not in OPEN:
            if not self._has_token():
                await PlainTextResponse("too many requests\n", 429)(scope, receive, sending)
                return
            if self._guard.users and not await self._is_known(scope):
                challenge = {"WWW-Authenticate": "Basic"}
                refusal = PlainTextResponse("Unauthorized\n", 401, headers=challenge)
                await refusal(scope, receive, sending)
                return
        await self._app(scope, receive, sending)

    def _has_token(self) -> bool:
        if not self._guard.interval:
            return True
        now = time.monotonic()
        earned = (now - self._at) / self._guard.interval
        self._tokens, self._at = min(self._guard.burst, self._tokens + earned), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _is_known(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, coded = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"basic" or len(coded) > 1024:
            return False
        try:
            user, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
        except binascii.Error:
            return False
        if not colon:
            return False
        users = self._guard.users
        hashed = users.get(user.decode(errors="replace"), "").encode()
        seen = hashlib.sha256(b"\0".join((user, hashed, password))).digest()
        if seen in self._known:  # bcrypt takes a twentieth of a second, on purpose
            return True
        async with self._comparing:
            # Where there is no such user, somebody's, so that the answer takes as long. bcrypt
            # reads 72 bytes of a password; more of it is an error in the library.
            against = hashed or next(iter(users.values())).encode()
            same = await asyncio.to_thread(bcrypt.checkpw, password[:72], against)
        if not (same and hashed):
            return False
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.add(seen)
        return True
