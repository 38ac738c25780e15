"""Published lists against a catalogue: what differs, and a file that follows them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli import app
from agent.lists import Read, difference, refreshed, sentences
from config.loader import load
from config.model import MessengerConfig
from probes.model import Proof
from probes.wire.published import Server
from tests.agent.building import FakeTcp, World, messenger, target

OWNED = ("91.108.4.0/22",)


def catalogue(*places: str, **given: Any) -> MessengerConfig:
    """Targets ``middle-1``, … at these addresses, and one of another kind."""
    probe = FakeTcp(World())
    targets = [
        target(f"middle-{n}", probe=probe, host=host, port=8888) for n, host in enumerate(places, 1)
    ]
    other = target("dc1", probe=probe, host="91.108.4.200", port=443)
    return replace(messenger(*targets, other), owner_prefixes=OWNED, **given)


def read(*addresses: str, prefixes: tuple[str, ...] | None = None) -> Read:
    servers = tuple(Server(4, address, 8888) for address in addresses)
    return Read(prefixes, {"middle-": servers} if servers else {}, ("https://x.test/",), {})


def test_lists_that_say_the_same_differ_in_nothing():
    of, seen = catalogue("91.108.4.1"), read("91.108.4.1", prefixes=OWNED)
    found = difference(of, seen)
    assert not found.changes
    assert sentences(found, seen) == ["m: the lists say what the catalogue says"]


def test_what_is_new_and_what_is_gone():
    of, seen = catalogue("91.108.4.1", "91.108.4.2"), read("91.108.4.2", "91.108.4.3")
    found = difference(of, seen)
    assert [s.address for s in found.new["middle-"]] == ["91.108.4.3"]
    assert found.gone == ("middle-1",)
    assert found.changes
    said = "\n".join(sentences(found, seen))
    assert "asked by no target (middle-…): 91.108.4.3:8888 (centre 4)" in said
    assert "listed no more: middle-1" in said


def test_another_port_is_another_place():
    seen = Read(None, {"middle-": (Server(1, "91.108.4.1", 443),)}, (), {})
    found = difference(catalogue("91.108.4.1"), seen)
    assert [s.port for s in found.new["middle-"]] == [443]
    assert found.gone == ("middle-1",)


def test_a_server_for_two_centres_is_one():
    both = (Server(1, "91.108.4.3", 8888), Server(-1, "91.108.4.3", 8888))
    assert len(difference(catalogue(), Read(None, {"middle-": both}, (), {})).new["middle-"]) == 1


def test_of_a_family_that_no_list_has_nothing_is_gone():
    of = catalogue("91.108.4.1", "2001:db8::1")
    assert difference(of, read("91.108.4.1")).gone == ()


def test_prefixes_that_are_not_listed_stay():
    seen = read(prefixes=("91.108.8.0/22",))
    found = difference(catalogue(), seen)
    assert (found.new_prefixes, found.unlisted_prefixes) == (("91.108.8.0/22",), OWNED)
    assert difference(catalogue(), read()).unlisted_prefixes == ()


def test_what_is_not_the_owners_is_told_and_never_taken():
    of, seen = catalogue("91.108.4.1"), read("91.108.4.1", "8.8.8.8")
    found = difference(of, seen)
    assert found.new["middle-"] == ()
    assert not found.changes
    assert "never taken: 8.8.8.8:8888" in "\n".join(sentences(found, seen))
    listed = read("91.108.4.1", "8.8.8.8", prefixes=(*OWNED, "8.8.8.0/24"))
    assert [s.address for s in difference(of, listed).new["middle-"]] == ["8.8.8.8"]


TCP = {"channel": "media", "probe": "tcp"}
DATA = {
    "messenger": "m",
    "title": "M",
    "sources": [{"url": "https://x.test/", "read": "2026-01-01"}],
    "targets": [
        {
            "name": "middle-1",
            "channel": "media",
            "probe": "tcp",
            "host": "91.108.4.1",
            "port": 8888,
        },
        {
            "name": "middle-4",
            "channel": "media",
            "probe": "tcp",
            "host": "91.108.4.2",
            "port": 8888,
        },
    ],
}


def test_a_file_that_follows_the_lists():
    of = catalogue("91.108.4.1")
    seen = read("91.108.4.2", "91.108.4.3", prefixes=(*OWNED, "91.108.8.0/22"))
    before = json.dumps(DATA)
    made = refreshed(DATA, difference(of, seen), seen, "2026-11-28")
    assert json.dumps(DATA) == before
    assert [t["name"] for t in made["targets"]] == ["middle-4", "middle-4-2", "middle-4-3"]
    assert made["targets"][1] == {
        "name": "middle-4-2",
        "channel": "media",
        "probe": "tcp",
        "host": "91.108.4.2",
        "port": 8888,
        "proof": "unproven",
        "informative": True,
    }
    assert made["owner"]["prefixes"] == ["91.108.8.0/22"]
    assert made["sources"] == [{"url": "https://x.test/", "read": "2026-11-28"}]


# --- from a server to a file, on loopback --------------------------------------------------------

SERVERS = b"default 2;\nproxy_for 1 149.154.175.50:8888;\nproxy_for 9 91.108.56.187:8888;\n"
SERVERS_V6 = b"proxy_for 2 [2001:67c:4e8:f002::d]:8888;\n"
PREFIXES = b"149.154.160.0/20\n91.108.56.0/22\n5.28.192.0/18\n"


class Pages(BaseHTTPRequestHandler):
    def __init__(self, pages: dict[str, bytes], *given: Any) -> None:
        self.pages = pages
        super().__init__(*given)

    def do_GET(self) -> None:
        page = self.pages.get(self.path)
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def pages() -> Iterator[tuple[str, dict[str, bytes]]]:
    content = {"/servers": SERVERS, "/servers6": SERVERS_V6, "/prefixes": PREFIXES}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, content))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", content
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def main(pages: tuple[str, dict[str, bytes]], tmp_path: Path) -> Path:
    """The shipped file of Telegram, with lists on this host; a laboratory's pace."""
    shipped = Path("config/messengers/telegram.yaml").read_text()
    base = "https://core.telegram.org"
    for path, page in (
        ("resources/cidr.txt", "prefixes"),
        ("getProxyConfigV6", "servers6"),
        ("getProxyConfig", "servers"),
    ):
        old = f'{{url: "{base}/{path}", form'
        assert old in shipped
        shipped = shipped.replace(old, f'{{url: "{pages[0]}/{page}", form')
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "telegram.yaml").write_text(shipped)
    file = tmp_path / "callpath.yaml"
    file.write_text(
        "messengers: [telegram]\nmessenger_dirs: [own]\nstate_dir: state\n"
        'limits: {min_interval: 100ms, fast_prefixes: ["0.0.0.0/0", "::/0"]}\n'
        "schedule: {interval: 1s}\n"
    )
    return file


def called(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["calibrate", "--lists", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_without_o_it_only_tells(main, tmp_path):
    before = sorted(f for f in tmp_path.rglob("*") if "state" not in f.parts)
    code, out, _ = called("--config", main)
    assert code == 0
    assert "telegram: listed, and asked by no target (middle-…): 91.108.56.187:8888" in out
    assert "listed no more: middle-2, middle-3, middle-4, middle-4b, middle-203" in out
    assert "prefixes listed and not known: 5.28.192.0/18" in out
    assert "95.161.64.0/20" in out
    assert sorted(f for f in tmp_path.rglob("*") if "state" not in f.parts) == before


def test_with_o_a_messenger_file_follows_them(main, tmp_path):
    file = tmp_path / "new" / "telegram.yaml"
    file.parent.mkdir()
    code, out, _ = called("--config", main, "-o", file, "--json")
    assert code == 0
    (told,) = json.loads(out)["messengers"]
    assert told["new"] == [{"centre": 9, "address": "91.108.56.187", "port": 8888}]
    old = load(main).messengers[0]
    main.write_text(main.read_text().replace("[own]", "[new]"))
    new = load(main).messengers[0]
    before = {t.target.name: t for t in old.targets}
    after = {t.target.name: t for t in new.targets}
    assert before.keys() - after.keys() == set(told["gone"])
    assert after.keys() - before.keys() == {"middle-9"}
    added = after["middle-9"]
    assert (added.proof, added.informative) == (Proof.UNPROVEN, True)
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert "5.28.192.0/18" in new.owner_prefixes
    assert called("--config", main, "-o", file)[1].count("Nothing to write") == 1


@pytest.mark.parametrize("bad", [b"", b"<html>blocked</html>", b"proxy_for 1 10.0.0.1:8888;"])
def test_a_list_that_is_none_is_named_and_takes_nothing_along(main, pages, bad):
    pages[1]["/servers"] = bad
    code, out, _ = called("--config", main)
    assert code == 0
    assert "/servers could not be read" in out
    assert "middle-1" not in out, "of IPv4 nothing was read, so nothing is gone"


def test_no_list_at_all_is_exit_3(main, pages, tmp_path):
    pages[1].clear()
    file = tmp_path / "made.yaml"
    code, out, err = called("--config", main, "-o", file)
    assert (code, out) == (3, "")
    assert "no list could be read" in err
    assert err.count("http_status") == 3
    assert not file.exists()
