"""The JSON schemas describe what the loader takes, no more and no less."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from config.mistakes import known_keys
from config.schema import Settings, messenger_model, schema
from probes.registry import PROBES

SCHEMA = schema()


def test_there_is_one_for_each_kind_of_file() -> None:
    assert SCHEMA.keys() == {"callpath", "messenger", "controls"}
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_key_of_callpath_yaml_is_described_with_its_default() -> None:
    def walk(node: dict[str, Any], shown: Any) -> None:
        if "$ref" in node:
            node = SCHEMA["callpath"]["$defs"][node["$ref"].rsplit("/", 1)[1]]
        if "properties" in node:
            assert node["additionalProperties"] is False
            assert node["properties"].keys() == shown.keys()
            for key, inner in node["properties"].items():
                walk(inner, shown[key])
        elif "default" in node and not isinstance(shown, list):
            assert node["default"] == shown

    walk(SCHEMA["callpath"], Settings().model_dump(mode="json"))


def test_durations_and_sizes_are_described_as_they_are_written() -> None:
    interval = SCHEMA["callpath"]["$defs"]["ScheduleSettings"]["properties"]["interval"]
    assert interval["default"] == "60s"
    assert re.search(interval["pattern"], "1.5h")
    assert not re.search(interval["pattern"], "60")
    size = SCHEMA["callpath"]["$defs"]["LimitSettings"]["properties"]["bytes_per_day"]
    assert re.search(size["pattern"], size["default"])


@pytest.mark.parametrize("kind", sorted(PROBES))
@pytest.mark.parametrize("file", ["messenger", "controls"])
def test_every_probe_is_described_with_its_own_fields(kind: str, file: str) -> None:
    targets = SCHEMA[file]["properties"]["targets"]["items"]
    reference = targets["discriminator"]["mapping"][kind]
    model = SCHEMA[file]["$defs"][reference.rsplit("/", 1)[1]]
    place = {"host": {"host", "port", "address"}, "url": {"url", "address"}, "resolver": set()}
    common = {"name", "probe", "family", "timeout", "proof", "interval", "informative"}
    whose = {"channel"} if file == "messenger" else {"role", "owner", "asn"}
    options = {field.name for field in dataclasses.fields(PROBES[kind])}
    assert set(model["properties"]) == common | whose | place[PROBES[kind].takes] | options
    assert model["additionalProperties"] is False


def test_the_keys_known_at_a_place() -> None:
    assert "listen" in known_keys(Settings, ("web",))
    assert "tls_name" in known_keys(Settings, ("resolvers", "trusted", 3))
    assert "realm" in known_keys(messenger_model(), ("targets", 0, "turn"))
    assert "realm" not in known_keys(messenger_model(), ("targets", 0, "stun"))
