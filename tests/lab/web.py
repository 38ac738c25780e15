"""nginx as every HTTP and TLS server of the catalogue: who listens where, and how to say so."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.lab import greeters
from tests.lab.catalogue import Target, is_literal
from tests.lab.certificates import Authority, Pair

Place = tuple[str, int]  # address and port

OBJECT = 400_000
"""Bytes of what transfers fetch: some seconds' worth for a policer."""
SECURE_SCHEMES = frozenset({"https", "wss"})

_HEAD = """\
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type text/plain;
    server_names_hash_bucket_size 128;
    ssl_session_cache shared:lab:1m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
"""


@dataclass(slots=True)
class Host:
    """One name (or literal address) on one port: where it listens and what it says to whom."""

    name: str
    port: int
    secure: bool
    owner: str
    addresses: set[str] = field(default_factory=set)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)  # by path
    objects: set[str] = field(default_factory=set)  # paths at which something large lies
    doors: set[greeters.Door] = field(default_factory=set)  # its WebSockets


def hosts(targets: Iterable[Target]) -> list[Host]:
    """What the tls and https targets among these need, and those of WebSockets."""
    found: dict[tuple[str, int, bool], Host] = {}
    for target in targets:
        door = greeters.door_of(target)
        if target.probe not in ("tls", "https", "transfer") and door is None:
            continue
        url = urlsplit(target.fields.get("url", ""))
        secure = target.probe == "tls" or door is not None or url.scheme in SECURE_SCHEMES
        name = target.fields.get("server_name") or target.host
        kept = Host(name, target.port, secure, target.owner)
        host = found.setdefault((name, target.port, secure), kept)
        host.addresses.update(target.addresses)
        if door is not None:
            host.doors.add(door)
        elif target.probe == "transfer":
            host.objects.add(url.path or "/")
        elif url.scheme:
            host.answers[url.path or "/"] = _answer(target, secure)
    _refuse_mixtures(found.values())
    return list(found.values())


def _refuse_mixtures(hosts: Iterable[Host]) -> None:
    """nginx would silently speak TLS for both, and the plain target would fail for no reason."""
    ways: dict[Place, bool] = {}
    for host in hosts:
        for address in host.addresses:
            if ways.setdefault((address, host.port), host.secure) is not host.secure:
                raise ValueError(f"{address}:{host.port} is asked both with and without TLS")


def _answer(target: Target, secure: bool) -> tuple[int, str]:
    """What the target's file expects. A Telegram data centre knows no bare HTTP request: 501."""
    fields = target.fields
    statuses = fields.get("expect_status") or []
    default = 501 if is_literal(target.host) and not secure else 200
    return statuses[0] if statuses else default, fields.get("expect_body", "")


def places(hosts: Iterable[Host]) -> set[Place]:
    return {(address, host.port) for host in hosts for address in host.addresses}


def certificates(hosts: Iterable[Host], authority: Authority) -> dict[str, Pair]:
    """One certificate per owner, for all of its names."""
    names: dict[str, set[str]] = {}
    for host in hosts:
        if host.secure:
            names.setdefault(host.owner, set()).add(host.name)
    return {owner: authority.issue(slug(owner), given) for owner, given in names.items()}


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def without(hosts: Iterable[Host], taken: Collection[Place]) -> list[Host]:
    """Those that are left where other programs listen as well."""
    kept = []
    for host in hosts:
        addresses = {a for a in host.addresses if (a, host.port) not in taken}
        if addresses:
            kept.append(replace(host, addresses=addresses))
    return kept


def configuration(
    hosts: Iterable[Host], pairs: Mapping[str, Pair], directory: Path, *, ipv6: bool
) -> str:
    large = directory / "object"
    large.write_bytes(bytes(OBJECT))
    servers = [_server(host, pairs.get(host.owner), large, ipv6=ipv6) for host in hosts]
    return _HEAD.format(directory=directory) + "".join(servers) + "}\n"


def _server(host: Host, pair: Pair | None, large: Path, *, ipv6: bool) -> str:
    lines = [f"server_name {host.name};"] if not is_literal(host.name) else []
    options = " ssl http2" if host.secure else ""
    for address in sorted(host.addresses):
        if ":" not in address:
            lines.append(f"listen {address}:{host.port}{options};")
        elif ipv6:
            lines.append(f"listen [{address}]:{host.port}{options};")
    if host.secure and pair:
        lines += [f"ssl_certificate {pair.chain};", f"ssl_certificate_key {pair.key};"]
    for path, (status, body) in sorted({"/": (200, ""), **host.answers}.items()):
        match = "" if path == "/" else "= "
        if path in host.objects or path in {door.path for door in host.doors}:
            continue
        text = f" {_quoted(body)}" if body else ""  # without one nginx sends its page for errors
        lines.append(f"location {match}{path} {{ return {status}{text}; }}")
    for door in sorted(host.doors, key=lambda it: it.path):
        onward = f"proxy_pass http://unix:{large.parent / door.file}; proxy_http_version 1.1;"
        onward += " proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection Upgrade;"
        lines.append(f"location = {door.path} {{ {onward} proxy_buffering off; }}")
    there = f"root {large.parent}; try_files /{large.name} =404;"
    lines += [f"location = {path} {{ {there} }}" for path in sorted(host.objects)]
    return "    server {\n" + "".join(f"        {line}\n" for line in lines) + "    }\n"


def _quoted(body: str) -> str:
    """A text for nginx's return. A dollar sign would be a variable, and is refused by nginx."""
    return '"' + body.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
