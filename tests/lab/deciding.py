"""Messenger files of one's own, in which kinds of probe decide that in the shipped ones do not.

What a stranger is not known to be answered by is left out of the shipped channels; who has seen it
answered may say so in a file that replaces the shipped one.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from tests.lab.catalogue import shipped


def own_files(directory: Path, kinds: Collection[str]) -> Path:
    """A folder for ``messenger_dirs``. The pinned certificates are no server's of the lab's."""
    folder = directory / "messengers"
    folder.mkdir(exist_ok=True)
    for file in shipped():
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        if document["messenger"] == "control":
            continue
        for target in document["targets"]:
            if target["probe"] in kinds and "fingerprint" not in target:
                target["proof"] = "documented"
                target.pop("informative", None)
        own = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
        (folder / file.name).write_text(own, encoding="utf-8")
    return folder
