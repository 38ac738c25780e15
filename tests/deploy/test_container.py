"""The image, built and run for real: by a dockerd of our own, and without one in a plain root.

Nothing that runs here has a way out: containers have no network, and outside of them the agent runs
in a network namespace with nothing but a loopback. Only the builds reach for packages.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.deploy.daemon import CannotStart, own_dockerd
from tests.deploy.dockerfile import ROOT, Image, build

pytestmark = [pytest.mark.container, pytest.mark.slow]

USER = "22550"
NEEDED = ("debootstrap", "unshare", "nsenter", "setpriv", "chroot", "ip", "tar")


def _cannot_run(reason: str) -> NoReturn:
    """Skip, and in CI fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)  # on a machine that is not meant to run it


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian with Python, as a tar archive: made once, since it takes a minute."""
    missing = [program for program in NEEDED if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        _cannot_run(f"needs root and {', '.join(missing or NEEDED)}")
    archive = tmp_path_factory.mktemp("base") / "base.tar"
    made = subprocess.run(
        [ROOT / "deploy/container/make-base", archive], capture_output=True, text=True
    )
    if made.returncode != 0:
        _cannot_run(f"no base image: {made.stderr[-1000:]}")
    return archive


def test_the_image_runs_restricted_and_unrestricted(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        with own_dockerd() as environment:
            subprocess.run(
                ["docker", "import", base, "callpath-base"],
                env=environment,
                check=True,
                capture_output=True,
            )
            # The host's network is for the build, which fetches packages: there is no other.
            tried = subprocess.run(
                [ROOT / "deploy/container/try", "callpath-base", "--network", "host"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=400,
            )
    except CannotStart as reason:
        # No way round in CI: the next test does not skip there, so one of the two has run.
        pytest.skip(f"{reason}; the steps of the Dockerfile run in the next test")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert tried.stdout.endswith("all as it should be\n")
    with capsys.disabled():
        print("\n" + tried.stdout)


# --- without dockerd -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    for parent in folder.parents[:2]:  # pytest's own; the user of the image must get through
        parent.chmod(0o711)
    yield build(base, folder)
    shutil.rmtree(folder)


ENTER = """
ip link set lo up
mount --bind "$1" "$1"
mount --bind "$2" "$1/var/lib/callpath"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
root=$1
shift 2
exec chroot "$root" "$@"
"""


@contextmanager
def _started(image: Image, state: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    alone = ["unshare", "--net", "--mount", "sh", "-euc", ENTER, "sh"]
    unprivileged = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
    unprivileged += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    command = ["env", "--ignore-environment", *image.environment_words, *image.command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*alone, image.root, state, *unprivileged, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while _inside(process, image, "callpath", "healthcheck").returncode != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)  # between two questions to an agent that is starting
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _inside(
    process: subprocess.Popen[bytes], image: Image, *command: str
) -> subprocess.CompletedProcess[str]:
    """As root, so that only what is read-only for everybody refuses to be written."""
    enter = ["nsenter", "--target", str(process.pid), "--net", "--mount", "--root", "--wd=/"]
    return subprocess.run(
        [*enter, "env", "--ignore-environment", *image.environment_words, *command],
        capture_output=True,
        text=True,
        timeout=30,
    )


def _metrics(process: subprocess.Popen[bytes], image: Image) -> str:
    fetch = (
        "import sys, urllib.request as u; sys.stdout.write(u.urlopen(u.Request("
        "'http://127.0.0.1:22550/metrics', headers={'Host': 'callpath:22550'})).read().decode())"
    )
    scraped = _inside(process, image, "python3", "-c", fetch)
    assert scraped.returncode == 0, scraped.stderr
    return scraped.stdout


def _vantage(metrics: str) -> str:
    return next(line for line in metrics.splitlines() if line.startswith("callpath_vantage_info{"))


def _stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(10)  # what docker stop grants


def test_the_steps_of_the_dockerfile_make_an_agent_that_runs_restricted(
    image: Image, tmp_path: Path
) -> None:
    made = image.root / "var/lib/callpath"
    assert (made.stat().st_uid, made.stat().st_gid) == (int(USER), int(USER))
    assert made.stat().st_mode & 0o7777 == 0o700
    assert image.recorded["USER"] == f"{USER}:{USER}"
    state, log = tmp_path / "state", tmp_path / "log"
    state.mkdir(0o700)
    os.chown(state, int(USER), int(USER))

    with _started(image, state, log) as process:
        status = Path(f"/proc/{process.pid}/status").read_text().split("\n")
        assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status
        for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
            assert line in status
        for folder in ("/", "/etc", "/tmp", "/opt/callpath", "/var/lib"):
            refused = _inside(process, image, "touch", f"{folder}/probe")
            assert "Read-only file system" in refused.stderr
        metrics = _metrics(process, image)
        assert "callpath_storage_healthy 1.0" in metrics
        vantage = _vantage(metrics)
        assert _stopped(process) == 0
    assert (state / "callpath.sqlite").stat().st_size > 0
    with _started(image, state, log) as process:
        assert _vantage(_metrics(process, image)) == vantage
        assert _stopped(process) == 0
    assert "Traceback" not in log.read_text()


def test_what_is_installed_is_whole_and_no_more(image: Image) -> None:
    (packages,) = (image.root / "opt/callpath/lib").glob("python3*/site-packages")
    for package in ("agent", "config", "exporters", "probes"):
        for file in (ROOT / package).rglob("*"):
            if file.suffix in (".py", ".yaml", ".html"):
                assert (packages / file.relative_to(ROOT)).read_bytes() == file.read_bytes()
    for unwanted in ("pip", "setuptools", "tests", "bench", "pytest", "mypy", "hypothesis"):
        assert not (packages / unwanted).exists()
    assert not (image.root / "src").exists()
    locked = set((ROOT / "requirements.lock").read_text().lower().replace("-", "_").split())
    for found in packages.glob("*.dist-info"):
        name, version = found.name.removesuffix(".dist-info").split("-")
        assert name == "callpath" or f"{name}=={version}".lower() in locked


def test_nothing_is_compiled_at_a_start(image: Image) -> None:
    """The byte code of all that both processes import lies where this user's Python looks."""
    script = (
        "import os, sys, agent.cli, agent.wiring, agent.health, config.loader, exporters.web\n"
        "specs = [getattr(m, '__spec__', None) for m in sys.modules.values()]\n"
        "print(*(s.name for s in specs if s and s.cached and not os.path.exists(s.cached)))\n"
        "print(sum(bool(s and s.cached) for s in specs))"
    )
    words = ["chroot", image.root, "env", "--ignore-environment", *image.environment_words]
    done = subprocess.run([*words, "python3", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    missing, count = done.stdout.splitlines()
    assert missing.split() == []
    assert int(count) > 400


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_dependency_has_a_wheel(architecture: str, tmp_path: Path) -> None:
    """For both kinds of machine, as the package index tells without a download."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    platforms = [f"manylinux2014_{architecture}", f"manylinux_2_28_{architecture}"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--only-binary", ":all:"]
        + ["--ignore-installed", "--python-version", "3.13", "--target", tmp_path]
        + [word for platform in platforms for word in ("--platform", platform)]
        + ["--constraint", ROOT / "requirements.lock", *project["dependencies"]],
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
