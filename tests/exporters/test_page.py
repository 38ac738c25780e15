"""What the page says of channels, their past and their targets; with and without a history."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest

from exporters import page, words
from exporters.mirror import Mirror
from exporters.record import pack_observations
from exporters.web import WebSettings, application
from probes.model import Failure, Proof, Status, TargetState
from tests.exporters.building import (
    HOSTILE,
    SCRIPT,
    agent_figures,
    contrast,
    diagnosis,
    finding,
    observation,
    report,
    update,
)
from tests.exporters.written import Written

NOW = 1_800_000_000.0 + 600.0
DAY = 86400.0


@pytest.fixture
async def ask(written, monkeypatch):
    mirror = Mirror()

    async def get(
        path: str = "/", headers: dict[str, str] | None = None, **given
    ) -> httpx.Response:
        if given or not mirror.changed:
            mirror.apply(update(**given), time.monotonic())
        monkeypatch.setattr("exporters.webpage.time.time", lambda: NOW)
        return await client.get(path, headers=headers)

    settings = WebSettings("127.0.0.1", (), False, str(written.folder))
    app = application(mirror, settings, None, None)  # type: ignore[arg-type] # not asked
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield get


def remember(written: Written, *observations) -> None:
    written.db.execute(
        "INSERT INTO rounds (at, messenger, kept, anchor, failed) VALUES (?, 'm', 1, 1, ?)",
        (NOW - 60, pack_observations(observations)),
    )
    written.db.execute("INSERT INTO targets VALUES (1, 'm', 'call', 'relay', 'stun')")
    for slot in range(100):
        at = int(NOW // 600) * 600 - 600 * (slot + 1)
        row = (
            at,
            10,
            10 if slot else 4,
            0.02,
            0.03,
            0.05,
            50,
            45,
            0.12,
            0.01,
            0.004,
            3.1,
            0.0,
            4.3,
        )
        written.db.execute(f"INSERT INTO slots VALUES (1{', ?' * 14})", row)
    written.db.commit()


@pytest.mark.parametrize(("status", "answer"), list(page.ANSWERS.items()))
async def test_one_glance_answers(ask, status, answer):
    text = (await ask(report=report(diagnosis(status=status)))).text
    assert f'<p class="big">{answer}</p>' in text
    assert f"<title>Messy calls: {answer.lower()} · callpath · babadede</title>" in text


async def test_a_messenger_without_calls_is_no_answer(ask):
    text = (await ask(report=report(diagnosis(channel="chat")))).text
    assert "No calls are measured." in text


async def test_a_timeline_of_every_span(written, ask):
    written.change(NOW - 20 * DAY, "blocked", "ip_drop", certainty="confirmed")
    written.change(NOW - 19 * DAY, "ok")
    written.change(NOW - 3600.0, "degraded", "congestion", certainty="likely")
    day = (await ask()).text
    assert (
        'aria-label="Calls over 24 hours: ok 95.8 % (23 h 0 min), degraded 4.2 % (1 h 0 min)"'
        in day
    )
    assert day.count('<rect class="degraded"') == 1
    assert '<rect class="blocked"' not in day
    assert "1 outage in 24 hours" in day
    month = (await ask("/?span=30d")).text
    assert '<rect class="blocked" x="33.333%" width="3.333%"' in month
    assert "ip drop (confirmed)" in month
    assert "2 outages in 30 days" in month
    assert '<a href="/?span=30d" aria-current="true">' in month


@pytest.mark.parametrize("path", ["/?span=1y", "/?span=", "/target/m/relay?span=x"])
async def test_another_span_is_refused(ask, path):
    assert (await ask(path)).status_code == 400


async def test_without_history_it_says_so(tmp_path):
    for folder, said in (
        ("", "history.enabled is off"),
        (str(tmp_path / "no"), "nothing is remembered"),
    ):
        mirror = Mirror()
        mirror.apply(update(), time.monotonic())
        app = application(mirror, WebSettings("127.0.0.1", (), False, folder), None, None)  # type: ignore[arg-type] # not asked
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for path in ("/", "/target/m/relay"):
                text = (await client.get(path)).text
                assert said in text
                assert 'class="strip"' not in text


async def test_what_is_not_known_and_why(ask):
    blind = diagnosis(status=Status.UNKNOWN, summary="Messy calls: not known, no target is proven.")
    figures = agent_figures(storage_healthy=False, reload_ok=False)
    text = (await ask(report=report(blind), agent=figures)).text
    unknown = text.partition('id="unknown"')[2]
    assert "<li>Messy calls: not known, no target is proven.</li>" in unknown
    assert "1 of 3 targets has not been seen to answer a stranger here yet" in unknown
    assert "2 rounds were left out since the start: late (2)." in unknown
    assert "The disk does not take" in unknown
    assert "The configuration file has errors" in unknown


async def test_a_target_with_everything_that_is_known(written, ask):
    failed = observation(failure=Failure.TIMEOUT, port=3478, requests=5, answered=1)
    remember(written, failed, replace(contrast(), at=failed.at + 1))
    text = (await ask("/target/m/relay")).text
    assert "<h1>Messy: relay</h1>" in text
    assert '<span class="unreachable">fails</span>' in text
    assert "exchange: timeout, 1 of 5 answered" in text
    assert "stun at 192.0.2.1:3478" in text
    assert "1 question asked to explain it" in text
    assert "its name elsewhere" in text
    assert "994 of 1000 runs worked (99.4 %)" in text
    for title in ("Round trip", "How a call would sound", "Packets of a stream", "Jitter"):
        assert f"<strong>{title}" in text
    assert "3.1 to 3.1, last 3.1; below 3.6 is bad" in text
    assert "exchange timeout 2" in text
    assert text.count("<tr><td><time") == 18  # 100 slots, an hour in each row
    control = (await ask("/target/control/c")).text
    assert "<h1>control: c</h1>" in control
    assert "foreign" in control


async def test_what_answered_here_is_not_called_unproven(ask):
    state = TargetState(observation().target, None, True, Proof.UNPROVEN, True, NOW)
    told = report(diagnosis(targets=(state,)))
    for path in ("/", "/target/m/relay"):
        text = (await ask(path, report=told)).text
        assert "seen to answer" in text
        assert "unproven" not in text


@pytest.mark.parametrize(
    ("proven", "informative", "said"),
    [
        (True, False, "it decides"),
        (True, True, "for information only: it does not decide"),
        (False, True, "for information only: it does not decide"),
        (False, False, "its silence proves nothing and it does not decide"),
    ],
)
async def test_does_it_decide(ask, proven, informative, said):
    of = observation().target
    state = TargetState(of, None, False, Proof.CAPTURED, proven, NOW, informative=informative)
    told = report(diagnosis(targets=(state,)))
    text = (await ask("/target/m/relay", report=told)).text
    assert f"{said}</dd>" in text
    overview = (await ask("/", report=told)).text
    assert (", does not decide</td>" in overview) == informative
    waiting = "not been seen to answer a stranger" in overview
    assert waiting == (not proven and not informative)


@pytest.mark.parametrize(
    "path", ["/target/m/nosuch", "/target/x/relay", "/target/m", "/target/m/a/b"]
)
async def test_there_is_no_page_for_what_is_no_target(ask, path):
    assert (await ask(path)).status_code == 404


IMAGE = "<img src=x onerror=alert(1)>"


async def test_everything_is_escaped(written, ask):
    target = replace(observation().target, messenger=IMAGE, name=IMAGE)
    state = TargetState(target, SCRIPT, False, Proof.CAPTURED, True, NOW)
    told = replace(finding(), told=HOSTILE, decided=(SCRIPT,), rule=SCRIPT)
    bad = diagnosis(messenger=IMAGE, summary=HOSTILE, targets=(state,), findings=(told,))
    written.change(NOW - 9.0, "blocked", "ip_drop", messenger=IMAGE, summary=SCRIPT)
    failed = observation(target, Failure.TIMEOUT, server=HOSTILE, address=SCRIPT)
    written.db.execute(
        "INSERT INTO rounds (at, messenger, kept, anchor, failed) VALUES (?, ?, 1, 1, ?)",
        (NOW - 60, IMAGE, pack_observations([failed])),
    )
    written.db.commit()
    name = quote(IMAGE, safe="")
    figures = agent_figures(name=SCRIPT, version=SCRIPT)
    for path in ("/", f"/target/{name}/{name}"):
        answer = await ask(path, report=report(bad), agent=figures)
        assert answer.status_code == 200
        text = answer.text
        assert text.count("<script") == 1
        assert "<img" not in text
        assert text.count("&lt;script&gt;") > 3
        bare = [re.sub(r'"[^"]*"', "", tag) for tag in re.findall(r"<[a-z][^>]*>", text)]
        assert not [tag for tag in bare if "onerror" in tag or "alert" in tag]


async def test_who_has_the_newest_version_gets_nothing(ask):
    first = await ask()
    version = first.headers["etag"]
    assert f'data-version="{version.replace(chr(34), "&#34;")}"' in first.text
    same = await ask(headers={"If-None-Match": version})
    assert (same.status_code, same.content) == (304, b"")
    assert "content-security-policy" not in same.headers
    news = await ask(headers={"If-None-Match": version}, report=report(diagnosis()), reset=False)
    assert news.status_code == 200
    assert news.headers["etag"] != version


async def test_figures_alone_are_no_news(ask):
    version = (await ask()).headers["etag"]
    again = await ask(headers={"If-None-Match": version}, report=None, reset=False)
    assert again.status_code == 304


async def test_an_agent_that_is_silent_is_told(ask, monkeypatch):
    assert "not been heard of" not in (await ask()).text
    version = (await ask()).headers["etag"]
    later = time.monotonic() + 31
    monkeypatch.setattr("exporters.webpage.time.monotonic", lambda: later)
    answer = await ask(headers={"If-None-Match": version})
    assert answer.status_code == 200
    assert "not been heard of" in answer.text


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("cross-site", "no-cors", "script", 403),
        ("cross-site", "cors", "empty", 403),
        ("cross-site", "navigate", "iframe", 403),
        ("same-site", "no-cors", "image", 403),  # another port of this host
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ],
)
async def test_what_other_pages_in_a_browser_may_ask(ask, site, mode, dest, status):
    said = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    for path in ("/", "/metrics", "/api/v1/status", "/api/v1/history"):
        assert (await ask(path, headers=said)).status_code == status


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-4e6, "0 min"),
        (0, "0 min"),
        (3540, "59 min"),
        (3600, "1 h 0 min"),
        (86399, "1 d 0 h"),
        (90000, "1 d 1 h"),
    ],
)
def test_how_long(seconds, told):
    assert words.lasted(seconds) == told


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100 %"),
        (0.99999, "over 99.9 %"),
        (0.0, "0 %"),
        (0.00001, "under 0.1 %"),
        (0.5, "50 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share, words):
    assert page.percent(share) == words
