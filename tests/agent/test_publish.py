"""``callpath outside publish``: what a running agent serves, as a file that a reader takes."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent import publish as module
from agent.cli import app
from agent.outside import MAX_BYTES, read_status
from agent.publish import Unpublished, publish
from exporters.document import document
from tests.exporters.building import AT, RELAY, report

STATUS = json.dumps(
    document(report(), {"version": "1", "rules": "1", "catalogue": "1"}, observations=False)
).encode()


@contextmanager
def _agent(body: bytes = STATUS, code: int = 200) -> Iterator[str]:
    """Where it listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/v1/status"
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_published_is_what_a_reader_takes(tmp_path: Path) -> None:
    file = tmp_path / "telegram.json"
    with _agent() as listen:
        assert publish(listen, file) == file
    seen = read_status(file.read_bytes(), max_age=900.0)
    assert seen.works(RELAY.messenger, RELAY.name, RELAY.probe, AT) is False


def test_a_folder_gets_one_file_that_everybody_may_read(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with _agent() as listen:
            assert publish(listen, tmp_path) == tmp_path / "status.json"
    finally:
        os.umask(before)
    (only,) = tmp_path.iterdir()
    assert only.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"no round has ended yet\n", 503, "answered 503: no round has ended yet"),
        (b"Unauthorized", 401, "answered 401: Unauthorized"),
        (STATUS[:-1], 200, "is not JSON"),
        (b"{}", 200, "is of another version"),
        (STATUS + b" " * MAX_BYTES, 200, "is too large"),
    ],
)
def test_what_no_reader_would_take_replaces_nothing(
    body: bytes, code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "status.json").write_text("before")
    with _agent(body, code) as listen, pytest.raises(Unpublished, match=said):
        publish(listen, tmp_path)
    (only,) = tmp_path.iterdir()
    assert only.read_text() == "before"


def test_nobody_there(tmp_path: Path) -> None:
    with _agent() as listen:
        pass
    with pytest.raises(Unpublished, match=f"no answer from {listen}: "):
        publish(listen, tmp_path)
    assert not list(tmp_path.iterdir())


def test_somebody_else_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail at your service\r\n")

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        with pytest.raises(Unpublished, match=f"no answer from {listen}: not HTTP"):
            publish(listen, tmp_path)
        thread.join()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "status.json").write_text("before")
    monkeypatch.setattr(module.os, "fsync", full)
    with _agent() as listen, pytest.raises(Unpublished, match="No space left"):
        publish(listen, tmp_path)
    (only,) = tmp_path.iterdir()
    assert only.read_text() == "before"


def test_the_command_asks_where_the_configuration_says(tmp_path: Path) -> None:
    config, file = tmp_path / "callpath.yaml", tmp_path / "out.json"
    asked = ["outside", "publish", str(file), "--config", str(config)]
    with _agent() as listen:
        config.write_text(f'web: {{listen: "{listen}"}}\n')
        done = CliRunner().invoke(app, asked)
    assert (done.exit_code, done.stdout) == (0, f"{file}\n")
    assert file.read_bytes() == STATUS
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"no answer from {listen}: ")
    config.write_text("web: {listen: 7}\n")
    assert CliRunner().invoke(app, asked).exit_code == 2
    assert file.read_bytes() == STATUS
