"""The outside view: another callpath's word, believed as far as it is fresh and well formed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import outside
from agent.outside import Malformed, Outside, OutsideView, Sighting, read_status
from config.schema import OutsideSettings
from exporters.document import document, timestamp
from probes.model import (
    Diagnosis,
    Proof,
    Report,
    Status,
    Target,
    TargetState,
    Vantage,
    VantageStatus,
)
from probes.net.environment import Environment
from probes.net.errors import NotMeasured
from tests.agent.building import environment, until
from tests.probes.certificates import NAME, Authority
from tests.probes.servers import NASTY, Behaviour, say, say_nothing, tcp_server


@pytest.fixture(autouse=True)
def all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="agent.outside")


NOW = 1_795_516_000.0
MAX_AGE = 900.0


def report(
    works: bool | None = True,
    *,
    at: float = NOW,
    last_run: float | None = NOW - 30,
    vantage: VantageStatus = VantageStatus.ONLINE,
    summary: str = "fine",
) -> dict[str, Any]:
    """What an agent serves, made by what serves it."""
    of = Target("telegram", "call", "call-eu-1", "stun")
    state = TargetState(of, "91.108.9.35", works, Proof.CAPTURED, True, last_run)
    diagnosis = Diagnosis(
        "telegram", "call", Status.OK, "ok", summary, 1, 1, 1, 1, targets=(state,)
    )
    made = Report(at, Vantage("out", vantage, "fine"), (diagnosis,))
    return document(
        made, {"version": "1", "rules": "1", "catalogue": "2026.11.24"}, observations=False
    )


def read(given: Any) -> Outside:
    return read_status(json.dumps(given).encode(), MAX_AGE)


@pytest.mark.parametrize("slow", [True, False, None])
def test_a_transfer_that_crawls_out_there_is_known_to(slow):
    given = report()
    if slow is not None:
        given["channels"][0]["target_states"][0]["slow"] = slow
    view = OutsideView(OutsideSettings(), environment(), read(given))
    of = Target("telegram", "call", "call-eu-1", "stun")
    assert view.slow([of], NOW) == ({} if slow is None else {of: slow})
    assert view.slow([of], NOW + 2 * MAX_AGE) == {}
    assert OutsideView(OutsideSettings(), environment()).slow([of], NOW) == {}


@pytest.mark.parametrize("slow", ["yes", 1, []])
def test_a_pace_that_is_no_yes_or_no_is_malformed(slow):
    given = report()
    given["channels"][0]["target_states"][0]["slow"] = slow
    with pytest.raises(Malformed):
        read(given)


def known(given: Any, now: float = NOW + 60) -> bool | None:
    return read(given).works("telegram", "call-eu-1", "stun", now)


@pytest.mark.parametrize("works", [True, False, None])
def test_what_an_agent_serves_is_understood(works):
    assert known(report(works)) is works


def test_when_it_was_seen_is_told():
    assert read(report()).sighting("telegram", "call-eu-1", "stun", NOW) == Sighting(True, NOW - 30)


@pytest.mark.parametrize(
    "other",
    [
        ("whatsapp", "call-eu-1", "stun"),
        ("telegram", "x", "stun"),
        ("telegram", "call-eu-1", "tcp"),
    ],
)
def test_of_anything_else_nothing_is_known(other):
    assert read(report()).works(*other, NOW) is None


@pytest.mark.parametrize(
    ("given", "now", "expected"),
    [
        ({}, NOW + MAX_AGE - 31, True),
        ({}, NOW + MAX_AGE - 29, None),  # the target's own run is too old
        ({"last_run": NOW}, NOW + MAX_AGE - 1, True),
        ({"last_run": NOW}, NOW + MAX_AGE + 1, None),
        ({"last_run": None}, NOW, None),
        ({"at": NOW + 59}, NOW, True),  # clocks are never quite the same
        ({"at": NOW + 61}, NOW, None),
        ({"last_run": NOW + 61}, NOW, None),
        ({"at": -62135596800.0}, NOW, None),
        ({"last_run": NOW - 5 * 3600}, NOW, None),  # still served, long not asked
    ],
)
def test_how_long_it_holds(given, now, expected):
    assert known(report(**given), now) is expected


@pytest.mark.parametrize("status", [s for s in VantageStatus if s is not VantageStatus.ONLINE])
def test_a_line_that_is_not_well_may_say_what_works_but_not_what_fails(status):
    assert known(report(True, vantage=status)) is True
    assert known(report(False, vantage=status)) is None


def changed(path: str, value: Any) -> dict[str, Any]:
    made: Any = report()
    *parts, last = path.split(".")
    inner = made
    for part in parts:
        inner = inner[int(part)] if part.isdigit() else inner[part]
    where: Any = int(last) if last.isdigit() else last
    if value is KeyError:
        del inner[where]
    else:
        inner[where] = value
    return made


STATE = "channels.0.target_states.0"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", True),
        ("version", "1"),
        ("version", KeyError),
        ("at", KeyError),
        ("at", 1795516000),
        ("at", "yesterday"),
        ("at", "2026-11-24T10:00:00"),
        ("vantage", []),
        ("channels", {}),
        ("channels", None),
        ("channels.0", "x"),
        ("channels.0.messenger", 7),
        ("channels.0.messenger", NASTY),
        ("channels.0.target_states", KeyError),
        (STATE, None),
        (f"{STATE}.target", ""),
        (f"{STATE}.target", "../x"),
        (f"{STATE}.target", "A" * 64),
        (f"{STATE}.probe", None),
        (f"{STATE}.works", 1),
        (f"{STATE}.works", "false"),
        (f"{STATE}.last_run", 5),
    ],
)
def test_another_form_is_refused_as_a_whole(path, value):
    with pytest.raises(Malformed) as caught:
        read(changed(path, value))
    assert NASTY[:10] not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"version": 1, "version": 1}',
        b'{"version": NaN}',
        b'{"version": Infinity}',
        b'{"version": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"version": 1, "at": "' + b"x" * outside.MAX_BYTES + b'"}',
        b"<html>not here</html>",
    ],
    ids=range(13),
)
def test_what_is_no_status_is_refused(data):
    with pytest.raises(Malformed):
        read_status(data, MAX_AGE)


def test_a_key_that_stands_twice_is_refused():
    text = json.dumps(report())
    assert read_status(text.encode(), MAX_AGE)
    with pytest.raises(Malformed):
        read_status(
            text.replace('"version": 1,', '"version": 1, "version": 1,', 1).encode(), MAX_AGE
        )


def test_an_endless_list_of_targets_is_refused(monkeypatch):
    monkeypatch.setattr(outside, "MAX_TARGETS", 10)
    made = report()
    (state,) = made["channels"][0]["target_states"]
    made["channels"][0]["target_states"] = [{**state, "target": f"t{n}"} for n in range(11)]
    with pytest.raises(Malformed):
        read(made)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(list(report())) | st.text(), inner)
        ),
        max_leaves=20,
    )
)
def test_whatever_is_json_is_understood_or_refused(value):
    try:
        read(value)
    except Malformed:
        return
    pytest.fail("nothing random is a status")


@given(st.binary(max_size=300))
def test_whatever_bytes_come_are_refused(data):
    with pytest.raises(Malformed):
        read_status(data, MAX_AGE)


# --- reading it ------------------------------------------------------------------------------


def view(env: Environment | None = None, **settings: str) -> OutsideView:
    return OutsideView(
        OutsideSettings.model_validate_json(json.dumps(settings)), env or environment()
    )


def now_report(**given: Any) -> bytes:
    now = time.time()
    return json.dumps(report(at=now, last_run=now, **given)).encode()


def works(of: OutsideView) -> bool | None:
    if of.current is None:
        return None
    return of.current.works("telegram", "call-eu-1", "stun", time.time())


async def test_a_file(tmp_path: Path):
    file = tmp_path / "status.json"
    of = view(file=str(file))
    await of.refresh()
    assert works(of) is None
    file.write_bytes(now_report())
    await of.refresh()
    assert works(of) is True
    file.write_bytes(b"{half")
    await of.refresh()
    assert works(of) is True  # what was read before holds as long as it is fresh
    file.write_bytes(now_report(works=False))
    await of.refresh()
    assert works(of) is False


async def test_a_pipe_or_a_folder_is_no_file_and_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        of = view(file=str(tmp_path / name))
        async with asyncio.timeout(5):
            await of.refresh()
        assert of.current is None


def http(body: bytes, status: str = "200 OK", **headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return say("\r\n".join([*lines, "", ""]).encode() + body)


async def test_over_http(caplog: pytest.LogCaptureFixture):
    async with tcp_server(http(now_report())) as server:
        of = view(url=f"http://127.0.0.1:{server.port}/api/v1/status")
        await of.refresh()
        assert works(of) is True
    assert caplog.messages == []


async def test_over_https_the_chain_is_verified(tmp_path: Path):
    authority = Authority(tmp_path / "ca", "authority")
    certificate = authority.issue("good")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 {NAME}\n")
    trusting = environment(tls_ca_file=str(authority.root))
    for env, expected in ((trusting, True), (environment(), None)):
        async with tcp_server(http(now_report()), tls=certificate.server()) as server:
            of = view(env, url=f"https://{NAME}:{server.port}/api/v1/status")
            of.env.own.local = frozenset()
            await _through(of, server.port)
        assert works(of) is expected


async def _through(of: OutsideView, port: int) -> None:
    """As if the name led to loopback, which no name may."""
    from probes.net import fetch

    async def addresses(env: Environment, host: str) -> list[str]:
        return ["127.0.0.1"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_addresses", addresses)
        await of.refresh()


@pytest.mark.parametrize(
    ("behave", "word"),
    [
        (http(b"", "302 Found", Location="http://127.0.0.1:1/"), "http_status"),
        (http(now_report(), "503 Service Unavailable"), "http_status"),
        (http(b"x" * (outside.MAX_BYTES + 10)), "oversized"),
        (say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "truncated"),
        (say(NASTY.encode()), "bad_reply"),
        (say_nothing, "timeout"),
        (http(b"not json " + NASTY.encode()), "is not JSON"),
    ],
    ids=["redirect", "status", "large", "half", "nasty", "silent", "no-json"],
)
async def test_whatever_goes_wrong_is_not_measured_and_said_once_in_our_words(
    behave: Behaviour,
    word: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(outside, "SECONDS", 0.5 if behave is say_nothing else 10.0)
    async with tcp_server(behave) as server:
        of = view(url=f"http://127.0.0.1:{server.port}/")
        for _ in range(3):
            await of.refresh()
    assert of.current is None
    (said,) = caplog.messages
    assert word in said
    assert said.isprintable()
    assert "script" not in said


async def test_manners_hold_for_it_too(caplog: pytest.LogCaptureFixture):
    class Paused:
        async def check(self, *_args: object) -> None:
            raise NotMeasured("paused")

        async def handshake(self, *_args: object) -> None:
            raise NotMeasured("paused")

    async with tcp_server(http(now_report())) as server:
        of = view(environment(courtesy=Paused()), url=f"http://127.0.0.1:{server.port}/")
        await of.refresh()
        assert server.connections == 0
    assert "paused" in caplog.text


async def test_stale_is_said_and_so_is_that_it_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file = tmp_path / "status.json"
    file.write_text(json.dumps(report(at=time.time() - 3600)))
    of = view(file=str(file))
    await of.refresh()
    assert works(of) is None
    file.write_bytes(now_report())
    await of.refresh()
    assert works(of) is True
    assert [("too old" in m, "again" in m) for m in caplog.messages] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "cannot be read: no such file"),
        (b"{half", "is not JSON"),
        (json.dumps(report(at=time.time() - 3600)).encode(), "is too old: more than 15 min"),
        (json.dumps(report(at=time.time() + 3600)).encode(), "is from the future"),
        (json.dumps(report(at=time.time())).encode(), ""),
    ],
    ids=["missing", "broken", "stale", "future", "well"],
)
async def test_why_it_tells_nothing_is_kept_in_words(
    tmp_path: Path, content: bytes | None, word: str
):
    file = tmp_path / "status.json"
    if content is not None:
        file.write_bytes(content)
    of = view(file=str(file))
    await of.refresh()
    assert word in of.problem
    assert bool(of.problem) is bool(word)


async def test_it_is_read_in_a_task_of_its_own_until_it_is_stopped(tmp_path: Path):
    file = tmp_path / "status.json"
    file.write_bytes(now_report())
    of = view(file=str(file), max_age="200ms")
    assert of.current is None
    of.start()
    of.start()
    await of.first_read()
    first = of.current
    assert first is not None
    await until(lambda: of.current is not first)
    await of.stop()
    await of.stop()
    last = of.current
    await asyncio.sleep(0.3)
    assert of.current is last


async def test_without_one_there_is_nothing_to_wait_for():
    of = view()
    of.start()
    await of.first_read()
    await of.refresh()
    assert of.current is None
    await of.stop()


def test_a_reload_keeps_what_was_read_from_the_same_place(tmp_path: Path):
    old, same = view(file="/a.json"), view(file="/a.json", max_age="1m")
    other = view(file="/b.json")
    old.current = Outside(NOW, MAX_AGE, {})
    same.inherit(old)
    other.inherit(old)
    assert same.current == Outside(NOW, 60.0, {})
    assert other.current is None


def test_a_time_is_read_as_it_is_written():
    assert read(report(at=NOW)).at == pytest.approx(NOW)
    assert timestamp(NOW).endswith("Z")
