"""/api/v1/history: what may be asked, that answers are bounded, that paging loses nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import httpx
import pytest

from exporters.mirror import Mirror
from exporters.web import WebSettings, application
from exporters.webhistory import MOST, parse

NOW = 1_800_000_000.0
DAY = 86400.0


@pytest.fixture
async def ask(written, monkeypatch):
    monkeypatch.setattr("exporters.webhistory.time.time", lambda: NOW)
    settings = WebSettings("127.0.0.1", (), False, str(written.folder))
    app = application(Mirror(heard=time.monotonic()), settings, None, None)  # type: ignore[arg-type] # not asked
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

        async def get(query: str = "") -> httpx.Response:
            return await client.get(f"/api/v1/history{query}")

        yield get


async def test_a_day_of_all_channels(written, ask):
    written.change(NOW - 2 * DAY, "ok")
    written.change(NOW - 3600.0, "blocked", "ip_drop", since=NOW - 4000.0, certainty="confirmed")
    written.change(NOW - 2 * DAY, "ok", channel="chat")
    told = (await ask()).json()
    assert [(s["channel"], s["status"]) for s in told["segments"]] == [
        ("call", "blocked"),
        ("chat", "ok"),
        ("call", "ok"),
    ]
    assert told["segments"][0]["from"] == "2027-01-15T06:53:20.000Z"
    [outage] = told["outages"]
    assert (outage["mechanism"], outage["to"]) == ("ip_drop", None)
    assert told["next"] is None
    assert told["version"] == 1
    only = (await ask("?messenger=m&channel=chat")).json()
    assert [s["channel"] for s in only["segments"]] == ["chat"]
    assert only["outages"] == []


async def test_pages_together_have_everything(written, ask):
    for number in range(100):
        at = NOW - DAY + 600.0 * number + 10.0
        written.change(at, "ok" if number % 2 else "degraded", "congestion")
        written.change(at + 7.0, "ok" if number % 2 else "degraded", channel="chat")
    whole = (await ask("?limit=1000")).json()["segments"]
    seen: list[tuple[str, str]] = []
    until, pages = "", 0
    while True:
        told = (await ask(f"?limit=15{until}")).json()
        assert len(told["segments"]) <= 15
        seen += [(s["channel"], s["from"]) for s in told["segments"]]
        pages += 1
        if told["next"] is None:
            break
        until = f"&since={told['from'][:-1]}&until={told['next'][:-1]}"
    assert 13 < pages < 40
    assert set(seen) == {(s["channel"], s["from"]) for s in whole}


async def test_a_limit_below_the_channels_comes_on_all_the_same(written, ask):
    for channel in ("call", "chat", "media", "web"):
        written.change(NOW - 1000.0, "ok", channel=channel)
    told = (await ask("?limit=1")).json()
    assert [s["status"] for s in told["segments"]] == ["ok"] * 4
    assert told["next"] == told["segments"][0]["from"]


async def test_a_target(written, ask):
    written.db.execute("INSERT INTO targets VALUES (1, 'm', 'call', 'relay', 'stun')")
    written.db.execute(
        "INSERT INTO slots (target, at, runs, working, rtt_min, sent, received)"
        " VALUES (1, ?, 10, 9, 0.02, 50, 45)",
        (int(NOW // 600) * 600 - 600,),
    )
    written.db.commit()
    told = (await ask("?messenger=m&target=relay")).json()
    [point] = told["series"]
    assert (point["runs"], point["working"], point["rtt_min"]) == (10, 9, 0.02)
    assert "mos" not in point
    assert told["failures"] == []


async def test_much_is_cut(written, ask):
    rows = [(NOW - 30 * DAY + 60.0 * n, n % 2) for n in range(20_000)]
    written.db.executemany(
        "INSERT INTO changes SELECT NULL, ?, 'm', 'call', CASE ? WHEN 0 THEN 'ok' ELSE 'degraded'"
        " END, 'none', 'none', 0, '', NULL, 0, '', '', 'So it is.', 0",
        rows,
    )
    written.db.commit()
    answer = await ask(f"?limit={MOST}&since=2026-12-16T10:00:00Z")
    assert len(answer.json()["segments"]) == MOST
    assert len(answer.content) < 1_000_000


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?sinc=x", "unknown parameter"),
        ("?since=yesterday", "since must be a time"),
        ("?until=2027-01-01T00:00:00Z&since=2027-01-02T00:00:00Z", "before until"),
        ("?since=2020-01-01T00:00:00Z", "366 days"),
        ("?since=2027-02-01T00:00:00Z&until=2027-02-02T00:00:00Z", "in the future"),
        ("?limit=0", "limit must be"),
        ("?limit=1001", "limit must be"),
        ("?limit=%C2%B2", "limit must be"),
        ("?target=relay", "needs messenger"),
    ],
)
async def test_what_is_not_understood_is_said(ask, query, said):
    answer = await ask(query)
    assert answer.status_code == 400
    assert said in answer.text


async def test_nothing_is_kept(tmp_path):
    for folder in ("", str(tmp_path / "nowhere")):
        settings = WebSettings("127.0.0.1", (), False, folder)
        transport = httpx.ASGITransport(application(Mirror(), settings, None, None))  # type: ignore[arg-type] # not asked
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            assert (await client.get("/api/v1/history")).status_code == 404


def test_a_time_without_a_zone_is_utc():
    assert parse({"since": "2026-11-24T09:00:00", "until": "2026-11-24T10:00:00+00:00"}, NOW) == (
        parse({"since": "2026-11-24T10:00:00+01:00", "until": "2026-11-24T10:00:00Z"}, NOW)
    )
    assert datetime.fromtimestamp(NOW, UTC).year == 2027
