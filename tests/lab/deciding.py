"""Messenger files of one's own, in which kinds of probe decide that in the shipped ones do not.

What a stranger is not known to be answered by is left out of the shipped channels; who has seen it
answered may say so in a file that replaces the shipped one.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from tests.lab.catalogue import SHIPPED


def decide(folder: Path, kinds: Collection[str]) -> None:
    """In a folder for ``messenger_dirs``, what is there already. A pinned certificate is no
    server's of the lab's."""
    for shipped in (SHIPPED / "messengers").glob("*.yaml"):
        own = folder / shipped.name
        document = yaml.safe_load((own if own.exists() else shipped).read_text(encoding="utf-8"))
        found = [t for t in document["targets"] if t["probe"] in kinds and "fingerprint" not in t]
        for target in found:
            target["proof"] = "documented"
            target.pop("informative", None)
        if found:
            text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
            own.write_text(text, encoding="utf-8")
