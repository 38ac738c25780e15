"""The commands ``callpath history`` and ``callpath purge``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

KEPT, USAGE = 1, 2


def history(
    messengers: Annotated[list[str] | None, typer.Argument(help="All if none.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="callpath.yaml; without it, the defaults.")
    ] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 24h, 7d.")] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One line per outage.")] = False,
    rediagnose: Annotated[
        bool, typer.Option("--rediagnose", help="Run today's rules over what is kept whole.")
    ] = False,
) -> None:
    """Outages: what could not be used, from when to when, and what was done to it."""
    from agent import historydoor
    from agent.wiring import state_dir
    from config.loader import load
    from config.model import ConfigError
    from config.values import parse_duration
    from exporters import historydocument, historytables
    from exporters.history import NoHistory

    try:
        if as_csv and (as_json or rediagnose):
            raise ValueError("--csv goes with neither --json nor --rediagnose")
        seconds = parse_duration(since)
        loaded = load(config)
        folder = state_dir(loaded)
        told = historydoor.look_back(loaded, messengers or (), seconds, rediagnose, folder)
    except (ConfigError, NoHistory, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(json.dumps(told.document, indent=1))
    elif as_csv:
        typer.echo(historydocument.as_csv(told.outages), nl=False)
    else:
        historytables.outages(told.outages, told.unknown, told.since, told.now)
        if told.differing is not None:
            historytables.rediagnosed(told.differing, told.counted.judged, told.counted.left)


def purge(
    config: Annotated[
        Path | None, typer.Option("--config", help="callpath.yaml; without it, the defaults.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget everything: history, what was learned, states, the network's key, the consent."""
    from agent import purging
    from agent.wiring import state_dir
    from config.loader import load
    from config.model import ConfigError

    try:
        folder = state_dir(load(config))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    if not yes and not typer.confirm(f"Forget everything in {folder}?", default=False):
        raise typer.Exit(KEPT)
    try:
        purging.purge(folder)
    except purging.NotPurged as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(KEPT) from None
    typer.echo(f"forgotten: {folder}")
