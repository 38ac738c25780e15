"""Traces to filters of every kind, at every hop, over honest and difficult paths: are they exact?

``python -m tests.lab.traces [--paths plain,silent] [--hops 1,4,9] [--raw] [--ipv6]`` makes a table.
All kinds are traced at the same time over one path, each to a server of its own, the filters behind
one hop. ``--raw``: with the tracer's process, which has CAP_NET_RAW for its start.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from probes.net.raw import Raw
from probes.trace.common import Control, Report, Word
from probes.trace.walk import Walk
from probes.trace.words import words
from tests.lab.actions import Action, Drop, Forge, InjectReset, Reject, RewriteToReset
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.topology import Answers, Branches, Detour, Topology

HOPS = 9
RESOLVER = {4: "9.9.9.9", 6: "2620:fe::fe"}
FLOW = {"residual": "4-tuple", "seconds": 60.0}
FORGERY = Forge(("10.10.34.36",), beside=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """``probe`` at the catalogue's target ``to``; what fits ``what`` gets ``action``."""

    probe: str
    to: str
    what: str
    action: Action
    more: dict[str, object] = field(default_factory=dict)


KINDS = {
    "address, drop": Kind("tcp", "whatsapp/graph", "", Drop()),
    "address, reject": Kind("stun", "whatsapp/relay-1-stun", "", Reject()),
    "STUN, drop": Kind("stun", "whatsapp/relay-2-stun", "stun", Drop()),
    "STUN, flow": Kind("stun", "whatsapp/relay-3-stun", "stun", Drop(), FLOW),
    "DTLS, drop": Kind("dtls", "whatsapp/relay-4-stun", "dtls", Drop()),
    "DTLS, flow": Kind("dtls", "whatsapp/relay-6-stun", "dtls", Drop(), FLOW),
    "QUIC, drop": Kind("quic", "whatsapp/web", "quic", Drop()),
    "name, drop": Kind("tls", "whatsapp/static", "sni", Drop()),
    "name, flow": Kind("tls", "whatsapp/graph-net", "sni", Drop(), FLOW),
    "name, injected": Kind("tls", "whatsapp/registration", "sni", InjectReset()),
    "name, rewritten": Kind("tls", "whatsapp/pps", "sni", RewriteToReset(), FLOW),
    "question, forged": Kind("dns", "whatsapp/site", "dns", FORGERY),
}
SHARED = 12.0
"""All kinds share the routers, which report so many times more often for that."""

PATHS: dict[str, tuple[Topology, Line, dict[str, object]]] = {
    "plain": (Topology(), Line(), {}),
    "silent": (Topology(tuple(Answers(k, silent=True) for k in (3, 4))), Line(), {}),
    "limited": (
        Topology(
            tuple(Answers(k, icmp_rate=SHARED, icmp_burst=12) for k in range(1, HOPS + 1)),
        ),
        Line(),
        {},
    ),
    "two ways": (Topology(branches=(Branches(3, 6, 2),)), Line(), {"branch": 1}),
    "four ways": (Topology(branches=(Branches(3, 6, 4),)), Line(), {"branch": 2}),
    "two ways back": (Topology(branches=(Branches(3, 6, 2, own_way_back=True),)), Line(), {}),
    "early": (Topology(), Line(), {"early": True}),
    "detour": (Topology(detour=Detour(3)), Line(), {}),
    "lossy": (
        Topology(),
        Line(jitter=0.01, loss_out=Loss(0.02, seed=1), loss_in=Loss(0.02, seed=2)),
        {},
    ),
}


@dataclass(frozen=True, slots=True)
class Told:
    kind: str
    path: str
    wanted: tuple[int, int]
    word: Word
    found: tuple[int, int | None] | None
    method: str
    runs: str
    packets: int
    seconds: float

    @property
    def verdict(self) -> str:
        """``wrong``: it names a stretch in which the filter is not, or that there is none."""
        if self.word is Word.SERVER and self.found == self.wanted:
            return "untold"  # just before a server: it, or the server itself
        if self.found is None or self.word is not Word.FOUND:
            return "untold" if self.word is Word.UNCLEAR else "wrong"
        if self.found == self.wanted:
            return "exact"
        (low, high), (first, last) = self.found, self.wanted
        return "wide" if low <= first and (high is None or high >= last) else "wrong"


def _server(lab: Lab, kind: Kind, version: int) -> tuple[str, int, str]:
    """Address, port and name."""
    messenger, _, name = kind.to.partition("/")
    target = next(t for t in lab.catalogue.select(messenger=messenger) if t.name == name)
    host = target.host or ""
    if kind.probe == "dns":
        return RESOLVER[version], 53, host
    known = (*target.addresses, *lab.catalogue.names.get(host, ()))
    return next(a for a in known if (":" in a) == (version == 6)), target.port, host


def _rule(kind: Kind, address: str, name: str, hop: int, more: dict[str, object]) -> Censor:
    protocol = "tcp" if kind.probe in ("tcp", "tls") else "udp"
    what: dict[str, object] = {"protocol": protocol}
    if kind.probe != "dns":
        what["remote"] = f"{address}/{128 if ':' in address else 32}"
    if kind.what:
        what[kind.what] = name if kind.what in ("sni", "dns") else True
    return Censor(match(**what), kind.action, hop=hop, **{**kind.more, **more})  # type: ignore[arg-type]


def _controls(lab: Lab, kind: Kind, address: str, version: int) -> list[Control]:
    """A neighbour, as far away in this lab as everybody, and a stranger."""
    sorts = ("tcp", "tls", "https", "noise") if kind.probe in ("tcp", "tls") else ("stun",)

    def servers(messenger: str) -> list[tuple[str, int]]:
        return [
            (a, t.port)
            for sort in sorts
            for t in lab.catalogue.select(messenger=messenger, probe=sort)
            for a in (*t.addresses, *lab.catalogue.names.get(t.host or "", ()))
            if (":" in a) == (version == 6) and a != address
        ]

    near = [Control(a, port, near=True) for a, port in servers("whatsapp")[:1]]
    return near + [Control(a, port) for a, port in servers("telegram")[:1]]


def traced(
    lab: Lab,
    path: str,
    hop: int,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    raw: bool = False,
    version: int = 4,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Told]:
    """One trace of each kind."""
    topology, line, more = PATHS[path]
    lab.restore()
    lab.world.rules.topology(topology)
    lab.world.rules.line(line)
    servers = {name: _server(lab, KINDS[name], version) for name in kinds}
    for name, (address, _, host) in servers.items():
        lab.world.rules.add(_rule(KINDS[name], address, host, hop, more))

    async def one(name: str) -> Report:
        address, port, host = servers[name]
        kind = KINDS[name]
        async with AsyncExitStack() as stack:
            capture = await stack.enter_async_context(Raw(address)) if raw else None
            said = words(kind.probe, host)
            controls = _controls(lab, kind, address, version)
            return await Walk(said, address, port, controls=controls, raw=capture).trace()

    async def together() -> list[Report]:
        return await asyncio.gather(*(one(name) for name in kinds))

    try:
        reports = lab.world.call(lambda: asyncio.run(together()))
    finally:
        lab.restore()
    wanted = (hop - 1, hop) if more.get("early") else (hop, hop + 1)
    told = []
    for name, report in zip(kinds, reports, strict=True):
        place = report.place
        found = place.stretch if place else None
        stretch = (found.low, found.high) if found else None
        runs = f"{place.agree}/{place.runs}" if place else ""
        told.append(
            Told(
                name,
                path,
                wanted,
                report.word,
                stretch,
                report.method,
                runs,
                report.packets,
                report.seconds,
            )
        )
        if told[-1].verdict != "exact":
            tell(f"{told[-1]}  {told[-1].verdict}")
    return told


def table(told: Sequence[Told]) -> str:
    """A row per kind or path: how many of each verdict, and the longest."""
    order = ("exact", "wide", "untold", "wrong")
    rows = [f"{'':<20}{''.join(f'{word:>8}' for word in order)}{'longest':>10}"]
    for one in [*dict.fromkeys(t.kind for t in told), *dict.fromkeys(t.path for t in told)]:
        these = [t for t in told if one in (t.kind, t.path)]
        count = Counter(t.verdict for t in these)
        numbers = "".join(f"{count[word]:>8}" for word in order)
        rows.append(f"{one:<20}{numbers}{max(t.seconds for t in these):>8.0f} s")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", default=",".join(PATHS))
    parser.add_argument("--hops", default=",".join(map(str, range(1, HOPS + 1))))
    parser.add_argument("--kinds", default=";".join(KINDS), help="parted by semicolons")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--ipv6", action="store_true")
    given = parser.parse_args()
    told: list[Told] = []
    with Lab(hops=HOPS, ipv6=given.ipv6) as lab:
        for path in given.paths.split(","):
            for hop in map(int, given.hops.split(",")):
                if "branch" in PATHS[path][2] and not 3 <= hop <= 6:
                    continue  # no branches there
                told += traced(
                    lab,
                    path,
                    hop,
                    given.kinds.split(";"),
                    raw=given.raw,
                    version=6 if given.ipv6 else 4,
                    tell=lambda text: print(text, flush=True),
                )
                print(f"{path}, hop {hop}: {max(t.seconds for t in told[-12:]):.0f} s", flush=True)
    print(table(told))


if __name__ == "__main__":
    main()
