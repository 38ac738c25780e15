"""August 2025: calls connect and sound like metal. From lost packets to the message, all of it real.

Of the packets to the call relays of one messenger 15 % are lost, and of those from them; so seven
single questions of ten are answered all the same. Two agents look on, of one Prometheus and one
Alertmanager: a client, and a vantage for research with a twin. All at one time factor of ten: a
keepalive has its 120 packets in 12 seconds. With an operator's relays as lossy as these at a more
leisurely pace, one would wait for half an hour.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import alertmanager, prometheus
from tests.lab.actions import Lose
from tests.lab.alertmanager import RULES, Alertmanager, Message, faster_rules
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import Lab
from tests.lab.presets import preset
from tests.lab.prometheus import AGENT, Prometheus
from tests.lab.skipping import require_lab
from tests.lab.test_agent import FACTOR, PATIENCE, everything_answers, running_agent
from tests.lab.test_alerts import full_time, text
from tests.lab.twins import running_twin
from tests.lab.world import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

OTHER = "127.0.0.1:22551"
CLIENT: dict[str, Any] = {"vantage": {"name": "client", "country": "RU", "network": "fixed"}}
RESEARCH: dict[str, Any] = {
    "vantage": {"name": "research", "country": "RU", "network": "fixed"},
    "web": {"listen": OTHER},
    "profile": "research",
    "risks": "accepted",
    "media": {"profile": "voip20"},
}
Rules = tuple[Censor, ...]


def over_udp(remote: tuple[str, ...]) -> Rules:
    return preset("calls_lossy", remote=remote)


def everything(remote: tuple[str, ...]) -> Rules:
    return (Censor(match(remote=remote), Lose(Loss(0.15))),)


class Stage:
    """Both agents and those who watch them."""

    def __init__(self, lab: Lab, directory: Path, undo: ExitStack) -> None:
        self.directory = directory
        calibration = []
        for messenger in ("telegram", "whatsapp"):
            file = directory / f"{messenger}.json"
            file.write_text(json.dumps(everything_answers(lab, messenger)))
            calibration.append(str(file))
        twin = undo.enter_context(running_twin(lab, directory))
        for name, sections in (("client", CLIENT), ("research", {**RESEARCH, "twin": twin})):
            (directory / name).mkdir()
            running = running_agent(lab, directory / name, calibration=calibration, **sections)
            undo.enter_context(running)
        rules = directory / "callpath.rules.yml"
        rules.write_text(faster_rules(RULES.read_text(), FACTOR))
        self.alertmanager = undo.enter_context(Alertmanager(lab.world, FACTOR))
        self.prometheus = undo.enter_context(
            Prometheus(
                lab.world,
                (AGENT, OTHER),
                rules=rules,
                alerts=alertmanager.LISTEN,
                lookback=300 / FACTOR,
            )
        )
    
    def is_not(self, status: str) -> set[tuple[str, str, str]]:
        found = self.prometheus.query(f'channel:callpath_channel_status:max{{status="{status}"}} == 0')
        return {(s.labels["vantage"], s.labels["messenger"], s.labels["channel"]) for s in found}


@pytest.mark.parametrize("loss,messenger", [(over_udp, "telegram"), (everything, "telegram"), (over_udp, "whatsapp"), (everything, "whatsapp")])
def test_a_call_that_sounds_like_metal(lab: Lab, tmp_path: Path, loss, messenger) -> None:
    require_lab(*prometheus.PROGRAMS, *alertmanager.PROGRAMS)
    FIRING = 'ALERTS{alertstate="firing"}'
    with ExitStack() as undo:
        it = Stage(lab, tmp_path, undo)
        began = time.time()
        wait_until(lambda: it.prometheus.query('count(channel:callpath_channel_status:max{status="ok"} == 1) == 16'), "ok", PATIENCE)
        print("took", time.time() - began)
        began = time.time()
        for rule in loss(lab.call_relays(messenger)["remote"]):
            lab.world.rules.add(rule)
        end = time.time() + 150
        last = None
        while time.time() < end:
            now = []
            for inst in (AGENT, OTHER):
                sel = f'{{messenger="{messenger}",channel="call",instance="{inst}"}} == 1'
                now.append([next((v for k, v in l.labels.items() if k in ("status", "mechanism", "certainty")), "interf") for q in ("callpath_channel_status", "callpath_channel_mechanism", "callpath_channel_certainty", "callpath_channel_interference") for l in it.prometheus.query(q + sel)])
                now += [f"{s.labels['target']}/{s.labels['stream']} {s.points[-1][1]:.2f}" for s in it.prometheus.query(f'callpath_media_loss_ratio{{messenger="{messenger}",instance="{inst}"}}')]
            now += [s.labels["alertname"]+s.labels["vantage"] for s in it.prometheus.query(FIRING)]
            now += [m.names for m in it.messages] if hasattr(it, "messages") else [(m.names, m.alerts[0]["labels"]["vantage"]) for m in it.alertmanager.messages]
            now += [it.is_not("ok")]
            if now != last:
                print(f"{time.time()-began:.1f}", now, flush=True)
                last = now
            time.sleep(1)
        for s in it.prometheus.query('callpath_checks_skipped_total > 0'):
            print(s.labels["instance"], s.labels["reason"], s.points[-1][1])
        for n in ("client", "research"):
            print((tmp_path/n/"agent.log").read_text()[-1500:])
            d = json.loads(lab.world.call(fetch, AGENT if n == "client" else OTHER))
            open(f"/tmp/w/august-{n}-{messenger}-{loss.__name__}.json", "w").write(json.dumps(d))

def fetch(where):
    import urllib.request
    return urllib.request.urlopen(f"http://{where}/api/v1/status").read()
