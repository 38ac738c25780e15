"""The agent finds a block, and by itself where on the path it is done."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.actions import InjectReset
from tests.lab.censor import Censor, match
from tests.lab.lab import Lab
from tests.lab.world import HOPS, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOP = 2
INTERVAL = 3.0
PATIENCE = 180
NAME = "web.whatsapp.com"
MESSENGER = {
    "messenger": "quay",
    "title": "Quay",
    "owner": {"asns": [64500], "prefixes": []},
    "sources": [{"url": "https://example.org/", "read": "2026-01-01"}],
    "targets": [
        {"name": "page", "channel": "web", "probe": "tls", "host": NAME, "port": 443},
        {"name": "site", "channel": "chat", "probe": "tls", "host": "telegram.org", "port": 443},
    ],
}


def fetched(path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1:22550", timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def web_channel(lab: Lab) -> Any:
    """The channel once it is placed; None while it is not, or nothing is served."""
    try:
        told = json.loads(lab.world.call(fetched, "/api/v1/status"))
    except (OSError, ValueError):
        return None
    (found,) = [c for c in told["channels"] if c["channel"] == "web"]
    return found if found["place"] else None


def test_a_likely_block_is_placed_by_the_agent_itself(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "quay.yaml").write_text(yaml.safe_dump(MESSENGER))
    (tmp_path / "asn.tsv").write_text(f"{HOPS[HOP - 1][0]}/32 64496 Example Carrier\n")
    file = lab.configuration(
        tmp_path,
        INTERVAL,
        profile="research",
        risks="accepted",
        messengers=["quay"],
        messenger_dirs=[str(tmp_path / "own")],
        localise={"enabled": True, "asn_file": str(tmp_path / "asn.tsv")},
    )
    lab.world.rules.add(Censor(match(sni=NAME), InjectReset(), hop=HOP))
    with (tmp_path / "agent.log").open("w") as log:
        agent = lab.agent(["run", "--yes", "--config", str(file)], stdout=log, stderr=log)
        try:
            found = wait_until(lambda: web_channel(lab), "the place", PATIENCE)
            metrics = lab.world.call(fetched, "/metrics")
            page = lab.world.call(fetched, "/")
        finally:
            agent.terminate()
            assert agent.wait(30) == 0
    place = found["place"]
    assert (place["target"], place["low"], place["high"]) == ("page", HOP, HOP + 1)
    assert place["agreement"] == {"agree": 5, "runs": 5}
    assert place["networks"]["low"] == "AS64496 Example Carrier"
    said = f"between hop {HOP} (AS64496 Example Carrier) and hop {HOP + 1}; 5 of 5 runs agree."
    assert said in found["summary"]
    assert said in page
    hops = [line for line in metrics.splitlines() if line.startswith("callpath_interference_hop{")]
    labels = 'messenger="quay",target="page"'
    assert sorted(hops) == [
        f'callpath_interference_hop{{channel="web",kind="high",{labels}}} {HOP + 1}.0',
        f'callpath_interference_hop{{channel="web",kind="low",{labels}}} {HOP}.0',
    ]
    text = (tmp_path / "agent.log").read_text()
    assert "Traceback" not in text, text
    store = b"".join(f.read_bytes() for f in (tmp_path / "state").iterdir())
    assert not [v4 for v4, _ in HOPS if v4.encode() in store], "no router is kept"
