"""The shipped rules, their tests, and what belongs to every alert."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.probes.programs import need

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULE_FILES = sorted(PROMETHEUS.glob("*.rules.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))

RULES: list[dict[str, Any]] = [
    rule
    for file in RULE_FILES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES: list[dict[str, Any]] = [
    case
    for file in TEST_FILES
    for test in yaml.safe_load(file.read_text())["tests"]
    for case in test.get("alert_rule_test", [])
]


def run(program: str, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and everything that was said."""
    command = [need(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    code, said = run("promtool", "check", "rules", "--lint-fatal", *RULE_FILES)
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_rules(file: Path) -> None:
    code, said = run("promtool", "test", "rules", file)
    assert code == 0, said


@pytest.mark.long
@pytest.mark.parametrize(
    ("was", "broken", "file"),
    [
        # a rule that fails instead of saying something wrong
        ("topk without (name) (1,", "topk without (name) (9,", "worlds"),
        ("held == 2", "held == 1", "calls"),
        ("held[10m]", "held[5m]", "calls"),
        ("keep_firing_for: 5m", "keep_firing_for: 0s", "calls"),
        (":max[1d]) unless vantage:", ":max[1d]) and vantage:", "vantage"),
        ("[5m]", "[15s]", "agent"),
        ("worst[22h]", "worst[1h]", "long"),
        ("interference:held[10m]", "interference:held[1m]", "heard"),
        ("known_line[22h]", "known_line[15m]", "heard"),
        ("unless channel:callpath_channel_status:down", "", "heard"),
        ("_streams[5m]) > 0", "_streams[5m]) >= 0", "agent"),
        ("down_ratio > 0.5", "down_ratio > 0", "fleet"),
        ('network!="hosting"', 'network!="none"', "fleet"),
        ("avg by (country, asn,", "avg by (country, asn, vantage,", "fleet"),
        ('channel="call"} == 0', 'channel="call"} >= 0', "fleet"),
        ("silent >= 3", "silent >= 1", "fleet"),
    ],
)
def test_a_broken_rule_is_found(was: str, broken: str, file: str, tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    files = list((tmp_path / "prometheus").glob("*.rules.yml"))
    assert any(was in rules.read_text() for rules in files)
    for rules in files:
        rules.write_text(rules.read_text().replace(was, broken))
    code, said = run("promtool", "test", "rules", tmp_path / "prometheus" / "tests" / f"{file}.yml")
    assert code != 0, said


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"for", "keep_firing_for"} <= set(rule)
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headings == ["What it means", "What to check", "What it cannot know"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_in_one_test_and_must_not_in_another(name: str) -> None:
    cases = [case for case in CASES if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in cases), "it fires"
    assert any(not case["exp_alerts"] for case in cases), "it does not"
    for case in cases:
        for expected in case["exp_alerts"]:
            assert expected["exp_labels"]["vantage"], "whose it is"


def test_there_is_a_page_and_a_row_for_every_alert_and_no_other() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == set(ALERTS)
    table = (ROOT / "docs" / "alerts.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", table, re.MULTILINE)
    assert rows == [(name, name, rule["labels"]["severity"]) for name, rule in ALERTS.items()]


RECORDED = {rule["record"] for rule in RULES if "record" in rule}
RECORDED_NAME = re.compile(r"\b[a-z]+:callpath_[a-z_]+:[a-z0-9_]+")


def test_what_the_documentation_names_exists() -> None:
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = file.read_text()
        assert set(RECORDED_NAME.findall(text)) <= RECORDED, file
        named = set(re.findall(r"\bCallpath[A-Z]\w+", text)) - {"CallpathVantage"}
        assert named <= set(ALERTS), file


def test_every_alert_reads_a_recorded_series() -> None:
    """Raw series have no vantage of their own."""
    for name, rule in ALERTS.items():
        named = set(RECORDED_NAME.findall(rule["expr"]))
        assert named, name
        assert named <= RECORDED, name
        assert not re.search(r"(?<![:\w])callpath_", rule["expr"]), name


@pytest.mark.parametrize(
    ("file", "arguments"), [("prometheus.yml", ()), ("vantage.yml", ("--agent",))]
)
def test_prometheus_takes_the_examples(file: str, arguments: tuple[str, ...]) -> None:
    code, said = run("promtool", "check", "config", *arguments, PROMETHEUS / file)
    assert code == 0, said


# --- Alertmanager ----------------------------------------------------------------------------


def test_alertmanager_takes_its_configuration() -> None:
    code, said = run("amtool", "check-config", ALERTMANAGER)
    assert code == 0, said


@pytest.mark.parametrize("name", ALERTS)
def test_who_is_told(name: str) -> None:
    severity = ALERTS[name]["labels"]["severity"]
    receiver = "page" if severity == "critical" else "notice"
    labels = [f"alertname={name}", f"severity={severity}", "vantage=home"]
    code, said = run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER}",
        f"--verify.receivers={receiver}",
        *labels,
    )
    assert code == 0, said


def muted(source: dict[str, str], target: dict[str, str]) -> bool:
    """Does one alert mute the other, by Alertmanager's rules? Labels absent on both are equal."""
    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(name, "") == target.get(name, "") for name in rule.get("equal", []))
        for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]
    )


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    for matcher in matchers:
        parts = re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', matcher)
        assert parts is not None, f"not a matcher: {matcher}"
        name, operator, value = parts.groups()
        held = labels.get(name, "")
        met = re.fullmatch(value, held) is not None if operator == "=~" else held == value
        if met is (operator == "!="):
            return False
    return True


def alert(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": f"Callpath{name}", "vantage": "home", **labels}


CALL = {"messenger": "telegram", "channel": "call"}
COUNTRY = {"vantage": "all", "country": "RU"}


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        (alert("CallDownChatUp", **CALL), alert("CallDown", **CALL), True),
        (alert("CallDownChatUp", **CALL), alert("CallDegraded", **CALL), False),
        (alert("CallDown", **CALL), alert("CallDegraded", **CALL), True),
        (alert("CallDown", **CALL), alert("CallDownChatUp", **CALL), False),
        (alert("CallDegradedTargeted", **CALL), alert("CallDegraded", **CALL), True),
        (
            alert("CallDegradedTargeted", **CALL),
            alert("CallDegraded", messenger="whatsapp", channel="call"),
            False,
        ),
        (alert("CallDegradedTargeted", **CALL), alert("NetworkDegraded"), False),
        (alert("CallDown", **CALL), alert("CallDegradedTargeted", **CALL), False),
        (alert("NetworkDegraded"), alert("CallDegraded", **CALL), True),
        (alert("NetworkDegraded"), alert("CallDegraded", **CALL, vantage="office"), False),
        (alert("NetworkDegraded"), alert("CallDegradedTargeted", **CALL), False),
        (alert("NetworkDegraded", vantage=""), alert("CallDegraded", **CALL, vantage=""), False),
        (alert("VantageOffline"), alert("NetworkDegraded"), True),
        (alert("VantageOffline"), alert("CallDegradedTargeted", **CALL), True),
        (alert("CallDownChatUp", **CALL), alert("CallDown", **CALL, vantage="office"), False),
        (
            alert("CallDownChatUp", **CALL),
            alert("CallDown", messenger="whatsapp", channel="call"),
            False,
        ),
        (alert("VantageOffline"), alert("CallDownChatUp", **CALL), True),
        (alert("VantagePortal"), alert("ChannelBlind", **CALL), True),
        (alert("VantageFaulty"), alert("DnsTrouble", messenger="telegram"), True),
        (alert("VantageTunnelled"), alert("CallDown", **CALL, vantage="office"), False),
        (alert("VantageOffline"), alert("StorageUnhealthy"), False),
        (alert("VantageOffline"), alert("AgentSilent"), False),
        (alert("VantageOffline", vantage=""), alert("CallDown", **CALL, vantage=""), False),
        (alert("AgentSilent"), alert("VantageOffline"), True),
        (alert("AgentSilent"), alert("CallDown", **CALL), True),
        (alert("AgentSilent"), alert("CallDown", **CALL, vantage="office"), False),
        (alert("AgentSilent"), alert("AllSilent", vantage="all"), False),
        (alert("AgentSilent", vantage=""), alert("CallDown", vantage=""), False),
        (alert("AllSilent", vantage="all"), alert("AgentSilent"), True),
        (alert("AllSilent", vantage="all"), {"alertname": "DiskFull"}, False),
        (alert("AllSilent", vantage="all"), alert("CountrySilent", **COUNTRY), False),
        (alert("AgentSilent"), alert("CountrySilent", **COUNTRY), False),
        (
            alert("CountryCallDownOthersFine", **COUNTRY, **CALL),
            alert("CountryCallDown", **COUNTRY, **CALL),
            True,
        ),
        (
            alert("CountryCallDownOthersFine", **COUNTRY, **CALL),
            alert("CountryCallDown", vantage="all", country="DE", **CALL),
            False,
        ),
        (alert("StorageUnhealthy"), alert("CallDown", **CALL), False),
    ],
)
def test_which_alert_mutes_which(
    source: dict[str, str], target: dict[str, str], wanted: bool
) -> None:
    assert muted(source, target) is wanted


def test_what_mutes_is_there_before_the_message_goes_out() -> None:
    """Alertmanager looks for what mutes an alert when its group has waited.

    Of a silent agent no alert begins, so what its silence mutes was there before.
    """
    for source, rule in ALERTS.items():
        if source != "CallpathAgentSilent":
            for target in set(ALERTS) if source != "CallpathAllSilent" else {"CallpathAgentSilent"}:
                if muted({"alertname": source, "vantage": "v", **CALL}, _labels(target)):
                    late = seconds(rule["for"]) - seconds(ALERTS[target]["for"])
                    assert late <= 0, f"{source} comes after {target}"
    wait = seconds(yaml.safe_load(ALERTMANAGER.read_text())["route"]["group_wait"])
    assert wait >= 3 * 15, "three evaluations"


def test_the_end_of_what_is_muted_is_muted_as_well() -> None:
    """Or a message would tell the end of what nobody was told of."""
    keep = {name: seconds(rule["keep_firing_for"]) for name, rule in ALERTS.items()}
    route = yaml.safe_load(ALERTMANAGER.read_text())["route"]
    longer = keep["CallpathCallDownChatUp"] - keep["CallpathCallDown"]
    assert longer >= seconds(route["group_interval"]) + 3 * 15
    # Except here: who was told of bad calls before more was known of them is told of the end.
    for more in ("CallDown", "CallDegradedTargeted", "NetworkDegraded"):
        assert keep["CallpathCallDegraded"] == keep[f"Callpath{more}"]
        assert list(ALERTS).index("CallpathCallDegraded") < list(ALERTS).index(f"Callpath{more}")


def _labels(name: str) -> dict[str, str]:
    about_messenger = "messenger" in str(ALERTS[name]["annotations"])
    return {"alertname": name, "vantage": "v", **(CALL if about_messenger else {})}


def seconds(duration: str) -> int:
    count, unit = duration[:-1], duration[-1]
    return int(count) * {"s": 1, "m": 60, "h": 3600}[unit]
