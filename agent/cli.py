"""The command line (design 5.1)."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperCommand

from agent import evidencecli, historycli
from agent.cataloguecli import catalogue_app
from agent.publishcli import outside_app
from config import DEFAULT_LISTEN

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from config.model import Config, ConfigError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measures whether a messenger can still carry a call.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
app.add_typer(catalogue_app, name="catalogue")
app.add_typer(outside_app, name="outside")
app.command()(historycli.history)
app.command()(evidencecli.evidence)
app.command()(historycli.purge)

T = TypeVar("T")
OK, BAD, USAGE, BLIND = 0, 1, 2, 3
CONSENT = "consent"

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="callpath.yaml; without it, the defaults.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


CRASHED = 70  # EX_SOFTWARE: a bug of ours is none of the answers above


def main() -> None:
    try:
        app()
    except Exception:
        traceback.print_exc()
        sys.exit(CRASHED)


def _load_here(path: Path | None) -> Config:
    """As ``_load``, and it can be used on this host."""
    from agent.checks import source_problem

    config = _load(path)
    _warn(config)
    if problem := source_problem(config):
        typer.echo(f"source_address: {problem}", err=True)
        raise typer.Exit(USAGE)
    if config.web is not None:
        from agent import webguard

        if problem := webguard.problem(config):
            typer.echo(problem, err=True)
            raise typer.Exit(USAGE)
    return config


def _unless_paused(config: Config, asked: Coroutine[Any, Any, T]) -> T:
    """Exits with 2 where nothing may be sent, or no more."""
    from agent.pausing import Paused, is_paused, marker, unless_paused
    from agent.wiring import state_dir

    folder = state_dir(config)
    if is_paused(folder, otherwise=True) != is_paused(folder):
        typer.echo(f"nobody may look whether {marker(folder)} exists: not paused", err=True)
    try:
        return asyncio.run(unless_paused(folder, asked))
    except Paused as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None


def _warn(config: Config) -> None:
    """Of what is dangerous, or surprises, and works all the same."""
    from agent.checks import catalogue_problem, key_problem

    for problem in filter(None, (key_problem(config), catalogue_problem(config))):
        typer.echo(problem, err=True)


def _refuse(error: ConfigError) -> NoReturn:
    for problem in error.problems:
        typer.echo(str(problem), err=True)
    raise typer.Exit(USAGE) from None


def _load(path: Path | None) -> Config:
    """The configuration, or every problem on stderr and exit 2."""
    # Imported late, here and below: a healthcheck, many a minute, does without half a second of it.
    from config.loader import load
    from config.model import ConfigError

    try:
        config = load(path)
    except ConfigError as error:
        _refuse(error)
    return config


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show versions and exit.")
    ] = False,
) -> None:
    if show_version:
        from agent.wiring import versions

        v = versions(_load(None))
        typer.echo(f"callpath {v['version']}, rules {v['rules']}, catalogue {v['catalogue']}")
        raise typer.Exit(OK)


@app.command()
def run(
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the first run.")] = False,
) -> None:
    """The agent: measures on a schedule and serves /metrics and the page until SIGTERM."""
    from agent import wiring
    from agent.logs import set_up
    from config.loader import load
    from config.model import ConfigError

    loaded = _load_here(config)
    set_up(loaded.settings.log.level, loaded.settings.log.format)
    _ask_once(loaded, yes)
    try:
        asyncio.run(wiring.run(loaded, lambda: load(config)))
    except ConfigError as error:
        _refuse(error)
    except OSError as error:
        typer.echo(f"cannot listen on {loaded.settings.web.listen}: {error.strerror}", err=True)
        raise typer.Exit(USAGE) from None


def _ask_once(config: Config, yes: bool) -> None:
    """On a terminal the first run shows what will be contacted, and asks."""
    from agent import wiring
    from exporters.tables import contacts

    marker = wiring.state_dir(config) / CONSENT
    if yes or marker.exists() or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    contacts(wiring.contact_rows(config))
    typer.echo(
        "\ncallpath will contact these from now on, all day. Anyone watching this line can see it,"
        " and can see that it is done on a schedule. docs/risks.md says more."
    )
    if not typer.confirm("Start?", default=False):
        raise typer.Exit(OK)
    marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.touch(mode=0o600)


@app.command()
def check(
    messengers: Annotated[
        list[str] | None, typer.Argument(help="All selected ones if none.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    patient: Annotated[
        bool, typer.Option("--patient", help="Wait for contrasts that must wait, up to 25 min.")
    ] = False,
) -> None:
    """One round, now: the raw diagnosis of this round plus what was learned before."""
    from agent.check import exit_code, run_check
    from agent.logs import set_up
    from agent.wiring import versions
    from config.model import ConfigError
    from exporters import tables
    from exporters.document import document

    loaded = _load_here(config)
    set_up("error" if loaded.settings.log.level == "info" else loaded.settings.log.level, "text")
    known = [m.name for m in loaded.messengers]
    chosen = tuple(messengers or known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        typer.echo(
            f"not selected in messengers: {', '.join(unknown)}; selected are {', '.join(known)}",
            err=True,
        )
        raise typer.Exit(USAGE)
    started = time.monotonic()
    try:
        report = _unless_paused(loaded, run_check(loaded, chosen, quiet=as_json, patient=patient))
    except ConfigError as error:
        _refuse(error)
    if as_json:
        typer.echo(json.dumps(document(report, versions(loaded), observations=True), indent=1))
        if report.without:
            typer.echo(report.without, err=True)
    else:
        tables.report(report, time.monotonic() - started)
    raise typer.Exit(exit_code(report))


class _WithFields(TyperCommand):
    """Its help names the fields of every probe."""

    def format_help(self, context: Any, formatter: Any) -> None:
        from agent.byhand import fields_of
        from probes.registry import PROBES

        of_each = [(kind, ["--" + f.replace("_", "-") for f in fields_of(kind)]) for kind in PROBES]
        listed = "\n\n".join(f"{kind}: {' '.join(names)}" for kind, names in of_each if names)
        self.epilog = f"Fields, as in the messenger files.\n\n{listed}"
        super().format_help(context, formatter)


@app.command(
    cls=_WithFields,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def probe(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="dns, tcp, tls, https, stun, turn, dtls, quic, reflector, transfer, media, call"
        ),
    ],
    target: Annotated[str, typer.Argument(help="host:port, a URL, or messenger/target")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    rfc_timers: Annotated[
        bool, typer.Option("--rfc-timers", help="stun, turn: retransmit as RFC 8489 says.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="media: show the stream while it plays.")
    ] = False,
) -> None:
    """One probe, every step with its time and facts. Its fields are options: --server-name NAME."""
    from agent.byhand import UsageProblem, parse_options, probe_once
    from exporters import tables
    from exporters.document import observation
    from exporters.live import StreamView

    loaded = _load_here(config)
    try:
        options = parse_options(context.args, kind)
        with StreamView() if watch else nullcontext() as view:
            show = view.show if view is not None else None
            asked = probe_once(loaded, kind, target, options, rfc_timers, show)
            observations = _unless_paused(loaded, asked)
    except UsageProblem as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(
            json.dumps(
                {"version": 1, "observations": [observation(o) for o in observations]}, indent=1
            )
        )
    else:
        tables.observations(observations)
    raise typer.Exit(OK if any(o.works for o in observations) else BAD)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def trace(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="tcp, udp, tls, stun, turn, dtls, quic, dns, mtproto, noise, reflector"
        ),
    ],
    target: Annotated[str, typer.Argument(help="host:port, messenger/target, or a name for dns")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    lasts: Annotated[str, typer.Option("--for", help="No run begins later.")] = "10m",
    asn_file: Annotated[
        Path | None, typer.Option("--asn-file", help="Names the networks: PREFIX ASN NAME.")
    ] = None,
) -> None:
    """Where on the path answers stop. Also --name, --neutral, --control, --server, --address."""
    from agent import tracing
    from agent.byhand import UsageProblem, parse_options
    from config.values import parse_duration
    from exporters import path

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    loaded = _load_here(config)
    try:
        try:
            limit = parse_duration(lasts)
        except ValueError as error:
            raise UsageProblem(f"--for: {error}") from error
        if limit <= 0:
            raise UsageProblem("--for: a trace needs time")
        if asn_file:
            asn_file.open().close()  # rather now than after minutes
        options = parse_options(context.args)
        asked = tracing.trace(loaded, kind, target, options, limit=limit, tell=tell)
        traced = _unless_paused(loaded, asked)
        routers = traced.report.place.routers if traced.report.place else ()
        told = tracing.document(traced, tracing.networks(asn_file, routers))
    except (UsageProblem, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(json.dumps(told, indent=1))
    else:
        path.draw(told)
    raise typer.Exit(OK if told["result"] == "no_interference" else BAD)


@app.command()
def twin(
    listen: Annotated[
        list[str] | None, typer.Option("--listen", help="Address; may be repeated. All if none.")
    ] = None,
    udp_port: Annotated[
        list[int] | None, typer.Option("--udp-port", help="May be repeated; 3478 if none.")
    ] = None,
    tls_port: Annotated[int, typer.Option("--tls-port")] = 443,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="Made if absent; in the state folder if none.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the twin of the configuration, from here.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Your companion server abroad: an echo, STUN and TLS to compare with. Runs until SIGTERM."""
    from agent import twinrun
    from agent.logs import set_up
    from exporters import tables

    loaded = _load_here(config) if check else _load(config)
    set_up(loaded.settings.log.level, loaded.settings.log.format)
    try:
        if check:
            seen, advice = asyncio.run(twinrun.check(loaded))
            tables.observations(seen)
            if advice:
                typer.echo(advice, err=True)
            raise typer.Exit(OK if all(o.works for o in seen) else BAD)
        given = twinrun.Given(tuple(listen or ()), tuple(udp_port or (3478,)), tls_port, key_file)
        asyncio.run(twinrun.serve(loaded, given, typer.echo))
    except twinrun.CannotServe as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None


@app.command()
def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Calibration files, for --merge and --diff.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    lasts: Annotated[
        str, typer.Option("--for", help="How long at most, no longer than 2h.")
    ] = "2h",
    messenger: Annotated[
        list[str] | None,
        typer.Option("--messenger", help="May be repeated; all selected ones if none."),
    ] = None,
    network: Annotated[
        str, typer.Option("--network", help="fixed, mobile or hosting: the kind of this line.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Make one file of several.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="What the second says otherwise.")] = False,
    lists: Annotated[
        bool,
        typer.Option("--lists", help="Hold the owners' published lists against the catalogue."),
    ] = False,
) -> None:
    """On an open network: which targets answer a stranger, in which dress. Writes a file of it."""
    from agent import calibratedoor as door
    from agent.calibrate import Blind
    from config.model import ConfigError

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    try:
        if lists and (merge or diff or files):
            raise door.Misused("--lists takes no files, and goes with neither --merge nor --diff")
        if merge or diff or files:
            told = door.by_file(files or (), merge=merge, diff=diff, output=output)
        elif lists:
            told = door.follow_lists(_load_here(config), messenger or (), output, tell)
        else:
            loaded = _load_here(config)
            given = door.given(loaded, messenger or (), lasts, network, output)
            told = door.run(loaded, given, tell)
    except (door.Misused, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    except ConfigError as error:
        _refuse(error)
    except Blind as error:
        typer.echo(f"nothing was learned: {error}", err=True)
        raise typer.Exit(BLIND) from None
    typer.echo(json.dumps(told.document, indent=1) if as_json else "\n".join(told.lines))


@app.command()
def messengers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What would be contacted: names, addresses, ports, rates, bytes a day, and how sure we are."""
    from agent.wiring import contact_rows
    from exporters import tables

    loaded = _load(config)
    rows = contact_rows(loaded)
    if as_json:
        shown = {"version": 1, "targets": rows, "available": list(loaded.available)}
        typer.echo(json.dumps(shown, indent=1))
    else:
        tables.contacts(rows, loaded.available)


@app.command()
def healthcheck(config: ConfigOption = None) -> None:
    """Exits 0 when the agent on this host is healthy, 1 when it is not. For containers."""
    from agent.health import is_healthy

    if config:
        c = _load(config)
        listen, certified = c.settings.web.listen, c.wants_certificates
        problem = is_healthy(listen, tls=c.serves_tls, certified=certified)
    else:
        problem = is_healthy(DEFAULT_LISTEN)
    if problem:
        typer.echo(problem, err=True)
        raise typer.Exit(BAD)
    typer.echo("healthy")


@config_app.command("check")
def config_check(
    file: Annotated[Path | None, typer.Argument(help="callpath.yaml")] = None,
) -> None:
    """All problems at once, each with file, line and key."""
    loaded = _load(file)
    _warn(loaded)
    targets = sum(len(m.targets) for m in loaded.messengers)
    names = ", ".join(m.name for m in loaded.messengers)
    typer.echo(f"ok: {names}; {targets} targets, {len(loaded.controls)} controls")


@config_app.command("show")
def config_show(file: Annotated[Path | None, typer.Argument(help="callpath.yaml")] = None) -> None:
    """The effective configuration, as YAML."""
    import yaml

    from config.effective import effective

    typer.echo(yaml.safe_dump(effective(_load(file)), sort_keys=False, allow_unicode=True).rstrip())


@config_app.command("schema")
def config_schema() -> None:
    """The JSON schema of callpath.yaml, of messenger files and of controls files."""
    from config.schema import schema

    typer.echo(json.dumps(schema(), indent=1))


if __name__ == "__main__":
    logging.captureWarnings(True)
    main()
