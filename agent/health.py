"""``callpath healthcheck``: asks the agent on this host.

With nothing but the standard library, since a container runs it every few seconds.
"""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

TIMEOUT = 5.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def is_healthy(listen: str) -> str:
    """ "" when healthy, else what is wrong."""
    address = urlsplit(f"//{listen}")
    host = address.hostname or ""
    connection = http.client.HTTPConnection(
        _WILDCARDS.get(host, host), address.port, timeout=TIMEOUT
    )
    try:
        connection.request("GET", "/-/healthy")
        response = connection.getresponse()
        text = response.read(200).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {listen}: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 else text
