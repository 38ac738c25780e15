"""The virtual world against the namespaces: the same declaration, the same observations.

And the clock, the sockets and TCP of it by themselves.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.check import one_round
from probes.model import Certainty, Failure, Observation, Report, Step
from probes.net import stream
from probes.net.environment import Environment
from probes.stun import StunProbe
from probes.tcp import TcpProbe
from probes.tls import TlsProbe
from probes.trail import Peer, StepFailed, Trail
from tests.lab import interceptor
from tests.lab.actions import Drop, RewriteToReset
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.presets import preset
from tests.lab.rehearsal import RealStage
from tests.lab.scenario import Scenario
from tests.lab.test_agent import checked
from tests.lab.trial import VirtualStage
from tests.lab.trials import SCENARIOS
from tests.lab.virtual.world import Agent, VirtualWorld, configuration

RELAY, CENTRE = "91.108.9.35", "149.154.175.50"
LINE = Line(delay=0.03)


@pytest.fixture
def world():
    with VirtualWorld(1, line=LINE) as world:
        yield world


def probe(world: VirtualWorld, probe: Any, address: str, port: int, host: str = "") -> Trail:
    trail = Trail(Environment(system="95.24.0.53"))

    async def run() -> None:
        try:
            await probe.run(trail, Peer(address, port, host))
        except StepFailed:
            return

    world.run(run())
    return trail


def failure(trail: Trail) -> tuple[Step, Failure | None]:
    return trail.steps[-1].step, trail.steps[-1].failure


# --- the clock ---------------------------------------------------------------------------------


def test_hours_pass_in_no_time_and_everybody_sees_them(world):
    began, wall, steady = time.perf_counter(), time.time(), time.monotonic()
    world.run(asyncio.sleep(7200))
    assert time.perf_counter() - began < 60
    assert time.time() - wall == pytest.approx(7200)
    assert time.monotonic() - steady == pytest.approx(7200)


def test_the_clocks_are_this_machines_again_afterwards():
    with VirtualWorld(1) as world:
        virtual = time.time()
        assert virtual == world.clock.wall()
    assert abs(time.time() - virtual) > 3600


def test_waiting_for_nothing_is_an_error_and_no_hang(world):
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer"):
        world.run(wait())


# --- sockets -----------------------------------------------------------------------------------


def test_a_healthy_relay_and_its_facts(world):
    trail = probe(world, StunProbe(), RELAY, 1400)
    assert failure(trail) == (Step.EXCHANGE, None)
    assert trail.facts["answered"] == 5
    assert trail.facts["rtt_seconds"] == pytest.approx(0.06)
    assert trail.facts["received_ttl"] == 59
    assert trail.mapped == "95.24.112.7"


def test_a_port_where_nobody_listens_refuses(world):
    assert failure(probe(world, StunProbe(), RELAY, 1401)) == (Step.EXCHANGE, Failure.REFUSED)
    assert failure(probe(world, TcpProbe(), CENTRE, 81)) == (Step.CONNECT, Failure.REFUSED)


def test_a_machine_that_is_not_there_is_silent(world):
    trail = probe(world, TcpProbe(), "185.1.2.3", 443)
    assert failure(trail) == (Step.CONNECT, Failure.TIMEOUT)
    assert trail.steps[-1].seconds == pytest.approx(10)
    assert trail.facts["retransmissions"] == 3  # after 1, 3 and 7 seconds


def test_a_routers_word_ends_an_attempt_to_connect(world):
    world.path.add(preset("ip_reject", remote=f"{CENTRE}/32")[0])
    trail = probe(world, TcpProbe(), CENTRE, 443)
    assert failure(trail) == (Step.CONNECT, Failure.PROHIBITED)
    assert trail.facts["icmp_from_target"] is False


def test_an_address_of_a_family_that_is_not_here_has_no_route(world):
    with stream.socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is checked
            sock.connect(("2001:db8::1", 9))
    assert caught.value.errno == errno.ENETUNREACH


def test_what_a_rule_rewrites_reaches_the_client_rewritten(world):
    rule = Censor(match(sni="telegram.org"), RewriteToReset(), residual="4-tuple", seconds=75)
    world.path.add(rule, world.clock.now)
    address = world.catalogue.names["telegram.org"][0]
    trail = probe(world, TlsProbe(), address, 443, "telegram.org")
    assert failure(trail) == (Step.TLS, Failure.RESET)
    assert failure(probe(world, TlsProbe("t.me"), address, 443)) == (Step.TLS, None)


def test_a_swallowed_hello_is_repeated_as_linux_does(world):
    rule = Censor(match(sni="telegram.org"), Drop(), residual="4-tuple", seconds=75)
    world.path.add(rule, world.clock.now)
    trail = probe(world, TlsProbe(), world.catalogue.names["telegram.org"][0], 443, "telegram.org")
    assert failure(trail) == (Step.TLS, Failure.TIMEOUT)
    assert trail.facts["clienthello_acked"] is False
    assert 5 <= trail.facts["retransmissions"] <= 8


def test_tcp_gets_through_heavy_loss_and_datagrams_are_not_repeated(world):
    world.path.set_line(Line(delay=0.03, loss_out=Loss(0.3, seed=3)))
    address = world.catalogue.names["telegram.org"][0]
    trails = [probe(world, TlsProbe(), address, 443, "telegram.org") for _ in range(8)]
    assert [failure(trail) for trail in trails] == [(Step.TLS, None)] * 8
    assert sum(trail.facts["retransmissions"] for trail in trails) > 0
    assert sum(probe(world, StunProbe(), RELAY, 1400).facts["answered"] for _ in range(8)) < 40


def test_a_strangers_certificate_is_a_strangers(world):
    for rule in preset("mitm"):
        world.path.add(rule, world.clock.now)
    trail = probe(world, TlsProbe(), world.catalogue.names["telegram.org"][0], 443, "telegram.org")
    assert failure(trail) == (Step.TLS, Failure.UNKNOWN_ISSUER)
    assert trail.facts["certificate_issuer"] == interceptor.AUTHORITY


# --- one check by hand ---------------------------------------------------------------------------

COMPLETE = (
    "chat addresses dropped",
    "chat addresses refused",
    "chat addresses prohibited, code 13",
    "relays dropped",
    "cookie swallowed at the relays",
    "all UDP dropped",
    "answers rewritten to resets",
    "resets injected",
    "hellos swallowed",
    "resolver denies WhatsApp",
    "resolver gives a private address",
    "names denied over UDP everywhere",
    "names swallowed",
    "false answers beside the true ones",
    "a man in the middle",
    "relays and pages of one messenger",
)


@pytest.mark.parametrize("name", COMPLETE)
def test_one_check_after_a_healthy_one_names_a_complete_block(tmp_path: Path, name: str) -> None:
    report = virtually(SCENARIOS[name], tmp_path)
    for e in SCENARIOS[name].client:
        if f"{e.messenger} {e.channel}" == "whatsapp call":
            continue  # its relays have not earned their trust by then
        (d,) = [d for d in report.diagnoses if (d.messenger, d.channel) == (e.messenger, e.channel)]
        assert d.status in e.status
        assert str(d.mechanism) in e.mechanism
        assert d.certainty is Certainty.LIKELY


# --- against the namespaces --------------------------------------------------------------------

BOTH_WAYS = (
    "cookie swallowed at the relays",
    "chat addresses prohibited, code 13",
    "hellos swallowed",
    "names denied over UDP everywhere",
)
TIMING = {"retransmissions", "sent", "received", "unexpected"}
"""Counts that depend on when a kernel's timer fires: compared elsewhere, and more loosely."""


TRIES = 3
"""A busy machine loses a datagram of its own now and then; the virtual one does not."""


def virtually(scenario: Scenario, directory: Path) -> Report:
    with VirtualWorld(1, line=LINE) as world:
        agent = Agent(world, configuration("client", directory))
        names = tuple(agent.core.messengers)

        async def twice() -> Report:
            await one_round(agent.core, names)
            await agent.stop_asking()
            await asyncio.sleep(120)
            stage = VirtualStage(world, agent, 1)
            for _, happen in scenario.happens:
                happen(stage)
            return await one_round(agent.core, names)

        report: Report = world.run(twice())
        world.run(agent.stop())
        return report


def really(lab: Lab, scenario: Scenario, directory: Path) -> list[dict[str, Any]]:
    lab.world.rules.line(LINE)
    checked(lab, directory)
    stage = RealStage(lab, 1)
    for _, happen in scenario.happens:
        happen(stage)
    for _ in range(TRIES):
        observations: list[dict[str, Any]] = checked(lab, directory)[1]["observations"]
        if not any("answered_first" in o["facts"] for o in observations):
            return observations
    raise AssertionError("some of five datagrams were lost each time, and no rule here does that")


def of_virtual(o: Observation) -> tuple[Any, ...]:
    steps = tuple((str(s.step), str(s.failure) if s.failure else None) for s in o.steps)
    differs = str(o.contrast.differs) if o.contrast else ""
    return (o.target.messenger, o.target.name, differs, o.address, steps)


def of_real(o: dict[str, Any]) -> tuple[Any, ...]:
    steps = tuple((s["step"], s["failure"]) for s in o["steps"])
    differs = o["contrast"]["differs"] if o["contrast"] else ""
    return (o["messenger"], o["target"], differs, o["facts"].get("address"), steps)


def without_samples(seen: Sequence[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """Which of several failures a contrast is asked of is the order's choice."""
    return Counter(s for s in seen if not s[2])


def contrasts(seen: Sequence[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    return {(messenger, differs, steps) for messenger, _, differs, _, steps in seen if differs}


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_both_worlds_are_seen_alike(lab: Lab, tmp_path: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    virtual = virtually(scenario, tmp_path).observations
    real = really(lab, scenario, tmp_path)
    there, here = [of_real(o) for o in real], [of_virtual(o) for o in virtual]
    assert without_samples(here) == without_samples(there)
    assert contrasts(here) == contrasts(there)
    assert facts_of((of_virtual(o), o.facts) for o in virtual) == facts_of(
        (of_real(o), o["facts"]) for o in real
    )


def facts_of(seen: Any) -> dict[tuple[Any, ...], set[str]]:
    """The names of the facts by what was seen, those of shared runs alike."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for key, facts in seen:
        names = {n for n, value in facts.items() if n not in TIMING and value is not None}
        found.setdefault((key[0], key[2], key[4]), set()).update(names - {"shared"})
    return found
