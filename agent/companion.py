"""The configured twin, as checks that contrasts can run like any other (probes.measure)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from agent.checks import environment
from config.model import Config
from probes.measure import Check, measure
from probes.model import Observation, Target
from probes.net.environment import NoCourtesy
from probes.stun import StunProbe
from probes.twin import Dress, TwinTlsProbe, TwinUdpProbe, size_of
from probes.wire.twin import parse_key

BY_HAND = Target("probe", "", "twin", "twin")


class Payload(StrEnum):
    """What a contrast at the twin looks like on the way."""

    RANDOM = "random"
    STUN = "stun"
    DTLS = "dtls"
    TLS = "tls"
    """A hello with a neutral name."""


@dataclass(frozen=True, slots=True)
class Companion:
    """The operator's own server abroad: where it is, its key, its certificate's fingerprint."""

    address: str
    udp_ports: tuple[int, ...]
    tls_port: int
    key: bytes = field(repr=False)
    tls_sha256: str

    def udp(self, of: Target, dress: Dress, *, port: int = 0, size: int = 0) -> Check:
        """Five requests in this dress; ``size`` bytes each where they are random (0: 20), ``port``
        one of its UDP ports (0: the first). Start two of them together to have them interleaved.
        Random bytes are for the research profile (``needs_research`` says so of the probe).
        """
        probe = TwinUdpProbe(
            self.key, dress, size or size_of(Dress.STUN_BARE), self.tls_port, self.tls_sha256
        )
        return Check(of, probe, self.address, port or self.udp_ports[0])

    def tls(self, of: Target, server_name: str = "", alpn: tuple[str, ...] = ()) -> Check:
        """A handshake for any name, by the pinned certificate; "" sends no name. The name of a
        target is for the research profile: an app sends it to no other address."""
        probe = TwinTlsProbe(self.tls_sha256, server_name, alpn)
        return Check(of, probe, self.address, self.tls_port)

    def stun(self, of: Target, *, port: int = 0) -> Check:
        """Plain Binding requests as a stranger sends them. It answers one a second: three of five,
        which is enough to work."""
        return Check(of, StunProbe(), self.address, port or self.udp_ports[0])


def companion(config: Config) -> Companion | None:
    """The twin of this configuration, None without one. The loader has seen that the key file is
    good; raises OSError, ValueError when it is not any more."""
    twin = config.settings.twin
    if not twin.address:
        return None
    key = parse_key(Path(twin.key_file).read_text("ascii"))
    return Companion(twin.address, twin.udp_ports, twin.tls_port, key, twin.tls_sha256)


async def ask_by_hand(config: Config, twin: Companion) -> list[Observation]:
    """``callpath twin --check``: every port as STUN and, with the research profile, as random
    bytes beside it; then TLS."""
    research = config.settings.profile == "research"
    env, _ = environment(config)
    env.courtesy = NoCourtesy()
    checks = [
        twin.udp(_named(f"{dress}:{port}"), dress, port=port)
        for port in twin.udp_ports
        for dress in (Dress.STUN_BARE, *([Dress.RANDOM] if research else []))
    ]
    measured = await asyncio.gather(*(measure(check, env) for check in checks))
    last = await measure(twin.tls(_named(f"tls:{twin.tls_port}")), env)
    return [o for one in (*measured, last) for o in one.observations]


def advice(seen: Sequence[Observation]) -> str:
    """What to look at when not all of them work; "" when there is nothing to add."""
    udp, tls = seen[:-1], seen[-1]
    if not tls.works or any(o.works or "received_by_peer" in o.facts for o in udp):
        return ""
    return (
        "TLS works, and the twin believes none of our requests: the key files differ, or one of the"
        " clocks is off by more than 90 seconds."
    )


def _named(name: str) -> Target:
    return Target(BY_HAND.messenger, BY_HAND.channel, name, BY_HAND.probe)
