"""What is asked of the store: segments without gaps, outages, series, failures."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from agent.store import VERSION
from exporters.history import KNOWN, NOT_RUNNING, History, NoHistory
from exporters.historydocument import COLUMNS, as_csv, outage, point, timeline
from probes.model import Certainty, Mechanism, Status
from tests.exporters.written import KEY, Written

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def written(tmp_path: Path):
    made = Written(tmp_path / "s")
    yield made
    made.db.close()


def test_the_version_that_is_read_is_the_one_that_is_written():
    assert KNOWN == VERSION


def test_segments_begin_when_it_was_so_and_end_where_the_next_begins(written):
    written.span(0.0, 1000.0)
    written.change(10.0, "ok", since=10.0)
    written.change(300.0, "unreachable", "inconclusive", since=180.0)
    written.change(400.0, "blocked", "ip_drop", since=180.0, certainty="likely")
    written.change(900.0, "ok", since=500.0)
    assert written.segments(0.0, 1000.0) == [
        (0.0, 10.0, "unknown"),
        (10.0, 180.0, "ok"),
        (180.0, 400.0, "unreachable"),
        (400.0, 500.0, "blocked"),
        (500.0, 1000.0, "ok"),
    ]
    assert written.segments(450.0, 600.0) == [(450.0, 500.0, "blocked"), (500.0, 600.0, "ok")]


def test_what_was_hidden_for_a_while_did_not_begin_before_it_was(written):
    written.span(0.0, 1000.0)
    written.change(10.0, "blocked", "ip_drop", since=10.0)
    written.change(300.0, "unknown")
    written.change(400.0, "blocked", "ip_drop", since=10.0)
    assert written.segments(10.0, 500.0) == [
        (10.0, 300.0, "blocked"),
        (300.0, 400.0, "unknown"),
        (400.0, 500.0, "blocked"),
    ]


def test_time_without_the_agent_is_not_known(written):
    written.span(0.0, 100.0)
    written.span(5000.0, 6000.0)
    written.change(10.0, "ok", since=10.0)
    assert written.segments(10.0, 9000.0) == [
        (10.0, 100.0, "ok"),
        (100.0, 5000.0, "unknown"),
        (5000.0, 6000.0, "ok"),
        (6000.0, 9000.0, "unknown"),
    ]
    history = History(written.folder)
    gap = history.segments(*KEY, 10.0, 9000.0)[1]
    history.close()
    assert gap.why == NOT_RUNNING
    assert "did not run" in gap.summary


def test_a_round_on_its_way_is_no_gap(written):
    written.span(0.0, 100.0)
    written.change(10.0, "ok", since=10.0)
    assert written.segments(10.0, 300.0) == [(10.0, 300.0, "ok")]


def test_a_clock_that_was_set_back_leaves_nothing_in_the_future(written):
    written.span(0.0, 100.0)
    written.span(100.0, DAY + 200.0)
    written.span(300.0, 1000.0)
    written.change(10.0, "ok", since=10.0)
    written.change(DAY + 100.0, "blocked", "ip_drop", since=DAY + 50.0)
    written.change(500.0, "degraded", "congestion", since=500.0)
    assert written.segments(10.0, 1000.0) == [(10.0, 500.0, "ok"), (500.0, 1000.0, "degraded")]


def test_outages_are_told_by_their_surest_part(written):
    written.span(0.0, 2 * HOUR)
    written.change(0.0, "ok", since=0.0)
    written.change(600.0, "unreachable", "inconclusive", since=400.0, summary="Nothing answers.")
    written.change(
        900.0, "blocked", "ip_drop", since=400.0, certainty="confirmed", summary="Dropped."
    )
    written.change(1500.0, "unknown")
    written.change(1600.0, "degraded", "ip_drop", since=400.0, certainty="likely")
    written.change(2000.0, "ok", since=1900.0)
    written.change(7000.0, "degraded", "congestion", since=7000.0)
    history = History(written.folder)
    latest, first = history.outages(0.0, 2 * HOUR)
    assert (latest.since, latest.until, latest.mechanism) == (7000.0, None, Mechanism.CONGESTION)
    assert (first.since, first.until, first.seconds) == (400.0, 1900.0, 1400.0)
    assert (first.status, first.certainty) == (Status.BLOCKED, Certainty.CONFIRMED)
    assert first.summary == "Dropped."
    assert history.outages(1950.0, 2 * HOUR) == [latest]
    assert history.outages(0.0, 2 * HOUR, ["other"]) == []
    assert history.outages(0.0, 2 * HOUR, channel="chat") == []
    history.close()


def test_of_parts_that_are_as_sure_the_worst_tells_the_outage(written):
    """A channel is degraded until rounds enough have seen the worst of it."""
    written.span(0.0, HOUR)
    written.change(0.0, "ok", since=0.0)
    for at, status in ((600.0, "degraded"), (900.0, "blocked"), (1200.0, "degraded")):
        sure = {"certainty": "confirmed", "confidence": 0.92 if status == "degraded" else 0.9}
        written.change(at, status, "ip_drop", since=600.0, summary=f"M: {status}.", **sure)
    history = History(written.folder)
    [found] = history.outages(0.0, HOUR)
    history.close()
    assert (found.status, found.summary) == (Status.BLOCKED, "M: blocked.")


def test_an_outage_under_way_keeps_its_beginning_when_less_is_asked_for(written):
    written.span(0.0, 10 * DAY)
    written.change(100.0, "blocked", "ip_drop", since=100.0)
    history = History(written.folder)
    [found] = history.outages(9 * DAY, 10 * DAY)
    history.close()
    assert (found.since, found.until) == (100.0, None)


def slot(written: Written, at: float, *, target: int = 1, **figures: float) -> None:
    names = ["target", "at", "runs", "working", "sent", "received", *figures]
    values = [target, at, 10, 9, 50, 45, *figures.values()]
    marks = ", ".join("?" * len(names))
    written.db.execute(f"INSERT INTO slots ({', '.join(names)}) VALUES ({marks})", values)
    written.db.commit()


def test_a_series_is_joined_where_it_would_be_too_long(written):
    written.db.execute("INSERT INTO targets VALUES (1, 'm', 'call', 'relay', 'stun')")
    for number in range(12):
        slot(written, 600.0 * number, rtt_min=0.01 * (number + 1), rtt_median=0.1, rtt_p95=0.2)
    slot(written, 7200.0, loss=0.25, mos=3.0)
    history = History(written.folder)
    whole = history.series("m", "relay", 600.0, 7200.0)
    short = history.series("m", "relay", 0.0, 7200.0, most=2)
    assert [p.at for p in whole] == [600.0 * n for n in range(13)]
    assert [p.runs for p in short] == [60, 60, 10]
    assert [p.rtt_min for p in short] == [0.01, 0.07, None]
    assert [p.at for p in history.quality("m", "relay", 0.0, 8000.0)] == [7200.0]
    assert "rtt_min" not in point(short[2])
    assert history.series("m", "nobody", 0.0, 8000.0) == []
    history.close()


def test_no_store_and_one_of_another_version_are_said(written, tmp_path):
    with pytest.raises(NoHistory, match="does not exist"):
        History(tmp_path / "nowhere")
    written.db.execute("PRAGMA user_version = 99")
    with pytest.raises(NoHistory, match="version 99"):
        History(written.folder)
    (tmp_path / "callpath.sqlite").write_bytes(b"this is no database" * 99)
    with pytest.raises(NoHistory, match="cannot be read"):
        History(tmp_path)


def test_the_forms(written):
    written.span(0.0, 1000.0)
    written.change(100.0, "blocked", "ip_drop", since=100.0, summary='=CMD(), it says, "so"')
    history = History(written.folder)
    [found] = history.outages(0.0, 1000.0)
    assert outage(found)["from"] == "1970-01-01T00:01:40.000Z"
    lines = as_csv([found]).splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1].endswith(',"\'=CMD(), it says, ""so"""')
    [channel] = timeline(history.timeline(0.0, 1000.0))
    assert [s["status"] for s in channel["segments"]] == ["unknown", "blocked"]
    json.dumps(channel)
    history.close()


def test_it_is_read_while_it_is_written(written):
    written.span(0.0, 1000.0)
    history = History(written.folder)
    written.db.execute("BEGIN IMMEDIATE")
    written.db.execute("INSERT INTO spans VALUES (NULL, 2000, 3000, 60)")
    assert history.channels() == []
    written.db.rollback()
    history.close()


def test_what_cannot_be_read_is_not_held_open(tmp_path, monkeypatch):
    """The web process asks anew at every request, for as long as the disk is as it is."""
    (tmp_path / "callpath.sqlite").write_bytes(b"no database" * 500)
    opened: list[Counted] = []

    class Counted(sqlite3.Connection):
        closed = False

        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            opened.append(self)

        def close(self):
            self.closed = True
            super().close()

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Counted, **k))
    with pytest.raises(NoHistory, match="cannot be read"):
        History(tmp_path)
    assert len(opened) == 2
    assert all(db.closed for db in opened)
