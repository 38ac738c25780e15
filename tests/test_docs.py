"""What exists and is not in docs/, and what is in docs/ and does not exist."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from agent.callflow import CUT_OFF
from agent.case import Differs
from agent.cli import app
from agent.streams import HEARD
from config import schema
from exporters.prometheus import CONTRAST_SKIP_REASONS, SKIP_REASONS, render
from probes.model import Certainty, Failure, Mechanism, Status, Step, VantageStatus
from probes.registry import PROBES
from tests.agent import reach
from tests.exporters.building import NOW, mirror

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TICKED = re.compile(r"`([^`\n]+)`")


def text(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def without_fences(of: str) -> str:
    return re.sub(r"^```.*?^```$", "", of, flags=re.MULTILINE | re.DOTALL)


def ticked(of: str) -> set[str]:
    """Everything in backticks outside of code blocks."""
    return set(TICKED.findall(without_fences(of)))


def sections(of: str, level: int = 2) -> dict[str, str]:
    """Heading to text up to the next heading of that level or above."""
    found: dict[str, str] = {}
    heading = ""
    for line in without_fences(of).splitlines():
        match = re.match(r"(#+) (.*)", line)
        if match and len(match[1]) <= level:
            heading = match[2].strip() if len(match[1]) == level else ""
        elif heading:
            found[heading] = found.get(heading, "") + line + "\n"
        if match and len(match[1]) == level:
            found.setdefault(heading, "")
    return found


def first_cells(of: str) -> set[str]:
    """Words in backticks in the first cell of each table row."""
    found: set[str] = set()
    for line in of.splitlines():
        if line.startswith("|"):
            found.update(TICKED.findall(line.split("|")[1]))
    return found


# --- metrics ---------------------------------------------------------------------------------


def metrics() -> set[str]:
    """Sample names as a scraper sees them, those of histograms without their suffix."""
    page = render(mirror(), "", NOW)[0].decode()
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE):
        assert kind in ("counter", "gauge", "histogram")
        found.add(name)
    return found


def test_metrics():
    assert first_cells(text("metrics")) == metrics()


def probe_metrics() -> set[str]:
    """What /probe answers beside blackbox_exporter's."""
    source = (ROOT / "exporters" / "adhoc.py").read_text()
    found = set(re.findall(r'"(callpath_probe_[a-z_]+)"', source))
    assert found <= ticked(text("probe-endpoint"))
    return found


def test_metrics_elsewhere_in_the_documentation_exist():
    known = metrics() | probe_metrics()
    for file in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for name in re.findall(r"callpath_[a-z0-9_]+", file.read_text()):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in known or base in known, f"{file.name}: {name}"


def test_label_values_of_skipped_checks():
    row = next(line for line in text("metrics").splitlines() if "callpath_checks_skipped" in line)
    assert ticked(row) - {"callpath_checks_skipped_total", "reason"} == set(SKIP_REASONS)


def raised_reasons() -> set[str]:
    """Every literal given to NotMeasured, in the whole program."""
    found = set()
    for package in ("agent", "probes"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func).endswith("NotMeasured")
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    found.add(str(node.args[0].value))
    return found


def test_every_reason_to_leave_a_check_out_is_listed_from_the_start():
    from agent.manners import Limits, Manners
    from probes.net.environment import Traffic

    manners = Manners(Limits(60, 60, 0), Traffic())
    found = {*raised_reasons(), manners.refusal()}
    manners.paused = True
    assert found | {manners.refusal()} == set(SKIP_REASONS)


# --- configuration ---------------------------------------------------------------------------


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


CONFIGURATION = "callpath.yaml"


def test_configuration_keys():
    assert first_cells(sections(text("configuration"))[CONFIGURATION]) == set(keys(schema.Settings))


def test_fields_of_a_trusted_resolver():
    section = sections(text("configuration"))[CONFIGURATION]
    sentence = section.partition("Fields of a trusted resolver:")[2].partition("\n\n")[0]
    words = {word for word in ticked(sentence) if re.fullmatch(r"[a-z_]+", word)}
    assert words == set(schema.TrustedResolver.model_fields)
    ports = set(schema.ResolverPorts.model_fields)
    assert all(f"{port}:" in sentence for port in ports)


def test_fields_of_messenger_and_controls_files():
    of = text("configuration")
    file = sections(of)["A messenger file"]
    head = {*schema.MessengerHead.model_fields, "targets"}
    assert head <= {*ticked(file), *re.findall(r"^(\w+):", of, re.MULTILINE)}
    for name in (*schema.SourceFields.model_fields, *schema.OwnerFields.model_fields):
        assert re.search(rf"\b{name}\b", of), name
    common = first_cells(sections(of, 3)["Fields of every target"])
    places = {name for place in schema._PLACES.values() for name in place}
    own = {field.name for probe in PROBES.values() for field in dataclasses.fields(probe)}
    assert common == {*schema.ChannelFields.model_fields, "probe", *(places - own)}
    only_controls = set(schema.ControlFields.model_fields) - set(schema.TargetFields.model_fields)
    controls = next(body for title, body in sections(of).items() if "controls" in title.lower())
    assert only_controls <= ticked(controls)


def test_every_default_named_in_the_documentation_is_the_default():
    rows = sections(text("configuration"))[CONFIGURATION].splitlines()
    defaults = schema.Settings().model_dump(mode="json")
    for row in rows:
        cells = [cell.strip() for cell in row.split("|")]
        key = TICKED.findall(cells[1]) if len(cells) > 3 else []
        if len(key) != 1 or not (said := TICKED.fullmatch(cells[2])):
            continue
        value: Any = defaults
        for part in key[0].split("."):
            value = value[part]
        shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
        assert said[1] == {"True": "true", "False": "false"}.get(shown, shown), key


# --- probes ----------------------------------------------------------------------------------


def test_probes():
    assert set(sections(text("probes"))) == set(PROBES)


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_fields_of_a_probe(kind):
    fields = {field.name for field in dataclasses.fields(PROBES[kind])}
    assert first_cells(sections(text("probes"))[kind]) == fields


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_defaults_of_a_probe(kind):
    known = {field.name: field for field in dataclasses.fields(PROBES[kind])}
    for row in sections(text("probes"))[kind].splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) < 4 or not TICKED.fullmatch(cells[1]):
            continue
        field = known[cells[1].strip("`")]
        if said := TICKED.fullmatch(cells[2]):
            default = field.default if field.default is not dataclasses.MISSING else []
            shown = "[]" if default in ((), []) else str(default)
            assert said[1] == shown, field.name


# --- failures, steps, statuses, reasons -------------------------------------------------------


def test_failures():
    assert first_cells(text("failures")) == {str(failure) for failure in Failure}


def test_steps():
    assert {str(step) for step in Step} <= ticked(text("failures"))


def channel_section() -> dict[str, str]:
    return sections(text("statuses"))


def table_before_subheadings(of: str) -> str:
    return of.partition("\n###")[0]


def test_channel_statuses():
    assert first_cells(table_before_subheadings(channel_section()["A channel"])) == {
        str(status) for status in Status
    }


def test_vantage_statuses():
    assert first_cells(channel_section()["The vantage"]) == {str(s) for s in VantageStatus}


def reasons() -> set[str]:
    """What diagnosis and presentation can give as a channel's reason, read from their code."""
    found = {CUT_OFF, HEARD}
    for module in ("diagnosis", "present", "verdicts"):
        tree = ast.parse((ROOT / "agent" / f"{module}.py").read_text())
        for node in ast.walk(tree):
            found.update(_reasons(node))
    return found


def _reasons(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Tuple) and len(node.elts) == 3:  # status, reason, sentence
        if ast.unparse(node.elts[0]).startswith("Status."):
            yield from _texts(node.elts[1])
    elif isinstance(node, ast.keyword) and node.arg == "reason":
        yield from _texts(node.value)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "unknown":
        yield from _texts(node.args[0])


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value)
            if isinstance(part, ast.Constant)
            else ast.unparse(part.value).rpartition(".")[2].upper()
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        )
    elif "vantage" in ast.unparse(node):
        yield from ("offline", "portal", "tunnelled", "faulty")


SHOWN = {"STATUS": "STATUS", "SHOWN": "STATUS"}


def test_reasons():
    made = {re.sub(r"\bconfirmed_SHOWN\b", "confirmed_STATUS", reason) for reason in reasons()}
    assert {"ok", "quorum", "settling", "offline", "STEP:FAILURE"} <= made
    documented = first_cells(sections(text("statuses"), 3)["Reasons"])
    assert documented == made


# --- verdicts --------------------------------------------------------------------------------


def test_mechanisms():
    section = sections(text("verdicts"))["Mechanisms"]
    last = {"inconclusive", "none"}
    assert first_cells(section) | last == {str(m) for m in Mechanism}
    assert last <= ticked(section)


def test_what_contrasts_differ_in():
    section = sections(text("verdicts"))["How it is found"]
    assert first_cells(section) == {str(differs) for differs in Differs}


def test_certainties():
    assert first_cells(sections(text("verdicts"))["How sure"]) == {str(c) for c in Certainty}


def test_the_table_of_what_each_rule_reaches():
    """``python -m tests.agent.reach`` prints it anew."""
    assert reach.table() in text("verdicts")


def test_reasons_of_contrasts_that_were_not_asked():
    row = next(line for line in text("metrics").splitlines() if "contrasts_skipped" in line)
    named = ticked(row) - {"callpath_contrasts_skipped_total", "reason"}
    assert named | set(SKIP_REASONS) == set(CONTRAST_SKIP_REASONS)


# --- commands --------------------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    group = typer.main.get_command(app)
    found: dict[str, set[str]] = {"--version": set()}

    def add(prefix: str, of: Any) -> None:
        for name, command in of.commands.items():
            if hasattr(command, "commands"):
                add(f"{prefix}{name} ", command)
                continue
            options = {
                option
                for parameter in command.params
                for option in parameter.opts
                if option.startswith("--")
            }
            found[f"{prefix}{name}"] = options - {"--help"}

    add("", group)
    return found


def documented_commands() -> dict[str, str]:
    prefix = "callpath "
    return {
        heading.removeprefix(prefix): body
        for heading, body in sections(text("commands")).items()
        if heading.startswith(prefix)
    }


def test_commands():
    assert set(documented_commands()) == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_options_of_a_command(name):
    body = documented_commands()[name]
    listed = {word for word in first_cells(body) if word.startswith("--")}
    assert listed == commands()[name]


def test_options_of_every_probe_by_hand_are_explained():
    assert {"--family", "--timeout", "--address"} <= ticked(documented_commands()["probe"])


def test_endpoints():
    import time

    from exporters.mirror import Mirror
    from exporters.web import WebSettings, application

    routes = application(
        Mirror(heard=time.monotonic()), WebSettings("", (), False), None, None
    ).routes  # type: ignore[arg-type]
    paths = {
        ("POST " if "POST" in (route.methods or ()) else "") + route.path  # type: ignore[attr-defined]
        for route in routes
    }
    table = text("commands").partition("# HTTP")[2].partition("\n# ")[0]
    assert first_cells(table) == paths


# --- links -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda file: file.name
)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#\s]+)", without_fences(file.read_text())):
        if "://" not in target and not target.startswith("mailto:"):
            assert (file.parent / target).exists(), target
