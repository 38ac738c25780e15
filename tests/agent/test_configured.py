"""What the configuration makes of the agent: where it writes, what it asks, from where."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import wiring
from agent.checks import dress_of, environment, limits_of, to_check
from config.loader import load
from probes.model import Family
from probes.net.errors import NotMeasured
from tests.agent.building import FakeStun, World, configuration, control, messenger, target

RELAY = target(
    "relay",
    probe=FakeStun(World()),
    host="relay.test",
    addresses=("192.0.2.5",),
    family=Family.IPV4,
    timeout=3.0,
)


def test_state_dir(monkeypatch, tmp_path):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))

    def where(**given):
        return wiring.state_dir(configuration((), (), **given))

    assert where() == tmp_path / "xdg" / "callpath"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert where() == Path("/var/lib/one")
    assert where(state_dir=str(tmp_path)) == tmp_path


def test_contact_rows_say_how_often_and_how_much():
    relay = target("relay", host="relay.test", addresses=("192.0.2.1",))
    config = configuration((messenger(relay),), (control("c", probe=FakeStun(World()), kind=""),))
    rows = {row["target"]: row for row in wiring.contact_rows(config)}
    assert rows["relay"]["seconds"] == 60
    assert rows["relay"]["bytes_per_day"] == round(86400 / 66 * 900)  # 66 s on average
    assert (rows["c"]["role"], rows["c"]["channel"]) == ("foreign", "")


def test_the_environment_is_what_was_configured():
    config = configuration(
        (),
        (),
        source_address="192.0.2.3",
        resolvers={"system": "192.0.2.53"},
        limits={"bytes_per_day": "1MiB"},
    )
    env, manners = environment(config)
    assert (env.source.address, env.source.interface) == ("192.0.2.3", "")
    assert env.system == "192.0.2.53"
    assert env.courtesy is manners
    assert env.traffic is manners.traffic
    assert limits_of(config.settings).bytes_per_day == 2**20
    named, _ = environment(configuration((), (), source_address="wlan0"))
    assert (named.source.address, named.source.interface) == ("", "wlan0")


def test_a_target_becomes_a_check():
    config = load(None)
    env, _ = environment(config)
    made = to_check(RELAY, env)
    assert (made.host, made.port, made.pinned) == ("relay.test", 3478, ("192.0.2.5",))
    assert (made.family, made.timeout) == (Family.IPV4, 3.0)
    assert dress_of(RELAY) == "bare"


def test_a_resolver_that_is_not_to_be_had_is_not_measured(monkeypatch, tmp_path):
    monkeypatch.setattr("probes.net.resolver._RESOLV_CONF", tmp_path / "none")
    config = load(None)
    env, _ = environment(config)
    system = next(t for m in config.messengers for t in m.targets if t.target.probe == "dns")
    with pytest.raises(NotMeasured, match="no_resolver"):
        to_check(system, env)
