"""/probe: blackbox_exporter's names and values, and a scrape job that was written for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from agent.adhoc import AdHoc
from agent.checks import environment
from agent.webdoor import WebDoor, listen
from config.loader import load
from exporters import adhoc
from exporters.feed import ProbeAnswer, ReloadAnswer
from exporters.mirror import Mirror
from exporters.web import WebSettings, application
from probes.model import Failure, Observation, Step, StepResult, Target
from tests.exporters.building import HOSTILE, update
from tests.probes.programs import need
from tests.probes.servers import closed_port, say, tcp_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PLACE = Target("probe", "", "x", "https")


def seen(*steps: StepResult, **facts: object) -> Observation:
    return Observation("o", PLACE, 0.0, steps, {"address": "192.0.2.1", "family": "ipv4", **facts})


GOOD = (StepResult(Step.RESOLVE, 0.1), StepResult(Step.CONNECT, 0.2), StepResult(Step.TLS, 0.3))
REFUSED = (StepResult(Step.CONNECT, 0.1, Failure.REFUSED, HOSTILE),)


def values(answer: ProbeAnswer) -> dict[str, float]:
    """Series as they are written to their values."""
    return parsed(adhoc.render(answer, "")[0].decode())


def parsed(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_first_address_that_works_is_shown():
    answer = ProbeAnswer(
        200,
        kind="https",
        observations=(seen(*REFUSED), seen(*GOOD, http_status=204)),
        seconds=0.6,
        limit=9.5,
    )
    found = values(answer)
    assert found["probe_success"] == 1
    assert found["probe_duration_seconds"] == 0.6
    assert found["probe_timeout_seconds"] == 9.5
    assert found["probe_http_status_code"] == 204
    assert found["probe_http_ssl"] == 1
    assert found["probe_http_duration_seconds{phase=tls}"] == 0.3
    assert found["probe_dns_lookup_time_seconds"] == 0.1
    assert found["probe_ip_protocol"] == 4
    assert not any(name.startswith("callpath_probe_failure") for name in found)


def test_a_failure_has_its_step_and_its_word():
    found = values(ProbeAnswer(200, kind="tcp", observations=(seen(*REFUSED),)))
    assert found["probe_success"] == 0
    assert found["callpath_probe_failure{failure=refused,step=connect}"] == 1
    late = values(ProbeAnswer(200, kind="tcp", late=True))
    assert (late["probe_success"], late["callpath_probe_failure{failure=timeout,step=}"]) == (0, 1)


def test_a_status_that_was_not_expected_is_no_success():
    moved = seen(*GOOD, StepResult(Step.EXCHANGE, 0.1, Failure.HTTP_STATUS, "302"), http_status=302)
    assert moved.works, "over a valid chain: as a check of the agent it would count"
    found = values(ProbeAnswer(200, kind="https", observations=(moved,)))
    assert (found["probe_success"], found["probe_http_status_code"]) == (0, 302)


def test_debug_shows_steps_facts_metrics_and_module():
    text = adhoc.debug(
        ProbeAnswer(
            200,
            kind="https",
            observations=(
                seen(
                    *GOOD, StepResult(Step.EXCHANGE, 0.1, Failure.TIMEOUT, "no answer"), realm="r"
                ),
            ),
            module={"probe": "https"},
        )
    )
    for part in (
        "192.0.2.1:",
        "tls",
        "timeout no answer",
        "realm = r",
        "probe_success 0.0",
        "probe: https",
    ):
        assert part in text


# --- the endpoint ----------------------------------------------------------------------------


def client(answers: list[dict[str, object]]) -> httpx.AsyncClient:
    async def probe(said: dict[str, object]) -> ProbeAnswer:
        answers.append(said)
        return ProbeAnswer(200, kind="tcp", observations=(seen(*GOOD),))

    async def reload() -> ReloadAnswer:
        return ReloadAnswer(())

    app = application(Mirror(), WebSettings("127.0.0.1", (), False), reload, probe)
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:22550")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),  # typed into the address bar
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            403,  # a link on somebody's page
        ),
        ({"Origin": "http://evil.test"}, 403),
        ({"Host": "evil.test"}, 421),
        ({"X-Prometheus-Scrape-Timeout-Seconds": "soon"}, 400),
    ],
)
async def test_who_may_ask(headers: Mapping[str, str], status: int):
    asked: list[dict[str, object]] = []
    async with client(asked) as ask:
        assert (await ask.get("/probe?target=a:1", headers=headers)).status_code == status
    assert bool(asked) is (status == 200)


async def test_the_scrapes_timeout_is_passed_on():
    asked: list[dict[str, object]] = []
    async with client(asked) as ask:
        timeout = {"X-Prometheus-Scrape-Timeout-Seconds": "7.5"}
        answer = await ask.get("/probe?target=a:1&module=tcp&hostname=h", headers=timeout)
        plain = await ask.get("/probe?target=a:1&debug=true")
    assert asked[0] == {"module": "tcp", "target": "a:1", "hostname": "h", "timeout": 7.5}
    assert "probe_success 1.0" in answer.text
    assert plain.text.startswith("tcp: ")
    assert plain.headers["content-type"].startswith("text/plain")


# --- beside blackbox_exporter, and under Prometheus ------------------------------------------


@contextlib.asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[str]:
    """The real web process over a real AdHoc, at host:port."""
    file = tmp_path / "callpath.yaml"
    file.write_text("probe_endpoint: {allow: [127.0.0.0/8]}")
    config = load(file)
    door = AdHoc(config, *environment(config))

    async def reload() -> ReloadAnswer:
        return ReloadAnswer(())

    listener = await listen("127.0.0.1", 0)
    settings: dict[str, object] = {
        "listen_host": "127.0.0.1",
        "hosts": [],
        "allow_reload": False,
        "folder": "",
    }
    web = WebDoor(listener, settings, update, reload, door.answer)
    web.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await web.stop()
        await door.stop()
        listener.close()


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncIterator[None]:
    quiet = subprocess.DEVNULL
    running = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        running.terminate()
        await running.wait()


async def get(url: str, wanted: str = "") -> str:
    """The page, once it is there and says ``wanted``."""
    async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as ask:
        while True:
            with contextlib.suppress(httpx.TransportError):
                page = await ask.get(url)
                if page.status_code == 200 and wanted in page.text:
                    return page.text
            await asyncio.sleep(0.1)


async def test_names_and_values_are_those_of_blackbox_exporter(tmp_path: Path):
    blackbox = need("prometheus-blackbox-exporter")
    there = closed_port(socket.SOCK_STREAM)
    modules = {"modules": {"http_2xx": {"prober": "http"}, "tcp_connect": {"prober": "tcp"}}}
    config = tmp_path / "blackbox.yml"
    config.write_text(yaml.safe_dump(modules))
    command = (blackbox, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{there}")
    async with tcp_server(say(OK)) as server, serving(tmp_path) as here, program(*command):
        for module, same in (
            (
                "http_2xx",
                (
                    "probe_success",
                    "probe_http_status_code",
                    "probe_http_ssl",
                    "probe_http_redirects",
                    "probe_ip_protocol",
                    "probe_ip_addr_hash",
                ),
            ),
            ("tcp_connect", ("probe_success", "probe_ip_protocol", "probe_ip_addr_hash")),
        ):
            path = f"/probe?target=127.0.0.1:{server.port}&module={module}"
            theirs = parsed(await get(f"http://127.0.0.1:{there}{path}"))
            ours = parsed(await get(f"http://{here}{path}"))
            assert {n: ours[n] for n in same} == {n: theirs[n] for n in same}
            named = {n for n in ours if n.startswith("probe_")}
            assert named <= set(theirs) | {"probe_timeout_seconds"}


async def test_a_scrape_job_made_for_blackbox_exporter_works(tmp_path: Path):
    prometheus, port = need("prometheus"), closed_port(socket.SOCK_STREAM)
    async with tcp_server(say(OK)) as server, serving(tmp_path) as here:
        target, gone = f"127.0.0.1:{server.port}", "127.0.0.1:9"
        job = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: blackbox
    metrics_path: /probe
    params: {{module: [http_2xx]}}
    static_configs: [{{targets: ["http://{target}/", "http://{gone}/"]}}]
    relabel_configs:
      - {{source_labels: [__address__], target_label: __param_target}}
      - {{source_labels: [__param_target], target_label: instance}}
      - {{target_label: __address__, replacement: "{here}"}}
"""
        file = tmp_path / "prometheus.yml"
        file.write_text(job)
        command = (
            prometheus,
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        api = f"http://127.0.0.1:{port}/api/v1/query?query="
        async with program(*command):
            works = await get(f'{api}probe_success{{instance="http://{target}/"}}', '"1"')
            await get(f'{api}probe_success{{instance="http://{gone}/"}}', '"0"')
            await get(f"{api}count(up==1)", '"2"')
        assert '"job":"blackbox"' in works
