"""``callpath catalogue`` and its commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

USAGE = 2
catalogue_app = typer.Typer(no_args_is_help=True, help="Which catalogue is in use; sign another.")


@catalogue_app.command("show")
def catalogue_show(
    config: Annotated[Path | None, typer.Option("--config", help="callpath.yaml")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Which catalogue is in use: version, age, whose signature, what is in it."""
    from agent import cataloguedoor
    from config.loader import load

    def shown() -> Sequence[str]:
        told = cataloguedoor.show(load(config))
        return [json.dumps(told.document, indent=1)] if as_json else told.lines

    _told(shown)


@catalogue_app.command("keygen")
def catalogue_keygen(file: Annotated[Path, typer.Argument(help="Where the key goes.")]) -> None:
    """A new key to sign catalogues with; prints the public one, for catalogue.keys."""
    from agent import cataloguedoor

    _told(lambda: cataloguedoor.keygen(file))


@catalogue_app.command("pack")
def catalogue_pack(
    key: Annotated[Path, typer.Option("--key", help="The key's file.")],
    version: Annotated[str, typer.Option("--version", help="YYYY.MM.DD or YYYY.MM.DD.N")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="Has messengers, controls, calibration; the shipped if none."),
    ] = None,
) -> None:
    """Sign a folder of messenger, controls and calibration files, after checking all of them."""
    from agent import cataloguedoor

    _told(lambda: cataloguedoor.pack(folder, key, version, output))


@catalogue_app.command("verify")
def catalogue_verify(
    file: Annotated[Path, typer.Argument(help="A signed catalogue.")],
    key: Annotated[list[str], typer.Option("--key", help="Public keys that may sign.")],
) -> None:
    """Is it signed by one of these keys, and is every file in it right?"""
    from agent import cataloguedoor

    _told(lambda: cataloguedoor.verify(file, key))


def _told(work: Callable[[], Sequence[str]]) -> None:
    """The lines of what was done, or why it was not, and exit 2."""
    from agent.cataloguedoor import FAILURES, reasons

    try:
        typer.echo("\n".join(work()))
    except FAILURES as error:
        for reason in reasons(error):
            typer.echo(reason, err=True)
        raise typer.Exit(USAGE) from None
