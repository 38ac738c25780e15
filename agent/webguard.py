"""From ``web.config_file`` to what the web process is told, and anew whenever a file changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from config.model import Config, ConfigError
from config.webfile import CIPHERS, TlsServer, WebFile
from exporters.guard import Guard, Tls, context

log = logging.getLogger(__name__)

POLL = 5.0
RETRY = 60.0
"""Seconds until files that were not right are read again, though none of them changed: what was
wrong may be callpath.yaml, or that a file could not be read for a moment."""


def guard_of(config: Config) -> Guard:
    """Raises OSError for a file that cannot be read, ValueError for one that is none
    of what it should be."""
    return _guard(config.web) if config.web is not None else Guard()


async def watch(
    config: Config, load: Callable[[], Config], replace: Callable[[Guard], None]
) -> None:
    """Hand over a new guard whenever a file of it changes: certificates are renewed every month. A
    file that is not right leaves the old guard in place."""
    seen = tried = stamps(config)
    again, said = 0.0, ""
    while True:
        await asyncio.sleep(POLL)
        now = stamps(config)
        if now == seen or (now == tried and time.monotonic() < again):
            continue
        tried, again = now, time.monotonic() + RETRY
        fresh, wrong = await asyncio.to_thread(_fresh, load)
        if fresh is None:
            if wrong != said:
                log.error("the old web.config_file stays: %s", wrong)
            said = wrong
            continue
        config, seen, said = fresh, stamps(fresh), ""
        log.info("web.config_file or a file that it names changed")
        replace(guard_of(fresh))


def _fresh(load: Callable[[], Config]) -> tuple[Config | None, str]:
    """What is configured now; or None, and why it cannot be served."""
    try:
        config = load()
    except ConfigError as error:
        return None, str(error)
    wrong = problem(config) if config.web is not None else "it is gone"
    return (None, wrong) if wrong else (config, "")


def problem(config: Config) -> str:
    """Why TLS cannot be served with what ``web.config_file`` names; "" when it can."""
    try:
        made = guard_of(config)
        if made.tls is not None:
            context(made.tls)
    except (OSError, ValueError) as error:  # ssl's errors are OSErrors
        return f"{config.settings.web.config_file}: tls_server_config: {error}"
    return ""


def stamps(config: Config) -> tuple[tuple[str, int], ...]:
    """The files that the guard is made of, each with when it was last written (ns, 0 if gone)."""
    return tuple((file, _written(file)) for file in _files(config))


def _files(config: Config) -> Iterator[str]:
    if config.web is None:
        return
    yield str(config.settings.web.config_file)
    if tls := config.web.tls_server_config:
        yield from filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file))


def _written(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0


def _guard(file: WebFile) -> Guard:
    return Guard(
        tls=_tls(file.tls_server_config) if file.tls_server_config else None,
        users=dict(file.basic_auth_users),
        headers={str(name): value for name, value in file.http_server_config.headers.items()},
        interval=file.rate_limit.interval,
        burst=file.rate_limit.burst,
    )


def _tls(given: TlsServer) -> Tls:
    return Tls(
        cert=_either(given.cert_file, given.cert),
        key=_either(given.key_file, given.key),
        client_ca=_either(given.client_ca_file, given.client_ca).decode(),
        required=given.client_auth_type == "RequireAndVerifyClientCert",
        sans=given.client_allowed_sans,
        least=given.min_version,
        most=given.max_version,
        ciphers=":".join(filter(None, (CIPHERS[name] for name in given.cipher_suites))),
        curve="".join(given.curve_preferences),
    )


def _either(file: str, text: str) -> bytes:
    return Path(file).read_bytes() if file else text.encode()
