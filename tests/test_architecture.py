"""Who may import whom, who may open sockets, and what no module may contain."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "probes", "exporters", "config")
MODULES = sorted(
    file.relative_to(ROOT) for package in PACKAGES for file in (ROOT / package).rglob("*.py")
)
TREES = {module: ast.parse((ROOT / module).read_text()) for module in MODULES}

MAY_IMPORT = {
    "agent": set(PACKAGES),
    "exporters": {"exporters", "probes"},
    "config": {"config", "probes"},
    "probes": {"probes"},
}

DOORS = {
    "apscheduler": {"agent/scheduler.py"},
    "prometheus_client": {"exporters/prometheus.py", "exporters/media.py", "exporters/adhoc.py"},
    "httpx": {"probes/net/http.py"},
    "httpcore": {"probes/net/http.py"},
    "dns": {"probes/wire/dns.py"},
    "scapy": {"probes/trace/rawtracer.py"},
    "starlette": {
        "exporters/web.py",
        "exporters/webhistory.py",
        "exporters/webpage.py",
        "exporters/guard.py",
    },
    "uvicorn": {"exporters/web.py", "exporters/guard.py"},
    "bcrypt": {"exporters/guard.py"},
    "jinja2": {"exporters/webpage.py"},
    "typer": {
        "agent/cli.py",
        "agent/cataloguecli.py",
        "agent/evidencecli.py",
        "agent/historycli.py",
        "agent/publishcli.py",
    },
    "rich": {
        "exporters/tables.py",
        "exporters/historytables.py",
        "exporters/path.py",
        "exporters/live.py",
        "agent/check.py",
    },
    "sqlite3": {"agent/store.py", "exporters/history.py"},
    "yaml": {"config/document.py", "agent/cli.py"},
    "pydantic": {"config"},
    "pydantic_core": {"config"},
    "cryptography": {"probes/wire", "probes/net", "config/signed.py"},
    "certifi": {"probes/net/tls.py", "probes/net/chain.py"},
    "aioquic": {"probes/net/quic.py"},
    "OpenSSL": {"probes/net"},
    "service_identity": {"probes/net/chain.py"},
}
"""The modules, or packages, through which a third party may come in (design 3)."""

SOCKET_DOORS = {
    "probes/net",
    "probes/trace/rawtracer.py",
    "agent/engine.py",
    "agent/enginedoor.py",
    "agent/engineflows.py",
    "agent/network.py",
    "agent/twindoor.py",
    "agent/webdoor.py",
    "exporters/guard.py",
    "exporters/web.py",
}
NO_ARITHMETIC = {
    "asyncio",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib",
    "uuid",
}
"""What a codec has no business with: it gets bytes and gives values."""

NETWORKING = {"socket", "ssl", "ftplib", "smtplib", "socketserver", "telnetlib", "xmlrpc"}
HTTP_CLIENT = {"agent/health.py"}
"""Who may use the standard library's http.client: it asks the agent on this host."""


def imports(module: Path, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Full names of what a module imports, wherever in it, and the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.parts[: -node.level], base]).rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def within(module: Path, places: set[str]) -> bool:
    name = module.as_posix()
    return any(name == place or name.startswith(f"{place}/") for place in places)


def wrong_imports(module: Path, tree: ast.AST) -> list[str]:
    """What this module must not import, and why."""
    found = []
    package = module.parts[0]
    in_wire = within(module, {"probes/wire"})
    for name, line in imports(module, tree):
        top = name.partition(".")[0]
        where = f"{module}:{line} imports {name}"
        if top in PACKAGES and top not in MAY_IMPORT[package]:
            found.append(f"{where}: {package} may not")
        if top == "tests" or top == "bench":
            found.append(f"{where}: neither is installed")
        if top in DOORS and not within(module, DOORS[top]):
            found.append(f"{where}: its door is {sorted(DOORS[top]) or 'nowhere yet'}")
        own_agent = top == "ssl" and within(module, HTTP_CLIENT)
        if top in NETWORKING and not (
            own_agent or within(module, SOCKET_DOORS | {"probes/trail.py"})
        ):
            found.append(f"{where}: sockets are opened in {sorted(SOCKET_DOORS)}")
        if module.as_posix() == "probes/trail.py" and top == "socket":
            found.append(f"{where}: it names errors and opens nothing")
        if name.startswith(("http.client", "urllib.request")) and not within(module, HTTP_CLIENT):
            found.append(f"{where}: http goes through probes/net/http.py")
        if in_wire and top in NO_ARITHMETIC:
            found.append(f"{where}: a codec has no use for it")
        if in_wire and top == "probes" and not name.startswith(("probes.model", "probes.wire")):
            found.append(f"{where}: a codec knows the vocabulary and other codecs only")
        if module.as_posix() == "probes/model.py" and top in PACKAGES:
            found.append(f"{where}: the vocabulary imports nothing of ours")
        if top not in PACKAGES and top not in sys.stdlib_module_names and top not in DOORS:
            found.append(f"{where}: no door is named for it")
    return found


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports(module):
    assert wrong_imports(module, TREES[module]) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("probes/tcp.py", "from agent import plan"),
        ("probes/tcp.py", "import exporters.feed"),
        ("probes/tcp.py", "from config.model import Config"),
        ("probes/tcp.py", "import socket"),
        ("probes/tcp.py", "import ssl as s"),
        ("probes/model.py", "from probes.wire import text"),
        ("probes/wire/stun.py", "import time"),
        ("probes/wire/stun.py", "import os.path"),
        ("probes/wire/stun.py", "from asyncio import sleep"),
        ("probes/wire/stun.py", "from probes.net import udp"),
        ("probes/wire/stun.py", "from ..net import udp"),
        ("probes/wire/stun.py", "from probes import trail"),
        ("probes/wire/stun.py", "def f():\n    import secrets"),
        ("probes/dns.py", "import dns.message"),
        ("probes/net/tls.py", "import httpx"),
        ("config/loader.py", "from agent.core import Core"),
        ("config/loader.py", "from exporters import feed"),
        ("exporters/document.py", "from agent.state import ChannelState"),
        ("exporters/document.py", "from config.model import Config"),
        ("exporters/document.py", "import prometheus_client"),
        ("agent/core.py", "import sqlite3"),
        ("agent/core.py", "from apscheduler.triggers.base import BaseTrigger"),
        ("agent/core.py", "import scapy.all"),
        ("agent/core.py", "import socket"),
        ("agent/core.py", "import rich"),
        ("agent/core.py", "import urllib.request"),
        ("agent/core.py", "import requests"),
        ("agent/core.py", "from tests.agent.building import target"),
    ],
)
def test_a_wrong_import_is_found(module, text):
    assert wrong_imports(Path(module), ast.parse(text))


def test_every_door_is_used():
    """A door that nobody goes through is a rule about nothing."""
    used = {name.partition(".")[0] for m in MODULES for name, _ in imports(m, TREES[m])}
    assert set(DOORS) == set(DOORS) & used
    for places in (*DOORS.values(), SOCKET_DOORS, HTTP_CLIENT):
        for place in places:
            assert (ROOT / place).exists(), place


def test_the_tracer_s_process_is_free_of_our_licence():
    """scapy is under GPL-2.0-only, ours is Apache-2.0: nothing of ours runs in that process."""
    module = Path("probes/trace/rawtracer.py")
    used = {name.partition(".")[0] for name, _ in imports(module, TREES[module])}
    assert used - sys.stdlib_module_names == {"scapy"}
    first = (ROOT / module).read_text().partition("\n")[0]
    assert first == "# SPDX-License-Identifier: Apache-2.0 OR MIT"


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


OPENING = ("create_connection", "create_server", "create_datagram_endpoint", "start_server")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_connections_are_opened_behind_the_doors_only(module):
    if within(module, SOCKET_DOORS):
        return
    for name, line in calls(TREES[module]):
        last = name.rpartition(".")[2]
        assert last not in (*OPENING, "open_connection"), f"{module}:{line}: {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_is_printed_past_the_tables(module):
    assert [line for name, line in calls(TREES[module]) if name == "print"] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_it_is(module):
    text = ast.get_docstring(TREES[module])
    assert text, f"{module} has no docstring"
    assert text[0].isupper() or text[0] in '"`', module


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_longer_than_a_person_reads(module):
    assert len((ROOT / module).read_text().splitlines()) <= 500


MESSENGERS = tuple(file.stem for file in (ROOT / "config" / "messengers").glob("*.yaml"))


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Texts that the program goes by: not docstrings, which may explain."""
    explained = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in explained | bare:
                continue
            lowered = node.value.lower()
            yield from ((name, node.lineno) for name in MESSENGERS if name in lowered)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_messenger_is_a_file_and_no_code(module):
    found = list(names_in(TREES[module]))
    if module.as_posix() == "config/schema.py":  # which messengers run by default
        assert sorted(name for name, _ in found) == ["telegram", "whatsapp"]
    elif module.as_posix() == "exporters/experiments.py":  # OONI's, which are about two of them
        assert {name for name, _ in found} == {"telegram", "whatsapp"}
    else:
        assert found == []


def test_there_are_messengers_to_look_for():
    assert {"whatsapp", "telegram"} <= set(MESSENGERS)
    assert list(names_in(ast.parse('if m == "WhatsApp": pass')))


def test_the_wheel_has_the_four_packages_and_nothing_else():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {m.parent.as_posix().replace("/", ".") for m in MODULES}
    assert set(listed) == folders
