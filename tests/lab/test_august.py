"""August 2025: calls connect and sound like metal. From lost packets to the message, all real.

Of the packets to the call relays of one messenger 15 % are lost, and of those from them, so that
seven single questions of ten are answered. Two vantages look on and tell one Prometheus and one
Alertmanager: a client, and research with a twin. All at one time factor of ten, streams too: a
keepalive has its 120 packets in 12 seconds; 12 packets would show no loss beyond doubt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab import alertmanager, prometheus
from tests.lab.actions import Lose
from tests.lab.alertmanager import RULES, Alertmanager, Message, faster_rules
from tests.lab.censor import Censor, match
from tests.lab.chance import Loss
from tests.lab.lab import COUNTRY, Lab
from tests.lab.presets import preset
from tests.lab.prometheus import AGENT, Prometheus
from tests.lab.skipping import require_lab
from tests.lab.test_agent import FACTOR, PATIENCE, everything_answers, running_agent
from tests.lab.test_alerts import FIRING, full_time, text
from tests.lab.twins import running_twin
from tests.lab.world import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PLACES = {"client": AGENT, "research": "127.0.0.1:22551"}
RESEARCH = {"profile": "research", "risks": "accepted", "media": {"profile": "voip20"}}
WORDS = {
    "client": ("path_degraded", "suspected", 0),
    "research": ("media_degraded_targeted", "likely", 1),
}
"""Mechanism, certainty, interference."""
CHANNEL_OK = 'channel:callpath_channel_status:max{status="ok"}'
Rules = tuple[Censor, ...]


def over_udp(remote: tuple[str, ...]) -> Rules:
    return preset("calls_lossy", remote=remote)


def over_everything(remote: tuple[str, ...]) -> Rules:
    return (Censor(match(remote=remote), Lose(Loss(0.15))),)


class Watched:
    """Two agents in one place, and those who watch them."""

    def __init__(self, lab: Lab, directory: Path, undo: ExitStack) -> None:
        calibration = []
        for messenger in ("telegram", "whatsapp"):
            file = directory / f"{messenger}.json"
            file.write_text(json.dumps(everything_answers(lab, messenger)))
            calibration.append(str(file))
        twin = undo.enter_context(running_twin(lab, directory))
        sections: dict[str, Any] = {"client": {}, "research": {**RESEARCH, "twin": twin}}
        for name, own in sections.items():
            (directory / name).mkdir()
            own["vantage"] = {"name": name, "country": COUNTRY, "network": "fixed"}
            own["web"] = {"listen": PLACES[name]}
            undo.enter_context(running_agent(lab, directory / name, calibration=calibration, **own))
        rules = directory / "callpath.rules.yml"
        rules.write_text(faster_rules(RULES.read_text(), FACTOR))
        self.alertmanager = undo.enter_context(Alertmanager(lab.world, FACTOR))
        self.prometheus = undo.enter_context(
            Prometheus(
                lab.world,
                tuple(PLACES.values()),
                rules=rules,
                alerts=alertmanager.LISTEN,
                lookback=300 / FACTOR,
            )
        )

    def channels(self, expression: str) -> set[tuple[str, str, str]]:
        """Vantage, messenger and channel of what an expression finds."""
        found = self.prometheus.query(expression)
        return {(s.labels["vantage"], s.labels["messenger"], s.labels["channel"]) for s in found}

    def told(self, vantage: str) -> list[Message]:
        """What was said about it."""
        messages = self.alertmanager.messages
        return [m for m in messages if m.alerts[0]["labels"]["vantage"] == vantage]

    def words(self, vantage: str, messenger: str) -> tuple[str, str, float]:
        """What is said of a messenger's calls."""
        where = f'instance="{PLACES[vantage]}",messenger="{messenger}",channel="call"'
        (mechanism,) = self.prometheus.query(f"callpath_channel_mechanism{{{where}}} == 1")
        (certainty,) = self.prometheus.query(f"callpath_channel_certainty{{{where}}} == 1")
        (interference,) = self.prometheus.query(f"callpath_channel_interference{{{where}}}")
        return (
            mechanism.labels["mechanism"],
            certainty.labels["certainty"],
            interference.points[-1][1],
        )

    def lost(self, messenger: str, stream: str) -> list[float]:
        """Of the last stream to each target, of both vantages."""
        of = f'messenger="{messenger}",stream="{stream}"'
        return [
            s.points[-1][1] for s in self.prometheus.query(f"callpath_media_loss_ratio{{{of}}}")
        ]


@pytest.mark.parametrize(
    ("messenger", "loss"),
    [
        ("telegram", over_udp),
        pytest.param("whatsapp", over_everything, marks=pytest.mark.long),
    ],
)
def test_a_call_that_sounds_like_metal(
    lab: Lab, tmp_path: Path, messenger: str, loss: Callable[[tuple[str, ...]], Rules]
) -> None:
    require_lab(*prometheus.PROGRAMS, *alertmanager.PROGRAMS)
    with ExitStack() as undo:
        it = Watched(lab, tmp_path, undo)
        everything = {
            (vantage, t.messenger, t.channel)
            for vantage in PLACES
            for t in lab.catalogue.targets
            if t.channel
        }
        wait_until(
            lambda: it.channels(f"{CHANNEL_OK} == 1") == everything, "everything ok", PATIENCE
        )
        began = time.time()
        for rule in loss(lab.call_relays(messenger)["remote"]):
            lab.world.rules.add(rule)

        calls = {(vantage, messenger, "call") for vantage in PLACES}
        degraded = 'channel:callpath_channel_status:max{status="degraded"} == 1'
        for vantage in PLACES:
            wait_until(
                lambda v=vantage: (v, messenger, "call") in it.channels(degraded),
                f"{vantage}: calls to be degraded",
                PATIENCE,
            )
            print(f"{vantage}: degraded {full_time(began, time.time())} at full time")
        bad = ("CallDegraded", messenger, "firing")
        sorted_out = ("CallDegradedTargeted", messenger, "firing")
        for vantage, alert in (("client", bad), ("research", sorted_out)):
            wait_until(
                lambda v=vantage, one=alert: any(m.names == {one} for m in it.told(v)),
                f"{vantage}: {alert[0]}",
                PATIENCE,
            )
            print(f"{vantage}: told {full_time(began, it.told(vantage)[-1].at)} at full time")
        # A round in which too few single questions are answered has words of its own.
        wait_until(
            lambda: {vantage: it.words(vantage, messenger) for vantage in PLACES} == WORDS,
            "its mechanism in both vantages",
            PATIENCE,
        )
        (client,), (*before, research) = it.told("client"), it.told("research")
        assert client.receiver == "notice"
        assert text(client) == f"Calls of {messenger} work badly at client."
        assert research.receiver == "page"
        assert text(research) == f"Somebody makes calls of {messenger} bad at research."
        # Relays that miss single questions may tell it sooner than two streams do.
        assert [(m.names, m.receiver) for m in before] in ([], [({bad}, "notice")])

        # Nobody else was told of, nor is anything else not ok, nor was it.
        assert len(it.alertmanager.messages) == len([client, *before, research])
        assert it.channels(FIRING) == calls
        since = f"[{int(time.time() - began) + 1}s]"
        assert it.channels(f"min_over_time({CHANNEL_OK}{since}) == 0") == calls
        online = 'vantage:callpath_vantage_status:max{status="online"}'
        assert not it.prometheus.query(f"min_over_time({online}{since}) == 0")

        # Relays are there, for whoever asks them once.
        asked = f'messenger="{messenger}",channel="call",probe="stun"'
        (share,) = it.prometheus.query(
            f"avg(avg_over_time(callpath_check_success{{{asked}}}{since}))"
        )
        assert share.points[-1][1] > 0.5
        assert all(0.1 < lost < 0.5 for lost in it.lost(messenger, "target"))
        assert max(it.lost(messenger, "control")) < 0.05
