"""``callpath trace`` in the simulated internet: where a filter stands, without privileges."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.actions import Drop, Forge, InjectReset, Reject, RewriteToReset
from tests.lab.censor import Censor, match
from tests.lab.lab import Lab
from tests.lab.walking import asked, walk
from tests.lab.world import HOPS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LAST = len(HOPS)
WEB = "web.whatsapp.com"
RELAY = "whatsapp/relay-1-stun"
RESOLVER = "9.9.9.9"


def traced(lab: Lab, directory: Path, *arguments: str) -> Any:
    """The document of one trace."""
    file = lab.configuration(directory, profile="research", risks="accepted")
    process = lab.agent(
        ["trace", *arguments, "--json", "--config", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=200)
    assert process.returncode in (0, 1), err
    assert "Traceback" not in err, err
    return json.loads(out)


def relay(lab: Lab) -> str:
    (found,) = [
        t.addresses[0]
        for t in lab.catalogue.select(messenger="whatsapp", channel="call", probe="stun")
        if f"whatsapp/{t.name}" == RELAY
    ]
    return f"{found}/32"


def web(lab: Lab) -> str:
    return f"{lab.catalogue.names[WEB][0]}/32"


Filter = Callable[[Lab, int], Censor]
FILTERS: dict[str, tuple[int, tuple[str, ...], str, Filter]] = {
    "an address over TCP": (
        2,
        ("tcp", f"{WEB}:443"),
        "drop",
        lambda lab, hop: Censor(match(remote=web(lab), protocol="tcp"), Drop(), hop=hop),
    ),
    "an address is refused": (
        1,
        ("stun", RELAY),
        "refused",
        lambda lab, hop: Censor(match(remote=relay(lab), protocol="udp"), Reject(), hop=hop),
    ),
    "the cookie of STUN": (
        LAST,
        ("stun", RELAY),
        "drop",
        lambda lab, hop: Censor(match(stun=True, remote=relay(lab)), Drop(), hop=hop),
    ),
    "flows with a hello of DTLS": (
        3,
        ("dtls", RELAY),
        "flow cut off",
        lambda lab, hop: Censor(
            match(dtls=True, remote=relay(lab)), Drop(), "4-tuple", seconds=60, hop=hop
        ),
    ),
    "a name, with forged resets": (
        1,
        ("tls", f"{WEB}:443"),
        "reset",
        lambda lab, hop: Censor(match(sni=WEB), InjectReset(), hop=hop),
    ),
    "a name, with answers made resets": (
        4,
        ("tls", f"{WEB}:443"),
        "reset",
        lambda lab, hop: Censor(match(sni=WEB), RewriteToReset(), "4-tuple", seconds=60, hop=hop),
    ),
    "a name, silently": (
        LAST,
        ("tls", f"{WEB}:443"),
        "drop",
        lambda lab, hop: Censor(match(sni=WEB), Drop(), hop=hop),
    ),
    "a question for a name": (
        3,
        ("dns", WEB, "--server", RESOLVER),
        "forged answer",
        lambda lab, hop: Censor(match(dns=WEB), Forge(("10.10.34.36",), beside=True), hop=hop),
    ),
}


# What waits for silence at every hop takes half a minute each: ``make lab`` runs those.
SLOW = ("an address over TCP", "the cookie of STUN", "a name, with answers made resets")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n in SLOW else ()) for n in FILTERS]
)
def test_a_filter_is_placed(lab: Lab, tmp_path: Path, name: str) -> None:
    hop, asked, sign, made = FILTERS[name]
    lab.world.rules.add(made(lab, hop))
    told = traced(lab, tmp_path, *asked)
    assert (told["result"], told["interval"]) == ("found", {"low": hop, "high": hop + 1}), told
    assert sign in told["signs"]
    assert told["agreement"]["agree"] == told["agreement"]["runs"] == 5
    known = [r["address"] for r in told["routers"] if r["address"]]
    assert known[:hop] == [v4 for v4, _ in HOPS][:hop]
    assert told["packets"] <= 2000


@pytest.mark.parametrize("raw", [False, pytest.param(True, id="CAP_NET_RAW alone")])
@pytest.mark.parametrize("kind", ["stun", "tls"])
def test_it_needs_no_privilege(lab: Lab, kind: str, raw: bool) -> None:
    address, *more = {"stun": (relay(lab), 3478), "tls": (web(lab), 443, WEB)}[kind]
    lab.world.rules.add(Censor(match(stun=True, remote=address), Drop(), hop=4))
    lab.world.rules.add(Censor(match(sni=WEB), InjectReset(), hop=4))
    told = walk(lab.world, asked(kind, address, *more), raw=raw)
    assert (told["result"], told["interval"]) == ("found", {"low": 4, "high": 5}), told
    assert told["raw"]["used"] == raw
    if kind == "tls":
        assert told["method"] == ("R" if raw else "C")
        assert told["placement"] == ("on_path" if raw else "unknown")


def test_without_a_filter_nobody_is_named(lab: Lab, tmp_path: Path) -> None:
    for arguments in (("stun", RELAY), ("tls", f"{WEB}:443"), ("dns", WEB, "--server", RESOLVER)):
        told = traced(lab, tmp_path, *arguments)
        assert (told["result"], told["interval"]) == ("no_interference", None), told
        assert [r["address"] for r in told["routers"]] == [v4 for v4, _ in HOPS]
        assert told["distance"] == LAST + 1


def test_a_server_that_is_dead_is_called_that(lab: Lab, tmp_path: Path) -> None:
    host = web(lab).removesuffix("/32").rsplit(".", 1)[0] + ".9"
    told = traced(lab, tmp_path, "tcp", f"{host}:443")
    assert told["result"] == "dead_server", told
