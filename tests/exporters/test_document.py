"""The JSON form of a report, key by key as the design promises it to others (5.2)."""

from __future__ import annotations

import json
from datetime import datetime

from exporters.document import document, observation, timestamp
from probes.model import Failure, Proof, Status, Target, TargetState
from tests.exporters.building import AT, HOSTILE, contrast, diagnosis, finding, located, report
from tests.exporters.building import observation as seen

VERSIONS = {"version": "1.2.3", "rules": "1", "catalogue": "2026.11.20"}


def made(*diagnoses, observations=True):
    text = json.dumps(document(report(*diagnoses), VERSIONS, observations=observations))
    return json.loads(text)


def test_the_whole_document():
    found = made(observations=False)
    assert found == {
        "version": 1,
        "at": "2027-01-15T08:00:00.000Z",
        "callpath": VERSIONS,
        "vantage": {"name": "babadede", "status": "online", "reason": "controls answer"},
        "channels": found["channels"],
    }
    assert found["channels"][0] == {
        "messenger": "m",
        "channel": "call",
        "status": "unreachable",
        "intermittent": False,
        "mechanism": "inconclusive",
        "certainty": "none",
        "confidence": 0,
        "rule": "",
        "summary": "Messy calls: unreachable, none of 2 servers answers; 2 failed.",
        "reason": "exchange:timeout",
        "findings": [],
        "since": "2027-01-15T08:00:00.000Z",
        "targets": {"working": 0, "deciding": 2, "total": 3},
        "place": None,
        "target_states": [
            {
                "target": "relay",
                "probe": "stun",
                "address": "192.0.2.1",
                "works": False,
                "proof": "captured",
                "last_run": "2027-01-15T08:00:00.000Z",
            },
            {
                "target": "idle",
                "probe": "stun",
                "address": None,
                "works": None,
                "proof": "unproven",
                "last_run": None,
            },
        ],
    }


def test_what_transfers_says_whether_it_crawls():
    of = Target("m", "web", "big", "transfer")
    for slow in (True, False, None):
        state = TargetState(of, "192.0.2.1", True, Proof.DOCUMENTED, True, None, slow)
        (shown,) = made(diagnosis(targets=(state,)))["channels"][0]["target_states"]
        assert shown.get("slow") is slow


def test_a_place_is_told_without_a_router():
    (shown,) = made(diagnosis(place=located()))["channels"]
    assert shown["place"] == {
        "target": "relay",
        "low": 2,
        "high": 3,
        "agreement": {"agree": 5, "runs": 6},
        "method": "A",
        "placement": "in_path",
        "networks": {"low": "AS64496 Carrier", "high": None},
        "at": "2027-01-15T08:00:00.000Z",
    }


def test_ok_has_no_mechanism_and_the_first_finding_speaks_for_the_channel():
    (fine,) = made(diagnosis(status=Status.OK, since=None))["channels"]
    assert (fine["mechanism"], fine["certainty"], fine["since"]) == ("none", "none", None)
    (blocked,) = made(diagnosis(status=Status.BLOCKED, findings=(finding(),)))["channels"]
    assert (blocked["mechanism"], blocked["certainty"]) == ("ip_drop", "likely")
    assert (blocked["confidence"], blocked["rule"]) == (0.8, "R12")
    assert blocked["findings"] == [
        {
            "mechanism": "ip_drop",
            "certainty": "likely",
            "confidence": 0.8,
            "rule": "R12",
            "variant": "slow",
            "evidence": ["o1"],
        }
    ]


def test_an_observation():
    found = observation(seen(failure=Failure.TIMEOUT, sent=5, answers=("a", "b")))
    assert found == {
        "id": "o1",
        "messenger": "m",
        "channel": "call",
        "target": "relay",
        "probe": "stun",
        "contrast": None,
        "at": "2027-01-15T08:00:00.000Z",
        "ok": False,
        "works": False,
        "failed_step": "exchange",
        "failure": "timeout",
        "steps": [
            {"step": "connect", "seconds": 0.01, "failure": None},
            {"step": "exchange", "seconds": 0.023457, "failure": "timeout"},
        ],
        "facts": {"address": "192.0.2.1", "family": "ipv4", "sent": 5, "answers": ["a", "b"]},
    }
    fine = observation(seen())
    assert (fine["ok"], fine["works"], fine["failed_step"], fine["failure"]) == (
        True,
        True,
        None,
        None,
    )
    assert observation(contrast())["contrast"] == {"of": "o1", "differs": "address"}


def test_an_exceptions_own_words_stay_out():
    assert "why" not in json.dumps(observation(seen(failure=Failure.OTHER)))


def test_observations_only_where_they_are_asked_for():
    assert "observations" not in made(observations=False)
    with_them = document(report(observations=(seen(),)), VERSIONS, observations=True)
    assert [o["id"] for o in with_them["observations"]] == ["o1"]


def test_hostile_text_is_json_text():
    found = made(diagnosis(summary=HOSTILE))
    assert found["channels"][0]["summary"] == HOSTILE


def test_instants_are_rfc_3339_utc():
    for at in (0.0, AT, AT + 0.123456, 4e9):
        text = timestamp(at)
        assert text.endswith("Z")
        assert abs(datetime.fromisoformat(text).timestamp() - at) < 0.001
