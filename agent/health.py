"""``callpath healthcheck``: asks the agent on this host.

With nothing but the standard library, since a container runs it every few seconds.
"""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

TIMEOUT = 5.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def is_healthy(listen: str, *, tls: bool = False, certified: bool = False) -> str:
    """ "" when healthy, else what is wrong. Over ``tls`` any certificate of the agent's will do.
    ``certified``: it wants one from whoever asks, and that it shakes hands is all to be known."""
    address = urlsplit(f"//{listen}")
    host = address.hostname or ""
    place, port = _WILDCARDS.get(host, host), address.port
    connection = http.client.HTTPConnection(place, port, timeout=TIMEOUT)
    if tls:
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(place, port, timeout=TIMEOUT, context=unverified)
    try:
        connection.connect()
        if certified:
            return ""
        connection.request("GET", "/-/healthy")
        response = connection.getresponse()
        text = response.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {listen}: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 else text
