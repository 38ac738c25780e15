"""What the Dockerfile, its configuration and docs/container.md say, held against each other."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from config.loader import load
from tests.deploy.dockerfile import ROOT, instructions

LINES = instructions((ROOT / "Dockerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTAINER = ROOT / "deploy/container"
STATE = "/var/lib/callpath"


def _all(word: str) -> list[str]:
    return [rest for found, rest in LINES if found == word]


def _last_stage(word: str) -> list[str]:
    start = max(i for i, (found, _) in enumerate(LINES) if found == "FROM")
    return [rest for found, rest in LINES[start:] if found == word]


def test_both_stages_stand_on_one_base_that_names_an_exact_version() -> None:
    assert _all("FROM") == ["${BASE} AS build", "${BASE}"]
    assert re.fullmatch(r"BASE=python:3\.1[1-3]\.\d+-slim-[a-z]+", _all("ARG")[0])


def test_it_runs_as_a_number_that_is_not_root_and_writes_to_one_volume() -> None:
    (user,) = _last_stage("USER")
    assert re.fullmatch(r"([1-9]\d*):\1", user)
    assert _last_stage("VOLUME") == [STATE]
    (environment,) = _last_stage("ENV")
    assert f"STATE_DIRECTORY={STATE}" in environment.split()
    number = user.partition(":")[0]
    assert _last_stage("RUN") == [f"install -d -o {number} -g {number} -m 0700 {STATE}"]


def test_nothing_is_fetched_but_packages_and_nothing_depends_on_the_processor() -> None:
    text = (ROOT / "Dockerfile").read_text() + (CONTAINER / "install").read_text()
    assert not _all("ADD")
    for word in ("http:", "https:", "curl", "wget", "apt-get", "amd64", "arm64", "TARGETARCH"):
        assert word not in text, word
    fetching = re.findall(r"^\s*pip .*install (?:[^\n]*\\\n)*.*", text, re.MULTILINE)
    assert len(fetching) == 2
    assert all("--only-binary :all:" in one for one in fetching)
    assert "-c requirements.lock" in fetching[1]
    assert re.search(r" setuptools==[\d.]+$", fetching[0])


def test_its_commands_need_no_shell() -> None:
    assert json.loads(_last_stage("ENTRYPOINT")[0]) == ["callpath"]
    assert json.loads(_last_stage("CMD")[0]) == ["run", "--config", "/etc/callpath/callpath.yaml"]
    (health,) = _last_stage("HEALTHCHECK")
    assert json.loads(health.partition(" CMD ")[2]) == ["callpath", "healthcheck"]
    assert _last_stage("STOPSIGNAL") == ["SIGTERM"]
    assert _last_stage("EXPOSE") == ["22550"]


def test_its_labels_are_the_project_s() -> None:
    (text,) = _last_stage("LABEL")
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', text))
    project = PROJECT["project"]
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "version": project["version"],
        "licenses": project["license"],
        "base.name": "${BASE}",
    }


def test_every_package_and_only_what_is_copied_reaches_the_builder() -> None:
    copied = {
        word.rstrip("/")
        for rest in _all("COPY")
        if not rest.startswith("--from")
        for word in rest.split()[:-1]
    }
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")
    }
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert copied == let_through
    assert packages < copied
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_its_configuration_is_the_default_but_for_the_door() -> None:
    shipped, default = load(CONTAINER / "callpath.yaml").settings, load(None).settings
    assert (shipped.web.listen, shipped.web.insecure) == ("0.0.0.0:22550", True)
    assert shipped.web.hosts == ("callpath",)
    assert shipped.model_copy(update={"web": default.web}) == default


def test_what_is_advised_is_what_was_tried() -> None:
    """Each restriction of the advised ``docker run`` is one that the script runs with."""
    text = (ROOT / "docs/container.md").read_text()
    advised = re.search(r"docker run -d --name callpath (?:[^\n]*\\\n)*.*", text)
    assert advised
    restrictions = set(re.findall(r"--(?!name|restart)[a-z-]+(?: \w[\w-]*)?", advised[0]))
    assert {"--read-only", "--cap-drop ALL", "--security-opt no-new-privileges"} < restrictions
    tried = re.search(r"^restricted\(\).*?^}", (CONTAINER / "try").read_text(), re.M | re.S)
    assert tried
    for restriction in restrictions:
        assert restriction in tried[0], restriction
    assert "-p 127.0.0.1:22550:22550" in advised[0]
    assert f"-v callpath:{STATE}" in advised[0]


def test_no_container_of_the_script_gets_a_network() -> None:
    script = (CONTAINER / "try").read_text()
    runs = re.findall(r"^\s*docker run (?:[^\n]*\\\n)*.*", script, re.MULTILINE)
    assert len(runs) == 3
    assert all("--network none" in run for run in runs)


def test_the_scripts_are_executable() -> None:
    for name in ("install", "make-base", "try"):
        assert Path(CONTAINER, name).stat().st_mode & 0o111
