"""The command line: usage errors, exit codes, options. Nothing here sends a packet."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from agent import byhand, check, wiring
from agent.byhand import UsageProblem, parse_options
from agent.check import exit_code, run_check
from agent.cli import app
from agent.core import Core
from config.loader import load
from probes.measure import Measured
from probes.model import Diagnosis, Failure, Family, Report, Status, Vantage, VantageStatus
from tests.agent.building import FakeStun, World, configuration, control, messenger, seen, target

runner = CliRunner()


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "callpath"


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test of this file does, nothing is measured."""

    async def measure(*arguments: Any, **given: Any) -> Measured:
        raise AssertionError("a packet was about to leave")

    monkeypatch.setattr(byhand, "measure", measure)
    monkeypatch.setattr("agent.rounds.measure", measure)


def called(*arguments: str) -> tuple[int, str, str]:
    result = runner.invoke(app, list(arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# --- usage and configuration -----------------------------------------------------------------

FIVE = """\
messengers: [telegram, nosuch]
schedule: {interval: 60}
state: {enter: 0}
web: {listen: "0.0.0.0:22550"}
vantage: {colour: red}
"""


@pytest.mark.parametrize(
    "command",
    [
        ("config", "check", "FILE"),
        *(
            (name, "--config", "FILE")
            for name in ("run", "check", "calibrate", "messengers", "healthcheck")
        ),
        ("probe", "tcp", "127.0.0.1:1", "--config", "FILE"),
        ("outside", "publish", "nowhere.json", "--config", "FILE"),
    ],
)
def test_five_mistakes_are_five_lines_and_exit_2(tmp_path, command):
    file = tmp_path / "callpath.yaml"
    file.write_text(FIVE)
    code, out, err = called(*(str(file) if word == "FILE" else word for word in command))
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 5
    found = {(line.split(":")[1], line.split(": ")[1]) for line in lines}
    assert found == {
        ("1", "messengers[1]"),
        ("2", "schedule.interval"),
        ("3", "state.enter"),
        ("4", "web.listen"),
        ("5", "vantage.colour"),
    }
    assert all(line.startswith(str(file)) for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("check", "--nosuch"),
        ("check", "signal-that-is-not-there"),
        ("run", "--config", "/nosuch/file.yaml"),
        ("config", "check", "/nosuch/file.yaml"),
        ("config", "nosuch"),
        ("probe",),
        ("probe", "tcp"),
        ("probe", "nosuch", "127.0.0.1:1"),
        ("probe", "tcp", "127.0.0.1"),
        ("probe", "tcp", "127.0.0.1:0"),
        ("probe", "tcp", "127.0.0.1:65536"),
        ("probe", "tcp", "127.0.0.1:\N{SUPERSCRIPT TWO}"),
        ("probe", "tcp", "a..b:443"),
        ("probe", "tcp", "[::1:443"),
        ("probe", "tcp", "-:443"),
        ("probe", "tcp", ":443"),
        ("probe", "tcp", "127.0.0.1:1", "--nosuch", "x"),
        ("probe", "tcp", "127.0.0.1:1", "--family", "ipv5"),
        ("probe", "tcp", "127.0.0.1:1", "--family"),
        ("probe", "tcp", "127.0.0.1:1", "--timeout", "5"),
        ("probe", "tcp", "127.0.0.1:1", "--timeout", "0s"),
        ("probe", "tcp", "example.test:1", "--address", "nonsense"),
        ("probe", "tcp", "127.0.0.1:1", "stray"),
        ("probe", "tcp", "telegram/nosuch"),
        ("probe", "https", "ftp://127.0.0.1/"),
        ("probe", "https", "https://127.0.0.1:99999/"),
        ("probe", "https", "https://[::1/"),
        ("probe", "https", "https://u:p@127.0.0.1/"),
        ("probe", "https", "https://127.0.0.1/", "--expect-status", "abc"),
        ("probe", "https", "https://127.0.0.1/", "--expect-status", "\N{SUPERSCRIPT TWO}"),
        ("probe", "https", "https://127.0.0.1/", "--method", "DELETE"),
        ("probe", "stun", "127.0.0.1:1", "--dress", "tuxedo"),
        ("probe", "stun", "127.0.0.1:1", "--transport", "sctp"),
        ("probe", "dns", "127.0.0.1"),  # without --query
        ("probe", "dns", "127.0.0.1", "--query", "a..b"),
        ("probe", "dns", "127.0.0.1", "--query", "a.test", "--type", "FOO"),
        ("probe", "tls", "127.0.0.1:1", "--server-name", "a..b"),
        ("probe", "https", "127.0.0.1:1", "--url", "ftp://127.0.0.1/"),
        ("probe", "dns", "nosuch-resolver", "--query", "example.test"),
        ("probe", "dns", "quad9/smoke", "--query", "example.test"),
    ],
)
def test_usage_errors_are_exit_2_with_a_sentence(arguments):
    code, out, err = called(*arguments)
    assert (code, out) == (2, "")
    assert err.strip()
    assert "Traceback" not in err


def test_without_a_command_help_is_shown():
    code, out, err = called()
    assert code in (0, 2)
    assert "healthcheck" in out + err


def test_version_names_program_rules_and_catalogue():
    code, out, _ = called("--version")
    assert code == 0
    assert out.startswith(f"callpath {wiring.callpath_version()}, rules ")
    assert "catalogue " in out


def test_config_check_show_and_schema(tmp_path):
    file = tmp_path / "callpath.yaml"
    file.write_text("messengers: [telegram]\nstate: {enter: 4}\n")
    code, out, _ = called("config", "check", str(file))
    assert (code, out.startswith("ok: telegram;")) == (0, True)
    code, out, _ = called("config", "show", str(file))
    assert code == 0
    assert "enter: 4" in out
    code, out, _ = called("config", "schema")
    assert (code, set(json.loads(out))) == (0, {"callpath", "messenger", "controls"})


@pytest.mark.parametrize(("mode", "said"), [(0o600, ""), (0o400, ""), (0o604, "0604")])
def test_a_key_that_others_can_read_is_a_warning(tmp_path, monkeypatch, mode, said):
    key, file = tmp_path / "twin.key", tmp_path / "callpath.yaml"
    key.write_text("ab" * 32)
    key.chmod(mode)
    twin = f"address: 192.0.2.7, key_file: twin.key, tls_sha256: {'ab' * 32}"
    file.write_text(f"twin: {{{twin}}}\n")
    code, out, err = called("config", "check", str(file))
    assert (code, out[:4]) == (0, "ok: ")
    words = f"twin.key_file: {key} has mode {said}: others can read the key, make it 0600\n"
    assert err == (words if said else "")


def test_messengers_lists_every_target_once():
    code, out, _ = called("messengers", "--json")
    rows = json.loads(out)["targets"]
    config = load(None)
    wanted = [t for m in config.messengers for t in m.targets] + list(config.controls)
    assert code == 0
    assert len(rows) == len(wanted)
    assert all(row["port"] or row["host"] for row in rows)
    code, out, _ = called("messengers")
    assert code == 0
    assert f"{len(wanted)} targets" in out


def test_messengers_lists_what_might_be_selected_and_is_not(tmp_path):
    file = tmp_path / "callpath.yaml"
    file.write_text("messengers: [signal, telegram]\n")
    for config, others in ((None, {"signal", "discord"}), (file, {"whatsapp", "discord"})):
        given = ("--config", str(config)) if config else ()
        shown = json.loads(called("messengers", "--json", *given)[1])
        assert others <= set(shown["available"])
        assert not {row["messenger"] for row in shown["targets"]} & set(shown["available"])
        (line,) = [
            line for line in called("messengers", *given)[1].splitlines() if "Available" in line
        ]
        assert line == f"Available, not selected: {', '.join(shown['available'])}."


def test_healthcheck_of_nobody_is_exit_1(tmp_path):
    file = tmp_path / "callpath.yaml"
    file.write_text('web: {listen: "127.0.0.1:9"}\n')
    code, out, err = called("healthcheck", "--config", str(file))
    assert (code, out) == (1, "")
    assert "127.0.0.1:9" in err


# --- options of a probe by hand --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--server-name", "a"], {"server_name": "a"}),
        (["--server-name=a"], {"server_name": "a"}),
        (["--expect-body=a=b"], {"expect_body": "a=b"}),
        (["--a", "--b"], {"a": "--b"}),
        (["--a=", "--b=1"], {"a": "", "b": "1"}),
    ],
)
def test_options(arguments, options):
    assert parse_options(arguments) == options


def test_the_help_of_probe_names_the_fields_of_each():
    _, told, _ = called("probe", "--help")
    assert "--server-name" in told
    assert "--profile" in told


def test_only_a_stream_can_be_watched():
    code, _, told = called("probe", "stun", "127.0.0.1:9", "--watch")
    assert code == 2
    assert "--watch" in told


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--fast"], {"fast": "true"}),
        (["--fast", "--profile", "voip20"], {"fast": "true", "profile": "voip20"}),
        (["--fast", "false"], {"fast": "false"}),
        (["--fast=true"], {"fast": "true"}),
    ],
)
def test_a_yes_needs_no_value(arguments, options):
    assert parse_options(arguments, "media") == options


@pytest.mark.parametrize("arguments", [["a"], ["--a"], ["-a", "b"], ["--a", "b", "c"]])
def test_options_that_are_none(arguments):
    with pytest.raises(UsageProblem):
        parse_options(arguments)


def checked(monkeypatch, kind: str, where: str, config=None, **options: str) -> Any:
    """The check that would be measured."""
    found: list[Any] = []

    async def measure(given: Any, env: Any) -> Measured:
        found.append(given)
        assert env.streams is not None
        return Measured((seen(target()),), (), frozenset())

    monkeypatch.setattr(byhand, "measure", measure)
    config = config or load(None)
    asyncio.run(byhand.probe_once(config, kind, where, options, rfc_timers=False))
    return found[0]


@pytest.mark.parametrize(
    ("where", "host", "port"),
    [
        ("relay.test:3478", "relay.test", 3478),
        ("192.0.2.1:3478", "192.0.2.1", 3478),
        ("[2001:db8::1]:3478", "2001:db8::1", 3478),
        ("https://web.test/", "web.test", 443),
        ("http://web.test:8080/x", "web.test", 8080),
    ],
)
def test_a_place(monkeypatch, where, host, port):
    made = checked(monkeypatch, "stun", where, dress="ice", timeout="2s", family="ipv4")
    assert (made.host, made.port, made.timeout, made.family) == (host, port, 2.0, Family.IPV4)
    assert str(made.probe.dress) == "ice"


def test_https_of_a_place_and_of_a_url(monkeypatch):
    made = checked(monkeypatch, "https", "https://web.test/x", expect_status="200, 204")
    assert (made.probe.url, made.probe.expect_status) == ("https://web.test/x", (200, 204))


def test_a_resolver(monkeypatch):
    made = checked(monkeypatch, "dns", "192.0.2.1:5353", query="a.test", type="AAAA")
    assert (made.host, made.port) == ("192.0.2.1", 5353)
    assert (made.probe.resolver, made.probe.type) == ("192.0.2.1:5353", "AAAA")
    made = checked(monkeypatch, "dns", "quad9/tls", query="a.test")
    assert (made.host, made.port, made.probe.handshake) == ("9.9.9.9", 853, True)


def first(config: Any, kind: str) -> Any:
    everything = (*(t for m in config.messengers for t in m.targets), *config.controls)
    return next(t for t in everything if t.target.probe == kind)


@pytest.mark.parametrize("kind", ["tcp", "tls", "https", "stun", "turn", "dtls"])
def test_a_configured_target_keeps_its_settings_beside_the_options_given(monkeypatch, kind):
    config = load(None)
    known = first(config, kind)
    where = f"{known.target.messenger}/{known.target.name}"
    made = checked(monkeypatch, kind, where, config)
    assert (made.probe, made.host, made.port) == (known.probe, known.host, known.port)
    made = checked(monkeypatch, kind, where, config, timeout="2s")
    assert (made.probe, made.host, made.port) == (known.probe, known.host, known.port)
    assert (made.pinned, made.timeout) == (known.addresses, 2.0)
    assert made.family is known.family
    made = checked(monkeypatch, kind, where, config, address="192.0.2.9")
    assert made.pinned == ("192.0.2.9",)


def test_a_configured_dns_target_with_another_type(monkeypatch):
    config = load(None)
    known = first(config, "dns")
    where = f"{known.target.messenger}/{known.target.name}"
    monkeypatch.setattr(byhand.resolver, "endpoint", lambda env, text: ("192.0.2.53", 53))
    made = checked(monkeypatch, "dns", where, config, type="AAAA")
    assert (made.host, made.port) == ("192.0.2.53", 53)
    assert made.probe == type(known.probe)(known.probe.query, "AAAA", known.probe.resolver)
    with pytest.raises(UsageProblem):
        checked(monkeypatch, "tcp", where, config)


def test_a_configured_target_in_another_way(monkeypatch):
    config = load(None)
    known = first(config, "https")
    where = f"{known.target.messenger}/{known.target.name}"
    made = checked(monkeypatch, "tcp", where, config)
    assert (made.host, made.port) == (known.host, known.port)
    assert made.probe.kind == "tcp"


def test_a_probe_by_hand_that_works_nowhere_is_exit_1(monkeypatch):
    async def measure(given: Any, env: Any) -> Measured:
        return Measured((seen(target("x"), Failure.TIMEOUT),), (), frozenset())

    monkeypatch.setattr(byhand, "measure", measure)
    code, out, _ = called("probe", "tcp", "192.0.2.1:443", "--json")
    document = json.loads(out)
    assert (code, document["version"], document["observations"][0]["works"]) == (1, 1, False)


# --- exit codes of check ---------------------------------------------------------------------

S, V = Status, VantageStatus


@pytest.mark.parametrize(
    ("vantage", "statuses", "code"),
    [
        (V.ONLINE, [S.OK], 0),
        (V.RESTRICTED, [S.OK, S.UNKNOWN], 0),
        (V.ONLINE, [S.OK, S.DEGRADED], 1),
        (V.ONLINE, [S.BLOCKED], 1),
        (V.ONLINE, [S.UNREACHABLE, S.UNKNOWN], 1),
        (V.ONLINE, [S.UNKNOWN, S.UNKNOWN], 3),
        (V.OFFLINE, [S.UNKNOWN], 3),
        (V.PORTAL, [S.UNKNOWN], 3),
        (V.FAULTY, [S.UNKNOWN], 3),
        (V.TUNNELLED, [S.UNKNOWN], 3),
        (V.OFFLINE, [S.OK], 3),
    ],
)
def test_exit_codes(vantage, statuses, code):
    diagnoses = tuple(Diagnosis("m", "call", s, "", "x: y.", 0, 0, 0, 0) for s in statuses)
    assert exit_code(Report(0.0, Vantage("v", vantage, ""), diagnoses)) == code


def test_check_prints_a_table_or_a_document(monkeypatch):
    diagnosis = Diagnosis(
        "telegram", "call", S.DEGRADED, "quorum", "Telegram calls: so.", 1, 2, 2, 3
    )
    report = Report(0.0, Vantage("v", V.ONLINE, "controls answer"), (diagnosis,))

    async def fake(config: Any, names: tuple[str, ...], *, quiet: bool, patient: bool) -> Report:
        assert names == ("telegram",)
        assert not patient
        return report

    monkeypatch.setattr(check, "run_check", fake)
    code, out, _ = called("check", "telegram")
    assert code == 1
    assert "degraded" in out
    assert "1 of 2" in out
    code, out, _ = called("check", "telegram", "--json")
    document = json.loads(out)
    assert (code, document["channels"][0]["status"], document["observations"]) == (
        1,
        "degraded",
        [],
    )


def test_check_says_what_it_had_to_do_without(monkeypatch):
    report = Report(0.0, Vantage("v", V.ONLINE, "so"), (), without="the outside view is not JSON")

    async def fake(*_: Any, **given: Any) -> Report:
        return report

    monkeypatch.setattr(check, "run_check", fake)
    _, out, err = called("check")
    assert ("\nThe outside view is not JSON.\n" in out, err) == (True, "")
    _, out, err = called("check", "--json")
    assert (json.loads(out)["channels"], err) == ([], "the outside view is not JSON\n")


async def test_a_round_by_hand_says_why_nothing_is_known_from_outside(tmp_path):
    config = configuration(
        (messenger(target("a", probe=FakeStun(World()))),),
        (control("c", probe=FakeStun(World()), kind=""),),
        state_dir=str(tmp_path / "state"),
        outside={"file": str(tmp_path / "status.json")},
    )
    report = await run_check(config, ("m",), quiet=True)
    words = "the outside view cannot be read: no such file; it counts as not measured"
    assert report.without == words


async def test_check_with_a_state_folder_that_cannot_be_used(monkeypatch, tmp_path):
    """It says what it saw, remembers nothing, and leaves nothing behind."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    config = configuration(
        (messenger(target("a")),),
        (control("c", probe=FakeStun(World()), kind=""),),
        state_dir=str(tmp_path / "file" / "state"),
    )

    async def fake(core: Core, names: tuple[str, ...]) -> Report:
        assert not core.store.healthy
        return core.report()

    monkeypatch.setattr(check, "one_round", fake)
    assert (await run_check(config, ("m",), quiet=True)).diagnoses
    assert list((tmp_path / "temporary").iterdir()) == []


def test_every_command_of_the_design_is_there():
    group = typer.main.get_command(app)
    assert {*group.commands} == {
        *("run", "check", "probe", "trace", "twin", "calibrate", "messengers", "healthcheck"),
        "config",
        "catalogue",
        "evidence",
        "history",
        "outside",
        "purge",
    }
    assert {*group.commands["config"].commands} == {"check", "show", "schema"}
    catalogue = {"show", "keygen", "pack", "verify"}
    assert {*group.commands["catalogue"].commands} == catalogue


def test_a_crash_is_no_answer_about_a_channel(tmp_path):
    """Its exit code is none of 0 to 3."""
    file = tmp_path / "callpath.yaml"
    file.write_text(f"state_dir: {tmp_path}\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli", "messengers", "--json", "--config", str(file)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 70
    assert "No space left" in done.stderr


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("nosuch0", "no interface nosuch0"),
        ("192.0.2.77", "192.0.2.77 is not an address of this host"),
        ("2001:db8::77", "2001:db8::77 is not an address of this host"),
    ],
)
def test_a_source_that_is_not_here_is_named_before_anything_is_sent(
    monkeypatch, tmp_path, source, why
):
    async def sends(*_args, **_given):
        raise AssertionError("a round was begun")

    monkeypatch.setattr(check, "run_check", sends)
    file = tmp_path / "callpath.yaml"
    file.write_text(f'source_address: "{source}"\nstate_dir: {tmp_path}\n')
    done = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert done.exit_code == 2
    assert why in done.output
