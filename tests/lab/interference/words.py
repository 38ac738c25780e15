"""Filters that know a messenger's own protocol by its first bytes: scenarios."""

from __future__ import annotations

from typing import Any

from tests.lab.actions import OUT, Action, Drop, InjectReset
from tests.lab.censor import Censor, match
from tests.lab.happenings import CHAT, SLOW, flow, on, one
from tests.lab.presets import preset
from tests.lab.scenario import Rules, Stage, data_centres, says

FIRST_BYTES = {
    # nDPI's rules for both are of this kind.
    "noise": "57410603000024",
    "abridged": "ef0a" + "00" * 8,
    "intermediate": "eeeeeeee28000000",
    "padded": "dddddddd",
}
HIDDEN = 64 + 41
"""Bytes of an obfuscated beginning: nothing else of it is always the same."""


def knows(protocol: str) -> Any:
    """What a filter looks for, in a connection's first segment."""
    said = {"direction": OUT, "protocol": "tcp"}
    if protocol == "obfuscated":
        return match(**said, size=(HIDDEN, HIDDEN))
    return match(**said, payload=((0, FIRST_BYTES[protocol]),))


def filtered(protocol: str, action: Action) -> Censor:
    """The connection is remembered, not the server: another one must pass."""
    found: Censor = flow(knows(protocol), action)
    return found


def everything(stage: Stage) -> Rules:
    """The first bytes everywhere, and half of the data centres by address as well."""
    centres = data_centres(stage)
    return [filtered("abridged", Drop()), *preset("ip_drop", remote=centres[: len(centres) // 2])]


ALL = (
    one(
        "MTProto swallowed",
        "by its first bytes; other transports pass",
        on(lambda s: [filtered("abridged", Drop())]),
        says(CHAT, "degraded", "protocol_signature"),
        goal=SLOW,
    ),
    one(
        "MTProto reset",
        "by its first bytes; other transports pass",
        on(lambda s: [filtered("abridged", InjectReset())]),
        says(CHAT, "degraded", "protocol_signature"),
        goal=SLOW,
    ),
    one(
        "MTProto swallowed in every form",
        "by its first bytes, whatever the transport; TLS passes",
        on(lambda s: [filtered(p, Drop()) for p in FIRST_BYTES if p != "noise"]),
        says(CHAT, "degraded", "protocol_signature"),
        goal=SLOW,
    ),
)
