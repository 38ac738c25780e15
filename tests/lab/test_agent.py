"""The agent in the simulated internet, with the shipped catalogue unchanged and a real Prometheus.

One time factor of ten: rounds every 6 seconds instead of 60, everything else with it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config import CATALOGUE_VERSION
from tests.lab.lab import Lab
from tests.lab.path import Loss
from tests.lab.prometheus import Prometheus, check_metrics
from tests.lab.skipping import require_lab
from tests.lab.world import CLIENT_V4, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

FACTOR = 10
INTERVAL = 60 / FACTOR
ROUNDS_TO_ENTER = 5
"""Rounds that may end until a state is entered: three bad ones, the one that the change fell into,
and the one that the last scrape fell into. At the default schedule the first four of them take less
than the design's four minutes."""
PATIENCE = 240
"""Seconds that a test waits for what must come; how soon it came is counted in rounds."""

DRESSES = {
    "stun": ["bare"],
    "turn": [""],
    "dtls": ["openssl", "browser"],
    "dns": [""],
    "reflector": [""],
}

Statuses = dict[tuple[str, str], str]


@contextmanager
def running_agent(lab: Lab, directory: Path, *arguments: str, **sections: Any) -> Iterator[Any]:
    file = lab.configuration(directory, INTERVAL, **sections)
    command = ["run", "--yes", "--config", str(file), *arguments]
    with (directory / "agent.log").open("a") as log:
        process = lab.agent(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            assert process.wait(30) == 0, "SIGTERM drains and exits 0"
    text = (directory / "agent.log").read_text()
    assert "Traceback" not in text, text


def statuses(prometheus: Prometheus) -> Statuses:
    found = prometheus.query("callpath_channel_status == 1")
    return {(s.labels["messenger"], s.labels["channel"]): s.labels["status"] for s in found}


def rounds_of(prometheus: Prometheus, messenger: str) -> float:
    """Rounds of a messenger that have ended."""
    (series,) = prometheus.query(f'callpath_rounds_total{{messenger="{messenger}"}}')
    return series.points[-1][1]


def vantage(prometheus: Prometheus) -> list[str]:
    return [s.labels["status"] for s in prometheus.query("callpath_vantage_status == 1")]


def becomes(
    prometheus: Prometheus, wanted: Callable[[Statuses], bool], what: str, seconds: float
) -> Statuses:
    def look() -> Statuses | None:
        now = statuses(prometheus)
        return now if now and wanted(now) else None

    return wait_until(look, what, seconds)


def all_ok(now: Statuses) -> bool:
    return set(now.values()) == {"ok"}


def others_stay_ok(prometheus: Prometheus, since: float, *but: tuple[str, str]) -> None:
    """No other channel left ok at any scrape since then."""
    window = f"[{int(time.time() - since) + 1}s]"
    left = prometheus.query(f'min_over_time(callpath_channel_status{{status="ok"}}{window}) == 0')
    found = {(s.labels["messenger"], s.labels["channel"]) for s in left}
    assert found <= set(but), f"left ok beside {but}: {found}"


def checked(lab: Lab, directory: Path, *arguments: str, **sections: Any) -> tuple[int, Any]:
    """Exit code and document of one ``callpath check --json``."""
    file = lab.configuration(directory, **sections)
    process = lab.agent(
        ["check", "--json", "--config", str(file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=100)
    assert "Traceback" not in err, err
    return process.returncode, json.loads(out)


def everything_answers(lab: Lab, messenger: str) -> dict[str, Any]:
    """A calibration file as an open network would write it for one messenger's call relays."""
    return {
        "version": 1,
        "catalogue": CATALOGUE_VERSION,
        "network": "fixed",
        "at": datetime.now(UTC).isoformat(),
        "targets": [
            {
                "messenger": messenger,
                "target": target.name,
                "probe": target.probe,
                "dress": dress,
                "asked": 12,
                "answered": 12,
                "last_answered": datetime.now(UTC).date().isoformat(),
            }
            for target in lab.catalogue.select(messenger=messenger, channel="call")
            for dress in DRESSES[target.probe]
            if "app" not in target.name
        ],
    }


def by_channel(document: Any) -> dict[tuple[str, str], Any]:
    return {(c["messenger"], c["channel"]): c for c in document["channels"]}


@pytest.mark.long
def test_whatsapps_relays_earn_their_trust_and_their_block_shows(lab: Lab, tmp_path: Path) -> None:
    require_lab("prometheus")
    with running_agent(lab, tmp_path), Prometheus(lab.world) as prometheus:
        # The relays are unproven: they decide only once ten runs were answered.
        first = becomes(
            prometheus,
            lambda now: all(
                status == "ok" for key, status in now.items() if key != ("whatsapp", "call")
            ),
            "everything but WhatsApp's calls to be ok",
            PATIENCE,
        )
        assert first[("whatsapp", "call")] in ("unknown", "ok")
        becomes(prometheus, all_ok, "WhatsApp's relays to earn their trust", PATIENCE)
        drop_and_lift(lab, prometheus, "whatsapp")


def drop_and_lift(lab: Lab, prometheus: Prometheus, messenger: str) -> None:
    """UDP to the call relays of one messenger is dropped: its calls leave ok in the design's time,
    and nothing else does; lifted, they are back."""
    call = (messenger, "call")
    began, rounds = time.time(), rounds_of(prometheus, messenger)
    rule = lab.world.rules.add("drop", **lab.call_relays(messenger))
    becomes(prometheus, lambda now: now[call] != "ok", f"{messenger}'s calls to leave ok", PATIENCE)
    took = rounds_of(prometheus, messenger) - rounds
    print(f"{messenger}: {took:.0f} rounds, {(time.time() - began) * FACTOR:.0f} s at full time")
    assert took <= ROUNDS_TO_ENTER
    # Dropped in the middle of a round, they are degraded first.
    becomes(
        prometheus,
        lambda now: now[call] == "blocked",
        f"{messenger}'s calls to be blocked",
        PATIENCE,
    )
    assert rounds_of(prometheus, messenger) - rounds <= ROUNDS_TO_ENTER + 2
    assert lab.world.rules.hits(rule) > 0
    others_stay_ok(prometheus, began, call)
    lab.world.rules.clear()
    becomes(prometheus, all_ok, f"{messenger}'s calls to be back", PATIENCE)


def test_telegrams_call_block_shows_and_a_dead_line_accuses_nobody(
    lab: Lab, tmp_path: Path
) -> None:
    require_lab("prometheus")
    calibration = tmp_path / "calibration.json"
    calibration.write_text(json.dumps(everything_answers(lab, "whatsapp")))
    with (
        running_agent(lab, tmp_path, calibration=[str(calibration)]) as agent,
        Prometheus(lab.world) as prometheus,
    ):
        becomes(prometheus, all_ok, "everything to be ok", PATIENCE)
        drop_and_lift(lab, prometheus, "telegram")

        # Half a minute of nothing at all, at the default schedule: nobody is accused.
        began = time.time()
        lab.world.rules.cut()
        time.sleep(30 / FACTOR)
        lab.world.rules.clear()
        time.sleep(3 * INTERVAL)
        others_stay_ok(prometheus, began)

        lab.world.rules.cut()
        becomes(
            prometheus,
            lambda now: set(now.values()) == {"unknown"},
            "everything to be unknown",
            PATIENCE,
        )
        assert vantage(prometheus) == ["offline"]
        lab.world.rules.clear()
        becomes(prometheus, all_ok, "everything to be back", PATIENCE)

        page = lab.world.call(_fetch, "/metrics")
        assert check_metrics(page) == ""
        with pytest.raises(AssertionError):  # the test of the leak test
            _leaks_nothing(f"x {CLIENT_V4} y", CLIENT_V4)
        for path in ("/metrics", "/", "/api/v1/status"):
            _leaks_nothing(lab.world.call(_fetch, path), CLIENT_V4)
        assert agent.poll() is None
    _leaks_nothing((tmp_path / "agent.log").read_text(), CLIENT_V4)
    store = b"".join(f.read_bytes() for f in (tmp_path / "state").iterdir())
    assert CLIENT_V4.encode() not in store


def test_no_output_of_check_tells_the_vantages_address(lab: Lab, tmp_path: Path) -> None:
    file = lab.configuration(tmp_path)
    for arguments in (["check"], ["check", "--json"], ["probe", "stun", "telegram/call-eu-1"]):
        process = lab.agent(
            [*arguments, "--config", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _ = process.communicate(timeout=100)
        assert "call-eu-1" in output or "telegram" in output
        _leaks_nothing(output, CLIENT_V4)


def test_killed_at_any_moment_it_goes_on_with_what_was_confirmed(lab: Lab, tmp_path: Path) -> None:
    require_lab("prometheus")
    with Prometheus(lab.world) as prometheus:
        with running_agent(lab, tmp_path) as agent:
            becomes(
                prometheus,
                lambda now: now.get(("telegram", "call")) == "ok",
                "Telegram's calls to be ok",
                PATIENCE,
            )
            lab.world.rules.add("drop", **lab.call_relays("telegram"))
            becomes(
                prometheus,
                lambda now: now[("telegram", "call")] == "blocked",
                "Telegram's calls to be blocked",
                PATIENCE,
            )
            agent.kill()
            agent.wait()
        with running_agent(lab, tmp_path):
            log = tmp_path / "agent.log"
            wait_until(lambda: log.read_text().count("listens on") == 2, "the agent to be back", 20)
            document = json.loads(wait_until(lambda: _status(lab), "its first round", 20))
            shown = by_channel(document)[("telegram", "call")]
            assert shown["status"] == "blocked", "the confirmed state survives"
            assert shown["since"] is not None


def test_seventy_percent_loss_is_never_ok(lab: Lab, tmp_path: Path) -> None:
    """Seven tries would be answered 92 times in a hundred; here every packet counts."""
    require_lab("prometheus")
    # 70 % of round trips: each direction loses 1 - sqrt(0.3).
    relays = lab.call_relays("telegram")
    with running_agent(lab, tmp_path), Prometheus(lab.world) as prometheus:
        becomes(
            prometheus,
            lambda now: now.get(("telegram", "call")) == "ok",
            "Telegram's calls to be ok",
            PATIENCE,
        )
        lab.world.rules.add("loss", **relays, loss=Loss(1 - 0.3**0.5, seed=7))
        becomes(
            prometheus,
            lambda now: now[("telegram", "call")] in ("degraded", "unreachable", "blocked"),
            "Telegram's calls to leave ok",
            PATIENCE,
        )
        # Over UDP only: over TCP the kernel repeats what is lost.
        relays_only = 'messenger="telegram",channel="call",probe=~"stun|turn",target!~".*tcp"'

        def counts() -> list[float]:
            """Failed and all runs so far. Not by increase(): that misses a series' first step."""
            names = ("callpath_check_failures_total", "callpath_check_runs_total")
            answers = [prometheus.query(f"sum({name}{{{relays_only}}})") for name in names]
            return [answer[0].points[-1][1] if answer else 0.0 for answer in answers]

        began, before = time.time(), counts()
        time.sleep(15 * INTERVAL)
        window = f"[{int(time.time() - began)}s]"
        ever_ok = prometheus.query(
            f'max_over_time(callpath_channel_status{{messenger="telegram",channel="call",status="ok"}}{window})'
        )
        assert [s.points[-1][1] for s in ever_ok] == [0.0]
        failed, ran = (after - before for before, after in zip(before, counts(), strict=True))
        assert failed / ran > 0.75, "fewer than a quarter of the runs work"
    document = checked(lab, tmp_path)[1]
    lossy = {o["failure"] for o in document["observations"] if o["probe"] == "stun"}
    assert "lossy" in lossy


def test_started_inside_the_block_it_says_that_it_is_blind(lab: Lab, tmp_path: Path) -> None:
    for messenger in ("whatsapp", "telegram"):
        lab.world.rules.add("drop", **lab.call_relays(messenger))
    code, document = checked(lab, tmp_path)
    channels = by_channel(document)
    for messenger in ("whatsapp", "telegram"):
        call = channels[(messenger, "call")]
        assert (call["status"], call["reason"]) == ("unknown", "uncalibrated")
        assert channels[(messenger, "chat")]["status"] == "ok"
    assert code == 0
    calibration = tmp_path / "open-network.json"
    calibration.write_text(json.dumps(everything_answers(lab, "telegram")))
    code, document = checked(lab, tmp_path, calibration=[str(calibration)])
    channels = by_channel(document)
    assert channels[("telegram", "call")]["status"] == "blocked"
    assert channels[("whatsapp", "call")]["reason"] == "uncalibrated"
    assert code == 1


def test_one_dead_relay_of_many_leaves_the_channel_ok(lab: Lab, tmp_path: Path) -> None:
    assert checked(lab, tmp_path)[0] == 0
    lab.world.rules.add("drop", protocol="udp", remote=("91.108.9.35/32",))
    code, document = checked(lab, tmp_path)
    call = by_channel(document)[("telegram", "call")]
    assert call["status"] == "ok"
    dead = {t["target"] for t in call["target_states"] if t["works"] is False}
    assert "call-eu-1" in dead
    assert code == 0


def test_ipv6_absent_here_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    _, document = checked(lab, tmp_path)
    assert {o["facts"].get("family") for o in document["observations"]} <= {"ipv4", None}
    six = [
        t
        for c in document["channels"]
        for t in c["target_states"]
        if t["target"].endswith("-v6") or ":" in (t["address"] or "")
    ]
    assert six
    assert all(t["works"] is None for t in six), "not measured, never failed"


def test_with_ipv6_its_addresses_are_measured_beside_the_others(tmp_path: Path) -> None:
    require_lab()
    with Lab(ipv6=True) as lab:
        _, document = checked(lab, tmp_path)
        six = [o for o in document["observations"] if o["facts"].get("family") == "ipv6"]
        assert {o["messenger"] for o in six} == {"control", "whatsapp", "telegram"}
        assert [o for o in six if not o["works"] and o["probe"] != "dtls"] == []
        # One family gone behind the line: a control class is dead, and accuses nobody.
        lab.world.rules.add("drop", family=6)
        code, document = checked(lab, tmp_path)
        assert {c["status"] for c in document["channels"]} <= {"ok", "unknown"}
        assert document["vantage"]["status"] == "online"
        assert code == 0


def test_the_uplink_cut_is_exit_3_and_everything_unknown(lab: Lab, tmp_path: Path) -> None:
    lab.world.rules.cut()
    code, document = checked(lab, tmp_path)
    assert document["vantage"]["status"] == "offline"
    assert {c["status"] for c in document["channels"]} == {"unknown"}
    assert code == 3


@pytest.mark.parametrize("lie", ["127.0.0.1", "169.254.169.254", "10.11.12.13"])
def test_a_lying_resolver_is_never_believed(lab: Lab, tmp_path: Path, lie: str) -> None:
    lab.servers.lie("web.whatsapp.com", lie)
    _, document = checked(lab, tmp_path, "whatsapp")
    seen = [
        o
        for o in document["observations"]
        if o["target"].startswith("web") and o["probe"] in ("https", "tls")
    ]
    assert seen
    lied_to = [o for o in seen if o["facts"].get("address") == lie]
    assert lied_to
    for o in lied_to:
        assert (o["failed_step"], o["failure"]) == ("resolve", "bad_answer")
        assert [s["step"] for s in o["steps"]] == ["resolve"], "never connected to"


def test_paused_stops_all_sending(lab: Lab, tmp_path: Path) -> None:
    with running_agent(lab, tmp_path):
        wait_until(lambda: lab.world.rules.packets() > 200, "packets to flow", 20)
        (tmp_path / "state").mkdir(exist_ok=True)
        (tmp_path / "state" / "paused").touch()
        time.sleep(1.5)  # within a second, and what is on the way arrives
        before = lab.world.rules.packets()
        time.sleep(2 * INTERVAL)
        assert lab.world.rules.packets() - before <= 4, "late answers and resets at most"
        (tmp_path / "state" / "paused").unlink()
        wait_until(
            lambda: lab.world.rules.packets() > before + 100, "packets to flow again", 4 * INTERVAL
        )


def _fetch(path: str) -> str:
    """A page of the agent. Raises OSError while it does not serve one."""
    with closing(http.client.HTTPConnection("127.0.0.1:22550", timeout=5)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    if answer.status != 200:
        raise OSError(body)
    return body


def _status(lab: Lab) -> str | None:
    try:
        return lab.world.call(_fetch, "/api/v1/status")
    except OSError:
        return None


def _leaks_nothing(text: str, address: str) -> None:
    assert address
    assert address not in text, "the vantage's own address is in an output"
