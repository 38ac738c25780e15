"""A real browser: Debian's Chromium without a window, told what to do over two pipes.

The protocol is Chromium's own (DevTools), JSON with a NUL behind each message. What it complains
of, a refused style or script as well as an error in one, is kept in ``complaints``.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # as root there is none
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, end in zip((3, 4), ends):
    os.dup2(end, fd)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads its orders from 3 and writes answers to 4."""
LIMIT = 30.0
LARGEST = 64 * 1024 * 1024


class Browser:
    """One page of it. ``complaints``: whatever its console had."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []

    async def open(self) -> None:
        created = await self("Target.createTarget", url="about:blank")
        attached = await self("Target.attachToTarget", targetId=created["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self(f"{domain}.enable")

    async def __call__(self, method: str, **given: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        answer = await asyncio.wait_for(waiting, LIMIT)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    async def listen(self) -> None:
        """Until it is gone."""
        while True:
            try:
                message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
            elif message["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif message["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(message["params"]))
            elif message["method"] == "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(message["params"]["args"]))

    async def go(self, url: str) -> None:
        self._loaded.clear()
        found = await self("Page.navigate", url=url)
        assert "errorText" not in found, found
        await asyncio.wait_for(self._loaded.wait(), LIMIT)

    async def evaluate(self, script: str) -> Any:
        """Its value; a promise's."""
        found = await self(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str) -> None:
        """Looks on, as a person would, until it is true."""
        looking = f"new Promise(done => {{ const look = () => ({script}) ? done(true) :"
        await self.evaluate(f"{looking} requestAnimationFrame(look); look(); }})")

    async def dress(self, width: int, height: int, *, dark: bool = False, scale: int = 1) -> None:
        """As a screen of this size, in CSS pixels."""
        await self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """PNG of what the screen shows."""
        return base64.b64decode((await self("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Browser]:
    """Ended with everything that it started, by its own pid and group."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        (orders, telling), (hearing, answers) = os.pipe(), os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START, str(orders), str(answers)),
            *(program, *OPTIONS, f"--user-data-dir={folder}"),
            pass_fds=(orders, answers),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(orders), os.close(answers)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LARGEST)
        there, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(hearing, "rb")
        )
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(), os.fdopen(telling, "wb")
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        made = Browser(reader, writer)
        listening = asyncio.create_task(made.listen())
        try:
            await made.open()
            yield made
            made._session = ""
            await made("Browser.close")
            await asyncio.wait_for(process.wait(), LIMIT)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            listening.cancel()
            transport.close(), there.close()
