from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from config.calibration import covers
from config.loader import load
from config.model import Calibrated
from probes.model import Target

ENTRY = {
    "messenger": "telegram",
    "target": "call-eu-1",
    "probe": "stun",
    "dress": "bare",
    "asked": 10,
    "answered": 10,
    "last_answered": "2026-11-20",
}
FILE = {
    "version": 1,
    "catalogue": "2026.11.24",
    "network": "fixed",
    "at": "2026-11-20T12:00:00+03:00",
    "targets": [ENTRY],
}
TARGET = Target("telegram", "call", "call-eu-1", "stun")


@pytest.fixture
def calibrate(write):
    def _calibrate(content: object):
        text = content if isinstance(content, str) else json.dumps(content)
        write("cal.json", text)
        return write("callpath.yaml", "messengers: [telegram]\ncalibration: [cal.json]\n")

    return _calibrate


def test_a_calibration_file_is_read(calibrate) -> None:
    (entry,) = load(calibrate(FILE)).calibration
    assert entry == Calibrated(
        "telegram",
        "call-eu-1",
        "stun",
        "bare",
        10,
        10,
        date(2026, 11, 20),
        1795165200.0,
        "fixed",
        "2026.11.24",
    )


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({"version": 2}, "version", "must be 1"),
        ({"network": "dsl"}, "network", "'fixed'"),
        ({"at": "2026-11-20"}, "at", ""),
        ({"at": "2026-11-20T12:00:00"}, "at", "timezone"),
        ({"at": 5}, "at", ""),
        ({"note": "x"}, "note", "not a known key"),
        ({"targets": [{**ENTRY, "asked": 0}]}, "targets[0].asked", "greater"),
        ({"targets": [{**ENTRY, "asked": "10"}]}, "targets[0].asked", "integer"),
        ({"targets": [{**ENTRY, "answered": 11}]}, "targets[0]", "more often than asked"),
        ({"targets": [{**ENTRY, "answered": 0}]}, "targets[0]", "last_answered"),
        ({"targets": [{**ENTRY, "last_answered": None}]}, "targets[0]", "last_answered"),
        (
            {"targets": [{**ENTRY, "last_answered": "2999-01-01"}]},
            "targets[0].last_answered",
            "future",
        ),
        ({"targets": [{**ENTRY, "colour": "red"}]}, "targets[0].colour", "not a known key"),
        ({"targets": [{**ENTRY, "dress": "BARE"}]}, "targets[0].dress", "pattern"),
    ],
)
def test_one_mistake_is_one_message(calibrate, problems, change, key, message) -> None:
    (found,) = problems(calibrate({**FILE, **change}))
    assert (found.file.endswith("cal.json"), found.line, found.key) == (True, 0, key)
    assert message in found.message


def test_bad_syntax_has_a_line(calibrate, problems) -> None:
    (found,) = problems(calibrate('{"version": 1,\n "at" }\n'))
    assert (found.line, found.key) == (2, "")


def test_silence_is_a_result_too(calibrate) -> None:
    silent = {**ENTRY, "answered": 0, "last_answered": None}
    (entry,) = load(calibrate({**FILE, "targets": [silent]})).calibration
    assert covers([entry], TARGET, "bare") is None


ANSWERED = Calibrated(
    "telegram", "call-eu-1", "stun", "bare", 10, 9, date(2026, 11, 1), 1.0, "fixed", "x"
)


@pytest.mark.parametrize(
    ("change", "target", "dress", "covered"),
    [
        ({}, TARGET, "bare", True),
        ({}, TARGET, "app", False),
        ({"answered": 0}, TARGET, "bare", False),
        ({"messenger": "whatsapp"}, TARGET, "bare", False),
        ({"target": "call-eu-2"}, TARGET, "bare", False),
        ({"probe": "turn"}, TARGET, "bare", False),
        ({}, replace(TARGET, channel="chat"), "bare", True),
    ],
)
def test_what_covers_a_target(change, target, dress, covered) -> None:
    assert (covers([replace(ANSWERED, **change)], target, dress) is not None) is covered


def test_the_newest_answer_counts() -> None:
    newer = replace(ANSWERED, last_answered=date(2026, 11, 5), at=0.5)
    later = replace(newer, at=2.0)
    assert covers([ANSWERED, later, newer], TARGET, "bare") is later
    assert covers([newer, ANSWERED], TARGET, "bare") is newer
