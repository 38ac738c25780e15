"""A probe is one file: it is found, and says what it takes and what it costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from probes.registry import PROBES, needs_research
from tests.probes.certificates import NAME

NEEDED: dict[str, dict[str, Any]] = {
    "https": {"url": f"https://{NAME}/"},
    "dns": {"query": NAME},
    "transfer": {"url": f"https://{NAME}/"},
    "echo": {"header": "1337cafe"},
}


def test_every_kind_is_found() -> None:
    assert set(PROBES) == {
        "dns",
        "tcp",
        "tls",
        "https",
        "stun",
        "turn",
        "dtls",
        "quic",
        "reflector",
        "echo",
        "transfer",
        "media",
        "mtproto",
        "noise",
        "call",
    }
    with pytest.raises(TypeError):
        PROBES["more"] = PROBES["tcp"]  # type: ignore[index]


@pytest.mark.parametrize("kind", PROBES)
def test_a_probe_says_what_it_takes_and_what_it_costs(kind: str) -> None:
    made = PROBES[kind](**NEEDED.get(kind, {}))
    assert made.kind == kind
    assert made.takes == {"https": "url", "transfer": "url", "dns": "resolver"}.get(kind, "host")
    assert 1 <= made.packets_per_run <= (20 if kind == "quic" else 5)
    most = 1_300_000 if needs_research(made) else 40_000
    assert 100 < made.bytes_per_run < most
    assert isinstance(made.handshake, bool)
    assert type(made).__doc__
    assert hash(made) == hash(PROBES[kind](**NEEDED.get(kind, {})))
    assert dataclasses.is_dataclass(made)


@pytest.mark.parametrize(
    ("kind", "options", "handshake"),
    [
        ("tls", {}, True),
        ("dtls", {}, True),
        ("tcp", {}, False),
        ("https", {"url": "https://x.test/"}, True),
        ("https", {"url": "http://x.test/"}, False),
        ("stun", {}, False),
        ("reflector", {}, False),
        ("echo", {}, False),
        ("quic", {}, True),
        ("stun", {"transport": "tls"}, True),
        ("turn", {"transport": "tcp"}, False),
        ("turn", {"transport": "tls"}, True),
        ("dns", {"resolver": "ours/https"}, True),
        ("dns", {"resolver": "ours/tcp"}, False),
    ],
)
def test_public_key_work_is_declared_and_costs_more(
    kind: str, options: dict[str, Any], handshake: bool
) -> None:
    made = PROBES[kind](**{**NEEDED.get(kind, {}), **options})
    assert made.handshake is handshake
    assert (made.bytes_per_run >= 2000) is handshake


def test_what_is_kept_for_research() -> None:
    made = {kind: probe(**NEEDED.get(kind, {})) for kind, probe in PROBES.items()}
    kept = [kind for kind, probe in made.items() if needs_research(probe)]
    assert sorted(kept) == ["call", "quic", "transfer"]
