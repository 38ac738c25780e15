"""Writes configuration files and reads back what the loader says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import dedent

import pytest

from config.loader import load
from config.model import ConfigError, Problem

TARGET = "{name: a, channel: chat, probe: tcp, host: a.example, port: 443}"


def messenger_text(name: str = "signal", targets: Iterable[str] = (TARGET,), head: str = "") -> str:
    """A messenger file; the first target stands in line 6 when ``head`` is empty."""
    lines = [
        f"messenger: {name}",
        f"title: {name.title()}",
        'sources: [{url: "https://example.org/list", read: 2026-11-20}]',
        head or "quorum: 0.5",
        "targets:",
        *(f"  - {target}" for target in targets),
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def _write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        return file

    return _write


@pytest.fixture
def problems() -> Callable[[Path], list[Problem]]:
    def _problems(file: Path) -> list[Problem]:
        try:
            load(file)
        except ConfigError as exc:
            return list(exc.problems)
        return []

    return _problems


@pytest.fixture
def mistakes(write, problems) -> Callable[[str], list[tuple[int, str, str]]]:
    """Line, key and message of every problem of a callpath.yaml with this text."""

    def _mistakes(text: str) -> list[tuple[int, str, str]]:
        found = problems(write("callpath.yaml", text))
        return [(problem.line, problem.key, problem.message) for problem in found]

    return _mistakes


@pytest.fixture
def target_mistakes(write, problems) -> Callable[..., list[tuple[int, str, str]]]:
    """The same of a messenger file with these targets; the first stands in line 6."""

    def _mistakes(*targets: str, settings: str = "", head: str = "") -> list[tuple[int, str, str]]:
        write("own/signal.yaml", messenger_text(targets=targets, head=head))
        main = write(
            "callpath.yaml", f"messengers: [signal]\nmessenger_dirs: [own]\n{dedent(settings)}"
        )
        found = problems(main)
        assert all(problem.file.endswith("own/signal.yaml") for problem in found)
        return [(problem.line, problem.key, problem.message) for problem in found]

    return _mistakes
