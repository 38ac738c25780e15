"""Tables for people, also when the network wrote their text."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from agent.case import Differs
from exporters import tables
from exporters import words as words_of
from probes.model import (
    Contrast,
    Failure,
    Observation,
    Status,
    StepResult,
    Vantage,
    VantageStatus,
)
from tests.exporters.building import HOSTILE, RELAY, diagnosis, finding, observation, report

ROW = {
    "messenger": "m",
    "channel": "call",
    "role": "",
    "target": "relay",
    "probe": "stun",
    "host": "relay.test",
    "port": 3478,
    "addresses": ["192.0.2.1"],
    "seconds": 60.0,
    "bytes_per_day": 1_296_000,
    "proof": "captured",
    "informative": False,
}


def harmless(text: str) -> None:
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "\x1b" not in text


def test_a_report(capsys):
    seen = (observation(failure=Failure.TIMEOUT, requests=5, answered=1),)
    tables.report(report(observations=seen), 12.4)
    out = capsys.readouterr().out
    assert out.startswith("This line is online: controls answer.\n")
    assert "0 of 2" in out
    assert "unreachable, none of 2 servers answers; 2 failed." in out
    assert "exchange: timeout" in out
    assert "1 of 5 answered" in out
    assert out.endswith("1 observations in 12 s.\n")
    harmless(out)


def test_what_was_asked_to_explain_a_failure_is_no_second_failure(capsys):
    failed = observation(failure=Failure.TIMEOUT, requests=5, answered=0)

    def asked(differs: str, failure: Failure | None, port: int, **facts: Any) -> Observation:
        made = observation(failure=failure, port=port, **facts)
        return replace(made, contrast=Contrast(failed.id, differs))

    other = asked("port", Failure.REFUSED, 80)
    slower = replace(other, steps=tuple(replace(s, seconds=2.0) for s in other.steps))
    twin = asked("twin", None, 443, address="2001:db8::7", payload="stun")
    tables.report(report(observations=(failed, other, slower, twin)), 1.0)
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("  Asked to explain it:")
    assert lines[at - 2 : at][0].endswith("what failed:")
    assert "192.0.2.1 " in lines[at - 1]
    first, second, after = (line.split() for line in lines[at + 1 : at + 4])
    assert first[:5] == ["relay", "another", "port", "192.0.2.1:80", "exchange:"]
    assert second[:5] == ["relay", "the", "twin,", "stun", "[2001:db8::7]:443"]
    assert second[5] == "ok"
    assert after == []


def test_no_more_is_listed_than_a_person_reads(capsys):
    many = [observation(failure=Failure.TIMEOUT, address=f"192.0.2.{n}") for n in range(1, 41)]
    asked = [replace(o, contrast=Contrast(o.id, "name")) for o in many]
    tables.report(report(observations=(*many, *asked)), 1.0)
    out = capsys.readouterr().out
    assert out.count("  and 30 more\n") == 2
    assert out.count("192.0.2.") == 20


def test_every_contrast_has_words():
    assert set(words_of.DIFFERS) == set(Differs)


def test_what_was_done_how_sure_that_is_and_what_decided(capsys):
    blocked = diagnosis(status=Status.BLOCKED, findings=(finding(),))
    fine = diagnosis(channel="chat", status=Status.OK)
    words = ("m relay, another bytes: profile: client does not ask it",)
    tables.report(replace(report(blocked, fine), left_out=words), 1.0)
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("m") and "blocked" in line)
    assert "ip drop" in row
    assert "likely" in row
    assert "m call: ip drop, likely (80%, rule R12): nothing comes back." in out
    assert "What decided: another port is silent too; a neighbour answers." in out
    assert words[0] in out
    harmless(out)


def test_what_is_well_has_no_mechanism_and_nothing_left_out(capsys):
    fine = diagnosis(status=Status.OK, targets=())
    tables.report(replace(report(fine), left_out=("m relay, another bytes: x",)), 1.0)
    out = capsys.readouterr().out
    assert "none" not in out.partition("\n")[2].replace("none of", "")
    assert "another bytes" not in out


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("vantage", list(VantageStatus))
def test_every_status_can_be_shown(capsys, status, vantage):
    made = report(diagnosis(status=status), vantage=Vantage("v", vantage, "so"))
    tables.report(made, 1.0)
    out = capsys.readouterr().out
    assert str(status) in out
    assert str(vantage) in out


def test_a_run_by_hand(capsys):
    seen = observation(rtt_seconds=0.0312345678, answers=("192.0.2.1", "192.0.2.2"), sent=5)
    tables.observations([seen, replace(seen, steps=(StepResult("tls", 1.5, Failure.RESET, "x"),))])
    out = capsys.readouterr().out
    assert "stun relay at 192.0.2.1: works" in out
    assert "stun relay at 192.0.2.1: does not work" in out
    assert "failed: reset" in out
    assert "rtt_seconds = 0.0312346" in out
    assert "answers = 192.0.2.1, 192.0.2.2" in out
    assert "    sent = 5" in out


def test_text_from_the_network_is_harmless(capsys):
    step = StepResult("exchange", 1.0, Failure.OTHER, HOSTILE)
    seen = replace(observation(realm=HOSTILE, answers=(HOSTILE, "b")), steps=(step,))
    tables.observations([seen])
    out = capsys.readouterr().out
    harmless(out)
    assert "[bold]x[/bold]" in out, "shown as it is, not obeyed"
    assert ":warning:" in out


def test_an_address_is_no_emoji(capsys):
    seen = observation(failure=Failure.TIMEOUT, address="2001:db8:100:1234::1")
    tables.observations([seen])
    tables.report(report(observations=(seen,)), 1.0)
    tables.contacts([{**ROW, "addresses": ["2001:db8:100:1234::1"]}])
    assert capsys.readouterr().out.count("2001:db8:100:1234::1") == 3


def test_what_would_be_contacted(capsys):
    rows = [ROW, {**ROW, "target": "b", "seconds": 0.5, "informative": True, "bytes_per_day": 900}]
    tables.contacts(rows)
    out = capsys.readouterr().out
    assert "relay.test:3478 (192.0.2.1)" in out
    assert "1 min" in out
    assert "0.5 s" in out
    assert "captured, informative" in out
    assert "1.2 MiB" in out
    assert "2 targets, about 1.2 MiB a day." in out


def test_a_narrow_terminal_cuts_nothing_of_what_would_be_contacted(capsys, monkeypatch):
    monkeypatch.setattr(tables, "console_for", lambda: Console(width=60, file=sys.stdout))
    many = {**ROW, "addresses": ["192.0.2.1", "2001:db8:100:1234::1"]}
    tables.contacts([many, {**ROW, "seconds": None}])
    out = capsys.readouterr().out
    for key in ("messenger", "channel", "target", "probe", "host", "proof"):
        assert str(ROW[key]) in out
    assert "(192.0.2.1, 2001:db8:100:1234::1): every 1 min, 1.2 MiB a day" in out
    assert ": on failure, 1.2 MiB a day" in out


def test_a_target_of_that_name_elsewhere_is_not_shown(capsys):
    other = observation(replace(RELAY, messenger="other"), Failure.TIMEOUT, address="198.51.100.9")
    tables.report(report(observations=(other,)), 1.0)
    assert "198.51.100.9" not in capsys.readouterr().out
