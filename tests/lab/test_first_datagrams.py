"""First words over UDP for real, a probe at a time; and filters on them, on the virtual clock."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.interference import datagrams
from tests.lab.lab import Lab
from tests.lab.presets import preset
from tests.lab.world import ROOT

RESEARCH = {"profile": "research", "risks": "accepted"}


def probed(lab: Lab, directory: Path, kind: str, target: str, *options: str) -> dict[str, Any]:
    """The one observation of ``callpath probe``."""
    file = lab.configuration(directory, **RESEARCH)
    command = ["probe", kind, target, "--json", "--config", str(file), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    out, error = lab.agent(command, **pipes).communicate(timeout=60)
    assert "Traceback" not in error, error
    (seen,) = json.loads(out)["observations"]
    return dict(seen)


@pytest.mark.lab
def test_a_reflector_is_pinged(lab: Lab, tmp_path: Path) -> None:
    target = lab.catalogue.select(probe="reflector")[0]
    seen = probed(lab, tmp_path, "reflector", f"telegram/{target.name}")
    assert seen["ok"]
    assert seen["facts"]["answered"] == 5
    assert abs(seen["facts"]["clock_offset_seconds"]) <= 1


@pytest.mark.lab
def test_a_ladder_of_quic_says_what_of_it_is_swallowed(lab: Lab, tmp_path: Path) -> None:
    seen = probed(lab, tmp_path, "quic", "whatsapp/web-quic")
    assert seen["ok"], seen
    assert seen["facts"]["quic_ladder"] == "open"
    for rule in preset("quic_sni", sni="web.whatsapp.com"):
        lab.world.rules.add(rule)
    seen = probed(lab, tmp_path, "quic", "whatsapp/web-quic")
    assert seen["failure"] == "timeout"
    rungs = [seen["facts"][f"quic_{rung}"] for rung in ("ping", "neutral", "name", "v2")]
    assert rungs == ["ok", "ok", "timeout", "ok"]
    assert seen["facts"]["quic_ladder"] == "name_v1"
    assert seen["facts"]["retransmissions"] == 4


@pytest.mark.lab
def test_a_relays_certificate_is_the_pinned_one_or_not(lab: Lab, tmp_path: Path) -> None:
    operator = next(o for o in lab.servers.operators if o.name == "whatsapp")
    pem = (lab.servers.directory / f"{operator.slug}.pem").read_text()
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    address, port = operator.places[0]
    for fingerprint, failure in ((pin, None), ("ab" * 32, "bad_certificate")):
        options = ("--fingerprint", fingerprint)
        seen = probed(lab, tmp_path, "dtls", f"{address}:{port}", *options)
        assert seen["failure"] == failure
        assert seen["facts"]["certificate_sha256"] == pin
        assert seen["facts"]["fingerprint_matches"] is (failure is None)


PLAY = """
import json, sys
from dataclasses import asdict
from tests.lab import trials
names = sys.argv[1:]
chosen = [trials.SCENARIOS[name] for name in names]
for group in trials.groups(chosen, "research", [1], 1):
    for found in trials.play_group(group):
        print(json.dumps(asdict(found)))
"""
SAMPLE = (
    "DTLS swallowed, whoever says it",
    "one program's DTLS swallowed",
    "QUIC with WhatsApp's names swallowed",
    "QUIC's version 1 swallowed",
)


@pytest.mark.slow
def test_filters_on_first_datagrams_are_named() -> None:
    """Each once; all of them, with more seeds, are for ``make lab``."""
    assert set(SAMPLE) <= {scenario.name for scenario in datagrams.ALL}
    command = [sys.executable, "-c", PLAY, *SAMPLE]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {f["scenario"] for f in found} == set(SAMPLE)
    assert [f for f in found if f["error"] or f["accused"] or not f["right"]] == []
    rules = [word for f in found for words in f["last"].values() for word in words.split()]
    assert {"R39a", "R39f", "R42", "R43"} <= set(rules)
