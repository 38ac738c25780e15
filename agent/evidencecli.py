"""The command ``callpath evidence``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.evidencedoor import Asked

DIFFERS, USAGE = 1, 2


def evidence(
    since: Annotated[
        str | None, typer.Argument(help="From when on: 24h, 7d, 2026-11-24T09:00:00Z.")
    ] = None,
    messengers: Annotated[list[str] | None, typer.Argument(help="All if none.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Until when, as SINCE; now if not given.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.")
    ] = None,
    rediagnose: Annotated[
        Path | None,
        typer.Option("--rediagnose", help="Judge an archive again, from it alone."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --rediagnose: one JSON document on stdout.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="callpath.yaml; without it, the defaults.")
    ] = None,
) -> None:
    """One archive of what was seen, with hashes and an account; written to a file, sent nowhere."""
    from agent import evidencedoor
    from config.model import ConfigError
    from exporters import historytables
    from exporters.archive import Refused
    from exporters.history import NoHistory

    try:
        if rediagnose is None:
            if since is None or as_json:
                raise ValueError("SINCE is needed; --json goes with --rediagnose")
            _write(_asked(since, until, messengers or (), output), config)
            return
        if since is not None or until or output:
            raise ValueError("--rediagnose goes with --json only")
        told = evidencedoor.rediagnose(rediagnose)
    except Refused as error:
        typer.echo(f"{rediagnose} {error}" if rediagnose else str(error), err=True)
        raise typer.Exit(USAGE) from None
    except OSError as error:
        typer.echo(f"{error.filename or output}: {error.strerror}", err=True)
        raise typer.Exit(USAGE) from None
    except (ConfigError, NoHistory, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(json.dumps(told.document, indent=1))
    else:
        historytables.rediagnosed(told.differing, told.judged, told.left)
    raise typer.Exit(DIFFERS if told.differing else 0)


def _write(asked: Asked, config: Path | None) -> None:
    from agent import evidencedoor
    from agent.wiring import state_dir
    from config.loader import load

    loaded = load(config)
    made = evidencedoor.write(loaded, state_dir(loaded), asked)
    typer.echo(
        f"{made.output}: outages {made.outages}, rounds judged again {made.judged};"
        f" SHA-256 {made.sha256}"
    )


def _asked(since: str, until: str | None, messengers: Sequence[str], output: Path | None) -> Asked:
    from agent.evidencedoor import Asked

    now = time.time()
    a = _time(since, "SINCE", now)
    b = min(now, _time(until, "--until", now)) if until else now
    if a >= b:
        raise ValueError("SINCE must be before --until, and in the past")
    if output is None:
        output = Path(f"callpath-evidence-{_stamp(a)}-{_stamp(b)}.zip")
    return Asked(a, b, messengers, output)


def _time(text: str, name: str, now: float) -> float:
    from config.values import parse_duration

    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"{name} must be a duration like 24h, or a time like 2026-11-24T09:00:00Z"
        raise ValueError(message) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%MZ}"
