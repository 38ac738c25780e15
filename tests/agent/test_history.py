"""What is kept of the rounds, and that it is enough to judge them again."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from agent import history as history_module
from agent import replay as replay_module
from agent.history import BELIEVED_AFTER, Calendar, _difference
from agent.replay import Counted, _past, replay
from agent.rounds import Beat
from agent.store import Store
from agent.trimming import WHOLE_FOR, Limits, trimming
from exporters.history import NOT_RUNNING, History
from exporters.record import pack, unpack, unpack_observations
from probes.model import CONTROL, VantageStatus
from tests.agent.building import judgement, seen, target
from tests.agent.line import CHAT, OURS, RELAYS, Line
from tests.exporters.building import finding

DAY = 86400.0


@pytest.fixture(autouse=True)
def one_clock(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what earlier rounds saw as well, which lasts a day."""
    monkeypatch.setattr("agent.followup.time", line.clock.module)


def opened(line: Line) -> History:
    return History(line.folder)


def replayed(line: Line, since: float = 0.0):
    """All rounds since then, judged again."""
    history, counted = opened(line), Counted()
    try:
        rows = history.rows("m", since, line.clock.wall)
        [messenger] = line.core.config.messengers
        found = list(replay(rows, since, messenger, line.core.config.controls, counted))
    finally:
        history.close()
    return found, counted


def segments(line: Line, channel: str = "call") -> list[tuple[str, str]]:
    history, now = opened(line), line.clock.wall
    try:
        its = history.segments("m", channel, now - DAY, now)
    finally:
        history.close()
    return [(str(s.status), s.why) for s in its]


async def an_outage(line: Line) -> None:
    """19 rounds: four good ones, six without a relay, nine good ones."""
    await line.round(4)
    line.world.silent.update(RELAYS)
    await line.round(6)
    line.world.silent.clear()
    await line.round(9)


async def test_every_kept_round_is_judged_again_as_it_was(line):
    await an_outage(line)
    found, counted = replayed(line)
    assert counted.left == {}
    assert counted.judged == len(found) == 19
    assert [one.differs for one in found] == [[]] * 19
    assert {d["status"] for one in found for d in one.before} == {"ok", "unreachable"}


async def test_what_is_judged_again_is_what_was_judged(line, monkeypatch):
    """Not only the verdict: all that the rules read."""
    noted = []
    note = history_module.History.note_round
    monkeypatch.setattr(
        history_module.History,
        "note_round",
        lambda self, judged, shown: (noted.append(judged), note(self, judged, shown)),
    )
    line.world.resetting.update({CHAT})
    await an_outage(line)
    line.world.resetting.clear()
    await line.round(8)
    await an_outage(line)
    found, _ = replayed(line)
    assert len(found) == len(noted) == 46
    for one, judged in zip(found, noted, strict=True):
        again = one.judged
        assert again.judgement == judged.judgement
        assert [e.proven for e in again.evidence] == [e.proven for e in judged.evidence]
        ids = [[o.id for o in e.observations] for e in again.evidence]
        assert ids == [[o.id for o in e.observations] for e in judged.evidence]
        assert (again.known is None) == (judged.known is None)
        if judged.known is not None:
            assert [o.id for o in again.known.past] == [o.id for o in judged.known.past]
            assert [o.id for o in again.known.contrasts] == [o.id for o in judged.known.contrasts]
            assert again.known.verified == judged.known.verified
            assert len(again.known.controls) == len(judged.known.controls) > 0
    assert any(judged.known and judged.known.past for judged in noted)


async def test_a_part_is_judged_again_without_what_was_long_before(line, monkeypatch):
    monkeypatch.setattr(history_module, "ANCHOR_EVERY", 3)
    await an_outage(line)
    since = line.clock.wall - 11.5 * 66.0
    found, counted = replayed(line, since)
    assert counted.left == {}
    assert len(found) == 11
    assert [one.differs for one in found] == [[]] * 11
    assert found[0].judged.known.past, "two of the outage's rounds are among them"


async def test_a_rule_that_changed_is_seen_to_differ(line, monkeypatch):
    await an_outage(line)
    judged_again = replay_module.rejudge

    def otherwise(judged, messenger):
        made = judged_again(judged, messenger)
        return tuple(replace(d, findings=(finding(),)) if d.channel == "call" else d for d in made)

    monkeypatch.setattr(replay_module, "rejudge", otherwise)
    found, _ = replayed(line)
    differing = [d for one in found for d in one.differs]
    assert {now["channel"] for _, now in differing} == {"call"}
    assert {now["mechanism"] for _, now in differing} == {"ip_drop"}


async def test_the_timeline_of_an_outage(line):
    await an_outage(line)
    assert segments(line) == [
        ("unknown", NOT_RUNNING),
        ("ok", ""),
        ("unreachable", ""),
        ("ok", ""),
    ]
    assert segments(line, "chat") == [("unknown", NOT_RUNNING), ("ok", "")]
    history = opened(line)
    [outage] = history.outages(0.0, line.clock.wall)
    failed = history.failures("m", "relay0", 4)
    history.close()
    assert outage.channel == "call"
    assert outage.until - outage.since == pytest.approx(6 * 66.0)
    assert len([o for o in failed if o.contrast is None]) == 4
    assert {o.target.name for o in failed} == {"relay0"}
    assert not any(o.works for o in failed if o.contrast is None)


async def test_a_restart_is_a_gap_and_no_change(line):
    await line.round(3)
    line.restart(seconds=3600.0)
    await line.round(3)
    assert segments(line) == [
        ("unknown", NOT_RUNNING),
        ("ok", ""),
        ("unknown", NOT_RUNNING),
        ("ok", ""),
    ]
    assert line.store.read("SELECT count(*) FROM changes WHERE channel = 'call'") == [(1,)]


async def test_a_line_that_is_down_is_not_known_at_once(line):
    await line.round(3)
    line.cut()
    await line.round(3)
    assert ("unknown", "offline") in segments(line)


# --- what is kept, and for how long -----------------------------------------------------------


async def test_successes_go_after_two_days_and_evidence_stays(line):
    await an_outage(line)
    [(before,)] = line.store.read("SELECT count(*) FROM rounds WHERE messenger = 'm'")
    assert before == 19
    line.clock.forward(WHOLE_FOR + 20 * 66.0)
    await line.round(3)
    kept = line.store.read("SELECT id FROM rounds WHERE messenger = 'm' AND kept = 1")
    assert len(kept) == 8, "the six of the outage, and those that said ok first"
    found, counted = replayed(line)
    assert [one.differs for one in found] == [[]] * len(found)
    assert counted.judged >= len(kept)
    gone = line.store.read("SELECT count(*) FROM rounds WHERE kept = 0 AND worked IS NULL")
    assert gone == [(0,)], "nothing failed in them"


async def test_what_is_kept_rests_on_nothing_that_goes(line):
    await an_outage(line)
    between = line.clock.wall
    await line.round(6)
    await an_outage(line)
    line.clock.forward(WHOLE_FOR + 50 * 66.0)
    await line.round(3)
    assert line.store.read("SELECT count(*) FROM rounds WHERE at < ? AND kept = 0", between) == [
        (0,)
    ]
    kept = line.store.read("SELECT id, at FROM rounds WHERE messenger = 'm' AND kept = 1")
    assert len(kept) > 12
    for since in (0.0, between):
        found, _ = replayed(line, since)
        assert {int(i) for i, at in kept if at >= since} <= {one.row for one in found}
        assert [one.differs for one in found] == [[]] * len(found)


async def test_controls_that_are_written_already_are_kept_with_what_they_explain(line):
    """Two messengers share the controls of a beat, and the first one is done with them."""
    line.core = line.make(line.messenger("m"), line.messenger("n"))
    await line.round(3, name="m")
    beat = Beat(line.clock.wall)
    await line.core.run_messenger("m", beat)
    line.world.silent.update(RELAYS)
    sql = "SELECT kept FROM rounds WHERE messenger = 'control' ORDER BY id DESC LIMIT 1"
    assert line.store.read(sql) == [(0,)]
    await line.core.run_messenger("n", beat)
    assert line.store.read(sql) == [(1,)]


def test_a_line_that_shows_another_network_makes_no_figures(line):
    seen_now = seen(target("t"), at=1000.0)
    tunnelled = judgement(status=VantageStatus.TUNNELLED)
    line.history._add_figures(1000.0, tunnelled, [seen_now])
    assert line.history._slots.whole(5000.0) == []
    line.history._add_figures(1000.0, judgement(), [seen_now])
    assert len(line.history._slots.whole(5000.0)) == 1


async def test_after_keep_everything_goes_but_what_stands(line):
    await an_outage(line)
    line.clock.forward(31 * DAY)
    await line.round(18)
    assert line.store.read("SELECT min(at) FROM rounds")[0][0] > line.clock.wall - 20 * 66.0
    assert line.store.read("SELECT count(*) FROM changes WHERE channel = 'call'") == [(1,)]
    assert segments(line)[-1] == ("ok", "")


async def test_ten_minutes_become_figures(line):
    await line.round(30)
    history, now = opened(line), line.clock.wall
    points = history.series("m", "relay0", now - DAY, now)
    controls = history.series(CONTROL, "stun0", now - DAY, now)
    history.close()
    assert len(points) == len(controls) == 3
    assert all(p.runs == p.working for p in points)
    assert 8 <= points[1].runs <= 10


async def test_figures_of_a_slot_survive_a_kill(line):
    await line.round(12)
    before = line.store.read("SELECT count(*), sum(runs) FROM slots")
    line.restart()
    await line.round(10)
    after = line.store.read("SELECT at, sum(runs) FROM slots GROUP BY at ORDER BY at")
    assert before[0][0] > 0
    asked = line.store.read("SELECT at, failed, worked FROM rounds ORDER BY id")
    for start, runs in after:
        its = [row for row in asked if start <= row[0] < start + 600]
        seen = [o for _, *both in its for packed in both for o in unpack_observations(packed)]
        assert runs == len([o for o in seen if o.contrast is None])


def test_the_size_is_held_and_what_changed_goes_last(tmp_path):
    store = Store(tmp_path / "s")
    blob = os.urandom(20_000)
    rounds = [(n, float(n), "m", 1, 0, blob, None, None, None) for n in range(1, 501)]
    slots = [(1, 600 * n, *[0] * 13) for n in range(4000)]
    changes = [(n, float(n), *["x"] * 5, 0, "", 0.0, 0.0, "", "", "", 0) for n in range(1, 51)]
    targets = [(1, "m", "call", "relay", "stun")]
    store.save_round(
        "",
        history=[
            (f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            for table, rows in (
                ("rounds", rounds),
                ("slots", slots),
                ("changes", changes),
                ("targets", targets),
            )
        ],
    )

    def trimmed(most: int, turns: int) -> tuple[int, int, int]:
        for turn in range(1, turns):
            work = trimming(Limits(30 * DAY, most), 100.0, turn)
            assert store.save_round("", history=work) == (True, True)
            store.give_back(most)
        counts = [store.read(f"SELECT count(*) FROM {t}") for t in ("rounds", "slots", "changes")]
        return tuple(int(rows[0][0]) for rows in counts)

    file = tmp_path / "s" / "callpath.sqlite"
    rows, figures, changed = trimmed(4_000_000, 20)
    assert 100 < rows < 250
    assert store.read("SELECT min(id) FROM rounds")[0][0] > 250, "the oldest goes first"
    assert (figures, changed) == (4000, 50)
    assert store.read("SELECT count(*) FROM pragma_freelist_count WHERE freelist_count > 500")
    rows, figures, changed = trimmed(150_000, 20)
    assert (rows, changed) == (0, 50)
    assert 0 < figures < 4000
    store.close()
    assert file.stat().st_size < 1_000_000
    assert trimming(Limits(30 * DAY, 1), 100.0, 1)


async def test_no_history_leaves_nothing(line):
    line.history.limits = None
    await an_outage(line)
    for table in ("rounds", "changes", "spans", "slots"):
        assert line.store.read(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_our_own_address_is_in_no_file(line):
    await an_outage(line)
    line.store.close()
    seen = b"".join(file.read_bytes() for file in line.folder.iterdir())
    assert RELAYS[0].encode() in seen, "their smallest RTTs"
    assert OURS.encode() not in seen
    line.restart()
    packed = line.store.read("SELECT judged, failed, worked FROM rounds")
    texts = [json.dumps(unpack(blob)) for row in packed for blob in row if blob is not None]
    assert any(RELAYS[0] in text for text in texts)
    assert not any(OURS in text for text in texts)


# --- what can go wrong ------------------------------------------------------------------------


async def test_what_could_not_be_written_is_written_later(line, caplog):
    await line.round(2)
    line.store._db.execute("PRAGMA query_only = ON")
    line.world.silent.update(RELAYS)
    assert (await line.statuses(4))["call"] == "unreachable"
    assert not line.store.healthy
    assert caplog.text.count("cannot be written") == 1
    line.store._db.execute("PRAGMA query_only = OFF")
    await line.round(2)
    assert line.store.healthy
    found, counted = replayed(line)
    assert len(found) == 8
    assert counted.left == {}
    assert segments(line)[-1] == ("unreachable", "")


async def test_a_history_that_cannot_be_written_does_not_cost_the_states(line):
    await line.round(2)
    line.store._db.execute("DROP TABLE spans")
    line.world.silent.update(RELAYS)
    await line.round(4)
    assert not line.store.healthy
    states = line.store.states(line.core.learned.network)
    assert str(states["m", "call"].confirmed) == "unreachable"


async def test_rounds_that_wait_for_a_disk_are_bounded_and_what_changed_is_not_lost(
    line, monkeypatch
):
    monkeypatch.setattr(history_module, "WAITING_MOST", 6)
    await line.round(2)
    line.store._db.execute("PRAGMA query_only = ON")
    line.world.silent.update(RELAYS)
    await line.round(12)
    assert len(line.history._unsaved) < 40
    line.store._db.execute("PRAGMA query_only = OFF")
    await line.round(3)
    assert segments(line)[-1] == ("unreachable", "")
    found, _ = replayed(line)
    assert [one.differs for one in found] == [[]] * len(found)
    assert found[-1].judged.known.past


async def test_damaged_rounds_cost_only_themselves(line):
    await an_outage(line)
    line.store._write(("UPDATE rounds SET failed = ? WHERE id % 5 = 0", [(b"\x00broken",)]))
    line.store._write(("UPDATE rounds SET judged = ? WHERE id % 7 = 0", [(pack([1]),)]))
    found, counted = replayed(line)
    assert 0 < counted.judged < 19
    assert [one.differs for one in found] == [[]] * len(found)
    history = opened(line)
    history.failures("m", "relay0")
    history.close()
    line.restart()  # the figures under way are read from them
    await line.round(1)


@pytest.mark.parametrize("step", [DAY, -DAY])
async def test_a_clock_that_goes_a_day_off_and_back(line, step):
    """It is not believed for ten minutes, and then not while the controls say that it is wrong."""
    await an_outage(line)
    line.clock.wall += step
    await line.round(5)
    line.clock.wall -= step
    await line.round(5)
    [(first, last)] = line.store.read("SELECT min(at), max(at) FROM rounds")
    assert last - first == pytest.approx(28 * 66.0, abs=1.0)
    assert segments(line)[-1] == ("ok", "")
    assert len(segments(line)) == 4


def test_a_clock_that_stays_where_it_was_set_is_believed():
    calendar = Calendar()
    assert calendar.now(1000.0, 0.0, wrong=False) == 1000.0
    assert calendar.now(1060.5, 60.0, wrong=False) == 1060.5, "slewed"
    assert calendar.now(9000.0, 70.0, wrong=False) == 1070.5
    later = 70.0 + BELIEVED_AFTER
    assert calendar.now(9000.0 + BELIEVED_AFTER, later, wrong=True) == 1000.5 + later
    assert calendar.now(9001.0 + BELIEVED_AFTER, later + 1, wrong=False) == 1001.5 + later
    at = 9000.0 + 2 * BELIEVED_AFTER + 1.0
    assert calendar.now(at, later + 1 + BELIEVED_AFTER, wrong=False) == at


# --- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("", ""),
        ("abc", "abc"),
        ("abc", "bcd"),
        ("abc", "xyz"),
        ("", "a"),
        ("abc", "acd"),
        ("a", ""),
    ],
)
def test_a_difference_leads_from_one_past_to_the_next(before, now):
    told = json.loads(json.dumps(_difference(tuple(before), tuple(now))))
    assert _past(told, tuple(before), False) == tuple(now)
    if "all" not in told:
        assert _past(told, None, False) is None
