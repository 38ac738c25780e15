"""HTTP/1.1 by httpx over a stream that we opened ourselves, so that every step before it is timed
and classified like any other probe's. The only module that knows httpx.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpcore
import httpx

from probes.model import Failure
from probes.wire.error import WireError
from probes.wire.text import clean

MAX_BODY = 65536  # bytes read of an answer; the rest is not asked for
MAX_READ = 65536  # bytes; what httpcore asks for
_HEADERS = {"User-Agent": "Mozilla/5.0", "Accept": "*/*", "Connection": "close"}


class ByteStream(Protocol):
    async def read(self, limit: int) -> bytes: ...
    async def write(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """``clock_offset`` is the server's Date minus our clock in seconds, None without a Date."""

    status: int
    body: bytes
    location: str
    server: str
    clock_offset: float | None


class _NetworkStream(httpcore.AsyncNetworkStream):
    """Our stream in httpcore's clothes. It leaves closing and deadlines to the probe. ``most``:
    bytes that one read may take."""

    def __init__(self, stream: ByteStream, most: int = MAX_READ) -> None:
        self._stream = stream
        self.most = most
        self.received = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(min(max_bytes, self.most))
        self.received += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer)

    async def aclose(self) -> None:
        return None

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AssertionError("the stream is secured before HTTP begins")

    def get_extra_info(self, info: str) -> Any:
        return None


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


async def _answer(request: httpx.Request, stream: _NetworkStream, *, http2: bool) -> httpx.Response:
    """One request over ``stream``, without httpx's client: that keeps cookies from one run to the
    next, asks for compressed bodies, and fails on a Location which nobody is going to follow."""
    url = httpcore.URL(
        scheme=request.url.raw_scheme,
        host=request.url.raw_host,
        port=request.url.port,
        target=request.url.raw_path,
    )
    make = httpcore.AsyncHTTP2Connection if http2 else httpcore.AsyncHTTP11Connection
    connection = make(origin=url.origin, stream=stream)
    answer = await connection.handle_async_request(
        httpcore.Request(
            method=request.method,
            url=url,
            headers=request.headers.raw,
            content=request.stream,
        )
    )
    return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))


async def exchange(
    stream: ByteStream,
    method: str,
    url: str,
    *,
    content: bytes | None = None,
    content_type: str = "",
    http2: bool = False,
    limit: int = MAX_BODY,
) -> HttpAnswer:
    """One request, one answer. Raises OSError, EOFError (closed before a byte), WireError.

    Of the body ``limit`` bytes are read. ``http2`` when ALPN chose it: resolvers over HTTPS have
    begun to speak nothing else.
    """
    wrapped = _NetworkStream(stream)
    typed = {"Content-Type": content_type, "Accept": content_type} if content_type else {}
    request = httpx.Request(method, url, headers={**_HEADERS, **typed}, content=content)
    body = bytearray()
    with _in_our_words(wrapped):
        response = await _answer(request, wrapped, http2=http2)
        async with aclosing(response):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= limit:
                    break
    return HttpAnswer(
        status=response.status_code,
        body=bytes(body[:limit]),
        location=clean(response.headers.get("location", "")),
        server=clean(response.headers.get("server", "")),
        clock_offset=_clock_offset(response.headers.get("date", "")),
    )


@dataclass(slots=True)
class Download:
    """An answer whose body is still to come. ``stays``: the server keeps the connection open;
    ``size``: bytes that are wanted of it."""

    status: int
    stays: bool
    size: int
    _response: httpx.Response
    _wrapped: _NetworkStream

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes: no read takes more than is wanted still. Raises as ``exchange``."""
        got = 0
        with _in_our_words(self._wrapped):
            async for chunk in self._response.aiter_raw():
                got += len(chunk)
                self._wrapped.most = max(1, self.size - got)  # one that ends by itself is read on
                yield chunk

    async def close(self) -> None:
        await self._response.aclose()


async def download(stream: ByteStream, url: str, size: int) -> Download:
    """Ask for the first ``size`` bytes of what is behind ``url``; what the server makes of that
    is its choice. Raises as ``exchange``."""
    wrapped = _NetworkStream(stream, size)
    headers = {**_HEADERS, "Connection": "keep-alive", "Range": f"bytes=0-{size - 1}"}
    with _in_our_words(wrapped):
        response = await _answer(httpx.Request("GET", url, headers=headers), wrapped, http2=False)
    stays = "close" not in response.headers.get("connection", "").lower()
    return Download(response.status_code, stays, size, response, wrapped)


def upload_head(url: str, size: int) -> bytes:
    """The head of a POST of ``size`` bytes, for a sender who watches every one of them."""
    parts = httpx.URL(url)
    return (
        f"POST {parts.raw_path.decode('ascii')} HTTP/1.1\r\n"
        f"Host: {parts.netloc.decode('ascii')}\r\n"
        f"User-Agent: {_HEADERS['User-Agent']}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


@contextmanager
def _in_our_words(wrapped: _NetworkStream) -> Iterator[None]:
    try:
        yield
    except httpcore.RemoteProtocolError as error:
        if wrapped.received == 0:
            raise EOFError("closed without an answer") from error
        raise WireError(_word(str(error)), clean(str(error))) from error
    except (UnicodeError, ValueError) as error:
        raise WireError(Failure.BAD_REPLY, clean(str(error))) from error


def _word(message: str) -> Failure:
    if "too long" in message:  # h11: the header block outgrew its buffer
        return Failure.OVERSIZED
    if "without sending complete" in message or "without sending a response" in message:
        return Failure.TRUNCATED
    return Failure.BAD_REPLY


def _clock_offset(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
