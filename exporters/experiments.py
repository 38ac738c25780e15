"""OONI's experiments about messengers: what each asks, and how it sums that up.

They are OONI's, and so are their names and formats (ooni/spec ts-018, ts-020), the messengers in
them as well. What was not asked is null here, where OONI's own probe begins with "blocked".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from exporters.ooniwords import Asked, failure, works
from probes.model import Observation, Step

_ENDPOINT = re.compile(r"e[0-9]{1,2}\.whatsapp\.net")
_ENDPOINT_PORTS = (443, 5222)
_REGISTRATION = "https://v.whatsapp.net/v2/register"
_WHATSAPP_WEB = "https://web.whatsapp.com/"
_TELEGRAM_WEB = "https://web.telegram.org/"


@dataclass(frozen=True, slots=True)
class Experiment:
    """``asks``: is this one of the experiment's targets? ``keys``: what is its own in test_keys."""

    version: str
    asks: Callable[[Asked], bool]
    keys: Callable[[Sequence[tuple[Observation, Asked]]], dict[str, Any]]


def _page(its: Sequence[tuple[Observation, Asked]], url: str) -> tuple[str | None, str | None]:
    """Status and failure of a page: any of its addresses will do."""
    runs = [o for o, a in its if a.url == url]
    if not runs:
        return None, None
    if any(map(works, runs)):
        return "ok", None
    return "blocked", failure(runs[-1])


def _whatsapp(its: Sequence[tuple[Observation, Asked]]) -> dict[str, Any]:
    doors: dict[tuple[str, int], bool] = {}
    for o, a in its:
        if not a.url:
            key = a.host, a.port
            doors[key] = doors.get(key, False) or works(o)
    dead = Counter(host for (host, _), works in doors.items() if not works)
    registration, web = _page(its, _REGISTRATION), _page(its, _WHATSAPP_WEB)
    return {
        "registration_server_failure": registration[1],
        "registration_server_status": registration[0],
        "whatsapp_endpoints_blocked": sorted(
            h for h, n in dead.items() if n == len(_ENDPOINT_PORTS)
        ),
        "whatsapp_endpoints_dns_inconsistent": [],
        "whatsapp_endpoints_status": _word(any(doors.values())) if doors else None,
        "whatsapp_web_failure": web[1],
        "whatsapp_web_status": web[0],
    }


def _telegram(its: Sequence[tuple[Observation, Asked]]) -> dict[str, Any]:
    posts = [o for o, a in its if a.url != _TELEGRAM_WEB]
    answered = any(map(works, posts))
    connected = answered or any(_connects(o) for o in posts)
    web = _page(its, _TELEGRAM_WEB)
    return {
        "telegram_http_blocking": not answered if posts else None,
        "telegram_tcp_blocking": not connected if posts else None,
        "telegram_web_failure": web[1],
        "telegram_web_status": web[0],
    }


def _word(works: bool) -> str:
    return "ok" if works else "blocked"


def _connects(o: Observation) -> bool:
    return any(s.step is Step.CONNECT and s.failure is None for s in o.steps)


def _asks_whatsapp(a: Asked) -> bool:
    if a.url:
        return a.url in (_REGISTRATION, _WHATSAPP_WEB)
    return not a.udp and a.port in _ENDPOINT_PORTS and bool(_ENDPOINT.fullmatch(a.host))


def _asks_telegram(a: Asked) -> bool:
    """Its data centres are asked over HTTP, at literal addresses."""
    if a.url == _TELEGRAM_WEB:
        return True
    return a.url.startswith("http://") and a.method == "POST" and _is_literal(a.host)


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


EXPERIMENTS: Mapping[str, Experiment] = {
    "telegram": Experiment("0.3.1", _asks_telegram, _telegram),
    "whatsapp": Experiment("0.11.0", _asks_whatsapp, _whatsapp),
}
"""OONI's experiments, by the messengers that they are about; their targets are their own."""
