"""The whole lab: a world, the catalogue's servers in it, a configuration for an agent."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any

import yaml

from tests.lab import catalogue
from tests.lab.relays import RELAYS
from tests.lab.servers import Servers
from tests.lab.world import HOPS, ROOT, World, require

PROGRAMS = ("unbound", "unbound-control", "turnserver", "nginx")
COUNTRY = "RU"


class Lab:
    """``with Lab() as lab:``. ``files`` stand in for the shipped messenger and controls files."""

    def __init__(
        self, files: Iterable[Path] | None = None, *, ipv6: bool = False, hops: int = len(HOPS)
    ) -> None:
        self.catalogue = catalogue.load(files or catalogue.shipped(COUNTRY))
        self.world = World(ipv6=ipv6, hops=hops)
        self.servers: Servers
        self._cleanup = ExitStack()

    def __enter__(self) -> Lab:
        require(*PROGRAMS)
        with ExitStack() as undo:
            undo.enter_context(self.world)
            self.servers = Servers(self.world, self.catalogue)
            self.servers.start()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def restore(self) -> None:
        """No rules, an honest resolver: what a test may rely on when it starts."""
        self.world.rules.clear()
        self.servers.tell_the_truth()

    def configuration(self, directory: Path, interval: float = 60.0, **sections: Any) -> Path:
        """Write a callpath.yaml for an agent inside, in a directory that also takes its state.

        ``interval`` scales the schedule as one factor, 60 seconds being the shipped pace; further
        sections are written over these.
        """
        factor = interval / 60.0
        servers = self.servers
        trusted = servers.vault.root_hex, servers.ca_file.read_text("ascii")
        settings: dict[str, Any] = {
            "vantage": {"name": "lab", "country": COUNTRY, "network": "fixed"},
            "tls_ca_file": str(self.servers.ca_file),
            "messenger_dirs": [str(catalogue.with_root(directory, *trusted))],
            "state_dir": str(directory / "state"),
            "schedule": {
                "interval": _seconds(60 * factor),
                "handshake_interval": _seconds(300 * factor),
                "media_interval": _seconds(600 * factor),
            },
            "state": {"spacing": _seconds(50 * factor)},
        }
        if factor >= 1:  # rounds by hand: their streams are shorter then
            settings["schedule"]["media_interval"] = _seconds(60 * factor)
        if factor < 1:
            settings["limits"] = {
                "min_interval": _seconds(60 * factor),
                "fast_prefixes": ["0.0.0.0/0", "::/0"],
                # So much more is under way at once, and whoever waits for a turn is late for the
                # round: silent checks end no ten times sooner.
                "concurrency": 256,
            }
        file = directory / "callpath.yaml"
        file.write_text(yaml.safe_dump({**settings, **sections}), encoding="utf-8")
        return file

    def agent(self, arguments: Sequence[str | Path], **popen: Any) -> Popen[Any]:
        """Start ``callpath`` with arguments on the subscriber's line."""
        command = [sys.executable, "-m", "agent.cli", *arguments]
        return self.world.client(command, **{"cwd": ROOT, **popen})

    def call_relays(self, messenger: str) -> dict[str, Any]:
        """What a rule needs to match one messenger's calls: its relays' addresses, over UDP."""
        remote = {
            prefix
            for probe in RELAYS
            for prefix in self.catalogue.prefixes(
                messenger=messenger, channel="call", probe=probe, transport="udp"
            )
        }
        return {"protocol": "udp", "remote": tuple(sorted(remote))}


def _seconds(value: float) -> str:
    return f"{round(value * 1000)}ms"
