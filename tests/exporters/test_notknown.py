"""Of how much of a time nothing is known, and how that is told."""

from __future__ import annotations

import pytest

from exporters import notknown
from exporters.account import Told, account
from exporters.history import History

HOUR = 3600.0
CALL, CHAT, NEVER = ("m", "call"), ("m", "chat"), ("new", "call")
VERSIONS = {"version": "1", "rules": "1", "catalogue": "1"}


@pytest.fixture
def unknown(written):
    """Of two hours: one without the agent, and ten minutes in which calls were not known."""
    since, until = 3 * HOUR, 5 * HOUR
    written.db.execute("DELETE FROM spans")
    written.span(0.0, 4 * HOUR)
    written.change(0.0, "ok")
    written.change(0.0, "ok", channel="chat")
    written.change(since, "unknown")
    written.change(since + 600, "ok")
    history = History(written.folder)
    found = notknown.not_known(history, {CALL, CHAT, NEVER}, since, until)
    history.close()
    return found


def test_what_was_not_measured_is_not_known(unknown):
    assert unknown == {CALL: HOUR + 600, CHAT: HOUR, NEVER: 2 * HOUR}
    assert notknown.in_words(unknown, 2 * HOUR) == [
        "Nothing is known of that time: new call.",
        "Not known for 1 h 10 min of it: m call.",
        "Not known for 1 h 0 min of it: m chat.",
    ]
    assert not notknown.is_nothing_known(unknown, 2 * HOUR)
    assert notknown.is_nothing_known({NEVER: 2 * HOUR}, 2 * HOUR)


def test_what_is_known_throughout_is_not_spoken_of():
    assert notknown.in_words({CALL: 0.0, CHAT: 29.0}, HOUR) == []
    assert notknown.listed({CALL: 0.0}) == []


def told(**given):
    values = {"outages": (), "place": {}, "judged": 0, "differing": 0, "left": {}, **given}
    return account(Told(since=0.0, until=2 * HOUR, versions=VERSIONS, **values))


def test_an_account_of_nothing_is_no_good_news(unknown):
    nothing = told(unknown={CALL: 2 * HOUR, CHAT: 2 * HOUR})
    assert "Nothing was measured in that time." in nothing
    assert "No channel" not in nothing
    assert "to 1970-01-01 02:00 UTC.\n" in nothing
    some = told(unknown=unknown, place={"vantage": "kitchen"})
    assert "No channel was seen degraded" in some
    assert "Not known for 1 h 10 min of it: m call." in some
    assert "02:00 UTC, vantage kitchen.\n" in some
