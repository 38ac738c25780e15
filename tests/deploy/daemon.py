"""A dockerd of our own, beside any that the host has, which leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEEDED = ("dockerd", "docker", "unshare")
STORAGE = "overlay2"
"""vfs would do on every file system, but copies every layer: six minutes instead of one."""


class CannotStart(Exception):
    """Why there is no dockerd here."""


@contextmanager
def own_dockerd() -> Iterator[dict[str, str]]:
    """The environment in which ``docker`` talks to it. Raises CannotStart.

    It lives in a mount namespace of its own, so that all it mounts goes when it goes. It makes no
    bridge and no packet filter rules.
    """
    missing = [program for program in NEEDED if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        raise CannotStart(f"dockerd needs root and {', '.join(missing or NEEDED)}")
    # A short path: that of a socket has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="callpath-docker-"))
    try:
        with (folder / "log").open("w") as log:
            process, environment = _start(folder, log.fileno())
        try:
            yield environment
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder)
        for cgroup in Path("/sys/fs/cgroup").glob(f"**/{folder.name}"):
            with suppress(OSError):
                cgroup.rmdir()


def _start(folder: Path, log: int) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    socket = f"unix://{folder}/socket"
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("DOCKER_")}
    # The old builder: it needs no plug-in.
    environment |= {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "0"}
    settings = folder / "daemon.json"
    settings.write_text("{}")  # instead of the host's
    command = ["unshare", "--mount", "dockerd", "--config-file", str(settings)]
    command += ["--host", socket, "--storage-driver", STORAGE]
    command += [f"--{name}={folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    command += ["--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent={folder.name}"]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    if _answers(process, environment):
        return process, environment
    _stop(process)
    raise CannotStart("dockerd does not start: " + (folder / "log").read_text()[-1000:])


def _answers(process: subprocess.Popen[bytes], environment: dict[str, str]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        asked = subprocess.run(["docker", "version"], env=environment, capture_output=True)
        if asked.returncode == 0:
            return True
        time.sleep(0.2)  # between two questions to a daemon that is starting
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()  # its containerd asks to die with it
        process.wait()
