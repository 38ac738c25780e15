"""From a dropped packet to the message: agent, Prometheus, Alertmanager and a webhook, all real.

The shipped rules and the shipped Alertmanager configuration, ten times as fast as everything else
here is. The tests share one agent; each begins with everything ok and no alert.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab import alertmanager, prometheus
from tests.lab.alertmanager import RULES, Alertmanager, Message, faster, faster_rules
from tests.lab.lab import Lab
from tests.lab.prometheus import Prometheus
from tests.lab.skipping import require_lab
from tests.lab.test_agent import (
    FACTOR,
    INTERVAL,
    PATIENCE,
    all_ok,
    becomes,
    everything_answers,
    rounds_of,
    running_agent,
    statuses,
    vantage,
)
from tests.lab.world import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

FIRING = 'ALERTS{alertstate="firing"}'


class Stage:
    """An agent and those who watch it."""

    def __init__(self, lab: Lab, directory: Path, **sections: Any) -> None:
        self.lab, self.directory, self.sections = lab, directory, sections
        self.calibration = []
        for messenger in ("telegram", "whatsapp"):
            file = directory / f"{messenger}.json"
            file.write_text(json.dumps(everything_answers(lab, messenger)))
            self.calibration.append(str(file))
        self.rules = directory / "callpath.rules.yml"
        self.rules.write_text(faster_rules(RULES.read_text(), FACTOR))
        self.agent: Any
        self.prometheus: Prometheus
        self.alertmanager: Alertmanager
        self._told = 0
        self._agent = ExitStack()
        self._cleanup = ExitStack()

    def __enter__(self) -> Stage:
        with ExitStack() as undo:
            undo.callback(lambda: self._agent.close())
            self.start_agent()
            self.alertmanager = undo.enter_context(Alertmanager(self.lab.world, FACTOR))
            self.prometheus = undo.enter_context(
                Prometheus(
                    self.lab.world,
                    rules=self.rules,
                    alerts=alertmanager.LISTEN,
                    lookback=300 / FACTOR,
                )
            )
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._cleanup.close()

    def start_agent(self) -> None:
        self._agent.close()
        sections = {"calibration": self.calibration, **self.sections}
        running = running_agent(self.lab, self.directory, **sections)
        self.agent = self._agent.enter_context(running)

    @property
    def messages(self) -> list[Message]:
        return self.alertmanager.messages

    def quiet(self) -> None:
        """Wait until everything is ok and no alert is left; then forget what was said so far."""
        becomes(self.prometheus, all_ok, "everything to be ok", PATIENCE)
        wait_until(lambda: not self.prometheus.query(FIRING), "no alert", PATIENCE)
        self.messages.clear()
        self._told = 0

    def told(self, status: str) -> Message:
        """The next message that was not looked at, which has this status."""
        wait_until(lambda: self.messages[self._told :], f"a message: {status}", PATIENCE)
        message = self.messages[self._told]
        self._told += 1
        assert message.status == status, self.messages
        return message

    def rounds(self, count: int) -> None:
        """Let rounds pass."""
        began = rounds_of(self.prometheus, "telegram")
        wait_until(
            lambda: rounds_of(self.prometheus, "telegram") >= began + count, "rounds", PATIENCE
        )


@pytest.fixture(scope="module")
def running_stage(running_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    require_lab(*prometheus.PROGRAMS, *alertmanager.PROGRAMS)
    running_lab.restore()
    with Stage(running_lab, tmp_path_factory.mktemp("alerts")) as stage:
        yield stage


@pytest.fixture
def stage(running_stage: Stage, lab: Lab) -> Stage:
    running_stage.quiet()
    return running_stage


def text(message: Message) -> str:
    (alert,) = message.alerts
    return str(alert["annotations"]["summary"])


def full_time(since: float, until: float) -> str:
    return f"{(until - since) * FACTOR:.0f} s"


def test_everything_works_and_nobody_is_told(stage: Stage) -> None:
    stage.rounds(3)
    assert stage.prometheus.query("ALERTS") == []
    assert stage.messages == []
    # Every rule has found what it reads; an alert that reads nothing is silent as well.
    for recorded in (
        "channel:callpath_channel_status:held",
        "messenger:callpath_check_success:avg_dns",
    ):
        assert {s.labels["vantage"] for s in stage.prometheus.query(recorded)} == {"lab"}


def block_calls(stage: Stage, messenger: str) -> Message:
    """Drop UDP to the relays; the message about it, which is the right one."""
    began, rounds = time.time(), rounds_of(stage.prometheus, messenger)
    stage.lab.world.rules.add("drop", **stage.lab.call_relays(messenger))
    becomes(
        stage.prometheus,
        lambda now: now[(messenger, "call")] == "blocked",
        f"{messenger}'s calls to be blocked",
        PATIENCE,
    )
    state = time.time()
    fired = stage.told("firing")
    took = rounds_of(stage.prometheus, messenger) - rounds
    print(
        f"{messenger} blocked: state {full_time(began, state)},"
        f" alert {full_time(began, fired.at)}, {took:.0f} rounds; all at full time"
    )
    assert fired.names == {("CallDownChatUp", messenger, "firing")}
    assert fired.receiver == "page"
    assert text(fired) == f"Calls of {messenger} do not work at lab, while its chat does."
    return fired


def test_calls_are_blocked_and_the_one_alert_says_so(stage: Stage) -> None:
    fired = block_calls(stage, "telegram")
    stage.rounds(4)  # until CallpathCallDegraded stands as well, and is muted
    lifted = time.time()
    stage.lab.world.rules.clear()
    becomes(stage.prometheus, all_ok, "Telegram's calls to be back", PATIENCE)
    state = time.time()
    ended = stage.told("resolved")
    print(
        f"telegram lifted: state {full_time(lifted, state)},"
        f" resolved {full_time(lifted, ended.at)}; all at full time"
    )
    assert ended.names == {("CallDownChatUp", "telegram", "resolved")}
    assert stage.messages == [fired, ended], "and nobody was told anything else"


@pytest.mark.long
def test_calls_are_blocked_and_then_the_line_goes_dark(stage: Stage) -> None:
    """What was known is held, muted, and its end is told when somebody has seen it."""
    blocked = block_calls(stage, "whatsapp")
    stage.lab.world.rules.cut()
    dark = stage.told("firing")
    assert dark.names == {("VantageOffline", "", "firing")}
    stage.rounds(1)
    held = stage.prometheus.query(f'{FIRING[:-1]},alertname="CallpathCallDownChatUp"}}')
    assert [s.labels["messenger"] for s in held] == ["whatsapp"]
    assert statuses(stage.prometheus)[("whatsapp", "call")] == "unknown"

    stage.lab.world.rules.clear()
    light, ended = stage.told("resolved"), stage.told("resolved")
    assert light.names == {("VantageOffline", "", "resolved")}
    assert ended.names == {("CallDownChatUp", "whatsapp", "resolved")}
    assert stage.messages == [blocked, dark, light, ended]


def test_the_uplink_is_cut_and_only_the_vantage_is_news(stage: Stage) -> None:
    began = time.time()
    stage.lab.world.rules.cut()
    becomes(
        stage.prometheus,
        lambda now: set(now.values()) == {"unknown"},
        "everything to be unknown",
        PATIENCE,
    )
    state = time.time()
    assert vantage(stage.prometheus) == ["offline"]
    fired = stage.told("firing")
    print(f"cut: state {full_time(began, state)}, alert {full_time(began, fired.at)} at full time")
    assert fired.names == {("VantageOffline", "", "firing")}
    assert fired.receiver == "notice"
    assert text(fired) == "The line at lab is offline."
    time.sleep(6 * INTERVAL)  # longer than any alert about names or calls takes

    stage.lab.world.rules.clear()
    ended = stage.told("resolved")
    assert ended.names == {("VantageOffline", "", "resolved")}
    becomes(stage.prometheus, all_ok, "everything to be back", PATIENCE)
    stage.rounds(2)
    assert stage.messages == [fired, ended]


def test_the_agent_is_killed_and_its_silence_is_news(stage: Stage) -> None:
    began = time.time()
    stage.agent.kill()
    stage.agent.wait()
    fired = stage.told("firing")
    print(f"killed: alert {full_time(began, fired.at)} at full time")
    assert fired.names == {("AgentSilent", "", "firing")}
    assert text(fired) == "The callpath agent at lab is silent."
    assert statuses(stage.prometheus) == {}

    stage.start_agent()
    ended = stage.told("resolved")
    assert ended.names == {("AgentSilent", "", "resolved")}
    becomes(stage.prometheus, all_ok, "everything to be back", PATIENCE)
    assert stage.messages == [fired, ended]


def test_every_duration_of_the_rules_is_divided() -> None:
    text = RULES.read_text()
    quick = faster_rules(text, FACTOR)
    assert faster("1m", 10) == "6000ms"
    assert "[30000ms]" in quick
    assert "for: 6000ms" in quick
    assert not [part for part in ("[5m]", "for: 1m", "interval: 15s") if part in quick]
