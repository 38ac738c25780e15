"""TLS, certificates, passwords and the rate of our endpoints, over the real web process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from agent import webguard
from agent.health import is_healthy
from agent.webdoor import WebDoor, listen
from config.loader import load
from config.model import Config, ConfigError
from exporters.feed import ProbeAnswer, ReloadAnswer
from exporters.guard import Guard, Guarded, protocol
from tests.exporters.building import update
from tests.probes.certificates import NAME, Authority
from tests.probes.programs import need
from tests.probes.servers import until

PASSWORD = "correct horse"


def hashed(password: str = PASSWORD) -> str:
    """As htpasswd -B writes it."""
    made = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    return made.replace("$2b$", "$2y$")


def configured(folder: Path, text: str) -> Path:
    (folder / "web.yml").write_text(text)
    main = folder / "callpath.yaml"
    main.write_text("web: {config_file: web.yml}")
    return main


@contextlib.asynccontextmanager
async def serving(main: Path) -> AsyncIterator[tuple[WebDoor, int]]:
    config = load(main)

    async def reload() -> ReloadAnswer:
        return ReloadAnswer(())

    async def probe(_said: object) -> ProbeAnswer:
        return ProbeAnswer(403)

    listener = await listen("127.0.0.1", 0)
    settings: dict[str, object] = {
        "listen_host": "127.0.0.1",
        "hosts": [NAME],
        "allow_reload": False,
        "folder": "",
    }
    door = WebDoor(listener, settings, update, reload, probe, webguard.guard_of(config))
    door.start()
    try:
        yield door, listener.getsockname()[1]
    finally:
        await door.stop()
        listener.close()


def secured(authority: Authority, *, certificate: str = "good") -> str:
    cert = authority.issue(certificate)
    return f"tls_server_config: {{cert_file: {cert.chain}, key_file: {cert.key}"


def trusting(authority: Authority, *client: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.root))
    if client:
        context.load_cert_chain(*client)
    return context


async def get(url: str, path: str = "/-/ready", **more: object) -> httpx.Response:
    verify = more.pop("verify", True)
    async with httpx.AsyncClient(trust_env=False, verify=verify, timeout=20) as ask:  # type: ignore[arg-type] # a context
        return await ask.get(
            f"{url}{path}", headers={"Host": NAME}, extensions={"sni_hostname": NAME}, **more
        )  # type: ignore[arg-type] # auth


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "callpath test authority")


async def test_passwords(tmp_path: Path) -> None:
    main = configured(tmp_path, f"basic_auth_users: {{ann: '{hashed()}'}}")
    async with serving(main) as (_, port):
        url = f"http://127.0.0.1:{port}"
        assert (await get(url, "/metrics", auth=("ann", PASSWORD))).status_code == 200
        assert (await get(url, "/metrics", auth=("ann", PASSWORD))).status_code == 200
        refused = await get(url, "/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
        for wrong in (("ann", "wrong"), ("bob", PASSWORD), ("", ""), ("ann", "x" * 200)):
            assert (await get(url, "/metrics", auth=wrong)).status_code == 401
        for path in ("/", "/api/v1/status", "/probe?target=a:1"):
            assert (await get(url, path)).status_code == 401
        assert (await get(url, "/-/healthy")).status_code == 200, "a health check has no password"
        async with httpx.AsyncClient(trust_env=False, auth=("ann", PASSWORD)) as ask:
            assert (await ask.post(f"{url}/-/reload")).status_code == 200, "who is known may"
            for header in ("Basic", "Basic !!", "Bearer x", "Basic " + "A" * 2000):
                seen = await ask.get(f"{url}/metrics", headers={"Authorization": header}, auth=None)
                assert seen.status_code == 401


async def test_without_passwords_any_more_nobody_may_reload(tmp_path: Path) -> None:
    main = configured(tmp_path, f"basic_auth_users: {{ann: '{hashed()}'}}")
    async with serving(main) as (door, port), httpx.AsyncClient(trust_env=False) as ask:
        url = f"http://127.0.0.1:{port}"
        await get(url)
        configured(tmp_path, "rate_limit: {burst: 7}")
        door.replace_guard(webguard.guard_of(load(main)))
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(httpx.TransportError):  # asked in the very moment
                    if (await get(url, "/metrics")).status_code != 401:
                        break
                await asyncio.sleep(0.1)
        assert (await ask.post(f"{url}/-/reload")).status_code == 403


async def test_nothing_is_left_where_the_end_comes_while_the_process_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    start = WebDoor._start_process

    async def kept(self: WebDoor, pipe: socket.socket) -> asyncio.subprocess.Process:
        started.append(await start(self, pipe))
        return started[-1]

    monkeypatch.setattr(WebDoor, "_start_process", kept)
    main = configured(tmp_path, "rate_limit: {burst: 7}")
    async with serving(main) as (door, port):
        await get(f"http://127.0.0.1:{port}")
        door.replace_guard(Guard())
        await until(lambda: door._writer is None)
    assert [process.returncode is None for process in started] == [False]


async def test_a_wrong_name_is_compared_at_the_cost_of_a_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the time that the answer takes tells which names there are."""
    against: list[bytes] = []
    monkeypatch.setattr(
        "exporters.guard.bcrypt.checkpw", lambda _password, known: bool(against.append(known))
    )
    users = {"ann": hashed()}
    app = Guarded(PlainTextResponse("in"), Guard(users=users))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as ask:
        for name in ("ann", "bob"):
            assert (await ask.get("/metrics", auth=(name, "wrong"))).status_code == 401
    assert against == [users["ann"].encode()] * 2


async def test_tls(tmp_path: Path, authority: Authority) -> None:
    headers = "http_server_config: {headers: {X-Frame-Options: deny}}"
    text = f"{secured(authority)}, min_version: TLS13}}\n{headers}"
    async with serving(configured(tmp_path, text)) as (_, port):
        seen = await get(f"https://127.0.0.1:{port}", "/metrics", verify=trusting(authority))
        assert (seen.status_code, seen.headers["x-frame-options"]) == (200, "deny")
        assert await asyncio.to_thread(is_healthy, f"127.0.0.1:{port}", tls=True) == ""
        assert await asyncio.to_thread(is_healthy, f"127.0.0.1:{port}") != ""
        with pytest.raises(httpx.ConnectError):
            await get(f"https://127.0.0.1:{port}")
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(httpx.ConnectError):
            await get(f"https://127.0.0.1:{port}", verify=old)


async def test_client_certificates(tmp_path: Path, authority: Authority) -> None:
    client, stranger = authority.issue("good"), Authority(tmp_path / "other", "x").issue("good")
    required = "client_auth_type: RequireAndVerifyClientCert"
    tls = f"{secured(authority)}, {required}, client_ca_file: {authority.root}"
    good = trusting(authority, client.chain, client.key)
    for sans, fine in (
        ("", True),
        (f", client_allowed_sans: [{NAME}]", True),
        (", client_allowed_sans: [other.test]", False),
    ):
        async with serving(configured(tmp_path, f"{tls}{sans}}}")) as (_, port):
            url = f"https://127.0.0.1:{port}"
            if fine:
                assert (await get(url, "/metrics", verify=good)).status_code == 200
            else:
                with pytest.raises(httpx.TransportError):
                    await get(url, "/metrics", verify=good)
            for bad in (trusting(authority), trusting(authority, stranger.chain, stranger.key)):
                with pytest.raises(httpx.TransportError):
                    await get(url, "/metrics", verify=bad)
            listening = f"127.0.0.1:{port}"
            assert await asyncio.to_thread(is_healthy, listening, tls=True, certified=True) == ""
            assert await asyncio.to_thread(is_healthy, listening, tls=True) != ""


async def test_requests_have_a_rate(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, "rate_limit: {interval: 1h, burst: 2}")) as (_, port):
        url = f"http://127.0.0.1:{port}"
        seen = [(await get(url, "/metrics")).status_code for _ in range(3)]
        assert seen == [200, 200, 429]
        assert (await get(url, "/-/healthy")).status_code == 200


async def test_a_renewed_certificate_is_served_without_a_restart(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webguard, "POLL", 0.05)
    main = configured(tmp_path, f"{secured(authority)}}}")
    other = Authority(tmp_path / "second", "another")
    config = load(main)
    async with serving(main) as (door, port):
        url = f"https://127.0.0.1:{port}"
        await get(url, verify=trusting(authority))
        watching = asyncio.create_task(
            webguard.watch(config, lambda: load(main), door.replace_guard)
        )
        try:
            (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: nowhere}")
            await asyncio.sleep(0.3)
            await get(url, verify=trusting(authority))  # a wrong file changes nothing
            (tmp_path / "web.yml").write_text(f"{secured(other)}}}")
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        await get(url, verify=trusting(other))
                        break
                    await asyncio.sleep(0.1)
        finally:
            watching.cancel()


async def test_a_certificate_waits_until_callpath_yaml_is_right_again(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webguard, "POLL", 0.01)
    monkeypatch.setattr(webguard, "RETRY", 0.05)
    main = configured(tmp_path, f"{secured(authority)}}}")
    right, config = main.read_text(), load(main)
    tries, taken = 0, asyncio.Event()

    def loading() -> Config:
        nonlocal tries
        tries += 1
        return load(main)

    watching = asyncio.create_task(webguard.watch(config, loading, lambda _guard: taken.set()))
    try:
        await asyncio.sleep(0)  # it has seen what there is
        main.write_text("vantage: [")
        (tmp_path / "web.yml").write_text(f"{secured(Authority(tmp_path / 'b', 'b'))}}}")
        await until(lambda: tries)
        main.write_text(right)
        async with asyncio.timeout(20):
            await taken.wait()
    finally:
        watching.cancel()


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("basic_auth_users: {ann: secret}", "basic_auth_users.ann", "bcrypt"),
        (f"basic_auth_users: {{ann: $2y$10${'9' * 53}}}", "basic_auth_users.ann", "bcrypt"),
        ("tls_server_config: {cert_file: nowhere}", "tls_server_config.cert_file", "No such"),
        ("tls_server_config: {cert: x}", "tls_server_config", "key_file and key"),
        ("tls_server_config: {cert: x, key: y, client_auth_type: RequestClientCert}",
         "tls_server_config.client_auth_type", "VerifyClientCertIfGiven"),
        ("tls_server_config: {cert: x, key: y, client_auth_type: VerifyClientCertIfGiven}",
         "tls_server_config", "client_ca_file"),
        ("tls_server_config: {cert: x, key: y, cipher_suites: [RC4]}",
         "tls_server_config.cipher_suites[0]", "TLS_ECDHE"),
        ("http_server_config: {headers: {Server: x}}", "http_server_config.headers", ""),
        ("rate_limit: {interval: 1}", "rate_limit.interval", "1s"),
        ("users: {}", "users", "not a known key"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_message(tmp_path: Path, text: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(configured(tmp_path, text))
    (found,) = caught.value.problems
    assert found.file.endswith("web.yml")
    assert found.key.startswith(key)
    assert message in found.message


def test_an_address_open_to_others_needs_tls_or_passwords(tmp_path: Path) -> None:
    main = configured(tmp_path, "rate_limit: {interval: 1s}")
    main.write_text("web: {listen: '0.0.0.0:22550', config_file: web.yml}")
    with pytest.raises(ConfigError, match="neither TLS nor passwords"):
        load(main)
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{ann: '{hashed()}'}}")
    load(main)


def test_a_key_of_another_certificate_is_told_before_the_start(
    tmp_path: Path, authority: Authority
) -> None:
    cert, key = authority.issue("good").chain, authority.issue("other").key
    main = configured(tmp_path, f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}")
    assert "tls_server_config" in webguard.problem(load(main))


def test_promtool_takes_what_we_take(tmp_path: Path, authority: Authority) -> None:
    text = (
        f"{secured(authority)}, min_version: TLS12, client_auth_type: VerifyClientCertIfGiven,"
        f" client_ca_file: {authority.root},"
        " cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}\n"
        "http_server_config: {http2: true, headers: {Strict-Transport-Security: max-age=1}}\n"
        f"basic_auth_users: {{ann: '{hashed()}'}}\n"
    )
    load(configured(tmp_path, text))
    command = [need("promtool"), "check", "web-config", str(tmp_path / "web.yml")]
    subprocess.run(command, check=True, capture_output=True)


async def test_headers_that_never_end_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.guard.HEADERS", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    app = Guarded(PlainTextResponse("ok"), Guard())
    config = uvicorn.Config(app, http=protocol(()), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    asked = b"GET /-/ready HTTP/1.1\r\nHost: x\r\n"
    try:
        for before in (b"", asked + b"\r\n"):  # the first request of a connection, and the second
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            if before:
                writer.write(before)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.write(asked)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
    finally:
        server.should_exit = True
        await running
