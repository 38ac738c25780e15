"""The Dockerfile, read; and its steps carried out in plain folders, where there is no dockerd.

It knows what our Dockerfile uses, and refuses everything else rather than skip it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

RECORDED = ("LABEL", "VOLUME", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD")
"""Change nothing in the file system: kept as they are written."""

Instruction = tuple[str, str]
"""The word, in capitals, and the rest of the line."""


def instructions(text: str) -> list[Instruction]:
    """Without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    words = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, rest in words]


@dataclass
class Image:
    """One stage: a folder and what the instructions said."""

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin"}
    )
    folder: str = "/"
    recorded: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        return [*json.loads(self.recorded["ENTRYPOINT"]), *json.loads(self.recorded["CMD"])]

    @property
    def environment_words(self) -> list[str]:
        """For env(1)."""
        return [f"{key}={value}" for key, value in self.environment.items()]


def build(base: Path, folder: Path) -> Image:
    """The last stage of the Dockerfile. ``base`` is a tar archive for every FROM. Needs root."""
    stages: dict[str, Image] = {}
    image = Image(folder)
    for word, rest in instructions((ROOT / "Dockerfile").read_text()):
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            image = stages[name] = Image(folder / name)
            image.root.mkdir()
            subprocess.run(["tar", "-xf", base, "-C", image.root], check=True)
        elif word == "ENV":
            for key, value in _pairs(rest):
                image.environment[key] = value.replace("$PATH", image.environment["PATH"])
        elif word == "WORKDIR":
            image.folder = rest
            _within(image.root, rest).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            _copy(image, stages, rest.split())
        elif word == "RUN":
            _run(image, rest)
        elif word in RECORDED:
            image.recorded[word] = rest
        elif word != "ARG":
            # Not carried out would be not tested: the Dockerfile may use what is known here.
            raise ValueError(f"an instruction that is not known here: {word} {rest}")
    return image


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(word.partition("=")[0], word.partition("=")[2]) for word in shlex.split(text)]


def _within(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _copy(image: Image, stages: dict[str, Image], words: list[str]) -> None:
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    if any(word.startswith("--") for word in words):
        raise ValueError(f"an option of COPY that is not known here: {words}")
    *names, where = words
    target = _within(image.root, where if where[0] == "/" else f"{image.folder}/{where}")
    for name in names:
        one = _within(source, name)
        if one.is_dir():  # Docker copies what is in it
            shutil.copytree(one, target, symlinks=True, dirs_exist_ok=True)
        else:
            into = where.endswith("/")
            (target if into else target.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(one, target / one.name if into else target)


def _run(image: Image, script: str) -> None:
    command = ["chroot", image.root, "env", "--ignore-environment", *image.environment_words]
    done = subprocess.run(
        [*command, "sh", "-c", f"cd {shlex.quote(image.folder)} && {script}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise RuntimeError(f"RUN {script}: exit {done.returncode}\n{done.stdout}{done.stderr}")
