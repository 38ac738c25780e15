"""The same scenarios for real: in the namespaces, with real packets, by ``callpath check``.

One healthy round, then the scenario, then another round. What needs time, one round cannot show.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from config import CATALOGUE_VERSION
from probes.model import SURE, Mechanism, Proof
from tests.lab.catalogue import Catalogue
from tests.lab.deciding import decide
from tests.lab.lab import Lab
from tests.lab.path import Line
from tests.lab.scenario import Rules, Scenario
from tests.lab.trial import Found
from tests.lab.trials import SCENARIOS

RTT = Line(delay=0.03)
PATIENCE = 110.0
_lab: Lab | None = None


class RealStage:
    """A stage in the namespaces."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab, self.seed = lab, seed

    @property
    def catalogue(self) -> Catalogue:
        return self.lab.catalogue

    def add(self, rules: Rules) -> None:
        for rule in rules:
            self.lab.world.rules.add(rule)

    def clear(self) -> None:
        self.lab.world.rules.clear()
        self.lab.world.rules.line(RTT)

    def lie(self, name: str, *addresses: str) -> None:
        self.lab.servers.lie(name, *addresses)

    def tell_the_truth(self) -> None:
        self.lab.servers.tell_the_truth()

    def line(self, line: Line) -> None:
        self.lab.world.rules.line(line)


def rehearsable(scenario: Scenario) -> bool:
    """Can one round after another show it?"""
    return not scenario.virtual and len({minute for minute, _ in scenario.happens}) <= 1


def rehearsed(names: Sequence[str], profile: str, jobs: int) -> Iterator[Found]:
    """Each scenario once, ``jobs`` laboratories at a time."""
    # Not multiprocessing's Pool: its processes may have no children, and a lab is made of them.
    with ProcessPoolExecutor(jobs, get_context("fork"), initializer=_open) as pool:
        work = [pool.submit(_rehearse, (name, profile)) for name in names]
        for done in as_completed(work):
            yield done.result()


def _open() -> None:
    global _lab
    _lab = Lab(ipv6=False)
    _lab.__enter__()
    # A pool's processes end without atexit.
    Finalize(None, _lab.__exit__, (None, None, None), exitpriority=10)


def _rehearse(work: tuple[str, str]) -> Found:
    name, profile = work
    assert _lab is not None
    return rehearse(_lab, SCENARIOS[name], profile)


def rehearse(lab: Lab, scenario: Scenario, profile: str, seed: int = 1) -> Found:
    found = Found(scenario.name, profile, seed)
    lab.restore()
    lab.world.rules.line(RTT)
    if "intercept" in scenario.tags:
        lab.servers.intercept()
    with tempfile.TemporaryDirectory() as directory:
        if not scenario.cold:
            _check(lab, Path(directory), profile, decides=scenario.decides)
        stage = RealStage(lab, seed)
        for _, happen in scenario.happens:
            happen(stage)
        cold, decides = scenario.cold, scenario.decides
        document = _check(lab, Path(directory), profile, cold=cold, decides=decides)
    lab.restore()
    _judge(found, scenario, document)
    return found


def _check(
    lab: Lab,
    directory: Path,
    profile: str,
    *,
    cold: bool = False,
    decides: tuple[str, ...] = (),
) -> Any:
    sections: dict[str, Any] = {} if cold else {"calibration": [_calibrated(lab, directory)]}
    if profile == "research":
        sections |= {"profile": profile, "risks": "accepted"}
    file = lab.configuration(directory, **sections)
    if decides:
        decide(directory / "messengers", decides)
    process = lab.agent(
        ["check", "--json", "--config", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    out, _ = process.communicate(timeout=PATIENCE)
    return json.loads(out)


def _calibrated(lab: Lab, directory: Path) -> str:
    """What an open network saw of those that no stranger is known to be answered by: one healthy
    round does not prove them, and ten are the virtual clock's."""
    today = datetime.now(UTC)
    targets = [
        {
            "messenger": t.messenger,
            "target": t.name,
            "probe": t.probe,
            "dress": t.fields.get("dress", "bare" if t.probe == "stun" else ""),
            "asked": 20,
            "answered": 20,
            "last_answered": today.date().isoformat(),
        }
        for t in lab.catalogue.targets
        if t.fields.get("proof") == Proof.UNPROVEN
    ]
    file = directory / "calibration.json"
    file.write_text(
        json.dumps(
            {
                "version": 1,
                "catalogue": CATALOGUE_VERSION,
                "network": "hosting",
                "at": today.isoformat(),
                "targets": targets,
            }
        )
    )
    return str(file)


def _judge(found: Found, scenario: Scenario, document: Any) -> None:
    channels = {f"{c['messenger']} {c['channel']}": c for c in document["channels"]}
    expected = scenario.expected(found.profile)
    hit = {f"{e.messenger} {e.channel}" for e in expected} | set(scenario.beside)
    for place, channel in channels.items():
        if scenario.innocent or place not in hit:
            found.accused += [
                f"{place}: {f['mechanism']} {f['rule']} {f['confidence']}"
                for f in channel["findings"]
                if f["certainty"] in SURE and Mechanism(f["mechanism"]).interference
            ]
        if scenario.innocent or place in hit:
            found.last[place] = f"{channel['status']} {channel['mechanism']} {channel['rule']}"
    found.right = not found.accused and all(
        channels[f"{e.messenger} {e.channel}"]["status"] in e.status
        and (not e.mechanism or channels[f"{e.messenger} {e.channel}"]["mechanism"] in e.mechanism)
        for e in expected
    )
