"""Servers of the monitoring side, inside the client's namespace beside the agent."""

from __future__ import annotations

import contextlib
import http.client
import tempfile
from abc import ABC, abstractmethod
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.world import LabError, World, program, wait_until


class Beside(ABC):
    """One Debian program with a folder of its own: what an earlier test saw must not answer this
    one's questions. ``with`` starts it and waits until its ``/-/ready`` says so.

    A subclass says its ``name``, where it ``listen``s and, in ``options``, how it is started.
    """

    name: str
    listen: str

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=world.directory))
        self.log = self.directory / "log"

    @abstractmethod
    def options(self) -> list[str]: ...

    def __enter__(self) -> Self:
        command = [program(self.name), *self.options()]
        with self.log.open("wb") as output:
            self._process = self.world.client(command, stdout=output, stderr=output)
        wait_until(self._ready, self.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.world.stop(self._process)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of what it answers."""
        return self.world.call(_get, self.listen, path)

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"{self.name} ended: {self.log.read_text()[-2000:]}")
        return self.get("/-/ready")[0] == HTTPStatus.OK


def _get(listen: str, path: str) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection(listen, timeout=5)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
