"""``callpath twin``: the companion server in this process, and the check that it is reached."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.companion import advice, ask_by_hand, companion
from agent.twin import Twin
from agent.twindoor import TwinDoor, load_key
from agent.wiring import state_dir
from config.model import Config
from probes.model import Observation
from probes.net.files import exposed
from probes.net.selfsigned import Identity, identity

log = logging.getLogger(__name__)

KEY_NAME = "twin.key"
TELL_EVERY = 3600.0


class CannotServe(Exception):
    """The twin cannot run, or cannot be asked, as it was told to; the text says why."""


@dataclass(frozen=True, slots=True)
class Given:
    """The options of the command. No address is every one; no key file is that of the state
    folder."""

    listen: tuple[str, ...]
    udp_ports: tuple[int, ...]
    tls_port: int
    key_file: Path | None


async def serve(config: Config, given: Given, tell: Callable[[str], object]) -> None:
    """Until SIGTERM or SIGINT. ``tell`` gets what the operator has to know. Raises CannotServe."""
    addresses = _addresses(given)
    key_file = (given.key_file or state_dir(config) / KEY_NAME).absolute()
    key, own = _secrets(key_file)
    if readable := exposed(key_file):
        log.warning("%s", readable)
    twin = Twin(key)
    door = TwinDoor(twin, own.context)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    try:
        _open(door, addresses, given)
    except OSError as error:
        raise CannotServe(f"cannot listen on {error.filename}: {error.strerror}") from error
    tell(_told(door, key_file, own))
    try:
        await _until(stopped, twin)
    finally:
        await door.close()


async def check(config: Config) -> tuple[list[Observation], str]:
    """What the twin of the configuration answers, and what to look at. Raises CannotServe."""
    known = companion(config)
    if known is None:
        raise CannotServe("the configuration names no twin")
    seen = await ask_by_hand(config, known)
    return seen, advice(seen)


def _addresses(given: Given) -> tuple[str, ...]:
    for text in given.listen:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise CannotServe(f"--listen: {text} is not an address") from None
    for port in (*given.udp_ports, given.tls_port):
        if not 0 <= port <= 65535:
            raise CannotServe(f"there is no port {port}")
    if len(set(given.udp_ports)) < len(given.udp_ports):
        raise CannotServe("--udp-port: a port stands there twice")
    return given.listen


def _secrets(key_file: Path) -> tuple[bytes, Identity]:
    """The key, and the certificate beside it; both are made when they are not there."""
    try:
        key = load_key(key_file)
    except (OSError, ValueError) as error:
        raise CannotServe(f"{key_file}: {_reason(error)}") from error
    certificate = key_file.with_name(f"{key_file.name}.tls.pem")
    try:
        return key, identity(certificate)
    except (OSError, ValueError) as error:
        raise CannotServe(f"{certificate}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _open(door: TwinDoor, addresses: Sequence[str], given: Given) -> None:
    if addresses:
        door.open(addresses, given.udp_ports, given.tls_port)
        return
    try:
        door.open(("0.0.0.0", "::"), given.udp_ports, given.tls_port)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        door.open(("0.0.0.0",), given.udp_ports, given.tls_port)


_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # a host without IPv6 has no "::"


def _told(door: TwinDoor, key_file: Path, own: Identity) -> str:
    ports = sorted(set(door.udp_ports))
    return (
        f"certificate (SHA-256): {own.sha256}\n"
        f"UDP ports: {', '.join(map(str, ports))}; TLS port: {door.tls_port}\n"
        f"key file: {key_file}\n"
        "\n"
        "Copy the key file to the agent (mode 0600), and write in its callpath.yaml:\n"
        f"twin: {{address: THIS-HOST, udp_ports: {ports}, tls_port: {door.tls_port}, "
        f'key_file: {key_file.name}, tls_sha256: "{own.sha256}"}}'
    )


async def _until(stopped: asyncio.Event, twin: Twin) -> None:
    """Says once an hour how much of what came; never from where."""
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), TELL_EVERY)
        told, twin.counts = twin.counts, Counter()
        if told:
            counts = ", ".join(f"{word} {count}" for word, count in sorted(told.items()))
            log.info("answered and left unanswered: %s", counts)
