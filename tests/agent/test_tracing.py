"""What a trace by hand says, and what it takes from whom."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.tracing import Traced, _controls, document, networks, sentence
from config.model import TargetConfig
from exporters import path
from probes.model import Role
from probes.trace.common import Common, Control, Report, Word
from probes.trace.place import Place, Placement, Sign, Stretch
from probes.trace.words import words
from tests.agent.building import control, environment, messenger, target

ROUTER = "95.24.0.9"
DROP = frozenset({Sign.SILENCE})


def found(low: int, high: int | None) -> Traced:
    place = Place(Stretch(low, high), Placement.IN_PATH, 5, 5, 5, 5, 1, (ROUTER,))
    report = Report(Word.FOUND, "B", DROP, place)
    return Traced("tcp", "192.0.2.1:443", "192.0.2.1", 443, report)


@pytest.mark.parametrize(
    "text",
    [
        "\n95.24.0.0/16 64496 Carrier\n",
        "# of November\n   \n95.24.0.0/16\tAS64496\tCarrier\n",
        "95.24.0.0\t95.24.255.255\t64496\tRU\tCarrier\n\t\t\t\t\n",
    ],
)
def test_lines_that_say_nothing_are_passed_over(tmp_path, text):
    file = tmp_path / "asn"
    file.write_text(text)
    assert networks(file, [ROUTER]) == {ROUTER: "AS64496 Carrier"}


def test_a_file_cannot_paint_the_terminal(tmp_path):
    file = tmp_path / "asn"
    file.write_text("0.0.0.0/0 64500 \x1b[31mEvil\n")
    (text,) = networks(file, [ROUTER]).values()
    assert "\x1b" not in text
    assert "Evil" in text


@pytest.mark.parametrize(
    ("low", "high", "where"),
    [
        (0, None, "somewhere on the way"),
        (0, 1, "before the first router"),
        (0, 4, "within the first 4 hops"),
        (3, None, "behind hop 3"),
        (3, 4, "between hop 3 and hop 4"),
    ],
)
def test_the_sentence_says_where(low, high, where):
    assert sentence(found(low, high)) == f"Packets are dropped {where}; 5 of 5 runs agree."


def test_a_trace_without_a_run_says_so():
    report = Common(words("tcp"), "192.0.2.1", 443)._judge("B", DROP, [])
    assert (report.word, report.why) == (Word.UNCLEAR, "there was no time for a run")


def test_a_terminal_of_ascii_is_drawn_on(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    path.draw(document(found(0, None), {}))
    out.flush()
    assert b"Packets are dropped somewhere" in out.buffer.getvalue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--for", "0s"), "a trace needs time"),
        (("--asn-file", "/nowhere/asn"), "/nowhere/asn"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_sent(tmp_path, options, said, monkeypatch):
    monkeypatch.setattr("agent.tracing.trace", lambda *_, **__: pytest.fail("it began"))
    file = tmp_path / "callpath.yaml"
    file.write_text("vantage: {name: x, country: RU, network: fixed}\nprofile: research\n"
                    f"risks: accepted\nstate_dir: {tmp_path}\n")  # fmt: skip
    asked = ["trace", "tcp", "192.0.2.1:443", "--config", str(file), *options]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 2, told.output
    assert said in told.output


ADDRESS = "198.51.100.7"


def configured(*prefixes: str) -> Any:
    def at(name: str, address: str, port: int = 443, **given: Any) -> TargetConfig:
        return target(name, host=address, port=port, kind="tcp", **given)

    places = [at(f"far-{n}", f"203.0.113.{n}") for n in range(20)]
    whose = messenger(*places, at("near", "198.51.100.200", 5222))
    home = control("home", Role.DOMESTIC, host="192.0.2.1", port=443, kind="tcp")
    abroad = control("abroad", Role.FOREIGN, host="192.0.2.2", port=443, kind="tcp")
    return SimpleNamespace(
        messengers=[replace(whose, owner_prefixes=prefixes)], controls=[home, abroad]
    )


async def held(config: Any, given: str = "") -> list[Control]:
    return await _controls(config, environment(), words("tcp"), ADDRESS, given)


async def test_an_owners_address_is_held_against_its_neighbour_strangers_and_home() -> None:
    assert await held(configured("198.51.100.0/24")) == [
        Control("198.51.100.200", 5222, near=True),
        Control("192.0.2.2", 443),
        Control("192.0.2.1", 443, home=True),
    ]


async def test_whose_address_nobody_knows_may_be_nearer_than_any_server_at_home() -> None:
    """As a cache within the provider's network is."""
    assert await held(configured("203.0.113.0/24")) == [Control("192.0.2.2", 443)]


async def test_who_is_given_is_the_only_control() -> None:
    config = configured("198.51.100.0/24")
    assert await held(config, "192.0.2.9:443") == [Control("192.0.2.9", 443)]
    assert await held(config, "198.51.100.9:80") == [Control("198.51.100.9", 80, near=True)]
