"""What the agent goes by, written out (``callpath config show``)."""

from __future__ import annotations

import dataclasses
from typing import Any

from config.model import Config, TargetConfig
from config.values import format_duration


def effective(config: Config) -> dict[str, Any]:
    """What the agent goes by, as plain values: ``callpath`` could be written back as a file."""
    return {
        "catalogue": config.catalogue,
        "callpath": config.settings.model_dump(mode="json"),
        "messengers": [
            {
                "messenger": messenger.name,
                "title": messenger.title,
                "sources": [
                    {"url": source.url, "read": source.read.isoformat()}
                    for source in messenger.sources
                ],
                "owner": {
                    "asns": list(messenger.owner_asns),
                    "prefixes": list(messenger.owner_prefixes),
                },
                "lists": [dataclasses.asdict(one) for one in messenger.lists],
                "quorum": messenger.quorum,
                "targets": [_shown(target) for target in messenger.targets],
            }
            for messenger in config.messengers
        ],
        "controls": [_shown(target) for target in config.controls],
        "calibration": [
            {
                **dataclasses.asdict(entry),
                "last_answered": entry.last_answered and entry.last_answered.isoformat(),
            }
            for entry in config.calibration
        ],
    }


def _shown(target: TargetConfig) -> dict[str, Any]:
    """The keys of a target as a file would have them, without those that say nothing."""
    place = {"url": target.url} if target.url else {"host": target.host, "port": target.port}
    if target.role is not None:
        role = {"role": str(target.role), "owner": target.owner, "asn": target.asn}
    else:
        role = {"channel": target.target.channel}
    options = {
        field.name: getattr(target.probe, field.name) for field in dataclasses.fields(target.probe)
    }
    shown = {
        "name": target.target.name,
        **role,
        "probe": target.target.probe,
        **(place if target.host else {}),
        "address": list(target.addresses),
        "family": str(target.family),
        "timeout": target.timeout and format_duration(target.timeout),
        "proof": str(target.proof),
        "interval": target.interval and format_duration(target.interval),
        "informative": target.informative,
        **{name: list(v) if isinstance(v, tuple) else v for name, v in options.items()},
    }
    return {
        key: str(value) if isinstance(value, str) else value
        for key, value in shown.items()
        if value not in ("", [], None)
    }
