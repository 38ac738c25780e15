"""Asks the agent on this host, for ``callpath healthcheck`` and ``callpath outside publish``.

With nothing but the standard library, since a container runs it every few seconds.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from urllib.parse import urlsplit

TIMEOUT = 5.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def is_healthy(listen: str, *, tls: bool = False, certified: bool = False) -> str:
    """ "" when healthy, else what is wrong. Over ``tls`` any certificate of the agent's will do.
    ``certified``: it wants one from whoever asks, and that it shakes hands is all to be known."""
    try:
        with closing(_connection(listen, tls)) as connection:
            connection.connect()
            if certified:
                return ""
            status, body = _asked(connection, "/-/healthy", 200)
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {listen}: {error}"
    return "" if status == 200 else body.decode(errors="replace").strip()


def ask(listen: str, path: str, limit: int, *, tls: bool = False) -> tuple[int, bytes]:
    """Status, and at most ``limit`` bytes of what the agent that listens there answers.

    Raises OSError, also for what is no HTTP.
    """
    try:
        with closing(_connection(listen, tls)) as connection:
            return _asked(connection, path, limit)
    except http.client.HTTPException as error:
        raise OSError(f"not HTTP: {error!r}") from error


def _asked(connection: http.client.HTTPConnection, path: str, limit: int) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read(limit)


def _connection(listen: str, tls: bool) -> http.client.HTTPConnection:
    address = urlsplit(f"//{listen}")
    host = address.hostname or ""
    place, port = _WILDCARDS.get(host, host), address.port
    if not tls:
        return http.client.HTTPConnection(place, port, timeout=TIMEOUT)
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(place, port, timeout=TIMEOUT, context=unverified)
