"""What a censor redirects connections to: a TLS server with an authority of its own, and a portal.

On its TLS port it has a certificate for whatever name it is asked, issued on the spot by an
authority that no client trusts; on its other port it sends every HTTP request to a portal's page.
A program of its own: address, TLS port, HTTP port, directory for keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import ssl
import sys
from pathlib import Path
from typing import Any

if not __package__:  # started by path instead of with -m
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.lab.certificates import Authority

ADDRESS = "95.24.0.80"  # in the provider's network
TLS_PORT, HTTP_PORT = 443, 80
AUTHORITY = "callpath lab interceptor"
PORTAL = "http://portal.provider.example/login"
NAMELESS = "nameless.invalid"
PATIENCE = 5.0


class Impostor:
    """Server contexts by name, each made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory, AUTHORITY)
        numbers = itertools.count()

        @functools.cache
        def context(name: str) -> ssl.SSLContext:
            pair = authority.issue(f"impostor-{next(numbers)}", [name])
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            made.load_cert_chain(pair.chain, pair.key)
            return made

        self._for = context
        self.context = context(NAMELESS)
        self.context.sni_callback = self._named

    def _named(self, tls: Any, name: str | None, _: ssl.SSLContext) -> None:
        if name:
            tls.context = self._for(name)


async def answer(
    response: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
    writer.close()


def response(status: str, *fields: str) -> bytes:
    head = (f"HTTP/1.1 {status}", *fields, "Content-Length: 0", "Connection: close")
    return "\r\n".join((*head, "", "")).encode()


async def main(address: str, tls_port: int, http_port: int, directory: Path) -> None:
    impostor = Impostor(directory)
    proxied = functools.partial(answer, response("200 OK"))
    portal = functools.partial(answer, response("302 Found", f"Location: {PORTAL}"))
    servers = (
        await asyncio.start_server(proxied, address, tls_port, ssl=impostor.context),
        await asyncio.start_server(portal, address, http_port),
    )
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    where, tls, http, folder = sys.argv[1:]
    asyncio.run(main(where, int(tls), int(http), Path(folder)))
