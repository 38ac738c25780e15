"""The commands ``callpath outside``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from config import DEFAULT_LISTEN

BAD, USAGE = 1, 2

outside_app = typer.Typer(no_args_is_help=True, help="What others see from here.")


@outside_app.callback()
def _group() -> None:
    """Keeps ``publish`` a command of its own though it is the only one."""


@outside_app.command("publish")
def publish(
    place: Annotated[Path, typer.Argument(metavar="FILE", help="Or a folder.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="callpath.yaml; without it, the defaults.")
    ] = None,
) -> None:
    """Writes the status of the agent on this host to a file, for others' outside view."""
    from agent.publish import Unpublished
    from agent.publish import publish as put

    listen, tls = DEFAULT_LISTEN, False
    try:
        if config is not None:
            listen, tls = _listening(config)
        typer.echo(put(listen, place, tls=tls))
    except Unpublished as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD) from None


def _listening(config: Path) -> tuple[str, bool]:
    from config.loader import load
    from config.model import ConfigError

    try:
        loaded = load(config)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    return loaded.settings.web.listen, loaded.serves_tls
